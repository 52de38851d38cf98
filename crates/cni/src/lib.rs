// SPDX-License-Identifier: Apache-2.0
//! The CNI plugin (CNI 1.1), chained last: it has the node agent capture a pod before anything runs in it, and passes the result of
//! the plugins before it on as it is.
//!
//! It decides nothing: admission wrote on the pod whether it is meant for the mesh, and the agent does what is done. Must never let
//! such a pod start uncaptured, and never keep another pod from starting. Read `decide.rs` for what is done about which call, then
//! `protocol.rs` for what is said to the agent.

#![forbid(unsafe_code)]

/// The agent's socket, from the plugin's side.
pub mod ask;
/// A call of the container runtime, parsed.
pub mod call;
/// What is done about a call.
pub mod decide;
/// What the plugin says when it fails.
pub mod failure;
/// Removing a link.
pub mod link;
/// What plugin and agent say to each other.
pub mod protocol;
/// A call from its beginning to its end.
pub mod run;
