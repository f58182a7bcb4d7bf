//! Who may come from where: rules of the shard map, in their order. A rule that could never let anybody in as it says is a
//! mistake, and so is one that says less than it seems to.

use super::build::{Resolver, asks_databases};
use super::{AccessRule, ConnectionKind, Method, Verdict};
use crate::config::error::Problem;
use crate::config::file::{AccessFile, AccessMethodFile, AccessTypeFile, MapFile};
use crate::config::place::At;
use ipnet::IpNet;
use std::net::IpAddr;

impl Resolver<'_> {
    pub(super) fn access(&mut self, written: &MapFile) -> Option<Vec<AccessRule>> {
        self.certificates_wanted(written);
        let rules = written.access.as_ref()?;
        if rules.value.is_empty() {
            self.problems.add_hinted(
                rules.place,
                "an empty list, which lets nobody in",
                "at least one rule",
                "without `access` everybody listed may come from everywhere",
            );
        }
        let databases: Vec<&str> = names(written.databases.value.iter().map(|d| &d.value.name))
            .chain(std::iter::once(written.admin.database.value.as_str()))
            .collect();
        let users: Vec<&str> = names(written.users.value.iter().map(|u| &u.value.name)).collect();
        let users_elsewhere = asks_databases(written);
        for rule in rules.value.iter().map(|rule| &rule.value) {
            for database in &rule.databases {
                self.listed(database, "database", &databases);
            }
            for user in &rule.users {
                if !users_elsewhere || user.value == "all" {
                    self.listed(user, "user", &users);
                }
            }
        }
        Some(rules.value.iter().map(|rule| self.rule(rule)).collect())
    }

    /// `all` is what leaving out says.
    fn listed(&mut self, name: &At<String>, what: &str, known: &[&str]) {
        let before = self.problems.0.len();
        self.known(name, what, known);
        if name.value == "all" {
            for problem in &mut self.problems.0[before..] {
                problem.hint = Some(format!("left out, `{what}s` means all"));
            }
        }
    }

    fn rule(&mut self, written: &At<AccessFile>) -> AccessRule {
        let rule = &written.value;
        let connection = match rule.connection.value {
            AccessTypeFile::Local => ConnectionKind::Local,
            AccessTypeFile::Host => ConnectionKind::Host,
            AccessTypeFile::HostSsl => ConnectionKind::HostSsl,
            AccessTypeFile::HostNoSsl => ConnectionKind::HostNoSsl,
        };
        let verdict = match rule.method.as_ref().map(|method| method.value) {
            None => Verdict::AskAsUser,
            Some(AccessMethodFile::Reject) => Verdict::Reject,
            Some(AccessMethodFile::Trust) => Verdict::Ask(Method::Trust),
            Some(AccessMethodFile::ScramSha256) => Verdict::Ask(Method::ScramSha256),
            Some(AccessMethodFile::Md5) => Verdict::Ask(Method::Md5),
            Some(AccessMethodFile::Cert) => Verdict::Ask(Method::Cert),
        };
        if let (Verdict::Ask(Method::Cert), Some(method)) = (verdict, &rule.method)
            && connection != ConnectionKind::HostSsl
        {
            self.problems.add(
                method.place,
                "`method: cert` for connections without TLS",
                "it with `type: hostssl`",
            );
        }
        if let (ConnectionKind::Local, Some(address)) = (connection, rule.addresses.first()) {
            self.problems.add(
                address.place,
                "an address for `type: local`",
                "none: a Unix socket has no addresses",
            );
        }
        AccessRule {
            place: written.place,
            connection,
            databases: names(rule.databases.iter()).map(str::to_owned).collect(),
            users: names(rule.users.iter()).map(str::to_owned).collect(),
            addresses: rule
                .addresses
                .iter()
                .filter_map(|a| self.network(a))
                .collect(),
            verdict,
        }
    }

    fn network(&mut self, written: &At<String>) -> Option<IpNet> {
        let text = written.value.as_str();
        let network = match text.parse::<IpNet>() {
            Ok(network) => Some(network),
            Err(_) => text.parse::<IpAddr>().ok().map(IpNet::from),
        };
        let expected = "an IP address, or a network as 10.0.0.0/8 or fd00::/8";
        let Some(network) = network else {
            let found = format!("`{}`", written.value.escape_debug());
            self.problems.add(written.place, found, expected);
            return None;
        };
        // one of the two is a slip of the pen, and nobody can say which
        if network.addr() != network.network() {
            let found = format!("`{text}`, an address within a network");
            let mut problem = Problem::new(written.place, found, expected);
            problem.hint = Some(format!(
                "`{}` is the network, `{}` the address",
                network.trunc(),
                network.addr()
            ));
            self.problems.0.push(problem);
        }
        Some(network.trunc())
    }

    /// Whoever is to show a certificate must be able to.
    fn certificates_wanted(&mut self, written: &MapFile) {
        let mut listeners = written.listen.value.iter();
        let vouched = listeners.any(|listen| {
            let tls = listen.value.tls.as_ref();
            tls.is_some_and(|tls| tls.client_ca.is_some())
        });
        if vouched {
            return;
        }
        let users = written.users.value.iter().map(|user| &user.value);
        let by_user = users
            .filter(|user| user.auth.value == crate::config::file::AuthFile::Cert)
            .map(|user| user.auth.place);
        let rules = written.access.iter().flat_map(|rules| &rules.value);
        let by_rule = rules
            .filter_map(|rule| rule.value.method.as_ref())
            .filter(|method| method.value == AccessMethodFile::Cert)
            .map(|method| method.place);
        for place in by_user.chain(by_rule) {
            self.problems.add(
                place,
                "`cert` where no listener can check certificates of clients",
                "`client_ca` in the `tls` of a listener",
            );
        }
    }
}

fn names<'a>(written: impl Iterator<Item = &'a At<String>>) -> impl Iterator<Item = &'a str> {
    written.map(|name| name.value.as_str())
}
