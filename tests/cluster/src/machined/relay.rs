// SPDX-License-Identifier: Apache-2.0
//! What is left of a container on its node: it loads the container into the machine, says what that says, and ends as that ends. When it is gone the
//! machine kills the container.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;

use crate::guest::ENDED;
use crate::shell::until;

/// For a machine's ports.
const LIMIT: Duration = Duration::from_secs(20);
/// As whoever is killed.
const KILLED: u8 = 137;

/// Is the container at `port` of the machine whose directory is `vm`.
///
/// # Errors
///
/// The machine cannot be reached.
pub fn run(vm: &Path, port: &str) -> anyhow::Result<ExitCode> {
    let at = vm.join(port);
    let mut stream = until("the machine", LIMIT, || Ok(UnixStream::connect(&at)?))?;
    let mut load = File::open(vm.join(format!("{port}.load")))?;
    let said = BufReader::new(stream.try_clone()?);
    // It takes it as its machine begins; one that ends before is heard below.
    thread::spawn(move || std::io::copy(&mut load, &mut stream).map(|_| stream));
    let mut out = std::io::stdout();
    for line in said.split(b'\n') {
        let Ok(line) = line else { break };
        let text = String::from_utf8_lossy(&line);
        if let Some(code) = text.strip_prefix(ENDED) {
            return Ok(code.trim().parse().context("how it ended")?).map(|code: u8| code.into());
        }
        out.write_all(&line)?;
        out.write_all(b"\n")?;
    }
    Ok(KILLED.into())
}
