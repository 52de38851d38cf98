// SPDX-License-Identifier: Apache-2.0
//! Decisions and protocol machines, without I/O or clock.
