// SPDX-License-Identifier: Apache-2.0
//! `maille-bench`: the pair of proxies beside its peers, alternating in one run.
//!
//! Two network namespaces joined by a veth; the pair under test on one core, load and backend on another; the kernel's
//! own accounting of the proxies' CPU time. Absolute numbers do not carry to another machine: read the ratios. It never
//! sends a packet outside the namespaces that it makes. Read `axes.rs` for what is measured, `counts.rs` for what is counted.
#![forbid(unsafe_code)]

mod axes;
mod counts;
mod echo;
mod lab;
mod load;
mod measure;
mod pause;
mod peers;
mod report;
mod soak;
mod tap;
mod taps;
mod turns;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use axes::Axis;
use clap::{Parser, Subcommand, ValueEnum as _};
use peers::Peer;

/// Rounds and seconds where nothing is said, and with `--quick`.
const FULL: (u32, u32) = (7, 3);
const QUICK: (u32, u32) = (3, 1);

/// What to measure.
#[derive(Parser, Debug, Clone)]
#[command(
    name = "maille-bench",
    version,
    about = "Maille beside its peers, in one run",
    args_conflicts_with_subcommands = true
)]
struct Options {
    #[command(subcommand)]
    what: Option<What>,
    /// A few axes and short rounds: two minutes, for every day.
    #[arg(long)]
    quick: bool,
    /// Alternating rounds; a ratio is the median over them. 7, or 3 with --quick.
    #[arg(long)]
    rounds: Option<u32>,
    /// Seconds of each measurement. 3, or 1 with --quick.
    #[arg(long)]
    seconds: Option<u32>,
    /// Only these axes, by the names of the table.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Axis>,
    /// Which peers take part.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<Peer>,
    /// Where maille-proxy and maille-control are; the folder of this program by default.
    #[arg(long)]
    bin_dir: Option<PathBuf>,
    /// Write all samples, medians and verdicts here as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Fail when anything exceeds this multiple of what it must be.
    #[arg(long)]
    gate: Option<f64>,
}

/// What there is beside times.
#[derive(Subcommand, Debug, Clone)]
enum What {
    /// What a request costs in system calls, packets, instructions and allocations, beside what is written down.
    Counts(counts::Options),
    /// What taps cost.
    Taps(taps::Options),
    /// The pair at four fifths of what it bears while connections, endpoints and certificates come and go: whether anything grows.
    Soak(soak::Options),
    /// HTTP/2 that sends back what it is sent: where streams go.
    #[command(hide = true)]
    Echo {
        /// Address and port.
        listen: String,
    },
    /// So many turns of the two cores alone: what `counts` looks at.
    #[command(hide = true)]
    Turns {
        /// Turns, of 64 requests each.
        #[arg(long)]
        rounds: u32,
        /// What the requests look like.
        #[arg(long)]
        heads: load::Heads,
        /// With an access log.
        #[arg(long)]
        planted: bool,
    },
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("maille-bench: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether everything is as it must be.
fn run(options: &Options) -> anyhow::Result<bool> {
    let bin_dir = match &options.bin_dir {
        Some(dir) => dir.clone(),
        None => std::env::current_exe()?
            .parent()
            .context("own folder")?
            .to_path_buf(),
    };
    let lab = || lab::Lab::build().context("building the namespaces");
    match &options.what {
        None => times(&lab()?, &bin_dir, options),
        Some(What::Counts(options)) => counts::run(&bin_dir, options),
        Some(What::Taps(options)) => taps::run(&lab()?, &bin_dir, options).map(|()| true),
        Some(What::Soak(options)) => soak::run(&lab()?, &bin_dir, options),
        Some(What::Echo { listen }) => echo::run(listen).map(|()| true),
        Some(What::Turns {
            rounds,
            heads,
            planted,
        }) => turns::run(*rounds, *heads, *planted).map(|()| true),
    }
}

fn times(lab: &lab::Lab, bin_dir: &std::path::Path, options: &Options) -> anyhow::Result<bool> {
    let (rounds, seconds) = if options.quick { QUICK } else { FULL };
    let amount = measure::Amount {
        rounds: options.rounds.unwrap_or(rounds),
        seconds: options.seconds.unwrap_or(seconds),
    };
    let axes = match &options.only[..] {
        [] if options.quick => Axis::quick(),
        [] => Axis::all(),
        only => only.to_vec(),
    };
    let wanted = match &options.peers[..] {
        // Two minutes have no room for worlds of their own.
        [] if options.quick => Peer::EXPLICIT,
        [] => Peer::value_variants(),
        peers => peers,
    };
    let samples = measure::all(lab, bin_dir, (&axes, wanted), amount)?;
    let report = report::Report::of(samples);
    eprint!("{report}");
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_vec_pretty(&report)?)
            .with_context(|| path.display().to_string())?;
    }
    let Some(gate) = options.gate else {
        return Ok(true);
    };
    let worst = report
        .worst()
        .context("nothing was measured that has a budget")?;
    eprintln!("gate: at worst {worst:.2} of what it must be, at most {gate:.2} is allowed");
    Ok(worst <= gate)
}
