// SPDX-License-Identifier: Apache-2.0
//! A small machine with a kernel of its own and of that only the modules that are asked for: what a program finds in a guest that somebody made. QEMU
//! emulates it; it has nothing but memory and a console.
//!
//! Read `whole.rs` for the kernel, `tests/preflight.rs` for the user.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use maille_images::libraries;

use crate::cpio::Cpio;
use crate::shell::output;
use crate::whole::{self, Whole};

/// For everything: a machine that hangs is ended.
const SECONDS: u32 = 120;
/// What its first program begins with.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox mkdir -p /sbin /usr/bin /usr/sbin /proc /sys /dev /run /tmp
/bin/busybox --install -s /bin
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev 2>/dev/null
for m in /mod/*; do [ ! -e $m ] || insmod $m; done
ip link set lo up
. /script
poweroff -f
";

/// A file of the machine: where, and what it is there.
#[derive(Debug)]
pub enum Has<'f> {
    /// A program of this machine, with the libraries that it needs, at this path.
    Program(&'f Path, &'f str),
    /// A text.
    Text(&'f str, &'f str),
}

/// Boots one with the modules of Debian's kernel that have these names, and what they need; runs a shell's script in it and gives what that said.
///
/// # Errors
///
/// A module or library that is missing; a machine that does not end in two minutes.
pub fn run(
    whole: &Whole,
    modules: &[&str],
    has: &[Has<'_>],
    script: &str,
) -> anyhow::Result<String> {
    let own = tempfile::tempdir()?;
    let files = own.path().join("files");
    let mut all = vec![(PathBuf::from("/bin/busybox"), "/bin/busybox".to_owned())];
    for one in has {
        match one {
            Has::Program(program, at) => {
                all.push((program.to_path_buf(), (*at).to_owned()));
                let libraries = libraries::of(program)?.into_iter();
                all.extend(libraries.map(|path| (path.clone(), path.display().to_string())));
            }
            Has::Text(at, text) => {
                let at = files.join(at.trim_start_matches('/'));
                put(&at, |to| fs::write(to, text))?;
            }
        }
    }
    for (from, at) in all {
        let to = files.join(at.trim_start_matches('/'));
        put(&to, |to| fs::copy(&from, to).map(|_| ()))
            .with_context(|| from.display().to_string())?;
    }
    let initrd = own.path().join("initrd");
    let mut cpio = Cpio::create(&initrd)?;
    cpio.file("init", 0o755, INIT.as_bytes())?;
    cpio.file("script", 0o644, script.as_bytes())?;
    cpio.directory("mod")?;
    whole::load(&mut cpio, &whole.modules(), modules)?;
    cpio.tree(&files, "")?;
    cpio.end()?;
    let line = "qemu-system-x86_64 -M microvm,acpi=on,rtc=on -accel tcg -cpu max -smp 1 -m 512 -nodefaults -no-user-config -display none -no-reboot \
        -serial stdio";
    let mut command = Command::new("timeout");
    command
        .args(["-k", "5", &SECONDS.to_string()])
        .args(line.split_ascii_whitespace())
        .args(["-append", "console=ttyS0 quiet tsc_early_khz=2000000 panic=-1 mitigations=off tsc=reliable no_timer_check"])
        .arg("-kernel")
        .arg(whole.kernel())
        .arg("-initrd")
        .arg(&initrd);
    output(&mut command)
}

/// Writes a file below directories that need not be there.
fn put(to: &Path, write: impl FnOnce(&Path) -> std::io::Result<()>) -> anyhow::Result<()> {
    let parent = to.parent().context("a file is in a directory")?;
    fs::create_dir_all(parent)?;
    Ok(write(to)?)
}
