// SPDX-License-Identifier: Apache-2.0
//! `maille-init`: runs [`maille_node::init`], which is the file to read.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use maille_chassis::config::Env;
use maille_node::init;

fn main() -> ExitCode {
    match init::run(&Env::process()) {
        Ok((inboard, by)) => {
            eprintln!(
                "maille-init: TCP of this pod goes through the proxy, but for inbound ports [{}] and outbound ports [{}]; by {by}",
                inboard.skip_inbound, inboard.skip_outbound
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("maille-init: {:#}", anyhow::Error::from(error));
            ExitCode::FAILURE
        }
    }
}
