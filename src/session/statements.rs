//! PREPARE, EXECUTE and DEALLOCATE by SQL, sent as simple queries. A statement prepared so is one of the session's statements
//! like those of the protocol, and no server has it under the client's name: EXECUTE goes to the server that its arguments
//! lead to, in the name that the statement has there. Whatever names it otherwise keeps the session on its server, and a server
//! that the session keeps has it by its own name.

use super::Session;
use super::bringing::Bring;
use super::cursors::Whose;
use super::startup::quote_literal;
use crate::exec::brought::{Brought, How};
use crate::exec::executor::{Done, Placement, in_failed_transaction};
use crate::exec::failure::{Failure, Report};
use crate::exec::held::Held;
use crate::exec::job::{Ask, Execution, Job, Prepared};
use crate::pool::outstanding::Fate;
use crate::route::{Access, Command, ParamValue, Plan, Targets, Values};
use crate::sql::command::{Command as Words, classify};
use crate::sql::name::quote_ident;
use crate::sql::tokens::{NumberKind, Token, TokenKind, string_value, tokenize};
use crate::wire::build::{self, Severity};
use crate::wire::sqlstate::SqlState;
use bytes::Bytes;
use std::collections::HashMap;

/// Types that came with the system have the same number on every server.
const FIRST_USER_OID: u32 = 16_384;
/// The statement and its types are asked for where it was prepared, under the client's name, and gone from there at once.
const TYPES_OF: &str = "SELECT pg_catalog.array_to_string(parameter_types::pg_catalog.oid[], ',') \
    FROM pg_catalog.pg_prepared_statements WHERE name = ";

/// Statements prepared by SQL: the PREPARE as the client wrote it, and the text it prepared.
pub(super) type BySql = HashMap<Bytes, (Bytes, Bytes)>;

/// EXECUTE, by itself or in EXPLAIN and CREATE TABLE AS.
struct Call {
    /// where the name stands
    name: std::ops::Range<usize>,
    arguments: Vec<Argument>,
    /// nothing stands before it
    plain: bool,
}

/// One argument, as far as it can be read without PostgreSQL.
#[derive(Debug, PartialEq, Eq)]
enum Argument {
    Null,
    Text(Vec<u8>),
    Unknown,
}

struct Arguments<'a>(&'a [Argument]);

impl Values for Arguments<'_> {
    fn slot(&self, _n: usize) -> Option<&[u8]> {
        None
    }

    fn param(&self, n: usize) -> Option<ParamValue<'_>> {
        match self.0.get(n.checked_sub(1)?)? {
            Argument::Null => Some(ParamValue::Null),
            Argument::Text(text) => Some(ParamValue::Text(text)),
            Argument::Unknown => None,
        }
    }
}

impl Session {
    /// PREPARE or EXECUTE as a simple query; what is not the session's own goes to a server as it is.
    pub(super) async fn prepared_statement(
        &mut self,
        plan: &Plan,
        text: &Bytes,
        sql: Bytes,
    ) -> Result<Done, Failure> {
        if self.exec.has_failed() {
            // a server words what it has failed itself
            return match &plan.command {
                Command::Prepare(_) => Err(in_failed_transaction().into()),
                _ => self.on_server(plan, text, sql, Whose::Unknown).await,
            };
        }
        match &plan.command {
            Command::Prepare(name) => {
                let written = self.as_written(plan, text, &sql);
                self.sql_prepare(name, &sql, written).await
            }
            Command::ExecutePrepared(name) if self.statements.contains(name.as_bytes()) => {
                self.sql_execute(plan, name, &sql).await
            }
            Command::ExecutePrepared(name) => {
                // closed by a message of the protocol
                self.take_back(name.as_bytes()).await?;
                self.on_server(plan, text, sql, Whose::Unknown).await
            }
            _ => self.on_server(plan, text, sql, Whose::Unknown).await,
        }
    }

