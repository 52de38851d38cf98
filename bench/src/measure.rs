// SPDX-License-Identifier: Apache-2.0
//! One measurement: `wrk` against a pair's entry, and the CPU time that the pair's two processes spent meanwhile.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use serde::Serialize;

use crate::Options;
use crate::lab::{Core, Lab, Side};
use crate::pairs::{Pair, Pairs, Peer};
use crate::tap::Tap;

/// What the requests look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Heads {
    /// One header, one path: kind to header compression, as most published numbers are.
    Plain,
    /// 14 headers, a path and a request id that change with every request, one cookie of eight.
    Real,
}

/// What one run of the load generator gave.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    pub(crate) peer: Peer,
    pub(crate) heads: Heads,
    pub(crate) connections: u32,
    pub(crate) tap: Tap,
    /// Bytes of lines that the tap gave.
    pub(crate) tapped: u64,
    pub(crate) rps: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// CPU time of the pair for one request, in microseconds.
    pub(crate) cpu_us: f64,
    /// Resident set of the larger proxy afterwards, in KiB.
    pub(crate) rss_kib: u64,
}

const REAL_HEADS: &str = r#"
local n = 0
local fixed = {
  ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36",
  ["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
  ["Accept-Encoding"] = "gzip, deflate, br", ["Accept-Language"] = "en-GB,en;q=0.9,fr;q=0.8",
  ["Cache-Control"] = "no-cache", ["Referer"] = "http://bench.local/catalog", ["Sec-Fetch-Mode"] = "cors",
  ["Sec-Fetch-Site"] = "same-origin", ["Sec-Fetch-Dest"] = "empty", ["X-Forwarded-Proto"] = "https", ["X-Tenant"] = "blue",
}
request = function()
  n = n + 1
  fixed["X-Request-Id"] = string.format("%08x-4bf9-%04x", n * 2654435761 % 4294967296, n % 65536)
  fixed["Cookie"] = "session=0123456789abcdef" .. (n % 8)
  return wrk.format("GET", "/v1/items/" .. (n % 5000) .. "?page=" .. (n % 7), fixed)
end
"#;

/// Warms every pair up, then measures all of them in each round, in an order that rotates.
pub(crate) fn all(lab: &Lab, pairs: &Pairs, options: &Options) -> anyhow::Result<Vec<Sample>> {
    std::fs::write(lab.scratch().join("real.lua"), REAL_HEADS)?;
    let mut pairs: Vec<&Pair> = pairs.pairs.iter().collect();
    for pair in &pairs {
        warm_up(lab, pair)?;
    }
    let mut order = options.taps.clone();
    let mut samples = Vec::new();
    for round in 0..options.rounds {
        for &heads in &options.heads {
            for &connections in &options.connections {
                for pair in &pairs {
                    for &tap in taps(pair, &mut order) {
                        let sample = tapped(lab, pair, (heads, connections, tap), options)?;
                        eprintln!(
                            "round {} {:12} {:5?} c{:<3} tap {:4?} {:8.0} rps {:7.2} us CPU a request",
                            round + 1,
                            sample.peer.to_string(),
                            heads,
                            connections,
                            tap,
                            sample.rps,
                            sample.cpu_us
                        );
                        samples.push(sample);
                    }
                }
            }
        }
        pairs.rotate_left(1);
    }
    Ok(samples)
}

/// Who taps this pair, in an order that rotates: others than Maille cannot be tapped.
fn taps<'a>(pair: &Pair, order: &'a mut [Tap]) -> &'a [Tap] {
    if pair.peer != Peer::Maille {
        return &[Tap::None];
    }
    order.rotate_left(1);
    order
}

/// One measurement with somebody who watches.
fn tapped(
    lab: &Lab,
    pair: &Pair,
    (heads, connections, tap): (Heads, u32, Tap),
    options: &Options,
) -> anyhow::Result<Sample> {
    let watching = tap.open(&lab.scratch().join("state"))?;
    let sample = one(lab, pair, heads, connections, options.seconds)?;
    let tapped = watching.map_or(0, crate::tap::Watching::end);
    // The head of the answer is longer than a tap that tells nothing.
    let told = tapped > 1024;
    if told != matches!(tap, Tap::Some | Tap::All) {
        bail!("the tap {tap:?} gave {tapped} bytes");
    }
    Ok(Sample {
        tap,
        tapped,
        ..sample
    })
}

