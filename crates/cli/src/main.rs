// SPDX-License-Identifier: Apache-2.0
//! `maille`: reads the command line, runs one verb, turns a failure into text, hint and exit code. Read `lib.rs` next.

#![forbid(unsafe_code)]

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use maille_cli::{Cli, Expected, Screen, clean_lines, guard};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(wrong) => return refuse(&wrong),
    };
    let screen = Screen::new(&cli.global);
    std::panic::set_hook(Box::new(defect));
    let error = match std::panic::catch_unwind(|| maille_cli::run(cli)) {
        Ok(Ok(code)) => return code,
        Ok(Err(error)) => error,
        // The hook has said it.
        Err(_) => return ExitCode::from(1),
    };
    let expected = error.downcast_ref::<Expected>();
    let mut err = std::io::stderr().lock();
    // A reader of standard error that went away gets the exit code all the same.
    let text = clean_lines(&format!("{error:#}"));
    let _ = writeln!(err, "{} {text}", screen.red("error:"));
    if let Some(hint) = expected.and_then(Expected::hint) {
        let _ = writeln!(err, "{} {}", screen.bold("hint:"), clean_lines(&hint));
    }
    ExitCode::from(expected.map_or(1, Expected::exit))
}

/// Help, or what is wrong with the command line, which may have been made of a stranger's text.
fn refuse(wrong: &clap::Error) -> ExitCode {
    if !wrong.use_stderr() {
        // Help that nobody reads any more is no failure.
        let _ = wrong.print();
        return ExitCode::SUCCESS;
    }
    let text = guard(&wrong.render().to_string());
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
    ExitCode::from(u8::try_from(wrong.exit_code()).unwrap_or(2))
}

/// A defect of this program, in a sentence: nobody who uses it can read a panic.
fn defect(panic: &std::panic::PanicHookInfo<'_>) {
    let at = panic
        .location()
        .map(ToString::to_string)
        .unwrap_or_default();
    let text = format!(
        "error: this program has a defect, at {at}\nhint: report it with the command that you typed; nothing was changed by this message\n"
    );
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}
