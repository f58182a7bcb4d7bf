//! The way in: who the client is has been settled; here its settings are taken over and it is greeted.

use super::context::{self, Context};
use super::named::NamedStatements;
use super::portals::Portals;
use super::{Gathering, Session};
use crate::auth::client::Login;
use crate::cluster::topology::ServerId;
use crate::consistency::Watermarks;
use crate::exec::backend::{Backend, Greeting};
use crate::exec::cancels::Cancels;
use crate::exec::client::Client;
use crate::exec::executor::{CancelSlot, Executor, Placement};
use crate::exec::failure::{Failure, Report};
use crate::exec::freshness::{Freshness, Marks};
use crate::exec::sequences::Written;
use crate::sql::lift::Lifted;
use crate::stats::{ClientHandle, Recorder};
use crate::vars::Vars;
use crate::wire::build::{self, Severity};
use crate::wire::message::Malformed;
use crate::wire::sqlstate::SqlState;
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// Everything a session is made of.
pub struct Parts {
    pub login: Login,
    pub slot: Arc<ArcSwap<Backend>>,
    pub cancel: Arc<CancelSlot>,
    /// of all clients
    pub cancels: Arc<Cancels>,
    pub recorder: Recorder,
    pub handle: ClientHandle,
    /// pgshunt shuts down
    pub closing: Arc<AtomicBool>,
}

/// Bytes of what follows the parameters: BackendKeyData and ReadyForQuery.
const KEY_AND_READY: usize = 64;

/// What the start-up packet asked for.
#[derive(Debug, Default)]
struct Wishes {
    vars: Vars,
    /// pgshunt.* settings, without the prefix
    own: Vec<(String, String)>,
}

/// Greets the client; its session, or None when it was turned away.
pub async fn begin(parts: Parts) -> Option<Box<Session>> {
    let wishes = match wishes(&parts.login.parameters) {
        Ok(wishes) => wishes,
        Err(report) => return turn_away(parts.login, &report).await,
    };
    let (pid, secret) = (parts.login.pid, parts.login.secret.clone());
    let mut session = assemble(parts, wishes.vars);
    let greeted = session.greet(&wishes.own).await;
    match greeted {
        Ok(()) => {
            build::backend_key_data(&mut session.exec.client.output, pid, &secret);
            session.ready();
            Some(session)
        }
        Err(Failure::Report(report)) => {
            session.exec.client.release();
            build::report(
                &mut session.exec.client.output,
                Severity::Fatal,
                report.code,
                &report.message,
                report.hint.as_deref(),
            );
            let _ = session.exec.client.send().await;
            None
        }
        Err(Failure::Shown) => {
            let _ = session.exec.client.send().await;
            None
        }
        Err(Failure::ClientGone) => None,
    }
}

async fn turn_away(login: Login, report: &Report) -> Option<Box<Session>> {
    refuse(login, report).await;
    None
}

/// The last word to a client that gets no session.
pub async fn refuse(login: Login, report: &Report) {
    let mut client = Client::new(login.stream, login.unread, 0);
    client.output = login.unsent;
    build::report(
        &mut client.output,
        Severity::Fatal,
        report.code,
        &report.message,
        report.hint.as_deref(),
    );
    let _ = client.send().await;
}

fn assemble(parts: Parts, vars: Vars) -> Box<Session> {
    let backend = parts.slot.load_full();
    let snapshot = backend.snapshot();
    let shards = snapshot.database.shards.len();
    let user: Arc<str> = parts.login.user.as_str().into();
    let message_max = backend.config.limits.message_bytes_max;
    let marks = Marks::Own(Box::new(Watermarks::unknown(shards, Instant::now())));
    let freshness = Freshness::new(marks, snapshot.database.consistency.level);
    let start_vars = vars.clone();
    let context = Context::new(&snapshot.catalog, snapshot.version, &user, &vars, None);
    let mut client = Client::new(parts.login.stream, parts.login.unread, message_max);
    client.output = parts.login.unsent;
    client.cancel = Some(parts.cancel.clone());
    let exec = Executor {
        client,
        backend,
        snapshot,
        user,
        held: Vec::with_capacity(1),
        entries: smallvec::SmallVec::new(),
        transaction: None,
        vars,
        freshness,
        cancel: parts.cancel,
        pending_error: None,
        reported: Arc::default(),
        reported_hash: 0,
        observed: None,
        listening: None,
        parsed: 0,
        id: parts.handle.id,
        pid: parts.login.pid,
        written: Written::default(),
        missed: false,
        described: None,
        measured: None,
        bereft: None,
        ended: None,
        clock: Instant::now(),
    };
    Box::new(Session {
        exec,
        slot: parts.slot,
        cancels: parts.cancels,
        context,
        statements: NamedStatements::default(),
        by_sql: None,
        portals: Portals::default(),
        holding: None,
        lifted: Lifted::default(),
        recorder: parts.recorder,
        handle: parts.handle,
        gathering: Gathering::default(),
        closing: parts.closing,
        start_vars,
        forced_shard: None,
        turn: std::cell::Cell::new(parts.login.pid as u16),
        shown_transaction: false,
        shown_held: false,
    })
}

