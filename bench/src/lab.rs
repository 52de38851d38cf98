// SPDX-License-Identifier: Apache-2.0
//! The bench's own world: two namespaces, a veth between them, and processes that die with it.

use std::fs::File;
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};

/// The client's end of the veth.
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 251, 0, 1);
/// The server's end of the veth.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 251, 0, 2);
/// Where the backend listens, in the server's namespace.
pub(crate) const BACKEND: &str = "10.251.0.2:8080";

/// Which namespace a process runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// Which core a process runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Core {
    /// Load generator and backend.
    Load = 0,
    /// The pair under test.
    Pair = 1,
}

/// Namespaces and scratch files; dropping it removes both.
#[derive(Debug)]
pub(crate) struct Lab {
    scratch: tempfile::TempDir,
    prefix: String,
}

/// A process of the bench; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Lab {
    pub(crate) fn build() -> anyhow::Result<Self> {
        let lab = Self {
            scratch: tempfile::tempdir()?,
            prefix: format!("maille-bench-{}", std::process::id()),
        };
        let (client, server) = (lab.namespace(Side::Client), lab.namespace(Side::Server));
        ip(&["netns", "add", &client])?;
        ip(&["netns", "add", &server])?;
        ip(&[
            "-n", &client, "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns",
            &server,
        ])?;
        for (namespace, address) in [(&client, CLIENT), (&server, SERVER)] {
            ip(&[
                "-n",
                namespace,
                "address",
                "add",
                &format!("{address}/24"),
                "dev",
                "wire",
            ])?;
            ip(&["-n", namespace, "link", "set", "wire", "up"])?;
            ip(&["-n", namespace, "link", "set", "lo", "up"])?;
        }
        Ok(lab)
    }

    /// Folder for configuration files and logs.
    pub(crate) fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// A command on a core, in a namespace.
    pub(crate) fn command(&self, side: Side, core: Core, program: &Path) -> Command {
        let mut command = Command::new("taskset");
        command.arg("-c").arg((core as u8).to_string());
        command
            .args(["ip", "netns", "exec", &self.namespace(side)])
            .arg(program);
        command
    }

    /// Starts a process whose output goes to `NAME.log` in the scratch folder.
    pub(crate) fn start(&self, name: &str, command: &mut Command) -> anyhow::Result<Process> {
        let log = self.scratch().join(format!("{name}.log"));
        let out = File::create(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        Ok(Process { child, log })
    }

    fn namespace(&self, side: Side) -> String {
        match side {
            Side::Client => format!("{}-c", self.prefix),
            Side::Server => format!("{}-s", self.prefix),
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for side in [Side::Client, Side::Server] {
            if let Err(error) = ip(&["netns", "delete", &self.namespace(side)]) {
                eprintln!("maille-bench: left behind: {error:#}");
            }
        }
    }
}

impl Process {
    /// CPU time of all threads so far, in nanoseconds, as the scheduler counts it (`/proc/PID/task/TID/schedstat`).
    pub(crate) fn cpu_nanos(&mut self) -> anyhow::Result<u64> {
        if let Some(status) = self.child.try_wait()? {
            bail!("ended early ({status}): {}", self.tail());
        }
        let mut total = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
            total += text
                .split_whitespace()
                .next()
                .context("empty schedstat")?
                .parse::<u64>()?;
        }
        Ok(total)
    }

    /// Resident set in KiB.
    pub(crate) fn rss_kib(&self) -> anyhow::Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
    }

    fn tail(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = File::open(&self.log) {
            drop(file.read_to_string(&mut text));
        }
        let lines: Vec<_> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Ended already, or not ours to end any more: there is nothing left to do in either case.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .context("running ip (package iproute2)")?;
    if !output.status.success() {
        bail!(
            "ip {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
