// SPDX-License-Identifier: Apache-2.0
//! A machine made of namespaces: one process tree with mounts, network, processes, host name and IPC of its own.
//!
//! Killing its process 1 is pulling its plug: what it mounted, linked and started is gone with it. Read `init.rs` for what
//! process 1 does.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::init::hierarchies;
use crate::shell::{output, until};

/// How long a machine may take to come or to go.
const LIMIT: Duration = Duration::from_secs(20);

/// A machine, running or not.
#[derive(Debug, Clone)]
pub struct Machine {
    name: String,
    dir: PathBuf,
    cgroup: String,
}

impl Machine {
    /// The machine `name`: its files in `dir`, its processes in `cgroup`. Says nothing of whether it runs.
    pub(crate) fn new(name: &str, dir: PathBuf, cgroup: &str) -> Self {
        Self {
            name: name.to_owned(),
            dir,
            cgroup: format!("{cgroup}/{name}"),
        }
    }

    /// Its name, which is its host name and its node's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its files are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its cgroup, below the root of each hierarchy.
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// Its process 1, if it runs.
    pub fn pid(&self) -> Option<i32> {
        let text = fs::read_to_string(self.dir.join("pid")).ok()?;
        let pid: i32 = text.trim().parse().ok()?;
        // A pid is used again by others: only a process that names this directory is meant.
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        line.contains(&self.dir.display().to_string())
            .then_some(pid)
    }

    /// Starts it: `init` is the program that has [`crate::init::run`] behind its verb `init`.
    ///
    /// # Errors
    ///
    /// It runs already, or its process 1 failed; then its log is told.
    pub fn boot(&self, init: &Path) -> anyhow::Result<()> {
        if self.pid().is_some() {
            bail!("{} runs already", self.name);
        }
        fs::create_dir_all(self.dir.join("log"))?;
        let ready = self.dir.join("ready");
        let _ = fs::remove_file(&ready);
        let log = self.dir.join("log/init.log");
        let file = File::create(&log)?;
        let mut outer = Command::new("setsid")
            .args([
                "unshare",
                "--mount",
                "--propagation",
                "private",
                "--net",
                "--pid",
                "--uts",
                "--ipc",
            ])
            .args(["--fork", "--mount-proc", "--kill-child"])
            .arg(init)
            .args(["init", &self.name])
            .arg(&self.dir)
            .arg(&self.cgroup)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .context("failed to run unshare")?;
        let pid = until("a machine", LIMIT, || {
            if let Some(status) = outer.try_wait()? {
                return Ok(Err(status));
            }
            if !ready.exists() {
                bail!("its process 1 is not ready");
            }
            let id = outer.id();
            let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
            Ok(Ok(children.trim().to_owned()))
        })?;
        match pid {
            Ok(pid) => Ok(fs::write(self.dir.join("pid"), pid)?),
            Err(status) => {
                let said = fs::read_to_string(&log).unwrap_or_default();
                bail!("{} did not start ({status}): {}", self.name, said.trim())
            }
        }
    }

    /// Pulls its plug and waits until nothing is left of it but its files.
    ///
    /// # Errors
    ///
    /// Something did not end within the limit.
    pub fn halt(&self) -> anyhow::Result<()> {
        if let Some(pid) = self.pid() {
            // Gone by itself is as good.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            until("the end of a machine", LIMIT, || match self.pid() {
                None => Ok(()),
                Some(pid) => bail!("{} still has process {pid}", self.name),
            })?;
        }
        let _ = fs::remove_file(self.dir.join("pid"));
        for root in hierarchies()? {
            let dir = root.join(&self.cgroup);
            until("the end of a cgroup", LIMIT, || remove_groups(&dir))?;
        }
        Ok(())
    }

    /// A command that runs `program` in it: in all its namespaces, with its root directory.
    ///
    /// # Errors
    ///
    /// It does not run.
    pub fn enter(&self, program: impl AsRef<Path>) -> anyhow::Result<Command> {
        self.entered(&["-m", "-n", "-p", "-u", "-i"], program.as_ref())
    }

    /// A command that runs `program` in its network alone: paths keep their meaning.
    ///
    /// # Errors
    ///
    /// It does not run.
    pub fn on_network(&self, program: impl AsRef<Path>) -> anyhow::Result<Command> {
        self.entered(&["-n"], program.as_ref())
    }

    fn entered(&self, namespaces: &[&str], program: &Path) -> anyhow::Result<Command> {
        let pid = self
            .pid()
            .with_context(|| format!("{} does not run", self.name))?;
        let mut command = Command::new("nsenter");
        command
            .args(["-t", &pid.to_string()])
            .args(namespaces)
            .arg("--")
            .arg(program);
        Ok(command)
    }

    /// Starts a daemon in it, in its cgroup for daemons, with a log of its own; it goes on when this program ends. What is
    /// called by `PATH` is looked for in `path` first.
    ///
    /// # Errors
    ///
    /// It cannot be started. That it ends later is seen in its log.
    pub fn daemon(&self, name: &str, path: &Path, line: &[String]) -> anyhow::Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.join(format!("log/{name}.log")))?;
        // The shell joins the cgroups, which entering namespaces does not, leaves its pid and becomes the daemon.
        let script = "for g in /sys/fs/cgroup /sys/fs/cgroup/*; do \
             [ ! -f \"$g/$1/cgroup.procs\" ] || echo $$ >\"$g/$1/cgroup.procs\"; done; \
             echo $$ >\"/run/$2.pid\"; PATH=$3:$PATH; export PATH; shift 3; exec setsid \"$@\"";
        self.enter("sh")?
            .args([
                "-c",
                script,
                "sh",
                &format!("{}/daemons", self.cgroup),
                name,
            ])
            .arg(path)
            .args(line)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("failed to start {name} on {}", self.name))?;
        Ok(())
    }

    /// Runs `ip` in it.
    ///
    /// # Errors
    ///
    /// What `ip` said.
    pub(crate) fn ip(&self, args: &str) -> anyhow::Result<()> {
        output(self.enter("ip")?.args(args.split_ascii_whitespace())).map(|_| ())
    }
}

/// Removes a cgroup and those in it, which must be empty.
fn remove_groups(dir: &Path) -> anyhow::Result<()> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok(());
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_groups(&entry.path())?;
        }
    }
    fs::remove_dir(dir).with_context(|| dir.display().to_string())
}
