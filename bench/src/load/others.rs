// SPDX-License-Identifier: Apache-2.0
//! `wrk` and `h2load`, and what they print. Read `load.rs` next.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};

use super::{Heads, Metric, Values};
use crate::lab::{Core, Lab, Side};
use crate::peers::Pair;

/// How `wrk` opens its connections.
const DIAL: &str = "Connection: close";

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

/// Requests as fast as they are answered, on so many kept connections; or, with `dial`, each on a connection of its own.
pub(crate) fn wrk(
    lab: &Lab,
    pair: &Pair,
    connections: u32,
    heads: Heads,
    dial: bool,
    seconds: u32,
) -> anyhow::Result<Values> {
    let mut command = lab.command(Side::Client, Core::Load, Path::new("wrk"));
    let (connections, seconds) = (connections.to_string(), format!("{seconds}s"));
    command.args(["--latency", "-t1", "-c", &connections, "-d", &seconds]);
    if heads == Heads::Real {
        command.arg("-s").arg(lab.write("real.lua", REAL_HEADS)?);
    }
    if dial {
        command.args(["-H", DIAL]);
    }
    command.arg(format!("http://{}/", pair.entry));
    let before = pair.cpu()?;
    let text = said("wrk", pair, &mut command)?;
    let spent = pair.cpu()? - before;
    if text.contains("Non-2xx") || text.contains("Socket errors") {
        bail!("wrk against {}: {text}", pair.peer);
    }
    let requests: f64 = word_before(&text, " requests in ")?.parse()?;
    ensure!(
        requests >= 1.0,
        "wrk against {} finished no request",
        pair.peer
    );
    Ok(vec![
        (Metric::CpuUs, spent.as_secs_f64() * 1e6 / requests),
        (
            Metric::PerSecond,
            word_after(&text, "Requests/sec:")?.parse()?,
        ),
        (Metric::P50Us, micros(quantile(&text, "50%")?)?),
        (Metric::P99Us, micros(quantile(&text, "99%")?)?),
    ])
}

/// HTTP/2 as gRPC clients use it: 4 connections of 16 requests each.
pub(crate) fn h2load(lab: &Lab, pair: &Pair, seconds: u32) -> anyhow::Result<Values> {
    let mut command = lab.command(Side::Client, Core::Load, Path::new("h2load"));
    command.args(["-c4", "-m16", "-t1", "-D", &seconds.to_string()]);
    command.arg(format!("http://{}/", pair.entry));
    let before = pair.cpu()?;
    let text = said("h2load", pair, &mut command)?;
    let spent = pair.cpu()? - before;
    let requests: f64 = word_before(&text, " succeeded,")?.parse()?;
    let failed: f64 = word_before(&text, " failed,")?.parse()?;
    ensure!(
        requests >= 1.0 && failed == 0.0,
        "h2load against {}: {text}",
        pair.peer
    );
    Ok(vec![
        (Metric::CpuUs, spent.as_secs_f64() * 1e6 / requests),
        (Metric::PerSecond, requests / f64::from(seconds)),
    ])
}

fn said(name: &str, pair: &Pair, command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("running {name}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{name} against {}: {text}{}",
        pair.peer,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}

fn word_before<'a>(text: &'a str, mark: &str) -> anyhow::Result<&'a str> {
    let (before, _) = text
        .split_once(mark)
        .with_context(|| format!("no {mark:?} was printed: {text}"))?;
    before
        .split_whitespace()
        .last()
        .context("nothing before the mark")
}

fn word_after<'a>(text: &'a str, mark: &str) -> anyhow::Result<&'a str> {
    let (_, after) = text
        .split_once(mark)
        .with_context(|| format!("no {mark:?} was printed: {text}"))?;
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
