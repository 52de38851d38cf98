// SPDX-License-Identifier: Apache-2.0
//! The data plane.
#![forbid(unsafe_code)]

/// Questions to one proxy.
pub mod admin;
/// Settings.
pub mod config;
/// How this proxy talks to control.
pub mod control;
/// What control knows, on demand.
pub mod discovery;
/// Everything that can go wrong with an exchange.
pub mod failure;
/// The own certificate, kept fresh.
pub mod identity_feed;
/// What this process says about itself.
pub mod metrics;
/// What passed through, counted by edge.
pub mod telemetry;
