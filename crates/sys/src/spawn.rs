// SPDX-License-Identifier: Apache-2.0
//! Starting processes in namespaces. A child never outlives this process (PR_SET_PDEATHSIG) unless it is meant to, and knows only the
//! descriptors and variables that it was given.
//!
//! Must never run anything but system calls between `clone3` and `execve`: that part is `spawn/child.rs`, and
//! `spawn/parent.rs` is the other side of it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;

use crate::caps::CapSet;
use crate::cgroup::Group;
use crate::netns::NetNs;

mod child;
mod filter;
mod forbidden;
mod mounts;
mod parent;
mod places;
mod plan;
mod process;
mod step;
mod texts;

pub use process::{Child, Exit, Handle};

/// A file or directory put in place of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// What is seen; exists.
    pub from: PathBuf,
    /// Where; made where it does not exist, for this process alone.
    pub at: PathBuf,
    /// Whether it may be written through.
    pub writable: bool,
}

/// As whom a process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The user's number.
    pub id: u32,
    /// The group's number.
    pub group: u32,
    /// More groups; none with [`Self::alias`].
    pub groups: Vec<u32>,
    /// Whether the numbers are only what the own user and group are called inside: all that somebody can have who has but one.
    pub alias: bool,
}

/// Why a process was not started. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The machine does not allow namespaces, to this user or to anybody.
    #[error("this machine forbids namespaces: {setting} (to allow them: {fix})")]
    Forbidden {
        /// The sysctl that forbids it.
        setting: &'static str,
        /// The command that would allow it.
        fix: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A value holds a NUL byte.
    #[error("{what} holds a NUL byte")]
    Nul {
        /// Which value.
        what: &'static str,
    },
    /// A step failed.
    #[error("{program}: {step} failed")]
    Step {
        /// What was to run.
        program: String,
        /// What failed.
        step: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// A process to be started. Standard input is /dev/null unless another is given; everything else is what is said here.
#[derive(Debug)]
pub struct Spawn {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    cwd: PathBuf,
    input: Option<OwnedFd>,
    output: Option<(OwnedFd, OwnedFd)>,
    terminal: bool,
    outlives: bool,
    fds: Vec<(OwnedFd, RawFd)>,
    namespaces: CloneFlags,
    net: Option<NetNs>,
    hostname: Option<String>,
    binds: Vec<Bind>,
    hidden: Vec<PathBuf>,
    capabilities: Option<CapSet>,
    no_new_privileges: bool,
    is_confined: bool,
    read_only_root: bool,
    alone: bool,
    user: Option<User>,
    inside: Option<Handle>,
    groups: Vec<PathBuf>,
}

impl Spawn {
    /// `program` is a path, or a name looked for in the `PATH` that is given with [`Self::env`].
    pub fn new(program: impl AsRef<Path>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: PathBuf::from("/"),
            input: None,
            output: None,
            terminal: false,
            outlives: false,
            fds: Vec::new(),
            namespaces: CloneFlags::empty(),
            net: None,
            hostname: None,
            binds: Vec::new(),
            hidden: Vec::new(),
            capabilities: None,
            no_new_privileges: false,
            is_confined: false,
            read_only_root: false,
            alone: false,
            user: None,
            inside: None,
            groups: Vec::new(),
        }
    }

    /// Its arguments, after its own name.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// A variable; it has no others.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Where it runs; `/` otherwise.
    #[must_use]
    pub fn cwd(mut self, dir: impl AsRef<Path>) -> Self {
        self.cwd = dir.as_ref().to_owned();
        self
    }

    /// Where its standard input comes from.
    #[must_use]
    pub fn input(mut self, stdin: impl Into<OwnedFd>) -> Self {
        self.input = Some(stdin.into());
        self
    }

    /// Makes its standard input, which must be a terminal, the one that controls its session.
    #[must_use]
    pub const fn terminal(mut self) -> Self {
        self.terminal = true;
        self
    }

    /// It goes on when this process ends.
    #[must_use]
    pub const fn outlives(mut self) -> Self {
        self.outlives = true;
        self
    }

    /// Where its standard output and error go; nowhere otherwise.
    #[must_use]
    pub fn output(mut self, stdout: impl Into<OwnedFd>, stderr: impl Into<OwnedFd>) -> Self {
        self.output = Some((stdout.into(), stderr.into()));
        self
    }

    /// Passes a descriptor under a number of its own, 3 or above.
    #[must_use]
    pub fn fd(mut self, fd: impl Into<OwnedFd>, number: RawFd) -> Self {
        self.fds.push((fd.into(), number));
        self
    }

    /// New pid, mount, network, IPC and UTS namespaces with the process as pid 1, and where this process is not root a
    /// user namespace in which only the own user is known, as root. /proc is fresh.
    #[must_use]
    pub fn isolated(mut self) -> Self {
        self.namespaces = private() | CloneFlags::CLONE_NEWNET;
        if !nix::unistd::geteuid().is_root() {
            self.namespaces |= CloneFlags::CLONE_NEWUSER;
        }
        self
    }

    /// New pid, mount, IPC and UTS namespaces with the process as pid 1, inside `net`. /proc is fresh.
    #[must_use]
    pub fn pod(mut self, net: &NetNs, hostname: &str) -> Self {
        self.namespaces = private();
        self.net = Some(net.clone());
        self.hostname = Some(hostname.to_owned());
        self
    }

    /// The namespaces of a running process, its user's included; it may end the new one, which does not outlive it.
    #[must_use]
    pub fn inside(mut self, process: Handle) -> Self {
        self.inside = Some(process);
        self
    }

    /// Closes everything to writing but /dev, /proc and what is bound to be written. Only with [`Self::pod`] or [`Self::isolated`].
    #[must_use]
    pub const fn read_only_root(mut self) -> Self {
        self.read_only_root = true;
        self
    }

    /// Shows it nothing but its program, as `/NAME`, what is bound, and /proc: what this process's own root loses later is nothing to it.
    /// The program, which is a path here, may be where none may be run (`noexec`). For root, and only with [`Self::pod`].
    #[must_use]
    pub fn alone(mut self) -> Self {
        let at = Path::new("/").join(self.program.file_name().unwrap_or_default());
        let from = std::mem::replace(&mut self.program, at.clone());
        self.alone = true;
        self.bind(Bind {
            from,
            at,
            writable: false,
        })
        .read_only_root()
    }

    /// Runs it as somebody else. Not beside [`Self::isolated`].
    #[must_use]
    pub fn user(mut self, user: User) -> Self {
        self.user = Some(user);
        self
    }

    /// Puts a file or directory in place of another. Only with [`Self::pod`] or [`Self::isolated`].
    #[must_use]
    pub fn bind(mut self, bind: Bind) -> Self {
        self.binds.push(bind);
        self
    }

    /// Shows an empty directory in place of `dir`. Binds beneath it are made; everything else in it is not to be seen.
    #[must_use]
    pub fn hide(mut self, dir: impl AsRef<Path>) -> Self {
        self.hidden.push(dir.as_ref().to_owned());
        self
    }

    /// Leaves it only these capabilities, now and after any exec.
    #[must_use]
    pub const fn capabilities(mut self, keep: CapSet) -> Self {
        self.capabilities = Some(keep);
        self
    }

    /// No program that it runs gets more rights than it has (PR_SET_NO_NEW_PRIVS).
    #[must_use]
    pub const fn no_new_privileges(mut self) -> Self {
        self.no_new_privileges = true;
        self
    }

    /// Refuses it what changes namespaces, mounts, other processes or the kernel, whatever rights it has (`spawn/filter.rs`), and with it
    /// new privileges.
    #[must_use]
    pub const fn confined(mut self) -> Self {
        self.no_new_privileges = true;
        self.is_confined = true;
        self
    }

    /// Limits it as `group` says, from before its first instruction.
    #[must_use]
    pub fn group(self, group: &Group) -> Self {
        self.groups(group.directories())
    }

    /// The same by the directories of groups, one a hierarchy.
    #[must_use]
    pub fn groups<'d>(mut self, directories: impl IntoIterator<Item = &'d PathBuf>) -> Self {
        self.groups.extend(directories.into_iter().cloned());
        self
    }

    /// Starts it. Blocks until the program runs, or did not.
    pub fn start(self) -> Result<Child, SpawnError> {
        parent::start(&self)
    }
}

/// The namespaces of a process with a world of its own but for the network.
fn private() -> CloneFlags {
    CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
}

#[cfg(test)]
mod tests;
