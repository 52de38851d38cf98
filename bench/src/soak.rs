// SPDX-License-Identifier: Apache-2.0
//! Maille's pair at four fifths of what it bears, for as long as is wanted, while connections, endpoints and certificates come and go: what grows
//! with time is seen, in memory, descriptors and latency.
//!
//! Must never take a run for good in which nothing came and went. Read `load/open.rs` for the load.

use std::fmt;
use std::io::BufReader;
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use maille_chassis::clock::Clock;

use crate::axes::Axis;
use crate::lab::{Lab, Process};
use crate::load::{self, Metric};
use crate::measure;
use crate::pause::pause;
use crate::peers::{self, Coming, Pair};

/// How long a certificate is good: it is renewed at seven tenths of that.
const CERTIFICATES: &str = "60s";
/// What of the capacity is asked for.
const PART: f64 = 0.8;
/// How often somebody dials, asks once and leaves; and how often an endpoint comes or goes.
const DIALS: Duration = Duration::from_millis(10);
const CHANGES: Duration = Duration::from_millis(500);
/// Windows that are left out at the beginning: buffers and tables grow to what the load needs.
const WARM: usize = 2;
/// What may be more at the end than at the beginning: of anonymous memory (KiB), of descriptors, and of latency as a multiple.
const MORE_KIB: f64 = 1024.0;
const MORE_DESCRIPTORS: f64 = 32.0;
const SLOWER: f64 = 1.5;

/// `maille-bench soak`.
#[derive(Args, Debug, Clone)]
pub(crate) struct Options {
    /// How long.
    #[arg(long, default_value_t = 30)]
    minutes: u32,
    /// Seconds of one window.
    #[arg(long, default_value_t = 30)]
    window: u32,
}

/// What there was in one window.
#[derive(Clone, Copy, Debug)]
struct Window {
    p50: f64,
    p99: f64,
    anonymous: f64,
    descriptors: f64,
}

/// What came and went.
#[derive(Debug, Default)]
struct Churn {
    over: AtomicBool,
    dialled: AtomicU64,
    changed: AtomicU64,
}

/// Whether nothing grew.
pub(crate) fn run(lab: &Lab, bin_dir: &Path, options: &Options) -> anyhow::Result<bool> {
    let (_support, pair) = peers::soaked(lab, bin_dir, CERTIFICATES)?;
    measure::warm_up(lab, &pair)?;
    let (churn, entry) = (Churn::default(), pair.entry.as_str());
    let windows = std::thread::scope(|scope| {
        let dialling = scope.spawn(|| churn.dial(lab, entry));
        let changing = scope.spawn(|| churn.change(lab));
        let windows = watch(lab, &pair, options);
        churn.over.store(true, Ordering::Relaxed);
        for thread in [dialling, changing] {
            thread.join().ok().context("a thread panicked")??;
        }
        windows
    })?;
    let (dialled, changed) = (churn.dialled.into_inner(), churn.changed.into_inner());
    eprintln!("{dialled} connections of one request each, {changed} changes of endpoints");
    ensure!(dialled > 0 && changed > 0, "nothing came and went");
    judge(&windows)
}

fn watch(lab: &Lab, pair: &Pair, options: &Options) -> anyhow::Result<Vec<Window>> {
    let capacity = Axis::capacity(lab, pair, options.window.min(5))?;
    let rate = capacity * PART;
    eprintln!("{rate:.0} requests a second, of {capacity:.0}");
    let (clock, time) = (
        Clock::start(),
        Duration::from_secs(u64::from(options.minutes) * 60),
    );
    let mut windows = Vec::new();
    while clock.elapsed() < time {
        let values = load::open(lab, pair, rate, options.window)?;
        let of = |metric| {
            values
                .iter()
                .find(|(is, _)| *is == metric)
                .map(|(_, value)| *value)
        };
        let window = Window {
            p50: of(Metric::P50Us).context("no p50")?,
            p99: of(Metric::P99Us).context("no p99")?,
            anonymous: pair.sum(Process::anonymous_kib)? as f64,
            descriptors: pair.sum(Process::descriptors)? as f64,
        };
        eprintln!("{:5.1} min  {window}", clock.elapsed().as_secs_f64() / 60.0);
        windows.push(window);
    }
    Ok(windows)
}

/// The last third beside the first, each by its median.
fn judge(windows: &[Window]) -> anyhow::Result<bool> {
    let counted = windows.get(WARM..).unwrap_or_default();
    let third = counted.len() / 3;
    ensure!(third > 0, "too short: {} windows", windows.len());
    let (first, last) = (&counted[..third], &counted[counted.len() - third..]);
    let median = |of: &[Window], what: fn(&Window) -> f64| {
        crate::report::median(of.iter().map(what).collect())
    };
    let mut good = true;
    let mut held = |name: &str, what: fn(&Window) -> f64, most: fn(f64) -> f64| {
        let (was, is) = (median(first, what), median(last, what));
        let fine = is <= most(was);
        good &= fine;
        let verdict = if fine { "as it was" } else { "it grew" };
        eprintln!("{name}: {was:.0} in the first third, {is:.0} in the last: {verdict}");
    };
    held(
        "anonymous KiB, pair",
        |of| of.anonymous,
        |was| was + MORE_KIB,
    );
    held(
        "descriptors, pair",
        |of| of.descriptors,
        |was| was + MORE_DESCRIPTORS,
    );
    held("p50 us", |of| of.p50, |was| was * SLOWER);
    held("p99 us", |of| of.p99, |was| was * SLOWER);
    Ok(good)
}

// === impl Churn ===

impl Churn {
    fn going(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    fn dial(&self, lab: &Lab, entry: &str) -> anyhow::Result<()> {
        lab.load(|| {
            while self.going() {
                load::request(&mut BufReader::new(TcpStream::connect(entry)?))?;
                self.dialled.fetch_add(1, Ordering::Relaxed);
                pause(DIALS)?;
            }
            Ok(())
        })
    }

    fn change(&self, lab: &Lab) -> anyhow::Result<()> {
        let coming = Coming::of(lab)?;
        let mut ready = false;
        while self.going() {
            ready = !ready;
            coming.set(ready)?;
            self.changed.fetch_add(1, Ordering::Relaxed);
            pause(CHANGES)?;
        }
        Ok(())
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            p50,
            p99,
            anonymous,
            descriptors,
        } = self;
        write!(
            f,
            "p50 {p50:.0} us, p99 {p99:.0} us, {anonymous:.0} KiB anonymous, {descriptors:.0} descriptors"
        )
    }
}
