// SPDX-License-Identifier: Apache-2.0
//! The control plane and the certificate authority: `watch -> index -> translate -> serve`, one loop over one kind of event.
//!
//! It is never on the data path: proxies keep what they have when it is gone, and it loses nothing by a restart but
//! what [`stat`] counted. Read [`watch`], [`index`], [`translate`], [`serve`], in that order; [`run`] ties them together.

#![forbid(unsafe_code)]

/// The HTTP API.
pub mod api;
/// Questions to proxies.
pub mod ask;
/// Errors as text.
mod causes;
/// Control in a cluster.
pub mod cluster;
/// What an API server asks.
pub mod gate;
/// What a kubelet asks.
pub mod health;
/// What everything shares.
pub mod hub;
/// Objects to model; what exists. Pure.
pub mod index;
/// Names of resources.
pub mod key;
/// The authority in force.
pub mod keyring;
/// Connections.
pub mod listen;
/// Prometheus.
pub mod metrics;
/// Between attempts.
mod pauses;
/// Other replicas.
pub mod replicas;
/// Resources as people name them. Pure.
pub mod resource;
/// The process.
pub mod run;
/// The gRPC services.
pub mod serve;
/// The command line.
pub mod settings;
/// What proxies counted. Pure.
pub mod stat;
/// Model to wire. Pure.
pub mod translate;
/// Where objects come from.
pub mod watch;
