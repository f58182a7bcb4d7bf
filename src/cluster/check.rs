//! The start-up check: what the servers are and hold against what the shard map says of them. Pure: `inspect` has asked
//! the servers before.

mod servers;
mod tables;

use super::compare::compare;
use super::finding::Report;
use super::inspect::{Member, home_catalog};
use crate::config::Database;

/// Everything that is not as the map says or as it should be, for one database.
#[must_use]
pub fn check(database: &Database, members: &[Member]) -> Report {
    let mut findings = servers::check(database, members);
    if let Some(home) = home_catalog(database, members) {
        findings.extend(tables::check(database, home));
        for member in members
            .iter()
            .filter(|member| member.shard != database.home)
        {
            let other = member
                .state
                .as_ref()
                .ok()
                .and_then(|state| state.catalog.as_ref());
            if let Some(other) = other.filter(|other| !std::ptr::eq(*other, home)) {
                findings.extend(compare(home, other, database, member.shard));
            }
        }
    }
    Report::new(findings)
}
