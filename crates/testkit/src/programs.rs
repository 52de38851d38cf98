// SPDX-License-Identifier: Apache-2.0
//! The programs under test: those beside the running test, so that nothing installed is tested by accident.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, ensure};

/// The directory of the programs.
#[derive(Debug, Clone)]
pub struct Programs(PathBuf);

impl Programs {
    /// `target/PROFILE` of a test in `target/PROFILE/deps`.
    pub fn find() -> anyhow::Result<Self> {
        let own = std::env::current_exe()?;
        let dir = own
            .parent()
            .and_then(|deps| deps.parent())
            .context("a test without a directory")?;
        let programs = Self(dir.to_owned());
        let path = programs.path("maille");
        ensure!(
            path.is_file(),
            "{} is missing: run the ring with `cargo xtask test e2e`",
            path.display()
        );
        Ok(programs)
    }

    /// Where a program is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// `maille`, without arguments yet.
    pub fn maille(&self) -> Command {
        Command::new(self.path("maille"))
    }
}
