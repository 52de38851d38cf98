// SPDX-License-Identifier: Apache-2.0
//! A service's terms between real sockets: what is tried again, what is left alone, what is too late, what is too much. The rules alone are in `engine::balance`.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::sync::mpsc::Sender;
use std::time::Duration;

use maille_engine::balance::Tally;
use maille_model::terms::RetryOn;
use maille_model::{Membership, Protocol, Terms};
use maille_proxy::failure::Failure;
use maille_proxy::telemetry::Batch;

use crate::lab::{Lab, Pod, Proxy};
use crate::origin::{Origin, Wire, serve_http};

/// A client of a service with these terms.
fn client(lab: &Lab, terms: Terms, backends: &[(&Pod, u16)]) -> Proxy {
    let app = lab.pod(1, Membership::Meshed);
    let mut snapshot = lab.own(&app, 9, Protocol::Undeclared);
    lab.add_service_on(&mut snapshot, Protocol::Http1, terms, backends);
    lab.start(&app, snapshot, lab.service(), SocketAddr::new(app.ip, 9))
}

fn ask(wire: &mut Wire, method: &str) -> (String, String) {
    let length = if method == "POST" {
        "Content-Length: 0\r\n"
    } else {
        ""
    };
    wire.send(format!(
        "{method} /bytes/5 HTTP/1.1\r\nHost: web\r\n{length}\r\n"
    ));
    let (head, body) = wire.response();
    let status = head.split(' ').nth(1).unwrap().to_owned();
    (status, String::from_utf8_lossy(&body).into_owned())
}

fn tally(client: Proxy) -> Tally {
    let mut sum = Tally::default();
    client.batches(|batch| sum.add(&batch.tally));
    sum
}

/// Answers 503 to everything.
fn ill(stream: TcpStream, _: &Sender<usize>) {
    let mut wire = Wire::new(stream);
    while wire.head().is_some() {
        wire.send("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\n\r\nill");
    }
}

/// Reads, and says nothing.
fn silent(stream: TcpStream, _: &Sender<usize>) {
    let _ = Wire::new(stream).rest();
}

/// Begins an answer, and says nothing more.
fn half(stream: TcpStream, _: &Sender<usize>) {
    let mut wire = Wire::new(stream);
    if wire.head().is_some() {
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    }
    let _ = wire.rest();
}

/// A dead endpoint beside a living one: the budget for other tries is used up, the dead one is left alone, comes back and is found well; then a
/// limit is reached. Everything that balancing counts is counted.
pub(crate) fn trouble(mut take: impl FnMut(&Batch)) {
    let lab = Lab::new();
    let (well, dead) = (
        lab.pod(2, Membership::Unmeshed),
        lab.pod(4, Membership::Unmeshed),
    );
    let origin = Origin::http(SocketAddr::new(well.ip, 0));
    let place = TcpListener::bind((dead.ip, 0))
        .unwrap()
        .local_addr()
        .unwrap();
    let mut terms = Terms::DEFAULT;
    (terms.retry.budget_percent, terms.retry.budget_floor) = (0, 1);
    terms.ejection.consecutive = 1;
    let moment = Duration::from_millis(1);
    (terms.ejection.min_penalty, terms.ejection.max_penalty) = (moment, moment);
    let backends = [(&well, origin.address.port()), (&dead, place.port())];
    let client = client(&lab, terms, &backends);
    let mut wire = Wire::connect(client.outbound);
    // Each penalty is over at once, so that the dead one is asked again and again, until nothing is tried a second time.
    let refused =
        (0..1_000).find_map(|_| Some(ask(&mut wire, "POST")).filter(|(status, _)| status == "503"));
    let (_, text) = refused.unwrap();
    let wanted =
        format!("maille: connect-refused: shop/web:80 at {place}: the connection was refused\n");
    assert_eq!(text, wanted);
    let _back = Origin::http(place);
    for _ in 0..50 {
        ask(&mut wire, "GET");
    }
    drop(wire);
    client.batches(&mut take);
    too_much().batches(take);
}

/// A client that had one request more than its service takes.
fn too_much() -> Proxy {
    let lab = Lab::new();
    let web = lab.pod(2, Membership::Unmeshed);
    let listener = TcpListener::bind((web.ip, 0)).unwrap();
    let terms = Terms {
        max_requests: NonZeroU32::new(1),
        ..Terms::DEFAULT
    };
    let port = listener.local_addr().unwrap().port();
    let client = client(&lab, terms, &[(&web, port)]);
    let mut first = Wire::connect(client.outbound);
    first.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n");
    let held = listener.accept().unwrap();
    let mut second = Wire::connect(client.outbound);
    let (status, text) = ask(&mut second, "GET");
    assert_eq!(status, "503");
    assert_eq!(
        text,
        "maille: concurrency-limit: shop/web:80: as many requests are under way as the service allows\n"
    );
    let mut server = Wire::new(held.0);
    assert!(server.head().is_some());
    server.send("HTTP/1.1 204 No Content\r\n\r\n");
    assert!(first.head().unwrap().starts_with("HTTP/1.1 204"));
    client
}

