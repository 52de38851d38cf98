// SPDX-License-Identifier: Apache-2.0
//! Waits for orphans: as pid 1 this process inherits every process of its namespace whose parent ended.
//!
//! It must never wait for a child that somebody else here waits for. Those are waited for at once, so only what was dead in two
//! looks in a row, [`EVERY`] apart, is taken for an orphan.

use std::collections::BTreeSet;
use std::time::Duration;

use maille_chassis::clock::Clock;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

const EVERY: Duration = Duration::from_secs(5);

/// Waits for orphans until the runtime ends.
pub(crate) async fn orphans(clock: Clock) {
    let mut before = BTreeSet::new();
    loop {
        clock.wait(EVERY).await;
        let dead = dead_children();
        for pid in dead.intersection(&before) {
            // It may have been waited for at this moment.
            let _ = waitpid(Pid::from_raw(*pid), Some(WaitPidFlag::WNOHANG));
        }
        before = dead;
    }
}

/// Children of this process that have ended and were not waited for.
fn dead_children() -> BTreeSet<i32> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            state(&stat) == Some(('Z', own))
        })
        .collect()
}

/// State and parent, from `proc_pid_stat(5)`.
fn state(stat: &str) -> Option<(char, i32)> {
    // The name before it may hold anything, closing parentheses included.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_confuse() {
        assert_eq!(state("12 (a) Z 7) Z 1 12 12 0"), Some(('Z', 1)));
        assert_eq!(state("12 (sh) S 7 12"), Some(('S', 7)));
        assert_eq!(state("12 (sh"), None);
    }

    #[test]
    fn a_dead_child_is_found_until_it_is_waited_for() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        nix::sys::wait::waitid(nix::sys::wait::Id::Pid(Pid::from_raw(pid)), flags).unwrap();
        assert!(dead_children().contains(&pid));
        child.wait().unwrap();
        assert!(!dead_children().contains(&pid));
    }
}
