// SPDX-License-Identifier: Apache-2.0
//! What this process says about itself, beside what passed through it (`telemetry/totals.rs`): start, memory, certificate, snapshot.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use maille_engine::snapshot::Snapshot;
use maille_identity::Credentials;

/// Writes Prometheus text about the process.
pub fn write(
    out: &mut String,
    started: SystemTime,
    snapshot: &Snapshot,
    credentials: Option<&Credentials>,
) {
    gauge(
        out,
        "process_start_time_seconds",
        "When the process began",
        seconds(started),
    );
    if let Some(bytes) = resident() {
        gauge(
            out,
            "process_resident_memory_bytes",
            "Resident memory",
            bytes,
        );
    }
    let expires = credentials.map_or(0, |held| seconds(held.not_after()));
    gauge(
        out,
        "identity_cert_expiration_timestamp_seconds",
        "When the own certificate ends; 0 without one",
        expires,
    );
    let generation = credentials.map_or(0, Credentials::generation);
    gauge(
        out,
        "identity_cert_generation",
        "Rises with each certificate",
        generation,
    );
    let entries =
        snapshot.addresses().count() + snapshot.services().count() + snapshot.groups().count();
    gauge(
        out,
        "snapshot_entries",
        "Answers of control that are held",
        u64::try_from(entries).unwrap_or(u64::MAX),
    );
    gauge(
        out,
        "snapshot_complete",
        "Whether enough is known to admit anything",
        u64::from(snapshot.is_complete()),
    );
}

fn gauge(out: &mut String, name: &str, help: &str, value: u64) {
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "# HELP {name} {help}.\n# TYPE {name} gauge\n{name} {value}"
    );
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
    line.trim()
        .strip_suffix(" kB")?
        .parse::<u64>()
        .ok()
        .map(|kb| kb * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_about_a_process_that_knows_nothing() {
        let mut out = String::new();
        write(&mut out, UNIX_EPOCH, &Snapshot::new(), None);
        assert!(out.contains("\nprocess_start_time_seconds 0\n"), "{out}");
        assert!(out.contains("\nsnapshot_complete 0\n"), "{out}");
        assert!(resident().is_some_and(|bytes| bytes > 1 << 20));
    }
}
