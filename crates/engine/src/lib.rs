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
/// HTTP/2 connections: RFC 9113 with applications, the dialect `maille/1` between proxies.
pub mod http2;
/// Where a connection or request goes.
pub mod route;
/// What control said so far.
pub mod snapshot;

#[cfg(test)]
mod testing;
