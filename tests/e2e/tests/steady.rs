// SPDX-License-Identifier: Apache-2.0
//! Whatever happens to pods, proxies, certificates and control, a client that never tries twice loses nothing: not a request on a kept
//! connection, not a word on a gRPC stream or a WebSocket that stays open.
//!
//! The same application and the same load run twice side by side, in the mesh and outside, and meet the same fault. Each test runs
//! once more with the protection that it is about left out, and must then lose something. `MAILLE_TEST_SECONDS=60` is full length.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use maille_testkit::up::READY;
use maille_testkit::{Up, until, until_async};
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How often a test of full length disturbs, and a short one.
const TIMES: [u32; 2] = [5, 2];
/// Requests a second of each load.
const RATE: u64 = 1000;
/// Changes of endpoints a second.
const CHURN: u64 = 100;
/// How long a load may take to sum up.
const GRACE: Duration = Duration::from_secs(30);

const NAMESPACE: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: NAME, annotations: {maille.io/inject: INJECT}}
---
apiVersion: v1
kind: Service
metadata: {name: app, namespace: NAME}
spec:
  selector: {app: app}
  ports: [{name: one, port: 8080}, {name: two, port: 8081}, {name: three, port: 8082}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: app, namespace: NAME}
spec:
  replicas: REPLICAS
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
        - name: app
          command: [STEADY, serve, "WARMUP"]
          readinessProbe: {httpGet: {path: /ready, port: 8080}, periodSeconds: 1}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: load, namespace: NAME}
spec:
  replicas: 0
  selector: {matchLabels: {app: load}}
  template:
    metadata: {labels: {app: load}}
    spec:
      containers: [{name: load, command: [STEADY, load, app, "RATE", "16", "4"]}]
"#;

/// Whether the protection is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum With {
    /// It is.
    Protection,
    /// It is not: the word for `MAILLE_TEST_WITHOUT`.
    Out(&'static str),
}

/// What came of a load; shown whole, so that `--nocapture` gives the record.
#[derive(Debug)]
struct Sum {
    requests: u64,
    words: u64,
    failed: u64,
    said: Value,
}

struct Stage {
    up: Up,
    with: With,
    /// In the mesh, then the one outside where there is one.
    namespaces: &'static [&'static str],
    seconds: u64,
    rate: u64,
    times: u32,
}

/// The length of a test with the protection.
fn seconds() -> u64 {
    let full = std::env::var_os("MAILLE_TEST_SECONDS");
    let full = full.and_then(|text| text.to_str()?.parse().ok());
    full.unwrap_or(3)
}

/// How often a test of this kind disturbs.
fn times(with: With) -> u32 {
    let [full, short] = TIMES;
    if with == With::Protection && seconds() >= 60 {
        full
    } else {
        short
    }
}

impl Stage {
    /// Both applications with `replicas` pods each, under load.
    async fn start(name: &str, replicas: u32, with: With, flags: &[&str]) -> Self {
        let (namespaces, seconds): (&[&str], u64) = match with {
            With::Protection => (&["meshed", "plain"], seconds()),
            With::Out(_) => (&["meshed"], 2),
        };
        let rate = if seconds >= 60 { RATE } else { 200 };
        let own = std::env::current_exe().unwrap();
        let steady = own
            .parent()
            .unwrap()
            .parent()
            .unwrap()
            .join("maille-steady");
        // Who is sent work too early is seen to be so.
        let warmup = match with {
            With::Out("readiness") => "1500",
            _ => "300",
        };
        let of = |namespace: &&str| {
            let inject = if *namespace == "meshed" {
                "enabled"
            } else {
                "disabled"
            };
            NAMESPACE
                .replace("NAME", namespace)
                .replace("INJECT", inject)
                .replace("WARMUP", warmup)
                .replace("REPLICAS", &replicas.to_string())
                .replace("STEADY", steady.to_str().unwrap())
                .replace("\"RATE\"", &format!("\"{rate}\""))
        };
        let manifests: Vec<String> = namespaces.iter().map(of).collect();
        let files = [("app.yaml", manifests.join("---"))];
        let up = Up::start_with(name, &files, |command| {
            command.args(flags);
            if let With::Out(what) = with {
                command.env("MAILLE_TEST_WITHOUT", what);
            }
        });
        let mut stage = Self {
            up: up.unwrap(),
            with,
            namespaces,
            seconds,
            rate,
            times: times(with),
        };
        let pods = |each: u32| namespaces.len() * usize::try_from(each).unwrap();
        stage.up.ready(pods(replicas)).await.unwrap();
        // A load that began sooner would hold its streams to the first pods alone, and miss none of the others.
        stage.maille(&["scale", "load", "--replicas", "1", "--wait"]);
        stage.up.ready(pods(replicas + 1)).await.unwrap();
        for namespace in namespaces {
            stage.event(namespace, "progress").await;
        }
        stage
    }

