//! Fairness, cancellation and bounds, with plain numbers as servers; then random histories against the invariants.

use super::*;
use crate::config::{Pins, PoolMode};
use futures::FutureExt;
use futures::future::BoxFuture;
use proptest::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

pub fn settings(size: usize) -> PoolSettings {
    PoolSettings {
        mode: PoolMode::Transaction,
        size,
        size_min: 0,
        waiters_max: 1000,
        wait_max: Duration::from_secs(60),
        connect_timeout: Duration::from_secs(5),
        idle_max: Duration::from_secs(600),
        lifetime_max: Duration::from_secs(3600),
        prepared_max: 100,
        pipeline_max: 1,
        pipeline_time_max: Duration::from_millis(5),
        pins: Pins::Allowed,
        verify: false,
    }
}

fn pool_of<S>(settings: PoolSettings) -> Arc<Pool<S>> {
    let name = PoolName {
        server: "s1".into(),
        user: "app".into(),
        database: "social".into(),
    };
    let ceiling = Ceiling::new(usize::MAX);
    Pool::with_dial_backoff(name, settings, ceiling, Duration::from_millis(50))
}

pub fn failure() -> DialFailure {
    DialFailure {
        code: "08001".into(),
        message: "connection refused".into(),
        hint: None,
    }
}

/// Takes a server, dialling if need be.
pub async fn take(pool: &Arc<Pool<u32>>) -> Checkout<u32> {
    match pool.checkout(None).await.unwrap() {
        Lease::Ready(checkout) => checkout,
        Lease::Dial(permit) => permit.fulfil(7),
    }
}

fn servers(retired: Vec<Retired<u32>>) -> Vec<u32> {
    let mut servers = Vec::new();
    for one in retired {
        one.close_with(|server| servers.push(server));
    }
    servers
}

pub type Pending<S> = BoxFuture<'static, Result<Lease<S>, CheckoutError>>;

pub fn ask<S: Send + 'static>(pool: &Arc<Pool<S>>) -> Pending<S> {
    let pool = pool.clone();
    async move { pool.checkout(None).await }.boxed()
}

