// SPDX-License-Identifier: Apache-2.0
//! `maille-proxy`: reads its settings and runs [`maille_proxy::process`], which is the file to read.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use maille_chassis::config::Env;
use maille_chassis::{log, panics};
use maille_proxy::config::Config;
use maille_proxy::{preflight, process};

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == preflight::VERB) {
        return child();
    }
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

/// What [`preflight::check`] starts; it tells what this ends with.
fn child() -> ExitCode {
    let Ok(config) = Config::read(&Env::process()) else {
        return ExitCode::FAILURE;
    };
    match preflight::probe(&config, &mut std::io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.code(&config).into(),
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
        control = %config.control,
        capture = ?config.capture,
        source = ?config.source,
        drain_seconds = config.drain.as_secs(),
        "starting"
    );
    Ok(process::run(config, &environment)?)
}
