// SPDX-License-Identifier: Apache-2.0
//! What taps are told of exchanges through a pair, and that nobody else is told anything.

use std::net::Shutdown;

use maille_engine::route::Direction;
use maille_model::Protocol;
use maille_proxy::tap::{Filter, Headers, Moment, Seen, Spoken, Tap, Told};

use crate::http::Pair;
use crate::lab::Proxy;
use crate::origin::{Origin, Wire};

fn tap(filter: Filter) -> Tap {
    Tap {
        id: 7,
        filter,
        max_rps: 1_000_000,
        headers: Headers::Redacted,
        ends_only: false,
    }
}

fn get(wire: &mut Wire, path: &str) -> String {
    wire.send(format!(
        "GET {path} HTTP/1.1\r\nHost: web\r\nAuthorization: secret\r\nAccept: text/x\r\n\r\n"
    ));
    wire.response().0
}

/// The next line, whatever was not told before it.
fn seen(proxy: &mut Proxy) -> Seen {
    loop {
        if let Told::Seen(seen) = proxy.told() {
            return *seen;
        }
    }
}

/// Taps, and asks until a line says that the data thread knows; its lines are thrown away.
fn in_force(pair: &mut Pair, which: fn(&mut Pair) -> &mut Proxy, taps: &[Tap]) {
    let mark = Tap {
        id: u64::MAX,
        ..tap(Filter {
            path: Some("/bytes/1?mark".into()),
            ..Filter::default()
        })
    };
    let all: Vec<Tap> = std::iter::once(mark).chain(taps.iter().cloned()).collect();
    which(pair).tap(&all);
    let mut wire = pair.dial();
    loop {
        get(&mut wire, "/bytes/1?mark");
        let told = which(pair).try_told();
        if told.is_some() {
            break;
        }
    }
    // The mark's own end is the last line of it, on whichever tap.
    get(&mut wire, "/bytes/1?last");
    which(pair).tap(taps);
    while which(pair).try_told().is_some() {}
}

fn client(pair: &mut Pair) -> &mut Proxy {
    &mut pair.client
}

fn server(pair: &mut Pair) -> &mut Proxy {
    &mut pair.server
}

/// The lines of the exchange that asked for `path`, as they come.
fn lines(proxy: &mut Proxy, path: &str) -> Vec<Seen> {
    let mut lines = Vec::new();
    loop {
        let line = seen(proxy);
        if *line.request.path.kept != *path.as_bytes() {
            continue;
        }
        let end = line.moment == Moment::End;
        lines.push(line);
        if end {
            return lines;
        }
    }
}

#[test]
fn both_proxies_tell_a_request_from_its_beginning_to_its_end() {
    for (which, way) in [
        (client as fn(&mut Pair) -> &mut Proxy, Direction::Outbound),
        (server, Direction::Inbound),
    ] {
        let mut pair = Pair::http();
        in_force(&mut pair, which, &[tap(Filter::default())]);
        get(&mut pair.dial(), "/bytes/5?token=x");
        let lines = lines(which(&mut pair), "/bytes/5?token=x");
        let moments: Vec<_> = lines.iter().map(|line| line.moment).collect();
        assert_eq!(moments, [Moment::Begin, Moment::Answer, Moment::End]);
        let end = &lines[2];
        let facts = &end.facts;
        assert_eq!((facts.direction, facts.spoken), (way, Spoken::Http1));
        assert_eq!((facts.status, facts.flag), (200, None));
        assert!(facts.protected && facts.peer.is_some());
        assert_eq!(facts.endpoint, Some(pair.origin.address));
        assert_eq!(*end.request.method.kept, *b"GET");
        assert_eq!(*end.request.authority.kept, *b"web");
        let told = end.request.head.lines(Headers::Redacted);
        let secret = told.iter().find(|line| line.name == b"Authorization");
        assert!(secret.is_some_and(|line| line.redacted && line.value.is_empty()));
        let accept = told.iter().find(|line| line.name == b"Accept");
        assert!(accept.is_some_and(|line| line.value == b"text/x"));
        assert!(!end.answer.lines(Headers::All).is_empty());
    }
}

#[test]
fn only_what_was_asked_for_is_told() {
    let mut pair = Pair::http();
    let wanted = tap(Filter {
        status: Some(500..=599),
        path: Some("/status/".into()),
        ..Filter::default()
    });
    in_force(&mut pair, client, &[wanted]);
    let mut wire = pair.dial();
    for path in ["/bytes/1", "/status/200", "/bytes/2", "/status/503"] {
        get(&mut wire, path);
    }
    let lines = lines(&mut pair.client, "/status/503");
    let moments: Vec<_> = lines.iter().map(|line| line.moment).collect();
    assert_eq!(moments, [Moment::Begin, Moment::Answer, Moment::End]);
    assert!(lines.iter().all(|line| line.facts.status == 503));
}

#[test]
fn what_is_too_much_is_counted() {
    let mut pair = Pair::http();
    let slow = Tap {
        max_rps: 1,
        ends_only: true,
        ..tap(Filter {
            path: Some("/bytes/3".into()),
            ..Filter::default()
        })
    };
    in_force(&mut pair, client, &[slow]);
    let mut wire = pair.dial();
    const ASKED: u64 = 50;
    for _ in 0..ASKED {
        get(&mut wire, "/bytes/3");
    }
    let (mut told, mut untold) = (0, 0);
    while told + untold < ASKED {
        match pair.client.told() {
            Told::Seen(seen) => {
                assert_eq!(seen.moment, Moment::End);
                told += 1;
            }
            Told::Untold { untold: more, .. } => untold += more.over_rate + more.no_room,
            Told::Piece(_) | Told::Lost(_) => panic!("nobody looks inside"),
        }
    }
    assert_eq!(told + untold, ASKED);
    assert!(told > 0 && untold > 0, "{told} told, {untold} not");
}

#[test]
fn a_connection_is_told_when_it_is_there_and_when_it_ends() {
    let mut pair = Pair::new(Origin::echo, Protocol::Tcp);
    pair.client.tap(&[tap(Filter::default())]);
    // Connections from before the data thread knew are not told: until one is, others follow.
    let first = loop {
        let mut wire = pair.dial();
        wire.send("x");
        wire.exactly(1);
        wire.stream.shutdown(Shutdown::Write).unwrap();
        wire.rest().1.unwrap();
        if let Some(Told::Seen(seen)) = pair.client.try_told() {
            break seen;
        }
    };
    assert_eq!(
        (first.moment, first.facts.spoken),
        (Moment::Begin, Spoken::Tcp)
    );
    let end = loop {
        let line = seen(&mut pair.client);
        if line.exchange == first.exchange {
            break line;
        }
    };
    assert_eq!((end.moment, end.facts.bytes), (Moment::End, (1, 1)));
}

#[test]
fn nobody_is_told_anything_when_nobody_taps() {
    let mut pair = Pair::http();
    in_force(&mut pair, client, &[]);
    let mut wire = pair.dial();
    for _ in 0..20 {
        get(&mut wire, "/bytes/1");
    }
    pair.client.drain(std::time::Duration::from_secs(10));
    assert!(pair.client.try_told().is_none());
}
