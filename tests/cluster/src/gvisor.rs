// SPDX-License-Identifier: Apache-2.0
//! gVisor for the nodes: `runsc` and the shim by which containerd starts it, from their Go module, built once and kept beside the
//! other builds under a name of its own.
//!
//! Must never be part of what ships, and must never leave half a build under its final name. Read `parts.rs` for the others.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::guest::kept;
use crate::modules::Module;
use crate::parts::Parts;
use crate::shell::{output, say};

/// The module that is meant to be built by Go alone, of its branch for that.
const GVISOR: Module = Module {
    path: "gvisor.dev/gvisor",
    version: "v0.0.0-20260905035102-160fafc42237",
    sum: "h1:AU5+CtCvnBnxdZRNcZt1NfSLqgkXZVT3N/u6u1aXg44=",
};

/// What is changed before it is built: file, text that is there once, text in its place. A process without `CAP_SYS_RESOURCE`, as
/// root has none in a container, cannot protect others from the kernel's choice of what to kill when memory ends. gVisor gives up
/// there; here it goes on without.
const CHANGES: &[(&str, &str, &str)] = &[
    (
        "pkg/shim/v1/manager.go",
        "oomScoreMax); err != nil {",
        "oomScoreMax); err != nil && !os.IsPermission(err) {",
    ),
    (
        "runsc/container/container.go",
        "\t\tif errors.Is(err, unix.ESRCH) {",
        "\t\tif errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EACCES) {",
    ),
];

/// A finished build.
#[derive(Debug, Clone)]
pub struct Gvisor {
    dir: PathBuf,
}

impl Gvisor {
    /// Finds the build, or makes it beside `parts`: about two minutes on two free cores.
    ///
    /// # Errors
    ///
    /// A module that cannot be had, or is another; a compiler's error.
    pub fn ready(parts: &Parts) -> anyhow::Result<Self> {
        let dir = kept(parts, "gvisor", include_bytes!("gvisor.rs"), make)?;
        Ok(Self { dir })
    }

    /// `runsc`, which makes sandboxes.
    pub fn runtime(&self) -> PathBuf {
        self.dir.join("runsc")
    }

    /// What containerd starts for each of them.
    pub fn shim(&self) -> PathBuf {
        self.dir.join("containerd-shim-runsc-v1")
    }
}

fn make(dir: &Path) -> anyhow::Result<()> {
    say("building gVisor (minutes, once)");
    let source = tempfile::tempdir()?;
    copy(&GVISOR.directory()?, source.path())?;
    for (file, old, new) in CHANGES {
        let path = source.path().join(file);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        ensure!(text.matches(old).count() == 1, "{file}: not as it was");
        fs::write(&path, text.replace(old, new))?;
    }
    let version = format!(
        "-X gvisor.dev/gvisor/runsc/version.version={}",
        GVISOR.version
    );
    for (package, program) in [("./runsc", "runsc"), ("./shim", "containerd-shim-runsc-v1")] {
        let mut go = crate::modules::go(source.path());
        go.args(["build", "-trimpath", "-mod=readonly"]);
        go.args(["-ldflags", &format!("-s -w {version}"), "-o"]);
        output(go.arg(dir.join(program)).arg(package))?;
    }
    Ok(())
}

/// A directory of a module, which nobody may write to, as one that can be changed.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&target)?;
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
            fs::set_permissions(&target, fs::Permissions::from_mode(0o644))?;
        }
    }
    Ok(())
}
