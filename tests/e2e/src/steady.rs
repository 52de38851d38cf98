// SPDX-License-Identifier: Apache-2.0
//! A well-behaved application that knows no mesh, and a client that never tries anything twice: what they lose, the mesh has lost.
//!
//! Three protocols on three ports: HTTP/1 with keep-alive, a gRPC stream both ways, WebSocket. Read [`serve`], then [`load`].

/// The client.
pub mod load;
/// The server.
pub mod serve;

/// HTTP/1.
pub const HTTP: u16 = 8080;
/// gRPC over HTTP/2 in the clear.
pub const GRPC: u16 = 8081;
/// WebSocket.
pub const WEBSOCKET: u16 = 8082;

/// The only method.
pub const METHOD: &str = "/steady.Echo/Talk";
