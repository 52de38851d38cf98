// SPDX-License-Identifier: Apache-2.0
//! Starting processes in namespaces. A child never outlives this process (PR_SET_PDEATHSIG), and knows only the
//! descriptors and variables that it was given.
//!
//! Must never run anything but system calls between `clone3` and `execve`: see `spawn/child.rs`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;

use crate::caps::CapSet;
use crate::netns::NetNs;

/// A file or directory put in place of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// What is seen; exists.
    pub from: PathBuf,
    /// Where; exists, unless it is beneath a hidden directory.
    pub at: PathBuf,
    /// Whether it may be written through.
    pub writable: bool,
}

/// Why a process was not started. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The machine does not allow namespaces to this user.
    #[error(
        "the machine does not let this user make namespaces: {setting} forbids it (to allow: {fix})"
    )]
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
    /// A step between clone and exec failed.
    #[error("{program}: {step} failed")]
    Step {
        /// What was to run.
        program: String,
        /// What failed.
        step: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// A process to be started. Standard input is /dev/null; everything else is what is said here.
#[derive(Debug)]
pub struct Spawn {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
}

impl Spawn {
    /// `program` is a path, or a name looked for in `PATH` of the variables given with [`Self::env`].
    pub fn new(program: impl AsRef<Path>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env: Vec::new(),
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
    pub fn cwd(self, _dir: impl AsRef<Path>) -> Self {
        self
    }

    /// Where its standard output and error go; nowhere otherwise.
    #[must_use]
    pub fn output(self, _stdout: OwnedFd, _stderr: OwnedFd) -> Self {
        self
    }

    /// Passes a descriptor under a number of its own, 3 or above.
    #[must_use]
    pub fn fd(self, _fd: OwnedFd, _number: RawFd) -> Self {
        self
    }

    /// New pid, mount, network, IPC and UTS namespaces with the process as pid 1, and where this process is not root a
    /// user namespace in which only the own user is known, as root. /proc is fresh.
    #[must_use]
    pub fn isolated(self) -> Self {
        self
    }

    /// New pid, mount, IPC and UTS namespaces with the process as pid 1, inside `net`. /proc is fresh.
    #[must_use]
    pub fn pod(self, _net: &NetNs, _hostname: &str) -> Self {
        self
    }

    /// Puts a file or directory in place of another. Only with [`Self::pod`] or [`Self::isolated`].
    #[must_use]
    pub fn bind(self, _bind: Bind) -> Self {
        self
    }

    /// Shows an empty directory in place of `dir`; binds beneath it are made, everything else in it is not to be seen.
    #[must_use]
    pub fn hide(self, _dir: impl AsRef<Path>) -> Self {
        self
    }

    /// Leaves it only these capabilities, now and after any exec.
    #[must_use]
    pub fn capabilities(self, _keep: CapSet) -> Self {
        self
    }

    /// No program that it runs gets more rights than it has (PR_SET_NO_NEW_PRIVS).
    #[must_use]
    pub fn no_new_privileges(self) -> Self {
        self
    }

    /// Starts it. Blocks until the program runs, or did not.
    pub fn start(self) -> Result<Child, SpawnError> {
        todo!()
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

/// A started process. Dropping it kills it.
#[derive(Debug)]
pub struct Child {}

impl Child {
    /// Its pid here.
    pub fn pid(&self) -> i32 {
        todo!()
    }

    /// Signals it; does nothing if it has ended.
    pub fn signal(&self, _signal: Signal) {
        todo!()
    }

    /// Waits for its end, once or often. Blocks.
    pub fn wait(&mut self) -> io::Result<Exit> {
        todo!()
    }

    /// Waits for its end inside a tokio runtime. Cancel safe.
    pub async fn exited(&mut self) -> io::Result<Exit> {
        todo!()
    }

    /// Its network namespace.
    pub fn net(&self) -> io::Result<NetNs> {
        NetNs::of_pid(self.pid())
    }
}
