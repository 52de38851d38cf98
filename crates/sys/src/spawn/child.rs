// SPDX-License-Identifier: Apache-2.0
//! The child between `clone3` and `execve`: a copy of a process with threads, of which only this one exists. So nothing but
//! system calls here: no allocation, no lock, no panic. A step that fails is reported by number and the child ends.

use std::ffi::CStr;
use std::os::fd::RawFd;

use nix::sched::CloneFlags;

use super::mounts;
use super::plan::Plan;
use super::step::{Failed, Step, check, errno};
use crate::caps;

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
    tie(go, plan.outlives)?;
    for group in &plan.joins {
        join(group)?;
    }
    if let Some((process, other_user)) = plan.inside {
        enter(process, other_user)?;
    }
    if let Some(net) = plan.net {
        // SAFETY: `net` is open for as long as the plan's maker waits for us.
        check(Step::EnterNetwork, unsafe {
            libc::setns(net, libc::CLONE_NEWNET)
        })?;
    }
    if plan.namespaces.contains(CloneFlags::CLONE_NEWNS) {
        mounts::make(plan)?;
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
    if plan.terminal {
        // SAFETY: no pointers: takes descriptor 0, and steals from nobody.
        check(Step::Terminal, unsafe {
            libc::ioctl(0, libc::TIOCSCTTY, 0)
        })?;
    }
    signals()?;
    user(plan)?;
    if plan.no_new_privileges {
        // SAFETY: no pointers.
        check(Step::NoNewPrivileges, unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        })?;
    }
    if let Some(filter) = &plan.filter {
        check(Step::Filter, filter.apply())?;
    }
    Err((Step::Exec, exec(plan)))
}

fn die_with_parent() -> Result<(), Failed> {
    // SAFETY: no pointers.
    let set = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
    check(Step::TieToParent, set).map(drop)
}

/// Goes into a group of version 1, whose file `tasks` this is (`cgroups(7)`): 0 is whoever writes.
fn join(tasks: &CStr) -> Result<(), Failed> {
    // SAFETY: a live string.
    let file = check(Step::Join, unsafe {
        libc::open(tasks.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC)
    })?;
    // SAFETY: one live byte, to a descriptor that was just opened.
    let written = unsafe { libc::write(file, c"0".as_ptr().cast(), 1) };
    check(Step::Join, i32::try_from(written).unwrap_or(-1))?;
    // SAFETY: opened above, and nobody else's.
    check(Step::Join, unsafe { libc::close(file) }).map(drop)
}

/// Dies with the thread that made it, which never ends before its process; then waits until that one is done with it.
fn tie(go: RawFd, outlives: bool) -> Result<(), Failed> {
    if !outlives {
        die_with_parent()?;
    }
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

/// Becomes whom the plan names, with the rights that it leaves. Whoever is not root has none after exec, whatever is left here.
fn user(plan: &Plan) -> Result<(), Failed> {
    let capabilities = |errno| (Step::Capabilities, errno);
    let Some(user) = &plan.user else {
        let keep = plan.capabilities.map_or(Ok(()), caps::keep_only);
        return keep.map_err(capabilities);
    };
    if let Some((uid_map, gid_map)) = &user.alias {
        // SAFETY: no pointers. This process has one thread, as the kernel asks.
        check(Step::User, unsafe { libc::unshare(libc::CLONE_NEWUSER) })?;
        write(c"/proc/self/setgroups", c"deny")?;
        write(c"/proc/self/gid_map", gid_map)?;
        write(c"/proc/self/uid_map", uid_map)?;
    }
    if let Some(keep) = plan.capabilities {
        caps::bound(keep).map_err(capabilities)?;
    }
    if user.alias.is_none() {
        // Not by libc's functions: those wait for the other threads of the process of which this is a copy.
        let one = |call: libc::c_long, id: u32| {
            // SAFETY: no pointers.
            let done = unsafe { libc::syscall(call, id, id, id) };
            check(Step::User, i32::try_from(done).unwrap_or(-1))
        };
        // SAFETY: a live array and its length.
        let groups =
            unsafe { libc::syscall(libc::SYS_setgroups, user.groups.len(), user.groups.as_ptr()) };
        check(Step::User, i32::try_from(groups).unwrap_or(-1))?;
        one(libc::SYS_setresgid, user.group)?;
        one(libc::SYS_setresuid, user.id)?;
    }
    // The kernel forgets this where the user changes. Should the parent have died just now, so will its pid namespace.
    if !plan.outlives {
        die_with_parent()?;
    }
    let keep = plan.capabilities.map_or(Ok(()), caps::hold);
    keep.map_err(capabilities)
}

fn write(file: &CStr, text: &CStr) -> Result<(), Failed> {
    // SAFETY: live strings, and a descriptor that is open in between.
    unsafe {
        let fd = check(
            Step::User,
            libc::open(file.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC),
        )?;
        let written = libc::write(fd, text.as_ptr().cast(), text.count_bytes());
        let errno = errno();
        libc::close(fd);
        if written < 0 {
            Err((Step::User, errno))
        } else {
            Ok(())
        }
    }
}

/// Everything but the pid namespace, in which this process was born. The user comes last: it may not enter the others.
fn enter(process: RawFd, other_user: bool) -> Result<(), Failed> {
    let all = libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    // SAFETY: `process` is open for as long as the plan's maker waits for us.
    check(Step::EnterProcess, unsafe { libc::setns(process, all) })?;
    if other_user {
        // SAFETY: as above.
        check(Step::EnterProcess, unsafe {
            libc::setns(process, libc::CLONE_NEWUSER)
        })?;
    }
    Ok(())
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
