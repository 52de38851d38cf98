// SPDX-License-Identifier: Apache-2.0
//! The node agent: capture, proxies, and the pod runner of one machine.
//!
//! Start at `run.rs`: it says what is started in which order. `runner.rs` holds the pods, `agent.rs` their proxies, `network.rs`
//! what connects them, `host.rs` all that is asked of the kernel.

#![forbid(unsafe_code)]

mod agent;
mod api;
/// The command line.
pub mod args;
mod backoff;
/// Capture: from outside the pod, or from inside.
pub mod capture;
mod checks;
mod cluster;
mod daemon;
mod data;
mod dns;
mod drift;
mod enter;
mod frames;
/// For fuzz targets.
#[cfg(fuzzing)]
pub mod fuzzing;
mod host;
/// `maille-init`.
pub mod init;
mod kube_dns;
/// The agent of a node of a cluster.
pub mod kubernetes;
mod limits;
mod logs;
mod machine;
mod network;
mod notify;
mod objects;
mod processes;
mod reap;
/// Start and stop.
pub mod run;
mod runner;
mod witness;

pub use api::routes::openapi;
pub use run::SETTINGS;
