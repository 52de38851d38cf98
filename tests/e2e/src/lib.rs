// SPDX-License-Identifier: Apache-2.0
//! Ring 5: what people type, end to end, with the real programs. The tests are in `tests/`.

#![forbid(unsafe_code)]

/// An application that holds connections open for long, and its load: the program `maille-steady`.
pub mod steady;
