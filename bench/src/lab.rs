// SPDX-License-Identifier: Apache-2.0
//! The bench's own worlds: two namespaces, a veth between them, perhaps one in front of each, and processes that die with it.

use std::fs::File;
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use maille_chassis::clock::Clock;
use maille_node::capture::{self, Listeners, Options};
use maille_sys::netns::NetNs;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::pause::pause;

/// The client's end of the veth.
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 251, 0, 1);
/// The server's end of the veth.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 251, 0, 2);
/// Both ends' name.
const WIRE: &str = "wire";
/// The file of a GiB that the backend serves.
pub(crate) const BULK: &str = "bulk";

/// Open files of each process, where this machine allows as many.
const DESCRIPTORS: u64 = 65_536;

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
    descriptors: u64,
}

/// Worlds that were built before, whose namespaces have names of their own.
static BUILT: AtomicU32 = AtomicU32::new(0);

/// A process of the bench; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Lab {
    pub(crate) fn build() -> anyhow::Result<Self> {
        // Of the load, and of every process that is started.
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let descriptors = most.min(DESCRIPTORS);
        setrlimit(Resource::RLIMIT_NOFILE, descriptors, most)?;
        let lab = Self {
            descriptors,
            scratch: tempfile::tempdir()?,
            prefix: format!(
                "maille-bench-{}-{}",
                std::process::id(),
                BUILT.fetch_add(1, Ordering::Relaxed)
            ),
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

    /// Connections that a proxy can have: each has two ends there.
    pub(crate) const fn most_connections(&self) -> u64 {
        self.descriptors.saturating_sub(400) / 2
    }

    /// Does something in a namespace, on a thread of its own.
    pub(crate) fn inside<T: Send>(
        &self,
        side: Side,
        work: impl FnOnce() -> T + Send,
    ) -> anyhow::Result<T> {
        Ok(self.pinned(side)?.run(work)?)
    }

    fn pinned(&self, side: Side) -> anyhow::Result<NetNs> {
        let path = pin(&self.namespace(side));
        NetNs::pinned(&path).with_context(|| path.display().to_string())
    }

    /// Puts a namespace in front of one, as outboard capture does. What listens there is the proxy's, which is [started](Self::command_in_front) there.
    pub(crate) fn capture(&self, side: Side) -> anyhow::Result<Listeners> {
        let captured = capture::insert(&self.pinned(side)?, WIRE, &Options::default())?;
        captured.mesh.pin(&pin(&self.in_front(side)))?;
        Ok(captured.listeners)
    }

    /// Everything that is not on the wire's own network goes to its other end.
    pub(crate) fn route(&self, side: Side) -> anyhow::Result<()> {
        let other = match side {
            Side::Client => SERVER,
            Side::Server => CLIENT,
        };
        let (namespace, other) = (self.namespace(side), other.to_string());
        ip(&["-n", &namespace, "route", "add", "default", "via", &other])
    }

    /// Makes packets between the two small: more of them are needed.
    pub(crate) fn narrow(&self) -> anyhow::Result<()> {
        for side in [Side::Client, Side::Server] {
            let namespace = self.namespace(side);
            ip(&[
                "-n",
                &namespace,
                "link",
                "set",
                "wire",
                "mtu",
                "600",
                "gso_max_segs",
                "1",
            ])?;
        }
        Ok(())
    }

    /// Does something in the client's namespace on the load's core, as do the threads that it starts.
    pub(crate) fn load<T: Send>(
        &self,
        work: impl FnOnce() -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<T> {
        self.inside(Side::Client, || {
            let mut core = CpuSet::new();
            core.set(Core::Load as usize)?;
            sched_setaffinity(Pid::from_raw(0), &core)?;
            work()
        })?
    }

    /// One more address of an end of the wire.
    pub(crate) fn address(&self, side: Side, address: Ipv4Addr) -> anyhow::Result<()> {
        let (namespace, address) = (self.namespace(side), format!("{address}/24"));
        ip(&["-n", &namespace, "address", "add", &address, "dev", "wire"])
    }

    /// A file in the scratch folder.
    pub(crate) fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.scratch().join(name);
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// A command on a core, in a namespace.
    pub(crate) fn command(&self, side: Side, core: Core, program: &Path) -> Command {
        pinned(&self.namespace(side), core, program)
    }

    /// The same in the namespace that is in front of a captured one.
    pub(crate) fn command_in_front(&self, side: Side, core: Core, program: &Path) -> Command {
        pinned(&self.in_front(side), core, program)
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

    fn in_front(&self, side: Side) -> String {
        format!("{}-mesh", self.namespace(side))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for side in [Side::Client, Side::Server] {
            for name in [self.namespace(side), self.in_front(side)] {
                if pin(&name).exists()
                    && let Err(error) = ip(&["netns", "delete", &name])
                {
                    eprintln!("maille-bench: left behind: {error:#}");
                }
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

    /// Asks it to end, and waits until it has.
    pub(crate) fn end(mut self, within: Duration) -> anyhow::Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?);
        kill(pid, Signal::SIGTERM)?;
        let clock = Clock::start();
        while self.child.try_wait()?.is_none() {
            ensure!(clock.elapsed() < within, "it does not end: {}", self.tail());
            pause(Duration::from_millis(20))?;
        }
        Ok(())
    }

    /// Resident set in KiB.
    pub(crate) fn resident_kib(&self) -> anyhow::Result<u64> {
        self.status("VmRSS:")
    }

    /// What of it belongs to no file, in KiB.
    pub(crate) fn anonymous_kib(&self) -> anyhow::Result<u64> {
        self.status("RssAnon:")
    }

    /// Open files.
    pub(crate) fn descriptors(&self) -> anyhow::Result<u64> {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.child.id()))?;
        Ok(open.count() as u64)
    }

    /// How often its threads were given a processor anew so far, because something had come.
    pub(crate) fn switches(&self) -> anyhow::Result<u64> {
        let mut total = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            total += field(&task?.path().join("status"), "voluntary_ctxt_switches:")?;
        }
        Ok(total)
    }

    fn status(&self, name: &str) -> anyhow::Result<u64> {
        field(
            Path::new(&format!("/proc/{}/status", self.child.id())),
            name,
        )
    }

    /// The last that it said.
    pub(crate) fn tail(&self) -> String {
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

/// Where `ip netns` keeps a namespace.
fn pin(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

fn pinned(namespace: &str, core: Core, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.arg("-c").arg((core as u8).to_string());
    command
        .args(["ip", "netns", "exec", namespace])
        .arg(program);
    command
}

fn field(path: &Path, name: &str) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let line = line.with_context(|| format!("no {name}"))?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
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
