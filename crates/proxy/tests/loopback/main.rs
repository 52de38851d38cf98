// SPDX-License-Identifier: Apache-2.0
//! Two data planes in one process, on loopback, with real certificates: what a client and a server see of the mesh between them.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot set up its world fails"
)]

mod again;
mod balance;
mod corpus;
mod counted;
mod differential;
mod explain;
mod first;
mod http;
mod http2;
mod inside;
mod lab;
mod mesh;
mod origin;
mod tap;
mod tcp;
mod trust;