impl Session {
    /// ParameterStatus as a server with these settings reports them, and pgshunt's own settings.
    async fn greet(&mut self, own: &[(String, String)]) -> Result<(), Failure> {
        if let Some(encoding) = self.unsafe_encoding_wanted() {
            return Err(unsafe_encoding(&encoding).into());
        }
        for (name, value) in own {
            self.set_local(name, Some(value))?;
        }
        let key = (self.exec.user.clone(), self.exec.vars.fingerprint());
        let known = self.exec.backend.greetings.lock().get(&key).cloned();
        let greeting = if let Some(greeting) = known {
            greeting
        } else {
            let parameters = Box::pin(self.ask_parameters()).await?;
            let greeting = Arc::new(Greeting::new(parameters));
            let mut greetings = self.exec.backend.greetings.lock();
            greetings.put(key, greeting.clone());
            greeting
        };
        self.expect_reads();
        self.exec.reported_hash = greeting.hash;
        self.exec.reported = greeting.parameters.clone();
        self.exec.observed = None;
        self.tell_of_a_long_name();
        let output = &mut self.exec.client.output;
        output.reserve(greeting.messages.len() + KEY_AND_READY);
        output.extend_from_slice(&greeting.messages);
        Ok(())
    }

    /// PostgreSQL cuts an application's name and says so; servers that are told it later say it to nobody.
    fn tell_of_a_long_name(&mut self) {
        let statement = self.exec.vars.statement("application_name");
        let Some(statement) = statement.filter(|s| s.len() > NAME_BYTES_MAX) else {
            return;
        };
        let values = context::set_values(statement).unwrap_or_default();
        let [name] = &values[..] else { return };
        // where a character of several bytes is cut, only the server knows
        if name.len() > NAME_BYTES_MAX && name.is_ascii() {
            let cut = &name[..NAME_BYTES_MAX];
            build::report(
                &mut self.exec.client.output,
                Severity::Notice,
                SqlState("42622"),
                &format!("identifier \"{name}\" will be truncated to \"{cut}\""),
                None,
            );
        }
    }

    /// A session we do not know begins at "the first sample from now": where reads of others have lately waited for one, it
    /// is asked for at once.
    fn expect_reads(&self) {
        let count = u16::try_from(self.exec.snapshot.database.shards.len()).unwrap_or(u16::MAX);
        for shard in (0..count).map(crate::shard::ShardId) {
            let topology = &self.exec.backend.topology;
            topology.expect_reads(shard, self.exec.clock);
        }
    }

    fn unsafe_encoding_wanted(&self) -> Option<String> {
        if self.exec.snapshot.database.shards.len() < 2 {
            return None;
        }
        let statement = self.exec.vars.statement("client_encoding")?;
        context::set_values(statement)?
            .into_iter()
            .find(|v| context::is_unsafe_encoding(v))
    }

    /// Any server that can be had knows the parameters; the home shard's primary is asked first.
    async fn ask_parameters(&mut self) -> Result<Vec<(String, String)>, Failure> {
        let home = self.exec.snapshot.database.home;
        let count = u16::try_from(self.exec.snapshot.database.shards.len()).unwrap_or(1);
        let others = (0..count).map(crate::shard::ShardId).filter(|s| *s != home);
        let mut failure = None;
        for shard in std::iter::once(home).chain(others) {
            match self.exec.acquire(shard, Placement::Primary).await {
                Ok(index) => {
                    let parameters = self.exec.held[index].server.parameters.clone();
                    self.exec.let_idle_servers_go().await;
                    return Ok(parameters);
                }
                Err(Failure::Report(report)) => {
                    failure.get_or_insert(Failure::Report(report));
                }
                Err(other) => return Err(other),
            }
        }
        Err(failure.unwrap_or(Failure::ClientGone))
    }
}

/// PostgreSQL's NAMEDATALEN without its final zero.
const NAME_BYTES_MAX: usize = 63;

/// Names in the start-up packet that are not settings.
const NOT_SETTINGS: [&str; 4] = ["user", "database", "options", "replication"];

fn wishes(parameters: &BTreeMap<String, String>) -> Result<Wishes, Report> {
    if let Some(mode) = parameters
        .get("replication")
        .filter(|m| !matches!(m.as_str(), "false" | "off" | "no" | "0"))
    {
        return Err(Report::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!("replication connections (replication={mode}) are not supported"),
        )
        .hint("Connect to the server itself."));
    }
    let mut wishes = Wishes::default();
    if let Some(options) = parameters.get("options") {
        for (name, value) in parse_options(options)? {
            wishes.take(&name, &value);
        }
    }
    for (name, value) in parameters {
        if !NOT_SETTINGS.contains(&name.as_str()) && !name.starts_with("_pq_.") {
            wishes.take(name, value);
        }
    }
    Ok(wishes)
}

