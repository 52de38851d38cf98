// SPDX-License-Identifier: Apache-2.0
//! Servers with a client pod beside them, in two namespaces of one `maille up`: one outside the mesh, one inside.
//!
//! Must never let a test pass that did not use the mesh: [`Stage::end`] looks at what the proxies counted. Read `said.rs` next.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use maille_testkit::up::READY;
use maille_testkit::{Programs, Up, until_async};
use nix::unistd::geteuid;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::{Instant, timeout};

use crate::figures::Figures;
use crate::said::Said;

/// How long one command may take, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(240);

/// How long proxies may take to report.
const REPORT: Duration = Duration::from_secs(20);

/// How much later than without the mesh a server that speaks first may be heard, in microseconds.
const GREETING: f64 = 10_000.0;

/// By which the process of a client pod is found.
const MARK: &str = "MAILLE_SUITE_SIDE";

/// A side of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Outside the mesh.
    Plain,
    /// In the mesh.
    Meshed,
}

/// A server, as a pod and a Service of the same name.
#[derive(Clone, Debug)]
pub struct Server {
    /// Of its Deployment and Service.
    pub name: &'static str,
    /// Where it listens; the first says that it is ready.
    pub ports: &'static [u16],
    /// What its ports are declared to speak (`appProtocol`); nothing, as people have it.
    pub declared: Option<&'static str>,
    /// A line for the shell.
    pub command: String,
    /// A line for the shell of the client: it serves as soon as this succeeds.
    pub serves: &'static str,
}

/// Two namespaces, alike but for the mesh.
#[derive(Debug)]
pub struct Stage {
    up: Up,
    programs: Programs,
    servers: Vec<&'static str>,
    /// Files of the servers; removed with this value.
    dir: TempDir,
}

// === impl Side ===

impl Side {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Plain, Self::Meshed];

    /// Its Kubernetes namespace.
    pub const fn namespace(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Meshed => "meshed",
        }
    }
}

// === impl Server ===

impl Server {
    /// `command` runs as an ordinary user who owns what the test owns: many servers refuse to be root.
    pub fn unprivileged(command: &str, user: &str) -> String {
        format!(
            "exec unshare --user --map-user=$(id -u {user}) --map-group=$(id -g {user}) -- {command}"
        )
    }

    fn objects(&self, namespace: &str) -> Vec<Value> {
        let ports = self.ports.iter();
        let ports = ports.map(|port| {
            let mut port = json!({"name": format!("p{port}"), "port": port});
            if let Some(declared) = self.declared {
                port["appProtocol"] = json!(declared);
            }
            port
        });
        let ports: Vec<_> = ports.collect();
        let labels = json!({"app": self.name});
        let container = json!({
            "name": self.name,
            "image": "host",
            "command": ["sh", "-c", self.command],
            "readinessProbe": {"tcpSocket": {"port": self.ports[0]}, "periodSeconds": 2},
        });
        vec![
            deployment(self.name, namespace, &container),
            json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {"name": self.name, "namespace": namespace},
                "spec": {"selector": labels, "ports": ports},
            }),
        ]
    }
}

fn deployment(name: &str, namespace: &str, container: &Value) -> Value {
    let labels = json!({"app": name});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    })
}

// === impl Stage ===

