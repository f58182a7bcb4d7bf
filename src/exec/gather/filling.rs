//! Rows from the shards into the scratch database: all shards start at once and copy out their tables in the same order;
//! one table after another is filled from one shard after another. What waits, waits in the sockets.

use super::Stop;
use super::lending::{Scratch, broken};
use super::reading::{self, Asked, Form, TRAILER, Ways, Within};
use crate::catalog::QualifiedName;
use crate::exec::backend::Backend;
use crate::exec::cancel::send_cancel;
use crate::exec::client::Client;
use crate::exec::executor::{Executor, Placement};
use crate::exec::failure::{Failure, Report};
use crate::exec::measure::Meter;
use crate::exec::relay::{RelayError, poll_client_presence, poll_server, send_only, settle};
use crate::exec::single::replica_cannot;
use crate::pool::outstanding::Fate;
use crate::pool::server::{Answer, Filter, Server, Status};
use crate::route::{Gather, Gathered, Part};
use crate::shard::ShardId;
use crate::sql::analyze::Lookup;
use crate::sql::name::quote_ident;
use crate::wire::message;
use crate::wire::sqlstate::SqlState;
use bytes::{BufMut, BytesMut};
use std::collections::HashMap;
use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

/// Bytes on their way to the scratch database before more is read.
const UNSENT_MAX: usize = 256 * 1024;
/// A table with more bytes than this gets the indexes it needs, and with it all tables get statistics, unless it is alone: then
/// there is no order of joins to choose.
const LARGE_MIN: u64 = 64 * 1024;
/// For a copy that is given up to end.
const ABANDONING_MAX: Duration = Duration::from_secs(2);
const COPY_DONE: &[u8] = b"c\0\0\0\x04";

/// What one shard sends.
struct Feed<'g> {
    shard: ShardId,
    tables: Vec<&'g Gathered>,
    views: &'g [QualifiedName],
    frames: BytesMut,
    answer: Answer,
    /// as the shard has told them
    signatures: HashMap<QualifiedName, String>,
    verified: bool,
    /// one statement brings all tables
    together: bool,
    /// it locks tables by name, which takes more than the right to single columns
    locks: bool,
    /// its first copy data has come in
    begun: bool,
    /// all rows have come in
    ended: bool,
    /// a row of a later table
    ahead: Option<(usize, BytesMut)>,
}

/// One table on its way.
struct Filling<'a> {
    scratch: &'a mut Scratch,
    form: Form,
    rows: u64,
    bytes: u64,
    bytes_max: u64,
    backend: &'a Backend,
}

/// How reading from a shard ended early.
enum Broken {
    /// its own words
    Said(BytesMut),
    Lost(RelayError),
    Scratch(RelayError),
    TooMuch,
    NoRoom(Report),
    Schema(String),
    /// the client may not read this view
    Rights(String),
    OutOfStep(&'static str),
}

impl Executor {
    /// True when replicas had a part in it.
    pub(super) async fn fill(
        &mut self,
        gather: &Gather,
        parts: &[Part],
        reads: &[(ShardId, Vec<&Gathered>)],
        placement: Placement,
        scratch: &mut Scratch,
    ) -> Result<bool, Stop> {
        // nothing is sent to the client here: what was said can be taken back
        let shown = self.client.output.len();
        let shards: Vec<ShardId> = reads.iter().map(|(shard, _)| *shard).collect();
        for shard in &shards {
            self.acquire(*shard, placement).await?;
        }
        self.aim_cancel_at(scratch).await?;
        let by_replica = self.any_replica(&shards);
        let recipe = scratch.recipe.clone();
        let asked = Asked { gather, parts };
        let ways = Ways::new(&recipe, self.within(), asked, encoding(&scratch.server));
        let mut feeds = self.start_reading(reads, &gather.views, &ways).await?;
        let mut result = self.fill_tables(gather, &mut feeds, &ways, scratch).await;
        if result.is_ok() {
            result = self.drain(&mut feeds).await;
        }
        if let Err(stop) = result {
            self.stop_reading(&feeds).await;
            abandon(scratch).await;
            let unseen = by_replica && self.transaction.is_none();
            return Err(match stop {
                Stop::Failed(Failure::ClientGone) => Failure::ClientGone.into(),
                stop if !unseen => stop,
                Stop::Failed(_) if self.shard_failed(&feeds) => {
                    self.client.output.truncate(shown);
                    Stop::Replica
                }
                stop => stop,
            });
        }
        if let Some(measured) = &mut self.measured {
            measured.is_filled(Instant::now());
        }
        self.note_reads();
        Ok(by_replica)
    }

