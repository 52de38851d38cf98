// SPDX-License-Identifier: Apache-2.0
//! The real binary in a namespace between two pods, with real connections: what it reports and how it ends.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use maille_sys::NetNs;
use maille_sys::link::{self, MAIN_TABLE, Net, Route};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const CLIENT: &str = "10.244.1.2";
const SERVER: &str = "10.244.2.2";

/// A node with two pods.
struct Cluster {
    node: NetNs,
    client: NetNs,
    server: NetNs,
}

impl Cluster {
    fn new() -> Self {
        let create = || NetNs::create().unwrap();
        let cluster = Self {
            node: create(),
            client: create(),
            server: create(),
        };
        cluster.node.sysctl("net/ipv4/ip_forward", "1").unwrap();
        cluster
    }

    fn connect(&self) {
        for (number, pod) in [(1, &self.client), (2, &self.server)] {
            let (veth, gateway) = (format!("veth{number}"), format!("10.244.{number}.1"));
            link::inside(&self.node, async |net: Net| {
                net.add_veth(&veth, "eth0", pod, 1500).await?;
                let address = format!("{gateway}/24").parse().unwrap();
                net.add_address(&veth, address).await?;
                net.up(&veth).await
            })
            .unwrap();
            link::inside(pod, async |net: Net| {
                let address = format!("10.244.{number}.2/24").parse().unwrap();
                net.add_address("eth0", address).await?;
                net.up("eth0").await?;
                let route = Route {
                    destination: "0.0.0.0/0".parse().unwrap(),
                    gateway: Some(gateway.parse().unwrap()),
                    onlink: false,
                    table: MAIN_TABLE,
                    metric: 0,
                };
                net.add_route("eth0", &route).await
            })
            .unwrap();
        }
    }

    /// Sends `request` from client to server and `response` back.
    fn exchange(&self, request: &[u8], response: &[u8]) {
        let bind = || TcpListener::bind((SERVER, 8080)).unwrap();
        let listener = self.server.run(bind).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut got = vec![0; request.len()];
                stream.read_exact(&mut got).unwrap();
                stream.write_all(response).unwrap();
            });
            let talk = || {
                let mut stream = TcpStream::connect((SERVER, 8080)).unwrap();
                stream.write_all(request).unwrap();
                let mut got = Vec::new();
                stream.read_to_end(&mut got).unwrap();
                got
            };
            assert_eq!(self.client.run(talk).unwrap(), response);
        });
    }
}

/// A running observer.
struct Observer {
    child: Child,
    dir: tempfile::TempDir,
}

impl Observer {
    /// Starts it in `namespace` and waits until it is ready.
    fn start(namespace: &NetNs, meshed: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let notify = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        notify
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let pods = json!({ "pods": [
            { "address": CLIENT, "meshed": meshed, "name": "shop/client" },
            { "address": SERVER, "meshed": meshed, "name": "shop/server" },
        ]});
        std::fs::write(dir.path().join("expect.json"), pods.to_string()).unwrap();
        let start = || {
            Command::new(env!("CARGO_BIN_EXE_maille-observer"))
                .arg("--report")
                .arg(dir.path().join("report.json"))
                .arg("--expect")
                .arg(dir.path().join("expect.json"))
                .args(["--marker", "s3cret-marker"])
                .env("NOTIFY_SOCKET", dir.path().join("notify"))
                .spawn()
                .unwrap()
        };
        let child = namespace.run(start).unwrap();
        let mut message = [0; 64];
        let length = notify.recv(&mut message).unwrap();
        assert_eq!(&message[..length], b"READY=1");
        Self { child, dir }
    }

    fn report(&self) -> PathBuf {
        self.dir.path().join("report.json")
    }

    /// Ends it; gives its exit code and its report.
    fn stop(mut self) -> (Option<i32>, Value) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
        let status = self.child.wait().unwrap();
        let report = std::fs::read(self.report()).unwrap();
        (status.code(), serde_json::from_slice(&report).unwrap())
    }
}

/// A hello as TLS 1.3 has it, in one record: the part that is readable is all that matters.
fn hello(kind: u8) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0x13, 0x01, 0, 0, 6, 0, 43, 0, 2, 3, 4]);
    let length = u8::try_from(body.len()).unwrap();
    let mut record = vec![22, 3, 3, 0, length + 4, kind, 0, 0, length];
    record.extend(body);
    record
}

fn application_data(bytes: &[u8]) -> Vec<u8> {
    let mut records = Vec::new();
    for part in bytes.chunks(16_000) {
        records.extend([23, 3, 3]);
        records.extend(u16::try_from(part.len()).unwrap().to_be_bytes());
        records.extend(part);
    }
    records
}

#[test]
fn plain_between_meshed_pods_is_a_violation() {
    let cluster = Cluster::new();
    // It is there first: the interfaces come later.
    let observer = Observer::start(&cluster.node, true);
    cluster.connect();
    cluster.exchange(b"GET / s3cret-marker", b"HTTP/1.1 200 OK");
    let (code, report) = observer.stop();
    assert_eq!(code, Some(3), "{report}");
    assert_eq!(report["bytes_plain_between_meshed"], 34, "{report}");
    assert_eq!(report["marker_hits_between_meshed"], 1, "{report}");
    assert_eq!(report["streams"], 2, "{report}");
    let pair = json!({
        "from": "shop/client", "to": "shop/server", "bytes_tls": 0, "bytes_plain": 19,
    });
    assert_eq!(report["pairs"][0], pair);
    let reasons: Vec<_> = report["violations"].as_array().unwrap().iter().collect();
    assert_eq!(reasons.len(), 3, "{report}");
    assert!(reasons.iter().all(|violation| violation["at"].is_f64()));
}

#[test]
fn plain_between_others_is_only_counted() {
    let cluster = Cluster::new();
    let observer = Observer::start(&cluster.node, false);
    cluster.connect();
    cluster.exchange(b"GET / s3cret-marker", &vec![b'x'; 3_000_000]);
    let (code, report) = observer.stop();
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(report["bytes_plain"], 3_000_019, "{report}");
    assert_eq!(report["bytes_plain_between_meshed"], 0, "{report}");
    assert_eq!(report["violations"], json!([]));
}

#[test]
fn tls_between_meshed_pods_is_clean_unless_it_holds_a_marker() {
    for (content, code) in [(&b"opaque"[..], 0), (b"s3cret-marker", 3)] {
        let cluster = Cluster::new();
        let observer = Observer::start(&cluster.node, true);
        cluster.connect();
        let request = [hello(1), application_data(&content.repeat(100_000))].concat();
        let response = [hello(2), application_data(b"opaque too")].concat();
        cluster.exchange(&request, &response);
        let (got, report) = observer.stop();
        assert_eq!(got, Some(code), "{report}");
        let all = request.len() + response.len();
        assert_eq!(report["bytes_tls"], all, "{report}");
        assert_eq!(report["bytes_plain"], 0, "{report}");
        assert_eq!(report["gaps"], 0, "{report}");
        assert_eq!(report["frames_dropped"], 0, "{report}");
    }
}

#[test]
fn wrong_flags_are_refused() {
    for args in [&["--report"][..], &[], &["--rport", "x"]] {
        let run = Command::new(env!("CARGO_BIN_EXE_maille-observer"))
            .args(args)
            .output()
            .unwrap();
        assert_eq!(run.status.code(), Some(2));
    }
}
