// SPDX-License-Identifier: Apache-2.0
//! A cluster: a control plane and nodes, each a machine of its own, found again by the name of its directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::components::{API_SERVER, AUDIT, CONTROLLERS, SERVER, first, second};
use crate::guest::Guest;
use crate::gvisor::Gvisor;
use crate::image::sha256;
use crate::machine::Machine;
use crate::parts::Parts;
use crate::shell::{output, output_of, until};
use crate::{pki, worker};

const LIMIT: Duration = Duration::from_secs(90);

/// The DNS of the cluster.
const DNS: &str = include_str!("../config/dns.yaml");

/// Its runtime classes.
const CLASSES: &str = include_str!("../config/classes.yaml");

/// What its API server writes down.
const POLICY: &str = include_str!("../config/audit.yaml");

/// A cluster, running or not.
#[derive(Debug, Clone)]
pub struct Cluster {
    dir: PathBuf,
    init: PathBuf,
    parts: Parts,
    gvisor: Gvisor,
    guest: Option<Guest>,
    control_plane: Machine,
}

impl Cluster {
    /// The cluster in `dir`, made of `parts`; `init` is the program that has [`crate::init::run`] behind its verb `init`.
    ///
    /// # Errors
    ///
    /// `dir` is below a directory that every machine has for itself; gVisor cannot be built.
    pub fn at(dir: &Path, init: &Path, parts: Parts) -> anyhow::Result<Self> {
        let dir = std::path::absolute(dir)?;
        if ["/etc", "/opt", "/var", "/run"]
            .iter()
            .any(|own| dir.starts_with(own))
        {
            bail!(
                "{}: a cluster cannot be below /etc, /opt, /var or /run",
                dir.display()
            );
        }
        let control_plane = Machine::new("cp", dir.join("cp"), &group(&dir));
        Ok(Self {
            dir,
            init: init.to_owned(),
            gvisor: Gvisor::ready(&parts)?,
            parts,
            guest: None,
            control_plane,
        })
    }

    /// The same, whose nodes can run pods in virtual machines (`machined.rs`).
    ///
    /// # Errors
    ///
    /// Their kernel cannot be had.
    pub fn with_machines(self) -> anyhow::Result<Self> {
        let guest = Some(Guest::ready(&self.parts)?);
        Ok(Self { guest, ..self })
    }

    /// Starts it with `nodes` nodes; returns when they are ready and DNS answers.
    ///
    /// # Errors
    ///
    /// It runs already; a part that did not start, with what it said.
    pub fn up(&self, nodes: usize) -> anyhow::Result<()> {
        if !(1..=worker::MOST).contains(&nodes) {
            bail!("{nodes} nodes: from 1 to {}", worker::MOST);
        }
        if self.control_plane.pid().is_some() {
            bail!("{} has a cluster that runs", self.dir.display());
        }
        self.control_plane.boot(&self.init)?;
        for args in [
            "link set lo up",
            "link add lan type bridge",
            "addr add 10.77.0.1/24 dev lan",
            "addr add fd77::1/64 dev lan nodad",
            "link set lan up",
        ] {
            self.control_plane.ip(args)?;
        }
        let names: Vec<_> = (1..=nodes).map(name).collect();
        pki::write(&self.pki(), SERVER, &names)?;
        fs::write(self.pki().join(AUDIT.0), POLICY)?;
        for (name, line) in first(&self.parts, &self.pki()) {
            self.control_plane.daemon(name, &self.parts.bin(), &line)?;
        }
        // Nodes take their time with containerd and images while the API server takes its own.
        thread::scope(|scope| {
            let boots: Vec<_> = (1..=nodes)
                .map(|index| scope.spawn(move || worker::boot(self, index)))
                .collect();
            self.await_api_server()?;
            for (name, line) in second(&self.parts, &self.pki()) {
                self.control_plane.daemon(name, &self.parts.bin(), &line)?;
            }
            self.apply(DNS)?;
            self.apply(CLASSES)?;
            boots.into_iter().try_for_each(|boot| match boot.join() {
                Ok(booted) => booted,
                Err(_) => bail!("booting a node panicked"),
            })
        })?;
        let ready = [
            "wait",
            "node",
            "--all",
            "--for",
            "condition=Ready",
            "--timeout",
            "5s",
        ];
        until("the nodes", LIMIT, || self.kubectl(&ready))?;
        let dns = [
            "-n",
            "kube-system",
            "rollout",
            "status",
            "deployment/coredns",
            "--timeout",
            "5s",
        ];
        until("DNS", LIMIT, || self.kubectl(&dns)).map(|_| ())
    }

