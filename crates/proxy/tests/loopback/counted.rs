// SPDX-License-Identifier: Apache-2.0
//! Every metric that is declared is also counted: each is brought above zero here, by what it counts.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use maille_chassis::log::{self, Format};
use maille_chassis::metrics::Text;
use maille_chassis::{limited, panics};
use maille_engine::route::Direction;
use maille_model::{Membership, Protocol};
use maille_proxy::metrics::{self, process};
use maille_proxy::telemetry::report::Counted;
use maille_proxy::telemetry::{Carries, EDGES, EdgeKey, Ended, Gauges, Recorder, Response};

use crate::http::Pair;
use crate::lab::Lab;
use crate::origin::{Origin, Wire};

/// A log that is never written.
struct Stuck(mpsc::Receiver<()>);

impl io::Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Ends with the test.
        let _ = self.0.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// HTTP, TCP, handshakes, and a server that is away.
fn traffic(counted: &Counted) {
    let pair = Pair::http();
    let mut wire = pair.dial();
    wire.send("GET /bytes/5 HTTP/1.1\r\nHost: web\r\n\r\n");
    assert!(wire.response().0.starts_with("HTTP/1.1 200"));
    drop(wire);
    pair.client.batches(|batch| counted.add(batch));
    pair.server.batches(|batch| counted.add(batch));

    let pair = Pair::new(Origin::echo, Protocol::Tcp);
    let mut wire = pair.dial();
    wire.send("hello");
    assert_eq!(wire.exactly(5), b"hello");
    drop(wire);
    pair.client.batches(|batch| counted.add(batch));

    let lab = Lab::new();
    let (app, gone) = (
        lab.pod(1, Membership::Meshed),
        lab.pod(3, Membership::Meshed),
    );
    let mut snapshot = lab.own(&app, 9, Protocol::Undeclared);
    lab.add_service(&mut snapshot, Protocol::Http1, &[(&gone, 7)]);
    let client = lab.start(&app, snapshot, lab.service(), SocketAddr::new(app.ip, 9));
    let mut wire = Wire::connect(client.outbound);
    wire.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n");
    assert!(wire.response().0.starts_with("HTTP/1.1 503"));
    drop(wire);
    client.batches(|batch| counted.add(batch));
}

/// More edges than there is room for, one that came back too late, and connections that are open.
fn crowd(counted: &Counted) {
    let mut recorder = Recorder::new();
    let (send, _batches) = tokio::sync::mpsc::channel(1);
    let ended = Ended {
        response: Response::http(200),
        failure: None,
        latency: Duration::ZERO,
    };
    let key = |port| EdgeKey {
        direction: Direction::Inbound,
        peer_uid: None,
        workload: None,
        peer: None,
        peer_address: None,
        service: None,
        port,
        carries: Carries::Http,
        protected: false,
        server_name: None,
    };
    let first = recorder.edge(&key(1));
    let tcp = recorder.edge(&EdgeKey {
        carries: Carries::Tcp,
        ..key(5432)
    });
    recorder.opened(tcp);
    recorder.gauge(Gauges {
        sockets: 2,
        mesh_connections: 1,
        exchanges: 1,
    });
    for port in 1..=u16::try_from(EDGES).unwrap() + 1 {
        let edge = recorder.edge(&key(port));
        recorder.request(edge, &ended);
    }
    counted.add(&recorder.take());
    for _ in 0..100 {
        recorder.flush(&send);
    }
    let late = recorder.edge(&key(60_000));
    recorder.request(late, &ended);
    recorder.request(first, &ended);
    counted.add(&recorder.take());
}

#[test]
fn every_metric_counts_something() {
    let counted = Counted::default();
    traffic(&counted);
    crate::balance::trouble(|batch| counted.add(batch));
    crowd(&counted);
    let (stay, stuck) = mpsc::channel();
    log::init_to("info", Format::Text, Stuck(stuck)).unwrap();
    for _ in 0..5_000 {
        log::access(Format::Text, b"x".to_vec());
        maille_chassis::log::tracing::info!("x");
        limited!(info, "x");
    }
    panics::install();
    assert!(std::panic::catch_unwind(|| panic!("on purpose")).is_err());
    drop(std::panic::take_hook());

    let lab = Lab::new();
    let pod = lab.pod(1, Membership::Meshed);
    let mut known = lab.own(&pod, 80, Protocol::Http1);
    lab.add_service(&mut known, Protocol::Http1, &[(&pod, 80)]);
    let mut text = Text::default();
    let credentials = lab.credentials(&pod);
    process::write(&mut text, SystemTime::now(), &known, Some(&credentials));
    let pages = counted.pages().flatten().collect();
    let text = text.into_string() + &String::from_utf8(pages).unwrap();
    for metric in metrics::ALL {
        let counts = text.lines().any(|line| {
            let rest = line.strip_prefix(metric.name);
            let own = rest.is_some_and(|rest| rest.starts_with(['{', ' ', '_']));
            own && line
                .rsplit_once(' ')
                .is_some_and(|(_, value)| value.parse::<f64>().is_ok_and(|value| value > 0.0))
        });
        assert!(counts, "nothing counts {}:\n{text}", metric.name);
    }
    for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = name.split(' ').next().unwrap();
        let declared = metrics::ALL.iter().any(|metric| metric.name == name);
        assert!(declared, "{name} is not declared");
    }
    drop(stay);
}
