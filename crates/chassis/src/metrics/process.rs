// SPDX-License-Identifier: Apache-2.0
//! What every process says about itself: start, memory, CPU, descriptors, panics, its log.
//!
//! Must never fail: what the kernel does not tell is left out.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Labels, Metric, Text};
use crate::{log, panics};

/// Everybody's.
pub const START: Metric = Metric::gauge(
    "process_start_time_seconds",
    &[],
    "When the process began, since 1970",
);
/// Everybody's.
pub const RESIDENT: Metric = Metric::gauge("process_resident_memory_bytes", &[], "Resident memory");
/// Everybody's.
pub const CPU: Metric = Metric::counter(
    "process_cpu_seconds_total",
    &[],
    "CPU time, user and system",
);
/// Everybody's.
pub const OPEN_FDS: Metric = Metric::gauge("process_open_fds", &[], "Open descriptors");
/// Everybody's.
pub const MAX_FDS: Metric = Metric::gauge("process_max_fds", &[], "Descriptors that may be open");
/// Ours.
pub const PANICS: Metric = Metric::counter("maille_panic_total", &[], "Panics that were survived");
/// Ours.
pub const LINES_DROPPED: Metric = Metric::counter(
    "maille_log_lines_dropped_total",
    &["log"],
    "Log lines that found the writer behind: of the `process` log and of the `access` log",
);
/// Ours.
pub const LINES_HELD_BACK: Metric = Metric::counter(
    "maille_log_lines_held_back_total",
    &[],
    "Log lines that peers triggered too often",
);

/// Everything that [`write`] writes.
pub const ALL: [Metric; 8] = [
    START,
    RESIDENT,
    CPU,
    OPEN_FDS,
    MAX_FDS,
    PANICS,
    LINES_DROPPED,
    LINES_HELD_BACK,
];

/// Writes it; `started` is when the process began.
pub fn write(text: &mut Text, started: SystemTime) {
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

/// Since 1970.
pub fn seconds(time: SystemTime) -> u64 {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_declared_is_written() {
        let mut text = Text::default();
        write(&mut text, UNIX_EPOCH);
        let text = text.into_string();
        for metric in ALL {
            let family = format!("# TYPE {} ", metric.name);
            assert_eq!(text.matches(&family).count(), 1, "{}", metric.name);
        }
        assert!(text.contains("\nprocess_start_time_seconds 0\n"), "{text}");
        assert!(resident().is_some_and(|bytes| bytes > 1 << 20));
    }
}
