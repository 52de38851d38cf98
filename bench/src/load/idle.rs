// SPDX-License-Identifier: Apache-2.0
//! What a pair costs that was just made, that has nothing to do, and that holds connections on which nothing comes. Read `load.rs` next.

use std::io::BufReader;
use std::net::TcpStream;
use std::time::Duration;

use maille_chassis::clock::Clock;

use super::open::request;
use super::{Metric, Values};
use crate::lab::{Lab, Process};
use crate::pause::pause;
use crate::peers::Pair;

/// How long a pair may take until it answers, and how long to wait before asking again.
const READY: Duration = Duration::from_secs(20);
const AGAIN: Duration = Duration::from_millis(1);

/// Asks a pair that was just made until it answers.
pub(crate) fn start(lab: &Lab, pair: &Pair) -> anyhow::Result<Values> {
    let (clock, entry) = (Clock::start(), &pair.entry);
    let ask = || -> anyhow::Result<()> {
        let stream = TcpStream::connect(entry)?;
        stream.set_read_timeout(Some(READY))?;
        request(&mut BufReader::new(stream))
    };
    lab.load(|| {
        loop {
            match ask() {
                Ok(()) => return Ok(()),
                Err(error) if clock.elapsed() > READY => {
                    return Err(error.context("it never answered"));
                }
                Err(_) => pause(AGAIN)?,
            }
        }
    })?;
    let took = pair.started.elapsed();
    Ok(vec![(Metric::ReadyMs, took.as_secs_f64() * 1e3)])
}

/// Memory, CPU and wake-ups of a pair that is left alone for so long.
pub(crate) fn quiet(pair: &Pair, seconds: u32) -> anyhow::Result<Values> {
    let (cpu, woken) = (pair.cpu()?, pair.sum(Process::switches)?);
    pause(Duration::from_secs(seconds.into()))?;
    let (cpu, woken) = (pair.cpu()? - cpu, pair.sum(Process::switches)? - woken);
    let largest = |measure: fn(&Process) -> anyhow::Result<u64>| -> anyhow::Result<f64> {
        let mut largest = 0;
        for proxy in &pair.proxies {
            largest = largest.max(measure(&proxy.borrow())?);
        }
        Ok(largest as f64 / 1024.0)
    };
    let seconds = f64::from(seconds);
    Ok(vec![
        (Metric::ResidentMib, largest(Process::resident_kib)?),
        (Metric::AnonymousMib, largest(Process::anonymous_kib)?),
        (Metric::IdleUs, cpu.as_secs_f64() * 1e6 / seconds),
        (Metric::Wakeups, woken as f64 / seconds),
    ])
}

/// Anonymous memory for each of so many connections that have asked once.
pub(crate) fn hold(lab: &Lab, pair: &Pair, connections: u64) -> anyhow::Result<Values> {
    let (before, entry) = (pair.sum(Process::anonymous_kib)?, &pair.entry);
    let held = lab.load(|| -> anyhow::Result<Vec<BufReader<TcpStream>>> {
        let mut held = Vec::new();
        for _ in 0..connections {
            // As small as may be: it is not the load that is weighed.
            let mut stream = BufReader::with_capacity(256, TcpStream::connect(entry)?);
            request(&mut stream)?;
            held.push(stream);
        }
        Ok(held)
    })?;
    let with = pair.sum(Process::anonymous_kib)?;
    drop(held);
    let more = with.saturating_sub(before) as f64;
    Ok(vec![(Metric::KibPerConnection, more / connections as f64)])
}
