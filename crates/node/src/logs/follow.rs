// SPDX-License-Identifier: Apache-2.0
//! A container's log for somebody who reads it: its end, and what is added to it.
//!
//! It must never hold up the writer, which knows nothing of readers. Read `logs.rs` for how logs are kept small.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use maille_chassis::clock::Clock;
use maille_manifest::objects::Pod;
use tokio::sync::mpsc;

use super::times;

/// How often a log is looked at for more.
const PERIOD: Duration = Duration::from_millis(100);
/// What travels at once.
const PIECE: usize = 64 * 1024;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    file: String,
    previous: bool,
    /// Lines; `None`: all.
    tail: Option<usize>,
    follow: bool,
    /// Only what was written in so many seconds before now.
    since: Option<u64>,
}

impl Wanted {
    /// Reads the query; refuses what makes no sense for `pod`.
    pub(crate) fn read(pod: &Pod, query: &str) -> Result<Self, String> {
        let spec = &pod.spec;
        let containers = spec.containers.iter().chain(&spec.init_containers);
        let names: Vec<&str> = containers.map(|one| one.name.as_str()).collect();
        let mut container = names.first().copied().unwrap_or_default();
        let (mut previous, mut follow) = (false, false);
        let (mut tail, mut since) = (None, None);
        let number = |name: &str, text: &str| {
            let number = text.parse::<u64>();
            number.map_err(|_| format!("{name} {text:?} is no number"))
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=').unwrap_or((pair, "")) {
                ("container", name) => container = name,
                ("tail", lines) => {
                    let lines = number("tail", lines)?;
                    tail = Some(usize::try_from(lines).unwrap_or(usize::MAX));
                }
                ("since", seconds) => since = Some(number("since", seconds)?),
                ("follow", flag) => follow = flag == "1",
                ("previous", flag) => previous = flag == "1",
                (other, _) => return Err(format!("no parameter {other:?}")),
            }
        }
        let known = names.contains(&container) || container == "maille-proxy";
        if !known {
            return Err(format!(
                "the pod has no container {container:?}; it has {}",
                names.join(", ")
            ));
        }
        let file = match container {
            "maille-proxy" => "proxy.log".to_owned(),
            name => format!("{name}.log"),
        };
        Ok(Self {
            file,
            previous,
            tail,
            follow,
            since,
        })
    }
}

/// Sends what is `wanted` of the logs in `dir`, until nobody listens, or no more can come.
pub(crate) async fn send(
    dir: &Path,
    wanted: &Wanted,
    exists: impl Fn() -> bool,
    clock: Clock,
    pieces: mpsc::Sender<Vec<u8>>,
) {
    let path = dir.join(&wanted.file);
    let mut reader = Reader::new(path.clone());
    let before = |seconds| clock.wall().checked_sub(Duration::from_secs(seconds));
    let time = wanted
        .since
        .map(|seconds| before(seconds).unwrap_or(SystemTime::UNIX_EPOCH));
    let from = time.and_then(|time| times::after(&path, time));
    let begin = match from {
        _ if wanted.previous => whole(&path.with_extension("log.previous")),
        Some(from) => since(&reader.more(), from).to_vec(),
        None => {
            let mut begin = whole(&path.with_extension("log.old"));
            begin.extend(reader.more());
            begin
        }
    };
    let begin = match wanted.tail {
        Some(lines) => last(&begin, lines),
        None => &begin[..],
    };
    for piece in begin.chunks(PIECE) {
        if pieces.send(piece.to_vec()).await.is_err() {
            return;
        }
    }
    if !wanted.follow || wanted.previous {
        return;
    }
    loop {
        // Looked at before the log: what was written last is read all the same.
        let exists = exists();
        let more = reader.more();
        for piece in more.chunks(PIECE) {
            if pieces.send(piece.to_vec()).await.is_err() {
                return;
            }
        }
        if !exists {
            return;
        }
        tokio::select! {
            () = clock.wait(PERIOD) => {}
            () = pieces.closed() => return,
        }
    }
}

