// SPDX-License-Identifier: Apache-2.0
//! One connection that floods, in every way that is known, beside others at half of what the machine bears: all of these are answered, and their
//! slowest answers must not become more than twice as slow. Between two real proxies and a control; a flood that is ended begins again a moment
//! later.
//!
//! Times are those of this machine: away from the record (`MAILLE_TEST_SECONDS=60`) it is enough that the flood was ended. Rounds with the flood and
//! without it take turns: one of them alone says little, without any flood their slowest answers differ by as much as twice. For the record the
//! medians count, else the best: whatever else the machine does only makes it worse.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "limits/clients.rs"]
#[expect(dead_code, reason = "not all of it is used here")]
mod clients;
#[path = "refusals/world.rs"]
#[expect(dead_code, reason = "not all of it is used here")]
mod world;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::catch_unwind;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use maille_chassis::clock::Clock;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use clients::{dial, pause};
use world::{QUIETLY, World};

/// Connections that are not to suffer.
const CONNECTIONS: u32 = 64;
/// How often a flood is tried at most; and for the record, where all count.
const TRIES: usize = 5;
const TRIES_FOR_THE_RECORD: usize = 9;
/// A flood that was ended begins again after so long.
const AGAIN: Duration = Duration::from_millis(100);
/// What a flood may do to the slowest answers; away from the record, on a machine that does other things, that is another order of magnitude
/// only where the flood is let have its way.
const WORSE: f64 = 2.0;
const WORSE_IN_A_HURRY: f64 = 12.0;
/// Whether this is for the record, and nothing else runs on the machine.
fn full() -> bool {
    let seconds = std::env::var_os("MAILLE_TEST_SECONDS");
    let seconds = seconds.and_then(|text| text.to_str()?.parse::<u64>().ok());
    seconds.is_some_and(|seconds| seconds >= 60)
}

/// How long one round is.
fn round() -> Duration {
    Duration::from_millis(if full() { 3_000 } else { 700 })
}

/// The processor's time goes to others first: who floods, and who is flooded behind the mesh, are other machines in truth, and have
/// no share of the time that the proxies and their other clients need. To be the least of all is not enough: who is given the processor at last
/// would keep it for milliseconds, whoever wakes up meanwhile.
fn stand_back() {
    let thread = nix::unistd::gettid().to_string();
    let idle = Command::new("chrt")
        .args(["--idle", "--pid", "0", &thread])
        .output();
    assert!(idle.unwrap().status.success());
}

/// More than any body but that of a flood.
const HUGE: u64 = 1 << 20;

/// Answers requests, with bodies of a known length or none, until the client leaves. Only floods speak HTTP/2.
fn serve(listener: &TcpListener) {
    let http2 = http2_server();
    for stream in listener.incoming().flatten() {
        let http2 = http2.clone();
        thread::spawn(move || {
            if speaks_http2(&stream) {
                return http2.send(stream).unwrap();
            }
            let mut from = BufReader::with_capacity(1 << 16, stream.try_clone().unwrap());
            while let Some(length) = head(&mut from) {
                if length > HUGE {
                    stand_back();
                }
                let mut body = (&mut from).take(length);
                let all = std::io::copy(&mut body, &mut std::io::sink());
                let text = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                if all.is_err() || (&stream).write_all(text).is_err() {
                    return;
                }
            }
        });
    }
}

fn speaks_http2(stream: &TcpStream) -> bool {
    let mut begin = [0; 3];
    stream.peek(&mut begin).unwrap_or(0) == 3 && begin == *b"PRI"
}

/// One thread for all connections of floods: to stand back takes a process, which is not to be paid for with each of them.
fn http2_server() -> UnboundedSender<TcpStream> {
    let (to, mut from) = unbounded_channel::<TcpStream>();
    thread::spawn(move || {
        stand_back();
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_io().build().unwrap();
        runtime.block_on(async {
            while let Some(stream) = from.recv().await {
                runtime.handle().spawn(serve_http2(stream));
            }
        });
    });
    to
}

/// Answers requests when all of them was said.
async fn serve_http2(stream: TcpStream) {
    stream.set_nonblocking(true).unwrap();
    let stream = tokio::net::TcpStream::from_std(stream).unwrap();
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        tokio::runtime::Handle::current().spawn(async move {
            let mut body = request.into_body();
            while let Some(Ok(data)) = body.data().await {
                let _ = body.flow_control().release_capacity(data.len());
            }
            if let Ok(mut answer) = respond.send_response(http::Response::new(()), false) {
                let _ = answer.send_data("ok".into(), true);
            }
        });
    }
}

