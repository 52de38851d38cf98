// SPDX-License-Identifier: Apache-2.0
//! Counting: bounds, merging, and that every event is in exactly one batch.

use proptest::prelude::*;

use maille_chassis::metrics::Text;

use super::totals::{Place, Totals};
use super::*;

fn key(port: u16) -> EdgeKey {
    EdgeKey {
        direction: Direction::Outbound,
        peer_uid: WorkloadUid::new("uid-2"),
        workload: Some(PeerWorkload {
            namespace: "shop".parse().unwrap(),
            name: "cart-1".parse().unwrap(),
            owner: Some(Owner {
                kind: "Deployment".to_owned(),
                name: "cart".parse().unwrap(),
            }),
        }),
        peer_address: None,
        peer: Some("spiffe://cluster.local/ns/shop/sa/cart".parse().unwrap()),
        service: Some("shop/cart".parse().unwrap()),
        port,
        carries: Carries::Http,
        protected: true,
        server_name: None,
    }
}

fn ended(status: u16, millis: u64) -> Ended {
    Ended {
        response: Response::http(status),
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
    assert_eq!(
        sum.failed,
        [(Failure::NoEndpoint, 1), (Failure::Misdirected, 1)]
    );
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
    recorder.closed(
        edge,
        Some(Failure::ConnectRefused),
        Duration::from_millis(1),
    );
    let sum = &recorder.take().edges[0].1;
    assert_eq!(
        (sum.opened, sum.closed, sum.broken, sum.requests),
        (2, 1, 1, 0)
    );
    assert_eq!(sum.failed, [(Failure::ConnectRefused, 1)]);
    assert_eq!(sum.latency_micros, 1_000);
}

#[test]
fn names_are_told_apart_but_not_without_bound() {
    let mut recorder = Recorder::new();
    let (send, _batches) = mpsc::channel(1_000);
    let asked = |name: &str| EdgeKey {
        carries: Carries::Tcp,
        server_name: Some(ServerName::from_bytes(name.as_bytes()).unwrap()),
        ..key(443)
    };
    for n in 0..1_000 {
        let edge = recorder.edge(&asked(&format!("shop-{n}.example")));
        recorder.opened(edge);
        recorder.closed(edge, None, Duration::ZERO);
    }
    let batch = recorder.take();
    assert_eq!(batch.edges.len(), NAMED_EDGES + 1);
    let (rest, sum) = &batch.edges[NAMED_EDGES];
    assert_eq!(rest.server_name, None);
    assert_eq!(sum.opened, 1_000 - NAMED_EDGES as u64);
    let mut totals = Totals::default();
    totals.add(&batch);
    let text = text(&totals);
    for line in [
        "peer=\"dst\",sni=\"shop-0.example\"} 1".to_owned(),
        format!("peer=\"dst\"}} {}", sum.opened),
    ] {
        let found = |one: &str| one.starts_with("tcp_open_total{") && one.ends_with(&line);
        assert!(text.lines().any(found), "{line} is not in\n{text}");
    }
    // A name that nobody asks for any more leaves its place, once all places are taken.
    for port in 1..=u16::try_from(EDGES).unwrap() {
        recorder.edge(&key(port));
    }
    for _ in 0..=QUIET_FLUSHES {
        recorder.flush(&send);
    }
    let late = recorder.edge(&key(60_000));
    assert!(!recorder.slots[late.place].other);
    let another = recorder.edge(&asked("late.example"));
    let kept = &recorder.slots[another.place].key;
    assert_eq!(kept.server_name, asked("late.example").server_name);
}

#[test]
fn edges_are_bounded_and_quiet_ones_give_way() {
    let mut recorder = Recorder::new();
    let (send, mut batches) = mpsc::channel(1_000);
    let ids: Vec<_> = (1..=u16::try_from(EDGES).unwrap())
        .map(|port| recorder.edge(&key(port)))
        .collect();
    let open = recorder.edge(&key(7));
    recorder.opened(open);
    for port in 50_000..60_000 {
        let late = recorder.edge(&key(port));
        recorder.request(late, &ended(200, 1));
    }
    assert_eq!(recorder.slots.len(), EDGES + 1);
    recorder.flush(&send);
    let first = batches.try_recv().unwrap();
    assert_eq!((first.dropped, first.overflow), (0, 10_000));
    let (other, sum) = &first.edges[1];
    assert!(other.is_other() && other.protected, "{other:?}");
    assert_eq!(sum.requests, 10_000, "what does not fit is counted");
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
    recorder.closed(open, None, Duration::ZERO);
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
    assert!(sum.responses.len() <= RESPONSES, "{}", sum.responses.len());
    assert_eq!(
        sum.responses.iter().map(|(_, count)| count).sum::<u64>(),
        900
    );
}

fn text(totals: &Totals) -> String {
    let mut text = Text::default();
    let keys = totals.keys();
    let mut place = Place::default();
    while let Some(next) = totals.page(&mut text, &keys, place, 0) {
        place = next;
    }
    totals.write(&mut text);
    text.into_string()
}

/// One of everything.
fn various() -> Recorder {
    let mut recorder = Recorder::new();
    let http = recorder.edge(&key(80));
    recorder.request(http, &ended(200, 7));
    let grpc = Ended {
        response: Response {
            status: 200,
            grpc: Some(14),
        },
        ..ended(200, 7)
    };
    recorder.request(http, &grpc);
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
        server_name: None,
        peer: None,
        peer_uid: None,
        workload: None,
        peer_address: Some([10, 0, 0, 9].into()),
        port: 5432,
    };
    let other = EdgeKey {
        peer_address: Some([10, 0, 0, 10].into()),
        ..tcp.clone()
    };
    for client in [tcp, other] {
        let tcp = recorder.edge(&client);
        recorder.opened(tcp);
        recorder.opened(tcp);
        recorder.closed(
            tcp,
            Some(Failure::UpstreamClosed),
            Duration::from_millis(15),
        );
        recorder.bytes(tcp, 11, 22);
    }
    recorder.handshake(Direction::Inbound, Handshake::Refused);
    recorder.gauge(Gauges {
        sockets: 3,
        mesh_connections: 2,
        exchanges: 1,
    });
    recorder
}

