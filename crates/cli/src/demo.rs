// SPDX-License-Identifier: Apache-2.0
//! `maille demo`: the example application, meshed, with a witness on the wire that trusts no proxy.
//!
//! Must never call a run good that it could not see whole. Read `demo/verdict.rs` for what is good, `demo/app.rs` for
//! what runs.

mod app;
pub(crate) mod verdict;

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::app::App;
use self::verdict::Evidence;
use crate::api::{self, Stat};
use crate::args::{Demo, Output};
use crate::failure::Expected;
use crate::launch::Options;
use crate::mesh::{Ended, Mesh, StopSignals};
use crate::screen::{Screen, print, print_json};
use crate::stat;
use crate::state::Base;

/// How long the pods may take to become ready.
const START: Duration = Duration::from_secs(60);

/// How long after the last request the load generator may take to say what came of it.
const SUMMARY: Duration = Duration::from_secs(30);

/// How long proxies may take to report what they counted.
const REPORTS: Duration = Duration::from_secs(5);

pub(crate) async fn run(args: &Demo, base: &Base, screen: Screen) -> anyhow::Result<ExitCode> {
    let app = App::new(args, screen)?;
    let state = base.state(&format!("demo-{:06x}", fastrand::u32(..1 << 24)))?;
    let options = Options {
        observe: Some(app.marker().to_owned()),
        no_mesh: args.no_mesh,
        ..Options::default()
    };
    let mut stop = StopSignals::watch()?;
    let mut mesh = Mesh::start(&state, app.objects(), &options, screen).await?;
    screen.say(&format!("starting {} pods", mesh.pods()));
    let outcome = watch(args, &app, &mut mesh, &mut stop, screen).await;
    mesh.stop(&mut stop, screen).await;
    if outcome.is_err() {
        mesh.tell(screen);
    }
    // The witness writes its last word when it is stopped.
    let observer = fs::read(state.dir().join("observer.json"));
    mesh.remove()?;
    let Some(mut evidence) = outcome? else {
        return Ok(ExitCode::SUCCESS);
    };
    evidence.observer = observer
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok());
    let report = evidence.report();
    match args.output {
        Output::Json => print_json(&report.json)?,
        Output::Table => print(&evidence.text(&report, screen))?,
    };
    if report.problems.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Expected::Found {
        what: report.problems.join("; "),
    }
    .into())
}

/// Runs until Ctrl-C, or with `--once` until the load generator is done: then there is evidence.
async fn watch(
    args: &Demo,
    app: &App,
    mesh: &mut Mesh,
    stop: &mut StopSignals,
    screen: Screen,
) -> anyhow::Result<Option<Evidence>> {
    if mesh.ready(START, stop, screen).await? == Ended::Stopped {
        return interrupted(args);
    }
    let start_s = mesh.began().elapsed().as_secs_f64();
    screen.say(&format!("{} pods ready after {start_s:.1} s", mesh.pods()));
    let end = Instant::now() + Duration::from_secs(args.seconds) + SUMMARY;
    let mut tick = interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = stop.next() => return interrupted(args),
            error = mesh.died() => return Err(error.into()),
        }
        let stat = traffic(args, mesh, 10).await?;
        if !args.once {
            screen.wipe();
            print(&stat::edges(&stat.edges, screen))?;
            screen.progress("Ctrl-C stops everything");
            continue;
        }
        screen.progress(&verdict::progress(&stat));
        if let Some(load) = summary(mesh).await? {
            return evidence(args, app, mesh, load, start_s).await.map(Some);
        }
        if Instant::now() >= end {
            let what = "the load generator did not finish".to_owned();
            return Err(Expected::Node { what }.into());
        }
    }
}

/// What the proxies counted in the last `window` seconds; nothing where there are none.
async fn traffic(args: &Demo, mesh: &Mesh, window: u64) -> Result<Stat, Expected> {
    if args.no_mesh {
        return Ok(Stat::default());
    }
    api::get(mesh.state(), &format!("/v1/stat?window={window}s")).await
}

fn interrupted(args: &Demo) -> anyhow::Result<Option<Evidence>> {
    if args.once {
        return Err(Expected::Interrupted.into());
    }
    Ok(None)
}

/// What the load generator wrote to its log, once it has.
async fn summary(mesh: &Mesh) -> anyhow::Result<Option<Value>> {
    let pods = api::pods(mesh.state()).await?;
    let load = pods.pods.iter().find(|pod| pod.name.starts_with(app::LOAD));
    let Some(load) = load else {
        return Ok(None);
    };
    let log = mesh.state().dir().join("pods").join(&load.uid).join(LOG);
    let text = fs::read_to_string(&log).unwrap_or_default();
    let mut lines = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(lines.rfind(|line| line["event"] == "summary"))
}

/// The load generator's container writes here, in its pod's directory.
const LOG: &str = "load.log";

/// Waits until the proxies have reported what the load generator has counted, then takes stock.
async fn evidence(
    args: &Demo,
    app: &App,
    mesh: &Mesh,
    load: Value,
    start_s: f64,
) -> anyhow::Result<Evidence> {
    let end = Instant::now() + REPORTS;
    let mut tick = interval(Duration::from_millis(200));
    let window = args.seconds.max(1);
    loop {
        tick.tick().await;
        let stat = traffic(args, mesh, window).await?;
        let counted = verdict::requests_of_load(&stat);
        let complete = args.no_mesh || counted >= load["requests"].as_u64().unwrap_or(0);
        if complete || Instant::now() >= end {
            let pods = api::pods(mesh.state()).await?;
            return Ok(Evidence {
                load,
                pods,
                stat,
                wanted: mesh.pods(),
                start_s,
                left_out: app.left_out(),
                observer: None,
            });
        }
    }
}
