// SPDX-License-Identifier: Apache-2.0
//! Counting: bounds, merging, and that every event is in exactly one batch.

use proptest::prelude::*;

use super::totals::Totals;
use super::*;

fn key(port: u16) -> EdgeKey {
    EdgeKey {
        direction: Direction::Outbound,
        peer_uid: WorkloadUid::new("uid-2"),
        peer_address: None,
        peer: Some("spiffe://cluster.local/ns/shop/sa/cart".parse().unwrap()),
        service: Some("shop/cart".parse().unwrap()),
        port,
        carries: Carries::Http,
        protected: true,
    }
}

fn ended(status: u16, millis: u64) -> Ended {
    Ended {
        status,
        failure: None,
        latency: Duration::from_millis(millis),
    }
}

#[test]
fn requests_are_counted_once_with_their_failures() {
    let mut recorder = Recorder::new();
    let edge = recorder.edge(&key(80));
    assert_eq!(recorder.edge(&key(80)), edge);
    recorder.request(edge, &ended(200, 1));
    recorder.request(edge, &ended(404, 2));
    recorder.request(edge, &ended(500, 3));
    recorder.request(edge, &ended(0, 4));
    recorder.request(
        edge,
        &Ended {
            failure: Some(Failure::NoEndpoint),
            ..ended(503, 0)
        },
    );
    recorder.request(
        edge,
        &Ended {
            failure: Some(Failure::Misdirected),
            ..ended(421, 0)
        },
    );
    recorder.bytes(edge, 10, 20);
    let batch = recorder.take();
    let [(counted, sum)] = &batch.edges[..] else {
        panic!("{batch:?}")
    };
    assert_eq!(**counted, key(80));
    assert_eq!(
        (sum.requests, sum.failures, sum.sent, sum.received),
        (6, 4, 10, 20)
    );
    assert_eq!(sum.latency_micros, 10_000);
    assert_eq!(sum.latency.iter().map(|(_, count)| count).sum::<u64>(), 6);
    assert_eq!(sum.flags, [("no-endpoint", 1), ("misdirected", 1)]);
    assert_eq!(recorder.take(), Batch::default(), "nothing is taken twice");
}

#[test]
fn connections_are_open_until_they_are_closed() {
    let mut recorder = Recorder::new();
    let edge = recorder.edge(&EdgeKey {
        carries: Carries::Tcp,
        ..key(5432)
    });
    recorder.opened(edge);
    recorder.opened(edge);
    recorder.closed(edge, Some(Failure::ConnectRefused));
    let sum = &recorder.take().edges[0].1;
    assert_eq!((sum.opened, sum.closed, sum.requests), (2, 1, 0));
    assert_eq!(sum.flags, [("connect-refused", 1)]);
    assert!(sum.latency.is_empty());
}

#[test]
fn edges_are_bounded_and_quiet_ones_give_way() {
    let mut recorder = Recorder::new();
    let (send, mut batches) = mpsc::channel(1_000);
    let ids: Vec<_> = (0..u16::try_from(EDGES).unwrap())
        .map(|port| recorder.edge(&key(port)))
        .collect();
    let open = recorder.edge(&key(7));
    recorder.opened(open);
    let late = recorder.edge(&key(60_000));
    recorder.request(late, &ended(200, 1));
    recorder.flush(&send);
    let first = batches.try_recv().unwrap();
    assert_eq!(first.dropped, 1);
    for _ in 0..QUIET_FLUSHES {
        recorder.request(ids[1], &ended(200, 1));
        recorder.flush(&send);
    }
    let late = recorder.edge(&key(60_000));
    recorder.request(late, &ended(200, 1));
    recorder.request(ids[0], &ended(200, 1));
    let batch = recorder.take();
    assert_eq!(
        batch.dropped, 1,
        "what is counted for the edge that gave way is not counted for its successor"
    );
    assert_eq!(batch.edges[0].0.port, 60_000);
    recorder.closed(open, None);
    recorder.request(ids[1], &ended(200, 1));
    assert_eq!(recorder.take().edges.len(), 2, "busy and open ones stay");
}

#[test]
fn a_full_queue_keeps_the_counts() {
    let mut recorder = Recorder::new();
    let (send, mut batches) = mpsc::channel(1);
    let edge = recorder.edge(&key(80));
    for _ in 0..5 {
        recorder.request(edge, &ended(200, 1));
        recorder.flush(&send);
    }
    assert_eq!(batches.try_recv().unwrap().edges[0].1.requests, 1);
    recorder.flush(&send);
    assert_eq!(batches.try_recv().unwrap().edges[0].1.requests, 4);
}

