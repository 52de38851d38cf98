// SPDX-License-Identifier: Apache-2.0
//! What every process of Maille stands on: settings, logs, metrics, tasks, drain, clock, local sockets.
//!
//! It knows nothing of meshes. Read [`tasks`] and [`drain`] first: they are how a process lives and stops.
#![forbid(unsafe_code)]

/// A small HTTP server on a unix socket, for metrics and questions.
pub mod admin;
/// Several channels on one connection.
pub mod channels;
/// The only clock.
pub mod clock;
/// Settings from the environment, read once.
pub mod config;
/// Stopping: gracefully, then at once.
pub mod drain;
/// gRPC over unix sockets.
pub mod grpc;
/// Listening sockets that a supervisor passed on.
pub mod listen;
/// Logs that never block and cannot be flooded.
pub mod log;
/// How metrics are declared and written.
pub mod metrics;
/// Telling a supervisor that the process is ready.
pub mod notify;
/// Panics, counted.
pub mod panics;
/// Tasks with a name and an owner.
pub mod tasks;
/// Protections that a test takes away.
pub mod without;
