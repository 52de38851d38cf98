// SPDX-License-Identifier: Apache-2.0
//! maille-observer.
fn main() {}
