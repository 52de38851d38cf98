// SPDX-License-Identifier: Apache-2.0
//! What a new process does between birth and `execve(2)`. No allocation, no lock, no panic: it is a copy of one thread of
//! a threaded process (signal-safety(7)). A step that fails is reported as its number and errno, and the child ends.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::ptr;

use super::{Isolation, own};
use crate::netns::NetNs;

/// A step on the child's mounts, with its strings ready.
#[derive(Debug)]
pub(super) enum Step {
    Bind(CString, CString),
    Tmpfs(CString),
    /// Options, target.
    Overlay(CString, CString),
    /// From the outermost to the innermost.
    Folders(Vec<CString>),
}

/// Everything that the child needs, allocated by the parent. Descriptors are above those that it passes on.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) program: CString,
    pub(super) arguments: Vec<CString>,
    pub(super) environment: Vec<CString>,
    pub(super) directory: Option<CString>,
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) isolation: Isolation,
    pub(super) network: Option<NetNs>,
    pub(super) hostname: Option<String>,
    pub(super) mounts: Vec<Step>,
    pub(super) descriptors: Vec<OwnedFd>,
    pub(super) capabilities: Option<u64>,
    pub(super) dies_with_parent: bool,
    pub(super) go: OwnedFd,
    pub(super) errors: OwnedFd,
}

const STEPS: [&str; 10] = [
    "waiting for its parent",
    "tying it to its parent",
    "joining its network",
    "setting up its mounts",
    "mounting its /proc",
    "setting its host name",
    "arranging its descriptors",
    "changing its directory",
    "giving up capabilities",
    "running the program",
];

/// The name of a step that the child reported.
pub(super) fn step_name(which: u8) -> &'static str {
    STEPS
        .get(usize::from(which))
        .copied()
        .unwrap_or("an unknown step")
}

const NAMES_NEW_MOUNT: i32 = libc::CLONE_NEWNS;
/// Passed descriptors start here; all others are kept above [`HIGH`].
const FIRST: i32 = 3;
const HIGH: i32 = 200;

/// A close-on-exec copy of a descriptor, out of the way of those that are passed on.
pub(super) fn duplicate_high(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: duplicates a live descriptor.
    let copy = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, HIGH) };
    if copy < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(own(copy))
    }
}

/// pidfd_send_signal(2).
pub(super) fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: no pointers but a null siginfo, which the call allows.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

impl Script {
    fn flags(&self, user: bool) -> i32 {
        let base = match self.isolation {
            Isolation::None => 0,
            Isolation::Container => libc::CLONE_NEWPID | NAMES_NEW_MOUNT,
            Isolation::Machine => {
                libc::CLONE_NEWPID
                    | NAMES_NEW_MOUNT
                    | libc::CLONE_NEWNET
                    | libc::CLONE_NEWUTS
                    | libc::CLONE_NEWIPC
            }
        };
        let uts = if self.hostname.is_some() {
            libc::CLONE_NEWUTS
        } else {
            0
        };
        base | uts | if user { libc::CLONE_NEWUSER } else { 0 }
    }

    /// clone3(2). The parent gets pid and pidfd; the child runs [`Script::run`] and does not return.
    ///
    /// # Safety
    /// The memory of `self` must stay as it is until the child has run its program, which holds because the child has its own copy.
    pub(super) unsafe fn clone_child(&self, user: bool) -> io::Result<(i32, OwnedFd)> {
        // Lists of pointers are made here, before the birth.
        let list = |strings: &[CString]| -> Vec<*const libc::c_char> {
            strings
                .iter()
                .map(|s| s.as_ptr())
                .chain([ptr::null()])
                .collect()
        };
        let (arguments, environment) = (list(&self.arguments), list(&self.environment));
        let mut pidfd: i32 = -1;
        // SAFETY: all-zero is a valid clone_args.
        let mut clone: libc::clone_args = unsafe { std::mem::zeroed() };
        clone.flags = u64::from((self.flags(user) | libc::CLONE_PIDFD).cast_unsigned());
        clone.pidfd = (&raw mut pidfd) as u64;
        clone.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
        // SAFETY: like fork(2): no stack is given, memory is copied; the child makes only signal-safe calls.
        let pid = unsafe {
            libc::syscall(
                libc::SYS_clone3,
                &raw mut clone,
                size_of::<libc::clone_args>(),
            )
        };
        match pid {
            0 => self.run(&arguments, &environment),
            -1 => Err(io::Error::last_os_error()),
            pid => Ok((i32::try_from(pid).unwrap_or(-1), own(pidfd))),
        }
    }

    fn run(&self, arguments: &[*const libc::c_char], environment: &[*const libc::c_char]) -> ! {
        let mut which = 0_u8;
        let failed = self.steps(&mut which, arguments, environment);
        let mut report = [which, 0, 0, 0, 0];
        report[1..].copy_from_slice(&failed.to_ne_bytes());
        // SAFETY: writes five live bytes to an open pipe and ends the process without running anything of the parent's.
        unsafe {
            libc::write(
                self.errors.as_raw_fd(),
                report.as_ptr().cast(),
                report.len(),
            );
            libc::_exit(127)
        }
    }

