//! Words like 'now' that the servers read as the time: in a write to every shard each would read another one.

use crate::exec::failure::Report;
use crate::route::{Command, Merge, Plan};
use crate::sql::clock::may_be_time;
use crate::sql::tokens::{string_value, tokenize};
use crate::wire::sqlstate::SqlState;

fn writes_everywhere(plan: &Plan) -> bool {
    let writes = matches!(
        plan.command.explained(),
        Command::Insert | Command::Update | Command::Delete | Command::Merge
    );
    writes && *plan.told_merge() == Merge::Everywhere
}

fn refusal() -> Report {
    Report::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        "a literal like 'now' in a write to every shard: each would store another time",
    )
    .hint("Give the time itself.")
}

/// The literals of a statement.
pub fn refuse_clock_words(plan: &Plan, sql: &[u8], strings: bool) -> Result<(), Report> {
    if !writes_everywhere(plan) {
        return Ok(());
    }
    let tokens = tokenize(sql, strings).unwrap_or_default();
    let mut values = tokens
        .iter()
        .filter_map(|token| string_value(sql, token, strings));
    if values.any(|value| may_be_time(&value)) {
        Err(refusal())
    } else {
        Ok(())
    }
}

/// A value of a Bind.
pub fn refuse_clock_value(plan: &Plan, value: &[u8]) -> Result<(), Report> {
    if writes_everywhere(plan) && may_be_time(value) {
        Err(refusal())
    } else {
        Ok(())
    }
}
