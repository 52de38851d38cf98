// SPDX-License-Identifier: Apache-2.0
//! Capabilities (`capabilities(7)`), as sets. Dropping them is [`drop_to`]; a child's are set by `spawn`.

use std::io;

use nix::errno::Errno;

/// A set of capabilities; bit N is capability N of `linux/capability.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapSet(pub u64);

/// CAP_CHOWN.
pub const CHOWN: CapSet = CapSet(1 << 0);
/// CAP_DAC_OVERRIDE.
pub const DAC_OVERRIDE: CapSet = CapSet(1 << 1);
/// CAP_FOWNER.
pub const FOWNER: CapSet = CapSet(1 << 3);
/// CAP_FSETID.
pub const FSETID: CapSet = CapSet(1 << 4);
/// CAP_KILL.
pub const KILL: CapSet = CapSet(1 << 5);
/// CAP_SETGID.
pub const SETGID: CapSet = CapSet(1 << 6);
/// CAP_SETUID.
pub const SETUID: CapSet = CapSet(1 << 7);
/// CAP_SETPCAP.
pub const SETPCAP: CapSet = CapSet(1 << 8);
/// CAP_NET_BIND_SERVICE.
pub const NET_BIND_SERVICE: CapSet = CapSet(1 << 10);
/// CAP_NET_ADMIN.
pub const NET_ADMIN: CapSet = CapSet(1 << 12);
/// CAP_NET_RAW.
pub const NET_RAW: CapSet = CapSet(1 << 13);
/// CAP_SYS_CHROOT.
pub const SYS_CHROOT: CapSet = CapSet(1 << 18);
/// CAP_SETFCAP.
pub const SETFCAP: CapSet = CapSet(1 << 31);

impl CapSet {
    /// No capability.
    pub const NONE: Self = Self(0);
    /// What an application's container has: what container runtimes give, raw sockets and chroot included, but for MKNOD and AUDIT_WRITE, which are
    /// over the machine.
    /// SETFCAP lets root map itself into a user namespace of its own (`user_namespaces(7)`): servers that refuse to be root.
    pub const CONTAINER: Self = Self(
        CHOWN.0
            | DAC_OVERRIDE.0
            | FOWNER.0
            | FSETID.0
            | KILL.0
            | SETGID.0
            | SETUID.0
            | SETPCAP.0
            | NET_BIND_SERVICE.0
            | NET_RAW.0
            | SYS_CHROOT.0
            | SETFCAP.0,
    );
    /// What a proxy in a mesh namespace needs: transparent sockets and marks.
    pub const PROXY: Self = Self(NET_ADMIN.0 | NET_RAW.0);

    /// The set of the one capability that is called `name`, without `CAP_`. Knows those that are named here only.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "CHOWN" => CHOWN,
            "DAC_OVERRIDE" => DAC_OVERRIDE,
            "FOWNER" => FOWNER,
            "FSETID" => FSETID,
            "KILL" => KILL,
            "SETGID" => SETGID,
            "SETUID" => SETUID,
            "SETPCAP" => SETPCAP,
            "NET_BIND_SERVICE" => NET_BIND_SERVICE,
            "NET_ADMIN" => NET_ADMIN,
            "NET_RAW" => NET_RAW,
            "SYS_CHROOT" => SYS_CHROOT,
            "SETFCAP" => SETFCAP,
            _ => return None,
        })
    }

    /// Both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are in it.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Keeps only `keep` in the calling thread, bounding set included, for good. Call it while there is one thread.
pub fn drop_to(keep: CapSet) -> io::Result<()> {
    keep_only(keep).map_err(io::Error::from_raw_os_error)
}

/// [`drop_to`] for a child before its exec: system calls only, the error is an errno.
pub(crate) fn keep_only(keep: CapSet) -> Result<(), i32> {
    bound(keep)?;
    hold(keep)
}

/// The first half: what programs run later can get at most.
pub(crate) fn bound(keep: CapSet) -> Result<(), i32> {
    /// More than there are; the kernel says EINVAL after its last.
    const MOST: u32 = 64;
    for number in 0..MOST {
        if keep.0 & (1 << number) != 0 {
            continue;
        }
        // SAFETY: no pointers.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) } < 0 {
            match Errno::last_raw() {
                libc::EINVAL => break,
                errno => return Err(errno),
            }
        }
    }
    Ok(())
}

/// The second half: what the calling thread has.
pub(crate) fn hold(keep: CapSet) -> Result<(), i32> {
    // SAFETY: no pointers. The ambient set must not give back what the others lose.
    if unsafe {
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL,
            0,
            0,
            0,
        )
    } < 0
    {
        return Err(Errno::last_raw());
    }
    capset(keep)
}

/// `capset(2)`: permitted, effective and inheritable alike.
fn capset(keep: CapSet) -> Result<(), i32> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    struct Sets {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let have = permitted()?;
    let half = |shift: u32| {
        #[expect(clippy::cast_possible_truncation, reason = "one half")]
        let bits = ((keep.0 & have) >> shift) as u32;
        Sets {
            effective: bits,
            permitted: bits,
            inheritable: 0,
        }
    };
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let sets = [half(0), half(32)];
    // SAFETY: a live header of version 3 and the two sets that it promises.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) };
    if result < 0 {
        Err(Errno::last_raw())
    } else {
        Ok(())
    }
}

/// `capget(2)`, the permitted set.
fn permitted() -> Result<u64, i32> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let mut sets = [[0_u32; 3]; 2];
    // SAFETY: a live header of version 3 and room for the two sets that it promises.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw const header, sets.as_mut_ptr()) };
    if result < 0 {
        return Err(Errno::last_raw());
    }
    Ok(u64::from(sets[0][1]) | u64::from(sets[1][1]) << 32)
}
