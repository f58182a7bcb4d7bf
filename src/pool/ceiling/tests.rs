//! Pools under one ceiling, with numbers and counted things as servers: who gives way, who is served first, and random
//! histories against the invariants.

use super::*;
use crate::pool::lending::PoolName;
use crate::pool::lending::tests::{Counted, Pending, ask, failure, pick, poll, settings, take};
use crate::pool::{Checkout, CheckoutError, DialPermit, Lease, PoolTotals};
use proptest::prelude::*;
use std::task::Poll;

fn pool_of<S>(user: &str, size: usize, ceiling: &Arc<Ceiling<S>>) -> Arc<Pool<S>> {
    let name = PoolName {
        server: "s1".into(),
        user: user.into(),
        database: "social".into(),
    };
    Pool::with_dial_backoff(name, settings(size), ceiling.clone(), Duration::ZERO)
}

type Numbers = Arc<Pool<u32>>;

fn pair(max: usize) -> (Arc<Ceiling<u32>>, Numbers, Numbers) {
    let ceiling = Ceiling::new(max);
    let (a, b) = (pool_of("a", 5, &ceiling), pool_of("b", 5, &ceiling));
    (ceiling, a, b)
}

fn waits(pool: &Arc<Pool<u32>>) -> Pending<u32> {
    let mut pending = ask(pool);
    assert!(poll(&mut pending).is_pending());
    pending
}

fn may_dial(pending: &mut Pending<u32>) -> bool {
    matches!(poll(pending), Poll::Ready(Ok(Lease::Dial(_))))
}

#[tokio::test]
async fn what_is_idle_longest_gives_way() {
    let (ceiling, a, b) = pair(2);
    let (first, second) = (take(&a).await, take(&a).await);
    first.check_in();
    second.check_in();
    assert!(!b.can_grow());
    let mut waiting = waits(&b);
    ceiling.relieve();
    assert!(may_dial(&mut waiting));
    let PoolTotals { closes, .. } = a.status().totals;
    assert_eq!((a.status().idle, closes), (1, 1));
}

#[tokio::test]
async fn nothing_that_is_in_use_gives_way() {
    let (ceiling, a, b) = pair(1);
    let held = take(&a).await;
    let mut waiting = waits(&b);
    ceiling.relieve();
    assert!(poll(&mut waiting).is_pending());
    // nobody waits for it in its own pool
    held.check_in();
    assert_eq!(a.status().idle, 0);
    ceiling.relieve();
    assert!(may_dial(&mut waiting));
}

#[tokio::test]
async fn who_came_first_is_served_first_whichever_pool_he_is_of() {
    let (ceiling, a, b) = pair(1);
    let held = take(&a).await;
    let mut early = waits(&a);
    std::thread::sleep(Duration::from_millis(1));
    let mut late = waits(&b);
    std::thread::sleep(2 * GRACE);
    held.check_in();
    let Poll::Ready(Ok(Lease::Ready(held))) = poll(&mut early) else {
        panic!("the later one was served first")
    };
    let mut last = waits(&a);
    held.check_in();
    assert!(poll(&mut last).is_pending());
    ceiling.relieve();
    assert!(may_dial(&mut late));
}

/// Two pools that always have use for their servers: one changes hands now and then, not each time.
#[tokio::test]
async fn a_connection_that_is_needed_changes_hands_now_and_then_only() {
    let (ceiling, a, b) = pair(1);
    let mut held = take(&a).await;
    let begun = Instant::now();
    let _starving = waits(&b);
    std::thread::sleep(Duration::from_millis(1));
    while begun.elapsed() < GRACE / 2 {
        // a task that never lets others run is made to wait by its runtime
        tokio::task::yield_now().await;
        let mut next = waits(&a);
        held.check_in();
        let Poll::Ready(Ok(Lease::Ready(server))) = poll(&mut next) else {
            assert!(begun.elapsed() >= GRACE, "taken away within the grace");
            break; // the machine stood still for longer than that
        };
        held = server;
    }
    std::thread::sleep(2 * GRACE);
    assert!(ceiling.wants_back(Some(Instant::now())));
    assert!(!ceiling.wants_back(Some(Instant::now())), "twice at once");
    std::thread::sleep(2 * GRACE);
    assert!(ceiling.wants_back(Some(Instant::now())));
}

