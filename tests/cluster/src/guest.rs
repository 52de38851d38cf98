// SPDX-License-Identifier: Apache-2.0
//! A kernel and the first program of virtual machines: Debian's kernel for clouds with the modules that a network needs, as an
//! initial file system to which a pod's files are added. Kept beside the other builds.
//!
//! Must never be part of what ships. Read `machined.rs` for who starts it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use crate::image::sha256;
use crate::parts::Parts;
use crate::shell::{output, say};

/// The package that always depends on the newest of them.
const NEWEST: &str = "linux-image-cloud-amd64";
/// What is not in that kernel itself, each after what it needs.
const MODULES: [&str; 9] = [
    "virtio_ring",
    "virtio",
    "virtio_mmio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "failover",
    "net_failover",
    "virtio_net",
];

/// The guest's first program.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox mkdir -p /sbin /usr/bin /usr/sbin
/bin/busybox --install -s /bin
export PATH=/bin:/sbin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for m in /mod/*; do insmod "$m"; done
for f in all default; do echo 0 >/proc/sys/net/ipv6/conf/$f/accept_dad; done
ip link set lo up
n=0; while [ ! -e /sys/class/net/eth0 ] && [ $n -lt 250 ]; do usleep 20000; n=$((n+1)); done
. /network
mkdir -p /pod/proc /pod/dev /pod/tmp; mount -t proc proc /pod/proc; mount -t devtmpfs dev /pod/dev
echo "guest: $(uname -r), $(ls /sys/bus/pci/devices 2>/dev/null | wc -l) PCI devices"
. /command
echo "guest: ended with $?"
poweroff -f
"#;

/// A finished one.
#[derive(Debug, Clone)]
pub struct Guest {
    dir: PathBuf,
}

impl Guest {
    /// Finds it, or makes it beside `parts`.
    ///
    /// # Errors
    ///
    /// The package cannot be had, or lacks what is looked for.
    pub fn ready(parts: &Parts) -> anyhow::Result<Self> {
        let dir = kept(parts, "guest", include_bytes!("guest.rs"), make)?;
        Ok(Self { dir })
    }

    /// Where its files are: `vmlinuz`, and `base.cpio` with what is the same in every guest.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// The directory that `make` makes of `sources`, kept beside `parts` for the next.
pub(crate) fn kept(
    parts: &Parts,
    name: &str,
    sources: &[u8],
    make: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    let key = &sha256(sources)[..16];
    let store = parts.bin();
    let store = store.ancestors().nth(2).context("where builds are kept")?;
    let dir = store.join(format!("{name}-{key}"));
    if !dir.is_dir() {
        let begun = tempfile::Builder::new()
            .prefix("building-")
            .tempdir_in(store)?;
        make(begun.path())?;
        // Somebody else may have been quicker; theirs is as good.
        if let Err(error) = fs::rename(begun.path(), &dir)
            && !dir.is_dir()
        {
            return Err(error).context("the finished build");
        }
    }
    Ok(dir)
}

/// What Debian's newest kernel for clouds is made of, for as long as the first of both is kept.
pub(crate) fn fetch() -> anyhow::Result<(TempDir, PathBuf)> {
    let aside = tempfile::tempdir()?;
    let mut ask = Command::new("apt-cache");
    ask.args(["depends", "--important", NEWEST]);
    let told = output(&mut ask)?;
    let package = told
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: "));
    let package = package.with_context(|| format!("{NEWEST} names no kernel: {told}"))?;
    // It is fetched by whoever runs this, into a directory that nobody else may write to.
    let mut fetch = Command::new("apt-get");
    fetch.current_dir(aside.path()).args(["download", package]);
    output(&mut fetch)?;
    let archive = fs::read_dir(aside.path())?.next();
    let archive = archive.context("nothing was fetched")??.path();
    let tree = aside.path().join("tree");
    output(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&tree))?;
    Ok((aside, tree))
}

/// Adds modules, to be loaded in the order of their names.
pub(crate) fn modules<'m>(
    base: &mut Cpio,
    tree: &Path,
    names: impl IntoIterator<Item = &'m str>,
) -> anyhow::Result<()> {
    for (index, module) in names.into_iter().enumerate() {
        let mut find = Command::new("find");
        find.arg(tree).args(["-name", &format!("{module}.ko")]);
        let path = output(&mut find)?;
        ensure!(!path.trim().is_empty(), "the kernel has no {module}.ko");
        base.file(
            &format!("mod/{index:02}-{module}.ko"),
            0o644,
            &fs::read(path.trim())?,
        )?;
    }
    Ok(())
}

fn make(dir: &Path) -> anyhow::Result<()> {
    say("fetching a kernel for virtual machines (once)");
    let (_aside, tree) = fetch()?;
    fs::copy(file(&tree.join("boot"), "vmlinuz-")?, dir.join("vmlinuz"))?;
    let mut base = Cpio::create(&dir.join("base.cpio"))?;
    for name in ["bin", "dev", "mod", "pod", "proc", "sys"] {
        base.directory(name)?;
    }
    base.file("init", 0o755, INIT.as_bytes())?;
    base.file("bin/busybox", 0o755, &fs::read("/bin/busybox")?)?;
    modules(&mut base, &tree, MODULES)?;
    base.end()
}

/// The file of a directory whose name begins so.
pub(crate) fn file(dir: &Path, begins: &str) -> anyhow::Result<PathBuf> {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(begins) {
            return Ok(entry.path());
        }
    }
    anyhow::bail!("{} has no {begins}*", dir.display())
}

/// An archive as the kernel reads it (`cpio`, format `newc`). Several, one after the other, are one.
#[derive(Debug)]
pub(crate) struct Cpio {
    out: std::io::BufWriter<fs::File>,
    inode: u32,
}

impl Cpio {
    /// Begins one.
    pub(crate) fn create(path: &Path) -> anyhow::Result<Self> {
        let file = fs::File::create(path).with_context(|| path.display().to_string())?;
        Ok(Self {
            out: std::io::BufWriter::new(file),
            inode: 0,
        })
    }

    pub(crate) fn directory(&mut self, name: &str) -> anyhow::Result<()> {
        self.entry(name, 0o040_755, &[])
    }

    pub(crate) fn link(&mut self, name: &str, target: &str) -> anyhow::Result<()> {
        self.entry(name, 0o120_777, target.as_bytes())
    }

    pub(crate) fn file(&mut self, name: &str, mode: u32, content: &[u8]) -> anyhow::Result<()> {
        self.entry(name, 0o100_000 | (mode & 0o7777), content)
    }

    /// Whatever is below `from`, under `name`.
    pub(crate) fn tree(&mut self, from: &Path, name: &str) -> anyhow::Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        self.directory(name)?;
        for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
            let entry = entry?;
            let name = format!("{name}/{}", entry.file_name().to_string_lossy());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.tree(&entry.path(), &name)?;
            } else if kind.is_symlink() {
                let target = fs::read_link(entry.path())?;
                self.link(&name, &target.to_string_lossy())?;
            } else if kind.is_file() {
                let mode = entry.metadata()?.permissions().mode();
                self.file(&name, mode, &fs::read(entry.path())?)?;
            }
        }
        Ok(())
    }

    pub(crate) fn end(mut self) -> anyhow::Result<()> {
        self.inode = 0;
        self.entry("TRAILER!!!", 0, &[])?;
        Ok(self.out.flush()?)
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> anyhow::Result<()> {
        self.inode += 1;
        let fields = [
            self.inode,
            mode,
            0,
            0,
            1,
            0,
            u32::try_from(content.len())?,
            0,
            0,
            0,
            0,
            u32::try_from(name.len() + 1)?,
            0,
        ];
        let mut head = "070701".to_owned();
        for field in fields {
            head.push_str(&format!("{field:08x}"));
        }
        head.push_str(name);
        head.push('\0');
        self.padded(head.as_bytes())?;
        self.padded(content)
    }

    /// Each part begins at a multiple of four.
    fn padded(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.out.write_all(bytes)?;
        let rest = bytes.len().next_multiple_of(4) - bytes.len();
        Ok(self.out.write_all(&[0; 3][..rest])?)
    }
}
