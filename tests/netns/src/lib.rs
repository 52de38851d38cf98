// SPDX-License-Identifier: Apache-2.0
//! Ring 5: real kernel, real namespaces. What the tests in `tests/` share.
//!
//! They run as root, or as root of a user namespace; without either they fail, they do not skip. Every test makes its own
//! namespaces, which go with it. Must never wait by the clock: a later frame that arrives proves that an earlier one did not.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

/// Frames that nobody should be able to pass.
pub mod evil;
/// Frames, byte by byte.
pub mod frames;
/// Networks of namespaces.
pub mod lab;
/// The smallest transparent proxy.
pub mod proxy;
