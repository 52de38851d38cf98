// SPDX-License-Identifier: Apache-2.0
use std::io::Write;
use std::net::{Shutdown, SocketAddr};

use maille_model::{Membership, Protocol};

use crate::lab::{Lab, Proxy};
use crate::origin::{Origin, Wire, field, pattern, patterned};

/// A client's proxy, a server's proxy, and the server.
pub(crate) struct Pair {
    pub(crate) lab: Lab,
    pub(crate) client: Proxy,
    pub(crate) server: Proxy,
    pub(crate) origin: Origin,
}

impl Pair {
    pub(crate) fn http() -> Self {
        Self::new(Origin::http, Protocol::Http1)
    }

    pub(crate) fn new(origin: impl FnOnce(SocketAddr) -> Origin, protocol: Protocol) -> Self {
        Self::declared(origin, protocol, protocol)
    }

    /// What the client's side knows is not what the server's side does: so it is for those who dial a pod's own address.
    pub(crate) fn declared(
        origin: impl FnOnce(SocketAddr) -> Origin,
        protocol: Protocol,
        own: Protocol,
    ) -> Self {
        let lab = Lab::new();
        let web = lab.pod(2, Membership::Meshed);
        let origin = origin(SocketAddr::new(web.ip, 0));
        let port = origin.address.port();
        let server = lab.start(
            &web,
            lab.own(&web, port, own),
            lab.service(),
            origin.address,
        );
        let app = lab.pod(1, Membership::Meshed);
        let mut snapshot = lab.own(&app, 9, Protocol::Undeclared);
        lab.add_service(&mut snapshot, protocol, &[(&web, port)]);
        let client = lab.start(&app, snapshot, lab.service(), SocketAddr::new(app.ip, 9));
        Self {
            lab,
            client,
            server,
            origin,
        }
    }

    pub(crate) fn dial(&self) -> Wire {
        Wire::connect(self.client.outbound)
    }
}

#[test]
fn keep_alive() {
    let pair = Pair::http();
    let mut wire = pair.dial();
    for n in 0..100 {
        wire.send(format!("GET /bytes/{n} HTTP/1.1\r\nHost: web\r\n\r\n"));
        let (head, body) = wire.response();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert_eq!(body, patterned(n));
    }
    assert_eq!(
        pair.origin.accepted(),
        1,
        "the server's connection is used again"
    );
    drop(wire);
    let counted = pair.client.stop();
    let (edge, sum) = counted.only();
    assert!(edge.protected);
    assert_eq!(edge.peer_uid.as_ref().unwrap().as_str(), "uid-2");
    assert_eq!((sum.requests, sum.failures), (100, 0));
    let counted = pair.server.stop();
    let (edge, sum) = counted.only();
    assert!(edge.protected);
    assert_eq!(
        edge.peer.as_ref().unwrap().to_string(),
        "spiffe://cluster.local/ns/shop/sa/sa-1"
    );
    assert_eq!((sum.requests, sum.failures), (100, 0));
}

#[test]
fn heads_arrive_as_they_were_written() {
    let pair = Pair::http();
    let mut wire = pair.dial();
    let head = "GET /head HTTP/1.1\r\nhOsT: web\r\nX-Odd: a\r\nx-odd: b\r\nX-Odd: a\r\nEmpty: \r\nTE: trailers\r\nConnection: TE\r\n\r\n";
    wire.send(head);
    let (_, body) = wire.response();
    assert_eq!(String::from_utf8(body).unwrap(), head);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let pair = Pair::http();
    let mut wire = pair.dial();
    let mut all = String::new();
    for n in 0..200 {
        all += &format!("POST /echo HTTP/1.1\r\nHost: web\r\nContent-Length: 3\r\n\r\n{n:03}");
    }
    wire.send(all);
    for n in 0..200 {
        assert_eq!(wire.response().1, format!("{n:03}").as_bytes());
    }
}

