//! The connections one PostgreSQL server has over all pools stay under their bound, and whoever waits for one gets on.

mod support {
    pub mod cluster;
    pub mod raw;
    pub mod town;
}

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::cluster::Proxy;
use support::raw::Raw;
use support::town::{Map, Town};

/// Of the first shard.
const NOTES: &str = "SELECT count(*) FROM notes";

const USERS: [&str; 3] = ["red", "green", "blue"];

fn town() -> &'static Town {
    static TOWN: OnceLock<Town> = OnceLock::new();
    TOWN.get_or_init(|| {
        let town = Town::start("connections", 2, 0);
        town.on_primaries("CREATE TABLE notes (n bigint)");
        town
    })
}

/// Three users with a pool of `size` each, and logins on the servers that no other test has.
fn map(prefix: &str, pool: &str, rest: &str) -> String {
    let mut map = Map::of(town(), 2, 0).pool(pool);
    map.users = String::from("  - { name: app, auth: trust }\n");
    for user in USERS {
        let role = format!("{prefix}_{user}");
        for shard in 0..2 {
            town()
                .superuser(shard, 0, "postgres")
                .ask(&format!("CREATE ROLE {role} LOGIN IN ROLE app"))
                .ok();
        }
        let line = format!("  - {{ name: {user}, auth: trust, server_user: {role} }}\n");
        map.users.push_str(&line);
    }
    map.rest.push_str(rest);
    map.text()
}

/// Connections of these logins to the first shard, as PostgreSQL counts them.
fn counted(prefix: &str) -> usize {
    let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE usename LIKE '{prefix}\\_%'");
    let count = town().superuser(0, 0, "postgres").ask(&sql).ok();
    count.value().parse().expect("a count")
}

fn connect(proxy: &Proxy, user: &str) -> Raw {
    Raw::connect(proxy.port(), user, "social").expect("pgshunt")
}

/// Eight clients of each user at work for a while: the most connections seen meanwhile, and what each user got done.
fn most_at_work(proxy: &Proxy, prefix: &str) -> (usize, Vec<u64>) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let work = |user: &'static str| {
            let mut client = connect(proxy, user);
            let over = &over;
            scope.spawn(move || {
                let mut done = 0;
                while !over.load(Ordering::Relaxed) {
                    client.ask("SELECT pg_sleep(0.005)").ok();
                    done += 1;
                }
                done
            })
        };
        let clients: Vec<Vec<_>> = USERS
            .into_iter()
            .map(|user| (0..8).map(|_| work(user)).collect())
            .collect();
        let begun = Instant::now();
        let mut most = 0;
        while begun.elapsed() < Duration::from_secs(3) {
            most = most.max(counted(prefix));
        }
        over.store(true, Ordering::Relaxed);
        let of_user = |clients: Vec<std::thread::ScopedJoinHandle<'_, u64>>| {
            let done = clients.into_iter().map(|c| c.join().expect("a client"));
            done.sum()
        };
        (most, clients.into_iter().map(of_user).collect())
    })
}

#[test]
fn many_pools_stay_under_the_bound_of_their_server() {
    let text = map(
        "low",
        "size: 8, pipeline_max: 1",
        "limits: { server_connections_max: 4 }\n",
    );
    let (most, done) = most_at_work(&Proxy::start(&text), "low");
    // PostgreSQL takes a moment to let go of a connection that has been closed
    assert!(most <= 4 + 3, "{most} connections");
    let (least, best) = (done.iter().min(), done.iter().max());
    let (least, best) = (*least.expect("a user"), *best.expect("a user"));
    assert!(least * 4 > best, "a user was left behind: {done:?}");
    // without the bound they take what their pools allow
    let text = map("free", "size: 8, pipeline_max: 1", "");
    let (most, _) = most_at_work(&Proxy::start(&text), "free");
    assert!(most > 12, "{most} connections");
}

#[test]
fn idle_connections_of_one_user_give_way_to_another() {
    let text = map("idle", "size: 8", "limits: { server_connections_max: 2 }\n");
    let proxy = Proxy::start(&text);
    for _ in 0..10 {
        for user in USERS {
            let (mut one, mut two) = (connect(&proxy, user), connect(&proxy, user));
            one.ask("BEGIN; SELECT set_config('a.b', 'c', true)").ok();
            two.ask("BEGIN; SELECT set_config('a.b', 'c', true)").ok();
            one.ask("COMMIT").ok();
            two.ask("COMMIT").ok();
        }
    }
}

#[test]
fn who_waits_too_long_for_a_server_without_room_is_told_which_bound_it_was() {
    let text = map(
        "told",
        "size: 8, wait_ms_max: 300",
        "limits: { server_connections_max: 1 }\n",
    );
    let proxy = Proxy::start(&text);
    let mut holder = connect(&proxy, "red");
    holder.ask(&format!("BEGIN; {NOTES}")).ok();
    let mut waiter = connect(&proxy, "blue");
    let error = waiter.ask(NOTES).error.expect("an error");
    assert_eq!(error.code, "53300", "{error:?}");
    assert!(
        error
            .message
            .contains("all 1 connections to its server are taken"),
        "{error:?}"
    );
    assert!(
        error.hint.contains("limits.server_connections_max"),
        "{error:?}"
    );
    holder.ask("COMMIT").ok();
    assert_eq!(waiter.ask(NOTES).ok().value(), "0");
}
