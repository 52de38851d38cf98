// SPDX-License-Identifier: Apache-2.0
//! `maille-bench`: the pair of proxies beside its peers, alternating in one run.
//!
//! Two network namespaces joined by a veth; the pair under test on one core, load and backend on another; the kernel's
//! own accounting of the proxies' CPU time. Absolute numbers do not carry to another machine: read the ratios. It never
//! sends a packet outside the namespaces that it makes. Read `lab.rs` next.
#![forbid(unsafe_code)]

mod lab;
mod measure;
mod pairs;
mod report;
mod tap;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;

/// What to measure.
#[derive(Parser, Debug, Clone)]
#[command(
    name = "maille-bench",
    version,
    about = "Maille beside its peers, in one run"
)]
pub(crate) struct Options {
    /// Alternating rounds; a ratio is the median over them.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// Connections, one column each.
    #[arg(long, value_delimiter = ',', default_value = "1,64")]
    connections: Vec<u32>,
    /// `plain`: one header, one path. `real`: 14 headers, changing paths and cookies.
    #[arg(long, value_delimiter = ',', default_value = "plain,real")]
    heads: Vec<measure::Heads>,
    /// Which pairs run.
    #[arg(long, value_delimiter = ',', default_value = "maille,haproxy")]
    pairs: Vec<pairs::Peer>,
    /// Who taps Maille's pair meanwhile, in turn: none, idle, some, all.
    #[arg(long, value_delimiter = ',', default_value = "none")]
    taps: Vec<tap::Tap>,
    /// Where maille-proxy and maille-control are; the folder of this program by default.
    #[arg(long)]
    bin_dir: Option<PathBuf>,
    /// Write all samples and medians here as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Fail when Maille's CPU for a request at 64 connections, plain heads, exceeds this multiple of haproxy's.
    #[arg(long)]
    gate: Option<f64>,
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

fn run(options: &Options) -> anyhow::Result<bool> {
    let bin_dir = match &options.bin_dir {
        Some(dir) => dir.clone(),
        None => std::env::current_exe()?
            .parent()
            .context("own folder")?
            .to_path_buf(),
    };
    let lab = lab::Lab::build().context("building the namespaces")?;
    let pairs = pairs::start(&lab, &bin_dir, &options.pairs)?;
    let samples = measure::all(&lab, &pairs, options)?;
    let report = report::Report::of(&samples);
    eprint!("{report}");
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_vec_pretty(&report)?)
            .with_context(|| path.display().to_string())?;
    }
    let Some(gate) = options.gate else {
        return Ok(true);
    };
    let ratio = report
        .gate_ratio()
        .context("the gate needs maille and haproxy at 64 connections with plain heads")?;
    eprintln!(
        "gate: maille costs {ratio:.2}x haproxy's CPU for a request, at most {gate:.2}x is allowed"
    );
    Ok(ratio <= gate)
}