#[tokio::test]
async fn a_failed_dial_and_a_right_not_used_free_their_seats() {
    let (ceiling, a, b) = pair(1);
    for fails in [true, false] {
        let Some(Lease::Dial(permit)) = a.try_checkout(None) else {
            panic!()
        };
        let mut waiting = waits(&b);
        if fails {
            permit.fail(failure());
        } else {
            drop(permit);
        }
        ceiling.relieve();
        assert!(may_dial(&mut waiting));
    }
    let (server, permit) = take(&a).await.replace();
    assert!(!b.can_grow(), "its seat is kept");
    assert_eq!((server, *permit.fulfil(8)), (7, 8));
    assert!(b.can_grow());
}

#[tokio::test]
async fn who_waits_too_long_is_told_that_the_server_has_no_room() {
    let ceiling = Ceiling::new(1);
    let a = pool_of("a", 5, &ceiling);
    let name = a.name().clone();
    let hasty = crate::config::PoolSettings {
        wait_max: Duration::from_millis(20),
        ..settings(5)
    };
    let b = Pool::new(name, hasty, ceiling.clone());
    let _held = take(&a).await;
    let Err(error) = b.checkout(None).await else {
        panic!()
    };
    let text = error.to_string();
    assert!(
        text.contains("0 of 5 in use, all 1 connections to its server are taken"),
        "{text}"
    );
    assert_eq!(error.code(), "53300");
}

