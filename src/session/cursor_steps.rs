//! FETCH and MOVE in the rows of a cursor over several shards, and statements about cursors in the extended protocol.

use super::Session;
use super::cursors::{Declared, refused};
use super::portions::{Portion, Shared, sort};
use crate::exec::Failure;
use crate::exec::client::{Kept as Output, OUTPUT_MAX};
use crate::exec::cursors::{Ahead, Cursor, Direction, Flowing, Kept, Place, Stuck};
use crate::exec::executor::{Done, in_failed_transaction};
use crate::exec::failure::Report;
use crate::exec::flowing::{Rows, too_much};
use crate::exec::gather::{More, Parked};
use crate::exec::job::Prepared;
use crate::exec::merge::Formats;
use crate::pool::outstanding::Reply;
use crate::shard::ShardId;
use crate::sql::command::cursor::{CursorWords, Way};
use crate::wire::sqlstate::SqlState;
use crate::wire::{build, message};
use bytes::{Bytes, BytesMut};
use std::sync::Arc;

/// How FETCH or MOVE came.
#[derive(Clone, Copy, Debug)]
pub(super) enum How<'a> {
    /// the statement
    Simple(&'a [u8]),
    /// with the body of its Bind, which says the formats
    Bound { text: &'a [u8], rest: &'a [u8] },
}

/// A statement about cursors that was bound.
#[derive(Debug)]
pub(super) struct Asked {
    pub words: CursorWords,
    /// of DECLARE: where its query begins
    pub query: usize,
    pub prepared: Arc<Prepared>,
    /// the Bind behind its names
    pub rest: Bytes,
}

/// A step of a batch about cursors, done in its turn.
pub(super) enum CursorStep {
    /// of a portal, or of a statement, whose parameters are described, too
    Describe {
        asked: Arc<Asked>,
        statement: bool,
    },
    Execute {
        asked: Arc<Asked>,
        portion: Portion,
    },
    /// of a portal that is a cursor by SQL
    DescribeCursor(String),
    CloseCursor(String),
    /// DECLARE has run on this shard
    Declared {
        name: String,
        hold: bool,
        shard: ShardId,
    },
    /// CLOSE has
    Closed(String),
}

impl CursorStep {
    /// A message about the portal of a statement about cursors.
    pub(super) fn of_portal(
        asked: Arc<Asked>,
        progress: Option<Shared>,
        reply: Reply,
        frame: &Bytes,
    ) -> Result<Self, Report> {
        Ok(match (reply, progress) {
            (Reply::Execute, Some(progress)) => Self::Execute {
                portion: Portion::of(progress, frame)?,
                asked,
            },
            _ => Self::Describe {
                asked,
                statement: false,
            },
        })
    }
}

impl Session {
    pub(super) async fn fetch(
        &mut self,
        name: &str,
        way: Way,
        shows: bool,
        how: How<'_>,
    ) -> Result<Done, Failure> {
        let Some((mut cursor, of_transaction)) = self.take_cursor(name) else {
            return Err(no_cursor(name).into());
        };
        // after a failure nothing can be done with it
        let place = std::mem::replace(&mut cursor.place, Place::Over);
        let result = self.fetch_from(&cursor, place, direction(way), shows, how);
        let result = result.await;
        let (place, result) = match result {
            Ok((place, done)) => (place, Ok(done)),
            Err(failure) => (Place::Over, Err(failure)),
        };
        cursor.place = place;
        self.put_cursor(cursor, of_transaction);
        result
    }

    async fn fetch_from(
        &mut self,
        cursor: &Cursor,
        place: Place,
        direction: Direction,
        shows: bool,
        how: How<'_>,
    ) -> Result<(Place, Done), Failure> {
        Ok(match place {
            Place::Kept(mut kept) => {
                let done = self.fetch_kept(&mut kept, direction, shows, how).await?;
                (Place::Kept(kept), done)
            }
            Place::Flowing(mut flowing) => {
                let done = self.fetch_ahead(&mut flowing, direction, shows, how);
                let done = done.await?;
                (Place::Flowing(flowing), done)
            }
            Place::Parked(mut parked) => {
                let done = self.fetch_parked(&mut parked, how).await?;
                (Place::Parked(parked), done)
            }
            Place::Server(_) => return Err(no_cursor(&cursor.name).into()),
            Place::Over => {
                let text = format!("portal \"{}\" cannot be run", cursor.name);
                return Err(Report::new(SqlState::NOT_IN_PREREQUISITE_STATE, text).into());
            }
        })
    }

