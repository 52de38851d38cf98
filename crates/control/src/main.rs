// SPDX-License-Identifier: Apache-2.0
//! maille-control: reads the command line, starts [`maille_control::run`], and ends when it is told to.

#![forbid(unsafe_code)]

use std::pin::pin;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use maille_chassis::config::Env;
use maille_chassis::drain::{Drain, Signals};
use maille_chassis::tasks::Tasks;
use maille_chassis::{log, notify};
use maille_control::run;
use maille_control::settings::{LOG, Settings, Source};

/// Streams end at once when they are told; this is for answers that are on their way.
const DRAIN: Duration = Duration::from_secs(5);

fn main() -> anyhow::Result<()> {
    let settings = Settings::parse();
    let env = Env::process();
    let filter: String = LOG.required(&env)?;
    log::init(&filter, log::FORMAT.required(&env)?)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime")?;
    runtime.block_on(serve(&settings, &env))
}

async fn serve(settings: &Settings, env: &Env) -> anyhow::Result<()> {
    let mut signals = Signals::install().context("signals cannot be handled")?;
    let (tasks, mut drain) = (Tasks::new(), Drain::new());
    let running = match &settings.source {
        Source::State(state) => run::start(settings, state, &tasks, &drain)?,
        Source::Kubernetes(place) => run::cluster::start(settings, place, &tasks, &drain).await?,
    };
    notify::ready(env).context("the supervisor was not told")?;
    tracing::info!(source = ?settings.source, "started");
    let mut failed = pin!(running.failed);
    let failure = tokio::select! {
        () = signals.next() => None,
        failure = failed.as_mut() => Some(failure),
    };
    let ended = drain.finish(DRAIN, signals.next()).await;
    tracing::info!(?ended, "stopped");
    match failure {
        None => Ok(()),
        Some(Ok(error)) => Err(error).context("the source failed"),
        Some(Err(_)) => anyhow::bail!("the source ended"),
    }
}
