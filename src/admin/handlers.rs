//! The console's answers in pgwire's terms: one handler serves the simple and the extended protocol of one client.
//! It does not read from the socket and holds nothing but the statements that the client has prepared, bounded.

use super::Sources;
use super::command::{Asker, Command, CommandError, parse, parse_one};
use super::table::{Cell, Column, ColumnType, fields, response};
use async_trait::async_trait;
use futures::{Sink, SinkExt};
use parking_lot::Mutex;
use pgwire::api::portal::{Format, Portal};
use pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use pgwire::api::results::{FieldFormat, FieldInfo, Response, Tag};
use pgwire::api::stmt::{QueryParser, StoredStatement};
use pgwire::api::store::{Entry, PortalStore};
use pgwire::api::{ClientInfo, ClientPortalStore, DEFAULT_NAME, Type};
use pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::extendedquery::{
    Bind, BindComplete, Close, CloseComplete, Execute, Parse, ParseComplete,
    TARGET_TYPE_BYTE_STATEMENT,
};
use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;

/// Statements and portals, each, that a client may keep by name.
const NAMED_MAX: usize = 100;
/// More rows than any view has: asking for more than this is asking for all.
const ROWS_MAX: i32 = 1_000_000;

/// Reloading failed: PostgreSQL's config_file_error.
const CONFIG_FILE_ERROR: &str = "F0000";
const PROTOCOL_VIOLATION: &str = "08P01";
const TOO_MANY: &str = "54000";

pub struct Console {
    sources: Arc<dyn Sources>,
    parser: Arc<CommandParser>,
    named: Mutex<Named>,
}

/// Names the client has given to what it keeps here.
#[derive(Debug, Default)]
struct Named {
    statements: HashSet<String>,
    portals: HashSet<String>,
}

#[derive(Debug)]
pub struct CommandParser {
    asker: Asker,
}

impl Console {
    #[must_use]
    pub fn new(sources: Arc<dyn Sources>, asker: Asker) -> Self {
        Self {
            sources,
            parser: Arc::new(CommandParser { asker }),
            named: Mutex::default(),
        }
    }

    async fn answer<C>(
        &self,
        client: &mut C,
        command: Command,
        format: &Format,
    ) -> PgWireResult<Response>
    where
        C: Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let format = |column| format_of(format, column);
        match command {
            Command::Show(view) => {
                response(&view.columns(), view.rows(&*self.sources), format).map(Response::Query)
            }
            Command::ShowSetting(name, value) => {
                let columns = [Column::of(name, ColumnType::Text)];
                response(&columns, vec![vec![Cell::Text(value)]], format).map(Response::Query)
            }
            Command::Select(items) => {
                let (columns, row): (Vec<_>, Vec<_>) = items.into_iter().unzip();
                response(&columns, vec![row], format).map(Response::Query)
            }
            Command::Reload => self.reload(client).await,
            Command::Begin => Ok(Response::TransactionStart(Tag::new("BEGIN"))),
            Command::Commit => Ok(Response::TransactionEnd(Tag::new("COMMIT"))),
            Command::Rollback => Ok(Response::TransactionEnd(Tag::new("ROLLBACK"))),
            Command::Ignored(tag) => Ok(Response::Execution(Tag::new(tag))),
        }
    }

    async fn reload<C>(&self, client: &mut C) -> PgWireResult<Response>
    where
        C: Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let said = self.sources.reload().await.map_err(|reason| {
            let hint = "Everything stays as it was. Correct the shard map and try again.";
            user_error(CONFIG_FILE_ERROR, &reason, hint)
        })?;
        let notice = ErrorInfo::new("NOTICE".to_owned(), "00000".to_owned(), said);
        client
            .feed(PgWireBackendMessage::NoticeResponse(notice.into()))
            .await?;
        Ok(Response::Execution(Tag::new("RELOAD")))
    }
}

#[async_trait]
impl SimpleQueryHandler for Console {
    async fn do_query<C>(&self, client: &mut C, query: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let commands = parse(query, &self.parser.asker).map_err(refused)?;
        if commands.is_empty() {
            return Ok(vec![Response::EmptyQuery]);
        }
        let mut answers = Vec::with_capacity(commands.len());
        for command in commands {
            match self.answer(client, command, &Format::UnifiedText).await {
                Ok(answer) => answers.push(answer),
                // what was answered before it stays answered
                Err(error) => {
                    answers.push(Response::Error(Box::new(error.into())));
                    break;
                }
            }
        }
        Ok(answers)
    }
}

#[async_trait]
impl ExtendedQueryHandler for Console {
    type Statement = Command;
    type QueryParser = CommandParser;

    fn query_parser(&self) -> Arc<CommandParser> {
        Arc::clone(&self.parser)
    }

