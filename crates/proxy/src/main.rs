// SPDX-License-Identifier: Apache-2.0
//! `maille-proxy`: reads its settings and runs [`maille_proxy::process`], which is the file to read.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::Context as _;
use maille_chassis::config::Env;
use maille_chassis::log;
use maille_proxy::config::Config;
use maille_proxy::process;

fn main() -> ExitCode {
    match run() {
        Ok(()) => {
            log::flush();
            ExitCode::SUCCESS
        }
        Err(error) => {
            log::flush();
            eprintln!("maille-proxy: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let environment = Env::process();
    let config = Config::read(&environment).context("settings")?;
    log::init(&config.log, config.log_format).context("log")?;
    process::run(config, &environment)?;
    Ok(())
}