/// A pair is warm when a short run passes without an error and not mostly waiting: a proxy that is still getting its
/// certificate lets connections wait. Refused connections fail at once, so a thousand tries are a few seconds; tries that
/// take a second each are ten.
fn warm_up(lab: &Lab, pair: &Pair) -> anyhow::Result<()> {
    const WARM_RPS: f64 = 1000.0;
    let (mut quick, mut slow) = (0, 0);
    loop {
        let outcome = one(lab, pair, Heads::Plain, 16, 1);
        match &outcome {
            Ok(sample) if sample.rps >= WARM_RPS => return Ok(()),
            Err(error) if format!("{error:#}").contains("refused") => quick += 1,
            Ok(_) | Err(_) => slow += 1,
        }
        if quick == 1000 || slow == 10 {
            outcome.with_context(|| format!("{} never answered well", pair.peer))?;
            bail!(
                "{} answers fewer than {WARM_RPS} requests a second",
                pair.peer
            );
        }
    }
}

fn one(
    lab: &Lab,
    pair: &Pair,
    heads: Heads,
    connections: u32,
    seconds: u32,
) -> anyhow::Result<Sample> {
    let before = cpu(pair)?;
    let mut command = lab.command(Side::Client, Core::Load, Path::new("wrk"));
    command.args([
        "--latency",
        "-t1",
        "-c",
        &connections.to_string(),
        "-d",
        &format!("{seconds}s"),
    ]);
    if heads == Heads::Real {
        command.arg("-s").arg(lab.scratch().join("real.lua"));
    }
    command
        .arg(format!("http://{}/", pair.entry))
        .stdin(Stdio::null());
    let output = command.output().context("running wrk")?;
    let spent = cpu(pair)? - before;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || text.contains("Non-2xx") || text.contains("Socket errors") {
        bail!(
            "wrk against {}: {}{}",
            pair.peer,
            text,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let requests: f64 = word_before(&text, " requests in ")?.parse()?;
    if requests < 1.0 {
        bail!("wrk against {} finished no request", pair.peer);
    }
    let mut rss_kib = 0;
    for proxy in &pair.proxies {
        rss_kib = rss_kib.max(proxy.borrow().rss_kib()?);
    }
    Ok(Sample {
        peer: pair.peer,
        heads,
        connections,
        tap: Tap::None,
        tapped: 0,
        rps: word_after(&text, "Requests/sec:")?.parse()?,
        p50_us: micros(quantile(&text, "50%")?)?,
        p99_us: micros(quantile(&text, "99%")?)?,
        cpu_us: Duration::from_nanos(spent).as_secs_f64() * 1e6 / requests,
        rss_kib,
    })
}

fn cpu(pair: &Pair) -> anyhow::Result<u64> {
    let mut total = 0;
    for proxy in &pair.proxies {
        total += proxy
            .borrow_mut()
            .cpu_nanos()
            .with_context(|| pair.peer.to_string())?;
    }
    Ok(total)
}

fn word_before<'a>(text: &'a str, mark: &str) -> anyhow::Result<&'a str> {
    let (before, _) = text
        .split_once(mark)
        .with_context(|| format!("wrk printed no {mark:?}: {text}"))?;
    before
        .split_whitespace()
        .last()
        .context("nothing before the mark")
}

fn word_after<'a>(text: &'a str, mark: &str) -> anyhow::Result<&'a str> {
    let (_, after) = text
        .split_once(mark)
        .with_context(|| format!("wrk printed no {mark:?}: {text}"))?;
    after
        .split_whitespace()
        .next()
        .context("nothing after the mark")
}

/// The row of wrk's latency distribution that begins with `mark`.
fn quantile<'a>(text: &'a str, mark: &str) -> anyhow::Result<&'a str> {
    let row = text
        .lines()
        .map(str::trim)
        .find_map(|line| line.strip_prefix(mark));
    row.map(str::trim)
        .with_context(|| format!("wrk printed no {mark} row: {text}"))
}

fn micros(text: &str) -> anyhow::Result<f64> {
    let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6)];
    for (unit, factor) in units {
        if let Some(number) = text.strip_suffix(unit) {
            return Ok(number.parse::<f64>()? * factor);
        }
    }
    bail!("{text:?} is no latency")
}
