// SPDX-License-Identifier: Apache-2.0
//! The same application and the same load several times side by side: in the mesh, outside, and in the mesh without what protects.
//!
//! The load is a client that never tries anything twice (`maille-steady`); what it says is read where the kubelet writes it, so
//! that an API server that is away is no obstacle. Read `meshed.rs` for what they run on.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::meshed::{LIMIT, Meshed, text};
use crate::processes::Process;
use crate::shell::{slowness, until};

/// The image of application and load.
pub(crate) const IMAGE: &str = "maille.test/steady:1";
/// Selects the application's pods.
pub const APP: &str = "app=app";
/// How long a load may take to sum up.
const GRACE: Duration = Duration::from_secs(60);

/// One application with its load, in a namespace of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Twin {
    /// In the mesh, by the namespace's label.
    Meshed,
    /// Outside.
    Plain,
    /// In the mesh, its pods without something that protects.
    Without(Protection),
}

/// What protects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// The proxy ends after the application, and when it has drained: without it is a container beside the others that does not wait.
    Drain,
    /// Pods are ready when they say so.
    Readiness,
}

/// A load that runs.
#[derive(Debug)]
pub struct Load {
    /// Whom it asks.
    pub twin: Twin,
    rate: u64,
    uid: String,
    /// A file for each life of its container.
    logs: PathBuf,
}

/// What came of a load.
#[derive(Debug)]
pub struct Sum {
    /// Requests that were answered.
    pub requests: u64,
    /// Words on streams that were.
    pub words: u64,
    /// What was not.
    pub failed: u64,
    /// All of it, in its own words.
    pub said: Value,
}

impl Twin {
    /// Its namespace.
    pub fn namespace(self) -> &'static str {
        match self {
            Self::Meshed => "meshed",
            Self::Plain => "plain",
            Self::Without(_) => "bare",
        }
    }

    /// The labels of its namespace: whether the webhook puts a sidecar into every pod.
    fn labels(self) -> Value {
        match self {
            Self::Meshed | Self::Without(Protection::Readiness) => {
                json!({"maille.io/inject": "enabled"})
            }
            Self::Plain => json!({"maille.io/inject": "disabled"}),
            // Its sidecar is written into its manifest, where it can be changed.
            Self::Without(Protection::Drain) => json!({}),
        }
    }

    /// Streams of each kind that are held open: what is to lose one has one on each pod.
    fn streams(self) -> &'static str {
        match self {
            Self::Meshed | Self::Plain => "4",
            Self::Without(_) => "8",
        }
    }

    /// Namespace, service and deployment.
    fn objects(self, replicas: usize) -> Vec<Value> {
        let namespace = self.namespace();
        let port = |name, port| json!({"name": name, "port": port});
        vec![
            json!({"apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": namespace, "labels": self.labels()}}),
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "app", "namespace": namespace},
                "spec": {"selector": {"app": "app"}, "ports": [port("one", 8080), port("two", 8081), port("three", 8082)]}}),
            self.deployment(replicas),
        ]
    }

    fn deployment(self, replicas: usize) -> Value {
        let ready = self != Self::Without(Protection::Readiness);
        // Who is sent work too early is seen to be so.
        let warmup = if ready { "300" } else { "3000" };
        let mut container = json!({
            "name": "app", "image": IMAGE, "args": ["serve", warmup],
            // What an application without a mesh needs, so that kube-proxies have heard before it ends.
            "lifecycle": {"preStop": {"sleep": {"seconds": 3}}},
        });
        if ready {
            container["readinessProbe"] =
                json!({"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1});
        }
        let mut template = json!({
            "metadata": {"labels": {"app": "app"}},
            "spec": {
                "terminationGracePeriodSeconds": 30,
                "containers": [container],
                "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
                    "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": {"app": "app"}}}],
            },
        });
        if self == Self::Without(Protection::Drain) {
            template["metadata"]["annotations"] = json!({"maille.io/sidecar": "classic"});
        }
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app", "namespace": self.namespace()},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "app"}}, "template": template}})
    }

    /// Starts the application with so many pods; returns when they are ready.
    ///
    /// # Errors
    ///
    /// What was said by whom; they are not ready in time.
    pub fn start(self, up: &Meshed, replicas: usize) -> anyhow::Result<()> {
        self.begin(up, replicas)?;
        self.settled(up, replicas)
    }

    /// The same, and returns at once.
    ///
    /// # Errors
    ///
    /// What was said by whom.
    pub fn begin(self, up: &Meshed, replicas: usize) -> anyhow::Result<()> {
        for mut object in self.objects(replicas) {
            if self == Self::Without(Protection::Drain) && object["kind"] == "Deployment" {
                let injected = up.maille_of("inject -", &object.to_string())?;
                object = serde_json::from_str(&injected).context("what inject printed")?;
                impatient(&mut object)?;
            }
            up.cluster().apply(&object.to_string())?;
        }
        Ok(())
    }

    /// Waits until its application has so many pods, and none beside them.
    ///
    /// # Errors
    ///
    /// Not in time.
    pub fn settled(self, up: &Meshed, replicas: usize) -> anyhow::Result<()> {
        up.settled(self.namespace(), APP, replicas)
    }
}

