// SPDX-License-Identifier: Apache-2.0
//! An open-loop load generator: each request has an intended time to be sent, and its latency counts from there.
//!
//! Must never retry, and never leave out a request that was due: it is the witness for "no request was lost".
//! Connections are kept alive; a broken one is replaced for the next request. Read `client.rs` for one exchange.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use http::{Method, Uri};
use maille_model::latency;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use crate::client::{self, Connection, DEADLINE};
use crate::stop::{Phase, Stop};

/// Different error texts that a summary quotes.
const MAX_ERRORS: usize = 8;

/// What to send, how fast, for how long.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// `http://host:port`, with the paths of `--path` behind it.
    #[arg(long, env = "LOAD_URL", default_value = "http://front:8080")]
    url: String,
    /// Path to ask for, in turn; one that begins with `POST:` is posted.
    #[arg(
        long,
        env = "LOAD_PATHS",
        value_delimiter = ',',
        default_value = "/,POST:/cart,/,/reviews,/rates,/chat,/post,/vault"
    )]
    path: Vec<String>,
    /// Requests a second.
    #[arg(long, env = "LOAD_RATE", default_value_t = 100)]
    rate: u32,
    /// Connections.
    #[arg(long, env = "LOAD_CONNECTIONS", default_value_t = 16)]
    connections: u32,
    /// How long; 0 until stopped. SIGUSR1 ends it early, as if the time were over.
    #[arg(long, env = "LOAD_SECONDS", default_value_t = 20)]
    seconds: u64,
    /// Text that every request carries and every answer must.
    #[arg(long, env = "DEMO_MARKER", default_value = "loom")]
    marker: String,
    /// After the summary wait for SIGTERM: a pod that ends would be started again.
    #[arg(long)]
    stay: bool,
}

/// What came of it. One JSON object on one line.
#[derive(Debug, Serialize)]
struct Summary {
    event: &'static str,
    requests: u64,
    failed: u64,
    seconds: f64,
    rps: f64,
    p50_ms: Option<f64>,
    p95_ms: Option<f64>,
    p99_ms: Option<f64>,
    max_ms: f64,
    /// Milliseconds in which not one request succeeded: the longest stretch.
    longest_gap_ms: f64,
    errors: Vec<String>,
}

/// Counters that all connections share.
#[derive(Debug)]
struct Tally {
    next: u64,
    done: u64,
    failed: u64,
    latency: Vec<u64>,
    max: Duration,
    last_success: Instant,
    longest_gap: Duration,
    errors: Vec<String>,
}

/// What one connection needs.
#[derive(Debug)]
struct Plan {
    authority: String,
    paths: Vec<(Method, String)>,
    marker: String,
    begin: Instant,
    gap: Duration,
    /// Requests in all; `u64::MAX` until stopped.
    count: u64,
    tally: Mutex<Tally>,
}

