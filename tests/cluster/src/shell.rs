// SPDX-License-Identifier: Apache-2.0
//! Other programs, run to their end or until they succeed. A failure names the command and what it said.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};

/// A line for people, on standard error.
pub(crate) fn say(text: &str) {
    // Nobody reads it when standard error is gone.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Runs `command` and gives its standard output; what it said is in the error if it failed.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let text = text(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("failed to run {text}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{text} failed ({}): {}", output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The same, with `input` on its standard input.
pub(crate) fn output_of(command: &mut Command, input: &[u8]) -> anyhow::Result<String> {
    let text = text(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to run {text}"))?;
    let pipe = child.stdin.take();
    // A program that ends before it has read everything says why by its status.
    let _ = pipe.map(|mut pipe| pipe.write_all(input));
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{text} failed ({}): {}", output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// As somebody would type it.
fn text(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

/// The variable that says how many times longer than usual anything may take.
pub(crate) const PATIENCE: &str = "MAILLE_TEST_PATIENCE";

/// How many times slower than usual this machine is.
pub(crate) fn slowness() -> u32 {
    let times = std::env::var_os(PATIENCE);
    let times = times.and_then(|text| text.to_str()?.parse().ok());
    times.unwrap_or(1)
}

/// How long what usually takes no longer than `limit` may take on this machine.
pub(crate) fn patience(limit: Duration) -> Duration {
    limit * slowness()
}

/// Asks again, ten times a second, until `ask` succeeds or `limit` has passed; then its last error says why.
///
/// # Errors
///
/// The last error of `ask`, with `what` before it.
pub(crate) fn until<T>(
    what: &str,
    limit: Duration,
    ask: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    every(100, what, limit, ask)
}

/// The same for what takes minutes: asked every five seconds.
///
/// # Errors
///
/// The last error of `ask`, with `what` before it.
pub(crate) fn patiently<T>(
    what: &str,
    limit: Duration,
    ask: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    every(5_000, what, limit, ask)
}

fn every<T>(
    milliseconds: u16,
    what: &str,
    limit: Duration,
    mut ask: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let (begin, limit) = (SystemTime::now(), patience(limit));
    loop {
        match ask() {
            Ok(done) => return Ok(done),
            Err(error) if begin.elapsed().unwrap_or(limit) >= limit => {
                return Err(error).with_context(|| format!("{what}: not within {limit:?}"));
            }
            Err(_) => pause(milliseconds),
        }
    }
}

/// Between two questions.
fn pause(milliseconds: u16) {
    let nobody: &mut [nix::poll::PollFd<'_>] = &mut [];
    // An interruption only shortens it.
    let _ = nix::poll::poll(nobody, milliseconds);
}