    /// What PostgreSQL keeps of a PREPARE: all that the client has sent. Of several statements it is the one alone, so that
    /// the others do not run again when it is brought to a server.
    fn as_written(&self, plan: &Plan, text: &Bytes, sql: &Bytes) -> Bytes {
        let range = self.range_of(plan, text.len());
        let (before, after) = (&text[..range.start], &text[range.end..]);
        let alone = before.trim_ascii().is_empty() && matches!(after.trim_ascii(), b"" | b";");
        if alone { text.clone() } else { sql.clone() }
    }

    async fn sql_prepare(
        &mut self,
        name: &str,
        sql: &Bytes,
        written: Bytes,
    ) -> Result<Done, Failure> {
        let most = self.exec.backend.config.limits.client_prepared_max;
        if self.statements.len() >= most {
            return Err(Report::new(SqlState::PROGRAM_LIMIT_EXCEEDED, format!("more than {most} prepared statements"))
                .hint("limits.client_prepared_max in the shard map bounds them; deallocate those no longer needed.")
                .into());
        }
        let strings = self.context.standard_conforming_strings;
        let tokens = tokenize(sql, strings).unwrap_or_default();
        let Words::Prepare { statement, .. } = classify(sql, &tokens, strings) else {
            return Err(
                Report::new(SqlState::SYNTAX_ERROR, "this PREPARE is not understood").into(),
            );
        };
        let first = tokens.get(statement.start).map_or(sql.len(), |t| t.start);
        let last = statement.end.checked_sub(1).and_then(|n| tokens.get(n));
        let body = sql.slice(first..last.map_or(sql.len(), |t| t.end).max(first));
        // what no server could be asked to run is refused before one is asked what it means
        let planned = self.plan_parse(&body, &[])?;
        if let Some(plan) = planned.statements.first() {
            refuse_hidden(plan)?;
        }
        if !self.statements.contains(name.as_bytes()) {
            self.take_back(name.as_bytes()).await?;
        }
        let there = Brought {
            name: Bytes::copy_from_slice(name.as_bytes()),
            how: How::Sql(written.clone()),
            number: self.statements.next_number(),
        };
        let types = self.asked_of_a_server(sql, there).await?;
        // which PostgreSQL sees when it has seen everything else
        if self.statements.contains(name.as_bytes()) {
            self.take_back(name.as_bytes()).await?;
            let message = format!("prepared statement \"{name}\" already exists");
            return Err(Report::new(SqlState::DUPLICATE_STATEMENT, message).into());
        }
        if self.exec.snapshot.database.shards.len() > 1
            && types.iter().any(|oid| *oid >= FIRST_USER_OID)
        {
            return Err(
                refused("PREPARE of a statement with a parameter of a user-defined type").into(),
            );
        }
        let prepared = self.prepare(true, body.clone(), types)?;
        let name = Bytes::copy_from_slice(name.as_bytes());
        self.statements.insert(name.clone(), prepared);
        let Self {
            by_sql, statements, ..
        } = self;
        let by_sql = by_sql.get_or_insert_default();
        if by_sql.len() >= most {
            // closed by a message of the protocol
            by_sql.retain(|name, _| statements.contains(name));
        }
        by_sql.insert(name, (written, body));
        Ok(self.done("PREPARE", 0))
    }

    /// With one shard, the session keeps a server. There its statements are under the client's own names: whatever names them
    /// finds them, and PostgreSQL counts their plans.
    fn keeps_server(&self) -> bool {
        let one = self.exec.snapshot.database.shards.len() == 1;
        let kept = |held: &Held| held.pin.is_some() && !held.is_replica;
        one && self.exec.held.iter().any(kept)
    }