/// The whole lines from `from` on.
fn since(text: &[u8], from: u64) -> &[u8] {
    let from = usize::try_from(from).unwrap_or(usize::MAX).min(text.len());
    let (before, after) = text.split_at(from);
    if before.is_empty() || before.ends_with(b"\n") {
        return after;
    }
    // A line that had begun by then.
    match after.iter().position(|byte| *byte == b'\n') {
        Some(end) => &after[end + 1..],
        None => &[],
    }
}

/// The last `lines` of a text.
fn last(text: &[u8], lines: usize) -> &[u8] {
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let Some(skipped) = lines.checked_sub(1) else {
        return b"";
    };
    let mut ends = body
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, byte)| **byte == b'\n');
    match ends.nth(skipped) {
        Some((at, _)) => text.get(at + 1..).unwrap_or_default(),
        None => text,
    }
}

/// A file that may be missing.
fn whole(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_default()
}

/// Reads on where it ended, in the file that has the name now.
#[derive(Debug)]
struct Reader {
    path: PathBuf,
    /// Device, inode.
    file: Option<(u64, u64)>,
    at: u64,
}

impl Reader {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            file: None,
            at: 0,
        }
    }

    /// What was added; nothing, where the file is not there.
    fn more(&mut self) -> Vec<u8> {
        self.read().unwrap_or_default()
    }

    fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut file = File::open(&self.path)?;
        let data = file.metadata()?;
        let own = (data.dev(), data.ino());
        // Another file, or one that was cut: from its beginning.
        if self.file.replace(own) != Some(own) || data.len() < self.at {
            self.at = 0;
        }
        file.seek(SeekFrom::Start(self.at))?;
        let mut bytes = Vec::new();
        let length = data.len() - self.at;
        file.take(length).read_to_end(&mut bytes)?;
        self.at += bytes.len() as u64;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines() {
        for (text, lines, expected) in [
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc", 1, "c"),
            ("a\nb\n", 5, "a\nb\n"),
            ("a\nb\n", 0, ""),
            ("", 3, ""),
            ("\n\n", 1, "\n"),
        ] {
            let found = last(text.as_bytes(), lines);
            assert_eq!(std::str::from_utf8(found), Ok(expected), "{text:?} {lines}");
        }
    }

    #[test]
    fn whole_lines_since() {
        for (text, from, expected) in [
            ("a\nb\n", 0, "a\nb\n"),
            ("a\nb\n", 2, "b\n"),
            ("a\nb\n", 1, "b\n"),
            ("a\nbc\nd", 3, "d"),
            ("a\nbc", 3, ""),
            ("a\n", 9, ""),
        ] {
            let found = since(text.as_bytes(), from);
            assert_eq!(std::str::from_utf8(found), Ok(expected), "{text:?} {from}");
        }
    }

    #[test]
    fn a_reader_follows_cuts_and_replacements() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.log");
        let mut reader = Reader::new(path.clone());
        assert_eq!(reader.more(), b"");
        std::fs::write(&path, "one\n").unwrap();
        assert_eq!(reader.more(), b"one\n");
        assert_eq!(reader.more(), b"");
        std::fs::write(&path, "2\n").unwrap();
        assert_eq!(reader.more(), b"2\n");
        std::fs::rename(&path, dir.path().join("web.log.previous")).unwrap();
        std::fs::write(&path, "three\n").unwrap();
        assert_eq!(reader.more(), b"three\n");
    }

    #[test]
    fn what_is_asked_for_is_checked() {
        let pod = r#"{"metadata":{"name":"p"},"spec":{"containers":[{"name":"a"},{"name":"b"}]}}"#;
        let pod: Pod = maille_manifest::from_json(pod.as_bytes()).unwrap();
        let file = |query: &str| Wanted::read(&pod, query).map(|wanted| wanted.file);
        assert_eq!(file("").as_deref(), Ok("a.log"));
        assert_eq!(file("container=b&tail=3&follow=1").as_deref(), Ok("b.log"));
        assert_eq!(
            file("container=maille-proxy&since=5").as_deref(),
            Ok("proxy.log")
        );
        for wrong in [
            "container=..",
            "container=",
            "tail=x",
            "since=1h",
            "tail=-1",
        ] {
            assert!(file(wrong).is_err(), "{wrong}");
        }
    }
}
