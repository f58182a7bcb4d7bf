//! Who may come from where, as rows: the rules of the shard map in their order, or the one that holds without any.

use super::rows::AccessRow;
use crate::config::{AccessRule, Config, ConnectionKind, Method, Verdict};

/// All rows of SHOW ACCESS.
#[must_use]
pub fn access_rows(config: &Config) -> Vec<AccessRow> {
    match &config.access {
        Some(rules) => rules.iter().map(row).collect(),
        None => vec![AccessRow {
            line: None,
            connection: "all".to_owned(),
            databases: "all".to_owned(),
            users: "all".to_owned(),
            addresses: "all".to_owned(),
            method: method(Verdict::AskAsUser).to_owned(),
        }],
    }
}

fn row(rule: &AccessRule) -> AccessRow {
    let addresses: Vec<String> = rule.addresses.iter().map(ToString::to_string).collect();
    let connection = match rule.connection {
        ConnectionKind::Local => "local",
        ConnectionKind::Host => "host",
        ConnectionKind::HostSsl => "hostssl",
        ConnectionKind::HostNoSsl => "hostnossl",
    };
    AccessRow {
        line: Some(u64::from(rule.place.line)),
        connection: connection.to_owned(),
        databases: listed(&rule.databases),
        users: listed(&rule.users),
        addresses: listed(&addresses),
        method: method(rule.verdict).to_owned(),
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        "all".to_owned()
    } else {
        names.join(", ")
    }
}

fn method(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Reject => "reject",
        Verdict::AskAsUser => "as the user's auth",
        Verdict::Ask(Method::Trust) => "trust",
        Verdict::Ask(Method::ScramSha256) => "scram-sha-256",
        Verdict::Ask(Method::Md5) => "md5",
        Verdict::Ask(Method::Cert) => "cert",
    }
}