    /// Has PostgreSQL look at a PREPARE, which words what is wrong with it; the types of its parameters. The statement stays
    /// where the session does.
    async fn asked_of_a_server(
        &mut self,
        sql: &Bytes,
        there: Brought,
    ) -> Result<Vec<u32>, Failure> {
        let stays = self.keeps_server();
        let home = self.exec.snapshot.database.home;
        let index = self.exec.acquire(home, Placement::Primary).await?;
        let held = &mut self.exec.held[index];
        let text = match &there.how {
            How::Sql(written) if stays => written,
            _ => sql,
        };
        let answer = match held.run_bytes(text, Fate::Notices).await {
            Ok(answer) => answer,
            Err(error) => return Err(self.exec.lost(index, &error)),
        };
        self.exec.client.output.extend_from_slice(&answer.notices);
        if let Some(error) = answer.own_error {
            self.exec.client.show_error(&error);
            self.exec.note_failure();
            self.exec.let_idle_servers_go().await;
            return Err(Failure::Shown);
        }
        let name = String::from_utf8_lossy(&there.name).into_owned();
        let mut ask = format!("{TYPES_OF}{}", quote_literal(&name));
        if stays {
            self.exec.held[index].brought.push(there);
        } else {
            ask.push_str(&format!(";DEALLOCATE {}", quote_ident(&name)));
        }
        let asked = self.exec.held[index].run(&ask, Fate::Capture).await;
        let answer = match asked {
            Ok(answer) if answer.own_error.is_none() => answer,
            Ok(_) => {
                // the statement may still be there
                self.exec.held[index].opaque = true;
                self.exec.let_idle_servers_go().await;
                return Err(Report::new(
                    SqlState::INTERNAL_ERROR,
                    "the parameters of the statement could not be asked for",
                )
                .into());
            }
            Err(error) => return Err(self.exec.lost(index, &error)),
        };
        self.exec.let_idle_servers_go().await;
        let types = answer.captured.first().map_or(&b""[..], |types| types);
        let types = String::from_utf8_lossy(types);
        Ok(types
            .split(',')
            .filter_map(|oid| oid.parse().ok())
            .collect())
    }

    async fn sql_execute(&mut self, plan: &Plan, name: &str, sql: &Bytes) -> Result<Done, Failure> {
        let prepared = self.kept(name.as_bytes()).await?;
        let strings = self.context.standard_conforming_strings;
        let tokens = tokenize(sql, strings).unwrap_or_default();
        let (Some(call), Some(inner)) = (
            call(sql, &tokens, strings),
            prepared.planned.statements.first(),
        ) else {
            return Err(refused("this EXECUTE").into());
        };
        if prepared.local
            || matches!(
                inner.command,
                Command::ExecutePrepared(_) | Command::Prepare(_)
            )
        {
            return Err(refused("EXECUTE of a statement that pgshunt answers itself").into());
        }
        let by_sql = self.is_by_sql(name, &prepared);
        if by_sql && self.keeps_server() {
            return self.execute_there(plan, name, sql, &call).await;
        }
        let (wanted, given) = (prepared.types.len(), call.arguments.len());
        if wanted != given && by_sql {
            return Err(self.miscounted(name, wanted, given));
        }
        refuse_hidden(inner)?;
        let several = self.exec.snapshot.database.shards.len() > 1;
        if several && !call.plain {
            return Err(refused("EXECUTE within another statement over several shards").into());
        }
        let targets = self.targets_of(inner, &Arguments(&call.arguments))?;
        if matches!(targets, Targets::Many(_)) {
            return Err(refused("EXECUTE of a statement for several shards").into());
        }
        let (before, own) = (&sql[..call.name.start], &sql[call.name.clone()]);
        let there = quote_ident(&prepared.name);
        let characters = |text: &[u8]| String::from_utf8_lossy(text).chars().count();
        let execution = Execution {
            prepared: prepared.clone(),
            text: [before, there.as_bytes(), &sql[call.name.end..]]
                .concat()
                .into(),
            place: characters(before),
            longer: there.len().saturating_sub(characters(own)),
            before: self.characters_before(name),
            own_words: if call.plain && call.arguments.is_empty() {
                0
            } else {
                characters(sql) + there.len()
            },
        };
        let ask = Ask::Execute(Box::new(execution));
        let job = self.execution(plan, inner, ask, targets, &call);
        self.run_planned(inner, &job).await
    }

