//! LISTEN for many clients over one connection a shard: a channel is listened to on every shard's primary as long as somebody
//! wants it (triggers speak where their rows are), and what is said there goes into the mailbox of everybody who does. Knows
//! channels and mailboxes, no sessions.

use super::control::{ControlConnection, ControlError, ControlPools, words};
use crate::config::{Database, ServerAddress};
use futures::future::BoxFuture;
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::Context;
use std::time::Duration;
use tokio_postgres::AsyncMessage;

/// Pauses between attempts to connect again.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// One command on the listening connection.
const COMMAND_MAX: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// of the client that sent it, or of the server process where that is not known
    pub pid: i32,
    pub channel: Arc<str>,
    pub payload: Arc<str>,
}

impl Notification {
    fn bytes(&self) -> usize {
        self.channel.len() + self.payload.len() + 64
    }
}

/// What a listener finds in its mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mail {
    Said(Notification),
    /// the connection to this shard was lost for a while: what was said there meanwhile is not known
    Gap(Arc<str>),
    /// more came than was fetched: the rest is lost
    Overflow,
    /// the shards are elsewhere now: nothing more will come
    Moved,
}

/// One session's notifications until it fetches them.
#[derive(Default)]
pub struct Mailbox {
    waker: AtomicWaker,
    any: AtomicBool,
    inbox: Mutex<Inbox>,
}

#[derive(Default)]
struct Inbox {
    mail: VecDeque<Mail>,
    bytes: usize,
}

impl Mailbox {
    /// True when there is something; else the task is woken when there is.
    pub fn poll(&self, cx: &Context<'_>) -> bool {
        self.waker.register(cx.waker());
        self.any.load(Ordering::SeqCst)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.any.load(Ordering::SeqCst)
    }

    pub fn fetch(&self) -> VecDeque<Mail> {
        let mut inbox = self.inbox.lock();
        self.any.store(false, Ordering::SeqCst);
        inbox.bytes = 0;
        std::mem::take(&mut inbox.mail)
    }

    fn put(&self, mail: Mail, bytes_max: usize) {
        let mut inbox = self.inbox.lock();
        if inbox.mail.back() == Some(&Mail::Overflow) {
            return;
        }
        let bytes = match &mail {
            Mail::Said(notification) => notification.bytes(),
            Mail::Gap(_) | Mail::Overflow | Mail::Moved => 0,
        };
        let fits = inbox.bytes + bytes <= bytes_max;
        inbox.bytes += bytes;
        inbox
            .mail
            .push_back(if fits { mail } else { Mail::Overflow });
        self.any.store(true, Ordering::SeqCst);
        drop(inbox);
        self.waker.wake();
    }
}

/// Where it is listened, and as whom.
#[derive(Clone, PartialEq, Eq)]
struct Place {
    /// the primary of each shard, with its name
    primaries: Vec<(Arc<str>, ServerAddress)>,
    home: usize,
    database: String,
    user: String,
    password: Option<String>,
}

impl Place {
    fn of(database: &Database) -> Self {
        Self {
            primaries: database
                .shards
                .iter()
                .map(|shard| (shard.name.as_str().into(), shard.primary.clone()))
                .collect(),
            home: database.home.index(),
            database: database.server_database.clone(),
            user: database.control_user.clone(),
            password: database.control_password.clone(),
        }
    }
}

/// The listeners of one database.
pub struct Notifications {
    control: Arc<ControlPools>,
    place: Place,
    bytes_max: usize,
    listeners: Mutex<HashMap<Arc<str>, Vec<Weak<Mailbox>>>>,
    /// clients by the shard and the server process that speaks for them
    speakers: Mutex<HashMap<(usize, i32), i32>>,
    /// one for each shard; one LISTEN or UNLISTEN at a time
    lines: tokio::sync::Mutex<Vec<Line>>,
}

/// The connection to one shard.
#[derive(Default)]
struct Line {
    open: Option<tokio_postgres::Client>,
    /// somebody tries to get it back, and tells everybody of the gap when it is
    lost: bool,
}

impl Line {
    fn is_open(&self) -> bool {
        self.open.as_ref().is_some_and(|open| !open.is_closed())
    }
}

