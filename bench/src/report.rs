// SPDX-License-Identifier: Apache-2.0
//! Medians, ratios of one round with their interval, and whether the budgets are kept. A table, JSON, and a plot.
//!
//! Must never compare values of different rounds. Read `axes.rs` for the budgets.

use std::fmt;

use clap::ValueEnum as _;
use serde::Serialize;

use crate::axes::{Axis, Budget};
use crate::load::Metric;
use crate::measure::Sample;
use crate::peers::Peer;

/// Draws for the interval of a median.
const DRAWS: usize = 2_000;
/// How much above the *must* the upper end of the interval may be.
const UPPER: f64 = 1.05;
/// Columns of the plot.
const WIDTH: u8 = 48;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    rows: Vec<Row>,
    verdicts: Vec<Verdict>,
    samples: Vec<Sample>,
}

/// One metric of one axis.
#[derive(Debug, Serialize)]
struct Row {
    axis: String,
    metric: Metric,
    medians: Vec<(Peer, f64)>,
    /// Maille to the axis' reference.
    to: Option<(Peer, Interval)>,
}

/// A median over the rounds, and where it lies with nine chances of ten.
#[derive(Clone, Copy, Debug, Serialize)]
struct Interval {
    median: f64,
    low: f64,
    high: f64,
}

/// Whether a budget is kept.
#[derive(Debug, Serialize)]
struct Verdict {
    axis: String,
    of: Peer,
    metric: Metric,
    to: Option<Peer>,
    value: Interval,
    must: f64,
    aim: f64,
    kept: bool,
    aimed: bool,
}

impl Report {
    pub(crate) fn of(samples: Vec<Sample>) -> Self {
        let mut axes = Vec::new();
        for sample in &samples {
            if !axes.contains(&sample.axis) {
                axes.push(sample.axis);
            }
        }
        let rows = axes.iter().flat_map(|axis| rows(&samples, *axis)).collect();
        let verdicts = axes.iter().flat_map(|axis| {
            let budgets = axis.budgets().into_iter();
            let judge = |budget| judge(&samples, *axis, budget);
            budgets.filter_map(judge).collect::<Vec<_>>()
        });
        Self {
            rows,
            verdicts: verdicts.collect(),
            samples,
        }
    }

    /// The largest median of what Maille needs to what it must, over all budgets: 1 is just kept. Nothing where no budget was measured.
    pub(crate) fn worst(&self) -> Option<f64> {
        let each = self.verdicts.iter().map(|one| one.value.median / one.must);
        each.max_by(f64::total_cmp)
    }
}

fn rows(samples: &[Sample], axis: Axis) -> Vec<Row> {
    let mut metrics: Vec<Metric> = Vec::new();
    for sample in samples.iter().filter(|sample| sample.axis == axis) {
        metrics.extend(sample.values.keys());
    }
    metrics.sort_unstable();
    metrics.dedup();
    let row = |metric| {
        let of = |peer: &Peer| {
            let values = values(samples, axis, *peer, metric);
            (!values.is_empty()).then(|| (*peer, median(values)))
        };
        let reference = axis.reference();
        let ratios = ratios(samples, (axis, metric), (Peer::Maille, reference));
        Row {
            axis: axis.to_string(),
            metric,
            medians: axis.peers().iter().filter_map(of).collect(),
            to: (!ratios.is_empty()).then(|| (reference, Interval::of(&ratios))),
        }
    };
    metrics.into_iter().map(row).collect()
}

fn judge(samples: &[Sample], axis: Axis, budget: Budget) -> Option<Verdict> {
    let Budget {
        of,
        metric,
        to,
        must,
        aim,
    } = budget;
    let each = match to {
        Some(peer) => ratios(samples, (axis, metric), (of, peer)),
        None => values(samples, axis, of, metric),
    };
    if each.is_empty() {
        return None;
    }
    let value = Interval::of(&each);
    Some(Verdict {
        axis: axis.to_string(),
        of,
        metric,
        to,
        value,
        must,
        aim,
        kept: value.median <= must && value.high <= must * UPPER,
        aimed: value.median <= aim,
    })
}

fn values(samples: &[Sample], axis: Axis, peer: Peer, metric: Metric) -> Vec<f64> {
    let of = samples
        .iter()
        .filter(|sample| sample.axis == axis && sample.peer == peer);
    of.filter_map(|sample| sample.values.get(&metric).copied())
        .collect()
}