    /// Runs the steps; returns only when one failed, with its errno.
    fn steps(
        &self,
        which: &mut u8,
        arguments: &[*const libc::c_char],
        environment: &[*const libc::c_char],
    ) -> i32 {
        let steps: [&dyn Fn() -> bool; 9] = [
            &|| self.wait_for_parent(),
            &|| self.tie_to_parent(),
            &|| self.join_network(),
            &|| self.mounts(),
            &|| self.proc(),
            &|| self.name_host(),
            &|| self.arrange_descriptors(),
            &|| self.change_directory(),
            &|| self.drop_capabilities(),
        ];
        for step in steps {
            if !step() {
                return errno();
            }
            *which += 1;
        }
        // SAFETY: pointer lists end in null and point into strings of `self`.
        unsafe {
            libc::execve(
                self.program.as_ptr(),
                arguments.as_ptr(),
                environment.as_ptr(),
            )
        };
        errno()
    }

    fn wait_for_parent(&self) -> bool {
        let mut byte = 0_u8;
        // SAFETY: reads one byte into a live u8.
        unsafe { libc::read(self.go.as_raw_fd(), (&raw mut byte).cast(), 1) == 1 }
    }

    fn tie_to_parent(&self) -> bool {
        // SAFETY: plain numbers. A session of its own keeps the terminal's signals for the parent; SIGPIPE, which Rust
        // programs ignore, gets its default back; nothing stays blocked.
        unsafe {
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            libc::setsid();
            !self.dies_with_parent || libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0
        }
    }

    fn join_network(&self) -> bool {
        use std::os::fd::AsFd as _;
        let Some(network) = &self.network else {
            return true;
        };
        // SAFETY: a live descriptor of a network namespace.
        unsafe { libc::setns(network.as_fd().as_raw_fd(), libc::CLONE_NEWNET) == 0 }
    }

    fn mounts(&self) -> bool {
        if self.isolation == Isolation::None {
            return true;
        }
        mount(None, c"/", None, libc::MS_REC | libc::MS_PRIVATE, None)
            && self.mounts.iter().all(|step| match step {
                Step::Bind(source, target) => mount(
                    Some(source),
                    target,
                    None,
                    libc::MS_BIND | libc::MS_REC,
                    None,
                ),
                Step::Tmpfs(target) => mount(
                    Some(c"tmpfs"),
                    target,
                    Some(c"tmpfs"),
                    libc::MS_NOSUID | libc::MS_NODEV,
                    None,
                ),
                Step::Overlay(options, target) => {
                    mount(Some(c"overlay"), target, Some(c"overlay"), 0, Some(options))
                }
                Step::Folders(folders) => folders.iter().all(|folder| {
                    // SAFETY: a live string.
                    unsafe { libc::mkdir(folder.as_ptr(), 0o755) == 0 || errno() == libc::EEXIST }
                }),
            })
    }

    fn proc(&self) -> bool {
        self.isolation == Isolation::None
            || mount(
                Some(c"proc"),
                c"/proc",
                Some(c"proc"),
                libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC,
                None,
            )
    }

    fn name_host(&self) -> bool {
        let Some(name) = &self.hostname else {
            return true;
        };
        // SAFETY: a live byte string and its length.
        unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) == 0 }
    }

    fn arrange_descriptors(&self) -> bool {
        let standard = [(&self.stdin, 0), (&self.stdout, 1), (&self.stderr, 2)];
        let passed = self.descriptors.iter().zip(FIRST..);
        standard.into_iter().chain(passed).all(|(from, to)| {
            // SAFETY: `from` is live and above every `to`; dup2 leaves the copy open over execve.
            unsafe { libc::dup2(from.as_raw_fd(), to) == to }
        })
    }

    fn change_directory(&self) -> bool {
        let Some(directory) = &self.directory else {
            return true;
        };
        // SAFETY: a live string.
        unsafe { libc::chdir(directory.as_ptr()) == 0 }
    }

    fn drop_capabilities(&self) -> bool {
        let Some(kept) = self.capabilities else {
            return true;
        };
        // capabilities(7): root regains what the bounding set leaves at execve, so the bounding set is what is cut.
        for capability in 0..64 {
            if kept & (1 << capability) != 0 {
                continue;
            }
            // SAFETY: plain numbers; EINVAL says that this kernel has no such capability.
            let cut = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
            if cut != 0 && errno() != libc::EINVAL {
                return false;
            }
        }
        // SAFETY: plain numbers.
        unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 }
    }
}

fn mount(
    source: Option<&CStr>,
    target: &CStr,
    kind: Option<&CStr>,
    flags: libc::c_ulong,
    options: Option<&CStr>,
) -> bool {
    let pointer = |text: Option<&CStr>| text.map_or(ptr::null(), CStr::as_ptr);
    // SAFETY: live strings or null where mount(2) allows it.
    unsafe {
        libc::mount(
            pointer(source),
            target.as_ptr(),
            pointer(kind),
            flags,
            pointer(options).cast(),
        ) == 0
    }
}

fn errno() -> i32 {
    // SAFETY: the thread's own errno.
    unsafe { *libc::__errno_location() }
}
