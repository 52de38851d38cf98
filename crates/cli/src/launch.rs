// SPDX-License-Identifier: Apache-2.0
//! Starts the runner, `maille-node run`, in namespaces of its own: when it ends, the kernel removes everything it made.
//!
//! Must never start it outside: then nothing would clean up. Read `mesh.rs` for its life.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use crate::failure::Expected;
use crate::state::State;

/// What differs from run to run.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// Have a witness on the wire that searches for this text.
    pub(crate) observe: Option<String>,
    /// Run the pods without any mesh, although the witness is told what should be protected.
    pub(crate) no_mesh: bool,
}

/// The runner's process.
#[derive(Debug)]
pub(crate) struct Node {
    child: Child,
    pid: i32,
}

impl Node {
    /// Starts it. Its log goes to `node.log` of the state directory.
    pub(crate) fn start(state: &State, options: &Options) -> anyhow::Result<Self> {
        let log =
            File::create_new(state.dir().join("node.log")).context("failed to make node.log")?;
        let program = beside("maille-node")?;
        let mut command = Command::new(&program);
        command
            .env("PATH", search_path(&program))
            .arg("run")
            .arg("--state")
            .arg(state.dir())
            .args(["--name", state.name()]);
        if let Some(marker) = &options.observe {
            command.arg("--observe").args(["--marker", &hex(marker)]);
        }
        if options.no_mesh {
            command.arg("--no-mesh");
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("failed to start the runner")?;
        let pid = child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .context("no pid")?;
        Ok(Self { child, pid })
    }

    /// Its pid as this process sees it.
    pub(crate) const fn pid(&self) -> i32 {
        self.pid
    }

    /// Signals it, unless it has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.child.id().is_some() {
            // It may end at this moment; its pid stays its own until it is waited for.
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Waits for its end.
    pub(crate) async fn exited(&mut self) {
        let _ = self.child.wait().await;
    }

    /// Waits for an end that nobody asked for, and says how it was.
    pub(crate) async fn died(&mut self) -> Expected {
        let how = match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        Expected::Node {
            what: format!("the runner ended by itself: {how}"),
        }
    }
}

/// Programs of this release come first, so that a manifest may name `maille-demo`; the places of `nft` come last.
fn search_path(program: &Path) -> OsString {
    let here = program.parent().map(PathBuf::from);
    let given = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let all = here
        .into_iter()
        .chain(std::env::split_paths(&given))
        .chain(system);
    // Only a directory with a colon in its name cannot be joined.
    std::env::join_paths(all).unwrap_or(given)
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// A program of ours, beside this one.
pub(crate) fn beside(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("failed to find this program")?;
    let path = own.with_file_name(name);
    if path.is_file() {
        Ok(path)
    } else {
        Err(Expected::Missing { path }.into())
    }
}