    async fn on_parse<C>(&self, client: &mut C, message: Parse) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Command>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let parsed = StoredStatement::parse(client, &message, self.query_parser()).await?;
        keep(
            &mut self.named.lock().statements,
            message.name.as_deref(),
            "prepared statements",
        )?;
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        match parsed {
            Some(statement) => client.portal_store().put_statement(Arc::new(statement)),
            None => client.portal_store().put_empty_statement(name),
        }
        client
            .feed(PgWireBackendMessage::ParseComplete(ParseComplete::new()))
            .await?;
        Ok(())
    }

    async fn on_bind<C>(&self, client: &mut C, message: Bind) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Command>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let name = message.statement_name.as_deref().unwrap_or(DEFAULT_NAME);
        let Some(statement) = client.portal_store().get_statement(name) else {
            return Err(PgWireError::StatementNotFound(name.to_owned()));
        };
        let columns = statement
            .value()
            .map_or(0, |statement| statement.statement.columns().len());
        check_bind(&message, columns)?;
        keep(
            &mut self.named.lock().portals,
            message.portal_name.as_deref(),
            "portals",
        )?;
        match statement {
            Entry::Value(statement) => {
                let portal = Portal::try_new(&message, statement)?;
                client.portal_store().put_portal(Arc::new(portal));
            }
            Entry::Empty => {
                let name = message.portal_name.as_deref().unwrap_or(DEFAULT_NAME);
                client.portal_store().put_empty_portal(name);
            }
        }
        client
            .feed(PgWireBackendMessage::BindComplete(BindComplete::new()))
            .await?;
        Ok(())
    }

    async fn on_execute<C>(&self, client: &mut C, mut message: Execute) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Command>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        // pgwire reserves room for as many rows as are asked for, whatever the number; in the protocol, 0 and less is all
        if !(0..=ROWS_MAX).contains(&message.max_rows) {
            message.max_rows = 0;
        }
        self._on_execute(client, message).await
    }

    async fn on_close<C>(&self, client: &mut C, message: Close) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Command>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        if message.target_type == TARGET_TYPE_BYTE_STATEMENT {
            self.named.lock().statements.remove(name);
            client.portal_store().rm_statement(name);
        } else {
            self.named.lock().portals.remove(name);
            client.portal_store().rm_portal(name);
        }
        client
            .feed(PgWireBackendMessage::CloseComplete(CloseComplete::new()))
            .await?;
        Ok(())
    }

    async fn do_query<C>(
        &self,
        client: &mut C,
        portal: &Portal<Command>,
        _max_rows: usize,
    ) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Command>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let command = portal.statement.statement.clone();
        self.answer(client, command, &portal.result_column_format)
            .await
    }
}

#[async_trait]
impl QueryParser for CommandParser {
    type Statement = Command;

    async fn parse_sql<C>(
        &self,
        _: &C,
        sql: &str,
        _: &[Option<Type>],
    ) -> PgWireResult<Option<Command>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        parse_one(sql, &self.asker).map_err(refused)
    }

    fn get_parameter_types(&self, _: &Command) -> PgWireResult<Vec<Type>> {
        Ok(Vec::new())
    }

    fn get_result_schema(
        &self,
        command: &Command,
        format: Option<&Format>,
    ) -> PgWireResult<Vec<FieldInfo>> {
        let format = format.unwrap_or(&Format::UnifiedText);
        Ok(fields(&command.columns(), |column| {
            format_of(format, column)
        }))
    }
}

/// Like `Format::format_for`, for any column: a list that is too short has been refused at Bind.
fn format_of(format: &Format, column: usize) -> FieldFormat {
    match format {
        Format::UnifiedText => FieldFormat::Text,
        Format::UnifiedBinary => FieldFormat::Binary,
        Format::Individual(codes) => FieldFormat::from(codes.get(column).copied().unwrap_or(0)),
    }
}

/// No command takes parameters; formats are none, one for all, or one for each column.
fn check_bind(bind: &Bind, columns: usize) -> PgWireResult<()> {
    if !bind.parameters.is_empty() {
        let message = format!(
            "bind message supplies {} parameters, but a command here takes none",
            bind.parameters.len()
        );
        return Err(user_error(
            PROTOCOL_VIOLATION,
            &message,
            "Write the value into the command.",
        ));
    }
    let formats = bind.result_column_format_codes.len();
    if formats > 1 && formats != columns {
        let message =
            format!("bind message has {formats} result formats but query has {columns} columns");
        return Err(user_error(
            PROTOCOL_VIOLATION,
            &message,
            "This is a mistake of the driver.",
        ));
    }
    Ok(())
}

fn keep(names: &mut HashSet<String>, name: Option<&str>, what: &str) -> PgWireResult<()> {
    let Some(name) = name else { return Ok(()) };
    if !names.contains(name) && names.len() >= NAMED_MAX {
        let message =
            format!("too many {what}: the admin database keeps {NAMED_MAX} of one client");
        return Err(user_error(
            TOO_MANY,
            &message,
            "Close those that are not needed any more.",
        ));
    }
    names.insert(name.to_owned());
    Ok(())
}

fn refused(error: CommandError) -> PgWireError {
    user_error(error.code.0, &error.message, &error.hint)
}

fn user_error(code: &str, message: &str, hint: &str) -> PgWireError {
    let mut info = ErrorInfo::new("ERROR".to_owned(), code.to_owned(), message.to_owned());
    info.severity_nonlocalized = Some(info.severity.clone());
    info.hint = Some(hint.to_owned());
    PgWireError::UserError(Box::new(info))
}
