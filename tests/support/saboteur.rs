//! A relay between pgshunt and one PostgreSQL server that can say something to a connection behind pgshunt's back: what that
//! leaves there is a planted leak. It waits until nothing is owed on the connection, speaks, and keeps the answer to itself.
#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

pub struct Saboteur {
    port: u16,
    orders: Arc<Orders>,
}

/// What is to be said, and how often that was done.
struct Orders {
    user: String,
    plant: String,
    /// it is said after so many answers that nobody tampered with
    every: usize,
    answers: AtomicUsize,
    planted: AtomicUsize,
    stop: AtomicBool,
}

/// What one connection owes.
#[derive(Default)]
struct Owed {
    asked: usize,
    answered: usize,
}

impl Saboteur {
    /// Says `plant` on connections of `user` to the server at `server_port`, after every so many answers.
    pub fn start(server_port: u16, user: &str, plant: &str, every: usize) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let orders = Arc::new(Orders {
            user: user.to_owned(),
            plant: plant.to_owned(),
            every,
            answers: AtomicUsize::new(0),
            planted: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let shared = orders.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if shared.stop.load(Ordering::SeqCst) {
                    return;
                }
                let orders = shared.clone();
                thread::spawn(move || relay(client, server_port, &orders));
            }
        });
        Self { port, orders }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// How often it has spoken and was not contradicted.
    pub fn planted(&self) -> usize {
        self.orders.planted.load(Ordering::SeqCst)
    }
}

impl Drop for Saboteur {
    fn drop(&mut self) {
        self.orders.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

fn relay(mut client: TcpStream, server_port: u16, orders: &Orders) -> Option<()> {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, server_port)).ok()?;
    for stream in [&client, &server] {
        stream.set_nodelay(true).ok()?;
    }
    // the start-up packet has no tag; nobody asks for TLS here
    let startup = packet(&mut client, None)?;
    server.write_all(&startup).ok()?;
    let wanted = format!("user\0{}\0", orders.user);
    let is_target = startup
        .windows(wanted.len())
        .any(|part| part == wanted.as_bytes());
    let owed = parking_lot::Mutex::new(Owed {
        asked: 1,
        answered: 0,
    });
    thread::scope(|scope| {
        let (mut from, mut to) = (client.try_clone().ok()?, server.try_clone().ok()?);
        let upwards = &owed;
        scope.spawn(move || {
            pass_up(&mut from, &mut to, upwards);
            let _ = to.shutdown(Shutdown::Both);
        });
        pass_down(&mut server, &mut client, &owed, orders, is_target);
        let _ = client.shutdown(Shutdown::Both);
        Some(())
    })
}

fn pass_up(
    from: &mut TcpStream,
    to: &mut TcpStream,
    owed: &parking_lot::Mutex<Owed>,
) -> Option<()> {
    loop {
        let tag = tag(from)?;
        let message = packet(from, Some(tag))?;
        let mut owed = owed.lock();
        owed.asked += usize::from(matches!(tag, b'Q' | b'S' | b'F'));
        to.write_all(&message).ok()?;
    }
}

fn pass_down(
    from: &mut TcpStream,
    to: &mut TcpStream,
    owed: &parking_lot::Mutex<Owed>,
    orders: &Orders,
    is_target: bool,
) -> Option<()> {
    loop {
        let tag = tag(from)?;
        let message = packet(from, Some(tag))?;
        if tag == b'Z' {
            let mut owed = owed.lock();
            owed.answered += 1;
            let idle = message.last() == Some(&b'I') && owed.asked == owed.answered;
            if idle && is_target && orders.is_due() {
                speak(from, orders)?;
            }
        }
        to.write_all(&message).ok()?;
    }
}

impl Orders {
    fn is_due(&self) -> bool {
        let answers = self.answers.fetch_add(1, Ordering::SeqCst);
        answers % self.every == self.every - 1
    }
}

/// The plant's own exchange.
fn speak(server: &mut TcpStream, orders: &Orders) -> Option<()> {
    let mut query = vec![b'Q'];
    query.extend((orders.plant.len() as i32 + 5).to_be_bytes());
    query.extend(orders.plant.as_bytes());
    query.push(0);
    server.write_all(&query).ok()?;
    let mut failed = false;
    loop {
        let tag = tag(server)?;
        packet(server, Some(tag))?;
        failed |= tag == b'E';
        if tag == b'Z' {
            orders
                .planted
                .fetch_add(usize::from(!failed), Ordering::SeqCst);
            return Some(());
        }
    }
}

fn tag(stream: &mut TcpStream) -> Option<u8> {
    let mut tag = [0];
    stream.read_exact(&mut tag).ok()?;
    Some(tag[0])
}

/// Tag, length and body.
fn packet(stream: &mut TcpStream, tag: Option<u8>) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let body = usize::try_from(i32::from_be_bytes(length))
        .ok()?
        .checked_sub(4)?;
    let mut message: Vec<u8> = tag.into_iter().chain(length).collect();
    let begin = message.len();
    message.resize(begin + body, 0);
    stream.read_exact(&mut message[begin..]).ok()?;
    Some(message)
}