/// As long as it lives, what a server process says is said by the client that has it.
pub struct Speaking {
    at: Arc<Notifications>,
    server: (usize, i32),
    all_heard: bool,
}

impl Speaking {
    /// Before the server goes to somebody else.
    pub async fn end(mut self) {
        self.at.catch_up_if_any().await;
        self.all_heard = true;
    }
}

impl Drop for Speaking {
    fn drop(&mut self) {
        let (at, server) = (self.at.clone(), self.server);
        if self.all_heard {
            at.speakers.lock().remove(&server);
            return;
        }
        // the server is closed, and nobody gets it any more
        tokio::spawn(async move {
            at.catch_up_if_any().await;
            at.speakers.lock().remove(&server);
        });
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error("{}", words(.0))]
    Server(#[from] tokio_postgres::Error),
    #[error("no answer within {COMMAND_MAX:?}")]
    TimedOut,
}

impl Notifications {
    #[must_use]
    pub fn new(control: Arc<ControlPools>, database: &Database, bytes_max: usize) -> Arc<Self> {
        let place = Place::of(database);
        let lines = place.primaries.iter().map(|_| Line::default()).collect();
        Arc::new(Self {
            control,
            place,
            bytes_max,
            listeners: Mutex::default(),
            speakers: Mutex::default(),
            lines: tokio::sync::Mutex::new(lines),
        })
    }

    /// Whether this is how one would listen for this database.
    #[must_use]
    pub fn serves(&self, database: &Database) -> bool {
        self.place == Place::of(database)
    }

    /// Another one has taken its place, somewhere else.
    pub fn retire(&self) {
        self.tell_everybody(&Mail::Moved);
    }

    /// The connections are closed if nobody listens. One that is just being used has somebody who does.
    pub fn leave(&self) {
        if let Ok(mut lines) = self.lines.try_lock()
            && self.listeners.lock().is_empty()
        {
            for line in lines.iter_mut() {
                line.open = None;
            }
        }
    }

    /// From the return of this on, everything said on the channel is in the mailbox; of a shard that cannot be reached, from
    /// when it is told that it was not.
    pub async fn listen(
        self: &Arc<Self>,
        channel: &str,
        mailbox: &Arc<Mailbox>,
    ) -> Result<(), ListenError> {
        let mut lines = self.lines.lock().await;
        let first = self.enlist(channel, mailbox);
        let sql = format!("LISTEN {}", quoted(channel));
        let heard = (0..).zip(lines.iter_mut()).map(|(shard, line)| {
            let sql = &sql;
            async move {
                if line.is_open() && !first || line.lost && shard != self.place.home {
                    return Ok(());
                }
                self.say(line, shard, sql).await
            }
        });
        let heard = futures::future::join_all(heard).await;
        let mut result = Ok(());
        for (shard, heard) in heard.into_iter().enumerate() {
            match heard {
                Ok(()) => {}
                Err(error) if shard == self.place.home => result = Err(error),
                Err(error) => {
                    tracing::warn!(%error, shard = %self.place.primaries[shard].0, "cannot listen on a shard");
                    self.look_for(&mut lines[shard], shard);
                }
            }
        }
        drop(lines);
        if result.is_err() {
            self.strike(channel, mailbox);
        }
        result
    }

    /// From now on nothing more of this channel.
    pub fn unlisten(self: &Arc<Self>, channel: &str, mailbox: &Arc<Mailbox>) {
        if self.strike(channel, mailbox) {
            let (this, channel) = (self.clone(), channel.to_owned());
            tokio::spawn(async move { this.fall_silent(&channel).await });
        }
    }

    /// Everything that was committed before this call is in the mailboxes when it returns.
    pub async fn catch_up(self: &Arc<Self>) -> Result<(), ListenError> {
        let mut lines = self.lines.lock().await;
        // one that is lost is being replaced, and says so
        let open = lines.iter_mut().filter_map(|line| line.open.as_mut());
        let asked = open.map(|open| ask(open, ""));
        let asked = futures::future::join_all(asked).await;
        asked.into_iter().collect()
    }

