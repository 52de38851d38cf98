// SPDX-License-Identifier: Apache-2.0
//! What is measured: each axis with its load, the pairs that can bear it, whom Maille is held against, and what it must reach.
//!
//! Must never hold Maille against a peer that does less. Read `measure.rs` for the rounds.

use std::fmt;
use std::str::FromStr;

use anyhow::bail;

use crate::lab::Lab;
use crate::load::{self, Heads, Metric, Values};
use crate::peers::{Carries, Pair, Peer};

/// Connections on which nothing comes, where this machine allows as many.
const HELD: u64 = 10_000;
/// Connections at a time where each request has its own.
const DIALLING: u32 = 16;
/// Requests in flight at which the capacity is found that `open` is a part of.
const FULL: u32 = 64;

/// One thing that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Axis {
    /// HTTP/1.1 on kept connections, as fast as it goes.
    Http { connections: u32, heads: Heads },
    /// HTTP/2 as gRPC clients use it.
    Http2,
    /// Messages on HTTP/2 streams that stay open, both ways.
    Streams,
    /// The same requests, which the proxies take for bytes.
    Tcp { connections: u32 },
    /// Bytes on a new connection for each request.
    Dial,
    /// Many bytes on few connections.
    Bulk { streams: u32, up: bool },
    /// HTTP/1.1 at a part of what the slowest peer bears, in hundredths.
    Open { percent: u32 },
    /// A pair that was just made, until it answers.
    Start,
    /// A pair that was just made and has nothing to do.
    Idle,
    /// Connections on which nothing comes, of a pair that was just made.
    Held,
    /// Nothing to do, after all the loads of a round.
    After,
}

/// What Maille must reach on an axis: a multiple of what a peer needs in the same round, or a value where there is none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// Which of Maille's pairs.
    pub(crate) of: Peer,
    pub(crate) metric: Metric,
    pub(crate) to: Option<Peer>,
    pub(crate) must: f64,
    pub(crate) aim: f64,
}

const L7: &[Peer] = &[Peer::Maille, Peer::Haproxy, Peer::Nginx, Peer::Envoy];
const L7_TAKEN: &[Peer] = &[
    Peer::Maille,
    Peer::Outboard,
    Peer::Inboard,
    Peer::Haproxy,
    Peer::Nginx,
    Peer::Envoy,
];
const L7_H2: &[Peer] = &[Peer::Maille, Peer::Haproxy, Peer::Envoy];
const L4: &[Peer] = &[Peer::Maille, Peer::Haproxy, Peer::Nginx];

const fn budget(metric: Metric, to: Peer, must: f64, aim: f64) -> Budget {
    Budget {
        of: Peer::Maille,
        metric,
        to: Some(to),
        must,
        aim,
    }
}

const fn limit(metric: Metric, must: f64, aim: f64) -> Budget {
    Budget {
        of: Peer::Maille,
        metric,
        to: None,
        must,
        aim,
    }
}

