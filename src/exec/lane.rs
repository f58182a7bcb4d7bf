//! Lanes: servers that the short reads of several clients share at a time. Their statements go out in one write, one behind
//! the other, and the answers come back in that order; each is its owner's alone.
//!
//! Only what may be run again rides here: a read in a transaction of its own, before anything of it was shown. So whatever
//! goes wrong (an error, a cancel that hit the neighbour, a server that dies, a statement that turns out long) costs
//! nobody anything: a rider whose answer does not come whole runs on a server of its own, as if it had never been here.

use super::cancel::send_cancel;
use super::job::Ask;
use crate::cluster::topology::ReadChoice;
use crate::config::ServerAddress;
use crate::pool::Checkout;
use crate::pool::server::{Answer, Filter, Server};
use crate::vars::Vars;
use bytes::BytesMut;
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::time::{Interval, MissedTickBehavior};

/// A lane looks this often whether it is idle, or held up by a statement that takes longer than was thought.
const TICK: Duration = Duration::from_millis(50);
/// After so many ticks it ends, so that its server is seen by its pool now and then.
const TICKS_MAX: u32 = 20;
/// Ticks without an answer after which a server that was sent a cancel is given up.
const DEAF_TICKS: u32 = 100;
/// Between two looks whether somebody waits for a server of his own.
const TURNS: u32 = 64;
/// An answer longer than this does not travel with others.
const ANSWER_MAX: usize = 64 * 1024;

/// The lanes of one pool.
#[derive(Default)]
pub struct Lanes {
    lanes: Mutex<Vec<Arc<Lane>>>,
    riders: AtomicUsize,
    /// statements that were answered on one
    shared: AtomicU64,
}

/// One server that is shared.
pub struct Lane {
    /// settings of its server
    vars: Vars,
    /// when its server was connected to
    born: Instant,
    /// those that are not sent yet
    waiting: Mutex<VecDeque<Box<Passage>>>,
    /// riders may come on board: changed only under the lock of `waiting`
    open: AtomicBool,
    /// riders whose answer has not come
    riders: AtomicUsize,
    /// a rider has left before its answer came
    left: AtomicBool,
    bell: AtomicWaker,
}

/// One statement and what comes of it.
pub struct Passage {
    pub ask: Ask,
    pub sink: BytesMut,
    pub answer: Answer,
    /// what the client was told of its parameters (`pool::server::parameters_hash`)
    pub told: u64,
    /// as the server reports them, where that differs
    pub parameters: Option<Vec<(String, String)>>,
    /// from when the server could begin to its answer
    pub took: Duration,
    back: Option<oneshot::Sender<Box<Passage>>>,
}

/// A rider's place: dropped before the answer has come, the statement is stopped.
pub struct Riding {
    lane: Arc<Lane>,
    answer: oneshot::Receiver<Box<Passage>>,
    arrived: bool,
}

impl Riding {
    /// The answer; None: it does not come, and nothing of it was shown.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Box<Passage>>> {
        let polled = Pin::new(&mut self.answer).poll(cx);
        self.arrived = polled.is_ready();
        polled.map(Result::ok)
    }
}

impl Drop for Riding {
    fn drop(&mut self) {
        if !self.arrived {
            self.lane.left.store(true, Ordering::SeqCst);
            self.lane.close();
        }
    }
}

impl Passage {
    #[must_use]
    pub fn new(ask: Ask, told: u64) -> Box<Self> {
        Box::new(Self {
            ask,
            sink: BytesMut::new(),
            answer: Answer::default(),
            told,
            parameters: None,
            took: Duration::ZERO,
            back: None,
        })
    }

    /// Nobody waits for its answer.
    fn is_left(&self) -> bool {
        self.back.as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}

impl Lane {
    fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    fn close(&self) {
        let waiting = self.waiting.lock();
        self.open.store(false, Ordering::Relaxed);
        drop(waiting);
        self.bell.wake();
    }

    /// The passage again when it is too late.
    fn take_on(
        &self,
        mut passage: Box<Passage>,
    ) -> Result<oneshot::Receiver<Box<Passage>>, Box<Passage>> {
        let mut waiting = self.waiting.lock();
        if !self.is_open() {
            return Err(passage);
        }
        let (back, answer) = oneshot::channel();
        passage.back = Some(back);
        waiting.push_back(passage);
        drop(waiting);
        self.bell.wake();
        Ok(answer)
    }

    /// The last ones that came on board; nobody follows them.
    fn end(&self) -> VecDeque<Box<Passage>> {
        let mut waiting = self.waiting.lock();
        self.open.store(false, Ordering::Relaxed);
        std::mem::take(&mut waiting)
    }

    /// Nobody waits on board and nobody will come.
    fn is_deserted(&self) -> bool {
        let waiting = self.waiting.lock();
        waiting.is_empty() && !self.is_open()
    }
}

impl Lanes {
    /// Statements under way.
    #[must_use]
    pub fn riders(&self) -> usize {
        self.riders.load(Ordering::Relaxed)
    }