/// Reads a head: the length of the body behind it.
fn head(from: &mut BufReader<TcpStream>) -> Option<u64> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if from.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.to_ascii_lowercase();
        if let Some(text) = line.strip_prefix("content-length: ") {
            length = text.trim().parse().ok()?;
        }
        if line.starts_with("transfer-encoding: ") {
            // It ends with the connection.
            length = u64::MAX;
        }
        if line == "\r\n" {
            return Some(length);
        }
    }
}

fn request(stream: &mut TcpStream) {
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")
        .unwrap();
    let mut answer = [0; 40];
    stream.read_exact(&mut answer).unwrap();
    let text = String::from_utf8_lossy(&answer);
    assert!(text.ends_with("ok"), "{text}");
}

/// Requests a second of all connections together, as fast as they go.
fn most(to: SocketAddr) -> f64 {
    let done = AtomicU64::new(0);
    let clock = Clock::start();
    thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                let mut stream = dial(to);
                while clock.elapsed() < round() {
                    request(&mut stream);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    done.load(Ordering::Relaxed) as f64 / clock.elapsed().as_secs_f64()
}

/// The time that one of a hundred answers exceeds, each from when its request was due, at `rate` a second.
fn slowest(to: SocketAddr, rate: f64) -> Duration {
    let every = Duration::from_secs_f64(f64::from(CONNECTIONS) / rate);
    let each = || {
        let mut stream = dial(to);
        request(&mut stream);
        let (clock, mut times) = (Clock::start(), Vec::new());
        let mut due = Duration::ZERO;
        // Who is that late need not ask any more to be told from the others.
        while due < round() && clock.elapsed() < 4 * round() {
            if let Some(early) = due.checked_sub(clock.elapsed()) {
                pause(early);
            }
            request(&mut stream);
            times.push(clock.elapsed().saturating_sub(due));
            due += every;
        }
        times
    };
    let mut all: Vec<Duration> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(each)).collect();
        let times = clients.into_iter().map(|client| client.join().unwrap());
        times.flatten().collect()
    });
    all.sort();
    all[all.len() * 99 / 100]
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut out = length[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// A request's fields: GET, http, /, and a name without an entry in any table.
const ASK: &[u8] = b"\x82\x86\x84\x01\x03web";

/// A flood: what is said first, and what is said again and again, the how manieth time it is.
type Flood = (&'static str, fn() -> Vec<u8>, fn(u32) -> Vec<u8>);

fn http2() -> Vec<u8> {
    let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    hello.extend(frame(4, 0, 0, b""));
    hello
}

fn opened() -> Vec<u8> {
    let ask = [b"\x83", &ASK[1..]].concat();
    [http2(), frame(1, 4, 1, &ask)].concat()
}

const FLOODS: &[Flood] = &[
    ("streams opened and reset", http2, |n| {
        let stream = 2 * n + 1;
        [frame(1, 5, stream, ASK), frame(3, 0, stream, &[0, 0, 0, 8])].concat()
    }),
    ("streams opened", http2, |n| frame(1, 5, 2 * n + 1, ASK)),
    ("PING", http2, |_| frame(6, 0, 0, &[7; 8])),
    ("SETTINGS", http2, |_| frame(4, 0, 0, b"")),
    ("PRIORITY", http2, |_| frame(2, 0, 1, &[0, 0, 0, 0, 1])),
    ("CONTINUATION", http2, |n| match n {
        0 => frame(1, 1, 1, ASK),
        _ => frame(9, 0, 1, b""),
    }),
    ("blocks that decode to much", http2, |n| {
        // One large field into the table, then that field so often that a block is as large as may be.
        let mut block = ASK.to_vec();
        if n == 0 {
            block.extend(b"\x40\x01x\x7f\x81\x17");
            block.extend([b'x'; 3_072]);
        } else {
            block.extend([0xbe; 31]);
        }
        frame(1, 5, 2 * n + 1, &block)
    }),
    ("empty DATA", opened, |_| frame(0, 0, 1, b"")),
    ("WINDOW_UPDATE", opened, |_| frame(8, 0, 1, &[0, 0, 0, 1])),
    ("content of one byte", opened, |_| frame(0, 0, 1, b"x")),
    ("unknown frames", http2, |_| frame(0xfa, 0, 0, b"")),
    ("pipelined requests", Vec::new, |_| {
        b"GET / HTTP/1.1\r\nHost: web\r\n\r\n".to_vec()
    }),
    (
        "one endless body",
        || b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 99999999999999\r\n\r\n".to_vec(),
        |_| vec![b'x'; 1 << 10],
    ),
    (
        "one endless chunked body of one byte each",
        || b"POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
        |_| b"1\r\nx\r\n".to_vec(),
    ),
];

/// Floods until told to stop, on one connection after the other; whatever comes back is read. How often it was ended.
fn flood(to: SocketAddr, (_, first, again): &Flood, stop: &AtomicBool) -> u64 {
    stand_back();
    let mut ended = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut stream = dial(to);
        stream.set_nonblocking(true).unwrap();
        let (mut out, mut n) = (first(), 0);
        let mut sink = vec![0; 1 << 16];
        'connection: while !stop.load(Ordering::Relaxed) {
            while out.len() < 1 << 15 {
                out.extend(again(n));
                n += 1;
            }
            let would_block = match stream.write(&out) {
                Ok(written) => {
                    out.drain(..written);
                    false
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => true,
                Err(_) => break 'connection,
            };
            match stream.read(&mut sink) {
                Ok(1..) => {}
                // It must not cost more than its bytes do.
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    if would_block {
                        pause(Duration::from_micros(200));
                    }
                }
                Ok(0) | Err(_) => break 'connection,
            }
        }
        ended += 1;
        pause(AGAIN);
    }
    ended
}

