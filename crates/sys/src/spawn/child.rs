// SPDX-License-Identifier: Apache-2.0
//! The child between `clone3` and `execve`: a copy of a process with threads, of which only this one exists. So nothing but
//! system calls here: no allocation, no lock, no panic. A step that fails is reported by number and the child ends.

use std::ffi::CStr;
use std::os::fd::RawFd;

use nix::sched::CloneFlags;

use super::plan::Plan;
use crate::caps::{self, CapSet};

/// What a child does, in this order. The discriminant travels through the report pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Step {
    TieToParent,
    EnterNetwork,
    PrivateMounts,
    OpenBinds,
    Proc,
    Hide,
    MakePlaces,
    Bind,
    Seal,
    Hostname,
    Cwd,
    Session,
    Descriptors,
    Signals,
    Capabilities,
    NoNewPrivileges,
    Exec,
}

impl Step {
    pub(super) const ALL: [(Self, &'static str); 17] = [
        (Self::TieToParent, "tying it to this process"),
        (Self::EnterNetwork, "entering the network namespace"),
        (Self::PrivateMounts, "making mounts private"),
        (Self::OpenBinds, "finding what to bind"),
        (Self::Proc, "mounting /proc"),
        (Self::Hide, "hiding a directory"),
        (Self::MakePlaces, "making places to bind at"),
        (Self::Bind, "binding a file"),
        (Self::Seal, "sealing a hidden directory"),
        (Self::Hostname, "setting the host name"),
        (Self::Cwd, "entering the working directory"),
        (Self::Session, "making a session"),
        (Self::Descriptors, "placing descriptors"),
        (Self::Signals, "resetting signals"),
        (Self::Capabilities, "dropping capabilities"),
        (Self::NoNewPrivileges, "giving up new privileges"),
        (Self::Exec, "running the program"),
    ];
}

type Failed = (Step, i32);

/// Becomes the program, or reports why not and ends. `go` delivers one byte once the parent is done; `report` takes the failure.
pub(super) fn run(plan: &mut Plan, go: RawFd, report: RawFd) -> ! {
    let mut report = report;
    let (step, errno) = match steps(plan, go, &mut report) {
        Ok(never) => match never {},
        Err(failed) => failed,
    };
    let mut message = [0_u8; 8];
    message[..4].copy_from_slice(&(step as u32).to_ne_bytes());
    message[4..].copy_from_slice(&errno.to_ne_bytes());
    // SAFETY: writes 8 live bytes to an open pipe, then ends this process without running anything of the copied one.
    unsafe {
        libc::write(report, message.as_ptr().cast(), message.len());
        libc::_exit(127)
    }
}

fn steps(
    plan: &mut Plan,
    go: RawFd,
    report: &mut RawFd,
) -> Result<std::convert::Infallible, Failed> {
    tie(go)?;
    if let Some(net) = plan.net {
        // SAFETY: `net` is open for as long as the plan's maker waits for us.
        check(Step::EnterNetwork, unsafe {
            libc::setns(net, libc::CLONE_NEWNET)
        })?;
    }
    if plan.namespaces.contains(CloneFlags::CLONE_NEWNS) {
        mounts(plan)?;
    }
    if let Some(name) = &plan.hostname {
        // SAFETY: a live string and its length.
        check(Step::Hostname, unsafe {
            libc::sethostname(name.as_ptr(), name.count_bytes())
        })?;
    }
    // SAFETY: a live string.
    check(Step::Cwd, unsafe { libc::chdir(plan.cwd.as_ptr()) })?;
    // SAFETY: no pointers. Fails only for a group leader, which a new child is not.
    check(Step::Session, unsafe { libc::setsid() })?;
    descriptors(plan, report)?;
    signals()?;
    if let Some(keep) = plan.capabilities {
        capabilities(keep)?;
    }
    if plan.no_new_privileges {
        // SAFETY: no pointers.
        check(Step::NoNewPrivileges, unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        })?;
    }
    Err((Step::Exec, exec(plan)))
}

/// Dies with the thread that made it, which never ends before its process; then waits until that one is done with it.
fn tie(go: RawFd) -> Result<(), Failed> {
    // SAFETY: no pointers.
    check(Step::TieToParent, unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0)
    })?;
    let mut byte = 0_u8;
    loop {
        // SAFETY: one live byte.
        match unsafe { libc::read(go, (&raw mut byte).cast(), 1) } {
            1 => return Ok(()),
            -1 if errno() == libc::EINTR => {}
            // The parent died before the tie held, or gave up.
            _ => return Err((Step::TieToParent, libc::EPIPE)),
        }
    }
}

