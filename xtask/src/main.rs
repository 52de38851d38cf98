// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask`: the only entry for people and for CI.
fn main() {}
