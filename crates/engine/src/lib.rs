// SPDX-License-Identifier: Apache-2.0
//! Decisions and protocol machines, without I/O or clock.
//!
//! Read [`snapshot`], then [`route`]: every decision is a function of one snapshot.
#![forbid(unsafe_code)]

/// Which endpoint takes the next request.
pub mod balance;
/// The name in a TLS ClientHello.
pub mod client_hello;
/// What a client speaks.
pub mod detect;
/// Field compression (RFC 7541).
pub mod hpack;
/// HTTP/1 heads and bodies, strictly.
pub mod http1;
/// The dialect between proxies, `maille/1`.
pub mod mesh;
/// Where a connection or request goes.
pub mod route;
/// What control said so far.
pub mod snapshot;

#[cfg(test)]
mod testing;
