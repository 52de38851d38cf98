// SPDX-License-Identifier: Apache-2.0
//! The process: flags, capture, a report every second, the end. One thread; nothing waits longer than [`PATIENCE`].

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use maille_sys::NetNs;
use maille_sys::packet::{Ring, RingSize};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::expect::{ExpectError, Watched};
use crate::flows::Flows;
use crate::frame;
use crate::markers::Markers;
use crate::report::{Report, Trouble};

/// A block holds a few frames of 64 KiB. A block that is not full is taken after ten milliseconds all the same, so it is their number that says how
/// long this process may get no processor: two seconds, or half a second at 100 MB/s.
const RING: RingSize = RingSize {
    block: 1 << 18,
    blocks: 192,
};

/// How long a read waits for a frame.
const PATIENCE: Duration = Duration::from_millis(100);

/// Between two reports.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long the last frames may take.
const LAST_FRAMES: Duration = Duration::from_secs(1);

/// What it is called with.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Args {
    /// Where the report goes; replaced by rename.
    pub report: PathBuf,
    /// Bytes that must not be readable between meshed addresses.
    pub markers: Vec<Vec<u8>>,
    /// The expectation file.
    pub expect: Option<PathBuf>,
}

/// Why it was called wrongly.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// No such flag.
    #[error(
        "unknown flag {0:?}; usage: maille-observer --report FILE [--marker TEXT]... [--expect FILE]"
    )]
    Unknown(OsString),
    /// The flag's value is missing.
    #[error("{0:?} needs a value")]
    NoValue(OsString),
    /// Nobody would learn what was seen.
    #[error("--report FILE is missing")]
    NoReport,
    /// It would be found everywhere.
    #[error("a marker is empty")]
    EmptyMarker,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was wrong.
    Clean,
    /// The report has violations.
    Violated,
}

impl Args {
    /// Reads the command line, without the program's name.
    pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Self, UsageError> {
        let mut args = Self::default();
        let mut words = words.into_iter();
        while let Some(flag) = words.next() {
            let known = ["--report", "--marker", "--expect"];
            let Some(name) = known.into_iter().find(|name| flag == *name) else {
                return Err(UsageError::Unknown(flag));
            };
            let value = words.next().ok_or(UsageError::NoValue(flag))?;
            match name {
                "--report" => args.report = value.into(),
                "--expect" => args.expect = Some(value.into()),
                _ if value.is_empty() => return Err(UsageError::EmptyMarker),
                _ => args.markers.push(value.into_vec()),
            }
        }
        if args.report.as_os_str().is_empty() {
            return Err(UsageError::NoReport);
        }
        Ok(args)
    }
}

/// Captures in the caller's network namespace until SIGTERM or SIGINT. Blocks them for the calling thread.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let signals = stop_signals().context("signals cannot be taken")?;
    let namespace = NetNs::current().context("the network namespace cannot be opened")?;
    let ring = Ring::open(&namespace, RING).context("capturing cannot begin")?;
    let mut observer = Observer {
        args,
        ring,
        flows: Flows::new(Markers::new(args.markers.iter().cloned())),
        expect: args.expect.as_deref().map(Watched::new),
        trouble: Trouble::default(),
    };
    observer.report()?;
    tell_ready().context("readiness cannot be told")?;
    let mut reported = now();
    while signals.read_signal()?.is_none() {
        observer.read()?;
        if reported.elapsed() >= INTERVAL {
            observer.report()?;
            reported = now();
        }
    }
    let stopped = now();
    while observer.read()? > 0 && stopped.elapsed() < LAST_FRAMES {}
    observer.flows.finish();
    let report = observer.report()?;
    Ok(if report.is_clean() {
        Outcome::Clean
    } else {
        Outcome::Violated
    })
}

struct Observer<'a> {
    args: &'a Args,
    ring: Ring,
    flows: Flows,
    expect: Option<Watched>,
    trouble: Trouble,
}

impl Observer<'_> {
    fn read(&mut self) -> anyhow::Result<usize> {
        let flows = &mut self.flows;
        let take = |frame: maille_sys::packet::Frame<'_>| {
            let place = (frame.interface, frame.direction);
            flows.take(place, frame.at, frame::parse(frame.bytes));
        };
        self.ring.read(PATIENCE, take).context("the capture ended")
    }

    fn report(&mut self) -> anyhow::Result<Report> {
        self.trouble.frames_dropped = self.ring.dropped().context("the capture ended")?;
        self.trouble.expectation = self.expect.as_mut().and_then(|expect| {
            let error = expect.refresh().err()?;
            Some(with_source(&error))
        });
        let expectation = self.expect.as_ref().map(|expect| &expect.now);
        let report = Report::new(&self.flows, expectation, &self.trouble);
        report
            .write(&self.args.report)
            .with_context(|| format!("{} cannot be written", self.args.report.display()))?;
        Ok(report)
    }
}

fn with_source(error: &ExpectError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the only clock of this process: when to report"
)]
fn now() -> Instant {
    Instant::now()
}

/// From here on they come as data, between two reads.
fn stop_signals() -> nix::Result<SignalFd> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGINT);
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}

/// `sd_notify(3)`; nothing where nobody asked.
fn tell_ready() -> std::io::Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let socket = UnixDatagram::unbound()?;
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(&path)?,
    };
    socket.send_to_addr(b"READY=1", &address)?;
    Ok(())
}

#[cfg(test)]
mod tests;
