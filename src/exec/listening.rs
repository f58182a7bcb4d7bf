//! The channels a session listens to. LISTEN and UNLISTEN take effect with their transaction; notifications are told
//! between transactions, and those of the session's own before it is told that it may go on.

use super::executor::{Executor, Placement};
use super::failure::{Failure, Report};
use super::job::Job;
use super::transaction::{Heard, Transaction};
use crate::cluster::notifications::{Mail, Mailbox, Notification, Notifications};
use crate::pool::outstanding::Fate;
use crate::route::Targets;
use crate::sql::name::quote_ident;
use crate::wire::build::{self, Severity};
use crate::wire::sqlstate::SqlState;
use std::sync::Arc;
use std::task::Context;

/// What LISTEN and UNLISTEN ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    Listen(String),
    Unlisten(String),
    UnlistenAll,
}

/// A session that has listened.
pub struct Listening {
    at: Arc<Notifications>,
    mailbox: Arc<Mailbox>,
    channels: Vec<String>,
    /// something was written that may have notified the session itself
    pub expects: bool,
}

impl Drop for Listening {
    fn drop(&mut self) {
        for channel in std::mem::take(&mut self.channels) {
            self.at.unlisten(&channel, &self.mailbox);
        }
    }
}

impl Listening {
    fn new(at: Arc<Notifications>) -> Self {
        Self {
            at,
            mailbox: Arc::default(),
            channels: Vec::new(),
            expects: false,
        }
    }

    async fn listen(&mut self, channel: &str) -> Result<(), Report> {
        let heard = self.at.listen(channel, &self.mailbox).await;
        heard.map_err(|error| {
            Report::new(
                SqlState::CONNECTION_FAILURE,
                format!("cannot listen to channel \"{channel}\": {error}"),
            )
            .hint("pgshunt listens on the shards' primaries, and needs the home shard's; try again when it is back.")
        })?;
        self.channels.push(channel.to_owned());
        Ok(())
    }

    fn forget(&mut self, channel: &str) {
        self.channels.retain(|known| known != channel);
        self.at.unlisten(channel, &self.mailbox);
    }
}

/// The channels after these wishes, which are fulfilled in order.
fn after(wishes: &[Wish], mut channels: Vec<String>) -> Vec<String> {
    for wish in wishes {
        match wish {
            Wish::Listen(channel) if channels.contains(channel) => {}
            Wish::Listen(channel) => channels.push(channel.clone()),
            Wish::Unlisten(channel) => channels.retain(|known| known != channel),
            Wish::UnlistenAll => channels.clear(),
        }
    }
    channels
}

impl Executor {
    /// LISTEN or UNLISTEN: at once, or with the transaction around it.
    pub async fn wish(&mut self, wish: Wish) -> Result<(), Failure> {
        if let Some(tx) = &mut self.transaction {
            tx.heard.push(Heard::Wish(wish));
            return Ok(());
        }
        let wishes = [wish];
        self.begin_listening(&wishes).await?;
        self.end_listening(&wishes);
        Ok(())
    }

    /// Before the commit: from now on the new channels are heard. On failure nothing has changed.
    pub(super) async fn begin_listening(&mut self, wishes: &[Wish]) -> Result<(), Report> {
        let before = self.channels();
        let wanted = after(wishes, before.clone());
        let fresh: Vec<&String> = wanted.iter().filter(|c| !before.contains(c)).collect();
        if fresh.is_empty() {
            return Ok(());
        }
        let at = self.backend.notifications.clone();
        let listening = self
            .listening
            .get_or_insert_with(|| Box::new(Listening::new(at)));
        for channel in &fresh {
            if let Err(report) = listening.listen(channel).await {
                self.stay_with(&before);
                return Err(report);
            }
        }
        Ok(())
    }

    /// After the commit: nothing is heard any more of what is no longer wanted.
    pub(super) fn end_listening(&mut self, wishes: &[Wish]) {
        let wanted = after(wishes, self.channels());
        self.stay_with(&wanted);
    }

    /// Forgets all other channels.
    pub(super) fn stay_with(&mut self, wanted: &[String]) {
        let Some(listening) = &mut self.listening else {
            return;
        };
        for channel in listening.channels.clone() {
            if !wanted.contains(&channel) {
                listening.forget(&channel);
            }
        }
    }

    pub(super) fn channels(&self) -> Vec<String> {
        self.listening
            .as_ref()
            .map_or_else(Vec::new, |listening| listening.channels.clone())
    }

    #[must_use]
    pub fn listens(&self) -> bool {
        self.listening
            .as_ref()
            .is_some_and(|listening| !listening.channels.is_empty())
    }