pub fn poll<S>(pending: &mut Pending<S>) -> Poll<Result<Lease<S>, CheckoutError>> {
    pending
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn the_first_to_come_is_the_first_served() {
    let pool = pool_of(settings(1));
    let held = take(&pool).await;
    let mut queue: Vec<_> = (0..50).map(|_| ask(&pool)).collect();
    for pending in &mut queue {
        assert!(poll(pending).is_pending());
    }
    assert!(pool.try_checkout(None).is_none());
    assert_eq!(pool.status().waiting, 50);
    held.check_in();
    for at in 0..50 {
        for later in &mut queue[at + 1..] {
            assert!(poll(later).is_pending());
        }
        let Poll::Ready(Ok(Lease::Ready(server))) = poll(&mut queue[at]) else {
            panic!("place {at} was not served")
        };
        server.check_in();
    }
    assert_eq!(pool.status().totals.dials, 1);
}

#[tokio::test]
async fn two_hundred_clients_on_ten_servers_are_served_alike() {
    let pool = pool_of(settings(10));
    let served: Arc<Vec<AtomicUsize>> = Arc::new((0..200).map(|_| AtomicUsize::new(0)).collect());
    let tasks: Vec<_> = (0..200)
        .map(|client| {
            let (pool, served) = (pool.clone(), served.clone());
            tokio::spawn(async move {
                loop {
                    let server = take(&pool).await;
                    tokio::task::yield_now().await;
                    served[client].fetch_add(1, Ordering::Relaxed);
                    server.check_in();
                }
            })
        })
        .collect();
    while served
        .iter()
        .map(|n| n.load(Ordering::Relaxed))
        .sum::<usize>()
        < 20_000
    {
        tokio::task::yield_now().await;
    }
    let counts: Vec<_> = served.iter().map(|n| n.load(Ordering::Relaxed)).collect();
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(least + 2 >= *most, "{least}..{most}");
    assert!(pool.status().totals.dials <= 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_cancellations_loses_no_server() {
    let pool = pool_of(settings(5));
    let clients: Vec<_> = (0..100u64)
        .map(|client| {
            let pool = pool.clone();
            tokio::spawn(async move {
                for turn in 0..100u64 {
                    let patience = Duration::from_micros((client * 37 + turn * 101) % 400);
                    if let Ok(server) = tokio::time::timeout(patience, take(&pool)).await {
                        tokio::task::yield_now().await;
                        if turn % 7 == 0 {
                            server.close();
                        } else {
                            server.check_in();
                        }
                    }
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let status = pool.status();
    assert_eq!(
        (status.in_use, status.dialling, status.waiting),
        (0, 0, 0),
        "{status:?}"
    );
    assert!(status.idle <= 5);
    let all: Vec<_> = futures::future::join_all((0..5).map(|_| take(&pool))).await;
    assert_eq!(all.len(), 5);
}

#[tokio::test]
async fn a_server_handed_to_a_client_that_has_gone_goes_to_the_next() {
    let pool = pool_of(settings(1));
    let held = take(&pool).await;
    let (mut gone, mut next) = (ask(&pool), ask(&pool));
    assert!(poll(&mut gone).is_pending() && poll(&mut next).is_pending());
    held.check_in();
    // the hand-off has arrived, and is never looked at
    drop(gone);
    let Poll::Ready(Ok(Lease::Ready(server))) = poll(&mut next) else {
        panic!("lost")
    };
    assert_eq!(*server, 7);
}

#[tokio::test]
async fn a_right_to_dial_that_is_dropped_goes_to_the_next() {
    let pool = pool_of::<u32>(settings(1));
    let Ok(Lease::Dial(permit)) = pool.checkout(None).await else {
        panic!()
    };
    let mut next = ask(&pool);
    assert!(poll(&mut next).is_pending());
    drop(permit);
    assert!(matches!(poll(&mut next), Poll::Ready(Ok(Lease::Dial(_)))));
}

#[tokio::test]
async fn a_dropped_server_is_closed_and_its_slot_dialled_anew() {
    let pool = pool_of(settings(1));
    let held = take(&pool).await;
    let mut next = ask(&pool);
    assert!(poll(&mut next).is_pending());
    drop(held);
    assert!(matches!(poll(&mut next), Poll::Ready(Ok(Lease::Dial(_)))));
    assert_eq!(pool.status().totals.closes, 1);
}

#[tokio::test]
async fn who_waits_too_long_is_told_who_holds_and_leaves_the_queue() {
    let pool = pool_of(PoolSettings {
        wait_max: Duration::from_millis(30),
        ..settings(1)
    });
    let held = take(&pool).await;
    let Err(error) = pool.checkout(None).await else {
        panic!()
    };
    assert!(
        error
            .to_string()
            .ends_with("s for a server of pool s1/app/social: all 1 in use, 1 client waiting"),
        "{error}"
    );
    assert_eq!(error.code(), "53300");
    let status = pool.status();
    assert_eq!((status.waiting, status.totals.timeouts), (0, 1));
    held.check_in();
    assert_eq!(pool.status().idle, 1);
}

#[tokio::test]
async fn the_queue_is_bounded() {
    let pool = pool_of(PoolSettings {
        waiters_max: 1,
        ..settings(1)
    });
    let _held = take(&pool).await;
    let mut first = ask(&pool);
    assert!(poll(&mut first).is_pending());
    assert!(matches!(
        pool.checkout(None).await,
        Err(CheckoutError::QueueFull { .. })
    ));
}

#[tokio::test]
async fn a_failed_dial_answers_for_the_others_for_a_moment() {
    let pool = pool_of::<u32>(settings(1));
    let Ok(Lease::Dial(permit)) = pool.checkout(None).await else {
        panic!()
    };
    let mut waiting = ask(&pool);
    assert!(poll(&mut waiting).is_pending());
    permit.fail(failure());
    assert!(matches!(
        poll(&mut waiting),
        Poll::Ready(Err(CheckoutError::Unreachable { .. }))
    ));
    let Err(error) = pool.checkout(None).await else {
        panic!("dialled again at once")
    };
    assert_eq!(
        error.to_string(),
        "no server of pool s1/app/social: connection refused"
    );
    assert!(pool.try_checkout(None).is_none());
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert!(matches!(pool.checkout(None).await, Ok(Lease::Dial(_))));
}

#[tokio::test]
async fn while_another_server_lives_a_failed_dial_leaves_the_waiters_in_the_queue() {
    let pool = pool_of(settings(2));
    let held = take(&pool).await;
    let Ok(Lease::Dial(permit)) = pool.checkout(None).await else {
        panic!()
    };
    permit.fail(failure());
    let mut waiting = ask(&pool);
    assert!(poll(&mut waiting).is_pending());
    held.check_in();
    assert!(matches!(
        poll(&mut waiting),
        Poll::Ready(Ok(Lease::Ready(_)))
    ));
}

#[tokio::test]
async fn a_sweep_serves_those_whom_a_failed_dial_held_back() {
    let pool = pool_of(settings(2));
    let _held = take(&pool).await;
    let Ok(Lease::Dial(permit)) = pool.checkout(None).await else {
        panic!()
    };
    permit.fail(failure());
    let mut waiting = ask(&pool);
    assert!(poll(&mut waiting).is_pending());
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert!(pool.sweep(Instant::now()).dials.is_empty());
    assert!(matches!(
        poll(&mut waiting),
        Poll::Ready(Ok(Lease::Dial(_)))
    ));
}

#[tokio::test]
async fn pause_lends_nothing_and_resume_serves_in_order() {
    let pool = pool_of(settings(1));
    take(&pool).await.check_in();
    pool.pause();
    let (mut first, mut second) = (ask(&pool), ask(&pool));
    assert!(poll(&mut first).is_pending() && poll(&mut second).is_pending());
    pool.resume();
    assert!(poll(&mut second).is_pending());
    assert!(matches!(poll(&mut first), Poll::Ready(Ok(Lease::Ready(_)))));
}

#[tokio::test]
async fn close_all_closes_the_idle_now_and_the_lent_when_they_return() {
    let pool = pool_of(settings(2));
    let (lent, idle) = (take(&pool).await, take(&pool).await);
    idle.check_in();
    let Some(Lease::Ready(again)) = pool.try_checkout(None) else {
        panic!()
    };
    again.check_in();
    assert_eq!(servers(pool.close_all()), vec![7]);
    lent.check_in();
    assert_eq!((pool.status().idle, pool.status().in_use), (0, 0));
    assert!(matches!(pool.checkout(None).await, Ok(Lease::Dial(_))));
}

#[tokio::test]
async fn a_closed_pool_turns_everybody_away() {
    let pool = pool_of(settings(1));
    let held = take(&pool).await;
    let mut waiting = ask(&pool);
    assert!(poll(&mut waiting).is_pending());
    pool.close();
    assert!(matches!(
        poll(&mut waiting),
        Poll::Ready(Err(CheckoutError::Closed { .. }))
    ));
    assert!(matches!(
        pool.checkout(None).await,
        Err(CheckoutError::Closed { .. })
    ));
    held.check_in();
    assert_eq!(pool.status().idle, 0);
}

#[tokio::test]
async fn resize_grows_for_waiters_and_shrinks_by_closing() {
    let pool = pool_of(settings(1));
    let held = take(&pool).await;
    let mut waiting = ask(&pool);
    assert!(poll(&mut waiting).is_pending());
    pool.resize(2);
    let Poll::Ready(Ok(Lease::Dial(permit))) = poll(&mut waiting) else {
        panic!()
    };
    let second = permit.fulfil(8);
    pool.resize(1);
    held.check_in();
    second.check_in();
    assert_eq!((pool.status().idle, pool.status().in_use), (1, 0));
}

#[tokio::test]
async fn the_old_are_closed_at_check_in_and_by_the_sweep_and_the_minimum_is_dialled() {
    let pool = pool_of(PoolSettings {
        size_min: 2,
        ..settings(4)
    });
    let (lent, idle) = (take(&pool).await, take(&pool).await);
    idle.check_in();
    let late = Instant::now() + Duration::from_secs(2 * 3600);
    let sweep = pool.sweep(late);
    assert_eq!(servers(sweep.closed), vec![7]);
    assert!(sweep.dials.is_empty(), "nobody has used the pool for hours");
    lent.check_in();
    assert_eq!(pool.status().idle, 0, "past its lifetime");
    let fresh = take(&pool).await;
    assert_eq!(
        pool.sweep(late).dials.len(),
        1,
        "in use again: two are kept"
    );
    drop(fresh);
}

#[tokio::test]
async fn a_server_found_dead_is_replaced_in_its_slot() {
    let pool = pool_of(settings(1));
    let dead = take(&pool).await;
    let mut waiting = ask(&pool);
    assert!(poll(&mut waiting).is_pending());
    let (server, permit) = dead.replace();
    assert_eq!((server, pool.status().dialling), (7, 1));
    assert!(poll(&mut waiting).is_pending());
    permit.fulfil(8).check_in();
    assert!(matches!(poll(&mut waiting), Poll::Ready(Ok(Lease::Ready(server))) if *server == 8));
}

#[tokio::test]
async fn the_dead_among_the_idle_are_culled() {
    let pool = pool_of(settings(3));
    let held: Vec<_> = (0..3)
        .map(|n| match pool.try_checkout(None) {
            Some(Lease::Dial(permit)) => permit.fulfil(n),
            _ => panic!(),
        })
        .collect();
    held.into_iter().for_each(Checkout::check_in);
    assert_eq!(servers(pool.cull(|server| *server != 1)), vec![1]);
    assert_eq!(pool.status().idle, 2);
}

/// A server that is counted while it lives.
pub struct Counted(Arc<AtomicUsize>);

impl Counted {
    pub fn new(living: &Arc<AtomicUsize>) -> Self {
        living.fetch_add(1, Ordering::Relaxed);
        Self(living.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Ask,
    PollAll,
    GiveUp(usize),
    CheckIn(usize),
    Drop(usize),
    Fulfil(usize),
    Fail(usize),
    Abandon(usize),
    Replace(usize),
    Pause,
    Resume,
    Resize(usize),
    CloseAll,
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    let at = 0..64usize;
    prop_oneof![
        6 => Just(Step::Ask),
        4 => Just(Step::PollAll),
        2 => at.clone().prop_map(Step::GiveUp),
        4 => at.clone().prop_map(Step::CheckIn),
        1 => at.clone().prop_map(Step::Drop),
        5 => at.clone().prop_map(Step::Fulfil),
        1 => at.clone().prop_map(Step::Fail),
        1 => at.clone().prop_map(Step::Abandon),
        1 => at.clone().prop_map(Step::Replace),
        1 => Just(Step::Pause),
        2 => Just(Step::Resume),
        1 => (1..5usize).prop_map(Step::Resize),
        1 => Just(Step::CloseAll),
        1 => Just(Step::Sweep),
    ]
}

/// What the clients of one history hold.
struct World {
    pool: Arc<Pool<Counted>>,
    living: Arc<AtomicUsize>,
    /// in the order in which they asked
    asking: Vec<Pending<Counted>>,
    lent: Vec<Checkout<Counted>>,
    permits: Vec<DialPermit<Counted>>,
    size: usize,
    paused: bool,
}

impl World {
    fn new() -> Self {
        let name = PoolName {
            server: "s1".into(),
            user: "app".into(),
            database: "social".into(),
        };
        // with no backoff a failure holds nobody back: the invariant about waiters is sharp
        let pool =
            Pool::with_dial_backoff(name, settings(3), Ceiling::new(usize::MAX), Duration::ZERO);
        let (asking, lent, permits) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            pool,
            living: Arc::default(),
            asking,
            lent,
            permits,
            size: 3,
            paused: false,
        }
    }

    fn keep(&mut self, lease: Lease<Counted>) {
        match lease {
            Lease::Ready(checkout) => self.lent.push(checkout),
            Lease::Dial(permit) => self.permits.push(permit),
        }
    }

    /// Everybody looks, the first comers first: once one has to wait, nobody behind it may be served.
    fn poll_all(&mut self) {
        let mut still = Vec::new();
        for mut pending in std::mem::take(&mut self.asking) {
            match poll(&mut pending) {
                Poll::Ready(Ok(lease)) => {
                    assert!(still.is_empty(), "served before one who came earlier");
                    self.keep(lease);
                }
                Poll::Ready(Err(CheckoutError::Unreachable { .. })) => {}
                Poll::Ready(Err(error)) => panic!("{error}"),
                Poll::Pending => still.push(pending),
            }
        }
        self.asking = still;
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Ask => {
                let mut pending = ask(&self.pool);
                match poll(&mut pending) {
                    Poll::Ready(lease) => self.keep(lease.unwrap()),
                    Poll::Pending => self.asking.push(pending),
                }
            }
            Step::PollAll => self.poll_all(),
            Step::GiveUp(at) => drop(pick(&mut self.asking, at)),
            Step::CheckIn(at) => pick(&mut self.lent, at)
                .into_iter()
                .for_each(Checkout::check_in),
            Step::Drop(at) => drop(pick(&mut self.lent, at)),
            Step::Fulfil(at) => {
                if let Some(permit) = pick(&mut self.permits, at) {
                    self.lent.push(permit.fulfil(Counted::new(&self.living)));
                }
            }
            Step::Fail(at) => {
                drop(pick(&mut self.permits, at).map(|permit| permit.fail(failure())));
            }
            Step::Abandon(at) => drop(pick(&mut self.permits, at)),
            Step::Replace(at) => {
                if let Some(lent) = pick(&mut self.lent, at) {
                    self.permits.push(lent.replace().1);
                }
            }
            Step::Pause | Step::Resume => {
                self.paused = matches!(step, Step::Pause);
                if self.paused {
                    self.pool.pause();
                } else {
                    self.pool.resume();
                }
            }
            Step::Resize(size) => {
                self.size = size;
                self.pool.resize(size);
            }
            Step::CloseAll => drop(self.pool.close_all()),
            Step::Sweep => self.permits.extend(self.pool.sweep(Instant::now()).dials),
        }
    }

    fn check(&self) {
        let status = self.pool.status();
        let open = status.idle + status.in_use + status.dialling;
        let held_back = self.paused || open >= self.size;
        assert!(
            status.waiting == 0 || held_back,
            "a client waits for nothing: {status:?}"
        );
        assert!(
            status.waiting == 0 || status.idle == 0 || self.paused,
            "{status:?}"
        );
        assert_eq!(
            self.living.load(Ordering::Relaxed),
            status.idle + status.in_use,
            "{status:?}"
        );
        assert!(
            status.in_use >= self.lent.len() && status.dialling >= self.permits.len(),
            "{status:?}"
        );
    }

    fn settle(mut self) {
        self.pool.resume();
        self.paused = false;
        self.poll_all();
        self.check();
        let status = self.pool.status();
        assert_eq!(
            (status.in_use, status.dialling),
            (self.lent.len(), self.permits.len()),
            "{status:?}"
        );
        assert_eq!(status.waiting, self.asking.len());
        drop((self.asking, self.lent, self.permits));
        let status = self.pool.status();
        assert_eq!((status.in_use, status.dialling, status.waiting), (0, 0, 0));
        assert_eq!(self.living.load(Ordering::Relaxed), status.idle);
    }
}

pub fn pick<T>(from: &mut Vec<T>, at: usize) -> Option<T> {
    if from.is_empty() {
        None
    } else {
        Some(from.remove(at % from.len()))
    }
}

proptest! {
    #[test]
    fn every_history_keeps_the_books(steps in prop::collection::vec(step(), 1..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _inside = runtime.enter();
        let mut world = World::new();
        for step in steps {
            world.run(step);
            world.check();
        }
        world.settle();
    }
}
