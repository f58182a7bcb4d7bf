//! A large object of several megabytes, written and read by function call messages as libpq sends them, while other clients
//! keep the pool moving: every byte comes back, and descriptors end with their transaction.

mod support {
    pub mod cluster;
    pub mod raw;
    pub mod town;
}

use std::sync::atomic::{AtomicBool, Ordering};
use support::cluster::Proxy;
use support::raw::{Raw, message};
use support::town::{Dice, Map, Town};

const WRITE: i32 = 0x2_0000;
const READ: i32 = 0x4_0000;
const CREATE: i32 = 957;
const OPEN: i32 = 952;
const LOREAD: i32 = 954;
const LOWRITE: i32 = 955;
const SEEK: i32 = 3170;

/// The result, or the SQLSTATE.
fn call(client: &mut Raw, function: i32, arguments: &[&[u8]]) -> Result<Vec<u8>, String> {
    let mut body = function.to_be_bytes().to_vec();
    body.extend([0, 1, 0, 1]);
    body.extend((arguments.len() as i16).to_be_bytes());
    for argument in arguments {
        body.extend((argument.len() as i32).to_be_bytes());
        body.extend(*argument);
    }
    body.extend([0, 1]);
    client.send(&message(b'F', &body)).expect("sent");
    let mut result = Err("no answer".to_owned());
    loop {
        let message = client.receive().expect("an answer");
        match message.tag {
            b'V' => result = Ok(message.body[4..].to_vec()),
            b'E' => {
                let text = String::from_utf8_lossy(&message.body).into_owned();
                let code = text.split('\0').find_map(|field| field.strip_prefix('C'));
                result = Err(code.unwrap_or_default().to_owned());
            }
            b'Z' => return result,
            _ => {}
        }
    }
}

fn number(n: i32) -> [u8; 4] {
    n.to_be_bytes()
}

#[test]
fn a_large_object_comes_back_as_it_went_in() {
    let town = Town::start("large_objects", 1, 1);
    let proxy = Proxy::start(&Map::of(&town, 1, 1).pool("size: 2, verify: true").text());
    let connect = || Raw::connect(proxy.port(), "app", "social").expect("pgshunt");
    let mut dice = Dice(7);
    let data: Vec<u8> = (0..6 << 17)
        .flat_map(|_| dice.next().to_be_bytes())
        .collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut other = connect();
            while !done.load(Ordering::Relaxed) {
                other.ask("SELECT 1").ok();
            }
        });
        let mut client = connect();
        client.ask("BEGIN").ok();
        let object = call(&mut client, CREATE, &[&number(READ | WRITE)]).expect("an object");
        let descriptor = call(&mut client, OPEN, &[&object, &number(WRITE)]).expect("a descriptor");
        for part in data.chunks(200_000) {
            let written = call(&mut client, LOWRITE, &[&descriptor, part]).expect("written");
            assert_eq!(written, number(part.len() as i32));
        }
        client.ask("COMMIT").ok();
        // a descriptor ends with its transaction
        let after = call(&mut client, LOREAD, &[&descriptor, &number(1)]);
        assert_eq!(after, Err("42704".to_owned()));

        client.ask("BEGIN").ok();
        let descriptor = call(&mut client, OPEN, &[&object, &number(READ)]).expect("a descriptor");
        let mut came = Vec::new();
        loop {
            let part = call(&mut client, LOREAD, &[&descriptor, &number(300_000)]).expect("read");
            if part.is_empty() {
                break;
            }
            came.extend(part);
        }
        assert!(
            came == data,
            "{} of {} bytes, or others",
            came.len(),
            data.len()
        );
        client.ask("SAVEPOINT a").ok();
        assert_eq!(
            call(&mut client, LOREAD, &[&number(77), &number(1)]),
            Err("42704".to_owned())
        );
        client.ask("ROLLBACK TO a").ok();
        let place = 1_000_000_i64.to_be_bytes();
        call(&mut client, SEEK, &[&descriptor, &place, &number(0)]).expect("a place");
        let part = call(&mut client, LOREAD, &[&descriptor, &number(10)]).expect("read");
        assert_eq!(part, &data[1_000_000..1_000_010]);
        client.ask("COMMIT").ok();

        let oid = u32::from_be_bytes(object.try_into().expect("four bytes"));
        let length = client.ask(&format!("SELECT length(lo_get({oid}))")).ok();
        assert_eq!(length.value(), data.len().to_string());
        assert_eq!(
            client.ask(&format!("SELECT lo_unlink({oid})")).ok().value(),
            "1"
        );
        done.store(true, Ordering::Relaxed);
    });
    assert!(
        !proxy.log().contains("not as a fresh one"),
        "{}",
        proxy.log()
    );
}
