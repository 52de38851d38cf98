// SPDX-License-Identifier: Apache-2.0
//! Harness shared by the outer test rings: real programs, brought up, disturbed and taken down.
//!
//! Must never wait by the clock: every wait is for an event and has a deadline. Read [`up`] first.

#![forbid(unsafe_code)]

/// HTTP over unix sockets.
pub mod http;
/// Processes and the namespaces they hold, as /proc shows them.
pub mod proc;
/// The programs under test.
pub mod programs;
/// Control behind TLS.
pub mod secure;
/// What a `maille up` holds of the machine.
pub mod traces;
/// A `maille up` under test.
pub mod up;
/// Waiting for events.
pub mod wait;

pub use programs::Programs;
pub use traces::Traces;
pub use up::{Load, Settings, Up};
pub use wait::{until, until_async};
