// SPDX-License-Identifier: Apache-2.0
//! maille.
fn main() {}
