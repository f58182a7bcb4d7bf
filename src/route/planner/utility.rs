//! Everything that is not SELECT, INSERT, UPDATE, DELETE or MERGE: known by its words alone.

use super::Statement;
use super::combine::within;
use super::data::stored_result;
use super::relations;
use crate::catalog::FunctionKind;
use crate::config::DeclaredFunction;
use crate::route::Ddl as Changed;
use crate::route::{Access, Command, Isolation, Merge, Plan, Refusal, Routing};
use crate::sql::command::{
    self, Command as Words, Copy, CopyDirection, CopyEndpoint, CopySubject, Ddl, Discard,
    TransactionModes,
};
use crate::sql::command::{Setting, SettingValue};
use crate::sql::statement::Placement;
use crate::sql::tokens::TokenKind;

/// Why a FETCH is where it is.
pub(super) const HELD: &str = "the server that the transaction holds";

const NAME_THE_SHARD: &str = "Name the shard: /* pgshunt: shard=… */ or SET pgshunt.shard.";

impl Statement<'_> {
    pub(super) fn utility(&self, words: &Words) -> Plan {
        match words {
            Words::Copy(copy) => self.copy(copy),
            Words::Explain(words) => self.explain(words),
            Words::Prepare { name, statement } => self.prepare(name, statement.clone()),
            Words::Declare { hold, query, .. } => self.declare(*hold, query.clone()),
            Words::Truncate => self.truncate(),
            Words::Lock => self.lock(),
            Words::Call => self.call(),
            Words::Do => self.refused(
                Command::Other,
                "what a DO block reads and writes is not known",
            ),
            Words::Ddl(ddl) => self.ddl(ddl),
            Words::Maintenance {
                word,
                outside_transaction,
            } => self.maintenance(word, *outside_transaction),
            Words::Other(word) => self.other(word),
            _ => self.session(words),
        }
    }

    /// Statements about the session, the transaction and what the server remembers of them.
    fn session(&self, words: &Words) -> Plan {
        if let Some(command) = transaction(words) {
            return self.at(
                command,
                Routing::AnyShard,
                "the session keeps the transaction",
            );
        }
        if let Some(command) = setting(words) {
            return self.setting(command, words);
        }
        let home = |command, because| self.at(command, Routing::Home, because);
        match words {
            Words::Discard(_) => home(Command::Other, "what it discards is on the home shard"),
            Words::Show(_) => {
                let mut plan = home(Command::Select, "a setting of the server");
                plan.access = Access::Read;
                plan
            }
            Words::Execute { name } => {
                let mut plan = home(
                    Command::ExecutePrepared(name.clone()),
                    "prepared on the home shard",
                );
                if self.names_what_lingers() {
                    plan.effects.pins = Some(crate::catalog::lingering::REASON);
                    plan.effects.opaque = true;
                }
                plan
            }
            Words::Deallocate(name) => home(
                Command::Deallocate(name.clone()),
                "prepared on the home shard",
            ),
            Words::Fetch | Words::Move | Words::CloseCursor(_) => {
                let mut plan = self.at(Command::Cursor, Routing::AnyShard, HELD);
                // what its rows may write was reckoned with when it was declared
                plan.access = Access::Read;
                plan
            }
            Words::Listen(channel) => self.listening(Command::Listen(channel.clone())),
            Words::Unlisten(channel) => self.listening(Command::Unlisten(channel.clone())),
            Words::Notify(_) => home(Command::Other, "notifications go over the home shard"),
            Words::PrepareTransaction(_)
            | Words::CommitPrepared(_)
            | Words::RollbackPrepared(_) => self.refused(
                Command::Other,
                "a prepared transaction belongs to one server",
            ),
            Words::SetTransactionSnapshot => {
                self.refused(Command::Other, "a snapshot belongs to one server")
            }
            _ => self.at(Command::Other, Routing::AnyShard, "an empty statement"),
        }
    }

    fn at(&self, command: Command, routing: Routing, because: &str) -> Plan {
        let mut plan = self.context.blank(command);
        plan.routing = routing;
        because.clone_into(&mut plan.because);
        plan
    }

    fn listening(&self, command: Command) -> Plan {
        let mut plan = self.at(command, Routing::Local, "pgshunt listens for its sessions");
        plan.access = Access::Read;
        plan
    }

    fn setting(&self, command: Command, words: &Words) -> Plan {
        let ours = matches!(command, Command::SetLocal { .. } | Command::ShowLocal(_));
        let mut plan = if ours {
            self.at(command, Routing::Local, "a setting of pgshunt")
        } else {
            self.at(command, Routing::AnyShard, "the session keeps its settings")
        };
        plan.setting = match words {
            Words::Set(setting) => Some(setting.clone()),
            Words::SetLocal { name, value, local } => Some(Setting {
                name: format!("pgshunt.{name}"),
                local: *local,
                value: match value {
                    Some(value) => SettingValue::List(vec![value.clone()]),
                    None => SettingValue::Default,
                },
            }),
            _ => None,
        };
        plan
    }

    fn refused(&self, command: Command, why: &str) -> Plan {
        let mut plan = self.context.blank(command);
        plan.effects.opaque = true;
        plan.refusal = Some(Refusal::unsupported(
            format!(
                "{why}, and there are several shards {}",
                self.context.shard_names()
            ),
            NAME_THE_SHARD,
        ));
        plan
    }

    fn refuse(plan: &mut Plan, message: impl Into<String>, hint: &str) {
        plan.refusal = Some(Refusal::unsupported(message, hint));
    }

    /// The statement within another.
    pub(super) fn inner(&self, tokens: std::ops::Range<usize>) -> Plan {
        let within = self.within(tokens);
        let words = command::classify(
            within.text,
            within.tokens,
            within.context.standard_conforming_strings,
        );
        within.plan(&words)
    }

    /// As a message of the extended protocol has it; a simple query's is the session's own business.
    fn prepare(&self, name: &str, statement: std::ops::Range<usize>) -> Plan {
        let inner = self.inner(statement);
        let mut plan = self.context.blank(Command::Prepare(name.to_owned()));
        plan.effects = inner.effects.clone();
        plan.effects.pins = Some("SQL PREPARE");
        "prepared on the home shard".clone_into(&mut plan.because);
        let at_home = inner.refusal.is_none()
            && matches!(
                inner.routing,
                Routing::Home | Routing::AnyShard | Routing::Unsharded
            )
            && inner.draw.is_none();
        if !at_home {
            Self::refuse(
                &mut plan,
                "PREPARE of a statement on sharded or reference tables in the extended protocol",
                "Send PREPARE as a simple query, or use the prepared statements of the protocol itself.",
            );
        }
        plan
    }

    fn declare(&self, hold: bool, query: std::ops::Range<usize>) -> Plan {
        let mut plan = self.inner(query);
        plan.command = Command::Cursor;
        if hold {
            plan.effects.pins = Some("WITH HOLD cursor");
        }
        if plan.refusal.is_some() || plan.merge == Merge::Single {
            return plan;
        }
        if plan.access == Access::Read && plan.merge.puts_together() {
            // the session has its rows put together as they are fetched
            plan.command = Command::DeclareOver;
            plan.merge = Merge::Single;
            return plan;
        }
        let refusal = Refusal::unsupported(
            format!(
                "a cursor over several shards {}",
                self.context.shard_names()
            ),
            "Name the key, or read without a cursor.",
        );
        match plan.routing {
            Routing::ByKey { .. } => plan.multi_refusal = Some(refusal),
            _ => plan.refusal = Some(refusal),
        }
        plan.merge = Merge::Single;
        plan
    }

    fn copy(&self, copy: &Copy) -> Plan {
        let command = match (copy.endpoint, copy.direction) {
            (CopyEndpoint::Client, CopyDirection::In) => Command::CopyIn,
            (CopyEndpoint::Client, CopyDirection::Out) => Command::CopyOut,
            _ => Command::Other,
        };
        let mut plan = match &copy.subject {
            CopySubject::Query(query) => self.inner(query.clone()),
            CopySubject::Table { schema, name, .. } => {
                self.copy_table(copy, schema.as_deref(), name)
            }
        };
        plan.command = command;
        if let Some(refusal) = within(&plan.merge, "COPY") {
            plan.merge = Merge::Single;
            match plan.routing {
                Routing::ByKey { .. } => plan.multi_refusal = Some(refusal),
                _ => plan.refusal = Some(refusal),
            }
        }
        if matches!(plan.merge, Merge::Combine(_)) {
            plan.merge = Merge::Concatenate;
        }
        if plan.merge == Merge::Concatenate && !self.concatenates(copy) {
            let refusal = Refusal::unsupported(
                "COPY in binary or with HEADER from several shards",
                "Use the text format, or csv without HEADER, or name the shard.",
            );
            plan.merge = Merge::Single;
            match plan.routing {
                Routing::ByKey { .. } => plan.multi_refusal = Some(refusal),
                _ => plan.refusal = Some(refusal),
            }
        }
        if copy.endpoint != CopyEndpoint::Client {
            plan.access = Access::Write;
            Self::refuse(
                &mut plan,
                "COPY with a file or program of the server: there are several servers",
                "Use STDIN or STDOUT (\\copy in psql), or name the shard: /* pgshunt: shard=… */",
            );
        }
        plan
    }

    fn copy_table(&self, copy: &Copy, schema: Option<&str>, name: &str) -> Plan {
        let mut plan = self.context.blank(Command::Other);
        let into = copy.direction == CopyDirection::In;
        if !into
            && !self
                .context
                .catalog
                .resolve(self.context.search_path, schema, name)
                .is_some_and(|(_, relation)| relation.unlogged || relation.volatile)
        {
            plan.access = Access::Read;
        }
        match relations::placement(self, schema, name) {
            Placement::Home => {
                format!("\"{name}\" lives on the home shard").clone_into(&mut plan.because);
            }
            Placement::Reference if into => {
                plan.routing = Routing::AllShards;
                plan.merge = Merge::Everywhere;
                plan.because = format!("\"{name}\" is a reference table: every shard has it");
                if let Some(reason) = self.copy_differs(copy, schema, name) {
                    Self::refuse(
                        &mut plan,
                        format!(
                            "COPY into the reference table \"{name}\" would not be the same on every shard: {reason}"
                        ),
                        "Give every column its value.",
                    );
                }
            }
            Placement::Reference => {
                plan.routing = Routing::AnyShard;
                plan.because = format!("\"{name}\" is a reference table: every shard has it");
            }
            Placement::Sharded(_) if into => Self::refuse(
                &mut plan,
                format!(
                    "COPY into the sharded table \"{name}\": its rows belong on several shards"
                ),
                "Use INSERT, or COPY the rows of each shard with /* pgshunt: shard=… */ or SET pgshunt.shard.",
            ),
            Placement::Sharded(_) => {
                plan.routing = Routing::AllShards;
                plan.merge = Merge::Concatenate;
                "each shard gives its own rows".clone_into(&mut plan.because);
            }
        }
        plan
    }

    /// Columns that COPY leaves to defaults which a server computes, and triggers.
    fn copy_differs(&self, copy: &Copy, schema: Option<&str>, name: &str) -> Option<String> {
        let (_, relation) = self
            .context
            .catalog
            .resolve(self.context.search_path, schema, name)?;
        if relation.has_triggers {
            return Some("the table has triggers".to_owned());
        }
        let CopySubject::Table {
            columns: Some(columns),
            ..
        } = &copy.subject
        else {
            return None;
        };
        let computed = |default: &crate::catalog::ColumnDefault| {
            *default == crate::catalog::ColumnDefault::Volatile || default.sequence().is_some()
        };
        let left_out = relation
            .columns
            .iter()
            .find(|column| !columns.contains(&column.name) && computed(&column.default))?;
        Some(format!(
            "the default of \"{}\" is computed by each server",
            left_out.name
        ))
    }

    /// Text and csv without a header can be put one after another.
    fn concatenates(&self, copy: &Copy) -> bool {
        let options = self.tokens.get(copy.options.clone()).unwrap_or_default();
        let says = |word: &str| {
            options.iter().any(|token| {
                token
                    .bytes(self.text)
                    .to_ascii_lowercase()
                    .windows(word.len())
                    .any(|part| part == word.as_bytes())
            })
        };
        !says("binary") && !says("header")
    }

    fn truncate(&self) -> Plan {
        let mut plan = self.context.blank(Command::Other);
        let cascade = self
            .tokens
            .iter()
            .any(|token| token.is_word(self.text, "cascade"));
        if cascade
            || relations::table_list(self, 1)
                .iter()
                .any(|table| table.placement != Placement::Home)
        {
            plan.routing = Routing::AllShards;
            plan.merge = Merge::Everywhere;
            "its tables are on every shard".clone_into(&mut plan.because);
        } else {
            "its tables live on the home shard".clone_into(&mut plan.because);
        }
        plan
    }

    fn lock(&self) -> Plan {
        let mut plan = self.context.blank(Command::Other);
        "its tables live on the home shard".clone_into(&mut plan.because);
        if let Some(table) = relations::table_list(self, 1)
            .iter()
            .find(|table| table.placement != Placement::Home)
        {
            Self::refuse(
                &mut plan,
                format!("LOCK of \"{}\", which is on several shards", table.name),
                NAME_THE_SHARD,
            );
        }
        plan
    }

    fn call(&self) -> Plan {
        let mut plan = self.context.blank(Command::Other);
        plan.effects.opaque = true;
        let name = relations::qualified(self, 1)
            .map(|(_, name, _)| name)
            .unwrap_or_default();
        match self.context.database.functions.get(&name) {
            Some(DeclaredFunction::Home) => {
                "the procedure is declared to run on the home shard".clone_into(&mut plan.because);
            }
            Some(DeclaredFunction::Pure) => {
                "the procedure is declared to touch no table".clone_into(&mut plan.because);
            }
            _ => {
                let procedures = self.context.catalog.functions.get(&name);
                let kind = if procedures
                    .is_some_and(|all| all.iter().any(|f| f.kind == FunctionKind::Procedure))
                {
                    "the procedure"
                } else {
                    "the unknown procedure"
                };
                return self.refused(
                    Command::Other,
                    &format!("what {kind} {name}() reads and writes is not known"),
                );
            }
        }
        plan
    }

    fn ddl(&self, ddl: &Ddl) -> Plan {
        let mut plan = self
            .context
            .blank(self.stores_executed().unwrap_or(Command::Ddl));
        plan.effects.ddl = Some(self.changed(ddl));
        plan.effects.vacates = ddl.vacates.as_deref().map(Into::into);
        if ddl.temporary {
            return self.temporary(ddl, plan);
        }
        plan.routing = Routing::AllShards;
        plan.merge = if ddl.outside_transaction {
            Merge::EverywhereOutsideTransaction
        } else {
            Merge::Everywhere
        };
        "every shard has the same schema".clone_into(&mut plan.because);
        let one_server = ["database", "tablespace", "subscription", "system"];
        if one_server.contains(&ddl.object.as_str())
            && matches!(ddl.verb.as_str(), "create" | "alter" | "drop")
        {
            Self::refuse(
                &mut plan,
                format!(
                    "{} {} is about one server, and there are several {}",
                    ddl.verb.to_uppercase(),
                    ddl.object.to_uppercase(),
                    self.context.shard_names()
                ),
                "Connect to the server itself.",
            );
        } else if ddl.verb == "create"
            && matches!(
                ddl.object.as_str(),
                "table" | "unlogged table" | "materialized view"
            )
            && self.stores_rows()
        {
            let what = if ddl.object == "table" {
                "CREATE TABLE AS"
            } else {
                "CREATE MATERIALIZED VIEW"
            };
            plan.refusal = Some(stored_result(what));
        }
        plan
    }

    fn changed(&self, ddl: &Ddl) -> Changed {
        let begins = ["role", "user", "database"].contains(&ddl.object.as_str());
        let word = |word: &str| self.tokens.iter().any(|t| t.is_word(self.text, word));
        if ddl.verb == "alter" && begins && (word("set") || word("reset")) {
            return Changed::Defaults;
        }
        changed(ddl)
    }

    fn temporary(&self, ddl: &Ddl, mut plan: Plan) -> Plan {
        plan.effects.pins = Some("temporary table");
        plan.effects.ddl = None;
        "temporary objects live in one session of the home shard".clone_into(&mut plan.because);
        let shadow = self
            .tokens
            .iter()
            .filter_map(|token| crate::sql::name::identifier(self.text, token))
            .take(8)
            .find(|name| {
                let database = self.context.database;
                database.tables.iter().any(|table| table.name == *name)
                    || database
                        .reference_tables
                        .iter()
                        .any(|(_, table)| table == name)
            });
        let query = self.query_after_as();
        if let Some(name) = shadow.filter(|_| query.is_none()) {
            Self::refuse(
                &mut plan,
                format!("a temporary object whose name or columns hide \"{name}\""),
                "Give it another name.",
            );
        } else if let Some(query) = query {
            let inner = self.inner(query);
            let at_home = inner.refusal.is_none()
                && matches!(
                    inner.routing,
                    Routing::Home | Routing::AnyShard | Routing::Unsharded
                );
            if !at_home {
                plan.refusal = Some(inner.refusal.unwrap_or_else(|| {
                    stored_result(&format!(
                        "CREATE TEMPORARY {} AS",
                        ddl.object.to_uppercase()
                    ))
                }));
            }
        }
        plan
    }

    /// CREATE TABLE … AS EXECUTE
    fn stores_executed(&self) -> Option<Command> {
        let query = self.tokens.get(self.query_after_as()?)?;
        match command::classify(self.text, query, self.context.standard_conforming_strings) {
            Words::Execute { name } => Some(Command::ExecutePrepared(name)),
            _ => None,
        }
    }

    /// CREATE … AS query [WITH DATA]
    fn stores_rows(&self) -> bool {
        let no_data = self.tokens.windows(3).any(|three| {
            let word = |at: usize, word: &str| three[at].is_word(self.text, word);
            word(0, "with") && word(1, "no") && word(2, "data")
        });
        self.query_after_as().is_some() && !no_data
    }

    /// Tokens of the query after the first AS outside parentheses.
    fn query_after_as(&self) -> Option<std::ops::Range<usize>> {
        const BEGINS: [&str; 5] = ["select", "with", "values", "table", "execute"];
        let mut depth = 0_usize;
        for (n, token) in self.tokens.iter().enumerate() {
            match token.kind {
                TokenKind::ParenOpen => depth += 1,
                TokenKind::ParenClose => depth = depth.saturating_sub(1),
                _ if depth == 0 && token.is_word(self.text, "as") => {
                    let next = self.tokens.get(n + 1)?;
                    let query = next.kind == TokenKind::ParenOpen
                        || BEGINS.iter().any(|word| next.is_word(self.text, word));
                    return query.then_some(n + 1..self.tokens.len());
                }
                _ => {}
            }
        }
        None
    }

    fn maintenance(&self, word: &str, outside_transaction: bool) -> Plan {
        let mut plan = self.context.blank(Command::Other);
        plan.routing = Routing::AllShards;
        plan.merge = if outside_transaction {
            Merge::EverywhereOutsideTransaction
        } else {
            Merge::Everywhere
        };
        plan.because = format!("{} is for every shard", word.to_uppercase());
        plan
    }

    fn other(&self, word: &str) -> Plan {
        match word {
            "load" => {
                let mut plan = self.context.blank(Command::Other);
                plan.effects.pins = Some("LOAD");
                plan
            }
            "set" => {
                let mut plan = self.context.blank(Command::Other);
                plan.routing = Routing::AllShards;
                plan.merge = Merge::Everywhere;
                "constraints are of every shard".clone_into(&mut plan.because);
                plan
            }
            _ => self.not_parsed(Command::Other, "its first word is not known"),
        }
    }
}

