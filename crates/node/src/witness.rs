// SPDX-License-Identifier: Apache-2.0
//! The observer's start, and what it is told: which address should be protected. It is told nothing else, and trusts no proxy.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use maille_chassis::clock::Clock;
use maille_chassis::tasks::Tasks;

use crate::args::Args;
use crate::cluster::{Capture, Cluster, replace};
use crate::daemon::{Daemon, Plan};
use crate::processes::{Processes, Role};

/// Starts the observer, which is ready before the first pod is, and keeps `observer-expect.json` true.
pub(crate) async fn start(
    args: &Args,
    bin_dir: &Path,
    cluster: &Arc<Cluster>,
    processes: &Arc<Processes>,
    tasks: &Tasks,
    clock: Clock,
) -> anyhow::Result<Daemon> {
    let expect = args.state.join("observer-expect.json");
    replace(&expect, b"{}\n").context("observer-expect.json cannot be written")?;
    let mut flags = vec!["--state".to_owned(), args.state.display().to_string()];
    for marker in &args.markers {
        flags.extend(["--marker".to_owned(), marker.clone()]);
    }
    let plan = Plan {
        role: Role::Observer,
        program: bin_dir.join("maille-observer"),
        args: flags,
        log: args.state.join("observer.log"),
        grace: Duration::from_secs(3),
    };
    let daemon = Daemon::start(plan, processes.clone(), tasks, clock).await?;
    let cluster = cluster.clone();
    tasks.spawn("observer-expect", async move {
        let mut changes = cluster.changes();
        // Addresses of pods that are gone stay: their last frames may still be on their way.
        let mut known = BTreeMap::new();
        while changes.changed().await.is_ok() {
            let before = known.len();
            for pod in cluster.pods() {
                // What the manifests ask for, not what was done: a run without the mesh must be seen to be one.
                let meshed = cluster.capture(&pod) == Capture::Outboard;
                let word = if meshed { "meshed" } else { "plain" };
                known.extend(pod.addresses().map(|ip| (ip.to_string(), word)));
            }
            if known.len() != before
                && let Err(error) = write(&expect, &known)
            {
                tracing::error!(%error, "observer-expect.json cannot be written");
            }
        }
    });
    Ok(daemon)
}

fn write(path: &Path, known: &BTreeMap<String, &str>) -> std::io::Result<()> {
    replace(path, &serde_json::to_vec(known)?)
}
