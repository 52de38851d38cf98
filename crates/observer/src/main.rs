// SPDX-License-Identifier: Apache-2.0
//! `maille-observer`: exit code 0 if it found nothing wrong, 3 if it did, 2 if it was called wrongly, 1 if it could not work.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use maille_observer::{Args, Outcome, run};

fn main() -> ExitCode {
    let args = match Args::parse(std::env::args_os().skip(1)) {
        Ok(args) => args,
        Err(error) => {
            eprintln!("maille-observer: {error}");
            return ExitCode::from(2);
        }
    };
    match run(&args) {
        Ok(Outcome::Clean) => ExitCode::SUCCESS,
        Ok(Outcome::Violated) => ExitCode::from(3),
        Err(error) => {
            eprintln!("maille-observer: {error:#}");
            ExitCode::FAILURE
        }
    }
}
