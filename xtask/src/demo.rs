// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask demo`: from a bare machine to the running example in one command.
//!
//! Must never do what `maille demo` can do: it prepares, builds and hands over. Read `machine.rs` next.

use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::machine;
use crate::shell::{Cmd, root, say};

/// The packages whose programs make up a release.
pub(crate) const PROGRAMS: &[&str] = &[
    "maille-cli",
    "maille-node",
    "maille-control",
    "maille-proxy",
    "maille-observer",
    "maille-demo",
];

/// Prepares, builds, and becomes `maille demo ARGS`.
pub(crate) fn run(args: &[String]) -> anyhow::Result<ExitCode> {
    machine::prepare(machine::RUN)?;
    say("building the release binaries (minutes the first time)");
    build()?;
    let target = root().join("target/release/maille");
    let command = Cmd::new(target).args(["demo"]).args(args);
    // Returns only when it failed.
    let error = command.command().exec();
    Err(error).with_context(|| format!("failed to run {}", command.text()))
}

/// Builds the release binaries.
pub(crate) fn build() -> anyhow::Result<()> {
    let packages = PROGRAMS.iter().flat_map(|package| ["--package", package]);
    Cmd::new("cargo")
        .args(["build", "--release", "--locked"])
        .args(packages)
        .run()
}
