// SPDX-License-Identifier: Apache-2.0
//! Logs of what this process starts: files that only grow at their end, and no larger than [`LIMIT`] for long.
//!
//! Writers hold the file itself, so nothing here can hold them up; see `runner/container.rs` and `daemon.rs` for who they are.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use maille_chassis::clock::Clock;
use nix::fcntl::OFlag;

pub(crate) mod follow;
/// When what was written.
mod times;

/// A log that is larger becomes `NAME.log.old`, at most its last so many bytes.
const LIMIT: u64 = 10 << 20;
/// How often sizes are looked at.
const PERIOD: Duration = Duration::from_secs(1);
/// A proxy can write in the directory of its own log: no link of its making leads anywhere, and no pipe holds anybody up.
const PLAIN: OFlag = OFlag::O_NOFOLLOW.union(OFlag::O_NONBLOCK);

/// Opens a log to be written at its end.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    File::options()
        .create(true)
        .append(true)
        .custom_flags(PLAIN.bits())
        .open(path)
}

/// Opens the log of a process that is started again: what its predecessor wrote becomes `NAME.log.previous`.
pub(crate) fn begin(path: &Path) -> io::Result<File> {
    let written =
        std::fs::symlink_metadata(path).is_ok_and(|data| data.is_file() && data.len() > 0);
    if written {
        std::fs::rename(path, path.with_extension("log.previous"))?;
        remove(&path.with_extension("log.old"))?;
        times::forget(path)?;
    }
    open(path)
}

/// Keeps every `.log` of `state_dir` and of its pods small, and notes how long those of pods are at which time, until the runtime ends.
pub(crate) async fn keep_small(state_dir: PathBuf, clock: Clock) {
    loop {
        clock.wait(PERIOD).await;
        let dir = state_dir.clone();
        let now = clock.wall();
        // A panic in there is the only error, and the next look is due all the same.
        let _ = tokio::task::spawn_blocking(move || {
            each(&dir, |log| turn(log, LIMIT));
            let of = |name: &str| std::fs::read_dir(dir.join(name)).into_iter().flatten();
            let pods = of("pods").flatten().map(|pod| pod.path());
            let sandboxes = of("sandboxes").flatten().map(|one| one.path().join("p"));
            for pod in pods.chain(sandboxes) {
                each(&pod, |log| {
                    turn(log, LIMIT)?;
                    times::note(log, now)
                });
            }
        })
        .await;
    }
}

fn each(dir: &Path, act: impl Fn(&Path) -> io::Result<()>) {
    // A pod that is gone meanwhile has no logs.
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "log")
            && let Err(error) = act(&path)
        {
            maille_chassis::limited!(warn, log = %path.display(), %error, "log cannot be kept small");
        }
    }
}

/// Copies the end of a log that is too large, then empties it. Its writer goes on at the end, wherever that is by then; what it
/// writes between the two is lost.
fn turn(path: &Path, limit: u64) -> io::Result<()> {
    let mut log = File::options()
        .read(true)
        .write(true)
        .custom_flags(PLAIN.bits())
        .open(path)?;
    let data = log.metadata()?;
    if !data.is_file() || data.len() <= limit {
        return Ok(());
    }
    let old = path.with_extension("log.old");
    remove(&old)?;
    times::forget(path)?;
    let mut copy = File::options().write(true).create_new(true).open(old)?;
    log.seek(SeekFrom::Start(data.len() - limit))?;
    io::copy(&mut io::Read::by_ref(&mut log).take(limit), &mut copy)?;
    log.set_len(0)
}

/// Removes a file that may be gone already.
fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The last line of a log, fit for a message: printable and short.
pub(crate) fn last_line(path: &Path) -> Option<String> {
    const TAIL: u64 = 4096;
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))
        .ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.chars().filter(|c| !c.is_control()).take(200).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_large_log_is_turned_and_its_writer_goes_on() {
        let dir = std::env::temp_dir().join(format!("maille-logs-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("web.log");
        let mut writer = open(&path).unwrap();
        writer.write_all(b"0123456789").unwrap();
        each(&dir, |log| turn(log, 10));
        assert!(!dir.join("web.log.old").exists());
        writer.write_all(b"ab").unwrap();
        each(&dir, |log| turn(log, 10));
        writer.write_all(b"next\n").unwrap();
        let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
        assert_eq!(
            (read("web.log"), read("web.log.old")),
            ("next\n".to_owned(), "23456789ab".to_owned())
        );
        // A link is nobody's log.
        std::os::unix::fs::symlink(dir.join("web.log.old"), dir.join("link.log")).unwrap();
        each(&dir, |log| turn(log, 1));
        assert_eq!(read("web.log.old"), "\n");
        assert!(turn(&dir.join("link.log"), 1).is_err() && open(&dir.join("link.log")).is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
