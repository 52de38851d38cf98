// SPDX-License-Identifier: Apache-2.0
//! Runs pods.

pub(crate) mod backoff;
pub(crate) mod env;
pub(crate) mod names;
pub(crate) mod probe;