/// Runs the load, prints the summary; fails if a request failed, unless it stays.
pub(crate) async fn run(options: Options, mut stop: Stop) -> anyhow::Result<ExitCode> {
    ensure!(options.rate > 0, "--rate must be at least 1");
    ensure!(options.connections > 0, "--connections must be at least 1");
    let (authority, paths) = targets(&options)?;
    let mut enough = signal(SignalKind::user_defined1()).context("failed to watch SIGUSR1")?;
    tokio::select! {
        () = await_target(&authority, &paths, &options.marker) => {}
        () = stop.reached(Phase::Leaving) => return Ok(ExitCode::FAILURE),
    }
    say(&serde_json::json!({"event": "start", "rate": options.rate, "seconds": options.seconds}))?;
    let count = match options.seconds {
        0 => u64::MAX,
        seconds => seconds.saturating_mul(options.rate.into()),
    };
    let begin = Instant::now();
    let plan = Arc::new(Plan {
        authority,
        paths,
        marker: options.marker,
        begin,
        gap: Duration::from_secs(1) / options.rate,
        count,
        tally: Mutex::new(Tally::new(begin)),
    });
    let mut workers = JoinSet::new();
    for _ in 0..options.connections {
        workers.spawn(connection(Arc::clone(&plan)));
    }
    tokio::select! {
        () = async { while workers.join_next().await.is_some() {} } => {}
        Err(error) = tell(&plan) => return Err(error),
        _ = enough.recv() => plan.tally().next = plan.count,
        () = stop.reached(Phase::Leaving) => plan.tally().next = plan.count,
    }
    // What is under way when it is stopped still counts.
    while workers.join_next().await.is_some() {}
    let failed = {
        let tally = plan.tally();
        say(&tally.summary(begin, Instant::now()))?;
        tally.failed
    };
    if options.stay {
        stop.reached(Phase::Leaving).await;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn targets(options: &Options) -> anyhow::Result<(String, Vec<(Method, String)>)> {
    let url: Uri = options.url.parse().context("--url is not a URL")?;
    ensure!(
        url.scheme_str() == Some("http"),
        "--url must begin with http://"
    );
    let authority = url.authority().context("--url names no host")?;
    ensure!(authority.port().is_some(), "--url must name a port");
    let paths = options
        .path
        .iter()
        .map(|path| match path.strip_prefix("POST:") {
            Some(path) => (Method::POST, path.to_owned()),
            None => (Method::GET, path.clone()),
        });
    let paths: Vec<_> = paths.collect();
    ensure!(!paths.is_empty(), "--path must be given at least once");
    Ok((authority.to_string(), paths))
}

/// Waits until the target is served and every path answered once, which is not part of the measurement.
async fn await_target(authority: &str, paths: &[(Method, String)], marker: &str) {
    client::served(authority).await;
    let mut tick = interval(Duration::from_millis(50));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for (method, path) in paths {
        loop {
            tick.tick().await;
            let mut connection = None;
            let once = exchange(&mut connection, authority, (method, path), marker);
            if matches!(timeout(DEADLINE, once).await, Ok(Ok(()))) {
                break;
            }
        }
    }
}

async fn connection(plan: Arc<Plan>) {
    let mut connection = None;
    loop {
        let number = {
            let mut tally = plan.tally();
            if tally.next >= plan.count {
                return;
            }
            let number = tally.next;
            tally.next += 1;
            number
        };
        let intended = plan.begin + multiply(plan.gap, number);
        sleep_until(intended).await;
        let turn = number % plan.paths.len().max(1) as u64;
        let (method, path) = &plan.paths[usize::try_from(turn).unwrap_or(0)];
        let once = exchange(
            &mut connection,
            &plan.authority,
            (method, path),
            &plan.marker,
        );
        let outcome = match timeout(DEADLINE, once).await {
            Ok(outcome) => outcome,
            Err(_) => Err(anyhow::anyhow!("no answer in {DEADLINE:?}")),
        };
        if outcome.is_err() {
            connection = None;
        }
        let now = Instant::now();
        plan.tally()
            .count(outcome, now.saturating_duration_since(intended), now);
    }
}

/// Says once a second how far it is, for ever.
async fn tell(plan: &Plan) -> anyhow::Result<()> {
    let mut tick = interval(Duration::from_secs(1));
    loop {
        tick.tick().await;
        let (requests, failed) = {
            let tally = plan.tally();
            (tally.done, tally.failed)
        };
        say(&serde_json::json!({"event": "progress", "requests": requests, "failed": failed}))?;
    }
}

fn multiply(gap: Duration, number: u64) -> Duration {
    let nanos = gap.as_nanos().saturating_mul(number.into());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

async fn exchange(
    connection: &mut Option<Connection>,
    authority: &str,
    (method, path): (&Method, &str),
    marker: &str,
) -> anyhow::Result<()> {
    // A connection that the other side closed between two requests is no failure of either.
    let usable = match connection {
        Some(connection) => connection.ready().await.is_ok(),
        None => false,
    };
    if !usable {
        *connection = None;
    }
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(client::connect(authority).await?),
    };
    let request = client::request(method.clone(), path, authority, marker)?;
    client::send(connection, request, marker).await.map(drop)
}

fn say(line: &impl Serialize) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, line)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

// === impl Plan ===

impl Plan {
    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Tally ===

impl Tally {
    fn new(begin: Instant) -> Self {
        Self {
            next: 0,
            done: 0,
            failed: 0,
            latency: vec![0; latency::BUCKETS],
            max: Duration::ZERO,
            last_success: begin,
            longest_gap: Duration::ZERO,
            errors: Vec::new(),
        }
    }

    fn count(&mut self, outcome: anyhow::Result<()>, took: Duration, now: Instant) {
        self.done += 1;
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.latency[latency::bucket(micros)] += 1;
        self.max = self.max.max(took);
        match outcome {
            Ok(()) => {
                let gap = now.saturating_duration_since(self.last_success);
                self.longest_gap = self.longest_gap.max(gap);
                self.last_success = now;
            }
            Err(error) => {
                self.failed += 1;
                let text = format!("{error:#}");
                if self.errors.len() < MAX_ERRORS && !self.errors.contains(&text) {
                    self.errors.push(text);
                }
            }
        }
    }

    fn summary(&self, begin: Instant, now: Instant) -> Summary {
        let took = now.saturating_duration_since(begin);
        let silent = now.saturating_duration_since(self.last_success);
        let quantile = |q| latency::quantile(&self.latency, q).map(|micros| micros as f64 / 1000.0);
        Summary {
            event: "summary",
            requests: self.done,
            failed: self.failed,
            seconds: took.as_secs_f64(),
            rps: self.done as f64 / took.as_secs_f64().max(f64::EPSILON),
            p50_ms: quantile(0.50),
            p95_ms: quantile(0.95),
            p99_ms: quantile(0.99),
            max_ms: self.max.as_secs_f64() * 1000.0,
            longest_gap_ms: self.longest_gap.max(silent).as_secs_f64() * 1000.0,
            errors: self.errors.clone(),
        }
    }
}
