// SPDX-License-Identifier: Apache-2.0
//! The mesh connection against the `h2` crate, in both roles: as far as the dialect goes it is RFC 9113, and `h2` knows that well.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod h2_asks;
mod h2_serves;
mod ours;