    async fn pods(&self, namespace: &str, of: &str) -> Vec<Value> {
        let pods = self.up.pods().await.unwrap_or_default();
        let is = |pod: &Value| {
            let name = pod["name"].as_str().and_then(|name| name.strip_prefix(of));
            pod["namespace"] == namespace && name.is_some_and(|rest| rest.starts_with('-'))
        };
        pods.into_iter().filter(is).collect()
    }

    fn dir(&self, pod: &Value) -> PathBuf {
        self.up
            .state()
            .join("pods")
            .join(pod["uid"].as_str().unwrap())
    }

    /// The last line of a load with this event, when there is one.
    async fn event(&self, namespace: &str, event: &str) -> Value {
        let seen = until_async("the load", GRACE, async || {
            let pod = self.pods(namespace, "load").await.into_iter().next()?;
            let text = fs::read_to_string(self.dir(&pod).join("load.log")).ok()?;
            let mut lines = text
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.rfind(|line| line["event"] == event)
        });
        seen.await
            .unwrap_or_else(|error| panic!("{namespace}: {error}\n{}", self.up.log()))
    }

    /// Waits until every load has had its requests between two disturbances answered.
    async fn share(&self) {
        let share = (self.seconds * self.rate).div_ceil(u64::from(self.times) + 1);
        for namespace in self.namespaces {
            let requests = async || {
                self.event(namespace, "progress").await["requests"]
                    .as_u64()
                    .unwrap()
            };
            let goal = requests().await + share;
            let done = until_async("requests", READY, async || {
                (requests().await >= goal).then_some(())
            });
            done.await
                .unwrap_or_else(|error| panic!("{namespace}: {error}\n{}", self.up.log()));
        }
    }

    /// `maille VERB` for each namespace, at the same time.
    fn maille(&self, verb: &[&str]) {
        let start = |namespace: &&str| {
            let mut command = self.up.maille(verb);
            let command = command.args(["-n", namespace]);
            let command = command.stdout(Stdio::null()).stderr(Stdio::piped());
            command.spawn().unwrap()
        };
        let started: Vec<Child> = self.namespaces.iter().map(start).collect();
        for child in started {
            let output = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(
                output.status.success(),
                "{verb:?}: {said}\n{}",
                self.up.log()
            );
        }
    }

    /// Ends the loads and says what came of each. In the mesh nothing is lost; without its protection something is.
    async fn finish(self) {
        self.share().await;
        for process in self.up.processes() {
            if process.name == "maille-steady" && process.args().iter().any(|arg| arg == "load") {
                assert!(process.signal(Signal::SIGUSR1));
            }
        }
        let mut sums = BTreeMap::new();
        for namespace in self.namespaces {
            let told = self.event(namespace, "summary").await;
            let number = |key: &str| told[key].as_u64().unwrap();
            let sum = Sum {
                requests: number("requests"),
                words: number("words"),
                failed: number("failed"),
                said: told,
            };
            eprintln!("{namespace}: {}", sum.said);
            sums.insert(*namespace, sum);
        }
        let sum = &sums["meshed"];
        assert!(sum.words > 0, "{sum:?}");
        match self.with {
            With::Protection => {
                assert_eq!(sum.failed, 0, "{sum:?}\n{}", self.up.log());
                assert!(sum.requests >= self.seconds * self.rate, "{sum:?}");
            }
            With::Out(what) => assert!(sum.failed > 0, "nothing is lost without {what}: {sum:?}"),
        }
        self.up.down().await.unwrap();
    }
}

