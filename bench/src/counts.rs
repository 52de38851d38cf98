// SPDX-License-Identifier: Apache-2.0
//! What a request costs in things that can be counted: system calls and packets of the pair at one connection, instructions and allocations of
//! the pair at one connection and of the two cores alone at 64 requests a turn. They hardly depend on what else the machine does, so that a
//! regression of a few hundredths is seen the day it is made. Each figure is the difference between a long run and a short one, over the requests
//! that lie between: what starting and ending costs falls out.
//!
//! Must never count a process of which the tool has not written everything down. Read `turns.rs` for the cores alone.

use std::collections::BTreeMap;
use std::fmt;
use std::io::BufReader;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, ValueEnum as _};
use maille_chassis::clock::Clock;
use serde::{Deserialize, Serialize};

use crate::lab::{Lab, Side};
use crate::load::{Heads, request};
use crate::pause::pause;
use crate::peers::{self, Looked, Under};
use crate::turns;

/// Requests of the short and of the long run.
const RUNS: [u32; 2] = [500, 2_500];
/// Turns of the short and of the long run.
const TURNS: [u32; 2] = [40, 140];
/// How much more than what is written down a figure may be.
const MORE: f64 = 1.03;
/// The scenario of two processes: where they take longer their timers do more, of what is counted in ones.
const PROCESSES: &str = "one connection";
/// By how much what is counted in ones differs from run to run: there, and of the cores alone.
const NOISE: [f64; 2] = [0.25, 0.02];
/// How long a tool may take to write down what it saw.
const WRITTEN: Duration = Duration::from_secs(60);
/// How long to wait before looking again.
const MOMENT: Duration = Duration::from_millis(20);
/// How long the pair may take until it answers, under a tool that makes it fifty times as slow.
const WARM: Duration = Duration::from_secs(120);

/// `maille-bench counts`.
#[derive(Args, Debug, Clone)]
pub(crate) struct Options {
    /// What was written down last: nothing may be more than three hundredths worse.
    #[arg(long, default_value = "bench/counts.json")]
    known: PathBuf,
    /// Write down what is counted now instead.
    #[arg(long)]
    write: bool,
    /// Plant a regression in each figure, and fail unless every one is seen.
    #[arg(long, conflicts_with = "write")]
    planted: bool,
}

/// Figures for one request, by scenario and name.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
struct Figures(BTreeMap<String, BTreeMap<Figure, f64>>);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Figure {
    SystemCalls,
    Packets,
    Instructions,
    Allocations,
}

/// Which tool looks at a process.
#[derive(Clone, Copy, Debug)]
enum Tool {
    /// `strace`: system calls.
    Strace,
    /// valgrind's callgrind: instructions outside the kernel.
    Callgrind,
    /// valgrind's dhat: allocations.
    Dhat,
}

/// Counts everything. Whether nothing got worse, or with `planted` whether everything was seen to.
pub(crate) fn run(bin_dir: &Path, options: &Options) -> anyhow::Result<bool> {
    let counted = count(bin_dir, options.planted)?;
    eprint!("{counted}");
    if options.write {
        let text = serde_json::to_string_pretty(&counted)? + "\n";
        std::fs::write(&options.known, text)
            .with_context(|| options.known.display().to_string())?;
        return Ok(true);
    }
    let text =
        std::fs::read(&options.known).with_context(|| options.known.display().to_string())?;
    let known: Figures = serde_json::from_slice(&text)
        .with_context(|| format!("{} is no list of figures", options.known.display()))?;
    let worse = known.worse(&counted)?;
    for line in &worse {
        eprintln!("{line}");
    }
    if !options.planted {
        return Ok(worse.is_empty());
    }
    let all: usize = known.0.values().map(BTreeMap::len).sum();
    ensure!(
        worse.len() == all,
        "{} of {all} figures saw what was planted",
        worse.len()
    );
    Ok(true)
}

fn count(bin_dir: &Path, planted: bool) -> anyhow::Result<Figures> {
    let mut figures = Figures::default();
    let pair = figures.0.entry(PROCESSES.to_owned()).or_default();
    for tool in [Tool::Strace, Tool::Callgrind, Tool::Dhat] {
        let [short, long] = RUNS.map(|requests| run_pair(bin_dir, tool, requests, planted));
        let (short, long) = (short?, long?);
        let between = f64::from(RUNS[1] - RUNS[0]);
        pair.insert(tool.figure(), (long.0 - short.0) as f64 / between);
        if matches!(tool, Tool::Strace) {
            pair.insert(Figure::Packets, (long.1 - short.1) as f64 / between);
        }
    }
    for heads in Heads::value_variants() {
        let name = format!("{} requests a turn, {heads:?} heads", turns::CLIENTS);
        let alone = figures.0.entry(name.to_lowercase()).or_default();
        for tool in [Tool::Callgrind, Tool::Dhat] {
            let [short, long] = TURNS.map(|turns| run_turns(tool, turns, *heads, planted));
            let between = f64::from(TURNS[1] - TURNS[0]) * turns::CLIENTS as f64;
            alone.insert(tool.figure(), (long? - short?) as f64 / between);
        }
    }
    Ok(figures)
}

