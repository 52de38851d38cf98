// SPDX-License-Identifier: Apache-2.0
//! The node's network.

pub(crate) mod rules;
