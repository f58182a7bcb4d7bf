//! What the functions of a statement mean for it: volatility, where they may run, what they leave behind (hazards 3, 15).

use super::PlanContext;
use crate::catalog::Volatility;
use crate::catalog::lingering::REASON;
use crate::config::DeclaredFunction;
use crate::sql::analyze::is_syntax;
use crate::sql::statement::FunctionUse;

/// All functions of one statement together.
#[derive(Debug, Default)]
pub struct Calls {
    /// one that is volatile, or of which we do not know that it is not
    pub volatile: Option<String>,
    /// one that is not immutable
    pub not_immutable: Option<String>,
    /// a clock: another value on every server
    pub clock: Option<String>,
    /// a literal that may be read as the time
    pub names_time: bool,
    /// a user's function that is not declared: what it reads is not seen
    pub opaque: Option<String>,
    /// one that asks for or changes the state of one server
    pub server: Option<String>,
    pub sequence: Option<String>,
    pub declared_home: bool,
    pub declared_key: bool,
    /// what it leaves in the server's session
    pub pins: Option<&'static str>,
    pub user_volatile: bool,
}

const CLOCKS: [&str; 11] = [
    "now",
    "current_timestamp",
    "current_date",
    "current_time",
    "localtime",
    "localtimestamp",
    "transaction_timestamp",
    "statement_timestamp",
    "clock_timestamp",
    "timeofday",
    "age",
];
const SEQUENCES: [&str; 4] = ["nextval", "currval", "setval", "lastval"];
/// Functions of pg_catalog with such names ask one server about itself.
const SERVER_PREFIXES: [&str; 6] = ["pg_", "txid_", "lo_", "inet_", "to_reg", "has_"];
const SERVER_NAMES: [&str; 5] = [
    "obj_description",
    "col_description",
    "shobj_description",
    "format_type",
    "set_config",
];
const ANYWHERE: [&str; 8] = [
    "pg_typeof",
    "pg_sleep",
    "pg_sleep_for",
    "pg_sleep_until",
    "pg_size_pretty",
    "pg_size_bytes",
    "pg_column_size",
    "pg_client_encoding",
];

/// It asks a clock: `age()` does so to have something to subtract from.
pub fn is_clock(function: &FunctionUse) -> bool {
    let name = function.name.as_str();
    CLOCKS.contains(&name) && !(name == "age" && function.arguments == Some(2))
}

pub fn calls(functions: &[FunctionUse], context: &PlanContext<'_>) -> Calls {
    let mut calls = Calls::default();
    for function in functions {
        calls.add(function, context);
    }
    calls
}

/// Beginnings of names: these succeed on a standby, or are refused there although `pg_proc` calls them stable.
const PRIMARY: [&str; 6] = [
    "pg_advisory",
    "pg_try_advisory",
    "pg_notify",
    "txid_current",
    "pg_current_wal",
    "pg_export_snapshot",
];

impl Calls {
    fn add(&mut self, function: &FunctionUse, context: &PlanContext<'_>) {
        let name = function.name.as_str();
        if is_clock(function) {
            set(&mut self.clock, name);
        }
        let keyword = name.starts_with("current_")
            || matches!(
                name,
                "session_user" | "user" | "localtime" | "localtimestamp"
            );
        let lingering = &context.catalog.lingering.functions;
        if !lingering.is_empty() && lingering.contains(&name.to_lowercase()) {
            self.pins = Some(REASON);
        }
        let mut overloads = context
            .catalog
            .functions_called(context.search_path, function.schema.as_deref(), name)
            .peekable();
        if is_syntax(name) || keyword && overloads.peek().is_none() {
            if keyword {
                set(&mut self.not_immutable, name);
            }
            return;
        }
        let (mut known, mut worst, mut foreign) = (false, Volatility::Immutable, false);
        for overload in overloads {
            known = true;
            worst = worst.max(overload.volatility);
            foreign |= !overload.builtin;
        }
        let declared = context.database.functions.get(name).copied();
        match declared {
            Some(DeclaredFunction::Pure) => worst = Volatility::Immutable,
            Some(DeclaredFunction::Home) => self.declared_home = true,
            Some(DeclaredFunction::KeyArgument(_)) => self.declared_key = true,
            None if !known || foreign => set(&mut self.opaque, name),
            None => self.builtin(name),
        }
        if declared.is_none() && !known || worst == Volatility::Volatile {
            set(&mut self.volatile, name);
            self.user_volatile |= !known || foreign;
        }
        if declared.is_none() && !known || worst != Volatility::Immutable {
            set(&mut self.not_immutable, name);
        }
    }

    fn builtin(&mut self, name: &str) {
        if SEQUENCES.contains(&name) {
            set(&mut self.sequence, name);
            set(&mut self.volatile, name);
        } else if !ANYWHERE.contains(&name)
            && (SERVER_NAMES.contains(&name)
                || SERVER_PREFIXES
                    .iter()
                    .any(|prefix| name.starts_with(prefix)))
        {
            set(&mut self.server, name);
        }
        if PRIMARY.iter().any(|prefix| name.starts_with(prefix))
            || name == "pg_current_xact_id"
            || name.starts_with("lo_")
            || name.starts_with("pg_logical")
        {
            set(&mut self.volatile, name);
        }
        let session_lock = (name.starts_with("pg_advisory_lock")
            || name.starts_with("pg_try_advisory_lock"))
            && !name.contains("xact");
        if session_lock {
            self.pins = Some("session advisory lock");
        } else if name == "set_config" {
            self.pins = Some("set_config()");
            set(&mut self.volatile, name);
        }
    }

    /// The reason for which rows of several shards would not be what one Postgres gives.
    pub fn differs_by_shard(&self) -> Option<String> {
        let named = |name: &Option<String>| name.as_ref().map(|name| format!("{name}()"));
        named(&self.clock)
            .or_else(|| named(&self.volatile))
            .or_else(|| named(&self.opaque))
            .or_else(|| named(&self.server))
            .or_else(|| self.names_time.then(|| "a literal like 'now'".to_owned()))
    }
}

fn set(place: &mut Option<String>, name: &str) {
    place.get_or_insert_with(|| name.to_owned());
}
