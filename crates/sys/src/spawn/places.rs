// SPDX-License-Identifier: Apache-2.0
//! Where things are bound at, worked out before the clone: which places exist, and which must be made.
//!
//! A place that does not exist is made without a trace on the machine: the nearest directory above it that does exist becomes a
//! small file system of the child's own, in which everything that was there is bound again, and beside it the new place. This
//! only reads the machine; `mounts.rs` acts.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use super::texts::path;
use super::{Bind, Spawn, SpawnError};

/// The name under which the old directory is kept while its entries are bound again.
const OLD: &str = ".maille-old";

/// Where the new root is put together: a directory that is nobody's while this happens.
pub(super) const STAGE: &str = "/proc";

/// A bind as the child makes it.
#[derive(Debug)]
pub(super) struct BindPlan {
    pub(super) from: CString,
    pub(super) at: CString,
    pub(super) writable: bool,
    /// Whether it is the program, which may be run wherever it is from.
    pub(super) program: bool,
    /// What must be made first, above it and perhaps itself.
    pub(super) directories: Vec<CString>,
    /// Whether `at` itself is a file to be made.
    pub(super) file: bool,
    /// Whether it is beneath another bind, and so can only be made after it.
    pub(super) nested: bool,
    /// The detached mount, once the child opened it.
    pub(super) tree: RawFd,
}

/// A directory that is replaced by one with more room.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) at: CString,
    /// Where the old one is meanwhile. `None`: it is the root, which stays in view until it is left.
    pub(super) old: Option<CString>,
    pub(super) entries: Vec<Entry>,
}

/// Something that was in the old directory.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) old: CString,
    pub(super) new: CString,
    pub(super) kind: EntryKind,
}

/// What it is.
#[derive(Debug)]
pub(super) enum EntryKind {
    Directory,
    /// Anything else that can be bound.
    File,
    /// Leads here.
    Link(CString),
}

/// Everything about places.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Those first that are above others.
    pub(super) rooms: Vec<Room>,
    /// Directories that are bound to by nobody: the working directory.
    pub(super) directories: Vec<CString>,
    pub(super) binds: Vec<BindPlan>,
}

// === impl Places ===

impl Places {
    pub(super) fn new(spawn: &Spawn) -> Result<Self, SpawnError> {
        let mut binds: Vec<&Bind> = spawn.binds.iter().collect();
        // What is above comes first; otherwise as they were given.
        binds.sort_by_key(|bind| bind.at.components().count());
        let mut rooms = BTreeMap::new();
        let mut places = Self::default();
        if spawn.alone {
            places.rooms.push(empty()?);
        }
        for (index, bind) in binds.iter().enumerate() {
            let above = binds.get(..index).unwrap_or_default();
            places.binds.push(planned(bind, spawn, above, &mut rooms)?);
        }
        let private = spawn
            .namespaces
            .contains(nix::sched::CloneFlags::CLONE_NEWNS);
        let bound = |bind: &&Bind| spawn.cwd.starts_with(&bind.at);
        if private && !binds.iter().any(bound) && !spawn.cwd.exists() {
            places.directories = missing(&spawn.cwd, &mut rooms)?;
        }
        // A shorter path sorts before those beneath it.
        for (directory, ()) in rooms {
            places.rooms.push(room(&directory, spawn)?);
        }
        Ok(places)
    }
}

fn planned(
    bind: &Bind,
    spawn: &Spawn,
    above: &[&Bind],
    rooms: &mut BTreeMap<PathBuf, ()>,
) -> Result<BindPlan, SpawnError> {
    let file = !bind.from.is_dir();
    let beneath = |dir: &Path| bind.at.starts_with(dir) && bind.at != dir;
    let parent = above
        .iter()
        .map(|other| other.at.as_path())
        .find(|at| beneath(at));
    let hidden = spawn
        .hidden
        .iter()
        .map(PathBuf::as_path)
        .find(|dir| beneath(dir));
    let root = spawn.alone.then_some(Path::new("/"));
    let mut made = match parent.or(hidden).or(root) {
        Some(dir) => between(dir, &bind.at)?,
        None if bind.at.exists() => Vec::new(),
        None => missing(&bind.at, rooms)?,
    };
    let file = file && !made.is_empty();
    if file {
        made.pop();
    }
    Ok(BindPlan {
        from: path("a bind", &bind.from)?,
        at: path("a bind", &bind.at)?,
        writable: bind.writable,
        program: spawn.alone && bind.at == spawn.program,
        directories: made,
        file,
        nested: parent.is_some(),
        tree: -1,
    })
}

/// The directories to make for `at`, itself included; the one that they are made in gets room.
fn missing(at: &Path, rooms: &mut BTreeMap<PathBuf, ()>) -> Result<Vec<CString>, SpawnError> {
    let there = at
        .ancestors()
        .find(|ancestor| ancestor.is_dir())
        .unwrap_or_else(|| Path::new("/"));
    // Where it really is: a room is made of what links lead to.
    let real = fs::canonicalize(there).unwrap_or_else(|_| there.to_owned());
    rooms.insert(real, ());
    between(there, at)
}

/// Every path beneath `dir` down to `at`.
fn between(dir: &Path, at: &Path) -> Result<Vec<CString>, SpawnError> {
    let mut made = Vec::new();
    for ancestor in at.ancestors().take_while(|ancestor| *ancestor != dir) {
        made.push(path("a bind", ancestor)?);
    }
    made.reverse();
    Ok(made)
}

/// A root with nothing in it but a place for /proc.
fn empty() -> Result<Room, SpawnError> {
    let stage = Path::new(STAGE);
    Ok(Room {
        at: path("a bind", stage)?,
        old: None,
        entries: vec![Entry {
            old: path("a bind", stage)?,
            new: path("a bind", &stage.join("proc"))?,
            kind: EntryKind::Directory,
        }],
    })
}

fn room(directory: &Path, spawn: &Spawn) -> Result<Room, SpawnError> {
    let root = directory == Path::new("/");
    let (new, old) = match root {
        true => (PathBuf::from(STAGE), directory.to_owned()),
        false => (directory.to_owned(), directory.join(OLD)),
    };
    let failed = |source| SpawnError::Step {
        program: spawn.program.display().to_string(),
        step: "looking for places to bind at",
        source,
    };
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let kind = entry.file_type().map_err(failed)?;
        let kind = if kind.is_symlink() {
            let target = fs::read_link(entry.path()).map_err(failed)?;
            EntryKind::Link(path("a link", &target)?)
        } else if kind.is_dir() {
            EntryKind::Directory
        } else {
            EntryKind::File
        };
        entries.push(Entry {
            old: path("a bind", &old.join(&name))?,
            new: path("a bind", &new.join(&name))?,
            kind,
        });
    }
    Ok(Room {
        at: path("a bind", &new)?,
        old: match root {
            true => None,
            false => Some(path("a bind", &old)?),
        },
        entries,
    })
}
