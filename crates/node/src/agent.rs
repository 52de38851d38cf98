// SPDX-License-Identifier: Apache-2.0
//! Proxies.

pub(crate) mod relay;
