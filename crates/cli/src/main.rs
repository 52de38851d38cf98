// SPDX-License-Identifier: Apache-2.0
//! `maille`: reads the command line, runs one verb, turns a failure into text, hint and exit code. Read `lib.rs` next.

#![forbid(unsafe_code)]

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use maille_cli::{Cli, Expected, Screen};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let screen = Screen::new(&cli.global);
    let error = match maille_cli::run(cli) {
        Ok(code) => return code,
        Err(error) => error,
    };
    let expected = error.downcast_ref::<Expected>();
    let mut err = std::io::stderr().lock();
    // A reader of standard error that went away gets the exit code all the same.
    let _ = writeln!(err, "{} {error:#}", screen.red("error:"));
    if let Some(hint) = expected.and_then(Expected::hint) {
        let _ = writeln!(err, "{} {hint}", screen.bold("hint:"));
    }
    ExitCode::from(expected.map_or(1, Expected::exit))
}
