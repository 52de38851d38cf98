// SPDX-License-Identifier: Apache-2.0
//! A `maille up` of the example shop, with settings of the test's choice: watched, disturbed, taken down.
//!
//! Must never outlive the test: dropping it kills `maille up`, and with it goes everything it started.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use http::Method;
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::http::ask;
use crate::proc::{self, Process};
use crate::programs::Programs;
use crate::wait::{until, until_async};

/// How long pods may take to become ready in a test: the machine may be busy.
pub const READY: Duration = Duration::from_secs(60);

/// The namespace of the shop.
pub const NAMESPACE: &str = "loom";

macro_rules! shop {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../examples/demo/manifests/", $name)))),*]
    };
}

const SHOP: &[(&str, &str)] = shop![
    "00-namespace.yaml",
    "20-catalog.yaml",
    "21-ledger.yaml",
    "22-cart.yaml",
    "23-legacy.yaml",
    "24-rates.yaml",
    "25-chat.yaml",
    "26-post.yaml",
    "27-vault.yaml",
    "30-front.yaml",
    "40-load.yaml",
];

/// Where the manifests of a test lie, below its own directory.
const MANIFESTS: &str = "manifests";

/// Those of which the shop of a test runs two, so that one can be replaced as none can be that stands alone.
const TWICE: &[&str] = &[
    "24-rates.yaml",
    "25-chat.yaml",
    "26-post.yaml",
    "27-vault.yaml",
];

/// The one that has limits in the shop of a test, so that there is a control group to be left behind.
const LIMITED: &str = "21-ledger.yaml";
const CONTAINER: &str = "        - name: ledger\n";
const LIMITS: &str =
    "        - name: ledger\n          resources: {limits: {memory: 256Mi, cpu: \"2\"}}\n";

/// Pods of the shop.
pub const SHOP_PODS: usize = 15;

/// What the load generator of the shop does once everything answers.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Requests a second.
    pub rate: u32,
    /// How long; 0 until the end.
    pub seconds: u64,
    /// Connections.
    pub connections: u32,
}

/// What came of the load.
#[derive(Debug, Clone)]
pub struct Load {
    /// Requests sent.
    pub requests: u64,
    /// Those without a proper answer.
    pub failed: u64,
    /// For how long.
    pub seconds: f64,
    /// The longest time without a success.
    pub longest_gap: Duration,
    /// What the first different failures said.
    pub errors: Vec<String>,
}

/// A running `maille up`.
#[derive(Debug)]
pub struct Up {
    programs: Programs,
    name: String,
    /// Manifests and state; removed with this value.
    dir: TempDir,
    child: Child,
}

