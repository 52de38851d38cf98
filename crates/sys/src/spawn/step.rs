// SPDX-License-Identifier: Apache-2.0
//! The steps of a child before `execve`, and how one of them fails: in a word that fits through a pipe.
//!
//! Must allocate nothing: it runs in the child. Read `child.rs` for what the steps do.

/// What a child does, in this order. The discriminant travels through the report pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Step {
    TieToParent,
    Join,
    EnterProcess,
    EnterNetwork,
    PrivateMounts,
    OpenBinds,
    NewRoot,
    Proc,
    Hide,
    MakePlaces,
    Close,
    Bind,
    Seal,
    Hostname,
    Cwd,
    Session,
    Descriptors,
    Terminal,
    Signals,
    User,
    Capabilities,
    NoNewPrivileges,
    Filter,
    Exec,
}

impl Step {
    pub(super) const ALL: [(Self, &'static str); 24] = [
        (Self::TieToParent, "tying it to this process"),
        (Self::Join, "limiting what it may use"),
        (Self::EnterProcess, "entering the namespaces of the process"),
        (Self::EnterNetwork, "entering the network namespace"),
        (Self::PrivateMounts, "making mounts private"),
        (Self::OpenBinds, "finding what to bind"),
        (Self::NewRoot, "making room for new places"),
        (Self::Proc, "mounting /proc"),
        (Self::Hide, "hiding a directory"),
        (Self::MakePlaces, "making places to bind at"),
        (Self::Close, "closing the machine's files to writing"),
        (Self::Bind, "binding a file"),
        (Self::Seal, "sealing a hidden directory"),
        (Self::Hostname, "setting the host name"),
        (Self::Cwd, "entering the working directory"),
        (Self::Session, "making a session"),
        (Self::Descriptors, "placing descriptors"),
        (Self::Terminal, "taking the terminal"),
        (Self::Signals, "resetting signals"),
        (Self::User, "becoming another user"),
        (Self::Capabilities, "dropping capabilities"),
        (Self::NoNewPrivileges, "giving up new privileges"),
        (Self::Filter, "filtering its system calls"),
        (Self::Exec, "running the program"),
    ];
}

/// Which step failed, and with which `errno`.
pub(super) type Failed = (Step, i32);

/// The step's failure, where its system call says that it failed.
pub(super) fn check(step: Step, result: i32) -> Result<i32, Failed> {
    if result < 0 {
        Err((step, errno()))
    } else {
        Ok(result)
    }
}

/// What the last system call of this thread failed with.
pub(super) fn errno() -> i32 {
    nix::errno::Errno::last_raw()
}
