// SPDX-License-Identifier: Apache-2.0
//! A cluster with the mesh on it, for one test: it ends with the test, however that ends, and where the test failed it tells what
//! somebody would look at first.
//!
//! Everything is done by what people type. Read `twins.rs` for what runs on it, `witness.rs` for who watches.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use maille_images::archive::Image;
use maille_images::libraries;
use serde_json::Value;
use tempfile::TempDir;

use crate::cluster::Cluster;
use crate::parts::Parts;
use crate::shell::{output, output_of, patience, patiently, say, until};

/// How long pods may take to come or to go on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(120);
/// How long what takes ten minutes by itself may take.
const PATIENCE: Duration = Duration::from_secs(780);

/// What is told of a run that failed.
const TOLD: &[&str] = &[
    "get pods -A -o wide",
    "get events -A --field-selector type!=Normal",
    "-n maille-system logs deployment/maille-control --tail 60",
    "-n maille-system logs daemonset/maille-node --tail 60",
    "-n meshed logs deployment/app -c maille-proxy --tail 40",
];

/// A cluster of two nodes with the mesh's images.
#[derive(Debug)]
pub struct Meshed {
    cluster: Cluster,
    dir: TempDir,
    target: PathBuf,
}

impl Meshed {
    /// Starts it; nothing is installed yet. `init` is the program `maille-cluster`, `scratch` a directory of `target/` on a real
    /// file system, which layers of images need.
    ///
    /// # Errors
    ///
    /// A program or image that `cargo xtask test cluster` builds is missing; what the cluster said.
    pub fn start(init: &Path, scratch: &Path) -> anyhow::Result<Self> {
        Self::begin(init, scratch, Ok)
    }

    /// The same, whose nodes can run pods in virtual machines.
    ///
    /// # Errors
    ///
    /// As for [`Meshed::start`]; the machines' kernel cannot be had.
    pub fn start_with_machines(init: &Path, scratch: &Path) -> anyhow::Result<Self> {
        Self::begin(init, scratch, Cluster::with_machines)
    }

    fn begin(
        init: &Path,
        scratch: &Path,
        more: impl FnOnce(Cluster) -> anyhow::Result<Cluster>,
    ) -> anyhow::Result<Self> {
        let target = scratch.parent().context("a directory of target/")?;
        let dir = tempfile::Builder::new().prefix("m").tempdir_in(scratch)?;
        // Not below a directory whose name says what is in it: processes are told apart by it.
        let cluster = Cluster::at(&dir.path().join("maille-of-mesh"), init, Parts::ready()?)?;
        let up = Self {
            cluster: more(cluster)?,
            dir,
            target: target.to_owned(),
        };
        up.cluster.up(2)?;
        for name in ["control.tar", "proxy.tar"] {
            up.load_built(name)?;
        }
        Ok(up)
    }

    /// Loads one of the mesh's images into the nodes.
    ///
    /// # Errors
    ///
    /// It was not built; what containerd said.
    pub fn load_built(&self, name: &str) -> anyhow::Result<()> {
        let image = built(self.target.join("images").join(name))?;
        self.cluster.load(&image)
    }

    /// Installs the mesh; returns when control is there.
    ///
    /// # Errors
    ///
    /// What was said by whom.
    pub fn install(&self) -> anyhow::Result<()> {
        self.install_as("install")
    }

    /// The same by another command line.
    ///
    /// # Errors
    ///
    /// What was said by whom.
    pub fn install_as(&self, line: &str) -> anyhow::Result<()> {
        self.cluster.apply(&self.maille(line)?)?;
        self.control_is_there()
    }

    /// The same, whose certificates last a minute, so that their renewal can be watched.
    ///
    /// # Errors
    ///
    /// What was said by whom.
    pub fn install_brief(&self) -> anyhow::Result<()> {
        let printed = self.maille("install")?;
        let flag = "        - \"--kubernetes\"\n";
        ensure!(printed.contains(flag), "{printed}");
        let brief = format!("{flag}        - \"--leaf-lifetime\"\n        - 60s\n");
        self.cluster.apply(&printed.replace(flag, &brief))?;
        self.control_is_there()
    }

    /// Waits until control is there.
    ///
    /// # Errors
    ///
    /// It is not in time.
    pub fn control_is_there(&self) -> anyhow::Result<()> {
        self.rolled_out("deployment/maille-control")
    }

    /// Waits until everything of one of the mesh's own is there.
    ///
    /// # Errors
    ///
    /// It is not in time.
    pub fn rolled_out(&self, what: &str) -> anyhow::Result<()> {
        let seconds = patience(LIMIT).as_secs();
        let line = format!("-n maille-system rollout status {what} --timeout {seconds}s");
        self.kubectl(&line).map(|_| ())
    }

    /// The cluster itself.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// A file of this run.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A release program.
    ///
    /// # Errors
    ///
    /// It was not built.
    pub fn program(&self, name: &str) -> anyhow::Result<PathBuf> {
        built(self.target.join("release").join(name))
    }

    /// `kubectl` with these words.
    ///
    /// # Errors
    ///
    /// What it said.
    pub fn kubectl(&self, line: &str) -> anyhow::Result<String> {
        let args: Vec<_> = line.split(' ').collect();
        self.cluster.kubectl(&args)
    }

