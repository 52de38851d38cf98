// SPDX-License-Identifier: Apache-2.0
//! The core alone: two of them with the network between played in memory, where every split, order and back-pressure is drawn at
//! random. What goes in at one end comes out at the other, once, in order, whatever is drawn.

mod panics;
mod sim;
mod turns;

pub(crate) use panics::hooked;

use std::time::Duration;

use sim::{App, Sim, patterned};

use crate::telemetry::Carries;

const SEEDS: u64 = 40;

/// TCP both ways: random lengths, half closes at random times.
#[test]
fn every_byte_arrives_once_and_in_order() {
    for seed in 0..SEEDS {
        let mut sim = Sim::tcp(seed);
        for _ in 0..sim.random.usize(1..6) {
            let (up, down) = (sim.length(), sim.length());
            sim.dial(
                App::new(patterned(up), true),
                App::new(patterned(down), true),
            );
        }
        sim.run(seed);
        for (client, server) in sim.pairs() {
            assert!(
                server.received == client.sent(),
                "seed {seed}: towards the server"
            );
            assert!(
                client.received == server.sent(),
                "seed {seed}: towards the client"
            );
            assert!(
                client.got_fin && server.got_fin,
                "seed {seed}: FIN stays FIN"
            );
        }
        assert!(sim.settled(), "seed {seed}: something was left behind");
    }
}

/// Keep-alive and pipelined requests with and without bodies, over one connection that the server uses again.
#[test]
fn requests_and_answers_keep_their_order() {
    for seed in 0..SEEDS {
        let mut sim = Sim::http(seed);
        for _ in 0..sim.random.usize(1..6) {
            let mut sent = Vec::new();
            let mut wanted = Vec::new();
            for _ in 0..sim.random.usize(1..12) {
                let body = patterned(sim.length() / 8);
                sent.extend(sim::post(body.len()));
                wanted.extend(sim::answer(&body));
            }
            sim.request(App::new(sent, false), wanted);
        }
        sim.run(seed);
        for client in sim.clients() {
            assert!(client.received == client.wanted, "seed {seed}");
        }
    }
}

/// Nobody declared anything, and clients take their time: HTTP is HTTP however late, in however many pieces.
#[test]
fn a_late_request_is_a_request() {
    for seed in 0..SEEDS {
        let mut sim = Sim::undeclared(seed, true);
        let clients = sim.random.usize(1..6);
        for _ in 0..clients {
            let body = patterned(sim.length() / 8);
            let mut client = App::new(sim::post(body.len()), false);
            client.starts = Some(sim.soon(Duration::from_millis(80)));
            sim.request(client, sim::answer(&body));
        }
        sim.pass(Duration::from_millis(100));
        sim.run(seed);
        for client in sim.clients() {
            assert!(client.received == client.wanted, "seed {seed}");
        }
        for (edge, sum) in sim.counted() {
            assert_eq!(edge.carries, Carries::Http, "seed {seed}");
            assert_eq!((sum.requests, sum.failures), (clients as u64, 0));
        }
    }
}

/// The server speaks first, and what the client answers is no request even if it looks like one.
#[test]
fn a_server_may_speak_first() {
    for seed in 0..SEEDS {
        let mut sim = Sim::undeclared(seed, false);
        for _ in 0..sim.random.usize(1..6) {
            let (up, down) = (sim.length() / 8, sim.length() / 8 + 1);
            let mut client = App::new(sim::post(up), true);
            client.after = 1;
            sim.dial(client, App::new(patterned(down), true));
        }
        sim.pass(Duration::from_millis(20));
        sim.run(seed);
        for (client, server) in sim.pairs() {
            assert!(server.received == client.sent(), "seed {seed}");
            assert!(client.received == server.sent(), "seed {seed}");
        }
        assert!(sim.settled(), "seed {seed}: {:?}", sim.left());
        for (edge, sum) in sim.counted() {
            assert_eq!(edge.carries, Carries::Tcp, "seed {seed}");
            assert_eq!(sum.opened, sum.closed);
        }
    }
}