/// How slow the slowest answers are while `one` floods, and how often it was ended.
fn during(to: SocketAddr, rate: f64, one: &Flood) -> (Duration, u64) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let floods = scope.spawn(|| flood(to, one, &stop));
        let during = catch_unwind(|| slowest(to, rate));
        stop.store(true, Ordering::Relaxed);
        (during.unwrap(), floods.join().unwrap())
    })
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64()
}

/// What is wrong with `one`, if anything, for the record.
fn felt(to: SocketAddr, rate: f64, one: &Flood) -> Option<String> {
    let (mut quiet, mut flooded) = (vec![slowest(to, rate)], Vec::new());
    let mut ended = 0;
    for _ in 0..TRIES_FOR_THE_RECORD {
        let (slow, often) = during(to, rate, one);
        flooded.push(slow);
        ended += often;
        quiet.push(slowest(to, rate));
    }
    let name = one.0;
    eprintln!("{name}: p99 {flooded:.1?}, quiet {quiet:.1?}; {ended} connections");
    let worse = median(flooded) / median(quiet);
    eprintln!("{name}: {worse:.2}x in the median");
    (worse > WORSE).then(|| format!("{name}: {worse:.2}x"))
}

/// What is wrong with `one`, if anything, on a machine that does other things.
fn felt_in_a_hurry(to: SocketAddr, rate: f64, one: &Flood) -> Option<String> {
    let name = one.0;
    let mut seen = Vec::new();
    let fine = (0..TRIES).any(|_| {
        let quiet = slowest(to, rate);
        let (slow, ended) = during(to, rate, one);
        let worse = slow.as_secs_f64() / quiet.as_secs_f64();
        eprintln!("{name}: p99 {slow:?}, quiet {quiet:?}: {worse:.2}x; {ended} connections");
        seen.push(worse);
        worse <= WORSE_IN_A_HURRY || ended > 1
    });
    (!fine).then(|| format!("{name}: {seen:.1?}"))
}

#[test]
fn a_flood_is_not_felt_by_others() {
    let world = World::new(Duration::from_secs(3600));
    let _proxies = [world.client_proxy(), world.server_proxy(QUIETLY)];
    let listener = TcpListener::bind(world.app()).unwrap();
    thread::spawn(move || serve(&listener));
    let to = world.outbound();
    let rate = most(to) / 2.0;
    eprintln!("half load: {rate:.0} requests/s");
    let felt: Vec<String> = FLOODS
        .iter()
        .filter_map(|one| match full() {
            true => felt(to, rate, one),
            false => felt_in_a_hurry(to, rate, one),
        })
        .collect();
    // All are told, not only the first.
    assert!(felt.is_empty(), "{felt:#?}");
}