impl Axis {
    /// Every axis, in the order of the table.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = vec![Self::Start, Self::Idle, Self::Held];
        for heads in [Heads::Plain, Heads::Real] {
            for connections in [1, 16, 64, 512] {
                all.push(Self::Http { connections, heads });
            }
        }
        all.extend([Self::Http2, Self::Streams]);
        all.extend([1, 64].map(|connections| Self::Tcp { connections }));
        all.push(Self::Dial);
        for up in [false, true] {
            all.extend([1, 8].map(|streams| Self::Bulk { streams, up }));
        }
        all.extend([30, 60, 90].map(|percent| Self::Open { percent }));
        all.push(Self::After);
        all
    }

    /// Those for every day.
    pub(crate) fn quick() -> Vec<Self> {
        let heads = Heads::Plain;
        let http = [1, 64].map(|connections| Self::Http { connections, heads });
        let mut quick = vec![Self::Start, Self::Idle];
        quick.extend(http);
        quick.extend([
            Self::Http2,
            Self::Tcp { connections: 64 },
            Self::Dial,
            Self::Bulk {
                streams: 1,
                up: false,
            },
        ]);
        quick
    }

    /// What its pairs carry.
    pub(crate) const fn carries(self) -> Carries {
        match self {
            Self::Start | Self::Idle | Self::Held | Self::After => Carries::Http1,
            Self::Http { .. } | Self::Open { .. } => Carries::Http1,
            Self::Http2 | Self::Streams => Carries::Http2,
            Self::Tcp { .. } | Self::Dial | Self::Bulk { .. } => Carries::Tcp,
        }
    }

    /// Whether it is measured on pairs that are made for it, before all others.
    pub(crate) const fn is_fresh(self) -> bool {
        matches!(self, Self::Start | Self::Idle | Self::Held)
    }

    /// Who takes part.
    pub(crate) const fn peers(self) -> &'static [Peer] {
        match self.carries() {
            Carries::Http1 if !self.is_fresh() && !matches!(self, Self::After) => L7_TAKEN,
            Carries::Http1 => L7,
            Carries::Http2 => L7_H2,
            Carries::Tcp => L4,
        }
    }

    /// Whom Maille is held against in the table.
    pub(crate) const fn reference(self) -> Peer {
        match self {
            Self::Tcp { .. } | Self::Dial => Peer::Nginx,
            _ => Peer::Haproxy,
        }
    }

    /// What Maille must reach.
    pub(crate) fn budgets(self) -> Vec<Budget> {
        use Metric::{AnonymousMib, CpuPerGb, CpuUs, KibPerConnection, P50Us, P99Us, ResidentMib};
        match self {
            Self::Http { connections: 1, .. } => vec![
                budget(CpuUs, Peer::Nginx, 0.80, 0.65),
                budget(P50Us, Peer::Nginx, 0.90, 0.75),
            ],
            Self::Http {
                connections: 64, ..
            } => {
                let taken = |of| Budget {
                    of,
                    ..budget(CpuUs, Peer::Haproxy, 0.95, 0.75)
                };
                vec![
                    budget(CpuUs, Peer::Haproxy, 0.85, 0.70),
                    taken(Peer::Outboard),
                    taken(Peer::Inboard),
                ]
            }
            Self::Http2 => vec![budget(CpuUs, Peer::Haproxy, 1.0, 0.75)],
            Self::Tcp { connections: 64 } => vec![budget(CpuUs, Peer::Nginx, 0.70, 0.50)],
            Self::Dial => vec![budget(CpuUs, Peer::Nginx, 0.15, 0.08)],
            Self::Bulk { streams: 1, .. } => {
                vec![budget(CpuPerGb, Peer::Haproxy, 0.70, 0.50)]
            }
            Self::Open { percent: 60 } => [Peer::Haproxy, Peer::Nginx, Peer::Envoy]
                .map(|peer| budget(P99Us, peer, 1.0, 0.7))
                .to_vec(),
            Self::Idle => vec![limit(ResidentMib, 10.0, 7.0), limit(AnonymousMib, 2.0, 1.0)],
            Self::Held => vec![limit(KibPerConnection, 4.0, 2.0)],
            Self::Http { .. } | Self::Tcp { .. } | Self::Bulk { .. } | Self::Open { .. } => {
                Vec::new()
            }
            Self::Streams | Self::Start | Self::After => Vec::new(),
        }
    }

    /// Loads one pair for so long. `capacity`: what the slowest peer bears, in requests a second.
    pub(crate) fn load(
        self,
        lab: &Lab,
        pair: &Pair,
        seconds: u32,
        capacity: f64,
    ) -> anyhow::Result<Values> {
        let plain = Heads::Plain;
        let lab = pair.lab(lab);
        match self {
            Self::Http { connections, heads } => {
                load::wrk(lab, pair, connections, heads, false, seconds)
            }
            Self::Http2 => load::h2load(lab, pair, seconds),
            Self::Streams => load::streams(lab, pair, seconds),
            Self::Tcp { connections } => load::wrk(lab, pair, connections, plain, false, seconds),
            Self::Dial => load::wrk(lab, pair, DIALLING, plain, true, seconds),
            Self::Bulk { streams, up } => load::bulk(lab, pair, streams, up, seconds),
            Self::Open { percent } => {
                load::open(lab, pair, capacity * f64::from(percent) / 100.0, seconds)
            }
            Self::Start => load::start(lab, pair),
            Self::Idle => {
                load::start(lab, pair)?;
                load::quiet(pair, seconds)
            }
            Self::After => load::quiet(pair, seconds),
            Self::Held => {
                load::start(lab, pair)?;
                load::hold(lab, pair, HELD.min(lab.most_connections()))
            }
        }
    }

    /// Requests a second that a pair bears.
    pub(crate) fn capacity(lab: &Lab, pair: &Pair, seconds: u32) -> anyhow::Result<f64> {
        let values = load::wrk(pair.lab(lab), pair, FULL, Heads::Plain, false, seconds)?;
        let found = values
            .iter()
            .find(|(metric, _)| *metric == Metric::PerSecond);
        Ok(found.map_or(0.0, |(_, value)| *value))
    }
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { connections, heads } => {
                let heads = format!("{heads:?}").to_lowercase();
                write!(f, "http/{connections}/{heads}")
            }
            Self::Http2 => f.write_str("http2"),
            Self::Streams => f.write_str("streams"),
            Self::Tcp { connections } => write!(f, "tcp/{connections}"),
            Self::Dial => f.write_str("dial"),
            Self::Bulk { streams, up } => {
                write!(f, "bulk/{}/{streams}", if *up { "up" } else { "down" })
            }
            Self::Open { percent } => write!(f, "open/{percent}"),
            Self::Start => f.write_str("start"),
            Self::Idle => f.write_str("idle"),
            Self::Held => f.write_str("held"),
            Self::After => f.write_str("after"),
        }
    }
}

impl FromStr for Axis {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = Self::all();
        match all.iter().find(|axis| axis.to_string() == text) {
            Some(axis) => Ok(*axis),
            None => {
                let names: Vec<_> = all.iter().map(ToString::to_string).collect();
                bail!("no axis {text:?}; there are {}", names.join(" "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_axis_has_a_name_and_peers_that_can() {
        for axis in Axis::all() {
            assert_eq!(axis.to_string().parse::<Axis>().unwrap(), axis);
            assert!(axis.peers().contains(&axis.reference()));
            for budget in axis.budgets() {
                assert!(budget.to.is_none_or(|peer| axis.peers().contains(&peer)));
                assert!(budget.aim <= budget.must);
            }
        }
        assert!("http/2/plain".parse::<Axis>().is_err());
    }
}
