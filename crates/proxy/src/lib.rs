// SPDX-License-Identifier: Apache-2.0
//! The data plane.
#![forbid(unsafe_code)]

/// How this proxy talks to control.
pub mod control;
/// What control knows, on demand.
pub mod discovery;
/// Everything that can go wrong with an exchange.
pub mod failure;
/// What passed through, counted by edge.
pub mod telemetry;
