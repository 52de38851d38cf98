// SPDX-License-Identifier: Apache-2.0
//! The node agent: capture, proxies, and the pod runner of one machine.

#![forbid(unsafe_code)]

mod agent;
mod cluster;
mod dns;
mod network;
mod runner;
