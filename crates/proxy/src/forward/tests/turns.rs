// SPDX-License-Identifier: Apache-2.0
//! Who is not read for a while, so that others have their turn.

use std::time::Duration;

use super::super::ConnId;
use super::sim::{Sim, post};

/// Longer than anybody has to wait.
const BREATH: Duration = Duration::from_millis(5);
/// More open requests than anybody has who is no crowd.
const MANY: u32 = 64;

/// What a client of HTTP/2 says first (RFC 9113, section 3.4).
fn preface() -> Vec<u8> {
    let mut said = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    said.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    said
}

/// Requests on these streams, each a HEADERS frame of its own that ends the stream: GET, http, /, and the authority `web` as a literal
/// (RFC 7541, appendix A and section 6.2.2).
fn requests(streams: std::ops::Range<u32>) -> Vec<u8> {
    let head = [0x82, 0x86, 0x84, 0x01, 3, b'w', b'e', b'b'];
    let request = |n: u32| {
        let frame = [0, 0, 8, 1, 0x5];
        [&frame[..], &(2 * n + 1).to_be_bytes(), &head].concat()
    };
    streams.flat_map(request).collect()
}

/// A client with that many requests open.
fn crowd(sim: &mut Sim) -> ConnId {
    let crowd = sim.client();
    sim.say(crowd, preface(), Duration::ZERO);
    sim.say(crowd, requests(0..MANY), Duration::ZERO);
    assert!(
        sim.is_read_after(crowd, Duration::ZERO),
        "nobody else asked"
    );
    crowd
}

/// A client that has nothing else to say.
fn another_asks(sim: &mut Sim) -> ConnId {
    let other = sim.client();
    sim.say(other, post(0), Duration::ZERO);
    other
}

#[test]
fn a_crowd_waits_while_others_ask() {
    let mut sim = Sim::http(1);
    let crowd = crowd(&mut sim);
    sim.say(crowd, requests(MANY..2 * MANY), Duration::ZERO);
    assert!(sim.is_read_after(crowd, Duration::ZERO), "it is alone");
    let other = another_asks(&mut sim);
    sim.say(crowd, requests(2 * MANY..3 * MANY), Duration::ZERO);
    assert!(!sim.is_read_after(crowd, Duration::ZERO), "it waits");
    assert!(sim.is_read_after(other, Duration::ZERO));
    assert!(sim.is_read_after(crowd, BREATH), "not for ever");
}

#[test]
fn who_has_few_requests_open_does_not_wait() {
    let mut sim = Sim::http(1);
    let few = sim.client();
    sim.say(few, preface(), Duration::ZERO);
    for n in 0..16 {
        another_asks(&mut sim);
        sim.say(few, requests(2 * n..2 * n + 2), Duration::ZERO);
        assert!(sim.is_read_after(few, Duration::ZERO), "{n}");
    }
}

#[test]
fn what_takes_long_rests_while_others_ask() {
    let mut sim = Sim::http(1);
    let slow = sim.client();
    let long = Duration::from_millis(1);
    let mut head = post(1 << 20);
    head.truncate(head.len() - (1 << 20));
    sim.say(slow, head, long);
    sim.say(slow, vec![b'x'; 100], long);
    assert!(sim.is_read_after(slow, Duration::ZERO), "it is alone");
    another_asks(&mut sim);
    sim.say(slow, vec![b'x'; 100], Duration::from_micros(50));
    assert!(sim.is_read_after(slow, Duration::ZERO), "that was not long");
    another_asks(&mut sim);
    sim.say(slow, vec![b'x'; 100], long);
    assert!(!sim.is_read_after(slow, Duration::ZERO), "it rests");
    assert!(sim.is_read_after(slow, BREATH), "not for ever");
}
