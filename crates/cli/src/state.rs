// SPDX-License-Identifier: Apache-2.0
//! The state directory of one `maille up`: where it is, whether it is ours, who holds it, and how it goes away.
//!
//! Must never follow a symbolic link, use a directory that somebody else could write, or signal a process that it
//! has not recognised. Read `up.rs` and `down.rs` for the two users.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

use crate::args::Global;
use crate::failure::Expected;

/// Room that the sockets inside need: `/pods/`, a uid of 36 bytes, `/` and the longest name, in 107 bytes.
const MAX_PATH: usize = 50;

const LOCK: &str = "up.lock";

/// Where the runner notes its control groups.
const GROUPS: &str = "groups";

/// There, while what runs is to go on without its `maille up`.
const KEPT: &str = "kept";

/// The directory above every state directory of this user.
#[derive(Debug, Clone)]
pub(crate) struct Base(PathBuf);

/// The state directory of one name. It may not exist.
#[derive(Debug, Clone)]
pub(crate) struct State {
    name: String,
    dir: PathBuf,
}

/// Holds a state directory: nobody else can start under its name. Released by the kernel with the process.
#[derive(Debug)]
pub(crate) struct Held {
    state: State,
    lock: Flock<File>,
}

/// Who holds a state directory.
#[derive(Debug)]
pub(crate) enum Holder {
    /// Nobody: there is no directory.
    Absent,
    /// Nobody any more: the one who made it was killed. The processes it started, as far as they still live.
    Dead(Vec<Process>),
    /// A living `maille up`, and the processes it started.
    Alive(Process, Vec<Process>),
}

/// A process, told from a later one with the same pid by its start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pid: i32,
    started: u64,
}

// === impl Base ===

impl Base {
    /// For tests: this directory, which may exist.
    #[cfg(test)]
    pub(crate) fn at(dir: &Path) -> Self {
        Self(dir.to_owned())
    }

    /// `--runtime-dir`; else `/run/maille` for root, `$XDG_RUNTIME_DIR/maille`, or `/tmp/maille-UID`.
    ///
    /// Who is root is decided outside the user namespace: root of a container of its own is a user here.
    pub(crate) fn find(global: &Global) -> anyhow::Result<Self> {
        let uid = outer_uid(
            geteuid().as_raw(),
            &fs::read_to_string("/proc/self/uid_map")?,
        );
        let dir = match (&global.runtime_dir, &global.xdg_runtime_dir) {
            (Some(dir), _) => std::path::absolute(dir)?,
            (None, _) if uid == 0 => PathBuf::from("/run/maille"),
            (None, Some(dir)) if dir.is_absolute() => dir.join("maille"),
            (None, _) => PathBuf::from(format!("/tmp/maille-{uid}")),
        };
        Ok(Self(dir))
    }

    /// The state directory of `name`, which must be a short RFC 1123 label.
    pub(crate) fn state(&self, name: &str) -> Result<State, Expected> {
        let label =
            name.len() <= 20 && !name.contains('.') && name.parse::<maille_model::Name>().is_ok();
        if !label {
            return Err(Expected::Name {
                name: name.to_owned(),
            });
        }
        let dir = self.0.join(name);
        if dir.as_os_str().len() > MAX_PATH {
            return Err(Expected::StateTooLong { path: dir });
        }
        Ok(State {
            name: name.to_owned(),
            dir,
        })
    }

    /// Every state directory there is.
    pub(crate) fn all(&self) -> Result<Vec<State>, Expected> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => {
                let path = self.0.clone();
                return Err(Expected::State { path, source });
            }
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut states: Vec<_> = names.filter_map(|name| self.state(&name).ok()).collect();
        states.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(states)
    }
}

/// The uid outside of this user namespace, after user_namespaces(7): lines of `inside outside length`.
fn outer_uid(uid: u32, map: &str) -> u32 {
    let ranges = map.lines().filter_map(|line| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
        Some((
            numbers.next()?.ok()?,
            numbers.next()?.ok()?,
            numbers.next()?.ok()?,
        ))
    });
    let mut outside = ranges
        .filter(|(inside, _, length)| uid >= *inside && uid - inside < *length)
        .map(|(inside, outside, _)| outside.saturating_add(uid - inside));
    outside.next().unwrap_or(uid)
}

