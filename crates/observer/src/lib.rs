// SPDX-License-Identifier: Apache-2.0
//! The witness outside the proxies: classifies every TCP payload byte on the wire.
