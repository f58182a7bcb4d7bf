//! What a server still owes: one entry for each message sent that is answered, in the order sent.
//! It knows which reply ends which entry and whether the client is to see it; it holds no socket.

use bytes::Bytes;
use smallvec::SmallVec;
use std::collections::VecDeque;

/// Which message was sent, and so which reply ends the wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Parse of the statement with this identity (0: the unnamed statement's bookkeeping is done by the sender)
    Parse(u128),
    Bind,
    /// with the identity of the statement, where we have it closed to make room
    Close(Option<u128>),
    /// Describe of a statement whose last `n` parameters are ours and are not shown
    DescribeStatement {
        hidden: usize,
    },
    DescribePortal,
    Execute,
    Sync,
    /// any number of ReadyForQuery, up to whatever answers the next entry: how many Syncs a failed copy swallowed is
    /// not known
    Syncs,
    Query,
    /// Parse, Bind and Execute of our own BEGIN, with no Sync behind them
    Begin,
}

/// Who sees the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Forward,
    /// ours: dropped, an error in it is remembered
    Skip,
    /// ours, in the client's name: like Skip, and notices are the client's
    Notices,
    /// ours: like Skip, and the first column of each row is kept
    Capture,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outstanding {
    Await(Reply, Fate),
    /// a reply that no server sends: appended when everything before it has been answered
    Synthesize(Bytes),
}

/// The server said something that nothing in the queue explains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server is out of step: message '{}' where {expected} was due", char::from(*tag))]
pub struct OutOfStep {
    pub tag: u8,
    pub expected: &'static str,
}

#[derive(Debug, Default)]
pub struct Queue {
    entries: VecDeque<Outstanding>,
}

impl Queue {
    pub fn push(&mut self, entry: Outstanding) {
        self.entries.push_back(entry);
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The next reply that is due; synthetic ones in front of it must have been taken first.
    #[must_use]
    pub fn front(&self) -> Option<(Reply, Fate)> {
        match self.entries.front() {
            Some(Outstanding::Await(reply, fate)) => Some((*reply, *fate)),
            _ => None,
        }
    }

    pub fn take_synthetic(&mut self) -> Option<Bytes> {
        if !matches!(self.entries.front(), Some(Outstanding::Synthesize(_))) {
            return None;
        }
        match self.entries.pop_front() {
            Some(Outstanding::Synthesize(bytes)) => Some(bytes),
            _ => None,
        }
    }

    pub fn pop(&mut self) {
        self.entries.pop_front();
    }

    /// A copy failed: it is not known whether the Sync at the end was swallowed.
    pub fn doubt_sync(&mut self) {
        if let Some(Outstanding::Await(Reply::Sync, _)) = self.entries.back() {
            self.entries.pop_back();
        }
        self.push(Outstanding::Await(Reply::Syncs, Fate::Skip));
    }

    /// After an error outside a simple query the server ignores everything up to the next Sync, and so do we. Statements
    /// that it was to close are still there.
    pub fn drop_until_sync(&mut self) -> SmallVec<[u128; 1]> {
        let mut kept = SmallVec::new();
        while let Some(entry) = self.entries.front() {
            match entry {
                Outstanding::Await(Reply::Sync | Reply::Syncs, _) => break,
                Outstanding::Await(Reply::Close(Some(id)), _) => kept.push(*id),
                _ => {}
            }
            self.entries.pop_front();
        }
        kept
    }

    /// A Parse of this statement has been sent and is not answered yet.
    #[must_use]
    pub fn parse_due(&self, id: u128) -> bool {
        self.entries
            .iter()
            .any(|e| matches!(e, Outstanding::Await(Reply::Parse(due), _) if *due == id))
    }

    /// Named statements whose Parse is not answered yet.
    #[must_use]
    pub fn parses_due(&self) -> usize {
        self.entries
            .iter()
            .filter(|e| matches!(e, Outstanding::Await(Reply::Parse(id), _) if *id != 0))
            .count()
    }
}

/// What a message from the server does to the entry in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// belongs to the entry, which goes on
    Within,
    /// ends the entry
    Ends,
    Error,
    /// not an answer: ParameterStatus, notice, notification
    Aside,
}

