//! BEGIN, COMMIT, ROLLBACK, savepoints and transaction modes.

use super::words::Words;
use super::{Command, Isolation, TransactionModes};
use crate::sql::tokens::TokenKind;

/// After the first word. None when it is malformed.
pub(super) fn parse(first: &str, words: &mut Words) -> Option<Command> {
    let command = match first {
        "begin" => {
            take_work(words);
            Command::Begin(modes(words)?)
        }
        "start" => {
            words.expect("transaction")?;
            Command::Begin(modes(words)?)
        }
        "commit" if words.take("prepared") => Command::CommitPrepared(words.string()?),
        "rollback" if words.take("prepared") => Command::RollbackPrepared(words.string()?),
        "commit" | "end" => {
            take_work(words);
            Command::Commit {
                chain: chain(words)?,
            }
        }
        "rollback" | "abort" => rollback(words)?,
        "savepoint" => Command::Savepoint(words.name()?),
        _ => Command::ReleaseSavepoint(savepoint_name(words)?),
    };
    words.expect_end()?;
    Some(command)
}

fn take_work(words: &mut Words) {
    if !words.take("work") {
        words.take("transaction");
    }
}

fn rollback(words: &mut Words) -> Option<Command> {
    take_work(words);
    if words.take("to") {
        return savepoint_name(words).map(Command::RollbackToSavepoint);
    }
    Some(Command::Rollback {
        chain: chain(words)?,
    })
}

/// `[SAVEPOINT] name`; a savepoint may itself be called "savepoint".
fn savepoint_name(words: &mut Words) -> Option<String> {
    if words.rest().len() > 1 {
        words.expect("savepoint")?;
    }
    words.name()
}

/// `[AND [NO] CHAIN]`
fn chain(words: &mut Words) -> Option<bool> {
    if !words.take("and") {
        return Some(false);
    }
    let chain = !words.take("no");
    words.expect("chain")?;
    Some(chain)
}

/// Transaction modes up to the end of the statement, with or without commas; of contradicting ones the last counts.
pub(super) fn modes(words: &mut Words) -> Option<TransactionModes> {
    let mut modes = TransactionModes::default();
    while !words.is_at_end() {
        if words.take_all(&["isolation", "level"]) {
            modes.isolation = Some(isolation(words)?);
        } else if words.take_all(&["read", "only"]) {
            modes.read_only = Some(true);
        } else if words.take_all(&["read", "write"]) {
            modes.read_only = Some(false);
        } else if words.take_all(&["not", "deferrable"]) {
            modes.deferrable = Some(false);
        } else {
            words.expect("deferrable")?;
            modes.deferrable = Some(true);
        }
        words.take_kind(TokenKind::Comma);
    }
    Some(modes)
}

fn isolation(words: &mut Words) -> Option<Isolation> {
    if words.take_all(&["read", "uncommitted"]) {
        Some(Isolation::ReadUncommitted)
    } else if words.take_all(&["read", "committed"]) {
        Some(Isolation::ReadCommitted)
    } else if words.take_all(&["repeatable", "read"]) {
        Some(Isolation::RepeatableRead)
    } else {
        words.expect("serializable")?;
        Some(Isolation::Serializable)
    }
}