    /// EXECUTE on the server that the session keeps, as it was written.
    async fn execute_there(
        &mut self,
        plan: &Plan,
        name: &str,
        sql: &Bytes,
        call: &Call,
    ) -> Result<Done, Failure> {
        let prepared = self.statement(name.as_bytes())?;
        if let Some((name, found)) = self.statements.get_one(name.as_bytes()) {
            let wanted = self.as_brought(name, found);
            self.bring_statements(Bring::One(wanted)).await?;
        }
        let Some(inner) = prepared.planned.statements.first() else {
            return Err(refused("this EXECUTE").into());
        };
        let targets = Targets::One(self.exec.snapshot.database.home);
        let ask = Ask::Simple(sql.clone());
        let job = self.execution(plan, inner, ask, targets, call);
        self.run_planned(inner, &job).await
    }

    /// What an EXECUTE does is what its statement does, and its arguments.
    fn execution(&self, plan: &Plan, inner: &Plan, ask: Ask, targets: Targets, call: &Call) -> Job {
        let mut job = self.job(inner, ask, targets, Vec::new());
        let computed = call.arguments.contains(&Argument::Unknown);
        if !call.plain || computed {
            // what is not read here may do anything
            job.access = Access::Write;
            job.effects.opaque = true;
        }
        job.effects.ddl = plan.effects.ddl;
        job.effects.pins = job.effects.pins.or(plan.effects.pins);
        job.effects.opaque |= plan.effects.opaque;
        job
    }

    /// Of a statement prepared by SQL: what stands before it in its PREPARE.
    fn characters_before(&self, name: &str) -> usize {
        let by_sql = self.by_sql.as_ref();
        let Some((prepare, body)) = by_sql.and_then(|by_sql| by_sql.get(name.as_bytes())) else {
            return 0;
        };
        let place = memchr::memmem::find(prepare, body).unwrap_or(0);
        String::from_utf8_lossy(&prepare[..place]).chars().count()
    }

    fn is_by_sql(&self, name: &str, prepared: &Prepared) -> bool {
        let by_sql = self
            .by_sql
            .as_ref()
            .and_then(|by_sql| by_sql.get(name.as_bytes()));
        by_sql.is_some_and(|(_, body)| prepared.client_text == *body)
    }

    /// In PostgreSQL's words, which would name the statement by the name it has there.
    fn miscounted(&mut self, name: &str, wanted: usize, given: usize) -> Failure {
        build::report_with(
            &mut self.exec.client.output,
            Severity::Error,
            SqlState::SYNTAX_ERROR,
            &format!("wrong number of parameters for prepared statement \"{name}\""),
            &[Some((
                b'D',
                &format!("Expected {wanted} parameters but got {given}."),
            ))],
        );
        self.exec.note_failure();
        Failure::Shown
    }

    /// DEALLOCATE of one of the session's statements.
    pub(super) async fn deallocate(&mut self, name: &str) -> Result<(), Failure> {
        self.statements.remove(name.as_bytes());
        if let Some(by_sql) = &mut self.by_sql {
            by_sql.remove(name.as_bytes());
        }
        self.take_back(name.as_bytes()).await
    }
}

pub(super) fn refused(what: &str) -> Report {
    Report::new(SqlState::FEATURE_NOT_SUPPORTED, what)
        .hint("Use the prepared statements of your driver (the extended protocol).")
}

/// What has no place behind an EXECUTE: a key that pgshunt draws, a statement for every shard.
fn refuse_hidden(plan: &Plan) -> Result<(), Report> {
    if let Some(refusal) = &plan.refusal {
        return Err(refusal.clone().into());
    }
    if plan.draw.is_some() {
        return Err(refused(
            "PREPARE of an INSERT whose shard key pgshunt draws",
        ));
    }
    if !plan.merge.is_a_read() {
        return Err(refused("PREPARE of a statement for every shard"));
    }
    Ok(())
}

