// SPDX-License-Identifier: Apache-2.0
//! Processes of a pod as the machine that all nodes share sees them: for faults that happen inside, without the API server.
//!
//! Must never touch a process of anybody else: a pod's uid in a control group is nobody else's.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pid: i32,
    args: Vec<String>,
}

impl Process {
    /// The one process of pod `uid` whose program ends with `program`.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn of_pod(uid: &str, program: &str) -> anyhow::Result<Self> {
        if uid.is_empty() {
            bail!("a pod without a uid has no processes");
        }
        let group = format!("pod{uid}");
        for entry in fs::read_dir("/proc")? {
            let path = entry?.path();
            // What ended meanwhile is not the one.
            let groups = fs::read_to_string(path.join("cgroup")).unwrap_or_default();
            if !groups.contains(&group) {
                continue;
            }
            let line = fs::read_to_string(path.join("cmdline")).unwrap_or_default();
            let args: Vec<String> = line.split_terminator('\0').map(str::to_owned).collect();
            if args.first().is_some_and(|first| first.ends_with(program)) {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let pid = name.parse().context("a process has a number")?;
                return Ok(Self { pid, args });
            }
        }
        bail!("pod {uid} has no process {program}")
    }

    /// Its number.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// A command that runs `program` in its network; paths keep their meaning.
    pub fn on_network(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid.to_string(), "-n", "--", program]);
        command
    }

    /// Bytes of it that are in memory.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub fn resident(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let words = line.context("a process has memory")?.split_whitespace();
        let kib: u64 = words.take(1).collect::<String>().parse()?;
        Ok(kib * 1024)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let sent = kill(Pid::from_raw(self.pid), signal);
        sent.with_context(|| format!("{signal} to {}", self.args.join(" ")))
    }
}
