// SPDX-License-Identifier: Apache-2.0
//! Hears when manifests on disk may have changed. It looks at no content: whoever asks reads everything again.
//!
//! Directories are watched, not files: editors replace files, and a file may be away for a moment. Read `reload.rs` for the user.

use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, timeout_at};

/// Several files that are written together make one change: so long nothing must happen.
const QUIET: Duration = Duration::from_millis(100);
/// But no longer than this.
const LATEST: Duration = Duration::from_secs(1);
/// How often a directory that is away is looked for.
const AWAY: Duration = Duration::from_millis(500);

/// Watches the places that manifests came from.
#[derive(Debug)]
pub(crate) struct Watcher {
    inotify: AsyncFd<Kernel>,
    directories: Vec<PathBuf>,
    /// Every directory was there when they were looked for last.
    whole: bool,
}

/// nix's type, with the trait that tokio asks for.
#[derive(Debug)]
struct Kernel(Inotify);

impl AsRawFd for Kernel {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Watcher {
    /// Watches what `sources` name. `None`: standard input is among them, which cannot be read again.
    pub(crate) fn open(sources: &[PathBuf]) -> anyhow::Result<Option<Self>> {
        if sources.iter().any(|source| source == Path::new("-")) {
            return Ok(None);
        }
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        let inotify = Inotify::init(flags).context("files cannot be watched")?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe; this descriptor is owned, and the same as long as it lives"
        )]
        let inotify = AsyncFd::new(Kernel(inotify))?;
        let mut directories: Vec<PathBuf> =
            sources.iter().map(|source| directory(source)).collect();
        directories.sort();
        directories.dedup();
        let mut watcher = Self {
            inotify,
            directories,
            whole: true,
        };
        watcher.look();
        Ok(Some(watcher))
    }

    /// Waits until something may have changed and nothing has for a moment.
    pub(crate) async fn changed(&mut self) -> anyhow::Result<()> {
        loop {
            let before = self.whole;
            self.look();
            // A directory that was away is back, as another one.
            if self.whole && !before {
                break;
            }
            if self.whole {
                self.heard().await?;
                break;
            }
            if let Ok(heard) = timeout_at(Instant::now() + AWAY, self.heard()).await {
                heard?;
                break;
            }
        }
        let latest = Instant::now() + LATEST;
        while Instant::now() < latest {
            match timeout_at(Instant::now() + QUIET, self.heard()).await {
                Ok(heard) => heard?,
                Err(_) => break,
            }
        }
        // One that was replaced is watched from now on.
        self.look();
        Ok(())
    }

    /// Watches every directory that is there.
    fn look(&mut self) {
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        let add = |path: &&PathBuf| self.inotify.get_ref().0.add_watch(*path, flags).is_ok();
        // Each is added, whatever became of those before.
        self.whole = self.directories.iter().filter(add).count() == self.directories.len();
    }

    /// Waits for events and forgets them. Cancel-safe.
    async fn heard(&self) -> anyhow::Result<()> {
        loop {
            let mut ready = self.inotify.readable().await?;
            match ready.get_inner().0.read_events() {
                Ok(_) => return Ok(()),
                Err(Errno::EAGAIN | Errno::EINTR) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// What is watched for `source`: itself, or where it lies.
fn directory(source: &Path) -> PathBuf {
    if source.is_dir() {
        return source.to_owned();
    }
    match source.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    async fn changed(watcher: &mut Watcher) {
        let soon = Instant::now() + Duration::from_secs(10);
        timeout_at(soon, watcher.changed()).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn files_that_are_written_replaced_and_removed_are_heard() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.yaml");
        fs::write(&file, "a").unwrap();
        for source in [dir.path().to_owned(), file.clone()] {
            let mut watcher = Watcher::open(&[source]).unwrap().unwrap();
            fs::write(&file, "b").unwrap();
            changed(&mut watcher).await;
            fs::write(dir.path().join("new"), "c").unwrap();
            fs::rename(dir.path().join("new"), &file).unwrap();
            changed(&mut watcher).await;
            fs::remove_file(&file).unwrap();
            changed(&mut watcher).await;
            fs::write(&file, "a").unwrap();
        }
    }

    #[tokio::test]
    async fn a_directory_that_is_replaced_is_heard_again() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("app");
        fs::create_dir(&own).unwrap();
        let mut watcher = Watcher::open(std::slice::from_ref(&own)).unwrap().unwrap();
        fs::remove_dir_all(&own).unwrap();
        changed(&mut watcher).await;
        fs::create_dir(&own).unwrap();
        changed(&mut watcher).await;
        fs::write(own.join("a.yaml"), "a").unwrap();
        changed(&mut watcher).await;
        assert!(Watcher::open(&["-".into()]).unwrap().is_none());
    }
}
