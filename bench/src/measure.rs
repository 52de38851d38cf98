// SPDX-License-Identifier: Apache-2.0
//! The rounds: every axis with every pair in each of them, in an order that rotates, so that what the machine does besides falls on all.
//!
//! Must never measure a pair that is not warm. Read `report.rs` for what becomes of the samples.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, bail};
use serde::{Serialize, Serializer};

use crate::axes::Axis;
use crate::lab::Lab;
use crate::load::{self, Heads, Metric, Values};
use crate::peers::{self, Carries, Pair, Pairs, Peer};

/// What one run of one load gave.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    pub(crate) round: u32,
    #[serde(serialize_with = "shown")]
    pub(crate) axis: Axis,
    pub(crate) peer: Peer,
    pub(crate) values: BTreeMap<Metric, f64>,
}

fn shown<S: Serializer>(axis: &Axis, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(axis)
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amount {
    pub(crate) rounds: u32,
    pub(crate) seconds: u32,
}

/// The pairs that these axes need, of the peers that are wanted.
fn needed(axes: &[Axis], peers: &[Peer]) -> Vec<(Peer, Carries)> {
    let mut needed = Vec::new();
    for axis in axes {
        let taking = axis.peers().iter().filter(|peer| peers.contains(peer));
        needed.extend(taking.map(|peer| (*peer, axis.carries())));
    }
    needed.sort_unstable();
    needed.dedup();
    needed
}

/// Measures what is asked of pairs that were just made, then warms every other pair up and measures them; all of them in each round.
pub(crate) fn all(
    lab: &Lab,
    bin_dir: &Path,
    (axes, wanted): (&[Axis], &[Peer]),
    amount: Amount,
) -> anyhow::Result<Vec<Sample>> {
    let _support = peers::support(lab, bin_dir, wanted.contains(&Peer::Maille))?;
    let (fresh, warm): (Vec<Axis>, Vec<Axis>) = axes.iter().partition(|axis| axis.is_fresh());
    let mut samples = Vec::new();
    rounds(&fresh, wanted, amount, &mut samples, |axis, who| {
        let pair = peers::pair(lab, bin_dir, who)?;
        axis.load(lab, &pair, amount.seconds, 0.0)
    })?;
    let mut pairs = Pairs::new();
    for who in needed(&warm, wanted) {
        pairs.insert(who, peers::pair(lab, bin_dir, who)?);
    }
    for pair in pairs.values() {
        warm_up(lab, pair)?;
    }
    let capacity = slowest(lab, &pairs, &warm)?;
    rounds(&warm, wanted, amount, &mut samples, |axis, who| {
        let pair = pairs.get(&who).context("no such pair")?;
        axis.load(lab, pair, amount.seconds, capacity)
    })?;
    Ok(samples)
}

/// Every axis with everybody who takes part, in each round.
fn rounds(
    axes: &[Axis],
    wanted: &[Peer],
    amount: Amount,
    samples: &mut Vec<Sample>,
    load: impl Fn(Axis, (Peer, Carries)) -> anyhow::Result<Values>,
) -> anyhow::Result<()> {
    for round in 0..amount.rounds {
        for &axis in axes {
            let taking = axis.peers().iter().filter(|peer| wanted.contains(peer));
            let mut taking: Vec<Peer> = taking.copied().collect();
            let first = round as usize % taking.len().max(1);
            taking.rotate_left(first);
            for peer in taking {
                let values = load(axis, (peer, axis.carries()))
                    .with_context(|| format!("{axis}, {peer}"))?;
                tell(round, axis, peer, &values);
                samples.push(Sample {
                    round,
                    axis,
                    peer,
                    values: values.into_iter().collect(),
                });
            }
        }
    }
    Ok(())
}

fn tell(round: u32, axis: Axis, peer: Peer, values: &Values) {
    let mut line = format!(
        "round {:2}  {:15} {:8}",
        round + 1,
        axis.to_string(),
        peer.to_string()
    );
    for (metric, value) in values {
        line += &format!("  {} {value:.2}", metric.name());
    }
    eprintln!("{line}");
}

/// What the slowest peer bears, where an axis asks for a part of it.
fn slowest(lab: &Lab, pairs: &Pairs, axes: &[Axis]) -> anyhow::Result<f64> {
    let mut slowest = f64::INFINITY;
    if axes.iter().any(|axis| matches!(axis, Axis::Open { .. })) {
        for pair in pairs.values().filter(|pair| pair.carries == Carries::Http1) {
            slowest = slowest.min(Axis::capacity(lab, pair, 2)?);
        }
        eprintln!("the slowest bears {slowest:.0} requests a second");
    }
    Ok(slowest)
}

/// A pair is warm when a short run passes without an error and not mostly waiting: a proxy that is still getting its
/// certificate lets connections wait. Refused connections fail at once, so a thousand tries are a few seconds; tries that
/// take a second each are ten.
pub(crate) fn warm_up(lab: &Lab, pair: &Pair) -> anyhow::Result<()> {
    const WARM: f64 = 1000.0;
    let lab = pair.lab(lab);
    let (mut quick, mut slow) = (0, 0);
    loop {
        let outcome = match pair.carries {
            Carries::Http2 => load::h2load(lab, pair, 1),
            Carries::Http1 | Carries::Tcp => load::wrk(lab, pair, 16, Heads::Plain, false, 1),
        };
        let rate = |values: &Values| {
            let rate = values
                .iter()
                .find(|(metric, _)| *metric == Metric::PerSecond);
            rate.map_or(0.0, |(_, rate)| *rate)
        };
        match &outcome {
            Ok(values) if rate(values) >= WARM => return Ok(()),
            Err(error) if format!("{error:#}").contains("refused") => quick += 1,
            Ok(_) | Err(_) => slow += 1,
        }
        if quick == 1000 || slow == 10 {
            outcome.with_context(|| format!("{} never answered well", pair.peer))?;
            bail!("{} answers fewer than {WARM} requests a second", pair.peer);
        }
    }
}