fn mounts(plan: &mut Plan) -> Result<(), Failed> {
    mount(
        Step::PrivateMounts,
        c"none",
        c"/",
        c"",
        libc::MS_REC | libc::MS_PRIVATE,
        c"",
    )?;
    for bind in &mut plan.binds {
        bind.tree = open_tree(&bind.from)?;
    }
    if plan.namespaces.contains(CloneFlags::CLONE_NEWPID) {
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        mount(Step::Proc, c"proc", c"/proc", c"proc", flags, c"")?;
    }
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    for dir in &plan.hidden {
        mount(
            Step::Hide,
            c"hidden",
            dir,
            c"tmpfs",
            flags,
            c"mode=0755,size=64k",
        )?;
    }
    for bind in &plan.binds {
        for dir in &bind.directories {
            // SAFETY: a live string.
            let made = unsafe { libc::mkdir(dir.as_ptr(), 0o755) };
            if made < 0 && errno() != libc::EEXIST {
                return Err((Step::MakePlaces, errno()));
            }
        }
        if bind.file {
            // SAFETY: a live string; the descriptor is closed on exec.
            let made = unsafe {
                libc::open(
                    bind.at.as_ptr(),
                    libc::O_CREAT | libc::O_RDONLY | libc::O_CLOEXEC,
                    0o644,
                )
            };
            check(Step::MakePlaces, made)?;
        }
        if !bind.writable {
            read_only(bind.tree)?;
        }
        move_mount(bind.tree, &bind.at)?;
    }
    for dir in &plan.hidden {
        let flags = flags | libc::MS_REMOUNT | libc::MS_RDONLY;
        mount(Step::Seal, c"hidden", dir, c"", flags, c"")?;
    }
    Ok(())
}

fn mount(
    step: Step,
    source: &CStr,
    at: &CStr,
    kind: &CStr,
    flags: u64,
    data: &CStr,
) -> Result<(), Failed> {
    // SAFETY: live strings.
    let result = unsafe {
        libc::mount(
            source.as_ptr(),
            at.as_ptr(),
            kind.as_ptr(),
            flags,
            data.as_ptr().cast(),
        )
    };
    check(step, result).map(drop)
}

/// A detached copy of the mount at `path` (`open_tree(2)`), which nothing mounted later can hide.
fn open_tree(path: &CStr) -> Result<RawFd, Failed> {
    const CLONE: libc::c_uint = 1;
    let flags = CLONE | libc::O_CLOEXEC as libc::c_uint;
    // SAFETY: a live string.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    check(Step::OpenBinds, RawFd::try_from(fd).unwrap_or(-1))
}

/// `mount_setattr(2)`: read only, whatever else the mount is.
fn read_only(tree: RawFd) -> Result<(), Failed> {
    #[repr(C)]
    struct Attributes {
        set: u64,
        clear: u64,
        propagation: u64,
        userns_fd: u64,
    }
    const READ_ONLY: u64 = 1;
    let attributes = Attributes {
        set: READ_ONLY,
        clear: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: a live empty string, a live structure and its size.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree,
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    check(Step::Bind, i32::try_from(result).unwrap_or(-1)).map(drop)
}

/// `move_mount(2)`: attaches the detached mount.
fn move_mount(tree: RawFd, at: &CStr) -> Result<(), Failed> {
    const FROM_EMPTY_PATH: libc::c_uint = 4;
    // SAFETY: live strings.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree,
            c"".as_ptr(),
            libc::AT_FDCWD,
            at.as_ptr(),
            FROM_EMPTY_PATH,
        )
    };
    check(Step::Bind, i32::try_from(result).unwrap_or(-1)).map(drop)
}

/// First all out of the way, then everything closed on exec, then the wanted ones at their places.
fn descriptors(plan: &mut Plan, report: &mut RawFd) -> Result<(), Failed> {
    let high = plan.high;
    let away = |fd: RawFd| {
        // SAFETY: duplicates an open descriptor.
        check(Step::Descriptors, unsafe {
            libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, high)
        })
    };
    *report = away(*report)?;
    for (fd, _) in &mut plan.fds {
        *fd = away(*fd)?;
    }
    const CLOEXEC: libc::c_uint = 4;
    // SAFETY: no pointers; sets a flag on descriptors of this process alone.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, CLOEXEC) };
    check(Step::Descriptors, i32::try_from(closed).unwrap_or(-1))?;
    for (fd, number) in &plan.fds {
        // SAFETY: the target is below `high`, where nothing of ours is any more.
        check(Step::Descriptors, unsafe { libc::dup2(*fd, *number) })?;
    }
    Ok(())
}

/// Rust ignores SIGPIPE and threads block what they like; a program expects neither.
fn signals() -> Result<(), Failed> {
    // SAFETY: an all-zero sigset is a valid value to be filled; SIG_DFL is a valid handler.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        check(
            Step::Signals,
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()),
        )?;
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
    Ok(())
}

fn capabilities(keep: CapSet) -> Result<(), Failed> {
    caps::keep_only(keep).map_err(|errno| (Step::Capabilities, errno))
}

/// Returns only with the reason why nothing was run: the first that is not "not there".
fn exec(plan: &Plan) -> i32 {
    let mut reason = libc::ENOENT;
    for program in &plan.programs {
        // SAFETY: live strings and null-terminated arrays of live strings.
        unsafe { libc::execve(program.as_ptr(), plan.argv.as_ptr(), plan.envp.as_ptr()) };
        let errno = errno();
        if errno != libc::ENOENT && errno != libc::ENOTDIR && reason == libc::ENOENT {
            reason = errno;
        }
    }
    reason
}

fn check(step: Step, result: i32) -> Result<i32, Failed> {
    if result < 0 {
        Err((step, errno()))
    } else {
        Ok(result)
    }
}

fn errno() -> i32 {
    nix::errno::Errno::last_raw()
}