    /// Before a statement that asks which channels the session listens to: a server that listens to them, too, for this one
    /// statement. It is closed afterwards, unless something pins it.
    pub async fn lend_channels(&mut self, job: &Job) -> Result<(), Failure> {
        let home = self.snapshot.database.home;
        let there = match &job.targets {
            Targets::One(shard) => *shard == home,
            Targets::None => self.any_shard() == home,
            Targets::Many(_) => false,
        };
        let within = self.transaction.is_some() || self.held.iter().any(|held| held.batch_open);
        if !there || within {
            return Err(Report::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "pg_listening_channels() in a transaction, or outside the home shard, of a session that listens",
            )
            .hint("Ask by a statement of its own.")
            .into());
        }
        let index = self.acquire(home, Placement::Primary).await?;
        let channels = self.channels();
        let listen = channels
            .iter()
            .map(|c| format!("LISTEN {}", quote_ident(c)));
        let listen = listen.collect::<Vec<_>>().join(";");
        let held = &mut self.held[index];
        if held.pin.is_none() {
            held.server.taint("it listens for another");
        }
        match held.run(&listen, Fate::Skip).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.lost(index, &error)),
        }
    }

    /// After it.
    pub async fn take_channels_back(&mut self) {
        let home = self.snapshot.database.home;
        if let Some(held) = self.held.iter_mut().find(|held| held.shard == home)
            && let Err(error) = held.run("UNLISTEN *", Fate::Skip).await
        {
            tracing::debug!(%error, "a server goes on listening");
            held.server.taint("it listens for another");
        }
    }

    /// Before a statement that notifies: listeners are told the client's number, not its server's.
    pub(super) async fn speak(&mut self, index: usize) {
        let held = &mut self.held[index];
        if held.speaks.is_some() || held.member.member != 0 {
            return;
        }
        let server = (held.shard.index(), held.server.pid);
        let speaks = self.backend.notifications.speak(server, self.pid).await;
        held.speaks = Some(Box::new(speaks));
    }

    /// The session has committed something that may have notified itself: it hears that before anything else.
    pub async fn hear_own(&mut self) {
        if self.transaction.is_some() {
            return;
        }
        let Some(listening) = self.listening.as_mut().filter(|l| l.expects) else {
            return;
        };
        listening.expects = false;
        if listening.channels.is_empty() {
            return;
        }
        if let Err(error) = listening.at.catch_up().await {
            tracing::debug!(%error, "the listening connection does not answer");
        }
    }

    /// True when there are notifications for the client; else the task is woken when there are.
    pub fn has_mail(&self, cx: &Context<'_>) -> bool {
        self.listening
            .as_ref()
            .is_some_and(|listening| listening.mailbox.poll(cx))
    }

    /// Tells what has come in, between transactions. An error ends the connection: something would be missing.
    pub fn tell_mail(&mut self) -> Result<(), Report> {
        let Some(listening) = &self.listening else {
            return Ok(());
        };
        if self.transaction.is_some() || listening.mailbox.is_empty() {
            return Ok(());
        }
        for mail in listening.mailbox.clone().fetch() {
            match mail {
                Mail::Moved => {
                    return Err(Report::new(
                        SqlState::ADMIN_SHUTDOWN,
                        "terminating connection: a shard has moved, and this session listened there",
                    )
                    .hint("Connect again and LISTEN again."));
                }
                Mail::Said(notification) => self.tell_notification(&notification)?,
                Mail::Gap(shard) => build::report(
                    &mut self.client.output,
                    Severity::Warning,
                    SqlState("01000"),
                    &format!(
                        "notifications may have been lost: the connection to shard {shard} was"
                    ),
                    None,
                ),
                Mail::Overflow => {
                    return Err(Report::new(
                        SqlState("53400"),
                        "terminating connection: more notifications wait for it than there is room for",
                    )
                    .hint("limits.notify_bytes_max in the shard map bounds them."));
                }
            }
        }
        Ok(())
    }

    fn tell_notification(&mut self, notification: &Notification) -> Result<(), Report> {
        let Notification {
            pid,
            channel,
            payload,
        } = notification;
        if !(channel.is_ascii() && payload.is_ascii() || self.reads_utf8()) {
            return Err(Report::new(
                SqlState("22P05"),
                "terminating connection: a notification cannot be said in its client_encoding",
            )
            .hint("Listen with client_encoding UTF8."));
        }
        build::notification(&mut self.client.output, *pid, channel, payload);
        Ok(())
    }

    pub fn reads_utf8(&self) -> bool {
        let encoding = self
            .reported
            .iter()
            .find(|(name, _)| name == "client_encoding");
        encoding.is_none_or(|(_, value)| matches!(value.as_str(), "UTF8" | "SQL_ASCII"))
    }
}

/// What a transaction wants to listen to when it commits.
pub(super) fn wishes(tx: &Transaction) -> Vec<Wish> {
    let wishes = tx.heard.iter().filter_map(|heard| match heard {
        Heard::Wish(wish) => Some(wish.clone()),
        _ => None,
    });
    wishes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_fulfilled_in_order() {
        let listen = |channel: &str| Wish::Listen(channel.into());
        let before = vec!["a".to_owned()];
        let wishes = [
            listen("b"),
            listen("b"),
            Wish::Unlisten("a".into()),
            listen("c"),
        ];
        assert_eq!(after(&wishes, before.clone()), ["b", "c"]);
        let wishes = [listen("b"), Wish::UnlistenAll, listen("d")];
        assert_eq!(after(&wishes, before), ["d"]);
    }
}
