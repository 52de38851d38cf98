// SPDX-License-Identifier: Apache-2.0
//! Process 1 of a machine: gives it mounts, a boot and cgroups of its own, then reaps. It is started by `unshare` in fresh
//! namespaces; when it dies the kernel ends everything in them, which is how the plug is pulled.
//!
//! Must never write outside the machine's own directory and its own cgroups. Read `machine.rs` for who starts it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::sethostname;

use crate::image::sha256;

/// What the kubelet insists on, all of it the whole machine's: it is shown files of its own in their place.
const GUARDED: &[(&str, &str)] = &[
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// What a router and a node need of their own network namespace. Addresses are usable at once: nobody else has them.
const NETWORK: &[(&str, &str)] = &[
    ("ipv4/ip_forward", "1"),
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/all/forwarding", "1"),
];

const NONE: Option<&str> = None;

/// Becomes process 1 of machine `name`, which keeps its files in `dir` and its processes in the cgroup `cgroup` (a path
/// below the root of every hierarchy). Returns on SIGTERM.
///
/// # Errors
///
/// A mount, a file or a cgroup that cannot be made, named.
pub fn run(name: &str, dir: &Path, cgroup: &str) -> anyhow::Result<()> {
    let mut awaited = SigSet::empty();
    awaited.add(Signal::SIGTERM);
    awaited.add(Signal::SIGCHLD);
    awaited.thread_block()?;
    sethostname(name)?;
    mounts(dir)?;
    identity(dir)?;
    cgroups(cgroup)?;
    for (file, value) in NETWORK {
        let file = Path::new("/proc/sys/net").join(file);
        fs::write(&file, value).with_context(|| file.display().to_string())?;
    }
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SHARED, NONE).context("sharing mounts")?;
    fs::write(dir.join("ready"), "")?;
    while awaited.wait()? != Signal::SIGTERM {
        reap();
    }
    Ok(())
}

/// Takes the status of every child that ended.
fn reap() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            break;
        }
    }
}

/// A sysfs of this network namespace, copies of the directories that Kubernetes writes to, an empty /run.
fn mounts(dir: &Path) -> anyhow::Result<()> {
    let at = |name: &str| -> anyhow::Result<PathBuf> {
        let path = dir.join(name);
        fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(path)
    };
    let aside = at("cgroups")?;
    let moved = |from: &Path, to: &Path, flags| {
        mount(Some(from), to, NONE, flags, NONE)
            .with_context(|| format!("mount on {}", to.display()))
    };
    let hierarchies = Path::new("/sys/fs/cgroup");
    moved(hierarchies, &aside, MsFlags::MS_BIND | MsFlags::MS_REC)?;
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), NONE).context("sysfs")?;
    moved(&aside, hierarchies, MsFlags::MS_MOVE)?;
    for name in ["etc", "opt", "var"] {
        let (upper, work) = (at(name)?, at(&format!("work/{name}"))?);
        let options = format!(
            "lowerdir=/{name},upperdir={},workdir={}",
            upper.display(),
            work.display()
        );
        let on = format!("/{name}");
        mount(
            Some("overlay"),
            on.as_str(),
            Some("overlay"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .with_context(|| format!("overlay on {on}"))?;
    }
    // Layers of images cannot lie on an overlay: these two are real directories.
    for name in ["kubelet", "containerd"] {
        let on = Path::new("/var/lib").join(name);
        fs::create_dir_all(&on)?;
        moved(&at(name)?, &on, MsFlags::MS_BIND)?;
    }
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), NONE).context("/run")?;
    for path in [
        "/var/lib/cni",
        "/var/log/pods",
        "/var/log/containers",
        "/etc/cni/net.d",
        "/opt/cni/bin",
    ] {
        fs::create_dir_all(path)?;
    }
    let guard = at("guard")?;
    for (file, value) in GUARDED {
        let real = Path::new("/proc/sys").join(file);
        if real.exists() {
            let shown = guard.join(file.replace('/', "."));
            fs::write(&shown, format!("{value}\n"))?;
            moved(&shown, &real, MsFlags::MS_BIND)?;
        }
    }
    Ok(())
}

/// A machine id that stays, and a boot id that is new each time: by it the kubelet notices a reboot.
fn identity(dir: &Path) -> anyhow::Result<()> {
    let machine = sha256(dir.display().to_string().as_bytes());
    fs::write("/etc/machine-id", format!("{}\n", &machine[..32]))?;
    let boot = dir.join("boot-id");
    fs::copy("/proc/sys/kernel/random/uuid", &boot)?;
    mount(
        Some(&boot),
        "/proc/sys/kernel/random/boot_id",
        NONE,
        MsFlags::MS_BIND,
        NONE,
    )
    .context("boot id")
}

/// The cgroup of this machine in each hierarchy, with a leaf for what is no pod; this process goes there.
fn cgroups(cgroup: &str) -> anyhow::Result<()> {
    for root in hierarchies()? {
        let mut dir = root;
        for part in cgroup.split('/').chain(["daemons"]) {
            let above = dir.clone();
            dir.push(part);
            pass_on(&above)?;
            match nix::unistd::mkdir(&dir, nix::sys::stat::Mode::from_bits_truncate(0o755)) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(error) => return Err(error).with_context(|| dir.display().to_string()),
            }
            // cpuset of version 1 gives a new group nothing, and then takes no process into it.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if root_of_v1(&dir) && dir.join(file).exists() {
                    fs::write(dir.join(file), fs::read(above.join(file))?)?;
                }
            }
        }
        fs::write(dir.join("cgroup.procs"), "1")?;
    }
    Ok(())
}

/// Lets the groups in one of version 2 have every controller that it has itself.
fn pass_on(group: &Path) -> anyhow::Result<()> {
    let Ok(all) = fs::read_to_string(group.join("cgroup.controllers")) else {
        return Ok(());
    };
    let all: Vec<_> = all
        .split_whitespace()
        .map(|one| format!("+{one}"))
        .collect();
    let to = group.join("cgroup.subtree_control");
    fs::write(&to, all.join(" ")).with_context(|| to.display().to_string())
}

/// Whether a group is one of version 1.
fn root_of_v1(dir: &Path) -> bool {
    !dir.join("cgroup.controllers").exists()
}

/// The roots of the hierarchies: one of version 2, or several of version 1.
///
/// # Errors
///
/// The directory of the hierarchies cannot be read.
pub(crate) fn hierarchies() -> anyhow::Result<Vec<PathBuf>> {
    let top = Path::new("/sys/fs/cgroup");
    if top.join("cgroup.procs").exists() {
        return Ok(vec![top.to_owned()]);
    }
    let mut roots = Vec::new();
    for entry in fs::read_dir(top)? {
        let path = entry?.path();
        if path.join("cgroup.procs").exists() {
            roots.push(path);
        }
    }
    Ok(roots)
}
