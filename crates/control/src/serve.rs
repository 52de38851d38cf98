// SPDX-License-Identifier: Apache-2.0
//! Delta discovery. Read [`session`]: it is what the protocol is.

/// One stream as a value.
pub mod session;
