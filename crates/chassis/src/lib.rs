// SPDX-License-Identifier: Apache-2.0
//! The process: configuration, logs, metrics, tasks, drain, clock.
