// SPDX-License-Identifier: Apache-2.0
//! A node whose pods have their proxy inside: `maille-init` with one capability, `maille-proxy` without any and as its own user,
//! control behind TLS on the node.

use std::fs::{self, File, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output};
use std::time::Duration;

use maille_sys::NetNs;
use maille_testkit::secure::{self, Control};
use maille_tests_netns::lab::{Kind, Node, Pod};
use serde_json::Value;
use tempfile::TempDir;

/// Where applications listen.
pub const APP: u16 = 8080;
/// The proxy's user.
const USER: u32 = 2102;
const HOUR: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(30);

/// A node, its pods, and control.
#[derive(Debug)]
pub struct Lab {
    /// The node. Its pods are not captured from outside.
    pub node: Node,
    /// Control, in the node's network.
    pub control: Control,
    dir: TempDir,
    rules: Rules,
}

/// What redirects the pods' connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// nftables.
    Nftables,
    /// The kernel's legacy packet filter.
    Legacy,
    /// Whichever the kernel has.
    Either,
}

/// A running proxy; it ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    child: Child,
    log: PathBuf,
}

// === impl Lab ===

impl Lab {
    /// A node whose first `meshed` pods of `pods` are to have a proxy, by what control says.
    pub fn new(pods: usize, meshed: usize) -> Self {
        Self::with(pods, meshed, Rules::Nftables)
    }

    /// The same, with these rules.
    pub fn with(pods: usize, meshed: usize, rules: Rules) -> Self {
        let node = Node::new(&vec![Kind::Plain; pods]);
        let ranges = [
            "10.244.0.0/16",
            "10.96.0.0/16",
            "fd00:244::/48",
            "fd00:96::/48",
        ];
        let ranges = ranges.map(|range| range.parse().unwrap());
        let at: SocketAddr = "10.96.0.10:15010".parse().unwrap();
        let control = node.namespace.run(|| Control::start(at, HOUR, &ranges));
        let control = control.unwrap().unwrap();
        for (n, pod) in node.pods.iter().enumerate() {
            let known = secure::Pod {
                uid: name(n),
                namespace: "shop".into(),
                addresses: pod.addresses().to_vec(),
                ports: vec![APP],
                meshed: n < meshed,
            };
            control.know(&known).unwrap();
        }
        let dir = tempfile::Builder::new()
            .prefix("m")
            .tempdir_in("/tmp")
            .unwrap();
        let lab = Self {
            node,
            control,
            dir,
            rules,
        };
        open(lab.dir.path(), 0o755);
        for program in ["maille-init", "maille-proxy"] {
            // The proxy's user may not enter every checkout.
            fs::copy(built(program), lab.path(program)).unwrap();
            open(&lab.path(program), 0o755);
        }
        lab.write("ca.crt", &lab.control.anchors());
        lab
    }

    /// A pod.
    pub fn pod(&self, n: usize) -> &Pod {
        &self.node.pods[n]
    }

    /// Its network.
    pub fn net(&self, n: usize) -> &NetNs {
        &self.pod(n).namespace
    }

    /// Where its application is, in both families.
    pub fn apps(&self, n: usize) -> [SocketAddr; 2] {
        self.pod(n).addresses().map(|ip| (ip, APP).into())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        open(&self.path(name), 0o644);
    }

    /// Runs `maille-init` in a pod, with CAP_NET_ADMIN alone.
    pub fn init(&self, n: usize, settings: &[(&str, &str)]) -> Output {
        self.init_with(n, "-all,+net_admin", settings)
    }

    /// Runs it without any right.
    pub fn powerless(&self, n: usize) -> Output {
        self.init_with(n, "-all", &[])
    }

