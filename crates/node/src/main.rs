// SPDX-License-Identifier: Apache-2.0
//! `maille-node`: see the library.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use maille_node::args::Role;

fn main() -> ExitCode {
    let args = match maille_node::args::parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(error) => {
            eprintln!("maille-node: {error}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        let done = match args {
            Role::Run(args) => runtime.block_on(maille_node::run::run(*args)),
            Role::Kubernetes(agent) => runtime.block_on(maille_node::kubernetes::run(*agent)),
            Role::Frames(frames) => runtime.block_on(maille_node::kubernetes::frames(frames)),
            Role::Here => maille_node::kubernetes::here(),
        };
        runtime.shutdown_background();
        done
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("maille-node: {error:#}");
            ExitCode::FAILURE
        }
    }
}
