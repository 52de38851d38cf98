// SPDX-License-Identifier: Apache-2.0
//! maille-control.
fn main() {}