// -- endpoints: added, removed, draining, rolled --

async fn added(name: &str, with: With) {
    let stage = Stage::start(name, 2, with, &[]).await;
    for more in 1..=stage.times {
        stage.share().await;
        stage.maille(&[
            "scale",
            "app",
            "--replicas",
            &(2 + more).to_string(),
            "--wait",
        ]);
    }
    stage.finish().await;
}

async fn removed(name: &str, with: With) {
    let most = 2 + times(with);
    let stage = Stage::start(name, most, with, &[]).await;
    for fewer in 1..=stage.times {
        stage.share().await;
        stage.maille(&[
            "scale",
            "app",
            "--replicas",
            &(most - fewer).to_string(),
            "--wait",
        ]);
    }
    stage.finish().await;
}

async fn draining(name: &str, with: With) {
    let stage = Stage::start(name, 2, with, &[]).await;
    for _ in 0..stage.times {
        stage.share().await;
        let mut gone = Vec::new();
        for namespace in stage.namespaces {
            let pod = stage.pods(namespace, "app").await.remove(0);
            let name = pod["name"].as_str().unwrap();
            let path = format!("/v1/pods/{namespace}/{name}/delete");
            stage.up.node(http::Method::POST, &path).await.unwrap();
            gone.push(pod["uid"].clone());
        }
        let ended = until_async("the pods to go", READY, async || {
            let pods = stage.up.pods().await.ok()?;
            let left = pods.iter().any(|pod| gone.contains(&pod["uid"]));
            (!left).then_some(())
        });
        ended.await.unwrap();
    }
    stage.finish().await;
}

async fn rolled(name: &str, with: With) {
    let stage = Stage::start(name, 2, with, &[]).await;
    for _ in 0..stage.times {
        stage.share().await;
        stage.maille(&["restart", "app", "--wait"]);
    }
    stage.finish().await;
}

// -- proxies, certificates, control --

async fn proxies(name: &str, with: With, signal: Signal) {
    let stage = Stage::start(name, 2, with, &[]).await;
    for turn in 0..stage.times {
        stage.share().await;
        let of = if turn % 2 == 0 { "app" } else { "load" };
        for pod in stage.pods("meshed", of).await {
            let uid = pod["uid"].as_str().unwrap();
            // Those that still finish what they have are older.
            let youngest = || {
                let all = stage.up.processes().into_iter();
                let own = all.filter(|process| process.name == "maille-proxy");
                let own =
                    own.filter(|process| process.env("MAILLE_WORKLOAD").as_deref() == Some(uid));
                own.max_by_key(|process| process.started)
            };
            let proxy = youngest().unwrap();
            assert!(proxy.signal(signal));
            let another = || youngest().filter(|now| *now != proxy);
            until("another proxy", READY, another).await.unwrap();
        }
    }
    stage.finish().await;
}

/// Certificates that control has signed, by its metrics.
fn signed(up: &Up) -> u64 {
    let mut socket = UnixStream::connect(up.state().join("api.sock")).unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    socket.write_all(request).unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("maille_control_certificates_total{result=\"signed\"}"));
    let number = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    number.unwrap_or_else(|| panic!("no count of certificates in {text}"))
}

async fn certificates(name: &str, with: With) {
    let stage = Stage::start(name, 2, with, &["--leaf-lifetime", "10s"]).await;
    let before = signed(&stage.up);
    stage.share().await;
    // Each of three proxies, at least once.
    let all = until("certificates to be renewed", READY, || {
        (signed(&stage.up) >= before + 3).then_some(())
    });
    all.await.unwrap();
    for _ in 0..stage.times {
        stage.share().await;
    }
    stage.finish().await;
}