fn transaction(words: &Words) -> Option<Command> {
    Some(match words {
        Words::Begin(modes) => begin(*modes),
        Words::Commit { chain } => Command::Commit { chain: *chain },
        Words::Rollback { chain } => Command::Rollback { chain: *chain },
        Words::Savepoint(name) => Command::Savepoint(name.clone()),
        Words::ReleaseSavepoint(name) => Command::ReleaseSavepoint(name.clone()),
        Words::RollbackToSavepoint(name) => Command::RollbackToSavepoint(name.clone()),
        Words::SetTransaction(modes) => Command::SetTransaction {
            read_only: modes.read_only,
            isolation: modes.isolation.map(isolation),
        },
        _ => return None,
    })
}

fn setting(words: &Words) -> Option<Command> {
    Some(match words {
        Words::SessionCharacteristics(_) => Command::Set {
            name: "session characteristics".to_owned(),
            local: false,
        },
        Words::Set(setting) => Command::Set {
            name: setting.name.clone(),
            local: setting.local,
        },
        Words::Reset(name) => Command::Reset(Some(name.clone())),
        Words::ResetAll => Command::Reset(None),
        Words::Discard(Discard::All) => Command::DiscardAll,
        Words::SetLocal { name, value, .. } => Command::SetLocal {
            name: name.clone(),
            value: value.clone(),
        },
        Words::ShowLocal(name) => Command::ShowLocal(name.clone()),
        _ => return None,
    })
}