    pub(super) fn within(&self) -> Within {
        match &self.transaction {
            None if self.backend.scratches.reads_by_columns(&self.user) => Within::ByColumns,
            None => Within::Own,
            Some(tx) if tx.isolation.is_some_and(|i| !i.sees_each_commit()) => Within::OneSnapshot,
            Some(_) => Within::EachStatement,
        }
    }

    /// It was a replica that failed, not the statement or the scratch database.
    fn shard_failed(&self, feeds: &[Feed<'_>]) -> bool {
        feeds.iter().any(|feed| {
            feed.answer.error.as_deref().is_some_and(replica_cannot)
                || !self.held.iter().any(|h| h.shard == feed.shard)
        })
    }

    async fn start_reading<'g>(
        &mut self,
        reads: &[(ShardId, Vec<&'g Gathered>)],
        views: &'g [QualifiedName],
        ways: &Ways<'_>,
    ) -> Result<Vec<Feed<'g>>, Stop> {
        let mut feeds = Vec::with_capacity(reads.len());
        for (shard, tables) in reads {
            let Some(index) = self.held.iter().position(|h| h.shard == *shard) else {
                continue;
            };
            let text = ways.text(tables);
            let held = &mut self.held[index];
            held.read = true;
            held.server.query(text.as_bytes(), Fate::Forward);
            feeds.push(Feed {
                shard: *shard,
                tables: tables.clone(),
                views,
                frames: BytesMut::new(),
                answer: Answer::default(),
                signatures: HashMap::new(),
                verified: false,
                together: ways.together(tables),
                locks: ways.locks(),
                begun: false,
                ended: false,
                ahead: None,
            });
            if let Err(error) = send_only(&mut held.server).await {
                let failure = self.lost(index, &error);
                self.stop_reading(&feeds).await;
                return Err(failure.into());
            }
        }
        Ok(feeds)
    }

    async fn fill_tables(
        &mut self,
        gather: &Gather,
        feeds: &mut [Feed<'_>],
        ways: &Ways<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), Stop> {
        let backend = self.backend.clone();
        let bytes_max = backend.config.limits.gather_bytes_max;
        let (mut bytes, mut is_large, mut seal) = (0, false, String::new());
        if let Some(measured) = &mut self.measured {
            measured.begin(&[], Instant::now());
        }
        for (number, table) in gather.tables.iter().enumerate() {
            let form = ways.form(&table.table);
            let name = table.table.quoted();
            let copy = format!(
                "COPY {name} ({}) FROM STDIN {}",
                reading::columns(table),
                ways.options(form)
            );
            scratch.server.query(copy.as_bytes(), Fate::Forward);
            self.scratch_answers(scratch, |answer, _| answer.copy_in)
                .await?;
            if form == Form::Binary {
                scratch.server.send(&reading::beginning());
            }
            let before = bytes;
            for feed in feeds.iter_mut().filter(|feed| feed.tables.contains(&table)) {
                let mut filling = Filling {
                    scratch,
                    form,
                    rows: 0,
                    bytes,
                    bytes_max,
                    backend: &backend,
                };
                let copied = self.measure_part(feed, (number, table), &mut filling);
                let copied = copied.await;
                let came = filling.bytes - bytes;
                bytes = filling.bytes;
                scratch.litter.add(&table.table, came);
                if let Err(broken) = copied {
                    return Err(self.explain(feed, broken));
                }
            }
            if form == Form::Binary {
                scratch.server.send(TRAILER);
            }
            scratch.server.send(COPY_DONE);
            self.scratch_answers(scratch, |_, server| server.is_answered())
                .await?;
            if bytes - before > LARGE_MIN {
                seal.extend(table.lookups.iter().map(|lookup| index(&name, lookup)));
                is_large = true;
            }
        }
        if is_large && gather.joins {
            seal.push_str(&analyze(&gather.tables));
        }
        seal.push_str("SET TRANSACTION READ ONLY");
        scratch.server.query(seal.as_bytes(), Fate::Forward);
        self.scratch_answers(scratch, |_, server| server.is_answered())
            .await
    }

    async fn measure_part(
        &mut self,
        feed: &mut Feed<'_>,
        (number, table): (usize, &Gathered),
        filling: &mut Filling<'_>,
    ) -> Result<(), Broken> {
        let before = filling.bytes;
        let started = self.measured.is_some().then(Instant::now);
        self.copy_part(feed, table, filling).await?;
        if let (Some(measured), Some(started)) = (&mut self.measured, started) {
            let taken = Meter::of(filling.rows, filling.bytes - before);
            measured.note(feed.shard, Some(number), taken, started.elapsed());
        }
        Ok(())
    }

    /// The rows of one table and shard.
    async fn copy_part(
        &mut self,
        feed: &mut Feed<'_>,
        table: &Gathered,
        filling: &mut Filling<'_>,
    ) -> Result<(), Broken> {
        let Some(index) = self.held.iter().position(|h| h.shard == feed.shard) else {
            return Err(Broken::OutOfStep("its server is not held"));
        };
        if !feed.reaches(table, filling) {
            return Ok(());
        }
        let Self { client, held, .. } = self;
        let server = &mut *held[index].server;
        loop {
            if feed.begun
                && !feed.together
                && let Some((run, rows)) = reading::cut_rows(&mut feed.frames)
            {
                filling.count(run.len() as u64).await?;
                filling.rows += rows;
                filling.scratch.server.send(&run);
            }
            let Some(frame) = next_frame(client, server, feed, filling).await? else {
                return Err(Broken::OutOfStep("it has not copied all tables"));
            };
            match frame[0] {
                b'D' => feed.note_signature(&frame),
                b'H' => {
                    feed.verify(filling.scratch)?;
                    feed.begun = false;
                }
                b'c' => {
                    feed.ended = feed.together;
                    return Ok(());
                }
                b'd' => {
                    filling.count(frame.len() as u64).await?;
                    if !feed.pass(frame, table, filling)? {
                        return Ok(());
                    }
                }
                b'E' => return Err(feed.failed(frame)),
                _ => {}
            }
        }
    }

    /// Until every shard has ended its transaction.
    async fn drain(&mut self, feeds: &mut [Feed<'_>]) -> Result<(), Stop> {
        for feed in feeds {
            let Some(index) = self.held.iter().position(|h| h.shard == feed.shard) else {
                continue;
            };
            let settled = settle(&mut self.held[index].server, &mut feed.answer).await;
            if let Err(error) = settled {
                return Err(self.explain(feed, Broken::Lost(error)));
            }
            if let Some(error) = feed.answer.error.clone().or(feed.answer.own_error.clone()) {
                return Err(self.explain(feed, Broken::Said(BytesMut::from(&error[..]))));
            }
        }
        Ok(())
    }

    /// Nothing more is wanted: the shards are told so, and what is on its way is thrown away.
    async fn stop_reading(&mut self, feeds: &[Feed<'_>]) {
        for feed in feeds {
            let Some(index) = self.held.iter().position(|h| h.shard == feed.shard) else {
                continue;
            };
            let held = &mut self.held[index];
            if !held.server.in_step() {
                let address = self.backend.topology.address(held.member);
                if !send_cancel(address, held.server.pid, held.server.secret).await {
                    held.server
                        .taint("a cancel request may still be on its way");
                }
                let mut answer = Answer::default();
                if let Err(error) = settle(&mut held.server, &mut answer).await {
                    self.lost(index, &error);
                    continue;
                }
            }
            let held = &mut self.held[index];
            if !held.in_transaction
                && held.server.status() != Status::Idle
                && let Err(error) = held.run("ROLLBACK", Fate::Skip).await
            {
                self.lost(index, &error);
            }
        }
        self.drop_unfinished_outside();
    }

    fn explain(&mut self, feed: &mut Feed<'_>, broken: Broken) -> Stop {
        let name = &self.snapshot.database.shards[feed.shard.index()].name;
        let index = self.held.iter().position(|h| h.shard == feed.shard);
        match (broken, index) {
            (Broken::Said(words), _)
                if message::error_field(&words, b'C') == Some("42501")
                    && feed.locks
                    && self.transaction.is_none() =>
            {
                Stop::Columns
            }
            (Broken::Said(words), _)
                if message::error_field(&words, b'C') == Some("42501") && !feed.views.is_empty() =>
            {
                super::hidden_tables(&feed.views[0].name).into()
            }
            (Broken::Said(words), _) => {
                let context = format!("while shard {name} was read");
                if let Some(words) = self.client.worded(&words) {
                    let words = with_context(&words, &context);
                    self.client.output.extend_from_slice(&words);
                }
                feed.answer.error.get_or_insert_with(|| words.freeze());
                Failure::Shown.into()
            }
            (Broken::Lost(RelayError::ClientGone) | Broken::Scratch(RelayError::ClientGone), _) => {
                Failure::ClientGone.into()
            }
            (Broken::Lost(error), Some(index)) => self.lost(index, &error).into(),
            (Broken::Lost(error), None) | (Broken::Scratch(error), _) => super::scratch_lost(&error),
            (Broken::Schema(table), _) => Stop::Schema(table),
            (Broken::Rights(view), _) => Report::new(
                SqlState::INSUFFICIENT_PRIVILEGE,
                format!("permission denied for view {view}"),
            )
            .into(),
            (Broken::OutOfStep(why), _) => Report::new(
                SqlState::PROTOCOL_VIOLATION,
                format!("shard {name} is out of step: {why}"),
            )
            .into(),
            (Broken::NoRoom(report), _) => report.into(),
            (Broken::TooMuch, _) => Report::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                "the statement would have to bring together more than gather_bytes_max from the shards",
            )
            .hint("Narrow it by the shard key or ask for fewer columns; limits.gather_bytes_max in the shard map is the bound.")
            .into(),
        }
    }

    /// Waits for the scratch database until `enough`; an error of its own ends the statement.
    async fn scratch_answers(
        &mut self,
        scratch: &mut Scratch,
        enough: impl Fn(&Answer, &Server) -> bool,
    ) -> Result<(), Stop> {
        let mut answer = Answer::default();
        let mut nothing = BytesMut::new();
        let client = &mut self.client;
        loop {
            let digested = scratch
                .server
                .digest(Filter::Errors, &mut nothing, &mut answer);
            digested.map_err(|error| broken(&error.into()))?;
            if scratch.server.is_answered()
                || answer.error.is_none() && enough(&answer, &scratch.server)
            {
                break;
            }
            let polled = poll_fn(|cx| match poll_server(&mut scratch.server, cx) {
                Poll::Pending => poll_client_presence(client, cx),
                ready @ Poll::Ready(_) => ready,
            });
            if let Err(error) = polled.await {
                return Err(super::scratch_lost(&error.explained(&answer)));
            }
        }
        match answer.error {
            None => Ok(()),
            Some(error) => Err(self.scratch_says(&error)),
        }
    }

    fn scratch_says(&mut self, error: &[u8]) -> Stop {
        let code = message::error_field(error, b'C').unwrap_or_default();
        if code == "23505" {
            return Report::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "a table's primary key is not unique over all shards: one PostgreSQL could not hold these rows",
            )
            .hint("Find the rows that are there twice, shard by shard: /* pgshunt: shard=… */")
            .into();
        }
        if code.starts_with("22") || code.starts_with("42") {
            let said = message::error_field(error, b'M').unwrap_or("?");
            return Stop::Schema(said.to_owned());
        }
        let words = with_context(error, "while the scratch database was filled");
        self.client.output.extend_from_slice(&words);
        Failure::Shown.into()
    }
}

impl Filling<'_> {
    /// So much has come.
    async fn count(&mut self, bytes: u64) -> Result<(), Broken> {
        self.bytes += bytes;
        if self.bytes > self.bytes_max {
            return Err(Broken::TooMuch);
        }
        let scratches = &self.backend.scratches;
        scratches.disk.note(bytes);
        if !scratches.disk.is_in_doubt() {
            return Ok(());
        }
        let found = Box::pin(scratches.measure_again(self.backend)).await;
        found.map_err(Broken::NoRoom)
    }
}

impl Feed<'_> {
    fn number(&self, table: &Gathered) -> Option<usize> {
        self.tables.iter().position(|t| *t == table)
    }