fn call(sql: &[u8], tokens: &[Token], strings: bool) -> Option<Call> {
    let is = |at: usize, word: &str| tokens.get(at).is_some_and(|t| t.is_word(sql, word));
    let first = match (is(0, "execute"), is(0, "explain")) {
        (true, _) => 0,
        (_, true) => (1..tokens.len()).find(|at| is(*at, "execute"))?,
        _ => 1 + (1..tokens.len()).find(|at| is(*at, "as") && is(*at + 1, "execute"))?,
    };
    let name = tokens.get(first + 1)?;
    let mut arguments = Vec::new();
    let mut at = first + 2;
    if tokens
        .get(at)
        .is_some_and(|t| t.kind == TokenKind::ParenOpen)
    {
        let (mut depth, mut begin) = (0_usize, at + 1);
        loop {
            let kind = tokens.get(at)?.kind;
            match kind {
                TokenKind::ParenOpen | TokenKind::BracketOpen => depth += 1,
                TokenKind::ParenClose | TokenKind::BracketClose => depth = depth.checked_sub(1)?,
                _ => {}
            }
            let ends = depth == 0;
            if ends || depth == 1 && kind == TokenKind::Comma {
                arguments.push(argument(sql, tokens.get(begin..at)?, strings));
                begin = at + 1;
            }
            at += 1;
            if ends {
                break;
            }
        }
    }
    Some(Call {
        name: name.span(),
        arguments,
        plain: first == 0,
    })
}

/// What stands for the same value whatever the parameter's type, or nothing that could be read here.
fn argument(sql: &[u8], tokens: &[Token], strings: bool) -> Argument {
    match tokens {
        [one] if one.is_word(sql, "null") => Argument::Null,
        [one] if one.kind == TokenKind::Number(NumberKind::Integer) => integer(sql, one, ""),
        [sign, one]
            if sign.bytes(sql) == b"-" && one.kind == TokenKind::Number(NumberKind::Integer) =>
        {
            integer(sql, one, "-")
        }
        [one] => string_value(sql, one, strings).map_or(Argument::Unknown, Argument::Text),
        _ => Argument::Unknown,
    }
}

/// `007` is 7, also where a text is wanted.
fn integer(sql: &[u8], token: &Token, sign: &str) -> Argument {
    let digits = std::str::from_utf8(token.bytes(sql)).unwrap_or_default();
    match digits.parse::<u64>() {
        Ok(0) => Argument::Text(b"0".to_vec()),
        Ok(number) => Argument::Text(format!("{sign}{number}").into_bytes()),
        Err(_) => Argument::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(sql: &str) -> Option<(String, Vec<Argument>, bool)> {
        let tokens = tokenize(sql.as_bytes(), true).ok()?;
        let call = call(sql.as_bytes(), &tokens, true)?;
        Some((sql[call.name].to_owned(), call.arguments, call.plain))
    }

    #[test]
    fn arguments_are_read_where_they_are_plain() {
        let text = |text: &str| Argument::Text(text.into());
        assert_eq!(
            read("EXECUTE p(007, -3, 'it''s', NULL, 1.5, f(1, 2), 'a'::text, E'\\n')"),
            Some((
                "p".to_owned(),
                vec![
                    text("7"),
                    text("-3"),
                    text("it's"),
                    Argument::Null,
                    Argument::Unknown,
                    Argument::Unknown,
                    Argument::Unknown,
                    text("\n"),
                ],
                true
            ))
        );
        assert_eq!(
            read("execute \"P\""),
            Some(("\"P\"".to_owned(), vec![], true))
        );
    }

    #[test]
    fn it_is_found_within_other_statements() {
        let within =
            |sql: &str| read(sql).map(|(name, arguments, plain)| (name, arguments.len(), plain));
        assert_eq!(
            within("EXPLAIN (ANALYZE) EXECUTE p(1)"),
            Some(("p".to_owned(), 1, false))
        );
        assert_eq!(
            within("CREATE TABLE execute AS EXECUTE q(1, 2) WITH NO DATA"),
            Some(("q".to_owned(), 2, false))
        );
        assert_eq!(within("EXECUTE p("), None);
    }
}