    async fn catch_up_if_any(self: &Arc<Self>) {
        if let Err(error) = self.catch_up().await {
            tracing::debug!(%error, "the listening connection does not answer");
        }
    }

    /// A client has this server (its shard and process), and is going to notify. What others have said through it has been told
    /// as theirs by then.
    pub async fn speak(self: &Arc<Self>, server: (usize, i32), client: i32) -> Speaking {
        self.catch_up_if_any().await;
        self.speakers.lock().insert(server, client);
        Speaking {
            at: self.clone(),
            server,
            all_heard: false,
        }
    }

    /// True when nobody was there before.
    fn enlist(&self, channel: &str, mailbox: &Arc<Mailbox>) -> bool {
        let mut listeners = self.listeners.lock();
        let there = listeners.entry(channel.into()).or_default();
        there.retain(|known| known.strong_count() > 0);
        let first = there.is_empty();
        if !there
            .iter()
            .any(|known| known.ptr_eq(&Arc::downgrade(mailbox)))
        {
            there.push(Arc::downgrade(mailbox));
        }
        first
    }

    /// True when nobody is left.
    fn strike(&self, channel: &str, mailbox: &Arc<Mailbox>) -> bool {
        let mut listeners = self.listeners.lock();
        let Some(there) = listeners.get_mut(channel) else {
            return false;
        };
        there.retain(|known| known.strong_count() > 0 && !known.ptr_eq(&Arc::downgrade(mailbox)));
        let nobody = there.is_empty();
        if nobody {
            listeners.remove(channel);
        }
        nobody
    }

    async fn fall_silent(self: &Arc<Self>, channel: &str) {
        let mut lines = self.lines.lock().await;
        if self.listeners.lock().contains_key(channel) {
            return;
        }
        let sql = format!("UNLISTEN {}", quoted(channel));
        let silent = lines.iter_mut().map(|line| async {
            let Some(open) = &line.open else { return };
            if ask(open, &sql).await.is_err() {
                line.open = None;
            }
        });
        futures::future::join_all(silent).await;
    }

    async fn say(
        self: &Arc<Self>,
        line: &mut Line,
        shard: usize,
        sql: &str,
    ) -> Result<(), ListenError> {
        let Some(open) = line.open.as_mut().filter(|open| !open.is_closed()) else {
            let fresh = self.connect(shard).await?;
            self.repeat(&fresh).await?;
            line.open = Some(fresh);
            return Ok(());
        };
        let said = ask(open, sql).await;
        if said.is_err() {
            line.open = None;
        }
        said
    }

    async fn connect(
        self: &Arc<Self>,
        shard: usize,
    ) -> Result<tokio_postgres::Client, ListenError> {
        let (_, primary) = &self.place.primaries[shard];
        let (client, connection) = self.control.dial(primary, &self.place.database).await?;
        tokio::spawn(read(Arc::downgrade(self), shard, connection));
        Ok(client)
    }

    /// Listens to every channel that somebody wants.
    async fn repeat(&self, client: &tokio_postgres::Client) -> Result<(), ListenError> {
        let channels: Vec<Arc<str>> = self.listeners.lock().keys().cloned().collect();
        let all: Vec<String> = channels
            .iter()
            .map(|channel| format!("LISTEN {}", quoted(channel)))
            .collect();
        ask(client, &all.join(";")).await
    }

    fn deliver(&self, (shard, pid): (usize, i32), channel: &str, payload: &str) {
        let client = self.speakers.lock().get(&(shard, pid)).copied();
        let listeners = self.listeners.lock();
        let Some((channel, there)) = listeners.get_key_value(channel) else {
            return;
        };
        let notification = Notification {
            pid: client.unwrap_or(pid),
            channel: channel.clone(),
            payload: payload.into(),
        };
        for mailbox in there.iter().filter_map(Weak::upgrade) {
            mailbox.put(Mail::Said(notification.clone()), self.bytes_max);
        }
    }

    /// A connection was lost: another one takes its place as long as anybody listens, and everybody is told.
    fn look_for(self: &Arc<Self>, line: &mut Line, shard: usize) {
        line.open = None;
        if !std::mem::replace(&mut line.lost, true) {
            let repair: BoxFuture<'static, ()> = Box::pin(self.clone().repair(shard));
            tokio::spawn(repair);
        }
    }

