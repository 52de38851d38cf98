// SPDX-License-Identifier: Apache-2.0
//! A filter of system calls (`seccomp(2)`) for a program that has no business with the machine: what changes namespaces, mounts, other
//! processes, the kernel or its clock is refused with EPERM, whatever rights it has or gets.
//!
//! It names what is refused and not what is allowed: a library that uses a call of tomorrow goes on. Calls of another architecture
//! than this program's end it, because their numbers mean something else.

use std::ptr;

/// `offsetof(struct seccomp_data, nr)` and `arch`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
#[cfg(target_arch = "x86_64")]
const OWN: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const OWN: u32 = 0xc000_00b7;
/// Numbers from here on are those of a second set of calls (x32).
const OTHERS: u32 = 0x4000_0000;

/// What is refused.
const REFUSED: &[libc::c_long] = &[
    // Namespaces, and what is seen of files.
    libc::SYS_chroot,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_pivot_root,
    libc::SYS_quotactl,
    libc::SYS_setns,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_umount2,
    libc::SYS_unshare,
    // Other processes.
    libc::SYS_kcmp,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_pidfd_getfd,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    // The kernel.
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_perf_event_open,
    libc::SYS_personality,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_syslog,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
    // The machine's name and clock.
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_settimeofday,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
];

/// The program of a filter, made before the child is.
#[derive(Debug)]
pub(super) struct Filter(Vec<libc::sock_filter>);

// === impl Filter ===

impl Filter {
    pub(super) fn new() -> Self {
        let load = |at| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at);
        let answer = |with| statement(libc::BPF_RET | libc::BPF_K, with);
        let denied = libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs();
        // Ways to the refusal, which is the last but one: behind each are the later ones and the permission.
        let way = |later: usize| u8::try_from(later + 1).unwrap_or(u8::MAX);
        let mut program = vec![
            load(ARCHITECTURE),
            jump(libc::BPF_JEQ, OWN, (1, 0)),
            answer(libc::SECCOMP_RET_KILL_PROCESS),
            load(NUMBER),
            jump(libc::BPF_JGE, OTHERS, (way(REFUSED.len()), 0)),
        ];
        for (number, later) in REFUSED.iter().zip((0..REFUSED.len()).rev()) {
            let number = u32::try_from(*number).unwrap_or(u32::MAX);
            program.push(jump(libc::BPF_JEQ, number, (way(later), 0)));
        }
        program.push(answer(libc::SECCOMP_RET_ALLOW));
        program.push(answer(denied));
        Self(program)
    }

    /// Puts it in force for the calling process and whatever it becomes: 0, or -1 with `errno`. Allocates nothing.
    pub(super) fn apply(&self) -> i32 {
        let program = libc::sock_fprog {
            len: u16::try_from(self.0.len()).unwrap_or(u16::MAX),
            filter: self.0.as_ptr().cast_mut(),
        };
        // Filtered or not, it is as quick: kernels before 5.16 slow a filtered process down unless told.
        let (mode, flags) = (
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        );
        // SAFETY: a live array and its length, which the kernel only reads.
        let done =
            unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, ptr::from_ref(&program)) };
        i32::try_from(done).unwrap_or(-1)
    }
}

fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: u16::try_from(code).unwrap_or(0),
        jt: 0,
        jf: 0,
        k,
    }
}

fn jump(test: u32, k: u32, (jt, jf): (u8, u8)) -> libc::sock_filter {
    libc::sock_filter {
        jt,
        jf,
        ..statement(libc::BPF_JMP | test | libc::BPF_K, k)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program answers, by the kernel's rules for the few instructions that are used.
    fn answer(filter: &Filter, architecture: u32, number: u32) -> u32 {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let one = filter.0[at];
            at += 1;
            match (u32::from(one.code) & 7, u32::from(one.code) & 0xf0) {
                (0, _) => {
                    loaded = if one.k == NUMBER {
                        number
                    } else {
                        architecture
                    }
                }
                (5, 0x10) => at += usize::from(if loaded == one.k { one.jt } else { one.jf }),
                (5, 0x30) => at += usize::from(if loaded >= one.k { one.jt } else { one.jf }),
                (6, _) => return one.k,
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn what_is_named_is_refused_and_nothing_else() {
        let filter = Filter::new();
        let refused: Vec<u32> = REFUSED
            .iter()
            .map(|one| u32::try_from(*one).unwrap())
            .collect();
        for number in 0..500 {
            let wanted = match refused.contains(&number) {
                true => libc::SECCOMP_RET_ERRNO | 1,
                false => libc::SECCOMP_RET_ALLOW,
            };
            assert_eq!(answer(&filter, OWN, number), wanted, "{number}");
        }
        assert_eq!(answer(&filter, OWN, OTHERS), libc::SECCOMP_RET_ERRNO | 1);
        assert_eq!(answer(&filter, 3, 0), libc::SECCOMP_RET_KILL_PROCESS);
    }
}
