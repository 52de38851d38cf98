// SPDX-License-Identifier: Apache-2.0
//! How a process of a cluster reaches control itself: an inboard proxy for its own pod, a node agent for the pods of its node.
//!
//! Must never send a token to anybody who has not proved to be control. Read [`direct`].

#![forbid(unsafe_code)]

/// Control at the other end of a TLS connection.
pub mod direct;
