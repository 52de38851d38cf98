// SPDX-License-Identifier: Apache-2.0
//! What this process says about itself: start, memory, descriptors, certificate, snapshot, log, panics.
//!
//! Must never fail: what the kernel does not tell is left out. Next: `../telemetry/totals.rs`.

use std::time::{SystemTime, UNIX_EPOCH};

use maille_chassis::metrics::{Labels, Text};
use maille_chassis::{log, panics};
use maille_engine::snapshot::Snapshot;
use maille_identity::Credentials;

use super::{
    BUILD, CERTIFICATE, COMPLETE, CPU, LINES_DROPPED, LINES_HELD_BACK, MAX_FDS, OPEN_FDS, PANICS,
    REFRESHES, RESIDENT, SNAPSHOT, START,
};

/// Writes it.
pub fn write(
    text: &mut Text,
    started: SystemTime,
    snapshot: &Snapshot,
    credentials: Option<&Credentials>,
) {
    text.single(&START, seconds(started));
    if let Some(bytes) = resident() {
        text.single(&RESIDENT, bytes);
    }
    if let Some(seconds) = cpu() {
        text.single(&CPU, seconds);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        // One of them is the directory that is being read.
        text.single(&OPEN_FDS, open.count().saturating_sub(1));
    }
    if let Some(most) = max_fds() {
        text.single(&MAX_FDS, most);
    }
    text.family(&BUILD);
    let version = Labels::new().with("version", env!("CARGO_PKG_VERSION"));
    text.sample(&BUILD, &version, 1);
    let expires = credentials.map_or(0, |held| seconds(held.not_after()));
    text.single(&CERTIFICATE, expires);
    text.single(&REFRESHES, credentials.map_or(0, Credentials::generation));
    let entries =
        snapshot.addresses().count() + snapshot.services().count() + snapshot.groups().count();
    text.single(&SNAPSHOT, entries);
    text.single(&COMPLETE, u64::from(snapshot.is_complete()));
    text.single(&PANICS, panics::count());
    text.family(&LINES_DROPPED);
    for (name, dropped) in [
        ("process", log::dropped()),
        ("access", log::access_dropped()),
    ] {
        text.sample(&LINES_DROPPED, &Labels::new().with("log", name), dropped);
    }
    text.single(&LINES_HELD_BACK, log::held_back());
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// VmRSS of `/proc/self/status`, which is in kB whatever the page size.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kb = line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?;
    Some(kb * 1024)
}

/// User and system time of `/proc/self/stat`, which the kernel gives in hundredths of a second.
fn cpu() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name before may contain anything.
    let (_, after) = stat.rsplit_once(") ")?;
    let mut fields = after.split(' ').skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some((next()? + next()?) as f64 / 100.0)
}

fn max_fds() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}
