// SPDX-License-Identifier: Apache-2.0
//! What somebody is told who looks at what goes through mesh connections, and what that costs when he does not listen.

use std::collections::HashMap;

use maille_proxy::inside::{Piece, ROOM};
use maille_proxy::tap::Told;

use crate::http::Pair;
use crate::lab::Proxy;
use crate::origin::{Wire, patterned};

fn get(wire: &mut Wire, path: &str) {
    wire.send(format!("GET {path} HTTP/1.1\r\nHost: web\r\n\r\n"));
    assert!(wire.response().0.starts_with("HTTP/1.1 200 OK\r\n"));
}

fn piece(told: Told) -> Option<Box<Piece>> {
    match told {
        Told::Piece(piece) => Some(piece),
        Told::Seen(_) | Told::Lost(_) | Told::Untold { .. } => None,
    }
}

/// Looks, and asks until the data thread tells that it knows. Gives what was told by then.
fn look(proxy: &mut Proxy, wire: &mut Wire) -> Vec<Told> {
    proxy.look_inside(true);
    loop {
        get(wire, "/bytes/1");
        let told: Vec<Told> = std::iter::from_fn(|| proxy.try_told()).collect();
        if !told.is_empty() {
            return told;
        }
    }
}

fn check(which: fn(&mut Pair) -> &mut Proxy, dialled: bool, answers_go_out: bool) {
    let mut pair = Pair::http();
    let mut wire = pair.dial();
    let mut told = look(which(&mut pair), &mut wire);
    let body = patterned(200);
    get(&mut wire, "/bytes/200");
    let mut streams: HashMap<bool, Vec<u8>> = HashMap::new();
    let mut ends: HashMap<(u64, bool), u64> = HashMap::new();
    let found = |streams: &HashMap<bool, Vec<u8>>, way| {
        let bytes = streams.get(&way).map(Vec::as_slice).unwrap_or_default();
        bytes.windows(body.len()).any(|window| window == body)
    };
    while !found(&streams, answers_go_out) {
        if told.is_empty() {
            told.push(which(&mut pair).told());
        }
        let Some(piece) = piece(told.remove(0)) else {
            continue;
        };
        assert_eq!(piece.dialled, dialled);
        let key = (piece.connection, piece.outward);
        // What passed before somebody looked is not counted: the first byte that is told is the first.
        let end = ends.entry(key).or_default();
        assert_eq!(piece.offset, *end, "{key:?}");
        *end += piece.bytes.len() as u64;
        streams
            .entry(piece.outward)
            .or_default()
            .extend(&piece.bytes);
    }
    assert!(
        !found(&streams, !answers_go_out),
        "the question has no body"
    );
    // And then no more.
    which(&mut pair).look_inside(false);
    loop {
        while which(&mut pair).try_told().is_some() {}
        get(&mut wire, "/bytes/1");
        get(&mut wire, "/bytes/1");
        if which(&mut pair).try_told().is_none() {
            break;
        }
    }
}

#[test]
fn what_goes_through_is_told_whole_and_in_its_place() {
    check(|pair| &mut pair.client, true, false);
    check(|pair| &mut pair.server, false, true);
}

#[test]
fn who_does_not_listen_is_told_how_much_he_lost_and_costs_no_more_than_the_room() {
    let mut pair = Pair::http();
    let mut wire = pair.dial();
    look(&mut pair.client, &mut wire);
    let mut passed = 0;
    while passed < 4 * ROOM {
        get(&mut wire, "/bytes/500000");
        passed += 500_000;
    }
    let (mut held, mut lost) = (0, 0);
    while lost == 0 {
        match pair.client.told() {
            Told::Piece(piece) => held += piece.bytes.len(),
            Told::Lost(more) => lost += more,
            Told::Seen(_) | Told::Untold { .. } => {}
        }
    }
    assert!(0 < held && held <= ROOM, "{held} bytes were held");
}
