// SPDX-License-Identifier: Apache-2.0
//! The data plane.
//!
//! Life of a connection, one stage a file:
//!
//! ```text
//! accept -> original_dst -> detect -> route -> balance -> connect/ -> forward/ -> outcome
//! ```
//!
//! `listeners` runs it on one thread with `worker` as its driver; everything else here is the control thread's.
#![forbid(unsafe_code)]

/// Stage 1: listening sockets.
pub mod accept;
/// Questions to one proxy.
pub mod admin;
mod balance;
/// Settings.
pub mod config;
/// Stage 6: connections to endpoints.
pub mod connect;
/// How this proxy talks to control.
pub mod control;
mod detect;
/// What control knows, on demand.
pub mod discovery;
/// Listening sockets: passed on, or bound.
pub mod doors;
/// Everything that can go wrong with an exchange.
pub mod failure;
/// Stage 7: the forwarding core.
pub mod forward;
/// The own certificate, kept fresh.
pub mod identity_feed;
/// What goes through mesh connections.
pub mod inside;
/// The data plane as a whole.
pub mod listeners;
/// What this process says about itself.
pub mod metrics;
/// Stage 2: where the client wanted to go.
pub mod original_dst;
/// How exchanges end: counts and the access log.
pub mod outcome;
/// Whether redirected connections reach this proxy.
pub mod preflight;
/// The process.
pub mod process;
/// What people ask, by way of control.
pub mod questions;
/// Stage 4: where it goes.
pub mod route;
mod table;
/// People who watch exchanges pass.
pub mod tap;
/// What passed through, counted by edge.
pub mod telemetry;
mod worker;
