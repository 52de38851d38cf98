// SPDX-License-Identifier: Apache-2.0
//! A whole machine with a kernel of its own, for a program that must run where control groups are of version 2 alone, whatever this
//! machine has. QEMU emulates it: not every machine that has KVM can run a kernel by it. Its files are this machine's, by virtiofs; what is
//! written there stays there.
//!
//! Must never change anything of this machine. Read `guest.rs` for the kernel.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::guest::{self, Cpio};
use crate::parts::Parts;
use crate::shell::{PATIENCE, output, say, until};

/// What comes with QEMU in Debian's qemu-system-common.
const VIRTIOFSD: &str = "/usr/lib/qemu/virtiofsd";
/// What it needs until it sees this machine's files, each after what it needs.
const MODULES: [&str; 7] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "fuse",
    "virtiofs",
];
const OVERLAY: &str = "overlay";
/// As long as here, times this, may anything take there.
const SLOWER: u32 = 8;
/// How it says that the program has ended.
const ENDED: &str = "machine: ended with ";
const LIMIT: Duration = Duration::from_secs(20);

/// Its first program: this machine's files below memory of its own, and what a machine mounts.
const INIT: &str = r"#!/bin/busybox sh
/bin/busybox mkdir -p /sbin /usr/bin /usr/sbin
/bin/busybox --install -s /bin
export PATH=/bin:/sbin
mount -t proc proc /proc; mount -t devtmpfs dev /dev
for m in /mod/*; do insmod $m; done
mount -t virtiofs -o ro root /lower && mount -t tmpfs memory /upper && mkdir /upper/files /upper/work &&
mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work all /whole || poweroff -f
cp /run.sh /whole/.maille-run
cd /whole
mount -t proc proc proc; mount -t sysfs sys sys; mount -t devtmpfs dev dev; mount -t tmpfs run run
mkdir -p dev/pts dev/shm; mount -t devpts devpts dev/pts; mount -t tmpfs memory dev/shm
mount -t cgroup2 none sys/fs/cgroup
umount -l /dev /proc
exec switch_root /whole /bin/sh /.maille-run
";

/// A kernel with all of its modules.
#[derive(Debug, Clone)]
pub struct Whole {
    dir: PathBuf,
}

/// A process of this machine, ended with whoever holds it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Whole {
    /// Finds it, or makes it beside `parts`.
    ///
    /// # Errors
    ///
    /// The kernel cannot be had, or lacks what is looked for.
    pub fn ready(parts: &Parts) -> anyhow::Result<Self> {
        let sources = [include_str!("whole.rs"), include_str!("guest.rs")].concat();
        let dir = guest::kept(parts, "whole", sources.as_bytes(), make)?;
        Ok(Self { dir })
    }

    /// Runs `program` in one, where it is and with this process's directory and `HOME`, passes on what it says, and ends as it ended. The
    /// directory `scratch` is an empty one there, in memory.
    ///
    /// # Errors
    ///
    /// A machine that does not start, or ends without its program.
    pub fn run(&self, program: &str, args: &[&str], scratch: &Path) -> anyhow::Result<ExitCode> {
        let own = tempfile::tempdir()?;
        let initrd = own.path().join("initrd");
        let script = self.script(program, args, scratch)?;
        let more = own.path().join("own.cpio");
        let mut cpio = Cpio::create(&more)?;
        cpio.file("run.sh", 0o644, script.as_bytes())?;
        cpio.end()?;
        let base = fs::read(self.dir.join("base.cpio"))?;
        fs::write(&initrd, [base, fs::read(more)?].concat())?;
        let socket = own.path().join("files");
        let _files = files(&socket)?;
        let machine = self.machine(&initrd, &socket)?;
        follow(machine)
    }

    /// What it runs once it has this machine's files.
    fn script(&self, program: &str, args: &[&str], scratch: &Path) -> anyhow::Result<String> {
        let quoted = |word: &str| format!("'{}'", word.replace('\'', r"'\''"));
        let shown = |path: &Path| quoted(&path.display().to_string());
        let line: Vec<_> = std::iter::once(&program)
            .chain(args)
            .map(|word| quoted(word))
            .collect();
        let home = std::env::var_os("HOME").unwrap_or_default();
        Ok(format!(
            "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME={} {PATIENCE}={SLOWER}\n\
             mkdir -p /usr/lib/modules; ln -s {} /usr/lib/modules/$(uname -r)\n\
             printf '#!/bin/sh\\nexec /bin/busybox modprobe \"$@\"\\n' >/usr/sbin/modprobe; chmod +x /usr/sbin/modprobe\n\
             ip link set lo up; mount -t tmpfs memory {}; cd {}\n\
             {}\necho \"{ENDED}$?\"; echo o >/proc/sysrq-trigger; sleep 60\n",
            shown(Path::new(&home)),
            shown(&self.dir.join("modules")),
            shown(scratch),
            shown(&std::env::current_dir()?),
            line.join(" "),
        ))
    }

    fn machine(&self, initrd: &Path, socket: &Path) -> anyhow::Result<Running> {
        let line = "qemu-system-x86_64 -M q35 -accel tcg,thread=multi -cpu max -smp 2 -m 8G -numa node,memdev=memory \
            -object memory-backend-memfd,id=memory,size=8G,share=on -device vhost-user-fs-pci,chardev=files,tag=root,queue-size=1024 \
            -device virtio-rng-pci -nodefaults -no-user-config -display none -no-reboot -chardev stdio,id=said,signal=off -serial chardev:said";
        let mut command = dying();
        command
            .args(line.split_ascii_whitespace())
            .arg("-chardev")
            .arg(format!("socket,id=files,path={}", socket.display()))
            .arg("-kernel")
            .arg(self.dir.join("vmlinuz"))
            .arg("-initrd")
            .arg(initrd)
            .args(["-append", "console=ttyS0 quiet loglevel=1 panic=-1 mitigations=off tsc=reliable no_timer_check cgroup_no_v1=all"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        Ok(Running(command.spawn().context("failed to run QEMU")?))
    }
}

/// A command that ends with this process.
fn dying() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]);
    command
}

/// Lends this machine's files, which nobody can write to where they are mounted.
fn files(socket: &Path) -> anyhow::Result<Running> {
    let mut command = dying();
    command
        .arg(VIRTIOFSD)
        .arg(format!("--socket-path={}", socket.display()))
        .args("-o source=/ -o cache=always -o sandbox=chroot -o no_posix_lock".split(' '))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let running = Running(command.spawn().context("failed to run virtiofsd")?);
    until("virtiofsd", LIMIT, || {
        ensure!(socket.exists(), "{VIRTIOFSD} makes no socket");
        Ok(())
    })?;
    Ok(running)
}

/// Passes on what the machine says, until its program has ended.
fn follow(mut machine: Running) -> anyhow::Result<ExitCode> {
    let said = machine
        .0
        .stdout
        .take()
        .context("a machine says something")?;
    let mut out = std::io::stdout();
    for line in BufReader::new(said).lines() {
        let line = line?;
        let line = line.trim_end_matches('\r');
        if let Some((_, code)) = line.split_once(ENDED) {
            let code: u8 = code.trim().parse().context("how the program ended")?;
            return Ok(ExitCode::from(code));
        }
        writeln!(out, "{line}")?;
    }
    anyhow::bail!("the machine ended, and not by its program's end")
}

fn make(dir: &Path) -> anyhow::Result<()> {
    say("fetching a kernel for whole machines (once)");
    let (_aside, tree) = guest::fetch()?;
    fs::copy(
        guest::file(&tree.join("boot"), "vmlinuz-")?,
        dir.join("vmlinuz"),
    )?;
    let all = guest::file(&tree.join("lib/modules"), "")?;
    let version = all.file_name().context("a version")?;
    output(
        Command::new("busybox")
            .args(["depmod", "-b"])
            .arg(&tree)
            .arg(version),
    )?;
    output(
        Command::new("cp")
            .arg("-a")
            .arg(&all)
            .arg(dir.join("modules")),
    )?;
    let mut base = Cpio::create(&dir.join("base.cpio"))?;
    for name in [
        "bin", "dev", "lower", "mod", "proc", "sys", "upper", "whole",
    ] {
        base.directory(name)?;
    }
    base.file("init", 0o755, INIT.as_bytes())?;
    base.file("bin/busybox", 0o755, &fs::read("/bin/busybox")?)?;
    guest::modules(&mut base, &tree, MODULES.into_iter().chain([OVERLAY]))?;
    base.end()
}
