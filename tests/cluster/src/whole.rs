// SPDX-License-Identifier: Apache-2.0
//! A whole machine with a kernel of its own, for a program that must run where control groups are of version 2 alone, whatever this
//! machine has. QEMU emulates it: not every machine that has KVM can run a kernel by it. Its files are this machine's, by virtiofs; what is
//! written there stays there. The kernel is Debian's for clouds.
//!
//! Must never change anything of this machine.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use crate::cpio::Cpio;
use crate::guest;
use crate::parts::Parts;
use crate::shell::{PATIENCE, output, say, until};

/// What comes with QEMU in Debian's qemu-system-common.
const VIRTIOFSD: &str = "/usr/lib/qemu/virtiofsd";
/// What it needs until it sees this machine's files.
const MODULES: [&str; 3] = ["virtio_pci", "virtiofs", "overlay"];
/// As long as here, times this, may anything take there.
const SLOWER: u32 = 8;
/// The package that always depends on the newest of them.
const NEWEST: &str = "linux-image-cloud-amd64";
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
        let dir = guest::kept(parts, "whole", include_bytes!("whole.rs"), make)?;
        Ok(Self { dir })
    }

    /// Its kernel, as it is booted.
    pub(crate) fn kernel(&self) -> PathBuf {
        self.dir.join("vmlinuz")
    }

    /// Its modules, with `modules.dep`.
    pub(crate) fn modules(&self) -> PathBuf {
        self.dir.join("modules")
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
            shown(&self.modules()),
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
            .arg(self.kernel())
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

/// What Debian's newest kernel for clouds is made of, for as long as the first of both is kept.
fn fetch() -> anyhow::Result<(TempDir, PathBuf)> {
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

fn make(dir: &Path) -> anyhow::Result<()> {
    say("fetching a kernel for virtual machines (once)");
    let (_aside, tree) = fetch()?;
    fs::copy(file(&tree.join("boot"), "vmlinuz-")?, dir.join("vmlinuz"))?;
    let all = file(&tree.join("lib/modules"), "")?;
    let version = all.file_name().context("a version")?;
    output(
        Command::new("busybox")
            .args(["depmod", "-b"])
            .arg(&tree)
            .arg(version),
    )?;
    let modules = dir.join("modules");
    output(Command::new("cp").arg("-a").arg(&all).arg(&modules))?;
    let mut base = Cpio::create(&dir.join("base.cpio"))?;
    for name in [
        "bin", "dev", "lower", "mod", "proc", "sys", "upper", "whole",
    ] {
        base.directory(name)?;
    }
    base.file("init", 0o755, INIT.as_bytes())?;
    base.file("bin/busybox", 0o755, &fs::read("/bin/busybox")?)?;
    load(&mut base, &modules, &MODULES)?;
    base.end()
}

/// The file of a directory whose name begins so.
fn file(dir: &Path, begins: &str) -> anyhow::Result<PathBuf> {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(begins) {
            return Ok(entry.path());
        }
    }
    anyhow::bail!("{} has no {begins}*", dir.display())
}

/// Adds modules and what they need as `mod/*`, to be loaded in the order of their names.
pub(crate) fn load(base: &mut Cpio, modules: &Path, names: &[&str]) -> anyhow::Result<()> {
    for (at, module) in wanted(modules, names)?.iter().enumerate() {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        base.file(&format!("mod/{at:02}-{name}"), 0o644, &fs::read(module)?)?;
    }
    Ok(())
}

/// The files of modules and of what they need, in the order in which they can be loaded.
fn wanted(dir: &Path, names: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
    let text = fs::read_to_string(dir.join("modules.dep"))?;
    let (mut seen, mut order) = (BTreeSet::new(), Vec::new());
    for name in names {
        let line = text.lines().find(|line| {
            let path = line.split(':').next().unwrap_or_default();
            path.ends_with(&format!("/{name}.ko"))
        });
        let line = line.with_context(|| format!("the kernel has no {name}.ko"))?;
        let (own, needs) = line.split_once(':').context("a line of modules.dep")?;
        // Whoever is needed stands behind whoever needs it.
        let all = needs.split_whitespace().rev().chain([own]);
        order.extend(
            all.filter(|path| seen.insert(*path))
                .map(|path| dir.join(path)),
        );
    }
    Ok(order)
}
