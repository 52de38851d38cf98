// SPDX-License-Identifier: Apache-2.0
//! What goes through a pair: load generators of others where there is one, own ones where not. All run in the client's namespace, on the load's core.
//!
//! Must never count what was not answered. Read `axes.rs` for which axis uses which.

mod bulk;
mod idle;
mod open;
mod others;
mod streams;

use clap::ValueEnum;
use serde::Serialize;

pub(crate) use bulk::bulk;
pub(crate) use idle::{hold, quiet, start};
pub(crate) use open::{open, request};
pub(crate) use others::{h2load, wrk};
pub(crate) use streams::streams;

/// What the requests look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Heads {
    /// One header, one path: kind to header compression, as most published numbers are.
    Plain,
    /// 14 headers, a path and a request id that change with every request, one cookie of eight.
    Real,
}

/// A measured value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    /// CPU of the pair for one request, message or connection, in microseconds.
    CpuUs,
    /// CPU of the pair for 10^9 bytes, in seconds.
    CpuPerGb,
    /// Requests, messages or connections a second.
    PerSecond,
    /// Gigabits a second.
    GbitPerSecond,
    /// Half of the answers came within, in microseconds.
    P50Us,
    /// 99 of 100 did.
    P99Us,
    /// 999 of 1,000 did.
    P999Us,
    /// From the start of the pair until it has answered, in milliseconds.
    ReadyMs,
    /// Resident set of the larger proxy, in MiB.
    ResidentMib,
    /// Anonymous memory of the larger proxy, in MiB.
    AnonymousMib,
    /// Anonymous memory of the pair for a connection, in KiB.
    KibPerConnection,
    /// CPU of the pair in a second without anything to do, in microseconds.
    IdleUs,
    /// How often the pair woke up in a second without anything to do.
    Wakeups,
}

/// What one run gave.
pub(crate) type Values = Vec<(Metric, f64)>;

impl Metric {
    /// Its column.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::CpuUs => "CPU us each",
            Self::CpuPerGb => "CPU s/GB",
            Self::PerSecond => "a second",
            Self::GbitPerSecond => "Gbit/s",
            Self::P50Us => "p50 us",
            Self::P99Us => "p99 us",
            Self::P999Us => "p99.9 us",
            Self::ReadyMs => "ready ms",
            Self::ResidentMib => "resident MiB",
            Self::AnonymousMib => "anonymous MiB",
            Self::KibPerConnection => "KiB a connection",
            Self::IdleUs => "CPU us/s",
            Self::Wakeups => "wake-ups/s",
        }
    }
}
