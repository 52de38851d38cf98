// SPDX-License-Identifier: Apache-2.0
//! maille-node.
fn main() {}