    async fn fetch_kept(
        &mut self,
        kept: &mut Kept,
        direction: Direction,
        shows: bool,
        how: How<'_>,
    ) -> Result<Done, Failure> {
        if shows
            && how
                .formats(0)?
                .is_some_and(|formats| !same(&formats, &kept.formats))
        {
            return Err(other_formats().into());
        }
        let gone = kept.go(direction).map_err(stuck)?;
        if !shows {
            return Ok(self.done(&format!("MOVE {}", gone.count), 0));
        }
        if matches!(how, How::Simple(_)) {
            let description = kept.description();
            self.exec.client.output.extend_from_slice(&description);
        }
        for mut rows in kept.shown(&gone) {
            self.send_rows(&mut rows).await?;
            let client = &mut self.exec.client;
            if client.output.len() >= OUTPUT_MAX {
                client.send().await.map_err(|_| Failure::ClientGone)?;
            }
        }
        Ok(self.done(&format!("FETCH {}", gone.count), gone.count as u64))
    }

    async fn fetch_ahead(
        &mut self,
        flowing: &mut Flowing,
        direction: Direction,
        shows: bool,
        how: How<'_>,
    ) -> Result<Done, Failure> {
        let on_a_row = flowing.on_a_row();
        let ahead = match flowing.ahead(direction) {
            // MOVE 0 tells where it is, and goes nowhere
            Err(_) if !shows && direction.stays() => {
                return Ok(self.done(&format!("MOVE {}", u8::from(on_a_row)), 0));
            }
            ahead => ahead.map_err(stuck)?,
        };
        let formats = match how.formats(flowing.flow.hidden())? {
            Some(formats) if shows => formats,
            _ => flowing.formats.clone(),
        };
        if shows && !flowing.flow.set_formats(&formats) {
            return Err(other_formats().into());
        }
        // nothing is shown of a FETCH that fails
        self.exec.client.hold();
        if shows && matches!(how, How::Simple(_)) {
            let out = &mut self.exec.client.output;
            out.extend_from_slice(&flowing.description);
        }
        let result = self.go_there(flowing, ahead, shows).await;
        if matches!(result, Err(Failure::Report(_))) {
            self.exec.client.forget_held();
        }
        self.exec.client.release();
        let count = result?;
        let word = if shows { "FETCH" } else { "MOVE" };
        Ok(Done {
            shards: flowing.flow.shards(),
            ..self.done(&format!("{word} {count}"), count)
        })
    }

    async fn go_there(
        &mut self,
        flowing: &mut Flowing,
        ahead: Option<Ahead>,
        shows: bool,
    ) -> Result<u64, Failure> {
        let Some(ahead) = ahead else {
            return Ok(0);
        };
        if ahead.over > 0 {
            let over = Some(ahead.over);
            self.go_ahead(flowing, over, Rows::PassedOver).await?;
        }
        let rows = if shows { Rows::Sent } else { Rows::PassedOver };
        self.go_ahead(flowing, ahead.rows, rows).await
    }

    async fn go_ahead(
        &mut self,
        flowing: &mut Flowing,
        rows: Option<u64>,
        shown: Rows,
    ) -> Result<u64, Failure> {
        let most = self.exec.backend.config.limits.portal_bytes_max;
        let room = most.saturating_sub(self.kept_bytes());
        let count = self.exec.flow(&mut flowing.flow, rows, shown, room).await?;
        flowing.went(rows, count);
        Ok(count)
    }

    async fn fetch_parked(&mut self, parked: &mut Parked, how: How<'_>) -> Result<Done, Failure> {
        let more = match how {
            How::Simple(text) => More::Simple(text),
            How::Bound { text, rest } => More::Bound { text, rest },
        };
        self.exec.ask_parked(parked, more).await
    }