/// Which effect a message with this tag has while `front` is due.
pub fn effect(tag: u8, front: Option<Reply>) -> Result<Effect, OutOfStep> {
    use Effect::{Aside, Ends, Error, Within};
    if matches!(tag, b'S' | b'N' | b'A') {
        return Ok(Aside);
    }
    let Some(reply) = front else {
        return if tag == b'E' {
            Ok(Error)
        } else {
            Err(OutOfStep {
                tag,
                expected: "nothing",
            })
        };
    };
    let (found, expected) = match (reply, tag) {
        (Reply::Query | Reply::Sync, b'Z') => (Some(Ends), ""),
        (Reply::Syncs, b'Z') => (Some(Within), ""),
        (_, b'E') => (Some(Error), ""),
        (Reply::Query, b'T' | b'D' | b'C' | b'I' | b'G' | b'H' | b'W' | b'd' | b'c' | b'V') => {
            (Some(Within), "")
        }
        (Reply::Query, _) => (None, "an answer to Query"),
        (Reply::Parse(_), b'1') | (Reply::Bind, b'2') | (Reply::Close(_), b'3') => (Some(Ends), ""),
        (Reply::DescribeStatement { .. }, b't') | (Reply::Begin, b'1' | b'2') => (Some(Within), ""),
        (Reply::DescribeStatement { .. } | Reply::DescribePortal, b'T' | b'n') => (Some(Ends), ""),
        (Reply::Execute, b'C' | b'I' | b's') | (Reply::Begin, b'C') => (Some(Ends), ""),
        (Reply::Execute, b'D' | b'G' | b'H' | b'W' | b'd' | b'c') => (Some(Within), ""),
        (Reply::Parse(_), _) => (None, "ParseComplete"),
        (Reply::Bind, _) => (None, "BindComplete"),
        (Reply::Close(_), _) => (None, "CloseComplete"),
        (Reply::DescribeStatement { .. } | Reply::DescribePortal, _) => (None, "a description"),
        (Reply::Execute, _) => (None, "rows or CommandComplete"),
        (Reply::Begin, _) => (None, "an answer to BEGIN"),
        (Reply::Sync | Reply::Syncs, _) => (None, "ReadyForQuery"),
    };
    found.ok_or(OutOfStep { tag, expected })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_drops_everything_up_to_the_sync() {
        let mut q = Queue::default();
        q.push(Outstanding::Await(Reply::Bind, Fate::Forward));
        q.push(Outstanding::Synthesize(Bytes::from_static(b"x")));
        q.push(Outstanding::Await(Reply::Close(Some(7)), Fate::Skip));
        q.push(Outstanding::Await(Reply::Sync, Fate::Skip));
        q.push(Outstanding::Await(Reply::Parse(1), Fate::Skip));
        assert_eq!(q.drop_until_sync().as_slice(), [7]);
        assert_eq!(q.front(), Some((Reply::Sync, Fate::Skip)));
    }

    #[test]
    fn a_doubtful_sync_takes_any_number_of_answers() {
        let mut q = Queue::default();
        q.push(Outstanding::Await(Reply::Execute, Fate::Forward));
        q.push(Outstanding::Await(Reply::Sync, Fate::Skip));
        q.doubt_sync();
        q.drop_until_sync();
        assert_eq!(q.front(), Some((Reply::Syncs, Fate::Skip)));
        assert_eq!(effect(b'Z', Some(Reply::Syncs)), Ok(Effect::Within));
        assert!(effect(b'D', Some(Reply::Syncs)).is_err());
    }

    #[test]
    fn an_answer_nobody_asked_for_is_out_of_step() {
        assert!(effect(b'D', None).is_err());
        assert!(effect(b'Z', Some(Reply::Bind)).is_err());
        assert!(effect(b'1', Some(Reply::Query)).is_err());
        assert_eq!(effect(b'S', None), Ok(Effect::Aside));
        assert_eq!(effect(b'C', Some(Reply::Query)), Ok(Effect::Within));
        assert_eq!(effect(b'C', Some(Reply::Execute)), Ok(Effect::Ends));
    }
}
