// SPDX-License-Identifier: Apache-2.0
//! What a mesh of this machine leaves in its state directory: logs, and metrics by its sockets. Must never read `ca/`, nor volumes.

use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use super::bundle::Bundle;
use crate::api;
use crate::state::State;

/// Of one log: its end.
const LOG: u64 = 4 << 20;
/// Pods whose proxies are asked.
const PODS: usize = 100;

pub(super) async fn fill(bundle: &mut Bundle, state: &State) -> io::Result<()> {
    for path in logs_in(state.dir()) {
        bundle.put(&format!("logs/{}", name(&path)), end_of(&path))?;
    }
    let metrics = api::text(state, "api.sock", "/metrics").await;
    bundle.put("metrics/control.txt", metrics)?;
    let pods = std::fs::read_dir(state.dir().join("pods"));
    let pods = pods.into_iter().flatten().filter_map(Result::ok);
    let mut pods: Vec<PathBuf> = pods.map(|entry| entry.path()).collect();
    pods.sort();
    for pod in pods.iter().take(PODS) {
        let uid = name(pod);
        let log = pod.join("proxy.log");
        if !log.is_file() {
            continue;
        }
        bundle.put(&format!("logs/{uid}/proxy.log"), end_of(&log))?;
        let socket = format!("pods/{uid}/admin.sock");
        let metrics = api::text(state, &socket, "/metrics").await;
        bundle.put(&format!("metrics/{uid}.txt"), metrics)?;
        let known = api::text(state, &socket, "/snapshot").await;
        bundle.put(&format!("snapshots/{uid}.json"), known)?;
    }
    Ok(())
}

fn logs_in(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut logs: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|kind| kind == "log"))
        .collect();
    logs.sort();
    logs
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn end_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG)))?;
    let mut bytes = Vec::new();
    file.take(LOG).read_to_end(&mut bytes)?;
    Ok(bytes)
}
