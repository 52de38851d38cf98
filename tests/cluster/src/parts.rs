// SPDX-License-Identifier: Apache-2.0
//! What is built once for each set of versions: the programs of a cluster from their Go modules, and the images that it
//! starts from. Kept outside the checkout, under a name made of everything that goes into it.
//!
//! Must never leave half a build under its final name. Read `go/go.mod` for the versions.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::image::{Image, sha256};
use crate::shell::{output, say};

/// Every source of the build, by its path in `go/`.
const SOURCES: &[(&str, &str)] = &[
    ("go.mod", include_str!("../go/go.mod")),
    ("go.sum", include_str!("../go/go.sum")),
    ("kube/main.go", include_str!("../go/kube/main.go")),
    ("cri/main.go", include_str!("../go/cri/main.go")),
    ("dns/main.go", include_str!("../go/dns/main.go")),
    ("pause/main.go", include_str!("../go/pause/main.go")),
    ("", include_str!("parts.rs")),
];

/// The names that the two programs of many are called by.
const KUBE: &[&str] = &[
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "kubectl",
];
const CRI: &[&str] = &["containerd", "ctr"];

/// The plugins of the pod network.
const PLUGINS: &[&str] = &[
    "ipam/host-local",
    "main/bridge",
    "main/loopback",
    "main/ptp",
    "meta/portmap",
];

/// A finished build.
#[derive(Debug, Clone)]
pub struct Parts {
    dir: PathBuf,
}

impl Parts {
    /// Finds the build of these sources, or makes it: about seven minutes on two free cores.
    ///
    /// # Errors
    ///
    /// No Go, no C library for seccomp, a module that cannot be had, a compiler's error.
    pub fn ready() -> anyhow::Result<Self> {
        let mut all = String::new();
        for (path, text) in SOURCES {
            all.push_str(&format!("{path}\n{}\n{text}", text.len()));
        }
        let key = &sha256(all.as_bytes())[..16];
        let store = store()?;
        let dir = store.join(key);
        if !dir.is_dir() {
            fs::create_dir_all(&store)?;
            let begun = tempfile::Builder::new()
                .prefix("building-")
                .tempdir_in(&store)?;
            say("building Kubernetes, etcd, containerd and DNS (minutes, once)");
            make(begun.path())?;
            // Somebody else may have been quicker; theirs is the same.
            if let Err(error) = fs::rename(begun.path(), &dir)
                && !dir.is_dir()
            {
                return Err(error).context("the finished build");
            }
        }
        Ok(Self { dir })
    }

    /// The directory of the programs.
    pub fn bin(&self) -> PathBuf {
        self.dir.join("bin")
    }

    /// One of the programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin().join(name)
    }

    /// The directory of the network plugins.
    pub fn plugins(&self) -> PathBuf {
        self.dir.join("cni")
    }

    /// The images that a node starts with.
    ///
    /// # Errors
    ///
    /// The directory cannot be read.
    pub fn images(&self) -> anyhow::Result<Vec<PathBuf>> {
        let mut images = Vec::new();
        for entry in fs::read_dir(self.dir.join("images"))? {
            images.push(entry?.path());
        }
        images.sort();
        Ok(images)
    }
}

/// Where builds are kept: `$XDG_CACHE_HOME/maille`, or `~/.cache/maille`.
fn store() -> anyhow::Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let cache = set("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| set("HOME").map(|home| Path::new(&home).join(".cache")));
    let cache = cache.context("neither XDG_CACHE_HOME nor HOME says where a build can be kept")?;
    Ok(cache.join("maille/cluster"))
}

/// Makes the whole build in `dir`.
fn make(dir: &Path) -> anyhow::Result<()> {
    let [bin, cni, images] = ["bin", "cni", "images"].map(|name| dir.join(name));
    for dir in [&bin, &cni, &images] {
        fs::create_dir_all(dir)?;
    }
    let version = version_of("k8s.io/kubernetes")?;
    let minor = version.split('.').nth(1).unwrap_or_default();
    let base = "k8s.io/component-base/version";
    let kube = format!(
        "-X {base}.gitVersion={version} -X {base}.gitMajor=1 -X {base}.gitMinor={minor} -X {base}.gitTreeState=clean"
    );
    let containerd = "github.com/containerd/containerd/v2";
    let cri = format!(
        "-X {containerd}/version.Version={}",
        version_of(containerd)?
    );
    let runc = version_of("github.com/opencontainers/runc")?;
    let runc = format!("-X main.version={}", runc.trim_start_matches('v'));
    say("  kube");
    go(&bin.join("kube"), &["./kube"], &kube, false)?;
    say("  containerd, runc");
    go(&bin.join("cri"), &["./cri"], &cri, false)?;
    let shim = format!("{containerd}/cmd/containerd-shim-runc-v2");
    go(&bin.join("containerd-shim-runc-v2"), &[&shim], "", false)?;
    go(
        &bin.join("runc"),
        &["github.com/opencontainers/runc"],
        &runc,
        true,
    )?;
    say("  plugins, DNS, images");
    let plugins = PLUGINS.iter();
    let plugins: Vec<_> = plugins
        .map(|name| format!("github.com/containernetworking/plugins/plugins/{name}"))
        .collect();
    let plugins: Vec<_> = plugins.iter().map(String::as_str).collect();
    go(&cni.join(""), &plugins, "", false)?;
    go(&bin.join("coredns"), &["./dns"], "", false)?;
    go(&bin.join("pause"), &["./pause"], "", false)?;
    for (target, names) in [("kube", KUBE), ("cri", CRI)] {
        for name in names {
            symlink(target, bin.join(name))?;
        }
    }
    Image::new("maille.test/pause:1", &["/pause"])
        .user("65535:65535")
        .program("/pause", bin.join("pause"))
        .write(&images.join("pause.tar"))?;
    Image::new("maille.test/dns:1", &["/coredns"])
        .program("/coredns", bin.join("coredns"))
        .dir("/etc/coredns", 0o755)
        .write(&images.join("dns.tar"))
}

/// The version that `go.mod` asks for.
fn version_of(module: &str) -> anyhow::Result<String> {
    let (_, text) = SOURCES[0];
    let mut lines = text.lines().map(str::trim);
    let version = lines.find_map(|line| line.strip_prefix(module)?.strip_prefix(' '));
    let version = version.with_context(|| format!("go.mod does not name {module}"))?;
    Ok(version.split(' ').next().unwrap_or_default().to_owned())
}

/// Builds packages of the module in `go/` to `out`, without the path of this checkout in them.
fn go(out: &Path, packages: &[&str], flags: &str, c: bool) -> anyhow::Result<()> {
    if c && !Path::new("/usr/include/seccomp.h").exists() {
        bail!("runc needs the C library for seccomp\nhint: apt-get install libseccomp-dev");
    }
    let mut command = Command::new("go");
    command
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("go"))
        .env("GOFLAGS", "-mod=readonly")
        .env("CGO_ENABLED", if c { "1" } else { "0" })
        .args(["build", "-trimpath", "-tags", "seccomp", "-o"])
        .arg(out)
        .args(["-ldflags", &format!("-s -w {flags}")])
        .args(packages);
    output(&mut command).map(|_| ())
}