    /// Statements that were answered on one of them.
    #[must_use]
    pub fn shared(&self) -> u64 {
        self.shared.load(Ordering::Relaxed)
    }

    /// A place on the least busy lane whose server has these settings and may serve this read; the passage again where
    /// there is none with fewer riders than `most`.
    pub fn board(
        self: &Arc<Self>,
        vars: &mut Vars,
        choice: &ReadChoice,
        passage: Box<Passage>,
        most: usize,
    ) -> Result<Riding, Box<Passage>> {
        let lane = {
            let lanes = self.lanes.lock();
            let fits = lanes
                .iter()
                .filter(|lane| lane.is_open() && vars.agree(&lane.vars))
                .filter(|lane| choice.admits(lane.born));
            let busy = |lane: &&Arc<Lane>| lane.riders.load(Ordering::Relaxed);
            fits.min_by_key(busy)
                .filter(|lane| busy(lane) < most)
                .cloned()
        };
        match lane {
            Some(lane) => self.ride(lane, passage),
            None => Err(passage),
        }
    }

    fn ride(&self, lane: Arc<Lane>, passage: Box<Passage>) -> Result<Riding, Box<Passage>> {
        // before it is on board: from then on its answer may come and be counted off
        self.count_on(&lane);
        match lane.take_on(passage) {
            Ok(answer) => Ok(Riding {
                lane,
                answer,
                arrived: false,
            }),
            Err(passage) => {
                self.count_off(&lane);
                Err(passage)
            }
        }
    }

    fn count_on(&self, lane: &Lane) {
        lane.riders.fetch_add(1, Ordering::Relaxed);
        self.riders.fetch_add(1, Ordering::Relaxed);
    }

    fn count_off(&self, lane: &Lane) {
        lane.riders.fetch_sub(1, Ordering::Relaxed);
        self.riders.fetch_sub(1, Ordering::Relaxed);
    }

    /// A lane on this server, with its first rider. The server is clean and has the settings of its riders.
    pub fn open(
        self: &Arc<Self>,
        server: Checkout<Server>,
        address: ServerAddress,
        passage: Box<Passage>,
    ) -> Result<Riding, Box<Passage>> {
        let lane = Arc::new(Lane {
            vars: server.vars.clone(),
            born: server.info.born,
            waiting: Mutex::default(),
            open: AtomicBool::new(true),
            riders: AtomicUsize::new(0),
            left: AtomicBool::new(false),
            bell: AtomicWaker::new(),
        });
        let riding = self.ride(lane.clone(), passage)?;
        self.lanes.lock().push(lane.clone());
        tokio::spawn(Driver::new(self.clone(), lane, server, address).run());
        Ok(riding)
    }

    /// Somebody waits for a server of his own: the least busy lane that is not about to end does so.
    pub fn recall(&self) {
        let lanes = self.lanes.lock();
        let busy = |lane: &&Arc<Lane>| lane.riders.load(Ordering::Relaxed);
        if let Some(lane) = lanes.iter().filter(|lane| lane.is_open()).min_by_key(busy) {
            lane.close();
        }
    }
}

/// Works a lane's server until nobody rides any more.
struct Driver {
    lanes: Arc<Lanes>,
    lane: Arc<Lane>,
    server: Checkout<Server>,
    address: ServerAddress,
    sent: VecDeque<Box<Passage>>,
    taken: VecDeque<Box<Passage>>,
    tick: Interval,
    ticks: u32,
    /// answers since the last look at the pool's queue
    turns: u32,
    /// ticks since the last answer, or since something was sent
    silent: u32,
    /// when the server could begin with the first of those sent
    begun: Instant,
    stopping: Option<Stopping>,
    /// the first of those sent has been cancelled
    stopped: bool,
    /// a cancel may still arrive
    doubtful: bool,
}

type Stopping = Pin<Box<dyn Future<Output = bool> + Send>>;

/// The server is of no use any more.
struct Broken;

impl Driver {
    fn new(
        lanes: Arc<Lanes>,
        lane: Arc<Lane>,
        server: Checkout<Server>,
        address: ServerAddress,
    ) -> Self {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick.reset();
        Self {
            lanes,
            lane,
            server,
            address,
            sent: VecDeque::new(),
            taken: VecDeque::new(),
            tick,
            ticks: 0,
            turns: 0,
            silent: 0,
            begun: Instant::now(),
            stopping: None,
            stopped: false,
            doubtful: false,
        }
    }

    async fn run(mut self) {
        let worked = poll_fn(|cx| self.poll_work(cx)).await;
        let Self {
            lanes,
            lane,
            server,
            doubtful,
            mut sent,
            ..
        } = self;
        let mut left = lane.end();
        lanes
            .lanes
            .lock()
            .retain(|other| !Arc::ptr_eq(other, &lane));
        for _ in left.iter().chain(&sent) {
            lanes.count_off(&lane);
        }
        if worked.is_ok() && !doubtful && server.is_clean() {
            server.info.note_idle(server.prepared_len(), Instant::now());
            server.check_in();
        } else {
            server.close();
        }
        // now that a server may be free: these run on one of their own
        left.clear();
        sent.clear();
    }

