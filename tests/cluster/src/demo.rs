// SPDX-License-Identifier: Apache-2.0
//! The example application, as its manifests are, and what its load says.
//!
//! Read `examples/demo/manifests` for what it is made of, `cluster.rs` for where it runs.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use maille_images::archive::Image;
use maille_images::libraries;
use serde_json::Value;

use crate::cluster::Cluster;

/// Its namespace.
pub const NAMESPACE: &str = "loom";
/// What its messages hold, for who looks for it on a wire.
pub const MARKER: &str = "marker-of-the-cluster";

/// Writes its image to the file `to`: the program `demo`, with what it needs from this machine.
///
/// # Errors
///
/// A file that is missing.
pub fn image(demo: PathBuf, to: &Path) -> anyhow::Result<()> {
    let libraries = libraries::of(&demo)?;
    let image = Image::new("maille.io/demo:1", &["/usr/local/bin/maille-demo"])
        .user("65534:65534")
        .program("/usr/local/bin/maille-demo", demo);
    let with =
        |image: Image, library: &PathBuf| image.program(&library.display().to_string(), library);
    libraries.iter().fold(image, with).write(to)
}

/// Its manifests by their files' names, in order, with a load of ten seconds.
///
/// # Errors
///
/// They cannot be read.
pub fn manifests() -> anyhow::Result<Vec<(String, String)>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/demo/manifests");
    let files = fs::read_dir(&dir).with_context(|| dir.display().to_string())?;
    let mut files: Vec<_> = files
        .map(|entry| anyhow::Ok(entry?.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let text = match &*name {
            "10-settings.yaml" => settings(),
            _ => fs::read_to_string(&path)?,
        };
        Ok((name.into_owned(), text))
    };
    files.into_iter().map(read).collect()
}

/// What is meant to differ from place to place.
fn settings() -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings, namespace: {NAMESPACE}}}\ndata:\n  \
         DEMO_MARKER: {MARKER}\n  LOAD_RATE: \"40\"\n  LOAD_CONNECTIONS: \"8\"\n  LOAD_SECONDS: \"10\"\n"
    )
}

/// Applies `manifests`, the namespace first and with these labels, the load last, when everybody else is ready.
///
/// # Errors
///
/// What `kubectl` said; somebody is not ready in time.
pub fn apply(
    cluster: &Cluster,
    manifests: &[(String, String)],
    labels: &[&str],
) -> anyhow::Result<()> {
    let kubectl = |line: &str| cluster.kubectl(&line.split(' ').collect::<Vec<_>>());
    let (load, others): (Vec<_>, Vec<_>) = manifests
        .iter()
        .partition(|(name, _)| name == "40-load.yaml");
    for (name, text) in others {
        cluster.apply(text)?;
        if name == "00-namespace.yaml" {
            for label in labels {
                kubectl(&format!("label namespace {NAMESPACE} {label}"))?;
            }
        }
    }
    let ready = "wait deployment --all --for condition=Available --timeout 150s";
    kubectl(&format!("-n {NAMESPACE} {ready}"))?;
    for (_, text) in load {
        cluster.apply(text)?;
    }
    kubectl(&format!("-n {NAMESPACE} {ready}")).map(drop)
}

/// What the load says at its end.
///
/// # Errors
///
/// It ended without.
pub fn summary(cluster: &Cluster) -> anyhow::Result<Value> {
    let mut logs: Command = cluster.kubectl_command()?;
    logs.args(["-n", NAMESPACE, "logs", "-f", "deployment/load", "-c"]);
    let mut child = logs.arg("load").stdout(Stdio::piped()).spawn()?;
    let lines = BufReader::new(child.stdout.take().context("a pipe")?).lines();
    let events = lines
        .map_while(Result::ok)
        .filter_map(|line| serde_json::from_str::<Value>(&line).ok());
    let summary = events.into_iter().find(|event| event["event"] == "summary");
    child.kill()?;
    child.wait()?;
    let summary = summary.context("the load says how it went")?;
    ensure!(summary["requests"].is_u64(), "{summary:#}");
    Ok(summary)
}