async fn control_away(name: &str, with: With) {
    let stage = Stage::start(name, 2, with, &[]).await;
    stage.share().await;
    let control = stage.up.process("maille-control", None).unwrap();
    // Without the protection longer than a client has patience.
    let seconds = match with {
        With::Protection => stage.seconds,
        With::Out(_) => 9,
    };
    let path = format!("/v1/control/away?seconds={seconds}");
    stage.up.node(http::Method::POST, &path).await.unwrap();
    let gone = || (!control.alive()).then_some(());
    until("control to go", READY, gone).await.unwrap();
    let back = async || {
        let now = stage.up.process("maille-control", None).ok();
        now.filter(|now| *now != control).map(drop)
    };
    let left = Instant::now();
    until_async(
        "control to come back",
        READY + Duration::from_secs(60),
        back,
    )
    .await
    .unwrap();
    let away = left.elapsed();
    assert!(
        away + Duration::from_secs(1) >= Duration::from_secs(seconds),
        "{away:?}"
    );
    for _ in 1..stage.times {
        stage.share().await;
    }
    stage.finish().await;
}

// -- endpoints that come and go all the time --

async fn churn(name: &str, with: With) {
    let stage = Stage::start(name, 5, with, &[]).await;
    // One stays; the others serve too, whatever is said of them.
    let pods = stage.pods("meshed", "app").await;
    let files: Vec<PathBuf> = pods.iter().skip(1).map(|pod| stage.dir(pod)).collect();
    let mut changes = 0_u64;
    let began = Instant::now();
    let change = async {
        let mut tick = interval(Duration::from_millis(1000 / CHURN));
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        loop {
            tick.tick().await;
            let dir = &files[usize::try_from(changes).unwrap() % files.len()];
            let text = fs::read_to_string(dir.join("pod.json")).unwrap();
            let flipped = match text.contains(r#""status":"True""#) {
                true => text.replace(r#""status":"True""#, r#""status":"False""#),
                false => text.replace(r#""status":"False""#, r#""status":"True""#),
            };
            assert_ne!(flipped, text);
            fs::write(dir.join("pod.next"), flipped).unwrap();
            fs::rename(dir.join("pod.next"), dir.join("pod.json")).unwrap();
            changes += 1;
        }
    };
    let work = async {
        for _ in 0..stage.times {
            stage.share().await;
        }
    };
    tokio::select! {
        () = change => {}
        () = work => {}
    }
    let rate = changes as f64 / began.elapsed().as_secs_f64();
    eprintln!("{rate:.0} changes a second");
    assert!(rate > 0.8 * CHURN as f64, "{rate}");
    stage.finish().await;
}

/// A fault as it is met, and once more without what protects.
macro_rules! faults {
    ($($fault:ident: $loses_nothing:ident, $without:ident $out:literal;)*) => {
        $(
            #[tokio::test]
            async fn $loses_nothing() {
                $fault("s", With::Protection).await;
            }

            #[tokio::test]
            async fn $without() {
                $fault("s", With::Out($out)).await;
            }
        )*
    };
}

faults! {
    added: endpoints_added_lose_nothing, added_before_they_are_ready_they_lose_something "readiness";
    removed: endpoints_removed_lose_nothing, removed_at_once_they_lose_something "drain";
    draining: a_pod_that_drains_loses_nothing, one_that_does_not_drain_loses_something "drain";
    rolled: a_rollout_loses_nothing, a_rollout_without_drain_loses_something "drain";
    certificates: rotation_loses_nothing, rotation_that_cuts_loses_something "patience";
    control_away: control_away_loses_nothing, what_is_forgotten_without_control_is_lost "last-good";
    churn: endpoints_that_come_and_go_lose_nothing, news_that_cut_lose_something "patience";
}

#[tokio::test]
async fn a_proxy_that_drains_loses_nothing() {
    proxies("s", With::Protection, Signal::SIGTERM).await;
}

#[tokio::test]
async fn a_proxy_that_is_killed_loses_something() {
    proxies("s", With::Out("none"), Signal::SIGKILL).await;
}