    /// What has come in already of this table is passed on. False when no more of it will come.
    fn reaches(&mut self, table: &Gathered, filling: &mut Filling<'_>) -> bool {
        match self.ahead.take() {
            Some((of, row)) if self.number(table) == Some(of) => {
                filling.rows += 1;
                filling.scratch.server.send(&row);
                !self.ended
            }
            Some(later) => {
                self.ahead = Some(later);
                false
            }
            None => !self.ended,
        }
    }

    /// Copy data on its way. False when it is of a later table.
    fn pass(
        &mut self,
        frame: BytesMut,
        table: &Gathered,
        filling: &mut Filling<'_>,
    ) -> Result<bool, Broken> {
        let first = !std::mem::replace(&mut self.begun, true);
        let data = match filling.form {
            Form::Text => Some(frame),
            Form::Binary => reading::part_of_stream(frame, first).map_err(Broken::OutOfStep)?,
        };
        let Some(data) = data else { return Ok(true) };
        filling.rows += 1;
        if !self.together {
            filling.scratch.server.send(&data);
            return Ok(true);
        }
        let (of, row) = reading::separate(&data, filling.form, &self.tables)
            .ok_or(Broken::OutOfStep("a row of no table"))?;
        match self.number(table) {
            Some(wanted) if of == wanted => {
                filling.scratch.server.send(&row);
                Ok(true)
            }
            Some(wanted) if of > wanted => {
                filling.rows -= 1;
                self.ahead = Some((of, row));
                Ok(false)
            }
            _ => Err(Broken::OutOfStep("rows in another order")),
        }
    }

