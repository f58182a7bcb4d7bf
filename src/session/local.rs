//! The session's own settings, `pgshunt.*`: consistency level, named session, token, a shard forced by hand.

use super::Session;
use crate::consistency::{Level, Watermarks};
use crate::exec::failure::{Failure, Report};
use crate::exec::freshness::Marks;
use crate::wire::sqlstate::SqlState;
use std::time::Instant;

const KNOWN: &str = "Known are pgshunt.session, pgshunt.token, pgshunt.consistency, pgshunt.shard.";

impl Session {
    pub fn set_local(&mut self, name: &str, value: Option<&str>) -> Result<(), Failure> {
        match name {
            "session" => {
                self.set_session_name(value);
                Ok(())
            }
            "token" => self.set_token(value),
            "consistency" => self.set_level(value),
            "shard" => self.set_shard(value),
            other => Err(unknown(other).into()),
        }
    }

    pub async fn show_local(&mut self, name: &str) -> Result<String, Failure> {
        Ok(match name {
            "session" => match &self.exec.freshness.marks {
                Marks::Named(name, _) => name.clone(),
                Marks::Own(_) => String::new(),
            },
            "token" => self.token().await?,
            "consistency" => level_text(self.exec.freshness.level),
            "shard" => self
                .forced_shard
                .and_then(|s| self.exec.snapshot.database.shards.get(s.index()))
                .map_or_else(String::new, |s| s.name.clone()),
            "version" => env!("CARGO_PKG_VERSION").to_owned(),
            other => return Err(unknown(other).into()),
        })
    }

    /// From now on this session shares its watermark with every other of that name.
    pub fn set_session_name(&mut self, value: Option<&str>) {
        let now = Instant::now();
        let shards = self.exec.snapshot.database.shards.len();
        self.exec.freshness.marks = match value {
            Some(name) if !name.is_empty() => {
                let shared = self.exec.backend.named.open(name, shards, now);
                // what this connection has seen and written counts for the name as well
                let mine = self.exec.freshness.with(|own| own.clone());
                shared.lock().merge(&mine);
                Marks::Named(name.to_owned(), shared)
            }
            _ => Marks::Own(Box::new(Watermarks::unknown(shards, now))),
        };
    }

    async fn token(&mut self) -> Result<String, Failure> {
        let marks = self.exec.freshness.with(|marks| marks.clone());
        self.exec
            .backend
            .topology
            .token(&marks)
            .await
            .map_err(|error| {
                Report::new(
                    SqlState::CANNOT_CONNECT_NOW,
                    format!("no token can be made: {error}"),
                )
                .hint("A token needs the position of every shard's primary.")
                .into()
            })
    }

    fn set_token(&mut self, value: Option<&str>) -> Result<(), Failure> {
        let Some(text) = value.filter(|t| !t.is_empty()) else {
            return Ok(());
        };
        let topology = self.exec.backend.topology.clone();
        let taken = self
            .exec
            .freshness
            .with(|marks| topology.take_token(marks, text));
        taken.map_err(|error| {
            Report::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("invalid value for parameter \"pgshunt.token\": {error}"),
            )
            .hint("Use what SHOW pgshunt.token printed, unchanged.")
            .into()
        })
    }

    fn set_level(&mut self, value: Option<&str>) -> Result<(), Failure> {
        self.exec.freshness.level = match value {
            None => self.exec.snapshot.database.consistency.level,
            Some(text) => parse_level(text)?,
        };
        Ok(())
    }

    fn set_shard(&mut self, value: Option<&str>) -> Result<(), Failure> {
        self.forced_shard = match value.filter(|v| !v.is_empty()) {
            None => None,
            Some(name) => {
                let shards = &self.exec.snapshot.database.shards;
                let Some(n) = shards.iter().position(|s| s.name == name) else {
                    let names: Vec<_> = shards.iter().map(|s| s.name.as_str()).collect();
                    return Err(Report::new(
                        SqlState::INVALID_PARAMETER_VALUE,
                        format!("there is no shard \"{name}\""),
                    )
                    .hint(format!("The shards are {}.", names.join(", ")))
                    .into());
                };
                u16::try_from(n).ok().map(crate::shard::ShardId)
            }
        };
        self.refresh_context();
        Ok(())
    }
}

fn unknown(name: &str) -> Report {
    Report::new(
        SqlState::UNDEFINED_OBJECT,
        format!("unrecognized configuration parameter \"pgshunt.{name}\""),
    )
    .hint(KNOWN)
}

/// `eventual`, `bounded 200`, `session`, `strong`.
pub fn parse_level(text: &str) -> Result<Level, Report> {
    let mut words = text
        .split([' ', ':', '=', '(', ')'])
        .filter(|w| !w.is_empty());
    let level = match (words.next(), words.next()) {
        (Some("eventual"), None) => Some(Level::Eventual),
        (Some("session"), None) => Some(Level::Session),
        (Some("strong"), None) => Some(Level::Strong),
        (Some("bounded"), Some(ms)) => ms.trim_end_matches("ms").parse().ok().map(Level::Bounded),
        _ => None,
    };
    level.ok_or_else(|| {
        Report::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("invalid value for parameter \"pgshunt.consistency\": \"{text}\""),
        )
        .hint("Use eventual, bounded 200 (milliseconds), session or strong.")
    })
}

fn level_text(level: Level) -> String {
    match level {
        Level::Eventual => "eventual".to_owned(),
        Level::Bounded(ms) => format!("bounded {ms}"),
        Level::Session => "session".to_owned(),
        Level::Strong => "strong".to_owned(),
    }
}
