// SPDX-License-Identifier: Apache-2.0
//! A mesh of real processes on loopback: control on a temporary directory, `maille-proxy` at explicit ports, and an application.
//! A client pod, a server pod, and a service in front of the second. Read `pki.rs` next.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use maille_chassis::drain::Drain;
use maille_chassis::tasks::Tasks;
use maille_control::run::start;
use maille_control::settings::{Settings, Source};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Nothing in these tests takes longer, but for the load.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// No line for each request.
pub(crate) const QUIETLY: &str = "off";
const MESH: u16 = 15008;
const APP: u16 = 8080;
const OUTBOUND: u16 = 15001;

static WORLDS: AtomicU8 = AtomicU8::new(0);

/// Control, and the addresses.
pub(crate) struct World {
    pub(crate) state: TempDir,
    net: [u8; 2],
    /// Control lives in it.
    runtime: Option<Runtime>,
    drain: Drain,
}

/// A `maille-proxy`, ended with the test.
pub(crate) struct Proxy {
    child: Child,
    log: PathBuf,
}

/// An application that answers every request with `ok`.
pub(crate) struct App {
    accepted: Arc<AtomicUsize>,
}

impl World {
    /// Starts control, whose certificates live for `leaf`. The pods `client` and `server` are both meshed.
    pub(crate) fn new(leaf: Duration) -> Self {
        let state = tempfile::Builder::new()
            .prefix("m")
            .tempdir_in("/tmp")
            .unwrap();
        // Two runs at the same time must not meet.
        let run = u8::try_from(std::process::id() % 250).unwrap() + 1;
        let net = [run, WORLDS.fetch_add(1, Ordering::SeqCst)];
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let drain = Drain::new();
        let world = Self {
            state,
            net,
            runtime: Some(runtime),
            drain,
        };
        world.write_objects();
        let settings = Settings {
            source: Source::State(world.state.path().to_owned()),
            trust_domain: "cluster.local".parse().unwrap(),
            leaf_lifetime: leaf,
            cluster_ranges: vec![format!("127.{}.{}.0/24", net[0], net[1]).parse().unwrap()],
        };
        let inside = world.runtime.as_ref().unwrap().enter();
        start(&settings, world.state.path(), &Tasks::new(), &world.drain).unwrap();
        drop(inside);
        world
    }

    fn write_objects(&self) {
        let state = self.state.path();
        for folder in ["manifests", "pods/client", "pods/server"] {
            fs::create_dir_all(state.join(folder)).unwrap();
        }
        let service = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop}}\nspec:\n  clusterIP: {}\n  \
             selector: {{app: server}}\n  ports: [{{name: http, port: 80, targetPort: {APP}}}]\n",
            self.ip(100)
        );
        fs::write(state.join("manifests/web.yaml"), service).unwrap();
        for (name, ip) in [("client", self.client()), ("server", self.server())] {
            let pod = serde_json::json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": { "name": name, "namespace": "shop", "uid": name, "labels": { "app": name },
                              "annotations": { "maille.io/capture": "outboard" } },
                "spec": { "serviceAccountName": name,
                          "containers": [{ "name": "app", "image": "app", "ports": [{ "containerPort": APP }] }] },
                "status": { "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }],
                            "conditions": [{ "type": "Ready", "status": "True" }] },
            });
            let path = state.join("pods").join(name).join("pod.json");
            fs::write(path, pod.to_string()).unwrap();
        }
    }

    pub(crate) fn ip(&self, n: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(127, self.net[0], self.net[1], n))
    }

    fn client(&self) -> IpAddr {
        self.ip(1)
    }

    fn server(&self) -> IpAddr {
        self.ip(2)
    }

    /// Where the client's application sends what is meant for the service.
    pub(crate) fn outbound(&self) -> SocketAddr {
        (self.client(), OUTBOUND).into()
    }

    /// Where the server's proxy is, or whoever stands there in its place.
    pub(crate) fn server_mesh(&self) -> SocketAddr {
        (self.server(), MESH).into()
    }

    /// The server's application.
    pub(crate) fn app(&self) -> SocketAddr {
        (self.server(), APP).into()
    }

    pub(crate) fn client_proxy(&self) -> Proxy {
        self.proxy("client", self.client(), QUIETLY)
    }

    pub(crate) fn server_proxy(&self, access: &str) -> Proxy {
        self.proxy("server", self.server(), access)
    }

    /// Starts the proxy of a pod and waits until it is ready.
    fn proxy(&self, uid: &str, ip: IpAddr, access: &str) -> Proxy {
        let path = |name: &str| self.state.path().join(format!("{uid}.{name}"));
        let notify = UnixDatagram::bind(path("notify")).unwrap();
        notify.set_read_timeout(Some(PATIENCE)).unwrap();
        let log = path("log");
        let child = Command::new(env!("CARGO_BIN_EXE_maille-proxy"))
            .env_clear()
            .env("MAILLE_WORKLOAD", uid)
            .env("MAILLE_AGENT", self.state.path().join("control.sock"))
            .env("MAILLE_OUTBOUND", format!("{ip}:{OUTBOUND}"))
            .env("MAILLE_OUTBOUND_TO", format!("{}:80", self.ip(100)))
            .env("MAILLE_MESH", format!("{ip}:{MESH}"))
            .env("MAILLE_ACCESS_LOG", access)
            .env("MAILLE_LOG_FORMAT", "json")
            .env("NOTIFY_SOCKET", path("notify"))
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let proxy = Proxy { child, log };
        let mut word = [0; 64];
        let told = notify.recv(&mut word);
        assert!(
            told.as_ref()
                .is_ok_and(|n| word.starts_with(b"READY=1") && *n >= 7),
            "{uid} did not become ready: {told:?}\n{}",
            proxy.text()
        );
        proxy
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Proxy {
    fn text(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// The fields of the lines that say `what`, or are of that log. A line that is still being written is left out.
    pub(crate) fn said(&self, what: &str) -> Vec<Value> {
        let text = self.text();
        let lines = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .filter_map(|line| match line {
                line if line["log"] == what => Some(line),
                line if line["fields"]["message"] == what => Some(line["fields"].clone()),
                _ => None,
            })
            .collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("-- {}\n{}", self.log.display(), self.text());
        }
    }
}

impl App {
    pub(crate) fn start(at: SocketAddr) -> Self {
        let listener = TcpListener::bind(at).unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || answer(stream));
            }
        });
        Self { accepted }
    }

    /// Connections so far.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// Requests have no body.
fn answer(mut stream: TcpStream) {
    let (mut buffer, mut chunk) = (Vec::new(), [0; 4096]);
    while let Ok(n @ 1..) = stream.read(&mut chunk) {
        buffer.extend_from_slice(&chunk[..n]);
        while let Some(at) = buffer.windows(4).position(|end| end == b"\r\n\r\n") {
            buffer.drain(..at + 4);
            let text = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            if stream.write_all(text).is_err() {
                return;
            }
        }
    }
}
