// SPDX-License-Identifier: Apache-2.0
//! What it costs Maille's pair that somebody watches: the same load with nobody, and with taps of each kind, by turns.
//!
//! Must never take a tap for open that tells nothing where it should. Read `tap.rs` for who watches.

use anyhow::ensure;
use clap::{Args, ValueEnum as _};

use crate::lab::Lab;
use crate::load::{self, Heads, Metric};
use crate::measure;
use crate::peers::{self, Carries, Peer};
use crate::report::median;
use crate::tap::{Tap, Watching};

/// `maille-bench taps`.
#[derive(Args, Debug, Clone)]
pub(crate) struct Options {
    /// Alternating rounds.
    #[arg(long, default_value_t = 9)]
    rounds: u32,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 3)]
    seconds: u32,
}

/// Prints the medians, a line for each kind of tap.
pub(crate) fn run(lab: &Lab, bin_dir: &std::path::Path, options: &Options) -> anyhow::Result<()> {
    let _support = peers::support(lab, bin_dir, true)?;
    let pair = &peers::pair(lab, bin_dir, (Peer::Maille, Carries::Http1))?;
    measure::warm_up(lab, pair)?;
    let mut order = Tap::value_variants().to_vec();
    let mut spent = vec![Vec::new(); order.len()];
    for _ in 0..options.rounds {
        for tap in &order {
            let watching = tap.open(&lab.scratch().join("state"))?;
            let values = load::wrk(lab, pair, 64, Heads::Plain, false, options.seconds)?;
            let tapped = watching.map_or(0, Watching::end);
            // The head of the answer is longer than a tap that tells nothing.
            let told = tapped > 1024;
            ensure!(
                told == matches!(tap, Tap::Some | Tap::All),
                "the tap {tap:?} gave {tapped} bytes"
            );
            let cpu = values.iter().find(|(metric, _)| *metric == Metric::CpuUs);
            spent[*tap as usize].extend(cpu.map(|(_, value)| *value));
        }
        order.rotate_left(1);
    }
    for tap in Tap::value_variants() {
        let middle = median(spent[*tap as usize].clone());
        eprintln!("tap {tap:?}: {middle:.2} us CPU a request");
    }
    Ok(())
}
