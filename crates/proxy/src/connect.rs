// SPDX-License-Identifier: Apache-2.0
//! Stage 6: an endpoint that was picked becomes a connection: a plain one, or a stream of a mesh connection.
//!
//! Must never fall back from mesh to plain. Read `connect/tcp.rs`, then `connect/mesh.rs`.

/// Mesh connections that take streams.
pub(crate) mod mesh;
/// Idle plain connections.
pub(crate) mod pool;
/// How sockets are dressed.
pub mod tcp;