    fn poll_work(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        loop {
            self.lane.bell.register(cx.waker());
            self.compose();
            if self.server.unsent() > 0
                && let Poll::Ready(Err(_)) = self.server.poll_send(cx)
            {
                return Poll::Ready(Err(Broken));
            }
            match self.server.poll_fill(cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Broken)),
                Poll::Ready(Ok(_)) => {
                    self.hand_out()?;
                    continue;
                }
                Poll::Pending => {}
            }
            self.poll_stop(cx);
            if self.tick.poll_tick(cx).is_ready() {
                self.look_around()?;
                continue;
            }
            if self.sent.is_empty() && self.stopping.is_none() && self.lane.is_deserted() {
                return Poll::Ready(Ok(()));
            }
            return Poll::Pending;
        }
    }

    /// What came on board since is asked.
    fn compose(&mut self) {
        std::mem::swap(&mut *self.lane.waiting.lock(), &mut self.taken);
        if self.taken.is_empty() {
            return;
        }
        if self.sent.is_empty() {
            self.begun = Instant::now();
            self.silent = 0;
        }
        for passage in self.taken.drain(..) {
            // whether the one before leaves its unnamed statement behind is not known yet
            self.server.unnamed = None;
            passage.ask.compose(&mut self.server);
            self.sent.push_back(passage);
        }
    }

    /// Each answer that has come in whole goes to its owner.
    fn hand_out(&mut self) -> Result<(), Broken> {
        let mut now = None;
        while let Some(first) = self.sent.front_mut() {
            let ended = self
                .server
                .digest_one(Filter::All, &mut first.sink, &mut first.answer)
                .map_err(|_| Broken)?;
            if !ended {
                if first.is_left() {
                    first.sink = BytesMut::new();
                } else if first.sink.len() > ANSWER_MAX {
                    first.back = None;
                    first.sink = BytesMut::new();
                    self.lane.left.store(true, Ordering::SeqCst);
                    self.lane.close();
                }
                break;
            }
            let now = *now.get_or_insert_with(Instant::now);
            let Some(mut passage) = self.sent.pop_front() else {
                break;
            };
            self.silent = 0;
            self.stopped = false;
            self.turns += 1;
            passage.took = now.saturating_duration_since(self.begun);
            self.begun = now;
            self.lanes.count_off(&self.lane);
            self.deliver(passage);
        }
        if self.turns >= TURNS {
            self.make_room();
        }
        if self.sent.is_empty() {
            // what comes unasked: a parameter after a reload, or the server's last words
            let (mut nothing, mut answer) = (BytesMut::new(), Answer::default());
            self.server
                .digest(Filter::Errors, &mut nothing, &mut answer)
                .map_err(|_| Broken)?;
        }
        if self.server.is_tainted() {
            Err(Broken)
        } else {
            Ok(())
        }
    }

    fn deliver(&mut self, mut passage: Box<Passage>) {
        let answer = &passage.answer;
        if answer.error.is_some() || answer.own_error.is_some() {
            return;
        }
        if self.server.parameters_hash() != passage.told {
            passage.parameters = Some(self.server.parameters.clone());
        }
        self.lanes.shared.fetch_add(1, Ordering::Relaxed);
        if let Some(back) = passage.back.take() {
            // one who has left needs no answer
            let _ = back.send(passage);
        }
    }

    /// The statement at the server of one who has left is cancelled. It may hit the next one, which runs again then.
    fn poll_stop(&mut self, cx: &mut Context<'_>) {
        if !self.lane.left.load(Ordering::Relaxed) {
            return;
        }
        let first_is_left = self.sent.front().is_some_and(|first| first.is_left());
        if self.stopping.is_none() && !self.stopped && first_is_left {
            self.stopped = true;
            let (address, pid, secret) =
                (self.address.clone(), self.server.pid, self.server.secret);
            self.stopping = Some(Box::pin(
                async move { send_cancel(&address, pid, secret).await },
            ));
        }
        if let Some(stopping) = &mut self.stopping
            && let Poll::Ready(arrived) = stopping.as_mut().poll(cx)
        {
            self.doubtful |= !arrived;
            self.stopping = None;
        }
    }

    /// The lane ends for those who wait for a server of their own.
    fn make_room(&mut self) {
        self.turns = 0;
        if self.server.pool().has_waiters() {
            self.lane.close();
        }
    }

    /// Once a tick: is the lane idle, or does the first hold up the others?
    fn look_around(&mut self) -> Result<(), Broken> {
        self.ticks += 1;
        self.silent += 1;
        self.make_room();
        if self.sent.is_empty() || self.ticks > TICKS_MAX {
            self.lane.close();
        }
        if self.silent > 1 && self.sent.len() > 1 {
            // they have waited for one that was thought to be short: they run elsewhere, their answers here are dropped
            for behind in self.sent.iter_mut().skip(1) {
                behind.back = None;
            }
            self.lane.close();
        }
        if self.stopped && self.silent > DEAF_TICKS {
            return Err(Broken);
        }
        Ok(())
    }
}