/// Takes the wait at its end from every proxy of a deployment.
fn impatient(deployment: &mut Value) -> anyhow::Result<()> {
    let containers = deployment.pointer_mut("/spec/template/spec/containers");
    let containers = containers
        .and_then(Value::as_array_mut)
        .context("containers")?;
    let proxy = containers
        .iter_mut()
        .find(|one| one["name"] == "maille-proxy");
    let env = proxy.context("a classic sidecar")?["env"]
        .as_array_mut()
        .context("its settings")?;
    env.push(json!({"name": "MAILLE_DRAIN_SECONDS", "value": "0"}));
    Ok(())
}

impl Load {
    /// Loads the image of application and load into the nodes.
    ///
    /// # Errors
    ///
    /// The program is not built; what containerd said.
    pub fn image(up: &Meshed) -> anyhow::Result<()> {
        up.load_program(IMAGE, &up.program("maille-steady")?)
    }

    /// Starts the loads of `twins` on `node`, so many requests a second each, fewer on a slower machine; returns when each is under way.
    ///
    /// # Errors
    ///
    /// What `kubectl` said; one is not under way in time.
    pub fn start(up: &Meshed, twins: &[(Twin, u64)], node: &str) -> anyhow::Result<Vec<Self>> {
        let slowed = |(twin, rate): &(Twin, u64)| (*twin, rate.div_ceil(slowness().into()));
        let twins: Vec<_> = twins.iter().map(slowed).collect();
        for (twin, rate) in &twins {
            let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "load", "namespace": twin.namespace(), "labels": {"app": "load", "maille.io/inject":
                if *twin == Twin::Plain { "disabled" } else { "enabled" }}},
            "spec": {
                "nodeSelector": {"kubernetes.io/hostname": node},
                "containers": [{"name": "load", "image": IMAGE, "args": ["load", "app", rate.to_string(), "16", twin.streams()]}],
            }});
            up.cluster().apply(&pod.to_string())?;
        }
        let begun = |(twin, rate): &(Twin, u64)| {
            let pods = up.pods(twin.namespace(), "app=load")?;
            let uid = text(pods.first().context("the load's pod")?, "/metadata/uid").to_owned();
            let machines = up.cluster().machines()?;
            let machine = machines
                .iter()
                .find(|machine| machine.name() == node)
                .context("the load's node")?;
            let logs = format!("var/log/pods/{}_load_{uid}/load", twin.namespace());
            let load = Self {
                twin: *twin,
                rate: *rate,
                uid,
                logs: machine.dir().join(logs),
            };
            load.under_way()?;
            Ok(load)
        };
        twins.iter().map(begun).collect()
    }

    /// Waits until its container of now has been answered.
    ///
    /// # Errors
    ///
    /// Not in time.
    pub fn under_way(&self) -> anyhow::Result<()> {
        until("a load", LIMIT, || self.requests()).map(|_| ())
    }

    /// The log of its container of now.
    fn log(&self) -> anyhow::Result<String> {
        let files = fs::read_dir(&self.logs).with_context(|| self.logs.display().to_string())?;
        let life = |path: &PathBuf| path.file_stem()?.to_str()?.parse::<u32>().ok();
        let files = files.filter_map(|file| Some(file.ok()?.path()));
        let newest = files.max_by_key(life).context("a load without a log")?;
        Ok(fs::read_to_string(newest)?)
    }

    /// The last thing of one kind that it said.
    fn last(&self, event: &str) -> anyhow::Result<Value> {
        let namespace = self.twin.namespace();
        let all = self.log()?;
        // Time, stream, whether the line is whole, the line.
        let lines = all.lines().filter_map(|line| line.splitn(4, ' ').nth(3));
        let mut events = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let last = events.rfind(|said| said["event"] == event);
        last.with_context(|| format!("the load in {namespace} has said no {event}"))
    }

    /// Requests that were answered so far.
    ///
    /// # Errors
    ///
    /// It has said nothing yet.
    pub fn requests(&self) -> anyhow::Result<u64> {
        number(&self.last("progress")?, "requests")
    }

    /// What was not answered so far.
    ///
    /// # Errors
    ///
    /// It has said nothing yet.
    pub fn failed(&self) -> anyhow::Result<u64> {
        number(&self.last("progress")?, "failed")
    }

    /// Waits until it has been answered as much as it asks for in `seconds`.
    ///
    /// # Errors
    ///
    /// Not in time.
    pub fn share(&self, seconds: u64) -> anyhow::Result<()> {
        let goal = self.requests()? + seconds * self.rate;
        until("requests", LIMIT, || {
            let now = self.requests()?;
            ensure!(
                now >= goal,
                "{}: {now} of {goal} answered",
                self.twin.namespace()
            );
            Ok(())
        })
    }

    /// Ends it: what came of it.
    ///
    /// # Errors
    ///
    /// It does not sum up.
    pub fn finish(self) -> anyhow::Result<Sum> {
        Process::of_pod(&self.uid, "maille-steady")?.signal(Signal::SIGUSR1)?;
        let said = until("a load's summary", GRACE, || self.last("summary"))?;
        Ok(Sum {
            requests: number(&said, "requests")?,
            words: number(&said, "words")?,
            failed: number(&said, "failed")?,
            said,
        })
    }
}

fn number(said: &Value, key: &str) -> anyhow::Result<u64> {
    said[key]
        .as_u64()
        .with_context(|| format!("no {key} in {said}"))
}