#[test]
fn prometheus_text_has_the_names_that_people_know() {
    let mut totals = Totals::default();
    totals.add(&various().take());
    let text = text(&totals);
    let labels = "direction=\"outbound\",tls=\"true\",dst_port=\"80\",dst_namespace=\"shop\",dst_service=\"cart\",\
                  dst_pod=\"cart-1\",dst_deployment=\"cart\",dst_serviceaccount=\"cart\",\
                  server_id=\"spiffe://cluster.local/ns/shop/sa/cart\"";
    let inbound = "direction=\"inbound\",tls=\"no_identity\",dst_port=\"5432\",peer=\"src\"";
    let failure =
        "flag=\"connect-timeout\",stage=\"connect\",blame=\"upstream\",status_code=\"504\"";
    for line in [
        format!("request_total{{{labels}}} 3"),
        format!("response_total{{{labels},classification=\"success\",status_code=\"200\"}} 1"),
        format!(
            "response_total{{{labels},classification=\"failure\",status_code=\"200\",grpc_status=\"14\"}} 1"
        ),
        format!("response_total{{{labels},classification=\"failure\",status_code=\"504\"}} 1"),
        format!("response_latency_ms_bucket{{{labels},le=\"5\"}} 0"),
        format!("response_latency_ms_bucket{{{labels},le=\"10\"}} 2"),
        format!("response_latency_ms_bucket{{{labels},le=\"50000\"}} 2"),
        format!("response_latency_ms_bucket{{{labels},le=\"+Inf\"}} 3"),
        format!("response_latency_ms_sum{{{labels}}} 120014"),
        format!("response_latency_ms_count{{{labels}}} 3"),
        format!("maille_failure_total{{{labels},carries=\"http\",{failure}}} 1"),
        format!("tcp_open_total{{{inbound}}} 4"),
        format!("tcp_open_connections{{{inbound}}} 2"),
        format!("tcp_close_total{{{inbound},classification=\"failure\"}} 2"),
        format!("tcp_connection_duration_ms_bucket{{{inbound},le=\"20\"}} 2"),
        format!("tcp_write_bytes_total{{{inbound},carries=\"tcp\"}} 22"),
        format!("tcp_read_bytes_total{{{inbound},carries=\"tcp\"}} 44"),
        "maille_mesh_handshake_total{direction=\"inbound\",result=\"refused\"} 1".to_owned(),
        "maille_mesh_connections 2".to_owned(),
        "maille_sockets 3".to_owned(),
        "maille_exchanges 1".to_owned(),
        "maille_edges 2".to_owned(),
        "# TYPE response_latency_ms histogram".to_owned(),
        "maille_edges_dropped_total 0".to_owned(),
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line}\nis not in\n{text}"
        );
    }
    assert!(
        !text.contains(&format!("tcp_open_total{{{labels}")),
        "HTTP exchanges are no connections"
    );
    assert!(!text.contains("10.0.0.9"), "clients are not told apart");
}

#[test]
fn totals_are_bounded() {
    let mut totals = Totals::default();
    let ports = 1..=u16::try_from(EDGES).unwrap() + 200;
    for port in ports.clone() {
        totals.add(&Batch {
            edges: vec![(Arc::new(key(port)), Increment::default())],
            ..Batch::default()
        });
    }
    let known = ports
        .clone()
        .filter(|port| totals.of(&key(*port)).is_some());
    assert_eq!(known.count(), EDGES + OTHERS);
    assert!(totals.of(&key(*ports.end())).is_some(), "the newest stay");
}

#[test]
fn a_text_of_many_edges_comes_in_small_pages() {
    let mut totals = Totals::default();
    let edges = (1..=u16::try_from(EDGES).unwrap()).map(|port| {
        let increment = Increment {
            requests: u64::from(port),
            ..Increment::default()
        };
        (Arc::new(key(port)), increment)
    });
    let edges = edges.collect();
    totals.add(&Batch {
        edges,
        ..Batch::default()
    });
    let whole = text(&totals);
    let counted = report::Counted::of(totals);
    let pages: Vec<_> = counted.pages().collect();
    let largest = pages.iter().map(Vec::len).max().unwrap();
    assert!(largest < 100_000, "{largest}");
    assert!(pages.len() > 100, "{}", pages.len());
    assert_eq!(String::from_utf8(pages.concat()).unwrap(), whole);
}

fn increments() -> impl Strategy<Value = Vec<Increment>> {
    let one = (0u64..1_000, 0u64..1_000, 100u16..120, 0u16..464).prop_map(
        |(requests, sent, status, bucket)| Increment {
            requests,
            sent,
            responses: vec![(Response::http(status), requests)],
            latency: vec![(bucket, requests)],
            failed: vec![(
                if status % 2 == 0 {
                    Failure::Draining
                } else {
                    Failure::Overloaded
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
    sum.failed.sort_unstable();
    sum.responses.sort_unstable();
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
