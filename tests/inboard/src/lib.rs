// SPDX-License-Identifier: Apache-2.0
//! Pods in the inboard mode on one node: real `maille-init` and `maille-proxy`, control behind TLS. What the tests in `tests/` share.
//!
//! They need two users, root and the proxy's: as an ordinary user in a user namespace there is one only, and they fail. Every test
//! makes its own namespaces, which go with it. Read [`lab`] first.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

/// What holds whatever redirects connections.
pub mod cases;
/// A node, its pods, and control.
pub mod lab;
/// Clients and servers that tell what they see.
pub mod talk;
