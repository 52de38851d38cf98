// SPDX-License-Identifier: Apache-2.0
//! `maille-steady serve MILLISECONDS`, or `maille-steady load HOST RATE CONNECTIONS STREAMS`: see `steady.rs`.

#![forbid(unsafe_code)]

use std::time::Duration;

use anyhow::{Context as _, bail};
use maille_tests_e2e::steady::{load, serve};

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the event loop")?;
    match args[..] {
        ["serve", warmup] => {
            let warmup = Duration::from_millis(warmup.parse()?);
            runtime.block_on(serve::run(warmup))
        }
        ["load", host, rate, connections, streams] => {
            let options = load::Options {
                host: host.to_owned(),
                rate: rate.parse()?,
                connections: connections.parse()?,
                streams: streams.parse()?,
            };
            runtime.block_on(load::run(options))
        }
        _ => bail!("serve MILLISECONDS, or load HOST RATE CONNECTIONS STREAMS"),
    }
}
