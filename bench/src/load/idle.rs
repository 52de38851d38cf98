// SPDX-License-Identifier: Apache-2.0
//! What a pair costs that has nothing to do, and that holds connections on which nothing comes. Read `load.rs` next.

use std::io::BufReader;
use std::net::TcpStream;
use std::time::Duration;

use super::open::request;
use super::{Metric, Values};
use crate::lab::{Lab, Process};
use crate::pause::pause;
use crate::peers::Pair;

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