/// What the tool counted in both proxies while so many requests went through them, one after the other; and the packets between the two.
fn run_pair(
    bin_dir: &Path,
    tool: Tool,
    requests: u32,
    planted: bool,
) -> anyhow::Result<(i64, i64)> {
    let lab = Lab::build().context("building the namespaces")?;
    let reports = ["client", "server"].map(|name| lab.scratch().join(format!("{name}.counts")));
    let under = |side: usize| tool.under(&reports[side]);
    if planted {
        lab.narrow()?;
    }
    let looked = Looked {
        under: Some([under(0), under(1)]),
        logged: planted,
    };
    let (support, pair) = peers::watched(&lab, bin_dir, &looked)?;
    let before = packets(&lab)?;
    let (entry, asked) = (&pair.entry, |entry: &str| ask(entry, requests));
    let asked = lab.inside(Side::Client, || asked(entry))?;
    if let Err(error) = asked {
        let logs = pair.proxies.iter().map(|one| one.borrow().tail());
        bail!(
            "{tool:?}: {error:#}: {}",
            logs.collect::<Vec<_>>().join("; ")
        );
    }
    let between = packets(&lab)? - before;
    for proxy in pair.proxies {
        proxy.into_inner().end(WRITTEN)?;
    }
    drop(support);
    let mut total = 0;
    for report in &reports {
        total += tool.read(report)?;
    }
    Ok((total, between))
}

/// The same of the two cores alone.
fn run_turns(tool: Tool, turns: u32, heads: Heads, planted: bool) -> anyhow::Result<i64> {
    let scratch = tempfile::tempdir()?;
    let report = scratch.path().join("counts");
    let Under { program, args } = tool.under(&report);
    let mut command = Command::new(program);
    command.args(args).arg(std::env::current_exe()?);
    command.args(["turns", "--rounds", &turns.to_string()]);
    command.args(["--heads", &format!("{heads:?}").to_lowercase()]);
    if planted {
        command.arg("--planted");
    }
    let output = command.output().context("running valgrind")?;
    ensure!(
        output.status.success(),
        "turns: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    tool.read(&report)
}

/// Packets on the wire between the two proxies so far, both ways.
fn packets(lab: &Lab) -> anyhow::Result<i64> {
    lab.inside(Side::Client, || {
        // Of the namespace of who reads, where `/sys` would tell of the one that it was mounted in.
        let text = std::fs::read_to_string("/proc/thread-self/net/dev")?;
        let lines = text.lines().map(str::trim);
        let line = lines.filter_map(|line| line.strip_prefix("wire:")).next();
        let columns: Vec<_> = line.context("no wire")?.split_whitespace().collect();
        let [_, received, _, _, _, _, _, _, _, sent, ..] = columns[..] else {
            bail!("a short line: {columns:?}");
        };
        Ok(received.parse::<i64>()? + sent.parse::<i64>()?)
    })?
}

/// Asks until somebody answers, then so many times on one connection.
fn ask(entry: &str, requests: u32) -> anyhow::Result<()> {
    let clock = Clock::start();
    let dial = || -> anyhow::Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect(entry)?;
        stream.set_read_timeout(Some(WARM))?;
        let mut stream = BufReader::new(stream);
        request(&mut stream)?;
        Ok(stream)
    };
    let mut stream = loop {
        match dial() {
            Ok(stream) => break stream,
            Err(error) if clock.elapsed() > WARM => return Err(error.context("nobody answers")),
            Err(_) => pause(MOMENT)?,
        }
    };
    for _ in 0..requests {
        request(&mut stream)?;
    }
    Ok(())
}

impl Tool {
    const fn figure(self) -> Figure {
        match self {
            Self::Strace => Figure::SystemCalls,
            Self::Callgrind => Figure::Instructions,
            Self::Dhat => Figure::Allocations,
        }
    }

    /// How a program is run under it, so that it writes what it saw to `report`, as the process that was started.
    fn under(self, report: &Path) -> Under {
        let report = report.display();
        let (program, args) = match self {
            // The tracer is a grandchild: a signal to the process goes to the program.
            Self::Strace => ("strace", format!("-D -f -c -o {report}")),
            Self::Callgrind => (
                "valgrind",
                format!("--tool=callgrind --callgrind-out-file={report}"),
            ),
            Self::Dhat => ("valgrind", format!("--tool=dhat --dhat-out-file={report}")),
        };
        Under {
            program: PathBuf::from(program),
            args: args.split(' ').map(str::to_owned).collect(),
        }
    }

