//! Databases that are dropped, renamed and copied while pgshunt serves them: as at PostgreSQL, its clients are in the way and
//! nobody else.

mod support {
    pub mod cluster;
    pub mod raw;
    pub mod town;
}

use std::sync::OnceLock;
use std::time::{Duration, Instant};
use support::cluster::Proxy;
use support::raw::{self, Raw};
use support::town::{Map, Town, eventually};

fn town() -> &'static Town {
    static TOWN: OnceLock<Town> = OnceLock::new();
    TOWN.get_or_init(|| {
        let town = Town::start("databases", 1, 0);
        town.as_superuser("ALTER ROLE app CREATEDB");
        town
    })
}

/// One that serves these databases beside "social", whether they are there or not.
fn proxy(names: &[&str]) -> Proxy {
    let port = town().port(0, 0);
    let more = |name: &&str| {
        format!(
            "  - name: {name}\n    control: {{ user: postgres }}\n    shards: [{{ name: s1, primary: \"127.0.0.1:{port}\" }}]\n    \
             pool: {{ size: 3, size_min: 1 }}\n"
        )
    };
    let more: String = names.iter().map(more).collect();
    Proxy::start(&Map::of(town(), 1, 0).pool("size: 3").rest(&more).text())
}

fn client(proxy: &Proxy, database: &str) -> Raw {
    Raw::connect(proxy.port(), "app", database).expect("pgshunt")
}

/// Somebody has used it, and has left.
fn use_database(proxy: &Proxy, database: &str) {
    let ask = || {
        Raw::connect(proxy.port(), "app", database)
            .is_ok_and(|mut c| c.ask("SELECT 1").error.is_none())
    };
    eventually(
        Duration::from_secs(10),
        "a database that has just been made is served",
        &mut || ask(),
    );
}

/// PostgreSQL waits five seconds for those who are in the way.
fn at_once(client: &mut Raw, sql: &str) {
    let asked = Instant::now();
    client.ask(sql).ok();
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(4), "{sql} took {took:?}");
}

#[test]
fn a_database_that_no_client_is_in_is_dropped() {
    let proxy = proxy(&["guests"]);
    let mut admin = client(&proxy, "social");
    for _ in 0..2 {
        admin.ask("CREATE DATABASE guests").ok();
        use_database(&proxy, "guests");
        at_once(&mut admin, "DROP DATABASE IF EXISTS \"guests\"");
        let gone =
            Raw::connect(proxy.port(), "app", "guests").and_then(|mut c| c.query("SELECT 1"));
        assert!(
            gone.map_or(true, |answer| answer.error.is_some()),
            "it is still served"
        );
    }
    // in the extended protocol, too
    admin.ask("CREATE DATABASE guests").ok();
    use_database(&proxy, "guests");
    let asked = Instant::now();
    let drop = [
        raw::parse("", "DROP DATABASE guests", &[]),
        raw::bind("", "", &[]),
        raw::execute("", 0),
        raw::sync(),
    ];
    admin.send(&drop.concat()).expect("sent");
    admin.until_ready().expect("an answer").ok();
    assert!(asked.elapsed() < Duration::from_secs(4));
}

#[test]
fn a_database_that_a_client_is_in_stays() {
    let proxy = proxy(&["lodgers"]);
    let mut admin = client(&proxy, "social");
    admin.ask("CREATE DATABASE lodgers").ok();
    use_database(&proxy, "lodgers");
    let mut lodger = client(&proxy, "lodgers");
    lodger.ask("SELECT 1").ok();
    assert_eq!(admin.ask("DROP DATABASE lodgers").code(), "55006");
    lodger.ask("SELECT 1").ok();
    // one that leaves while PostgreSQL waits is no longer in the way
    let leaves = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(500));
        drop(lodger);
    });
    at_once(&mut admin, "DROP DATABASE lodgers");
    leaves.join().expect("it has left");
}

#[test]
fn a_database_is_renamed_and_copied() {
    let proxy = proxy(&["model", "copy", "renamed"]);
    let mut admin = client(&proxy, "social");
    admin.ask("CREATE DATABASE model").ok();
    use_database(&proxy, "model");
    at_once(&mut admin, "CREATE DATABASE copy TEMPLATE = model");
    use_database(&proxy, "model");
    at_once(
        &mut admin,
        "CREATE DATABASE \"copy of it\" TEMPLATE 'model'",
    );
    use_database(&proxy, "copy");
    at_once(&mut admin, "ALTER DATABASE copy RENAME TO renamed");
    use_database(&proxy, "renamed");
    // the session's own connection is not in its way
    let mut own = client(&proxy, "renamed");
    own.ask("SELECT 1").ok();
    at_once(&mut own, "CREATE DATABASE copy TEMPLATE renamed");
    drop(own);
    for database in ["model", "copy", "renamed", "\"copy of it\""] {
        at_once(&mut admin, &format!("DROP DATABASE {database}"));
    }
}