    fn init_with(&self, n: usize, rights: &str, settings: &[(&str, &str)]) -> Output {
        let rules = match self.rules {
            Rules::Nftables => "nftables",
            Rules::Legacy => "legacy",
            Rules::Either => "auto",
        };
        let mut command = Command::new("setpriv");
        command
            .arg(format!("--bounding-set={rights}"))
            .args(["--inh-caps=-all", "--no-new-privs", "--"])
            .arg(self.path("maille-init"))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("MAILLE_RULES", rules)
            .envs(settings.iter().copied());
        self.net(n).run(|| command.output()).unwrap().unwrap()
    }

    /// Captures a pod.
    pub fn capture(&self, n: usize, settings: &[(&str, &str)]) {
        let output = self.init(n, settings);
        assert!(output.status.success(), "{output:?}");
    }

    /// Starts a pod's proxy and waits until it is ready.
    pub fn proxy(&self, n: usize) -> Proxy {
        let (proxy, notify) = self.begin(n);
        let mut word = [0; 64];
        let told = notify.recv(&mut word);
        let ready = told
            .as_ref()
            .is_ok_and(|length| word[..*length] == *b"READY=1");
        assert!(ready, "{told:?}\n{}", proxy.text());
        proxy
    }

    /// Captures a pod and starts its proxy.
    pub fn mesh(&self, n: usize) -> Proxy {
        self.capture(n, &[]);
        self.proxy(n)
    }

    /// Starts a pod's proxy, which tells on the socket when it is ready.
    pub fn begin(&self, n: usize) -> (Proxy, UnixDatagram) {
        let uid = name(n);
        self.write(&format!("{uid}.token"), &format!("pod-{uid}"));
        let socket = self.path(&format!("{uid}.notify"));
        // That of the proxy before.
        let _ = fs::remove_file(&socket);
        let notify = UnixDatagram::bind(&socket).unwrap();
        notify.set_read_timeout(Some(PATIENCE)).unwrap();
        open(&socket, 0o777);
        let log = self.path(&format!("{uid}.log"));
        let mut command = Command::new(self.path("maille-proxy"));
        command
            .env_clear()
            .envs(settings())
            .env("MAILLE_WORKLOAD", &uid)
            .env("MAILLE_CONTROL", self.control.address().to_string())
            .env("MAILLE_TRUST", self.path("ca.crt"))
            .env("MAILLE_TOKEN", self.path(&format!("{uid}.token")))
            .env("NOTIFY_SOCKET", &socket)
            .uid(USER)
            .gid(USER)
            .stderr(File::create(&log).unwrap());
        let child = self.net(n).run(|| command.spawn()).unwrap().unwrap();
        (Proxy { child, log }, notify)
    }
}

/// As an injected pod has them.
fn settings() -> [(&'static str, &'static str); 7] {
    [
        ("MAILLE_CAPTURE", "redirect"),
        ("MAILLE_SOURCE", "own"),
        ("MAILLE_OUTBOUND", "[::]:15001"),
        ("MAILLE_INBOUND", "[::]:15006"),
        ("MAILLE_MESH", "[::]:15008"),
        ("MAILLE_METRICS", "[::]:4191"),
        ("MAILLE_LOG_FORMAT", "json"),
    ]
}

/// The uid, the name and the service account of a pod.
fn name(n: usize) -> String {
    format!("p{n}")
}

fn open(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Beside the running test.
fn built(program: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let path = own.parent().and_then(Path::parent).unwrap().join(program);
    assert!(
        path.is_file(),
        "{} is missing: run the ring with `cargo xtask test netns`",
        path.display()
    );
    path
}

// === impl Proxy ===

impl Proxy {
    /// Everything that it has said.
    pub fn text(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// The fields of the lines that say `what`.
    pub fn said(&self, what: &str) -> Vec<Value> {
        let text = self.text();
        let lines = text.lines().map(serde_json::from_str::<Value>);
        let lines = lines
            .filter_map(Result::ok)
            .map(|line| line["fields"].clone());
        lines.filter(|fields| fields["message"] == what).collect()
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        let look = || self.child.try_wait().unwrap();
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
            .block_on(maille_testkit::until(
                "the end of the proxy",
                PATIENCE,
                look,
            ))
            .unwrap()
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
