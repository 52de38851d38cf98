// SPDX-License-Identifier: Apache-2.0
use std::time::Duration;

use maille_sys::packet::Direction;
use serde_json::{Value, json};

use super::*;
use crate::frame::parse;
use crate::markers::Markers;
use crate::testing::{ACK, FIN, SYN, Tcp, client_stream, server_hello_of};

/// A stream between two addresses in one segment.
fn send(flows: &mut Flows, from: &str, to: &str, bytes: &[u8]) {
    let tcp = Tcp {
        from: format!("{from}:4000").parse().unwrap(),
        to: format!("{to}:80").parse().unwrap(),
        sequence: 0,
        flags: SYN,
        payload: bytes,
    };
    flows.take(
        (2, Direction::Out),
        Duration::from_secs(7),
        parse(&tcp.frame()),
    );
}

fn flows() -> Flows {
    Flows::new(Markers::new([b"s3cret".to_vec()]))
}

/// a and b are meshed, c is not.
fn expectation() -> Expectation {
    let pod = |name: &str, address: &str, meshed: bool| json!({ "name": name, "address": address, "meshed": meshed });
    let pods = json!({ "pods": [
        pod("s/a", "10.244.0.1", true), pod("s/b", "10.244.0.2", true), pod("s/c", "10.244.0.3", false),
    ]});
    Expectation::parse(pods.to_string().as_bytes()).unwrap()
}

fn report(flows: &Flows) -> Report {
    Report::new(flows, Some(&expectation()), &Trouble::default())
}

#[test]
fn only_what_both_ends_should_protect_is_held_against_them() {
    for (from, to, clean) in [
        ("10.244.0.1", "10.244.0.2", false),
        ("10.244.0.2", "10.244.0.1", false),
        ("10.244.0.1", "10.244.0.3", true),
        ("10.244.0.3", "10.244.0.2", true),
    ] {
        let mut flows = flows();
        send(&mut flows, from, to, b"plain s3cret");
        let report = report(&flows);
        assert_eq!(report.is_clean(), clean, "{from} {to}");
        assert_eq!(report.bytes_plain, 12);
        let between = if clean { (0, 0) } else { (12, 1) };
        let seen = (
            report.bytes_plain_between_meshed,
            report.marker_hits_between_meshed,
        );
        assert_eq!(seen, between);
        assert_eq!(report.violations.len(), if clean { 0 } else { 2 });
    }
}

#[test]
fn tls_is_clean_unless_it_is_old_or_holds_a_marker() {
    let old = server_hello_of([1; 32], &[0, 43, 0, 2, 3, 3]);
    for (stream, reason) in [
        (client_stream(b"data"), None),
        (client_stream(b"s3cret"), Some("a marker is readable")),
        (
            old,
            Some("not TLS 1.3: the server chose a version before TLS 1.3"),
        ),
    ] {
        let mut flows = flows();
        send(&mut flows, "10.244.0.1", "10.244.0.2", &stream);
        let report = report(&flows);
        assert_eq!(report.bytes_tls, stream.len() as u64);
        let reasons: Vec<_> = report
            .violations
            .iter()
            .map(|violation| &*violation.reason)
            .collect();
        assert_eq!(reasons, Vec::from_iter(reason));
    }
}

#[test]
fn probes_and_the_way_out_are_other() {
    let mut flows = flows();
    send(&mut flows, "169.254.1.1", "10.244.0.1", b"probe");
    send(&mut flows, "10.244.0.1", "192.0.2.1", b"out");
    let report = report(&flows);
    assert!(report.is_clean() && report.pairs.is_empty());
    assert_eq!(
        (report.bytes_other, report.bytes_plain, report.streams),
        (8, 0, 0)
    );
}

#[test]
fn an_address_may_become_known_after_its_bytes() {
    let mut flows = flows();
    send(&mut flows, "10.244.0.1", "10.244.0.2", b"plain");
    let early = Report::new(&flows, Some(&Expectation::default()), &Trouble::default());
    assert_eq!((early.is_clean(), early.bytes_other), (true, 5));
    assert_eq!(report(&flows).bytes_plain_between_meshed, 5);
}

#[test]
fn without_an_expectation_everybody_counts_and_nobody_is_meshed() {
    let mut flows = flows();
    send(&mut flows, "10.244.0.1", "192.0.2.1", b"plain");
    let report = Report::new(&flows, None, &Trouble::default());
    assert!(report.is_clean());
    assert_eq!(report.bytes_plain, 5);
    assert_eq!(report.pairs[0].to, "192.0.2.1");
}

#[test]
fn a_gap_is_a_violation_wherever_pods_are() {
    let mut flows = flows();
    let tcp = |sequence, flags, payload| Tcp {
        from: "10.244.0.1:4000".parse().unwrap(),
        to: "10.244.0.3:80".parse().unwrap(),
        sequence,
        flags,
        payload,
    };
    for tcp in [tcp(0, SYN, b""), tcp(9, ACK | FIN, b"late")] {
        flows.take((2, Direction::Out), Duration::ZERO, parse(&tcp.frame()));
    }
    flows.finish();
    let report = report(&flows);
    assert_eq!(
        (
            report.gaps,
            report.violations_total,
            report.violations.len()
        ),
        (1, 1, 1)
    );
}

#[test]
fn own_trouble_is_a_violation() {
    let dropped = Trouble {
        frames_dropped: 3,
        expectation: None,
    };
    let blind = Trouble {
        frames_dropped: 0,
        expectation: Some("expect.json cannot be read".to_owned()),
    };
    let mut missed = flows();
    missed.missed = 1;
    for (flows, trouble) in [
        (flows(), dropped),
        (flows(), blind),
        (missed, Trouble::default()),
    ] {
        let report = Report::new(&flows, Some(&expectation()), &trouble);
        assert!(!report.is_clean());
        assert_eq!(report.frames_dropped, trouble.frames_dropped);
        assert_eq!(report.violations.len(), 1);
    }
}

#[test]
fn the_file_is_replaced_and_bounded_and_says_what_its_readers_read() {
    let mut flows = flows();
    let pods: Vec<_> = (0..60)
        .map(|number| json!({ "address": format!("10.244.1.{number}"), "meshed": true, "name": "s/x" }))
        .collect();
    let expectation = json!({ "pods": pods }).to_string();
    for number in 1..60 {
        send(
            &mut flows,
            "10.244.1.0",
            &format!("10.244.1.{number}"),
            b"plain s3cret",
        );
    }
    let expectation = Expectation::parse(expectation.as_bytes()).unwrap();
    let report = Report::new(&flows, Some(&expectation), &Trouble::default());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("observer.json");
    fs::write(&path, "before").unwrap();
    report.write(&path).unwrap();
    let read: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(read["violations"].as_array().unwrap().len(), VIOLATIONS);
    assert_eq!(read["violations_total"], 118);
    for key in [
        "bytes_tls",
        "bytes_plain",
        "bytes_plain_between_meshed",
        "marker_hits_between_meshed",
        "frames_dropped",
        "gaps",
        "streams",
    ] {
        assert!(read[key].is_u64(), "{key}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}
