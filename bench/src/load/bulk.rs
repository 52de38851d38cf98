// SPDX-License-Identifier: Apache-2.0
//! As many bytes as go through, down or up, on a few connections. Read `load.rs` next.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::ensure;
use maille_chassis::clock::Clock;

use super::{Metric, Values};
use crate::lab::{BULK, Lab};
use crate::peers::Pair;

/// What one call reads or writes.
const PIECE: usize = 256 * 1024;

/// Bytes from the backend, or with `up` to it, on so many connections, for so long.
pub(crate) fn bulk(
    lab: &Lab,
    pair: &Pair,
    streams: u32,
    up: bool,
    seconds: u32,
) -> anyhow::Result<Values> {
    let (moved, time) = (AtomicU64::new(0), Duration::from_secs(seconds.into()));
    let (before, entry) = (pair.cpu()?, &pair.entry);
    let clock = Clock::start();
    lab.load(|| -> anyhow::Result<()> {
        std::thread::scope(|scope| {
            let one = || {
                while clock.elapsed() < time {
                    let stream = TcpStream::connect(entry)?;
                    if up {
                        send(stream, &moved, clock, time)?
                    } else {
                        take(stream, &moved, clock, time)?
                    }
                }
                anyhow::Ok(())
            };
            let threads: Vec<_> = (0..streams).map(|_| scope.spawn(one)).collect();
            threads
                .into_iter()
                .try_for_each(|thread| match thread.join() {
                    Ok(ended) => ended,
                    Err(_) => anyhow::bail!("a load thread panicked"),
                })
        })
    })?;
    let took = clock.elapsed().as_secs_f64();
    let spent = (pair.cpu()? - before).as_secs_f64();
    let moved = moved.into_inner() as f64;
    ensure!(moved > 0.0, "nothing went through {}", pair.peer);
    Ok(vec![
        (Metric::CpuPerGb, spent / (moved / 1e9)),
        (Metric::GbitPerSecond, moved * 8.0 / took / 1e9),
    ])
}

fn take(
    mut stream: TcpStream,
    moved: &AtomicU64,
    clock: Clock,
    time: Duration,
) -> anyhow::Result<()> {
    write!(
        stream,
        "GET /{BULK} HTTP/1.1\r\nHost: bench.local\r\nConnection: close\r\n\r\n"
    )?;
    let mut piece = vec![0; PIECE];
    while clock.elapsed() < time {
        match stream.read(&mut piece)? {
            0 => return Ok(()),
            n => moved.fetch_add(n as u64, Ordering::Relaxed),
        };
    }
    Ok(())
}

fn send(
    mut stream: TcpStream,
    moved: &AtomicU64,
    clock: Clock,
    time: Duration,
) -> anyhow::Result<()> {
    write!(
        stream,
        "POST / HTTP/1.1\r\nHost: bench.local\r\nContent-Length: 1000000000000\r\n\r\n"
    )?;
    let piece = vec![b'x'; PIECE];
    while clock.elapsed() < time {
        let n = stream.write(&piece)?;
        moved.fetch_add(n as u64, Ordering::Relaxed);
    }
    // The answer to a request that was never finished is of no interest.
    drop(stream.shutdown(Shutdown::Both));
    Ok(())
}