    // ---- the extended protocol ---------------------------------------------------------------

    pub(super) async fn run_cursor_step(&mut self, step: CursorStep) -> Result<(), Failure> {
        if self.exec.has_failed() {
            return Err(in_failed_transaction().into());
        }
        match step {
            CursorStep::Describe { asked, statement } => {
                if statement {
                    build::parameter_description(&mut self.exec.client.output, &[]);
                }
                self.describe_asked(&asked, statement).await
            }
            CursorStep::Execute { asked, portion } => {
                let planned = asked.prepared.planned.clone();
                let started = self.begin_work();
                let result = self.execute_asked(&asked, &portion).await;
                self.count(&planned, started, &result);
                result.map(|_| ())
            }
            CursorStep::DescribeCursor(name) => {
                let text = format!("FETCH 0 FROM {}", crate::sql::name::quote_ident(&name));
                let plain = [0; 6];
                self.describe_fetch(&name, text.as_bytes(), &plain).await
            }
            CursorStep::CloseCursor(name) => {
                let before = self.exec.client.output.len();
                self.close_cursor(&name).await?;
                self.exec.client.output.truncate(before);
                build::bare(&mut self.exec.client.output, b'3');
                Ok(())
            }
            CursorStep::Declared { name, hold, shard } => {
                self.add_cursor(name, hold, Place::Server(shard));
                Ok(())
            }
            CursorStep::Closed(name) => {
                self.take_cursor(&name);
                Ok(())
            }
        }
    }

    /// Only FETCH has rows.
    async fn describe_asked(&mut self, asked: &Asked, statement: bool) -> Result<(), Failure> {
        let CursorWords::Fetch { name, .. } = &asked.words else {
            build::bare(&mut self.exec.client.output, b'n');
            return Ok(());
        };
        let rest = if statement { &[0; 6][..] } else { &asked.rest };
        let text = asked.prepared.client_text.clone();
        self.describe_fetch(name, &text, rest).await
    }

    async fn describe_fetch(
        &mut self,
        name: &str,
        text: &[u8],
        rest: &[u8],
    ) -> Result<(), Failure> {
        let formats = How::Bound { text, rest }.formats(0)?.unwrap_or_default();
        let Some((mut cursor, of_transaction)) = self.take_cursor(name) else {
            // as PostgreSQL has it: its Execute will fail
            build::bare(&mut self.exec.client.output, b'n');
            return Ok(());
        };
        let described = if let Place::Parked(parked) = &mut cursor.place {
            let more = More::Described { text, rest };
            self.exec.ask_parked(parked, more).await.map(|_| ())
        } else {
            let description = in_formats(&cursor.description(), &formats);
            self.exec.client.output.extend_from_slice(&description);
            Ok(())
        };
        self.put_cursor(cursor, of_transaction);
        described
    }

    async fn execute_asked(&mut self, asked: &Asked, portion: &Portion) -> Result<Done, Failure> {
        if !portion.is_unread() {
            return self.send_portion(portion).await.map(|()| Done::default());
        }
        portion.spend();
        let text = asked.prepared.client_text.clone();
        let how = How::Bound {
            text: &text,
            rest: &asked.rest,
        };
        match asked.words.clone() {
            CursorWords::Declare {
                name,
                binary,
                scroll,
                hold,
                ..
            } => {
                if hold || self.exec.transaction.is_some() {
                    self.refuse_duplicate(name.as_bytes())?;
                }
                let declared = Declared {
                    name,
                    binary,
                    scroll,
                    hold,
                    text: text.clone(),
                    query: asked.query,
                };
                let values = (&asked.prepared, &asked.rest);
                self.declare_over(declared, Some(values)).await
            }
            CursorWords::Fetch { name, way } if portion.limit == 0 => {
                let done = self.fetch(&name, way, true, how).await?;
                self.keep_rows(portion, Bytes::new(), 0, "FETCH 0");
                Ok(done)
            }
            CursorWords::Fetch { name, way } => {
                self.fetch_in_portions(&name, way, how, portion).await
            }
            CursorWords::Move { name, way } => self.fetch(&name, way, false, how).await,
            CursorWords::Close(Some(name)) => self.close_cursor(&name).await,
            CursorWords::Close(None) => self.close_all().await,
        }
    }