    async fn note_lost(self: Arc<Self>, shard: usize) {
        let mut lines = self.lines.lock().await;
        // it may have been replaced already, or was closed because nobody listens
        if !lines[shard].is_open() && !self.listeners.lock().is_empty() {
            self.look_for(&mut lines[shard], shard);
        }
    }

    async fn repair(self: Arc<Self>, shard: usize) {
        let mut pause = PAUSE_MIN;
        loop {
            {
                // whoever comes now waits for the lines, and finds this one not lost but closed
                let mut lines = self.lines.lock().await;
                if self.listeners.lock().is_empty() {
                    lines[shard].lost = false;
                    return;
                }
            }
            // nobody has to wait while this one is dialled
            let fresh = self.connect(shard).await;
            {
                let mut lines = self.lines.lock().await;
                let line = &mut lines[shard];
                let idle = self.listeners.lock().is_empty();
                let heard = match fresh {
                    _ if idle || line.is_open() => Ok(()),
                    Ok(fresh) => {
                        let heard = self.repeat(&fresh).await;
                        line.open = heard.is_ok().then_some(fresh);
                        heard
                    }
                    Err(error) => Err(error),
                };
                let name = &self.place.primaries[shard].0;
                match heard {
                    Ok(()) => {
                        line.lost = false;
                        break self.tell_everybody(&Mail::Gap(name.clone()));
                    }
                    Err(error) => tracing::warn!(%error, shard = %name, "cannot listen on a shard"),
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn tell_everybody(&self, mail: &Mail) {
        let mut told: Vec<Arc<Mailbox>> = Vec::new();
        for there in self.listeners.lock().values() {
            for mailbox in there.iter().filter_map(Weak::upgrade) {
                if !told.iter().any(|known| Arc::ptr_eq(known, &mailbox)) {
                    told.push(mailbox);
                }
            }
        }
        for mailbox in told {
            mailbox.put(mail.clone(), self.bytes_max);
        }
    }
}

/// Reads until the connection ends.
async fn read(listeners: Weak<Notifications>, shard: usize, mut connection: ControlConnection) {
    loop {
        match poll_fn(|cx| connection.poll_message(cx)).await {
            Some(Ok(AsyncMessage::Notification(said))) => {
                let Some(listeners) = listeners.upgrade() else {
                    return;
                };
                let server = (shard, said.process_id());
                listeners.deliver(server, said.channel(), said.payload());
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => break,
        }
    }
    // from here on it is seen to be closed
    drop(connection);
    if let Some(listeners) = listeners.upgrade() {
        listeners.note_lost(shard).await;
    }
}

async fn ask(client: &tokio_postgres::Client, sql: &str) -> Result<(), ListenError> {
    match tokio::time::timeout(COMMAND_MAX, client.batch_execute(sql)).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(ListenError::TimedOut),
    }
}

fn quoted(channel: &str) -> String {
    format!("\"{}\"", channel.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(payload: &str) -> Mail {
        Mail::Said(Notification {
            pid: 7,
            channel: "news".into(),
            payload: payload.into(),
        })
    }

    #[test]
    fn mail_is_fetched_in_order_and_once() {
        let mailbox = Mailbox::default();
        assert!(mailbox.is_empty());
        mailbox.put(said("a"), 1000);
        mailbox.put(Mail::Gap("s1".into()), 1000);
        assert!(!mailbox.is_empty());
        assert_eq!(mailbox.fetch(), [said("a"), Mail::Gap("s1".into())]);
        assert!(mailbox.is_empty() && mailbox.fetch().is_empty());
    }

    #[test]
    fn a_full_mailbox_says_so_and_takes_nothing_more() {
        let mailbox = Mailbox::default();
        for _ in 0..10 {
            mailbox.put(said("a"), 150);
        }
        assert_eq!(mailbox.fetch(), [said("a"), said("a"), Mail::Overflow]);
    }

    #[test]
    fn a_channel_is_an_identifier_whatever_is_in_it() {
        assert_eq!(quoted("a\"b; DROP"), "\"a\"\"b; DROP\"");
    }
}
