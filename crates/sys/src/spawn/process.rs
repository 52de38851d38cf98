// SPDX-License-Identifier: Apache-2.0
//! A started process, held by a pidfd: signals and waits can never meet another process that got its number.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::netns::NetNs;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By a signal.
    Signal(i32),
    /// Nobody here was told: it was another process's child.
    Untold,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(number) => write!(f, "signal {number}"),
            Self::Untold => f.write_str("nobody was told how"),
        }
    }
}

/// A process of this machine, whatever becomes of its number. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle(pub(super) Arc<OwnedFd>);

impl Handle {
    /// The process that has this number now. Refuses one that has ended.
    pub fn open(pid: i32) -> io::Result<Self> {
        // SAFETY: no pointers.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just made this descriptor for us.
        Ok(Self(Arc::new(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// Signals it; does nothing if it has ended.
    pub fn signal(&self, signal: Signal) {
        send(&self.0, signal);
    }

    /// Waits for its end inside a tokio runtime, whoever's child it is. Cancel safe.
    pub async fn ended(&self) -> io::Result<()> {
        // SAFETY: `self` owns the descriptor and outlives the registration, which ends with this call.
        let ready = unsafe { AsyncFd::register_with_interest(self.0.as_fd(), Interest::READABLE) }?;
        ready.readable().await.map(drop)
    }

    /// Whether it has a user namespace of its own. One that has ended has none, and entering it fails.
    pub(super) fn has_other_user(&self) -> bool {
        let info = format!("/proc/self/fdinfo/{}", self.0.as_raw_fd());
        let info = std::fs::read_to_string(info).unwrap_or_default();
        let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"));
        let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/user")).ok();
        let other = pid.and_then(|pid| namespace(pid.trim()));
        other.is_some() && other != namespace("self")
    }
}

fn send(pidfd: &OwnedFd, signal: Signal) {
    // SAFETY: an open pidfd; a null siginfo means the kernel fills it as kill(2) does. ESRCH: it ended.
    unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal as libc::c_int,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        );
    }
}

/// A started process. Dropping it kills it.
#[derive(Debug)]
pub struct Child {
    pid: i32,
    pidfd: OwnedFd,
    exit: Option<Exit>,
    left: bool,
    /// Somebody else started it.
    adopted: bool,
}

impl Child {
    pub(super) const fn new(pid: i32, pidfd: OwnedFd) -> Self {
        Self {
            pid,
            pidfd,
            exit: None,
            left: false,
            adopted: false,
        }
    }

    /// A process that outlived who started it. Whoever asks has made sure which one has this number now.
    pub fn adopt(pid: i32) -> io::Result<Self> {
        let Handle(pidfd) = Handle::open(pid)?;
        let pidfd = Arc::try_unwrap(pidfd).map_err(|_| io::Error::other("it is shared"))?;
        let mut found = Self::new(pid, pidfd);
        found.adopted = true;
        Ok(found)
    }

    /// A descriptor that it has open, by its number there. Needs the rights of a debugger.
    pub fn descriptor(&self, number: RawFd) -> io::Result<OwnedFd> {
        // SAFETY: no pointers; an open pidfd.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, self.pidfd.as_raw_fd(), number, 0) };
        let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just made this descriptor for us.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Its pid here.
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// What [`super::Spawn::inside`] takes.
    pub fn handle(&self) -> io::Result<Handle> {
        Ok(Handle(Arc::new(self.pidfd.try_clone()?)))
    }

    /// Signals it; does nothing if it has ended.
    pub fn signal(&self, signal: Signal) {
        send(&self.pidfd, signal);
    }

    /// Lets it go on when this is dropped. Only for one that outlives this process.
    pub fn leave(mut self) {
        self.left = true;
    }

    /// Waits for its end, once or often. Blocks.
    pub fn wait(&mut self) -> io::Result<Exit> {
        self.reap(WaitPidFlag::empty())?
            .ok_or_else(|| io::Error::other("waitid gave nothing"))
    }

    /// Its end, if it has ended.
    pub fn try_wait(&mut self) -> io::Result<Option<Exit>> {
        self.reap(WaitPidFlag::WNOHANG)
    }

    /// Waits for its end inside a tokio runtime. Cancel safe.
    pub async fn exited(&mut self) -> io::Result<Exit> {
        loop {
            if let Some(exit) = self.try_wait()? {
                return Ok(exit);
            }
            // SAFETY: `self` owns the descriptor and outlives the registration, which ends with this turn of the loop.
            let ready =
                unsafe { AsyncFd::register_with_interest(self.pidfd.as_fd(), Interest::READABLE) }?;
            drop(ready.readable().await?);
        }
    }

    /// Its network namespace.
    pub fn net(&self) -> io::Result<NetNs> {
        NetNs::of_pid(self.pid)
    }

    fn reap(&mut self, flags: WaitPidFlag) -> io::Result<Option<Exit>> {
        if self.adopted && self.exit.is_none() {
            let patience = if flags.contains(WaitPidFlag::WNOHANG) {
                PollTimeout::ZERO
            } else {
                PollTimeout::NONE
            };
            let mut ended = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
            if poll(&mut ended, patience)? > 0 {
                self.exit = Some(Exit::Untold);
            }
        }
        if self.adopted {
            return Ok(self.exit);
        }
        if self.exit.is_none() {
            let status = loop {
                match waitid(Id::PIDFd(self.pidfd.as_fd()), flags | WaitPidFlag::WEXITED) {
                    Err(nix::errno::Errno::EINTR) => {}
                    other => break other?,
                }
            };
            self.exit = match status {
                WaitStatus::Exited(_, code) => Some(Exit::Code(code)),
                WaitStatus::Signaled(_, signal, _) => Some(Exit::Signal(signal as i32)),
                _ => None,
            };
        }
        Ok(self.exit)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.left || !matches!(self.try_wait(), Ok(None)) {
            return;
        }
        self.signal(Signal::SIGKILL);
        // Long enough for the kernel to end a pid namespace; a process that it cannot end is left to it.
        let mut ended = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut ended, PollTimeout::from(1000_u16));
        let _ = self.try_wait();
    }
}