impl Up {
    /// Starts the shop. Does not wait for it.
    pub fn shop(name: &str, settings: Settings) -> anyhow::Result<Self> {
        let map = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings, namespace: {NAMESPACE}}}\ndata:\n  \
             DEMO_MARKER: \"marker-{}\"\n  LOAD_RATE: \"{}\"\n  LOAD_SECONDS: \"{}\"\n  LOAD_CONNECTIONS: \"{}\"\n",
            std::process::id(),
            settings.rate,
            settings.seconds,
            settings.connections,
        );
        let mut files: Vec<(&str, String)> = SHOP
            .iter()
            .map(|(name, text)| match TWICE.contains(name) {
                true => (*name, text.replace("replicas: 1", "replicas: 2")),
                false if *name == LIMITED => (*name, text.replace(CONTAINER, LIMITS)),
                false => (*name, (*text).to_owned()),
            })
            .collect();
        files.push(("10-settings.yaml", map));
        Self::start(name, &files)
    }

    /// Starts `files` (name and text), in which the program `maille-demo` stands for the one under test.
    pub fn start(name: &str, files: &[(&str, String)]) -> anyhow::Result<Self> {
        Self::start_with(name, files, |_| {})
    }

    /// The same, with more flags or variables for `maille up`.
    pub fn start_with(
        name: &str,
        files: &[(&str, String)],
        more: impl FnOnce(&mut Command),
    ) -> anyhow::Result<Self> {
        let programs = Programs::find()?;
        // Short, because the paths of sockets are.
        let dir = tempfile::Builder::new().prefix("m").tempdir_in("/tmp")?;
        let manifests = dir.path().join(MANIFESTS);
        fs::create_dir(&manifests)?;
        let demo = programs.path("maille-demo");
        for (file, text) in files {
            let text = text.replace("[maille-demo,", &format!("[{},", demo.display()));
            fs::write(manifests.join(file), text)?;
        }
        let log = fs::File::create(dir.path().join("up.log"))?;
        let mut command = programs.maille();
        command
            .arg("up")
            .arg(&manifests)
            .args(["--name", name])
            .env("MAILLE_RUNTIME_DIR", dir.path().join("s"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        more(&mut command);
        let child = command.spawn().context("failed to start maille up")?;
        Ok(Self {
            programs,
            name: name.to_owned(),
            dir,
            child,
        })
    }

    /// The manifests that it was given.
    pub fn manifests(&self) -> PathBuf {
        self.dir.path().join(MANIFESTS)
    }

    /// Its state directory.
    pub fn state(&self) -> PathBuf {
        self.runtime_dir().join(&self.name)
    }

    /// The directory above.
    pub fn runtime_dir(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    /// The directories below which its control groups are, as it has noted them; they need not be there.
    pub fn groups(&self) -> Vec<PathBuf> {
        let noted = fs::read_to_string(self.state().join("groups")).unwrap_or_default();
        noted.lines().map(PathBuf::from).collect()
    }

    /// `maille VERB`, aimed at this one.
    pub fn maille(&self, verb: &[&str]) -> Command {
        let mut command = self.programs.maille();
        command.args(verb).args(["--name", &self.name]);
        command.env("MAILLE_RUNTIME_DIR", self.runtime_dir());
        command
    }

    /// What it printed so far, and the runner's log.
    pub fn log(&self) -> String {
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        let (up, node) = (
            read(&self.dir.path().join("up.log")),
            read(&self.state().join("node.log")),
        );
        format!("{up}\n-- node.log\n{node}")
    }

    /// Asks its API.
    pub async fn api(&self, path: &str) -> anyhow::Result<Value> {
        ask(&self.state().join("api.sock"), Method::GET, path).await
    }

    /// Tells its runner.
    pub async fn node(&self, method: Method, path: &str) -> anyhow::Result<Value> {
        ask(&self.state().join("node.sock"), method, path).await
    }

    /// The pods, as the API shows them.
    pub async fn pods(&self) -> anyhow::Result<Vec<Value>> {
        let answer = self.api("/v1/pods").await?;
        Ok(answer["pods"].as_array().cloned().unwrap_or_default())
    }

    /// Waits until `count` pods are ready; fails at once if `maille up` ends.
    pub async fn ready(&mut self, count: usize) -> anyhow::Result<()> {
        let mut gone = None;
        let all = until_async("the pods", READY, async || {
            gone = self.child.try_wait().ok().flatten();
            let ready = self.pods().await.unwrap_or_default();
            let ready = ready.iter().filter(|pod| pod["ready"] == true).count();
            (ready >= count || gone.is_some()).then_some(())
        });
        let all = all.await;
        if let Some(status) = gone {
            bail!("maille up ended: {status}\n{}", self.log());
        }
        all.with_context(|| self.log())
    }

    /// The name of a pod of `workload`.
    pub async fn pod_of(&self, workload: &str) -> anyhow::Result<Value> {
        let pods = self.pods().await?;
        let of = |pod: &&Value| {
            let rest = pod["name"]
                .as_str()
                .and_then(|name| name.strip_prefix(workload));
            rest.is_some_and(|rest| rest.starts_with('-')) && pod["ready"] == true
        };
        pods.iter()
            .find(of)
            .cloned()
            .with_context(|| format!("no ready pod of {workload}"))
    }

    /// Deletes a pod of `workload` and waits until another one is ready in its place.
    pub async fn replace_pod(&self, workload: &str) -> anyhow::Result<()> {
        let pod = self.pod_of(workload).await?;
        let (name, uid) = (pod["name"].as_str().unwrap_or_default(), &pod["uid"]);
        let before = self.pods().await?.len();
        self.node(Method::POST, &format!("/v1/pods/{NAMESPACE}/{name}/delete"))
            .await?;
        until_async("a new pod", READY, async || {
            let pods = self.pods().await.ok()?;
            let ready = pods
                .iter()
                .filter(|pod| pod["ready"] == true && pod["uid"] != *uid)
                .count();
            let gone = pods.iter().all(|pod| pod["uid"] != *uid);
            (gone && ready >= before).then_some(())
        })
        .await
    }

    /// Has control killed and started again, and waits until it answers.
    pub async fn restart_control(&self) -> anyhow::Result<()> {
        let old = self.process("maille-control", None)?;
        old.signal(Signal::SIGKILL);
        until_async("control to come back", READY, async || {
            let new = self.process("maille-control", None).ok()?;
            let pods = self.pods().await.ok()?;
            (new != old && !pods.is_empty()).then_some(())
        })
        .await
    }

    /// Every process of this mesh, `maille up` included.
    pub fn processes(&self) -> Vec<Process> {
        proc::tree(i32::try_from(self.child.id()).unwrap_or(0))
    }

    /// The process of `program`, for the workload with `uid` where one is given.
    pub fn process(&self, program: &str, uid: Option<&str>) -> anyhow::Result<Process> {
        // The kernel keeps 15 bytes of a name.
        let comm = &program[..program.len().min(15)];
        let fits = |process: &Process| {
            process.name == comm
                && uid.is_none_or(|uid| process.env("MAILLE_WORKLOAD").as_deref() == Some(uid))
        };
        let found = self.processes().into_iter().find(fits);
        found.with_context(|| format!("no process {program} for {uid:?}"))
    }

    /// The last line of the load generator's log with this `event`.
    async fn load_event(&self, event: &str) -> Option<Value> {
        let pod = self.pod_of("load").await.ok()?;
        let log = self
            .state()
            .join("pods")
            .join(pod["uid"].as_str()?)
            .join("load.log");
        let text = fs::read_to_string(log).ok()?;
        let lines = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut lines = lines.filter(|line| line["event"] == event);
        lines.next_back()
    }

    /// Waits until the load generator has begun.
    pub async fn load_began(&self) -> anyhow::Result<()> {
        until_async("the load to begin", READY, async || {
            self.load_event("progress").await
        })
        .await
        .map(drop)
        .with_context(|| self.log())
    }

    /// What the load generator has sent and had answered so far, by its own count.
    pub async fn requests(&self) -> anyhow::Result<u64> {
        let progress = self.load_event("progress").await;
        progress
            .and_then(|progress| progress["requests"].as_u64())
            .with_context(|| format!("the load generator tells nothing\n{}", self.log()))
    }

    /// Waits until it has sent `more`.
    pub async fn more_requests(&self, more: u64) -> anyhow::Result<()> {
        let goal = self.requests().await? + more;
        until_async("more requests", READY, async || {
            (self.requests().await.ok()? >= goal).then_some(())
        })
        .await
        .with_context(|| self.log())
    }

    /// Tells the load generator that it was enough, so that it sums up.
    pub fn end_load(&self) -> anyhow::Result<()> {
        let roles = self.processes().into_iter();
        let load = roles
            .filter(|process| process.name == "maille-demo")
            .find(|process| process.args().iter().any(|arg| arg == "load"));
        let load = load.context("no load generator")?;
        ensure!(load.signal(Signal::SIGUSR1), "the load generator has ended");
        Ok(())
    }

    /// Waits for the load generator's summary.
    pub async fn load(&self, within: Duration) -> anyhow::Result<Load> {
        let summary = until_async("the summary of the load", within, async || {
            self.load_event("summary").await
        });
        let summary = summary.await.with_context(|| self.log())?;
        let number = |key: &str| {
            summary[key]
                .as_u64()
                .with_context(|| format!("no {key} in {summary}"))
        };
        let errors = summary["errors"].as_array().into_iter().flatten();
        Ok(Load {
            requests: number("requests")?,
            failed: number("failed")?,
            seconds: summary["seconds"].as_f64().unwrap_or(f64::INFINITY),
            longest_gap: Duration::from_secs_f64(
                summary["longest_gap_ms"].as_f64().unwrap_or(0.0) / 1000.0,
            ),
            errors: errors
                .filter_map(|error| error.as_str().map(str::to_owned))
                .collect(),
        })
    }

    /// Kills `maille up` the hard way, and nothing else.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// `maille down`; `maille up` must then have ended well.
    pub async fn down(mut self) -> anyhow::Result<()> {
        let groups = self.groups();
        let output = self.maille(&["down"]).output()?;
        ensure!(
            output.status.success(),
            "down: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let status = until("maille up to end", READY, || {
            self.child.try_wait().ok().flatten()
        })
        .await?;
        ensure!(
            status.success(),
            "maille up ended with {status}\n{}",
            self.log()
        );
        ensure!(
            !self.state().exists(),
            "{} is still there",
            self.state().display()
        );
        let left: Vec<_> = groups.iter().filter(|group| group.exists()).collect();
        ensure!(left.is_empty(), "control groups are still there: {left:?}");
        Ok(())
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // Already ended, in a test that went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
