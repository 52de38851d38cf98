// SPDX-License-Identifier: Apache-2.0
//! Code made from `proto/` by `cargo xtask gen`; `cargo xtask gen --check` says whether it is fresh. Never edited by hand.
#![expect(
    missing_docs,
    unused_qualifications,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    reason = "what the generator writes is not ours to style"
)]

/// Delta discovery, by the public xDS field numbers.
pub mod discovery_v3;
/// Maille's own messages and services.
pub mod maille_v1;
