// SPDX-License-Identifier: Apache-2.0
//! Requests at a fixed rate, each measured from when it was due: who waits for an answer before it asks again hides what queues. Read `load.rs` next.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use maille_chassis::clock::Clock;

use super::{Metric, Values};
use crate::lab::Lab;
use crate::pause::pause;
use crate::peers::Pair;

/// Connections that share the rate.
const CONNECTIONS: u32 = 64;
/// How late a request may be before the rate counts as not borne.
const LATE: Duration = Duration::from_secs(2);

/// So many requests a second, for so long.
pub(crate) fn open(lab: &Lab, pair: &Pair, rate: f64, seconds: u32) -> anyhow::Result<Values> {
    let every = Duration::from_secs_f64(f64::from(CONNECTIONS) / rate);
    let (time, entry) = (Duration::from_secs(seconds.into()), &pair.entry);
    let mut times = lab.load(|| -> anyhow::Result<Vec<Duration>> {
        std::thread::scope(|scope| {
            let one = |n: u32| {
                // Not all at the same moment.
                let first = every * n / CONNECTIONS;
                move || client(entry, first, every, time)
            };
            let threads: Vec<_> = (0..CONNECTIONS).map(|n| scope.spawn(one(n))).collect();
            let mut all = Vec::new();
            for thread in threads {
                let Ok(times) = thread.join() else {
                    bail!("a load thread panicked");
                };
                all.extend(times?);
            }
            Ok(all)
        })
    })?;
    times.sort_unstable();
    let at = |part: usize| -> anyhow::Result<f64> {
        let time = times.get(times.len() * part / 1000);
        Ok(time.context("no request was answered")?.as_secs_f64() * 1e6)
    };
    Ok(vec![
        (Metric::P50Us, at(500)?),
        (Metric::P99Us, at(990)?),
        (Metric::P999Us, at(999)?),
    ])
}

fn client(
    entry: &str,
    first: Duration,
    every: Duration,
    time: Duration,
) -> anyhow::Result<Vec<Duration>> {
    let mut stream = BufReader::new(TcpStream::connect(entry)?);
    request(&mut stream)?;
    let (clock, mut due, mut times) = (Clock::start(), first, Vec::new());
    while due < time {
        if let Some(early) = due.checked_sub(clock.elapsed()) {
            pause(early)?;
        }
        request(&mut stream)?;
        let took = clock.elapsed().saturating_sub(due);
        ensure!(took < LATE, "the rate is more than it bears");
        times.push(took);
        due += every;
    }
    Ok(times)
}

/// One request, and its answer to the end.
pub(crate) fn request(stream: &mut BufReader<TcpStream>) -> anyhow::Result<()> {
    let ask = b"GET / HTTP/1.1\r\nHost: bench.local\r\n\r\n";
    stream.get_mut().write_all(ask)?;
    let (mut line, mut length) = (String::new(), 0);
    stream.read_line(&mut line)?;
    ensure!(line.starts_with("HTTP/1.1 200 "), "{line:?}");
    while line != "\r\n" {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        line.clear();
        ensure!(stream.read_line(&mut line)? > 0, "it ended in a head");
    }
    let mut body = [0; 2048];
    let body = body.get_mut(..length).context("more than was expected")?;
    stream.read_exact(body)?;
    Ok(())
}
