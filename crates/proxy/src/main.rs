// SPDX-License-Identifier: Apache-2.0
//! maille-proxy.
fn main() {}