    /// Ends every machine of it and removes its files; a cluster that is not there is down.
    ///
    /// # Errors
    ///
    /// Something that would not end.
    pub fn down(&self) -> anyhow::Result<()> {
        for machine in self.machines()? {
            machine.halt()?;
        }
        for root in crate::init::hierarchies()? {
            // Another run may have removed it.
            let _ = fs::remove_dir(root.join(group(&self.dir)));
        }
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| self.dir.display().to_string())
            }
            _ => Ok(()),
        }
    }

    /// The machines that have files here, running or not.
    ///
    /// # Errors
    ///
    /// The directory cannot be read.
    pub fn machines(&self) -> anyhow::Result<Vec<Machine>> {
        let mut machines = Vec::new();
        for entry in fs::read_dir(&self.dir).into_iter().flatten() {
            let path = entry?.path();
            if path.join("log").is_dir() {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                machines.push(Machine::new(&name, path.clone(), &group(&self.dir)));
            }
        }
        machines.sort_by(|one, two| one.name().cmp(two.name()));
        Ok(machines)
    }

    /// Node `index`, from 1.
    pub fn node(&self, index: usize) -> Machine {
        Machine::new(&name(index), self.dir.join(name(index)), &group(&self.dir))
    }

    /// Boots node `index` again, or one more.
    ///
    /// # Errors
    ///
    /// It runs, or did not start.
    pub fn boot(&self, index: usize) -> anyhow::Result<()> {
        worker::boot(self, index)
    }

    /// Ends a daemon of node `index` at once and starts it again, with its configuration of now: `containerd`, `kubelet` or `kube-proxy`.
    ///
    /// # Errors
    ///
    /// It does not run, or did not start.
    pub fn restart(&self, index: usize, daemon: &str) -> anyhow::Result<()> {
        worker::restart(self, index, daemon)
    }

    /// Ends the API server at once; etcd and all others go on.
    ///
    /// # Errors
    ///
    /// It does not run.
    pub fn stop_api_server(&self) -> anyhow::Result<()> {
        self.kill(API_SERVER)
    }

    /// Ends the controllers at once, and for good: nobody makes or removes an object any more but who is told to.
    ///
    /// # Errors
    ///
    /// They do not run.
    pub fn stop_controllers(&self) -> anyhow::Result<()> {
        self.kill(CONTROLLERS)
    }

    fn kill(&self, daemon: &str) -> anyhow::Result<()> {
        let script = format!("kill -9 $(cat /run/{daemon}.pid)");
        output(self.control_plane.enter("sh")?.args(["-c", &script])).map(|_| ())
    }

    /// What its API server has written down so far: a JSON object a line for each question to the mesh's API.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn audited(&self) -> anyhow::Result<String> {
        let file = self
            .control_plane
            .dir()
            .join(AUDIT.1.trim_start_matches('/'));
        fs::read_to_string(&file).with_context(|| file.display().to_string())
    }

    /// Starts it again; returns when it is ready.
    ///
    /// # Errors
    ///
    /// It did not start.
    pub fn start_api_server(&self) -> anyhow::Result<()> {
        let [_, (name, line)] = first(&self.parts, &self.pki());
        self.control_plane.daemon(name, &self.parts.bin(), &line)?;
        self.await_api_server()
    }

    fn await_api_server(&self) -> anyhow::Result<()> {
        until("the API server", LIMIT, || {
            self.kubectl(&["get", "--raw", "/readyz"])
        })
        .map(|_| ())
    }

    /// Loads an image's archive into every node.
    ///
    /// # Errors
    ///
    /// What containerd said.
    pub fn load(&self, image: &Path) -> anyhow::Result<()> {
        // Machines have working directories of their own.
        let image = &std::path::absolute(image)?;
        let nodes = self.machines()?;
        let mut nodes = nodes.iter().filter(|machine| machine.name() != "cp");
        nodes.try_for_each(|machine| worker::load(self, machine, image))
    }

    /// Gives an image of a node another name beside its own.
    ///
    /// # Errors
    ///
    /// What containerd said.
    pub fn tag(&self, node: &Machine, image: &str, other: &str) -> anyhow::Result<()> {
        worker::tag(self, node, image, other)
    }

    /// Removes an image from a node, and waits until what was its alone is gone.
    ///
    /// # Errors
    ///
    /// What containerd said.
    pub fn forget(&self, node: &Machine, image: &str) -> anyhow::Result<()> {
        let mut remove = worker::ctr(self, node)?;
        output(remove.args(["images", "rm", "--sync", image])).map(|_| ())
    }

    /// `kubectl` as the cluster's administrator: in its network, with this machine's files.
    ///
    /// # Errors
    ///
    /// The control plane does not run.
    pub fn kubectl_command(&self) -> anyhow::Result<Command> {
        let mut command = self
            .control_plane
            .on_network(self.parts.program("kubectl"))?;
        // What is found out about a cluster is kept by its address, which all of these share.
        command
            .arg("--kubeconfig")
            .arg(self.pki().join("admin.conf"))
            .arg("--cache-dir")
            .arg(self.dir.join("kubectl"));
        Ok(command)
    }

    /// Runs `kubectl` and gives what it printed.
    ///
    /// # Errors
    ///
    /// What it said.
    pub fn kubectl(&self, args: &[&str]) -> anyhow::Result<String> {
        output(self.kubectl_command()?.args(args))
    }

    /// `kubectl apply` of these manifests.
    ///
    /// # Errors
    ///
    /// What it said.
    pub fn apply(&self, manifests: &str) -> anyhow::Result<String> {
        let mut apply = self.kubectl_command()?;
        apply.args(["apply", "-f", "-"]);
        output_of(&mut apply, manifests.as_bytes())
    }

    /// The machine of the control plane.
    pub fn control_plane(&self) -> &Machine {
        &self.control_plane
    }

    /// Where its certificates, keys and kubeconfigs are.
    pub fn pki(&self) -> PathBuf {
        self.dir.join("pki")
    }

    /// What it is made of.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// What its sandboxed pods run on.
    pub fn gvisor(&self) -> &Gvisor {
        &self.gvisor
    }

    /// What virtual machines begin with, if there are to be any.
    pub(crate) fn guest(&self) -> Option<&Guest> {
        self.guest.as_ref()
    }

    pub(crate) fn init(&self) -> &Path {
        &self.init
    }
}

fn name(index: usize) -> String {
    format!("node{index}")
}

/// The cgroup of a cluster, told from others by its directory.
fn group(dir: &Path) -> String {
    format!(
        "maille-{}",
        &sha256(dir.display().to_string().as_bytes())[..8]
    )
}
