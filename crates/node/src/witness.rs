// SPDX-License-Identifier: Apache-2.0
//! The observer's start, and what it is told: which address should be protected. It is told nothing else, and trusts no proxy.

use std::collections::BTreeMap;
use std::net::IpAddr;
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
    write(&expect, &BTreeMap::new()).context("observer-expect.json cannot be written")?;
    let report = args.state.join("observer.json");
    let mut flags = vec![
        "--report".to_owned(),
        report.display().to_string(),
        "--expect".to_owned(),
        expect.display().to_string(),
    ];
    for marker in &args.markers {
        let text = unhex(marker).with_context(|| format!("not a marker: {marker:?}"))?;
        flags.extend(["--marker".to_owned(), text]);
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
            let before = known.clone();
            for pod in cluster.pods() {
                // What the manifests ask for, not what was done: a run without the mesh must be seen to be one.
                let meshed = cluster.capture(&pod) == Capture::Outboard;
                let name = format!("{}/{}", pod.metadata.namespace(), pod.metadata.name);
                known.extend(pod.addresses().map(|ip| (ip, (meshed, name.clone()))));
            }
            if known != before
                && let Err(error) = write(&expect, &known)
            {
                tracing::error!(%error, "observer-expect.json cannot be written");
            }
        }
    });
    Ok(daemon)
}

fn write(path: &Path, known: &BTreeMap<IpAddr, (bool, String)>) -> std::io::Result<()> {
    let pods: Vec<_> = known
        .iter()
        .map(|(address, (meshed, name))| {
            serde_json::json!({ "address": address, "meshed": meshed, "name": name })
        })
        .collect();
    replace(
        path,
        serde_json::json!({ "pods": pods }).to_string().as_bytes(),
    )
}

/// The text that `maille up` wrote in hexadecimal.
fn unhex(text: &str) -> Option<String> {
    let bytes = text.as_bytes().chunks(2).map(|pair| {
        let digits = std::str::from_utf8(pair).ok().filter(|_| pair.len() == 2)?;
        u8::from_str_radix(digits, 16).ok()
    });
    String::from_utf8(bytes.collect::<Option<_>>()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_text() {
        assert_eq!(unhex("6d61").as_deref(), Some("ma"));
        for wrong in ["6", "6d6", "xx", "ff"] {
            assert_eq!(unhex(wrong), None, "{wrong}");
        }
    }
}
