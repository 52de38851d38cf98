// SPDX-License-Identifier: Apache-2.0
//! Programs and manifests of others from their Go modules, each pinned by version and hash; nothing of them is in this repository.
//!
//! Must never take a module whose content is another than what was looked at. Read `tests/foreign.rs` for the user.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::shell::output;

/// A Go module.
#[derive(Debug)]
pub struct Module {
    /// What it is called.
    pub path: &'static str,
    /// Which version.
    pub version: &'static str,
    /// The hash of its content, as in a `go.sum`.
    pub sum: &'static str,
}

impl Module {
    /// Where its content is.
    ///
    /// # Errors
    ///
    /// It cannot be had, or is another.
    pub fn directory(&self) -> anyhow::Result<PathBuf> {
        let outside = tempfile::tempdir()?;
        let mut download = go(outside.path());
        download
            // The hash below is what it is compared with.
            .env("GONOSUMDB", "*")
            .args(["mod", "download", "-json"])
            .arg(format!("{}@{}", self.path, self.version));
        let told: Value = serde_json::from_str(&output(&mut download)?)?;
        ensure!(
            told["Sum"] == self.sum,
            "{} is another: {told:#}",
            self.path
        );
        let directory = told["Dir"].as_str().context("a module has a directory")?;
        Ok(PathBuf::from(directory))
    }

    /// Builds one of its programs, with the versions that its own `go.sum` pins.
    ///
    /// # Errors
    ///
    /// What the compiler said.
    pub fn build(&self, package: &str, program: &Path) -> anyhow::Result<()> {
        let mut build = go(&self.directory()?);
        build.args(["build", "-trimpath", "-mod=readonly", "-o"]);
        output(build.arg(program).arg(package)).map(|_| ())
    }

    /// Builds a program that is one file and needs nothing but the language's own library.
    ///
    /// # Errors
    ///
    /// What the compiler said.
    pub fn build_file(&self, file: &str, program: &Path) -> anyhow::Result<()> {
        let outside = tempfile::tempdir()?;
        let mut build = go(outside.path());
        build.args(["build", "-trimpath", "-o"]).arg(program);
        output(build.arg(self.directory()?.join(file))).map(|_| ())
    }
}

/// `go` in a directory, without C and without another version of itself.
pub(crate) fn go(directory: &Path) -> Command {
    let mut command = Command::new("go");
    command
        .current_dir(directory)
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "")
        .env("GOTOOLCHAIN", "local");
    command
}
