//! The list of who may come from where: the first rule that fits decides.

use crate::config::{AccessRule, ConnectionKind, Verdict};
use std::net::IpAddr;

/// Who is at the door.
#[derive(Clone, Copy, Debug)]
pub struct Visitor<'a> {
    /// None over a Unix socket
    pub address: Option<IpAddr>,
    pub encrypted: bool,
    pub user: &'a str,
    pub database: &'a str,
}

/// The first rule that fits.
#[must_use]
pub fn verdict(rules: &[AccessRule], visitor: &Visitor<'_>) -> Option<Verdict> {
    rules
        .iter()
        .find(|rule| fits(rule, visitor))
        .map(|rule| rule.verdict)
}

fn fits(rule: &AccessRule, visitor: &Visitor<'_>) -> bool {
    let listed = |names: &[String], name: &str| names.is_empty() || names.iter().any(|n| n == name);
    let connected = match (rule.connection, visitor.address) {
        (ConnectionKind::Local, None) | (ConnectionKind::Host, Some(_)) => true,
        (ConnectionKind::HostSsl, Some(_)) => visitor.encrypted,
        (ConnectionKind::HostNoSsl, Some(_)) => !visitor.encrypted,
        _ => false,
    };
    let near = rule.addresses.is_empty()
        || visitor.address.is_some_and(|address| {
            // an IPv4 client of a listener for both kinds
            let address = address.to_canonical();
            rule.addresses.iter().any(|net| net.contains(&address))
        });
    connected
        && near
        && listed(&rule.users, visitor.user)
        && listed(&rule.databases, visitor.database)
}

/// As PostgreSQL names a visitor in its messages.
#[must_use]
pub fn described(visitor: &Visitor<'_>) -> String {
    let host = visitor
        .address
        .map_or_else(|| "[local]".to_owned(), |address| address.to_string());
    let encryption = if visitor.encrypted {
        "SSL encryption"
    } else {
        "no encryption"
    };
    format!(
        "host \"{host}\", user \"{}\", database \"{}\", {encryption}",
        visitor.user, visitor.database
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Method;

    fn rule(connection: ConnectionKind, addresses: &[&str], verdict: Verdict) -> AccessRule {
        AccessRule {
            place: crate::config::Place::default(),
            connection,
            databases: Vec::new(),
            users: Vec::new(),
            addresses: addresses.iter().map(|net| net.parse().unwrap()).collect(),
            verdict,
        }
    }

    fn visitor(address: Option<&str>, encrypted: bool) -> Visitor<'static> {
        Visitor {
            address: address.map(|address| address.parse().unwrap()),
            encrypted,
            user: "app",
            database: "social",
        }
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let scram = Verdict::Ask(Method::ScramSha256);
        let rules = [
            rule(ConnectionKind::HostNoSsl, &["10.0.0.0/8"], Verdict::Reject),
            rule(ConnectionKind::Host, &["10.0.0.0/8", "fd00::/8"], scram),
            rule(ConnectionKind::Local, &[], Verdict::AskAsUser),
        ];
        for (address, encrypted, expected) in [
            (Some("10.1.2.3"), false, Some(Verdict::Reject)),
            (Some("::ffff:10.1.2.3"), false, Some(Verdict::Reject)),
            (Some("10.1.2.3"), true, Some(scram)),
            (Some("fd00::1"), false, Some(scram)),
            (Some("11.0.0.1"), true, None),
            (Some("::1"), true, None),
            (None, false, Some(Verdict::AskAsUser)),
        ] {
            let found = verdict(&rules, &visitor(address, encrypted));
            assert_eq!(found, expected, "{address:?} {encrypted}");
        }
        assert_eq!(verdict(&rules[..2], &visitor(None, false)), None);
        assert_eq!(verdict(&[], &visitor(None, false)), None);
    }

    #[test]
    fn users_and_databases_are_by_name() {
        let mut only = rule(ConnectionKind::Host, &[], Verdict::Reject);
        only.users = vec!["app".into(), "other".into()];
        only.databases = vec!["social".into()];
        let there = visitor(Some("10.1.2.3"), false);
        assert_eq!(verdict(&[only.clone()], &there), Some(Verdict::Reject));
        let user = Visitor {
            user: "App",
            ..there
        };
        let database = Visitor {
            database: "shop",
            ..there
        };
        assert_eq!(verdict(&[only.clone()], &user), None);
        assert_eq!(verdict(&[only], &database), None);
    }

    #[test]
    fn visitors_are_described_as_postgres_does() {
        assert_eq!(
            described(&visitor(None, false)),
            "host \"[local]\", user \"app\", database \"social\", no encryption"
        );
        assert_eq!(
            described(&visitor(Some("::1"), true)),
            "host \"::1\", user \"app\", database \"social\", SSL encryption"
        );
    }
}