/// Makes `path` with mode 0700, or takes it if it is a directory of ours that nobody else may enter.
fn make_or_take(path: &Path) -> Result<(), Expected> {
    let failed = |source| Expected::State {
        path: path.to_owned(),
        source,
    };
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    let refuse = |why| Expected::StateNotOurs {
        path: path.to_owned(),
        why,
    };
    let meta = fs::symlink_metadata(path).map_err(failed)?;
    if !meta.is_dir() {
        return Err(refuse("it is no directory"));
    }
    if meta.uid() != geteuid().as_raw() {
        return Err(refuse("it belongs to another user"));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(refuse("others may enter it (its mode must be 0700)"));
    }
    Ok(())
}

// === impl State ===

impl State {
    /// The name of this `maille up`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Takes the directory for this process: makes it, or cleans what a killed predecessor left.
    pub(crate) fn hold(&self) -> anyhow::Result<Held> {
        let mut held = self.lock()?;
        self.empty()?;
        held.write(&[Process::own()?])?;
        Ok(held)
    }

    /// Takes the directory as it is, with what was kept: the runner's process.
    pub(crate) fn take(&self) -> anyhow::Result<(Held, Process)> {
        let mut held = self.lock()?;
        let mut processes = read_processes(&mut held.lock).into_iter().skip(1);
        let runner = processes.next().filter(|runner| runner.alive());
        let runner =
            runner.ok_or_else(|| self.failed(io::Error::other("what was kept has ended")))?;
        held.write(&[Process::own()?, runner])?;
        Ok((held, runner))
    }

    /// Whether what runs here was to go on without its `maille up`, and does.
    pub(crate) fn is_kept(&self) -> bool {
        let left = matches!(self.holder(), Ok(Holder::Dead(left)) if !left.is_empty());
        left && self.dir.join(KEPT).exists()
    }

    fn lock(&self) -> anyhow::Result<Held> {
        if let Some(base) = self.dir.parent() {
            make_or_take(base)?;
        }
        loop {
            make_or_take(&self.dir)?;
            let file = self.open_lock(OFlag::O_CREAT)?;
            let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => lock,
                Err((mut file, Errno::EWOULDBLOCK)) => {
                    let pid = read_processes(&mut file).first().map(|up| up.pid);
                    return Err(Expected::Running {
                        name: self.name.clone(),
                        pid: pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string()),
                    }
                    .into());
                }
                Err((_, errno)) => return Err(self.failed(errno.into()).into()),
            };
            // A `down` may have removed the directory between the two calls: then the lock is on a file without a name.
            let named = fs::symlink_metadata(self.dir.join(LOCK));
            let held = lock.metadata().map_err(|error| self.failed(error))?;
            if !named.is_ok_and(|named| named.ino() == held.ino() && named.dev() == held.dev()) {
                continue;
            }
            return Ok(Held {
                state: self.clone(),
                lock,
            });
        }
    }

    /// Who holds it now.
    pub(crate) fn holder(&self) -> Result<Holder, Expected> {
        let file = match self.open_lock(OFlag::empty()) {
            Ok(file) => file,
            Err(Expected::State { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                let absent = !self.dir.exists();
                return Ok(if absent {
                    Holder::Absent
                } else {
                    Holder::Dead(Vec::new())
                });
            }
            Err(error) => return Err(error),
        };
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut lock) => {
                let mut left = read_processes(&mut lock);
                left.retain(|process| process.alive());
                Ok(Holder::Dead(left))
            }
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut processes = read_processes(&mut file).into_iter();
                match processes.next() {
                    Some(up) if up.alive() => Ok(Holder::Alive(up, processes.collect())),
                    // Held, but not yet (or no longer) by whom it names: between two steps of its start or end.
                    _ => Ok(Holder::Alive(Process::nobody(), Vec::new())),
                }
            }
            Err((_, errno)) => Err(self.failed(errno.into())),
        }
    }

    /// Removes the directory with all its content.
    pub(crate) fn remove(&self) -> Result<(), Expected> {
        make_or_take(&self.dir)?;
        // It goes in one step: somebody who looks meanwhile finds all of it or nothing, and cannot begin a new one inside.
        let doomed = self
            .dir
            .with_file_name(format!(".{}.{}", self.name, std::process::id()));
        self.ungroup()?;
        fs::rename(&self.dir, &doomed).map_err(|error| self.failed(error))?;
        fs::remove_dir_all(&doomed).map_err(|error| self.failed(error))?;
        // The directory above stays while another name uses it.
        if let Some(base) = self.dir.parent() {
            let _ = fs::remove_dir(base);
        }
        Ok(())
    }

    /// Removes the control groups that the runner has noted: it may have been killed before it did.
    fn ungroup(&self) -> Result<(), Expected> {
        let noted = fs::read_to_string(self.dir.join(GROUPS)).unwrap_or_default();
        for directory in noted.lines().map(Path::new) {
            let name = directory.file_name().and_then(OsStr::to_str);
            // Nothing else is taken away, whatever the file says.
            if name.is_some_and(|name| name.starts_with("maille.")) {
                maille_sys::cgroup::remove(directory).map_err(|source| Expected::State {
                    path: directory.to_owned(),
                    source,
                })?;
            }
        }
        Ok(())
    }

    fn empty(&self) -> Result<(), Expected> {
        self.ungroup()?;
        let failed = |error| self.failed(error);
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name() == LOCK {
                continue;
            }
            let is_dir = entry.file_type().map_err(failed)?.is_dir();
            let removed = if is_dir {
                fs::remove_dir_all(entry.path())
            } else {
                fs::remove_file(entry.path())
            };
            removed.map_err(failed)?;
        }
        Ok(())
    }

    fn open_lock(&self, extra: OFlag) -> Result<File, Expected> {
        let flags = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | extra;
        OpenOptions::new()
            .read(true)
            .write(true)
            .mode(0o600)
            .custom_flags(flags.bits())
            .open(self.dir.join(LOCK))
            .map_err(|error| self.failed(error))
    }

    fn failed(&self, source: io::Error) -> Expected {
        Expected::State {
            path: self.dir.clone(),
            source,
        }
    }
}

