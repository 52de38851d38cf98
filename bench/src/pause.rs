// SPDX-License-Identifier: Apache-2.0
//! Waiting for a moment, where the moment itself is what is waited for: a request that is due, time without a load, a look at another process.
//!
//! Must never stand for an event that could be waited for. Used by `load/open.rs`, `counts.rs` and `lab.rs`.

use std::time::Duration;

use nix::sys::time::TimeSpec;

/// Waits as precisely as the kernel can: what is waited for is the moment itself.
pub(crate) fn pause(time: Duration) -> anyhow::Result<()> {
    nix::poll::ppoll(&mut [], Some(TimeSpec::from_duration(time)), None)?;
    Ok(())
}