impl Wishes {
    fn take(&mut self, name: &str, value: &str) {
        let name = name.to_ascii_lowercase();
        if let Some(own) = name.strip_prefix("pgshunt.") {
            self.own.push((own.to_owned(), value.to_owned()));
        } else {
            let statement = set_statement(&name, value);
            self.vars.set(&name, &statement);
        }
    }
}

/// `-c name=value` and `--name=value`, with backslash escapes, as the server's own command line has them.
fn parse_options(options: &str) -> Result<Vec<(String, String)>, Report> {
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = options.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => word.get_or_insert_with(String::new).extend(chars.next()),
            c if c.is_ascii_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_with(String::new).push(c),
        }
    }
    words.extend(word);
    let mut settings = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let pair = match word.as_str() {
            "-c" => words.next().unwrap_or_default(),
            other if other.starts_with("--") => other[2..].to_owned(),
            other if other.starts_with("-c") => other[2..].to_owned(),
            _ => String::new(),
        };
        let Some((name, value)) = pair.split_once('=') else {
            return Err(Report::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("invalid command-line argument for server process: {word}"),
            )
            .hint("options takes -c name=value and --name=value."));
        };
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

/// The statement that sets what a start-up packet asked for.
pub fn set_statement(name: &str, value: &str) -> String {
    let mut sql = String::with_capacity(name.len() + value.len() + 16);
    sql.push_str("SET ");
    for (n, part) in name.split('.').enumerate() {
        if n > 0 {
            sql.push('.');
        }
        sql.push_str(&crate::sql::name::quote_ident(part));
    }
    sql.push_str(" TO ");
    if name == "search_path" || name.ends_with("_tablespaces") || name.ends_with("_libraries") {
        let items: Vec<String> = split_list(value)
            .iter()
            .map(|item| quote_literal(item))
            .collect();
        sql.push_str(&if items.is_empty() {
            "''".to_owned()
        } else {
            items.join(", ")
        });
    } else {
        sql.push_str(&quote_literal(value));
    }
    sql
}

/// A list of identifiers as a setting has it: bare ones in lower case, quoted ones as they are.
fn split_list(value: &str) -> Vec<String> {
    let mut items = Vec::new();
    let mut item = String::new();
    let mut quoted = false;
    let mut was_quoted = false;
    let mut chars = value.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                item.push('"');
                chars.next();
            }
            '"' => {
                quoted = !quoted;
                was_quoted = true;
            }
            ',' if !quoted => {
                items.push(std::mem::take(&mut item));
                was_quoted = false;
            }
            c if !quoted && c.is_ascii_whitespace() => {}
            c if quoted || was_quoted => item.push(c),
            c => item.extend(c.to_lowercase()),
        }
    }
    if !item.is_empty() || was_quoted {
        items.push(item);
    }
    items
}

pub(super) fn quote_literal(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len() + 3);
    let escapes = value.contains('\\');
    quoted.push_str(if escapes { "E'" } else { "'" });
    for c in value.chars() {
        if c == '\'' || c == '\\' {
            quoted.push(c);
        }
        quoted.push(c);
    }
    quoted.push('\'');
    quoted
}

#[must_use]
pub fn unsafe_encoding(encoding: &str) -> Report {
    Report::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        format!("client_encoding {encoding} is not supported for a sharded database"),
    )
    .hint("In this encoding the end of a string cannot be found safely; use UTF8, or any encoding in which ASCII bytes are always ASCII.")
}

#[must_use]
pub fn protocol_violation(malformed: Malformed) -> Report {
    Report::new(SqlState::PROTOCOL_VIOLATION, malformed.to_string())
}

/// The member that is asked first for what any server knows.
#[must_use]
pub fn any_member(backend: &Backend) -> ServerId {
    backend.topology.primary(backend.snapshot().database.home)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_the_server_reads_them() {
        let read = parse_options("-c search_path=a,b --work-mem=4MB -cx.y=a\\ b").unwrap();
        let read: Vec<_> = read.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(
            read,
            [("search_path", "a,b"), ("work_mem", "4MB"), ("x.y", "a b")]
        );
        assert!(parse_options("-c nothing").is_err());
    }

    #[test]
    fn start_up_settings_become_statements_without_injection() {
        assert_eq!(
            set_statement("timezone", "UTC'; DROP"),
            "SET \"timezone\" TO 'UTC''; DROP'"
        );
        assert_eq!(
            set_statement("search_path", "a, \"B c\""),
            "SET \"search_path\" TO 'a', 'B c'"
        );
        assert_eq!(set_statement("x.y", "a\\b"), "SET \"x\".\"y\" TO E'a\\\\b'");
    }
}