// === impl Held ===

impl Held {
    /// The directory that is held.
    pub(crate) const fn state(&self) -> &State {
        &self.state
    }

    /// Notes a process that must end with this one, for the clean-up after a kill.
    pub(crate) fn note(&mut self, pid: i32) -> anyhow::Result<()> {
        let mut processes = read_processes(&mut self.lock);
        processes.extend(Process::find(pid));
        self.write(&processes)
    }

    /// What runs is to go on when this process ends.
    pub(crate) fn keep(&self) -> Result<(), Expected> {
        let made = File::create(self.state.dir.join(KEPT));
        made.map(drop).map_err(|error| self.state.failed(error))
    }

    /// Removes the directory while it is held, so that no successor loses its own.
    pub(crate) fn remove(self) -> Result<(), Expected> {
        self.state.remove()
    }

    fn write(&mut self, processes: &[Process]) -> anyhow::Result<()> {
        let text: String = processes
            .iter()
            .map(|process| format!("{} {}\n", process.pid, process.started))
            .collect();
        self.lock.set_len(0)?;
        self.lock.rewind()?;
        Ok(self.lock.write_all(text.as_bytes())?)
    }
}

fn read_processes(file: &mut File) -> Vec<Process> {
    let mut text = String::new();
    let read = file
        .rewind()
        .and_then(|()| file.take(4096).read_to_string(&mut text));
    if read.is_err() {
        return Vec::new();
    }
    let parse = |line: &str| {
        let (pid, started) = line.split_once(' ')?;
        let (pid, started) = (pid.parse().ok()?, started.parse().ok()?);
        (pid > 1).then_some(Process { pid, started })
    };
    text.lines().filter_map(parse).collect()
}

// === impl Process ===

impl Process {
    /// Stands for a process that is not known: it is never signalled.
    const fn nobody() -> Self {
        Self { pid: 0, started: 0 }
    }

    fn own() -> io::Result<Self> {
        let pid = Pid::this().as_raw();
        Self::find(pid).ok_or_else(|| io::Error::other("/proc does not show this process"))
    }

    /// The process that has `pid` now.
    pub(crate) fn find(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(Self {
            pid,
            started: start_time(&stat)?,
        })
    }

    /// Its number.
    pub(crate) const fn pid(self) -> i32 {
        self.pid
    }

    /// Whether it still runs; a zombie does not.
    pub(crate) fn alive(self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        let state = stat
            .rsplit_once(") ")
            .map(|(_, rest)| rest.as_bytes().first());
        start_time(&stat) == Some(self.started) && state != Some(Some(&b'Z'))
    }

    /// Signals it, if it is still the one that was meant. Whether it was.
    pub(crate) fn signal(self, signal: Signal) -> bool {
        self.pid > 1 && self.alive() && kill(Pid::from_raw(self.pid), signal).is_ok()
    }
}

/// Field 22 of `/proc/PID/stat`; the name in field 2 may hold blanks and parentheses.
fn start_time(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests;
