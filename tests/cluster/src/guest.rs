// SPDX-License-Identifier: Apache-2.0
//! A kernel and the first program of virtual machines: Debian's kernel for clouds with the modules that a network and a sidecar need, as an
//! initial file system to which a pod's network is added. Kept beside the other builds.
//!
//! Must never be part of what ships. Read `machined.rs` for who starts it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::cpio::Cpio;
use crate::image::sha256;
use crate::parts::Parts;
use crate::whole::{self, Whole};

/// What a network and ports take that is not in that kernel itself.
const MODULES: [&str; 4] = ["virtio_mmio", "virtio_pci", "virtio_net", "virtio_console"];
/// What a sidecar takes that captures its own pod by nftables.
pub const NFTABLES: [&str; 8] = [
    "nf_tables",
    "nft_chain_nat",
    "nft_ct",
    "nft_nat",
    "nft_redir",
    "nft_reject_inet",
    "nft_socket",
    "nf_conntrack",
];

/// How a container's port says that the container has ended.
pub(crate) const ENDED: &str = "guest: ended with ";
/// What a container's files are handed over in.
pub(crate) const BLOCK: usize = 65_536;

/// The guest's first program: each port in its turn takes a container, and says what that says.
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
about="guest: $(uname -r), $(ls /sys/bus/pci/devices 2>/dev/null | wc -l) PCI devices"
echo "$about"
contain() {
  export root=$1/pod
  mkdir -p $1; cd $1
  dd bs=65536 count=$2 iflag=fullblock <&3 2>/dev/null | { cpio -idu 2>/dev/null; cat >/dev/null; }
  mkdir -p $root/proc $root/dev $root/tmp $root/.own; cp /bin/busybox $root/.own/
  mount -t proc proc $root/proc; mount -t devtmpfs dev $root/dev
  echo "$about" >&3
  setsid sh $1/command </dev/null >&3 2>&1 & own=$!
  # Who is told that its relay is gone.
  { while read -r _ <&3; do :; done; kill -9 -$own; } & watch=$!
  wait $own; code=$?
  printf '\nguest: ended with %s\n' $code >&3
  kill $watch
  umount $root/dev $root/proc; rm -rf $1
}
n=0
while n=$((n+1)); do
  until [ -e /sys/class/virtio-ports/vport*p$n ]; do usleep 100000; done
  port=$(echo /sys/class/virtio-ports/vport*p$n); exec 3<>/dev/${port##*/}
  until read -r blocks <&3; do usleep 100000; done
  contain /c/$n $blocks &
done
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
        let whole = Whole::ready(parts)?;
        let sources = [include_str!("guest.rs"), include_str!("whole.rs")].concat();
        let dir = kept(parts, "guest", sources.as_bytes(), |dir| make(dir, &whole))?;
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

fn make(dir: &Path, whole: &Whole) -> anyhow::Result<()> {
    fs::copy(whole.kernel(), dir.join("vmlinuz"))?;
    let mut base = Cpio::create(&dir.join("base.cpio"))?;
    for name in ["bin", "c", "dev", "mod", "proc", "sys"] {
        base.directory(name)?;
    }
    base.file("init", 0o755, INIT.as_bytes())?;
    base.file("bin/busybox", 0o755, &fs::read("/bin/busybox")?)?;
    whole::load(
        &mut base,
        &whole.modules(),
        &[&MODULES[..], &NFTABLES].concat(),
    )?;
    base.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_a_port_mean_the_same() {
        assert!(INIT.contains(ENDED));
        assert!(INIT.contains(&format!("dd bs={BLOCK} ")));
    }
}