    /// Several `kubectl` at the same time.
    ///
    /// # Errors
    ///
    /// What the first one that failed said.
    pub fn kubectl_all(&self, lines: impl IntoIterator<Item = String>) -> anyhow::Result<()> {
        let start = |line: String| {
            let mut command = self.cluster.kubectl_command()?;
            command.args(line.split(' ')).stdin(Stdio::null());
            command.stdout(Stdio::null()).stderr(Stdio::piped());
            anyhow::Ok((line, command.spawn()?))
        };
        let started: Vec<(String, Child)> =
            lines.into_iter().map(start).collect::<Result<_, _>>()?;
        for (line, child) in started {
            let output = child.wait_with_output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "kubectl {line}: {}", said.trim());
        }
        Ok(())
    }

    /// `maille` where the API server is, as its administrator.
    ///
    /// # Errors
    ///
    /// What it said.
    pub fn maille(&self, line: &str) -> anyhow::Result<String> {
        self.maille_of(line, "")
    }

    /// The same, with `input` on its standard input.
    ///
    /// # Errors
    ///
    /// What it said.
    pub fn maille_of(&self, line: &str, input: &str) -> anyhow::Result<String> {
        let control_plane = self.cluster.control_plane();
        let mut maille = control_plane.on_network(self.program("maille")?)?;
        maille.args(line.split(' '));
        maille.env("KUBECONFIG", self.cluster.pki().join("admin.conf"));
        if input.is_empty() {
            output(&mut maille)
        } else {
            output_of(&mut maille, input.as_bytes())
        }
    }

    /// Runs a command with `input` on its standard input.
    ///
    /// # Errors
    ///
    /// What it said.
    pub fn output_of(&self, command: &mut Command, input: &str) -> anyhow::Result<String> {
        output_of(command, input.as_bytes())
    }

    /// Makes an image of one program, with the libraries that it needs from this machine, and loads it into the nodes. A shell
    /// and what else busybox has is beside it, for who looks into a container.
    ///
    /// # Errors
    ///
    /// A file that is missing; what containerd said.
    pub fn load_program(&self, image: &str, program: &Path) -> anyhow::Result<()> {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let inside = format!("/usr/local/bin/{name}");
        let mut made = Image::new(image, &[&inside])
            .user("65534:65534")
            .program(&inside, program)
            .program("/bin/busybox", "/bin/busybox")
            .link("/bin/sh", "busybox");
        for library in libraries::of(program)? {
            made = made.program(&library.display().to_string(), &library);
        }
        let archive = self.path(&format!("{name}.tar"));
        made.write(&archive)?;
        self.cluster.load(&archive)
    }

    /// The pods of a namespace that match a selector, as the API server has them.
    ///
    /// # Errors
    ///
    /// What `kubectl` said.
    pub fn pods(&self, namespace: &str, selector: &str) -> anyhow::Result<Vec<Value>> {
        let text = self.kubectl(&format!("-n {namespace} get pods -l {selector} -o json"))?;
        let mut list: Value = serde_json::from_str(&text)?;
        match list["items"].take() {
            Value::Array(pods) => Ok(pods),
            _ => bail!("no list of pods"),
        }
    }

    /// Waits until so many pods match, all ready, and none is on its way out.
    ///
    /// # Errors
    ///
    /// They are not in time.
    pub fn settled(&self, namespace: &str, selector: &str, count: usize) -> anyhow::Result<()> {
        until("pods", LIMIT, || {
            let pods = self.pods(namespace, selector)?;
            let ready = pods.iter().filter(|pod| is_ready(pod)).count();
            ensure!(
                pods.len() == count && ready == count,
                "{namespace}: {count} pods with {selector} are wanted, {} are there, {ready} of them ready",
                pods.len()
            );
            Ok(())
        })
    }

    /// Waits until a question has the answer that is hoped for.
    ///
    /// # Errors
    ///
    /// The last answer.
    pub fn until<T>(
        &self,
        what: &str,
        ask: impl FnMut() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        until(what, LIMIT, ask)
    }

    /// The same for what takes ten minutes by itself.
    ///
    /// # Errors
    ///
    /// The last answer.
    pub fn patiently<T>(
        &self,
        what: &str,
        ask: impl FnMut() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        patiently(what, PATIENCE, ask)
    }

    /// The node that the cluster's DNS is on, and the other: what is to stay, and what may go.
    ///
    /// # Errors
    ///
    /// What `kubectl` said.
    pub fn kept_and_other(&self) -> anyhow::Result<(String, String)> {
        let pods = self.pods("kube-system", "k8s-app=kube-dns")?;
        let kept = pods
            .first()
            .and_then(|pod| pod["spec"]["nodeName"].as_str());
        match kept.context("no pod of the cluster's DNS")? {
            kept @ "node1" => Ok((kept.to_owned(), "node2".to_owned())),
            kept => Ok((kept.to_owned(), "node1".to_owned())),
        }
    }

    fn tell(&self) {
        for line in TOLD {
            match self.kubectl(line) {
                Ok(text) => say(&format!("-- {line}\n{text}")),
                Err(error) => say(&format!("-- {line}\n{error:#}")),
            }
        }
    }
}

impl Drop for Meshed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell();
        }
        if let Err(error) = self.cluster.down() {
            say(&format!("{error:#}"));
        }
    }
}

fn built(path: PathBuf) -> anyhow::Result<PathBuf> {
    if !path.is_file() {
        bail!(
            "{} is missing: `cargo xtask test cluster` builds it",
            path.display()
        );
    }
    Ok(path)
}

/// Whether a pod is ready, and not on its way out.
pub fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
    pod["metadata"]["deletionTimestamp"].is_null()
        && conditions.is_some_and(|conditions| conditions.iter().any(ready))
}

/// A text of an object by its path; empty where there is none.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}
