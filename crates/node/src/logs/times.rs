// SPDX-License-Identifier: Apache-2.0
//! When what was written into a log: writers hold the file itself and note no times, so its length is noted beside it, at most once a second and
//! only where it has changed. A note is two numbers of eight bytes, little-endian: seconds since 1970, and the length by then.
//!
//! Must never follow a link that a writer made, nor grow without bound. Next: `follow.rs`, which asks.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{PLAIN, remove};

/// Bytes of one note.
const NOTE: usize = 16;
/// Notes that are kept; of more the older half is forgotten.
const NOTES: usize = 16_384;
/// A log that was not written for so long has nothing new to note.
const QUIET: Duration = Duration::from_secs(5);

/// Notes how long the log is `now`.
pub(super) fn note(log: &Path, now: SystemTime) -> io::Result<()> {
    let data = std::fs::symlink_metadata(log)?;
    let quiet = data
        .modified()
        .ok()
        .and_then(|at| now.duration_since(at).ok());
    if !data.is_file() || quiet.is_some_and(|quiet| quiet > QUIET) {
        return Ok(());
    }
    let mut options = File::options();
    options.read(true).append(true).create(true).mode(0o600);
    let mut file = options.custom_flags(PLAIN.bits()).open(beside(log))?;
    let kept = file.metadata()?;
    if !kept.is_file() {
        return Ok(());
    }
    let length = kept.len() - kept.len() % NOTE as u64;
    if let Some(last) = length.checked_sub(NOTE as u64) {
        let mut bytes = [0; NOTE];
        file.seek(SeekFrom::Start(last))?;
        file.read_exact(&mut bytes)?;
        if read(&bytes).1 == data.len() {
            return Ok(());
        }
    }
    if length >= (NOTE * NOTES) as u64 {
        let mut half = Vec::new();
        file.seek(SeekFrom::Start(length / 2 - length / 2 % NOTE as u64))?;
        file.read_to_end(&mut half)?;
        file.set_len(0)?;
        file.write_all(&half)?;
    }
    let seconds = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let note = [seconds.as_secs().to_le_bytes(), data.len().to_le_bytes()];
    file.write_all(&note.concat())
}

/// Forgets what was noted of a log that begins anew.
pub(super) fn forget(log: &Path) -> io::Result<()> {
    remove(&beside(log))
}

/// From where on the log was written after `time`; `None`: that was not noted, it may be all of it.
pub(super) fn after(log: &Path, time: SystemTime) -> Option<u64> {
    let mut options = File::options();
    let file = options
        .read(true)
        .custom_flags(PLAIN.bits())
        .open(beside(log))
        .ok()?;
    let mut bytes = Vec::new();
    file.take((2 * NOTE * NOTES) as u64)
        .read_to_end(&mut bytes)
        .ok()?;
    let seconds = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let (notes, _) = bytes.as_chunks::<NOTE>();
    let before = notes.iter().map(read).take_while(|(at, _)| *at <= seconds);
    before.last().map(|(_, length)| length)
}

fn read(note: &[u8; NOTE]) -> (u64, u64) {
    let [a, b, c, d, e, f, g, h, rest @ ..] = *note;
    (
        u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        u64::from_le_bytes(rest),
    )
}

fn beside(log: &Path) -> PathBuf {
    log.with_extension("log.times")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_after_a_time_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("web.log");
        let begin = SystemTime::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        for (second, text) in [(0, "a"), (1, "ab"), (2, "ab"), (3, "abcd")] {
            std::fs::write(&log, text).unwrap();
            note(&log, at(second)).unwrap();
        }
        assert_eq!(
            std::fs::metadata(beside(&log)).unwrap().len(),
            3 * 16,
            "only what changed"
        );
        let found = |seconds: u64| after(&log, at(seconds));
        assert_eq!(
            [found(0), found(1), found(2), found(3)],
            [Some(1), Some(2), Some(2), Some(4)]
        );
        assert_eq!(after(&log, begin - Duration::from_secs(2)), None);
        forget(&log).unwrap();
        assert_eq!(found(3), None);
    }

    #[test]
    fn notes_are_bounded_and_follow_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("web.log");
        let now = SystemTime::now();
        std::fs::write(&log, "x").unwrap();
        std::fs::write(beside(&log), vec![7; NOTE * NOTES]).unwrap();
        note(&log, now).unwrap();
        let kept = std::fs::metadata(beside(&log)).unwrap().len();
        assert_eq!(kept, (NOTE * NOTES / 2 + NOTE) as u64);
        assert_eq!(after(&log, now), None, "nonsense is no note");
        forget(&log).unwrap();
        std::os::unix::fs::symlink(&log, beside(&log)).unwrap();
        assert!(note(&log, now).is_err());
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "x");
    }
}