    fn note_signature(&mut self, row: &[u8]) {
        if let Some([schema, name, signature]) = reading::row(row).as_deref() {
            let table = QualifiedName::new(schema, name);
            self.signatures.insert(table, signature.clone());
        }
    }

    /// A table or column that is not there any more is a schema that has changed.
    fn failed(&self, words: BytesMut) -> Broken {
        match message::error_field(&words, b'C') {
            Some("42P01" | "42703") => {
                let table = self.tables.first().map(|t| t.table.name.clone());
                Broken::Schema(table.unwrap_or_default())
            }
            _ => Broken::Said(words),
        }
    }

    /// Before the first copy: the tables here are what the scratch database takes them for.
    fn verify(&mut self, scratch: &Scratch) -> Result<(), Broken> {
        if self.verified {
            return Ok(());
        }
        self.verified = true;
        let agrees = |table: &&&Gathered| {
            let known = scratch.recipe.tables.get(&table.table);
            known.is_some_and(|known| self.signatures.get(&table.table) == Some(&known.signature))
        };
        match self.tables.iter().find(|table| !agrees(table)) {
            Some(table) => Err(Broken::Schema(table.table.name.clone())),
            None => self.may_read_views(),
        }
    }

    fn may_read_views(&self) -> Result<(), Broken> {
        for view in self.views {
            match self.signatures.get(view).map(String::as_str) {
                Some("all") => {}
                Some("some") => return Err(Broken::Schema(view.name.clone())),
                _ => return Err(Broken::Rights(view.name.clone())),
            }
        }
        Ok(())
    }
}

/// The shard's next frame; None when it has answered all. Meanwhile the scratch database gets what is meant for it.
async fn next_frame(
    client: &mut Client,
    server: &mut Server,
    feed: &mut Feed<'_>,
    filling: &mut Filling<'_>,
) -> Result<Option<BytesMut>, Broken> {
    let most = filling.bytes_max.saturating_sub(filling.bytes);
    let scratch = &mut *filling.scratch;
    loop {
        if let Some(frame) = reading::cut(&mut feed.frames) {
            return Ok(Some(frame));
        }
        let digested = server.digest(Filter::All, &mut feed.frames, &mut feed.answer);
        digested.map_err(|error| Broken::Lost(error.into()))?;
        if let Some(frame) = reading::cut(&mut feed.frames) {
            return Ok(Some(frame));
        }
        if server.is_answered() {
            return Ok(None);
        }
        // one row alone may be too much
        if feed.frames.len() as u64 > most {
            return Err(Broken::TooMuch);
        }
        poll_fn(|cx| {
            if scratch.server.unsent() > 0
                && let Poll::Ready(Err(error)) = scratch.server.poll_send(cx)
            {
                return Poll::Ready(Err(Broken::Scratch(RelayError::Server(error))));
            }
            if scratch.server.unsent() <= UNSENT_MAX
                && let Poll::Ready(polled) = poll_server(server, cx)
            {
                return Poll::Ready(polled.map_err(Broken::Lost));
            }
            poll_client_presence(client, cx).map_err(Broken::Lost)
        })
        .await?;
    }
}

/// Ends a copy that will not be completed, so that the scratch database can be used again.
async fn abandon(scratch: &mut Scratch) {
    if scratch.server.in_step() {
        return;
    }
    let mut fail = BytesMut::new();
    crate::wire::build::copy_fail(&mut fail, "not all rows came");
    scratch.server.send(&fail);
    let mut answer = Answer::default();
    let settled = settle(&mut scratch.server, &mut answer);
    if !matches!(
        tokio::time::timeout(ABANDONING_MAX, settled).await,
        Ok(Ok(()))
    ) {
        scratch.server.taint("a copy into it did not end");
    }
}

/// Of the small ones, too: what is not known of them is guessed too high, and the large ones are joined in a bad order. Of the
/// columns that were not copied there is nothing to know.
fn analyze(tables: &[Gathered]) -> String {
    let each = tables
        .iter()
        .map(|table| format!("{} ({})", table.table.quoted(), reading::columns(table)));
    let all: Vec<String> = each.collect();
    format!("ANALYZE {};", all.join(", "))
}

/// It goes with the transaction, as the rows do.
fn index(table: &str, lookup: &Lookup) -> String {
    let method = if lookup.by_hash { "hash" } else { "btree" };
    let columns: Vec<String> = lookup.columns.iter().map(|c| quote_ident(c)).collect();
    format!(
        "CREATE INDEX ON {table} USING {method} ({});",
        columns.join(", ")
    )
}

fn encoding(server: &Server) -> String {
    let found = server
        .parameters
        .iter()
        .find(|(name, _)| name == "server_encoding");
    found.map_or_else(|| "UTF8".to_owned(), |(_, value)| value.clone())
}

/// The same error, and where it happened.
fn with_context(error: &[u8], place: &str) -> BytesMut {
    let mut out = BytesMut::new();
    let fields = error
        .get(5..error.len().saturating_sub(1))
        .unwrap_or_default();
    crate::wire::build::frame(&mut out, b'E', |body| {
        let mut told = false;
        for field in fields
            .split(|byte| *byte == 0)
            .filter(|field| !field.is_empty())
        {
            body.extend_from_slice(field);
            if field[0] == b'W' {
                body.extend_from_slice(b"\n");
                body.extend_from_slice(place.as_bytes());
                told = true;
            }
            body.put_u8(0);
        }
        if !told {
            body.put_u8(b'W');
            body.extend_from_slice(place.as_bytes());
            body.put_u8(0);
        }
        body.put_u8(0);
    });
    out
}