#[test]
fn status_codes_are_bounded() {
    let mut recorder = Recorder::new();
    let edge = recorder.edge(&key(80));
    for status in 100..=999 {
        recorder.request(edge, &ended(status, 1));
    }
    let sum = recorder.take().edges.remove(0).1;
    assert!(sum.statuses.len() <= STATUSES, "{}", sum.statuses.len());
    assert_eq!(
        sum.statuses.iter().map(|(_, count)| count).sum::<u64>(),
        900
    );
}

#[test]
fn prometheus_text_has_the_names_that_people_know() {
    let mut recorder = Recorder::new();
    let http = recorder.edge(&key(80));
    recorder.request(http, &ended(200, 7));
    recorder.request(
        http,
        &Ended {
            failure: Some(Failure::ConnectTimeout),
            ..ended(504, 120_000)
        },
    );
    let tcp = EdgeKey {
        direction: Direction::Inbound,
        carries: Carries::Tcp,
        service: None,
        protected: false,
        peer: None,
        peer_uid: None,
        peer_address: None,
        port: 5432,
    };
    let tcp = recorder.edge(&tcp);
    recorder.opened(tcp);
    recorder.bytes(tcp, 11, 22);
    let mut totals = Totals::default();
    totals.add(&recorder.take());
    let mut text = String::new();
    totals.write(&mut text);
    let labels = "direction=\"outbound\",peer=\"dst\",tls=\"true\",dst_port=\"80\",dst_namespace=\"shop\",dst_service=\"cart\",\
                  peer_id=\"spiffe://cluster.local/ns/shop/sa/cart\",peer_uid=\"uid-2\"";
    let inbound = "direction=\"inbound\",peer=\"src\",tls=\"false\",dst_port=\"5432\"";
    for line in [
        format!("request_total{{{labels}}} 2"),
        format!("response_total{{{labels},classification=\"success\",status_code=\"200\"}} 1"),
        format!("response_total{{{labels},classification=\"failure\",status_code=\"504\"}} 1"),
        format!("response_latency_ms_bucket{{{labels},le=\"5\"}} 0"),
        format!("response_latency_ms_bucket{{{labels},le=\"10\"}} 1"),
        format!("response_latency_ms_bucket{{{labels},le=\"50000\"}} 1"),
        format!("response_latency_ms_bucket{{{labels},le=\"+Inf\"}} 2"),
        format!("response_latency_ms_sum{{{labels}}} 120007"),
        format!("response_latency_ms_count{{{labels}}} 2"),
        format!("mesh_refusal_total{{{labels},flag=\"connect-timeout\"}} 1"),
        format!("tcp_open_total{{{inbound}}} 1"),
        format!("tcp_open_connections{{{inbound}}} 1"),
        format!("tcp_write_bytes_total{{{inbound}}} 11"),
        format!("tcp_read_bytes_total{{{inbound}}} 22"),
        "# TYPE response_latency_ms histogram".to_owned(),
        "telemetry_dropped_total 0".to_owned(),
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line}\nis not in\n{text}"
        );
    }
    assert!(
        !text.contains(&format!("tcp_open_total{{{labels}}}")),
        "HTTP exchanges are no connections"
    );
}

#[test]
fn totals_are_bounded() {
    let mut totals = Totals::default();
    let ports = 0..u16::try_from(EDGES).unwrap() + 200;
    for port in ports.clone() {
        totals.add(&Batch {
            edges: vec![(Arc::new(key(port)), Increment::default())],
            dropped: 0,
        });
    }
    assert_eq!(
        ports
            .clone()
            .filter(|port| totals.of(&key(*port)).is_some())
            .count(),
        EDGES
    );
    assert!(totals.of(&key(ports.end - 1)).is_some(), "the newest stay");
}

fn increments() -> impl Strategy<Value = Vec<Increment>> {
    let one = (0u64..1_000, 0u64..1_000, 100u16..120, 0u16..464).prop_map(
        |(requests, sent, status, bucket)| Increment {
            requests,
            sent,
            statuses: vec![(status, requests)],
            latency: vec![(bucket, requests)],
            flags: vec![(
                if status % 2 == 0 {
                    "draining"
                } else {
                    "overloaded"
                },
                requests,
            )],
            ..Increment::default()
        },
    );
    proptest::collection::vec(one, 0..20)
}

fn sum(all: &[Increment]) -> Increment {
    let mut sum = Increment::default();
    all.iter().for_each(|one| sum.merge(one));
    sum.flags.sort_unstable();
    sum.statuses.sort_unstable();
    sum
}

proptest! {
    #[test]
    fn merging_has_no_order(all in increments().prop_shuffle(), cut: prop::sample::Index) {
        let (left, right) = all.split_at(cut.index(all.len() + 1));
        let mut reversed = all.clone();
        reversed.reverse();
        prop_assert_eq!(sum(&all), sum(&reversed));
        prop_assert_eq!(sum(&all), sum(&[sum(left), sum(right)]));
    }
}