#[test]
fn a_hundred_megabytes_each_way() {
    let pair = Pair::http();
    let length = 100 * 1024 * 1024;
    let mut wire = pair.dial();
    wire.send(format!("GET /bytes/{length} HTTP/1.1\r\nHost: web\r\n\r\n"));
    let head = wire.head().unwrap();
    assert_eq!(field(&head, "content-length").unwrap(), length.to_string());
    let mut at = 0;
    while at < length {
        let n = (length - at).min(1 << 20);
        let got = wire.exactly(n);
        assert!(
            got.iter()
                .enumerate()
                .all(|(i, byte)| *byte == pattern(at + i))
        );
        at += n;
    }
    wire.send(format!(
        "POST /count HTTP/1.1\r\nHost: web\r\nContent-Length: {length}\r\n\r\n"
    ));
    let megabyte = patterned(251 * 4096);
    let mut left = length;
    while left > 0 {
        let n = left.min(megabyte.len());
        wire.send(&megabyte[..n]);
        left -= n;
    }
    assert_eq!(wire.response().1, length.to_string().as_bytes());
}

#[test]
fn chunks_and_trailers_pass_verbatim() {
    let pair = Pair::http();
    let mut wire = pair.dial();
    wire.send("GET /trailers HTTP/1.1\r\nHost: web\r\n\r\n");
    let head = wire.head().unwrap();
    assert_eq!(field(&head, "trailer").unwrap(), "X-Sum");
    let body = "5;ext=1\r\nhello\r\n0\r\nX-Sum: 5\r\n\r\n";
    assert_eq!(wire.exactly(body.len()), body.as_bytes());
    wire.send("POST /echo HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    assert_eq!(wire.response().1, b"abcde");
}

#[test]
fn interim_responses_and_reason_phrases_pass() {
    let pair = Pair::http();
    let mut wire = pair.dial();
    wire.send(
        "POST /continue HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
    );
    assert_eq!(wire.head().unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(
        wire.head().unwrap(),
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    );
    wire.send("ok");
    let (head, body) = wire.response();
    assert!(head.starts_with("HTTP/1.1 200 Fine By Me\r\n"));
    assert_eq!(body, b"ok");
}

#[test]
fn an_answer_before_the_request_has_ended() {
    let pair = Pair::http();
    let mut wire = pair.dial();
    for _ in 0..3 {
        wire.send("POST /early HTTP/1.1\r\nHost: web\r\nContent-Length: 300000\r\n\r\nfirst");
        let (head, body) = wire.response();
        assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
        assert_eq!(body, b"too much");
        // The rest still travels, and is never read as a request.
        wire.send(vec![b'G'; 300_000 - 5]);
    }
    wire.send("GET /bytes/5 HTTP/1.1\r\nHost: web\r\n\r\n");
    assert_eq!(wire.response().1, patterned(5));
}

#[test]
fn an_early_answer_that_closes() {
    let pair = Pair::http();
    let mut wire = pair.dial();
    wire.send("POST /early-close HTTP/1.1\r\nHost: web\r\nContent-Length: 10000000\r\n\r\nfirst");
    let (head, body) = wire.response();
    assert!(head.starts_with("HTTP/1.1 413 "));
    assert_eq!(body, b"too much");
    assert!(wire.rest().0.is_empty());
}

#[test]
fn upgrades_become_bytes() {
    let pair = Pair::http();
    let mut wire = pair.dial();
    // What is sent ahead of the answer is not lost.
    wire.send(
        "GET /upgrade HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nahead ",
    );
    assert!(wire.head().unwrap().starts_with("HTTP/1.1 101 "));
    wire.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(wire.exactly(24), b"ahead GET / HTTP/1.1\r\n\r\n");
    let big = patterned(1_000_000);
    let mut writer = wire.stream.try_clone().unwrap();
    let sent = big.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let (back, end) = wire.rest();
    writing.join().unwrap();
    end.unwrap();
    assert!(back == big);
}

#[test]
fn an_upgrade_that_is_declined_is_a_request() {
    let pair = Pair::http();
    let mut wire = pair.dial();
    for _ in 0..3 {
        wire.send(
            "GET /bytes/9 HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        );
        assert_eq!(wire.response().1, patterned(9));
    }
}

#[test]
fn bodies_that_end_with_the_connection() {
    let pair = Pair::http();
    let mut wire = pair.dial();
    wire.send("GET /until-close HTTP/1.1\r\nHost: web\r\n\r\n");
    assert_eq!(wire.head().unwrap(), "HTTP/1.1 200 OK\r\n\r\n");
    let (body, end) = wire.rest();
    end.unwrap();
    assert!(body == patterned(100_000));
}

#[test]
fn http_1_0_is_answered_and_closed() {
    let pair = Pair::http();
    let mut wire = pair.dial();
    wire.send("GET /head HTTP/1.0\r\n\r\n");
    let (_, body) = wire.response();
    assert_eq!(body, b"GET /head HTTP/1.0\r\n\r\n");
    assert!(wire.rest().0.is_empty());
}

#[test]
fn heads_without_bodies() {
    let pair = Pair::http();
    let mut wire = pair.dial();
    for _ in 0..2 {
        wire.send("GET /not-modified HTTP/1.1\r\nHost: web\r\n\r\n");
        assert!(wire.head().unwrap().contains("Content-Length: 77"));
    }
    wire.send("GET /bytes/3 HTTP/1.1\r\nHost: web\r\n\r\n");
    assert_eq!(wire.response().1, patterned(3));
}

#[test]
fn a_truncated_answer_stays_truncated() {
    let pair = Pair::http();
    let mut wire = pair.dial();
    wire.send("GET /truncated HTTP/1.1\r\nHost: web\r\n\r\n");
    assert!(wire.head().unwrap().contains("Content-Length: 10"));
    let (body, _) = wire.rest();
    assert_eq!(body, b"half");
}

#[test]
fn servers_that_misbehave_are_named() {
    let pair = Pair::http();
    for (path, flag) in [
        ("slam", "upstream-closed"),
        ("garbage", "malformed-response"),
    ] {
        let mut wire = pair.dial();
        wire.send(format!("GET /{path} HTTP/1.1\r\nHost: web\r\n\r\n"));
        let (head, body) = wire.response();
        assert!(head.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{head}");
        assert!(String::from_utf8(body).unwrap().contains(flag));
        // The connection is good for another request.
        wire.send("GET /bytes/4 HTTP/1.1\r\nHost: web\r\n\r\n");
        assert_eq!(wire.response().1, patterned(4));
    }
}

#[test]
fn malformed_requests_are_refused_on_entry() {
    let pair = Pair::http();
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
    ] {
        let mut wire = pair.dial();
        wire.send(request);
        let (head, body) = wire.response();
        assert!(head.starts_with("HTTP/1.1 400 "), "{request:?}: {head}");
        assert!(
            String::from_utf8(body)
                .unwrap()
                .contains("malformed-request")
        );
        assert!(wire.rest().0.is_empty());
    }
    let mut wire = pair.dial();
    let long = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "x".repeat(70_000)
    );
    wire.send(long);
    assert!(wire.response().0.starts_with("HTTP/1.1 431 "));
    assert_eq!(pair.origin.accepted(), 0);
}

#[test]
fn malformed_bodies_are_refused_on_entry() {
    let pair = Pair::http();
    let mut wire = pair.dial();
    wire.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
    let (head, body) = wire.response();
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    assert!(body.starts_with(b"maille: malformed-request: "));
    assert!(wire.rest().0.is_empty());
}

#[test]
fn a_client_that_leaves_takes_its_request_along() {
    let pair = Pair::http();
    let mut wire = pair.dial();
    wire.send("POST /report HTTP/1.1\r\nHost: web\r\nContent-Length: 100\r\n\r\nhalf");
    assert_eq!(wire.head().unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
    drop(wire);
    // The server's connection ends in the middle of the body.
    assert_eq!(
        pair.origin
            .reports
            .recv_timeout(crate::origin::PATIENCE)
            .unwrap(),
        4
    );
}

#[test]
fn half_close_after_the_request_still_gets_the_answer() {
    let pair = Pair::http();
    let mut wire = pair.dial();
    wire.send("GET /bytes/200000 HTTP/1.1\r\nHost: web\r\n\r\n");
    wire.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(wire.response().1, patterned(200_000));
    assert!(wire.rest().0.is_empty());
}
