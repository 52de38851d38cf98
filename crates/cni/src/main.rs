// SPDX-License-Identifier: Apache-2.0
//! `maille-cni`: see the library. Not for people: the container runtime calls it.

#![forbid(unsafe_code)]

use std::io::{Read as _, Write as _};
use std::process::ExitCode;

/// More than any configuration has.
const LONGEST: u64 = 4 << 20;

fn main() -> ExitCode {
    let mut input = Vec::new();
    let read = std::io::stdin().take(LONGEST).read_to_end(&mut input);
    let (text, code) = match read {
        Ok(_) => maille_cni::run::run(&maille_cni::call::Env::process(), &input),
        Err(error) => maille_cni::run::unread(&error),
    };
    // A runtime that does not listen any more has given the call up.
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}
