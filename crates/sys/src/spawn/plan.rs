// SPDX-License-Identifier: Apache-2.0
//! Everything a child needs, as the kernel wants it, made before the clone: afterwards nothing may be allocated.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr;

use nix::sched::CloneFlags;

use super::filter::Filter;
use super::places::Places;
use super::texts::{path, text};
use super::{Spawn, SpawnError, User};
use crate::caps::CapSet;
use crate::cgroup;

/// As whom the child runs, as the kernel wants it.
#[derive(Debug)]
pub(super) struct UserPlan {
    pub(super) id: libc::uid_t,
    pub(super) group: libc::gid_t,
    pub(super) groups: Vec<libc::gid_t>,
    /// The lines of `uid_map` and `gid_map`, where the numbers are names of the own ones.
    pub(super) alias: Option<(CString, CString)>,
}

/// A child, ready to be made.
#[derive(Debug)]
pub(super) struct Plan {
    /// Where the program may be, in this order.
    pub(super) programs: Vec<CString>,
    pub(super) argv: Vec<*const libc::c_char>,
    pub(super) envp: Vec<*const libc::c_char>,
    pub(super) cwd: CString,
    pub(super) namespaces: CloneFlags,
    pub(super) net: Option<RawFd>,
    pub(super) hostname: Option<CString>,
    pub(super) places: Places,
    pub(super) hidden: Vec<CString>,
    pub(super) read_only_root: bool,
    /// The process whose namespaces are entered, and whether its user namespace is another.
    pub(super) inside: Option<(RawFd, bool)>,
    pub(super) user: Option<UserPlan>,
    /// Descriptor here, number there.
    pub(super) fds: Vec<(RawFd, RawFd)>,
    /// The first number above all fixed ones.
    pub(super) high: RawFd,
    pub(super) capabilities: Option<CapSet>,
    pub(super) no_new_privileges: bool,
    pub(super) filter: Option<Filter>,
    pub(super) terminal: bool,
    pub(super) outlives: bool,
    /// The group of version 2 that it is born into.
    pub(super) born: Option<File>,
    /// Where it writes itself into groups of version 1: alone in its thread group it needs no lock that every fork of the machine waits for.
    pub(super) joins: Vec<CString>,
    /// What the pointers point to.
    _strings: (Vec<CString>, Vec<CString>),
}

// SAFETY: the pointers point into `_strings`, which the plan owns and nobody changes.
unsafe impl Send for Plan {}
// SAFETY: as above; reading them from several threads is reading immutable bytes.
unsafe impl Sync for Plan {}

impl Plan {
    pub(super) fn new(spawn: &Spawn, null: RawFd) -> Result<Self, SpawnError> {
        let mut args = vec![text("the program", spawn.program.as_os_str())?];
        for arg in &spawn.args {
            args.push(text("an argument", arg)?);
        }
        let mut env = Vec::new();
        for (name, value) in &spawn.env {
            let mut pair = name.clone();
            pair.push("=");
            pair.push(value);
            env.push(text("a variable", &pair)?);
        }
        let (stdout, stderr) = spawn.output.as_ref().map_or((null, null), |(out, err)| {
            (out.as_raw_fd(), err.as_raw_fd())
        });
        let stdin = spawn.input.as_ref().map_or(null, |input| input.as_raw_fd());
        let mut fds = vec![(stdin, 0), (stdout, 1), (stderr, 2)];
        fds.extend(
            spawn
                .fds
                .iter()
                .map(|(fd, number)| (fd.as_raw_fd(), *number)),
        );
        let high = fds.iter().map(|(_, number)| number + 1).max().unwrap_or(3);
        let (born, joins) = groups(spawn)?;
        let hidden: Result<_, _> = spawn
            .hidden
            .iter()
            .map(|dir| path("a hidden directory", dir))
            .collect();
        let pointers = |strings: &[CString]| {
            strings
                .iter()
                .map(|s| s.as_ptr())
                .chain([ptr::null()])
                .collect()
        };
        Ok(Self {
            programs: programs(spawn)?,
            argv: pointers(&args),
            envp: pointers(&env),
            cwd: path("the working directory", &spawn.cwd)?,
            namespaces: spawn.namespaces,
            net: spawn.net.as_ref().map(|net| net.as_fd().as_raw_fd()),
            hostname: spawn
                .hostname
                .as_ref()
                .map(|name| text("the host name", OsStr::new(name)))
                .transpose()?,
            places: Places::new(spawn)?,
            hidden: hidden?,
            read_only_root: spawn.read_only_root,
            inside: spawn
                .inside
                .as_ref()
                .map(|process| (process.0.as_raw_fd(), process.has_other_user())),
            user: spawn.user.as_ref().map(user).transpose()?,
            fds,
            high,
            capabilities: spawn.capabilities,
            no_new_privileges: spawn.no_new_privileges,
            filter: spawn.is_confined.then(Filter::new),
            terminal: spawn.terminal,
            outlives: spawn.outlives,
            born,
            joins,
            _strings: (args, env),
        })
    }
}

/// How it comes into its groups.
fn groups(spawn: &Spawn) -> Result<(Option<File>, Vec<CString>), SpawnError> {
    let (mut born, mut joins) = (None, Vec::new());
    for directory in &spawn.groups {
        if born.is_none() && cgroup::takes_births(directory) {
            let opened = File::open(directory).map_err(|source| SpawnError::Step {
                program: spawn.program.display().to_string(),
                step: "opening its control group",
                source,
            })?;
            born = Some(opened);
        } else {
            joins.push(path("a control group", &directory.join("tasks"))?);
        }
    }
    Ok((born, joins))
}

/// `execvp(3)`'s search, against the child's own `PATH`.
fn programs(spawn: &Spawn) -> Result<Vec<CString>, SpawnError> {
    if spawn.program.as_os_str().as_bytes().contains(&b'/') {
        return Ok(vec![path("the program", &spawn.program)?]);
    }
    let search = spawn
        .env
        .iter()
        .rev()
        .find(|(name, _)| name == "PATH")
        .map(|(_, value)| value);
    let usual = OsStr::new("/usr/local/bin:/usr/bin:/bin");
    let search = search.map_or(usual, OsString::as_os_str);
    search
        .as_bytes()
        .split(|byte| *byte == b':')
        .filter(|dir| !dir.is_empty())
        .map(|dir| {
            path(
                "the program",
                &Path::new(OsStr::from_bytes(dir)).join(&spawn.program),
            )
        })
        .collect()
}

fn user(user: &User) -> Result<UserPlan, SpawnError> {
    let line = |id: u32| text("a user", OsStr::new(&format!("{id} 0 1")));
    let alias = match user.alias {
        true => Some((line(user.id)?, line(user.group)?)),
        false => None,
    };
    Ok(UserPlan {
        id: user.id,
        group: user.group,
        groups: user.groups.clone(),
        alias,
    })
}