    /// An Execute of FETCH with a row limit: FETCH runs to its end, as at PostgreSQL.
    async fn fetch_in_portions(
        &mut self,
        name: &str,
        way: Way,
        how: How<'_>,
        portion: &Portion,
    ) -> Result<Done, Failure> {
        let most = self.exec.backend.config.limits.portal_bytes_max;
        let room = most.saturating_sub(self.kept_bytes());
        self.exec.client.keep(room);
        let result = self.fetch(name, way, true, how).await;
        let Output { bytes, overflown } = self.exec.client.take_kept();
        let sorted = sort(bytes);
        self.exec.client.output.extend_from_slice(&sorted.asides);
        let done = match result {
            Err(Failure::Shown) | Ok(_) if overflown => return Err(too_much(most).into()),
            result => result?,
        };
        let held = sorted.rows.len();
        self.keep_rows(portion, sorted.rows, held, "FETCH 0");
        self.send_portion(portion).await?;
        Ok(done)
    }
}

impl How<'_> {
    /// The formats that are asked for, with those of hidden columns; None: those the cursor was declared with.
    fn formats(self, hidden: usize) -> Result<Option<Formats>, Report> {
        let Self::Bound { rest, .. } = self else {
            return Ok(None);
        };
        let mut whole = BytesMut::new();
        build::bind(&mut whole, b"", b"", rest);
        let bind = message::bind(&whole).map_err(super::startup::protocol_violation)?;
        let told = bind.result_formats();
        Ok(Some(match told.as_slice() {
            [] | [false] => Formats::AllText,
            [true] => Formats::AllBinary,
            each => {
                let hidden = std::iter::repeat_n(true, hidden);
                Formats::Each(each.iter().copied().chain(hidden).collect())
            }
        }))
    }
}

/// Whether they say the same of every column.
fn same(one: &Formats, other: &Formats) -> bool {
    let plain = |formats: &Formats| match formats {
        Formats::Each(each) if each.iter().all(|binary| *binary) => Formats::AllBinary,
        Formats::Each(each) if !each.iter().any(|binary| *binary) => Formats::AllText,
        other => other.clone(),
    };
    plain(one) == plain(other)
}

/// A RowDescription whose columns have these formats.
fn in_formats(description: &Bytes, formats: &Formats) -> BytesMut {
    // table, column number, type, size, modifier, format
    const FIELD: usize = 18;
    let mut out = BytesMut::from(&description[..]);
    let mut at = crate::wire::frame::HEADER + 2;
    let mut column = 0;
    while let Some(name) = out.get(at..).and_then(|rest| memchr::memchr(0, rest)) {
        at += name + 1 + FIELD;
        if let Some(format) = out.get_mut(at - 1) {
            *format = u8::from(formats.is_binary(column));
        }
        column += 1;
    }
    out
}

fn direction(way: Way) -> Direction {
    match way {
        Way::Rows(rows) => Direction::Forward(rows),
        Way::All => Direction::ForwardAll,
        Way::BackwardAll => Direction::BackwardAll,
        Way::Absolute(row) => Direction::Absolute(row),
        Way::Relative(rows) => Direction::Relative(rows),
    }
}

pub(super) fn no_cursor(name: &str) -> Report {
    let text = format!("cursor \"{name}\" does not exist");
    Report::new(SqlState::INVALID_CURSOR_NAME, text)
}

fn other_formats() -> Report {
    refused("FETCH in another format than that of rows read before")
}

fn stuck(why: Stuck) -> Report {
    match why {
        Stuck::ForwardOnly => Report::new(
            SqlState::NOT_IN_PREREQUISITE_STATE,
            "cursor can only scan forward",
        )
        .hint("Declare it with SCROLL option to enable backward scan."),
        Stuck::Unsaid => Report::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "going back in a cursor over several shards that was declared without SCROLL is not supported",
        )
        .hint("Declare it with SCROLL."),
    }
}