    /// What it saw in all, once it has written that down.
    fn read(self, report: &Path) -> anyhow::Result<i64> {
        let clock = Clock::start();
        loop {
            // The tracer ends after the program that it traces.
            let text = std::fs::read_to_string(report).unwrap_or_default();
            match self.total(&text) {
                Some(total) => return Ok(total),
                None if clock.elapsed() > WRITTEN => {
                    bail!("{self:?} wrote nothing that is understood: {text:.300}")
                }
                None => pause(MOMENT)?,
            }
        }
    }

    fn total(self, text: &str) -> Option<i64> {
        match self {
            // `100.00    0.012345           1      2500        17 total`
            Self::Strace => {
                let line = text.lines().rfind(|line| line.ends_with(" total"))?;
                line.split_whitespace().nth(3)?.parse().ok()
            }
            Self::Callgrind => text.contains("\ntotals: ").then(|| instructions(text)),
            // Every place that allocates, with how many blocks: "tbk".
            Self::Dhat => {
                let report: serde_json::Value = serde_json::from_str(text).ok()?;
                let places = report["pps"].as_array()?;
                places.iter().map(|place| place["tbk"].as_i64()).sum()
            }
        }
    }
}

/// What callgrind counted, but for the making of entropy, which takes as long as the processor's moods want it.
///
/// Lines `fl=(NUMBER) FILE`, the file once for each number, say where the costs below belong, each `LINE COST`; one after a line `calls=` is the callee's.
fn instructions(text: &str) -> i64 {
    let (mut entropy, mut counted, mut callee) = (BTreeMap::new(), true, false);
    let mut total = 0;
    for line in text.lines() {
        if let Some((key @ ("fl" | "fi" | "fe" | "cfl" | "cfi"), file)) = line.split_once('=') {
            let (number, name) = file.split_once(' ').unwrap_or((file, ""));
            if !name.is_empty() {
                entropy.insert(number, name.contains("jitterentropy"));
            }
            // Of a callee only the name is said.
            if !key.starts_with('c') {
                counted = !entropy.get(number).copied().unwrap_or(false);
            }
        } else if line.starts_with("calls=") {
            callee = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            let cost = line
                .split_whitespace()
                .nth(1)
                .and_then(|cost| cost.parse::<i64>().ok());
            if counted && !callee {
                total += cost.unwrap_or(0);
            }
            callee = false;
        }
    }
    total
}

impl Figures {
    /// What is worse in `counted` than here, a line each.
    fn worse(&self, counted: &Self) -> anyhow::Result<Vec<String>> {
        let mut worse = Vec::new();
        for (scenario, figures) in &self.0 {
            for (figure, known) in figures {
                let now = counted.0.get(scenario).and_then(|now| now.get(figure));
                let now = now.with_context(|| format!("{scenario}: no {figure:?} was counted"))?;
                if *now > known * MORE + figure.noise(scenario) {
                    worse.push(format!(
                        "{scenario}: {now:.2} {figure} a request, {known:.2} are known"
                    ));
                }
            }
        }
        Ok(worse)
    }
}

impl Figure {
    fn noise(self, scenario: &str) -> f64 {
        match self {
            Self::SystemCalls | Self::Packets | Self::Allocations if scenario == PROCESSES => {
                NOISE[0]
            }
            Self::SystemCalls | Self::Packets | Self::Allocations => NOISE[1],
            Self::Instructions => 0.0,
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SystemCalls => "system calls",
            Self::Packets => "packets",
            Self::Instructions => "instructions",
            Self::Allocations => "allocations",
        })
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (scenario, figures) in &self.0 {
            for (figure, value) in figures {
                writeln!(f, "{scenario}: {value:.2} {figure} a request")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals() {
        let text = "% time     seconds\n 99.00 0.1 1 5 recvfrom\n100.00    0.012345           1      2500        17 total\n";
        assert_eq!(Tool::Strace.total(text), Some(2500));
        assert_eq!(Tool::Strace.total("100.00    0.01"), None);
        let text = "fl=(1) a.c\nfn=(1) f\n+3 7\ncfi=(2) x/jitterentropy-noise.c\ncalls=1 2\n5 100\nfi=(2)\n* 50\nfe=(1)\n-1 2\n";
        assert_eq!(Tool::Callgrind.total(text), None);
        let text = format!("{text}\ntotals: 159\n");
        assert_eq!(Tool::Callgrind.total(&text), Some(9));
        let text = r#"{"pps":[{"tb":10,"tbk":3},{"tb":1,"tbk":4}]}"#;
        assert_eq!(Tool::Dhat.total(text), Some(7));
    }

    #[test]
    fn three_hundredths_are_noise_and_four_are_not() {
        let of = |value| {
            let figures = BTreeMap::from([(Figure::Instructions, value)]);
            Figures(BTreeMap::from([("one".to_owned(), figures)]))
        };
        assert!(of(100.0).worse(&of(103.0)).unwrap().is_empty());
        assert_eq!(of(100.0).worse(&of(104.0)).unwrap().len(), 1);
        assert!(of(100.0).worse(&Figures::default()).is_err());
    }
}