#[test]
fn the_dead_are_left_alone_and_the_budget_is_kept() {
    let mut sum = Tally::default();
    trouble(|batch| sum.add(&batch.tally));
    assert_eq!(sum.retries, 10, "the floor of ten seconds");
    assert!(sum.retries_refused >= 1 && sum.ejections >= 11, "{sum:?}");
    assert!(sum.readmissions >= 1 && sum.limited == 1, "{sum:?}");
}

#[test]
fn an_answer_that_may_be_asked_for_again_is() {
    for membership in [Membership::Unmeshed, Membership::Meshed] {
        let lab = Lab::new();
        let pods = [2, 3, 4].map(|n| lab.pod(n, membership));
        let [good, bad, worse] = &pods;
        let origins = [
            Origin::http(SocketAddr::new(good.ip, 0)),
            Origin::start(SocketAddr::new(bad.ip, 0), ill),
            Origin::start(SocketAddr::new(worse.ip, 0), ill),
        ];
        let servers = pods.iter().zip(&origins).map(|(pod, origin)| {
            let snapshot = lab.own(pod, origin.address.port(), Protocol::Http1);
            lab.start(pod, snapshot, lab.service(), origin.address)
        });
        let servers: Vec<_> = servers.collect();
        let mut terms = Terms::DEFAULT;
        terms.ejection.counts = maille_model::terms::Counted::Nothing;
        terms.retry.on = RetryOn {
            gateway_error: true,
            ..RetryOn::default()
        };
        let port = |n: usize| origins[n].address.port();
        let backends = [(good, port(0)), (bad, port(1))];
        let client = client(&lab, terms, &backends);
        let mut wire = Wire::connect(client.outbound);
        for _ in 0..40 {
            assert_eq!(ask(&mut wire, "GET").0, "200", "{membership:?}");
        }
        // Nobody is well: the second one's answer is the last.
        let mut snapshot = lab.own(&client.pod, 9, Protocol::Undeclared);
        let backends = [(bad, port(1)), (worse, port(2))];
        lab.add_service_on(&mut snapshot, Protocol::Http1, terms, &backends);
        client.learn(snapshot);
        while ask(&mut wire, "GET").0 == "200" {}
        let before = origins[1].accepted() + origins[2].accepted();
        assert!(before >= 2, "both were asked");
        // What is not idempotent is never sent twice: its client sees what the endpoint said.
        let (status, body) = ask(&mut wire, "POST");
        assert_eq!((status.as_str(), body.as_str()), ("503", "ill"));
        drop(wire);
        assert!(tally(client).retries > 0);
        drop(servers);
    }
}

#[test]
fn an_answer_that_does_not_come_is_not_waited_for() {
    let moment = Some(Duration::from_millis(100));
    let reset = RetryOn {
        reset: true,
        ..RetryOn::default()
    };
    let lab = Lab::new();
    let (good, bad) = (
        lab.pod(2, Membership::Unmeshed),
        lab.pod(4, Membership::Unmeshed),
    );
    let mute = Origin::start(SocketAddr::new(bad.ip, 0), silent);
    let well = Origin::start(SocketAddr::new(good.ip, 0), serve_http);
    let alone = [(&bad, mute.address.port())];
    let mut terms = Terms {
        response_timeout: moment,
        ..Terms::DEFAULT
    };
    let first = client(&lab, terms, &alone);
    let (status, text) = ask(&mut Wire::connect(first.outbound), "GET");
    let about = format!("shop/web:80 at {}", mute.address);
    assert_eq!(status, "504");
    assert_eq!(
        text,
        format!(
            "maille: response-timeout: {about}: no answer came in the time that the service allows\n"
        )
    );
    first.stop();

    terms.retry.on = reset;
    let second = client(&lab, terms, &[alone[0], (&good, well.address.port())]);
    let mut wire = Wire::connect(second.outbound);
    (0..20).for_each(|_| assert_eq!(ask(&mut wire, "GET").0, "200"));
    drop(wire);
    assert!(tally(second).retries > 0);

    let terms = Terms {
        request_timeout: moment,
        ..Terms::DEFAULT
    };
    let third = client(&lab, terms, &alone);
    let (status, text) = ask(&mut Wire::connect(third.outbound), "GET");
    assert_eq!(status, "504");
    assert!(
        text.starts_with(&format!("maille: request-timeout: {about}: ")),
        "{text}"
    );
    third.stop();

    let stuck = Origin::start(SocketAddr::new(bad.ip, 0), half);
    let fourth = client(&lab, terms, &[(&bad, stuck.address.port())]);
    let mut wire = Wire::connect(fourth.outbound);
    wire.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n");
    assert!(wire.head().unwrap().starts_with("HTTP/1.1 200"));
    assert_eq!(wire.rest().0, b"half", "cut, and not made to look whole");
    let counted = fourth.stop();
    assert_eq!(counted.only().1.failed, [(Failure::RequestTimeout, 1)]);
}