fn begin(modes: TransactionModes) -> Command {
    Command::Begin {
        read_only: modes.read_only,
        isolation: modes.isolation.map(isolation),
        deferrable: modes.deferrable,
    }
}

fn isolation(isolation: command::Isolation) -> Isolation {
    match isolation {
        command::Isolation::ReadUncommitted => Isolation::ReadUncommitted,
        command::Isolation::ReadCommitted => Isolation::ReadCommitted,
        command::Isolation::RepeatableRead => Isolation::RepeatableRead,
        command::Isolation::Serializable => Isolation::Serializable,
    }
}

/// Whether it makes or changes code. What is not known by name may.
fn changed(ddl: &Ddl) -> Changed {
    const DATA: [&str; 24] = [
        "view",
        "policy",
        "table",
        "index",
        "sequence",
        "materialized view",
        "foreign table",
        "foreign data",
        "type",
        "domain",
        "collation",
        "statistics",
        "tablespace",
        "database",
        "publication",
        "subscription",
        "user mapping",
        "text search",
        "conversion",
        "large object",
        "default privileges",
        "role",
        "user",
        "group",
    ];
    let grants = matches!(ddl.verb.as_str(), "grant" | "revoke" | "comment");
    if grants || DATA.contains(&ddl.object.as_str()) {
        Changed::Data
    } else {
        Changed::Code
    }
}