impl Stage {
    /// Brings up what `servers` says for each side, given a directory for its files, and waits until all are ready.
    pub async fn start(
        name: &str,
        servers: impl Fn(&Path, &Programs) -> anyhow::Result<Vec<Server>>,
    ) -> anyhow::Result<Self> {
        let programs = Programs::find()?;
        // Short, because the paths of sockets are.
        let dir = tempfile::Builder::new().prefix("m").tempdir_in("/tmp")?;
        let (mut objects, mut names, mut asks) = (Vec::new(), Vec::new(), Vec::new());
        for side in Side::BOTH {
            let namespace = side.namespace();
            let labels = match side {
                Side::Plain => json!({"maille.io/inject": "disabled"}),
                Side::Meshed => json!({}),
            };
            objects.push(json!({
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": namespace, "labels": labels},
            }));
            let own = dir.path().join(namespace);
            fs::create_dir(&own)?;
            let servers = servers(&own, &programs)?;
            names = servers.iter().map(|server| server.name).collect();
            asks = servers.iter().map(|server| server.serves).collect();
            objects.extend(servers.iter().flat_map(|server| server.objects(namespace)));
            let client = json!({
                "name": "client",
                "image": "host",
                "command": ["sleep", "infinity"],
                "env": [{"name": MARK, "value": namespace}],
            });
            objects.push(deployment("client", namespace, &client));
        }
        // JSON is YAML.
        let documents: Vec<_> = objects.iter().map(Value::to_string).collect();
        let mut up = Up::start(name, &[("all.yaml", documents.join("\n---\n"))])?;
        let ready = up.ready(Side::BOTH.len() * (names.len() + 1)).await;
        let stage = Self {
            up,
            programs,
            servers: names,
            dir,
        };
        let served = async {
            ready?;
            for side in Side::BOTH {
                for ask in &asks {
                    stage.served(side, ask).await?;
                }
            }
            anyhow::Ok(())
        };
        match served.await {
            Ok(()) => Ok(stage),
            Err(error) => Err(error.context(stage.logs())),
        }
    }

    /// Waits until the client of `side` can connect to a server: a pod that is ready is not yet known everywhere.
    async fn served(&self, side: Side, line: &str) -> anyhow::Result<()> {
        let (mut first, mut last) = (None, None);
        let served = until_async(line, READY, async || {
            let said = self.run(side, line).await.ok()?;
            let well = said.status.success().then_some(());
            first.get_or_insert_with(|| said.text());
            last = Some(said.text());
            well
        });
        served
            .await
            .with_context(|| format!("first {first:?}, at last {last:?}"))
    }

    /// Files of one side.
    pub fn dir(&self, side: Side) -> PathBuf {
        self.dir.path().join(side.namespace())
    }

    /// A judge that `xtask` has built.
    pub fn judge(&self, name: &str) -> String {
        judge(&self.programs, name)
    }

