// SPDX-License-Identifier: Apache-2.0
//! Capabilities (`capabilities(7)`), as sets. Dropping them is [`drop_to`]; a child's are set by `spawn`.

use std::io;

/// A set of capabilities; bit N is capability N of `linux/capability.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapSet(pub u64);

/// CAP_CHOWN.
pub const CHOWN: CapSet = CapSet(1 << 0);
/// CAP_DAC_OVERRIDE.
pub const DAC_OVERRIDE: CapSet = CapSet(1 << 1);
/// CAP_FOWNER.
pub const FOWNER: CapSet = CapSet(1 << 3);
/// CAP_KILL.
pub const KILL: CapSet = CapSet(1 << 5);
/// CAP_SETGID.
pub const SETGID: CapSet = CapSet(1 << 6);
/// CAP_SETUID.
pub const SETUID: CapSet = CapSet(1 << 7);
/// CAP_NET_BIND_SERVICE.
pub const NET_BIND_SERVICE: CapSet = CapSet(1 << 10);
/// CAP_NET_ADMIN.
pub const NET_ADMIN: CapSet = CapSet(1 << 12);
/// CAP_NET_RAW.
pub const NET_RAW: CapSet = CapSet(1 << 13);

impl CapSet {
    /// No capability.
    pub const NONE: Self = Self(0);
    /// What an application's container has: enough for ordinary images, raw sockets included, nothing over the machine.
    pub const CONTAINER: Self = Self(
        CHOWN.0
            | DAC_OVERRIDE.0
            | FOWNER.0
            | KILL.0
            | SETGID.0
            | SETUID.0
            | NET_BIND_SERVICE.0
            | NET_RAW.0,
    );
    /// What a proxy in a mesh namespace needs: transparent sockets and marks.
    pub const PROXY: Self = Self(NET_ADMIN.0 | NET_RAW.0);

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
    let _ = keep;
    todo!()
}
