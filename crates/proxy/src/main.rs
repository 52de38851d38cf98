// SPDX-License-Identifier: Apache-2.0
//! `maille-proxy`: reads its settings and runs [`maille_proxy::process`], which is the file to read.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use maille_chassis::config::Env;
use maille_chassis::{log, panics};
use maille_proxy::config::Config;
use maille_proxy::process;

fn main() -> ExitCode {
    let ended = run();
    log::flush();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("maille-proxy: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let environment = Env::process();
    let config = Config::read(&environment)?;
    log::init(&config.log, config.log_format)?;
    panics::install();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        workload = %config.workload,
        agent = %config.agent.display(),
        source = ?config.source,
        drain_seconds = config.drain.as_secs(),
        "starting"
    );
    Ok(process::run(config, &environment)?)
}