/// One peer's value to the other's, for each round.
fn ratios(samples: &[Sample], (axis, metric): (Axis, Metric), (one, to): (Peer, Peer)) -> Vec<f64> {
    let of = |peer, round| {
        let same =
            |sample: &&Sample| sample.axis == axis && sample.peer == peer && sample.round == round;
        samples.iter().find(same)?.values.get(&metric).copied()
    };
    let rounds = samples.iter().map(|sample| sample.round).max();
    let rounds = 0..=rounds.unwrap_or(0);
    rounds
        .filter_map(|round| Some(of(one, round)? / of(to, round)?))
        .filter(|ratio| ratio.is_finite())
        .collect()
}

impl Interval {
    /// By drawing the rounds again and again, the same draws in every run.
    fn of(values: &[f64]) -> Self {
        let mut random = fastrand::Rng::with_seed(1);
        let mut medians: Vec<f64> = (0..DRAWS)
            .map(|_| {
                let drawn = (0..values.len()).map(|_| values[random.usize(..values.len())]);
                median(drawn.collect())
            })
            .collect();
        medians.sort_by(f64::total_cmp);
        Self {
            median: median(values.to_vec()),
            low: medians[DRAWS / 20],
            high: medians[DRAWS - DRAWS / 20 - 1],
        }
    }
}

/// The middle value; NaN of nothing.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} [{:.2} {:.2}]", self.median, self.low, self.high)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n| axis | what | maille | outboard | inboard | haproxy | nginx | envoy | maille to |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|")?;
        for row in &self.rows {
            write!(f, "| {} | {} |", row.axis, row.metric.name())?;
            for peer in Peer::value_variants() {
                let found = row.medians.iter().find(|(of, _)| of == peer);
                match found {
                    Some((_, value)) if *value >= 1000.0 => write!(f, " {value:.0} |")?,
                    Some((_, value)) => write!(f, " {value:.2} |")?,
                    None => write!(f, " - |")?,
                }
            }
            match &row.to {
                Some((peer, ratio)) => writeln!(f, " {peer}: {ratio} |")?,
                None => writeln!(f, " - |")?,
            }
        }
        writeln!(
            f,
            "\n| axis | whose | what | to | must | aim | measured | kept |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|")?;
        for one in &self.verdicts {
            let to = one
                .to
                .map_or_else(|| "-".to_owned(), |peer| peer.to_string());
            let kept = match (one.kept, one.aimed) {
                (true, true) => "yes, and the aim",
                (true, false) => "yes",
                (false, _) => "no",
            };
            let (axis, of, what) = (&one.axis, one.of, one.metric.name());
            let (must, aim, value) = (one.must, one.aim, one.value);
            writeln!(
                f,
                "| {axis} | {of} | {what} | {to} | {must:.2} | {aim:.2} | {value} | {kept} |"
            )?;
        }
        self.plot(f)
    }
}

impl Report {
    /// CPU for each request or byte beside the peers, for a report that takes no tables.
    fn plot(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cpu = |row: &&Row| matches!(row.metric, Metric::CpuUs | Metric::CpuPerGb);
        writeln!(f)?;
        for row in self.rows.iter().filter(cpu) {
            let most = row.medians.iter().map(|(_, value)| *value);
            let most = most.fold(f64::MIN_POSITIVE, f64::max);
            writeln!(f, "{} ({})", row.axis, row.metric.name())?;
            for (peer, value) in &row.medians {
                let bar: String = (1..=WIDTH)
                    .filter(|column| f64::from(*column) <= value / most * f64::from(WIDTH))
                    .map(|_| '#')
                    .collect();
                writeln!(f, "  {:8} {bar} {value:.2}", peer.to_string())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn sample(round: u32, peer: Peer, cpu: f64) -> Sample {
        Sample {
            round,
            axis: Axis::Http2,
            peer,
            values: BTreeMap::from([(Metric::CpuUs, cpu)]),
        }
    }

    #[test]
    fn medians() {
        assert!(median(vec![]).is_nan());
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn ratios_are_of_one_round_each() {
        let rounds = [(10.0, 20.0), (100.0, 200.0), (30.0, 20.0)];
        let mut samples = Vec::new();
        for (round, (own, other)) in (0..).zip(rounds) {
            samples.push(sample(round, Peer::Haproxy, other));
            samples.push(sample(round, Peer::Maille, own));
        }
        let found = ratios(
            &samples,
            (Axis::Http2, Metric::CpuUs),
            (Peer::Maille, Peer::Haproxy),
        );
        assert_eq!(found, [0.5, 0.5, 1.5]);
        let report = Report::of(samples);
        assert_eq!(report.worst(), Some(0.5));
        // One bad round of three is within nine chances of ten.
        assert!(!report.verdicts[0].kept && report.verdicts[0].aimed);
    }
}
