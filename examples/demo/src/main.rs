// SPDX-License-Identifier: Apache-2.0
//! maille-demo.
fn main() {}
