//! The program's log: structured lines on standard error, as text or as JSON, one level for pgshunt that a reload can
//! change. It does not know what is logged, nor where the lines are kept.

use crate::config;
use std::io;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry, reload};

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("log level \"{0}\" is not one of error, warn, info, debug, trace, off")]
    UnknownLevel(String),
    #[error("the log is already set up: {0}")]
    AlreadySetUp(#[from] TryInitError),
    #[error("the log is gone: {0}")]
    Gone(#[from] reload::Error),
}

/// Changes the level of a running log.
#[derive(Clone, Debug)]
pub struct LogHandle {
    filter: reload::Handle<Targets, Registry>,
}

impl LogHandle {
    pub fn set_level(&self, level: &str) -> Result<(), LogError> {
        Ok(self.filter.reload(targets(level)?)?)
    }
}

/// Sets up the log of this process; once.
pub fn init(settings: &config::Log) -> Result<LogHandle, LogError> {
    let (filter, handle) = reload::Layer::new(targets(&settings.level)?);
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let lines = if settings.json {
        lines.json().flatten_event(true).with_filter(filter).boxed()
    } else {
        lines
            .with_target(false)
            .with_ansi(false)
            .with_filter(filter)
            .boxed()
    };
    tracing_subscriber::registry().with(lines).try_init()?;
    Ok(LogHandle { filter: handle })
}

/// The libraries below us stay at info when pgshunt itself is asked for more: their debug lines would bury ours, and
/// some of them print what passes over the wire.
fn targets(level: &str) -> Result<Targets, LogError> {
    let own = parse_level(level)?;
    Ok(Targets::new()
        .with_default(own.min(LevelFilter::INFO))
        .with_target("pgshunt", own))
}

fn parse_level(level: &str) -> Result<LevelFilter, LogError> {
    match level.to_ascii_lowercase().as_str() {
        "off" => Ok(LevelFilter::OFF),
        "error" => Ok(LevelFilter::ERROR),
        "warn" | "warning" => Ok(LevelFilter::WARN),
        "info" => Ok(LevelFilter::INFO),
        "debug" => Ok(LevelFilter::DEBUG),
        "trace" => Ok(LevelFilter::TRACE),
        _ => Err(LogError::UnknownLevel(level.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn our_level_is_the_one_asked_for_and_libraries_stay_quiet() {
        let debug = targets("DEBUG").unwrap();
        assert!(debug.would_enable("pgshunt::session", &Level::DEBUG));
        assert!(!debug.would_enable("hyper::proto", &Level::DEBUG));
        assert!(debug.would_enable("hyper::proto", &Level::INFO));
        let error = targets("error").unwrap();
        assert!(!error.would_enable("hyper::proto", &Level::WARN));
        assert!(!error.would_enable("pgshunt", &Level::WARN));
    }

    #[test]
    fn an_unknown_level_is_named_in_the_error() {
        let error = targets("loud").unwrap_err().to_string();
        assert!(
            error.contains("\"loud\"") && error.contains("trace"),
            "{error}"
        );
    }
}
