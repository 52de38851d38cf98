// SPDX-License-Identifier: Apache-2.0
//! Model to wire: bytes, and versions made of nothing but the bytes. Read [`crate::serve`] next.

/// Bytes and versions.
mod encoded;

pub use encoded::{Encoded, Version};