    /// Runs a line of the shell in the client pod of `side`.
    pub async fn run(&self, side: Side, line: &str) -> anyhow::Result<Said> {
        let pid = self.client(side)?.to_string();
        // Whoever enters a mount namespace is at its root.
        let inside = format!("cd {} && {{ {line}\n}}", self.dir(side).display());
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid, "--net", "--mount", "--uts"]);
        if !geteuid().is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.args(["--", "sh", "-c", &inside]);
        // Not everybody may look into that of whoever runs the test.
        command.env("HOME", self.dir(side));
        command.stdin(Stdio::null()).kill_on_drop(true);
        let begin = Instant::now();
        let output = timeout(DEADLINE, command.output()).await;
        let output = output
            .with_context(|| format!("{line} took more than {DEADLINE:?}\n{}", self.logs()))?
            .context("failed to start nsenter")?;
        Ok(Said {
            command: format!("({}) {line}", side.namespace()),
            status: output.status,
            out: output.stdout,
            err: output.stderr,
            took: begin.elapsed(),
        })
    }

    /// The same line on both sides, un-meshed first.
    pub async fn both(&self, line: &str) -> anyhow::Result<[Said; 2]> {
        let plain = self.run(Side::Plain, line).await?;
        Ok([plain, self.run(Side::Meshed, line).await?])
    }

    /// How long the server at `address` takes to speak first: a figure, and a limit on what the mesh adds to it.
    pub async fn greets(
        &self,
        what: &str,
        address: &str,
        figures: &mut Figures,
    ) -> anyhow::Result<()> {
        let line = format!("{} {address} 20", self.judge("banner"));
        let [plain, meshed] = self.both(&line).await?;
        figures.add(
            what,
            "us",
            plain.number("median")?,
            meshed.number("median")?,
        );
        // The fastest: what else this machine does only makes it slower.
        let added = meshed.number("fastest")? - plain.number("fastest")?;
        ensure!(added < GREETING, "the mesh delays {what} by {added} us");
        Ok(())
    }

    fn client(&self, side: Side) -> anyhow::Result<i32> {
        let mut all = self.up.processes().into_iter();
        let found = all.find(|process| process.env(MARK).as_deref() == Some(side.namespace()));
        Ok(found.context("no process of the client pod")?.pid)
    }

    /// The pods, as the API shows them.
    pub async fn pods(&self) -> anyhow::Result<Vec<Value>> {
        self.up.pods().await
    }

    /// Says what proxies and servers logged.
    pub fn logs(&self) -> String {
        let mut text = self.up.log();
        let pods = fs::read_dir(self.up.state().join("pods"));
        let files = pods.into_iter().flatten().flatten();
        let files = files.flat_map(|pod| fs::read_dir(pod.path()).into_iter().flatten().flatten());
        for file in files.filter(|file| file.path().extension().is_some_and(|end| end == "log")) {
            let log = fs::read(file.path()).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let last: Vec<_> = log.lines().rev().take(40).collect();
            let last: Vec<_> = last.into_iter().rev().collect();
            let path = file.path();
            text.push_str(&format!("\n-- {}\n{}", path.display(), last.join("\n")));
        }
        text
    }

    /// Makes sure that the meshed side went through the mesh with every byte, and the other with none; takes all down.
    pub async fn end(self) -> anyhow::Result<()> {
        for server in &self.servers {
            let counted = until_async("the proxies' report", REPORT, async || {
                let (all, protected) = self.bytes_to(server).await.ok()?;
                (all > 0).then_some((all, protected))
            });
            let (all, protected) = counted.await.with_context(|| self.logs())?;
            ensure!(
                all == protected,
                "{protected} of {all} bytes to {server} went under mutual TLS"
            );
        }
        let stat = self.up.api("/v1/stat?window=60s").await?;
        let workloads = stat["workloads"].as_array().into_iter().flatten();
        let strays = workloads.filter(|workload| workload["namespace"] == Side::Plain.namespace());
        for stray in strays {
            ensure!(
                stray["pods"]["meshed"] == 0,
                "not outside the mesh: {stray}"
            );
        }
        self.up.down().await
    }

    /// Payload from the meshed client to `server`, and how much of it under mutual TLS.
    async fn bytes_to(&self, server: &str) -> anyhow::Result<(u64, u64)> {
        let stat = self.up.api("/v1/stat?window=60s").await?;
        let edges = stat["edges"].as_array().into_iter().flatten();
        let meshed = |end: &Value, name: &str| {
            end["namespace"] == Side::Meshed.namespace() && end["name"] == name
        };
        let edges = edges.filter(|edge| meshed(&edge["to"], server) && !edge["from"].is_null());
        let sum = |key: &str, edges: &[&Value]| -> u64 {
            let totals = edges.iter().map(|edge| edge["total"][key].as_u64());
            totals.map(Option::unwrap_or_default).sum()
        };
        let edges: Vec<_> = edges.collect();
        Ok((sum("bytes", &edges), sum("bytes_protected", &edges)))
    }
}

/// As much as is asked for: `full` for the record, `short` in CI.
pub fn scaled<T>(full: T, short: T) -> T {
    let seconds = std::env::var_os("MAILLE_TEST_SECONDS");
    let seconds = seconds.and_then(|text| text.to_str()?.parse::<u64>().ok());
    if seconds.is_some_and(|seconds| seconds >= 60) {
        full
    } else {
        short
    }
}

/// Where `xtask` puts the judges: in a directory beside the programs.
pub fn judge(programs: &Programs, name: &str) -> String {
    let path = programs.path("judges").join(name);
    path.display().to_string()
}

/// Makes `key.pem` and `cert.pem` for a server's own TLS.
pub fn certificate(dir: &Path) -> anyhow::Result<()> {
    let made = std::process::Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        ])
        .args(["-subj", "/CN=server", "-keyout", "key.pem"])
        .args(["-out", "cert.pem"])
        .current_dir(dir)
        .output()
        .context("failed to start openssl")?;
    let said = String::from_utf8_lossy(&made.stderr);
    ensure!(made.status.success(), "openssl: {said}");
    Ok(())
}