#[tokio::test]
async fn a_ceiling_moves_while_clients_wait() {
    let ceilings = Ceilings::<u32>::new(Some(1));
    let address = ServerAddress {
        host: "127.0.0.1".into(),
        port: 5432,
    };
    let (a, b) = (
        pool_of("a", 5, &ceilings.of(&address)),
        pool_of("b", 5, &ceilings.of(&address)),
    );
    let held = take(&a).await;
    let waiting = waits(&b);
    ceilings.set_max(Some(2));
    let Ok(Lease::Dial(permit)) = waiting.await else {
        panic!()
    };
    let other = permit.fulfil(8);
    ceilings.set_max(Some(1));
    other.check_in();
    assert_eq!(b.status().idle, 1, "nobody waits");
    let waiting = waits(&a);
    // the idle one is closed, and that is not enough
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!((a.status().in_use, b.status().idle), (1, 0));
    ceilings.set_max(None);
    assert!(matches!(waiting.await, Ok(Lease::Dial(_))));
    drop(held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_many_pools_all_get_on_under_a_low_ceiling() {
    let ceilings = Ceilings::new(Some(3));
    let address = ServerAddress {
        host: "127.0.0.1".into(),
        port: 5432,
    };
    let living = Arc::<AtomicUsize>::default();
    let mut clients = Vec::new();
    for user in 0..6 {
        let pool = pool_of(&format!("u{user}"), 2, &ceilings.of(&address));
        for client in 0..10u64 {
            let (pool, living) = (pool.clone(), living.clone());
            clients.push(tokio::spawn(async move {
                for turn in 0..50 {
                    let server = match pool.checkout(None).await.unwrap() {
                        Lease::Ready(server) => server,
                        Lease::Dial(permit) => permit.fulfil(Counted::new(&living)),
                    };
                    assert!(living.load(Ordering::SeqCst) <= 3);
                    if turn % 10 == client {
                        tokio::time::sleep(Duration::from_micros(100)).await;
                    }
                    server.check_in();
                }
            }));
        }
    }
    let all = futures::future::join_all(clients);
    let all = tokio::time::timeout(Duration::from_secs(60), all).await;
    for client in all.expect("a client was forgotten") {
        client.unwrap();
    }
}

#[derive(Clone, Debug)]
enum Step {
    Ask(usize),
    GiveUp(usize),
    CheckIn(usize),
    Drop(usize),
    Fulfil(usize),
    Fail(usize),
    Abandon(usize),
    Pause(usize),
    Resume(usize),
    Max(usize),
    CloseAll(usize),
    Sweep(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let at = || 0..64usize;
    prop_oneof![
        8 => at().prop_map(Step::Ask),
        2 => at().prop_map(Step::GiveUp),
        4 => at().prop_map(Step::CheckIn),
        1 => at().prop_map(Step::Drop),
        5 => at().prop_map(Step::Fulfil),
        1 => at().prop_map(Step::Fail),
        1 => at().prop_map(Step::Abandon),
        1 => at().prop_map(Step::Pause),
        2 => at().prop_map(Step::Resume),
        1 => (1..5usize).prop_map(Step::Max),
        1 => at().prop_map(Step::CloseAll),
        1 => at().prop_map(Step::Sweep),
    ]
}

struct World {
    ceiling: Arc<Ceiling<Counted>>,
    pools: Vec<Arc<Pool<Counted>>>,
    paused: Vec<bool>,
    living: Arc<AtomicUsize>,
    asking: Vec<Pending<Counted>>,
    lent: Vec<Checkout<Counted>>,
    permits: Vec<DialPermit<Counted>>,
    /// the highest ceiling since there were no more servers than it allows
    max: usize,
}

impl World {
    fn new() -> Self {
        let ceiling = Ceiling::new(3);
        let pools = (0..3)
            .map(|n| pool_of(&format!("u{n}"), 2, &ceiling))
            .collect();
        Self {
            ceiling,
            pools,
            paused: vec![false; 3],
            living: Arc::default(),
            asking: Vec::new(),
            lent: Vec::new(),
            permits: Vec::new(),
            max: 3,
        }
    }

    fn poll_all(&mut self) {
        for mut pending in std::mem::take(&mut self.asking) {
            match poll(&mut pending) {
                Poll::Ready(Ok(Lease::Ready(server))) => self.lent.push(server),
                Poll::Ready(Ok(Lease::Dial(permit))) => self.permits.push(permit),
                Poll::Ready(Err(CheckoutError::Unreachable { .. })) => {}
                Poll::Ready(Err(error)) => panic!("{error}"),
                Poll::Pending => self.asking.push(pending),
            }
        }
    }

    fn pause(&mut self, at: usize, paused: bool) {
        let at = at % self.pools.len();
        self.paused[at] = paused;
        if paused {
            self.pools[at].pause();
        } else {
            self.pools[at].resume();
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Ask(at) => self.asking.push(ask(&self.pools[at % self.pools.len()])),
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
            Step::Pause(at) => self.pause(at, true),
            Step::Resume(at) => self.pause(at, false),
            Step::Max(max) => {
                self.ceiling.max.store(max, Ordering::Relaxed);
                self.max = self.max.max(max);
            }
            Step::CloseAll(at) => drop(self.pools[at % self.pools.len()].close_all()),
            Step::Sweep(at) => {
                let sweep = self.pools[at % self.pools.len()].sweep(Instant::now());
                self.permits.extend(sweep.dials);
            }
        }
        self.ceiling.relieve();
        self.poll_all();
        self.ceiling.relieve();
    }

    fn check(&mut self) {
        let taken = self.ceiling.taken.load(Ordering::Relaxed);
        assert!(taken <= self.max, "{taken} of {}", self.max);
        if taken <= self.ceiling.max() {
            self.max = self.ceiling.max();
        }
        let all: Vec<_> = self.pools.iter().map(|pool| pool.status()).collect();
        let open: usize = all.iter().map(|s| s.idle + s.in_use + s.dialling).sum();
        assert_eq!(open, taken, "{all:?}");
        for (status, paused) in all.iter().zip(&self.paused) {
            let own = status.idle + status.in_use + status.dialling;
            if status.waiting == 0 || *paused || own >= status.size {
                continue;
            }
            assert!(!self.ceiling.is_free(), "waits for nothing: {all:?}");
            let idle: usize = all.iter().map(|s| s.idle).sum();
            assert_eq!(idle, 0, "nobody gave way: {all:?}");
        }
    }

    /// Once all goes on, everybody is served.
    fn end(mut self) {
        for at in 0..self.pools.len() {
            self.pause(at, false);
        }
        for _ in 0..10_000 {
            if self.asking.is_empty() && self.permits.is_empty() && self.lent.is_empty() {
                break;
            }
            self.run(Step::Fulfil(0));
            self.run(Step::CheckIn(0));
            self.check();
        }
        assert!(self.asking.is_empty(), "not served");
        let idle: usize = self.pools.iter().map(|pool| pool.status().idle).sum();
        assert_eq!(self.living.load(Ordering::Relaxed), idle);
        let Self { ceiling, pools, .. } = self;
        drop(pools);
        assert_eq!(ceiling.taken.load(Ordering::Relaxed), 0);
    }
}

proptest! {
    #[test]
    fn no_history_exceeds_the_ceiling_or_forgets_a_client(steps in prop::collection::vec(step(), 1..150)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _inside = runtime.enter();
        let mut world = World::new();
        for step in steps {
            world.run(step);
            world.check();
        }
        world.end();
    }
}
