// SPDX-License-Identifier: Apache-2.0
//! The parent's side of a start: clone, user mapping, go, and what the child reports.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::unistd::{getegid, geteuid, pipe2};

use super::child;
use super::forbidden::{self, Setting};
use super::plan::Plan;
use super::process::Child;
use super::step::Step;
use super::{Spawn, SpawnError};

/// `clone3(2)`, Linux 5.7 and newer: it does not fit into the flags that libc knows.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

pub(super) fn start(spawn: &Spawn) -> Result<Child, SpawnError> {
    let failed = |step| move |source: io::Error| failure(spawn, step, source);
    let open = |writable| {
        OpenOptions::new()
            .read(true)
            .write(writable)
            .open("/dev/null")
    };
    let null = open(true).map_err(failed("opening /dev/null"))?;
    let mut plan = Plan::new(spawn, null.as_raw_fd())?;
    let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(io::Error::from);
    let (go_read, go_write) = pipe().map_err(failed("making a pipe"))?;
    let (report_read, report_write) = pipe().map_err(failed("making a pipe"))?;
    let (mut child, plan) = on_spawner(move || {
        let child = match plan.inside {
            Some((process, _)) => among(process, || {
                clone(&mut plan, go_read.as_raw_fd(), report_write.as_raw_fd())
            }),
            None => clone(&mut plan, go_read.as_raw_fd(), report_write.as_raw_fd()),
        };
        // The child has its own copies. These must be closed here, or the pipes would never end.
        drop((go_read, report_write));
        (child, plan)
    })
    .and_then(|(child, plan)| Ok((child?, plan)))
    .map_err(failed("making its namespaces"))?;
    if spawn.namespaces.contains(CloneFlags::CLONE_NEWUSER) {
        map_own_user(child.pid()).map_err(failed("mapping its user"))?;
    }
    File::from(go_write)
        .write_all(&[1])
        .map_err(failed("letting it go"))?;
    let mut report = [0; 8];
    let outcome = File::from(report_read).read_exact(&mut report);
    drop(plan);
    match outcome {
        // The pipe was closed by exec: it runs.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(child),
        Err(error) => Err(failed("hearing from it")(error)),
        Ok(()) => {
            let _ = child.wait();
            let word = |at: usize| [report[at], report[at + 1], report[at + 2], report[at + 3]];
            let number = u32::from_ne_bytes(word(0));
            let step = Step::ALL.iter().find(|(step, _)| *step as u32 == number);
            let source = io::Error::from_raw_os_error(i32::from_ne_bytes(word(4)));
            Err(failure(
                spawn,
                step.map_or("a step", |(_, text)| text),
                source,
            ))
        }
    }
}

/// Runs `work` on the one thread that makes children and lives as long as this process: a child dies with the thread that
/// made it (PR_SET_PDEATHSIG), and any other thread may end early.
fn on_spawner<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    type Job = Box<dyn FnOnce() + Send>;
    static SPAWNER: OnceLock<SyncSender<Job>> = OnceLock::new();
    let gone = || io::Error::other("the thread that starts processes is gone");
    let jobs = SPAWNER.get_or_init(|| {
        let (sender, jobs) = sync_channel::<Job>(16);
        // Where no thread can be made the channel is closed, and every start says so.
        let _ = thread::Builder::new()
            .name("spawner".into())
            .spawn(move || {
                for job in jobs {
                    job();
                }
            });
        sender
    });
    let (answer, result) = sync_channel(1);
    let job = move || {
        let _ = answer.send(work());
    };
    jobs.send(Box::new(job)).map_err(|_| gone())?;
    result.recv().map_err(|_| gone())
}

/// Runs `make` while children of this thread are born into the pid namespace of `process`. Where there is no way back this
/// process ends: its next child would be a stranger's.
fn among<T>(process: RawFd, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let own = File::open("/proc/thread-self/ns/pid")?;
    // SAFETY: an open pidfd, held by whoever waits for this.
    if unsafe { libc::setns(process, libc::CLONE_NEWPID) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let made = make();
    if nix::sched::setns(&own, CloneFlags::CLONE_NEWPID).is_err() {
        std::process::abort();
    }
    made
}

/// `clone3(2)` as fork with new namespaces and a pidfd.
fn clone(plan: &mut Plan, go: RawFd, report: RawFd) -> io::Result<Child> {
    let mut pidfd: RawFd = -1;
    // SAFETY: all-zero is a valid clone_args.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    #[expect(clippy::cast_sign_loss, reason = "flags and a signal number")]
    {
        args.flags = (plan.namespaces.bits() | libc::CLONE_PIDFD) as u32 as u64;
        args.exit_signal = libc::SIGCHLD as u64;
    }
    args.pidfd = (&raw mut pidfd) as u64;
    if let Some(group) = &plan.born {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::try_from(group.as_raw_fd()).map_err(io::Error::other)?;
    }
    // SAFETY: a live structure and its size. No CLONE_VM: the child gets a copy of the memory, and runs only system calls
    // on what was made before (child.rs).
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut args,
            size_of::<libc::clone_args>(),
        )
    };
    match i32::try_from(pid) {
        Ok(0) => child::run(plan, go, report),
        Ok(pid) if pid > 0 => {
            // SAFETY: the kernel just made this descriptor for us.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Child::new(pid, pidfd))
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// The own user is root inside and the only one there.
fn map_own_user(pid: i32) -> io::Result<()> {
    let write = |file: &str, text: String| fs::write(format!("/proc/{pid}/{file}"), text);
    write("setgroups", "deny".into())?;
    write("gid_map", format!("0 {} 1", getegid()))?;
    write("uid_map", format!("0 {} 1", geteuid()))
}

/// Names the setting where the machine forbids namespaces.
fn failure(spawn: &Spawn, step: &'static str, source: io::Error) -> SpawnError {
    let ordinary = spawn.namespaces.contains(CloneFlags::CLONE_NEWUSER);
    let read = |file: &str| fs::read_to_string(file).ok();
    let setting = source
        .raw_os_error()
        .and_then(|errno| forbidden::by(errno, ordinary, read));
    match setting {
        Some(Setting { name, fix }) => SpawnError::Forbidden {
            setting: name,
            fix,
            source,
        },
        None => SpawnError::Step {
            program: spawn.program.display().to_string(),
            step,
            source,
        },
    }
}