/// What begins like the line of a request is none when its line ends without a version, or the server speaks before that; and a server of HTTP/2 whose
/// client says no preface is heard after all.
#[test]
fn what_only_begins_like_http_is_bytes() {
    let settings = [&[0, 0, 0, 4, 0, 0, 0, 0, 0][..], &patterned(300)].concat();
    let cases: [(&[u8], Vec<u8>); 4] = [
        (b"get /page?x\r\n", patterned(30)),
        (b"CONNECT /_goRPC_ HTTP/1.0\n\n", patterned(30)),
        (b"get /page", patterned(30)),
        (b"", settings),
    ];
    for seed in 0..SEEDS {
        for (said, answer) in &cases {
            let mut sim = Sim::undeclared(seed, false);
            let whole = said.ends_with(b"\n");
            let mut server = App::new(answer.clone(), true);
            server.after = if whole { said.len() } else { 0 };
            sim.dial(App::new(said.to_vec(), whole), server);
            sim.pass(Duration::from_millis(20));
            sim.quiet(Duration::from_secs(11));
            let (client, _) = sim.pairs().next().unwrap();
            assert!(client.received == *answer, "seed {seed}");
            sim.close_clients();
            sim.run(seed);
            let (_, server) = sim.pairs().next().unwrap();
            assert!(server.received == *said, "seed {seed}");
            for (edge, _) in sim.counted() {
                assert_eq!(edge.carries, Carries::Tcp, "seed {seed}");
            }
        }
    }
}

/// An HTTP/2 client may be silent for ever between two heads, and for a minute within one: it holds up all of its streams.
#[test]
fn a_head_is_not_left_open_for_ever() {
    const HEADERS: u8 = 1;
    const GOAWAY: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0];
    const CALM: &[u8] = &[0, 0, 0, 11];
    let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    hello.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    // A block that does not say that it is its end, with one more piece that says it no more, and a frame of which half has come.
    let open = [0, 0, 1, HEADERS, 1, 0, 0, 0, 1, 0x82];
    let more = [0, 0, 0, 9, 0, 0, 0, 0, 1];
    let half = [0, 0, 9, HEADERS, 5, 0, 0, 0, 1];
    let clients = [
        hello.clone(),
        [&hello[..], &open].concat(),
        [&hello[..], &open, &more].concat(),
        [&hello[..], &half].concat(),
        hello[..30].to_vec(),
    ];
    let mut sim = Sim::undeclared(1, true);
    for script in clients {
        sim.request(App::new(script, false), Vec::new());
    }
    sim.pass(Duration::from_millis(100));
    sim.quiet(Duration::from_secs(50));
    assert!(sim.clients().all(|client| !client.got_fin));
    // Not all at once: nobody is looked at before something is due.
    for _ in 0..12 {
        sim.quiet(Duration::from_secs(1));
    }
    let ends: Vec<_> = sim.clients().map(|client| client.got_fin).collect();
    assert_eq!(ends, [false, true, true, true, true]);
    let told = |client: &App| {
        let at = client.received.len() - 17;
        client.received[at..].starts_with(GOAWAY) && client.received.ends_with(CALM)
    };
    assert!(sim.clients().skip(1).all(told));
}

/// Connections and peers that break at any moment leave nothing behind: no exchange, no stream, no socket.
#[test]
fn whatever_breaks_nothing_is_left() {
    for seed in 0..SEEDS {
        let undeclared = Sim::undeclared(seed, seed % 2 == 0);
        for mut sim in [Sim::tcp(seed), Sim::http(seed), undeclared] {
            for _ in 0..sim.random.usize(1..8) {
                let (up, down) = (sim.length(), sim.length());
                if sim.http {
                    sim.request(App::new(sim::post(up), false), Vec::new());
                } else {
                    sim.dial(
                        App::new(patterned(up), true),
                        App::new(patterned(down), true),
                    );
                }
            }
            for _ in 0..sim.random.usize(10..400) {
                sim.step();
            }
            let silence = sim.soon(Duration::from_millis(10));
            sim.pass_until(silence);
            sim.break_everything();
            // A handshake that can never end is given up, and then so are the bytes that nobody takes.
            sim.quiet(Duration::from_secs(60));
            sim.quiet(Duration::from_secs(60));
            assert!(sim.settled(), "seed {seed}: {:?}", sim.left());
        }
    }
}

/// However the bytes of both hops are cut, memory stays within windows and marks while nobody reads.
#[test]
fn a_reader_that_stops_bounds_what_is_held() {
    let mut sim = Sim::tcp(1);
    sim.dial(
        App::new(Vec::new(), false),
        App::new(patterned(8 << 20), true),
    );
    sim.clients_read = false;
    for _ in 0..20_000 {
        sim.step();
    }
    assert!(sim.held() < 2 << 20, "{} bytes are held", sim.held());
    sim.clients_read = true;
    sim.close_clients();
    sim.run(1);
    let (client, server) = sim.pairs().next().unwrap();
    assert!(client.received == server.sent());
}
