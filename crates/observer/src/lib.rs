// SPDX-License-Identifier: Apache-2.0
//! The witness outside the proxies: captures every frame of a network namespace, puts every TCP stream in order, and says what
//! its bytes are. It trusts no proxy and is told nothing but which addresses should be protected. It sends nothing.
//!
//! What it does not see: traffic that stays inside a pod, protocols other than TCP, and whether what looks like application
//! data of TLS 1.3 is encrypted; the last is what markers are for. Read `run.rs` first, then `frame.rs`.

#![forbid(unsafe_code)]

mod classify;
mod expect;
mod flows;
mod frame;
/// For fuzz targets.
#[cfg(fuzzing)]
pub mod fuzzing;
mod markers;
mod report;
mod run;
mod stream;
#[cfg(test)]
mod testing;

pub use run::{Args, Outcome, UsageError, run};
