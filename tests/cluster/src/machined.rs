// SPDX-License-Identifier: Apache-2.0
//! Pods in virtual machines, for the tests alone: what containerd runs in runc's place for a RuntimeClass. A pod's sandbox becomes a machine that
//! QEMU emulates, in the pod's network as Kata has it. Each container of the pod is loaded into that machine through a port of its own, and is here a
//! relay of what it says (`relay.rs`). Everything else is runc's.
//!
//! It is no Kata: that needs KVM. What a container begins with is copied: no volume is shared between containers, no file follows a change, no `exec`,
//! and whoever is told to end is killed. Must never ship. Read `machined/network.rs` for how a machine is connected, `guest.rs` for what is in it.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use crate::cpio::Cpio;

mod load;
mod network;
/// What is left of a container on its node.
pub mod relay;

use network::{Connection, Network};

/// Who says whether it is a pod's sandbox or a container in it, and in which sandbox.
const TYPE: &str = "io.kubernetes.cri.container-type";
const SANDBOX: &str = "io.kubernetes.cri.sandbox-id";
/// What of the node QEMU and relays need to see.
const SEEN: [&str; 3] = ["/usr", "/lib", "/lib64"];
/// How many containers a machine may have in its life, those that are let in later among them.
const PORTS: usize = 12;
/// Nothing is plugged into a machine later: one like this has one container and lets none in.
const FULL: usize = 1;

/// The kinds of machines: their board, how they are connected, and how many containers they have room for.
#[derive(Clone, Copy, Debug)]
struct Model {
    board: Board,
    network: Network,
    ports: usize,
}

#[derive(Clone, Copy, Debug)]
enum Board {
    /// With PCI, as Kata's with QEMU.
    Pci,
    /// Without, as Firecracker's.
    Mmio,
}

/// The RuntimeClasses' models, by name.
const MODELS: [(&str, Model); 4] = [
    ("pci", model(Board::Pci, Network::Mirrored, PORTS)),
    ("mmio", model(Board::Mmio, Network::Mirrored, PORTS)),
    ("macvtap", model(Board::Mmio, Network::Macvtap, PORTS)),
    ("l3forwarding", model(Board::Mmio, Network::Routed, FULL)),
];

const fn model(board: Board, network: Network, ports: usize) -> Model {
    Model {
        board,
        network,
        ports,
    }
}

/// What each is called.
pub(crate) fn models() -> impl Iterator<Item = &'static str> {
    MODELS.iter().map(|(name, _)| *name)
}

/// Does what containerd asks of an OCI runtime: `MODEL GUEST RUNC ARGS...`.
///
/// # Errors
///
/// What cannot be made, or what runc said.
pub fn run(words: &[&str]) -> anyhow::Result<()> {
    let [model, guest, runc, rest @ ..] = words else {
        bail!("machine MODEL GUEST RUNC ARGS...");
    };
    let found = MODELS.iter().find(|(name, _)| name == model);
    let (_, model) = found.with_context(|| format!("no model {model}"))?;
    let after = |flag| {
        let at = rest.iter().position(|word| *word == flag)?;
        rest.get(at + 1).map(Path::new)
    };
    if let (true, Some(bundle)) = (rest.contains(&"create"), after("--bundle")) {
        let prepared = prepare(bundle, Path::new(guest), *model);
        if let (Err(why), Some(log)) = (&prepared, after("--log")) {
            // There containerd looks for the reason, as runc writes it.
            let line = json!({"level": "error", "msg": format!("{why:#}")});
            fs::write(log, format!("{line}\n"))?;
        }
        prepared?;
    }
    // It returns only where that program cannot be run.
    Err(Command::new(runc).args(rest).exec()).context("runc")
}

/// Makes a machine of a sandbox that is about to be created, and a relay of a container.
fn prepare(bundle: &Path, guest: &Path, model: Model) -> anyhow::Result<()> {
    let path = bundle.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path)?)?;
    let sandbox = config["annotations"][SANDBOX].as_str();
    let sandbox = sandbox.context("a sandbox")?;
    // Bundles lie side by side.
    let vm = bundle.with_file_name(sandbox).join("vm");
    if config["annotations"][TYPE] == "sandbox" {
        fs::create_dir_all(&vm)?;
        let connection = network::connect(&namespace(&config)?, model.network)?;
        let own = vm.join("own.cpio");
        let mut cpio = Cpio::create(&own)?;
        cpio.file("network", 0o644, connection.setup.as_bytes())?;
        cpio.end()?;
        let whole = [fs::read(guest.join("base.cpio"))?, fs::read(own)?].concat();
        fs::write(vm.join("initrd"), whole)?;
        fs::copy(guest.join("vmlinuz"), vm.join("vmlinuz"))?;
        become_machine(&mut config, &vm, model, &connection)?;
    } else {
        let port = port(&vm, model.ports)?;
        load::write(&vm.join(format!("{port}.load")), bundle, &config)?;
        become_relay(&mut config, &vm, &port)?;
    }
    fs::write(&path, serde_json::to_vec(&config)?)?;
    Ok(())
}

/// The pod's network namespace.
fn namespace(config: &Value) -> anyhow::Result<PathBuf> {
    let all = config["linux"]["namespaces"].as_array();
    let all = all.context("namespaces")?;
    let network = all.iter().find(|one| one["type"] == "network");
    let path = network.and_then(|one| one["path"].as_str());
    Ok(PathBuf::from(path.context("a pod's network namespace")?))
}

/// The next container's port.
fn port(vm: &Path, ports: usize) -> anyhow::Result<String> {
    for number in 1..=ports {
        let port = format!("c{number}");
        let taken = fs::File::create_new(vm.join(format!("{port}.load")));
        if taken.is_ok() {
            return Ok(port);
        }
    }
    bail!("this machine has no room for another container: {ports} is all it may have")
}

/// The sandbox is QEMU from now on.
fn become_machine(
    config: &mut Value,
    vm: &Path,
    model: Model,
    connection: &Connection,
) -> anyhow::Result<()> {
    let (machine, suffix) = match model.board {
        Board::Pci => ("q35", "pci"),
        Board::Mmio => ("microvm,acpi=on,rtc=on", "device"),
    };
    // Without the clock's speed a microvm that is emulated often hangs at its start.
    let append = "console=ttyS0 rootfstype=ramfs quiet tsc_early_khz=2000000 panic=-1 mitigations=off tsc=reliable no_timer_check";
    let Connection { mac, netdev, .. } = connection;
    let mut line = format!(
        "/usr/bin/qemu-system-x86_64 -M {machine} -accel tcg -smp 1 -m 768 -nodefaults -no-user-config -display none -no-reboot \
         -kernel /vm/vmlinuz -initrd /vm/initrd -chardev file,id=log,path=/vm/console -serial chardev:log \
         -netdev tap,id=n0,{netdev} -device virtio-net-{suffix},netdev=n0,mac={mac} -device virtio-serial-{suffix},max_ports={}",
        model.ports + 1
    );
    for number in 1..=model.ports {
        line.push_str(&format!(
            " -chardev socket,id=c{number},path=/vm/c{number},server=on,wait=off -device virtserialport,chardev=c{number},nr={number}"
        ));
    }
    let mut words: Vec<&str> = line.split_ascii_whitespace().collect();
    words.extend(["-append", append]);
    let script = format!("exec \"$@\" {}", connection.opens);
    let mut args = vec!["/usr/bin/sh", "-c", &script, "sh"];
    args.extend(words);
    config["process"]["args"] = json!(args);
    for kind in ["bounding", "effective", "permitted"] {
        config["process"]["capabilities"][kind] = json!(["CAP_NET_ADMIN"]);
    }
    let linux = &mut config["linux"];
    let (path, major, minor) = &connection.device;
    let device = json!({"path": path, "type": "c", "major": major, "minor": minor, "fileMode": 438, "uid": 0, "gid": 0});
    push(&mut linux["devices"], device);
    let allow = json!({"allow": true, "type": "c", "major": major, "minor": minor, "access": "rw"});
    push(&mut linux["resources"]["devices"], allow);
    // A sandbox that only waits gets next to nothing.
    linux["resources"]["cpu"]["shares"] = json!(1024);
    see(config, vm, &[])
}

/// The container is a relay of what runs in the machine.
fn become_relay(config: &mut Value, vm: &Path, port: &str) -> anyhow::Result<()> {
    let own = std::env::current_exe()?;
    // A first process is not ended by a signal that it does not know.
    let script = "trap 'exit 143' TERM; \"$@\" & wait $!";
    config["process"]["args"] = json!([
        "/usr/bin/sh",
        "-c",
        script,
        "sh",
        "/vm-relay",
        "relay",
        "/vm",
        port
    ]);
    see(config, vm, &[(&own, "/vm-relay")])
}

/// As root, with the node's programs and the machine's directory in sight. What an application may call is for its own kernel to say.
fn see(config: &mut Value, vm: &Path, others: &[(&Path, &str)]) -> anyhow::Result<()> {
    let process = &mut config["process"];
    process["user"] = json!({"uid": 0, "gid": 0});
    process["cwd"] = json!("/");
    process["env"] = json!(["PATH=/usr/bin:/bin"]);
    config["linux"]["seccomp"] = Value::Null;
    config["root"]["readonly"] = json!(false);
    let mounts = config["mounts"].as_array_mut().context("mounts")?;
    let mut bind = |from: &Path, to: &str, mode: &str| -> anyhow::Result<()> {
        let from = fs::canonicalize(from).with_context(|| from.display().to_string())?;
        ensure!(from.exists(), "{}", from.display());
        mounts.push(
            json!({"type": "bind", "source": from, "destination": to, "options": ["rbind", mode]}),
        );
        Ok(())
    };
    for path in SEEN {
        bind(Path::new(path), path, "ro")?;
    }
    for (from, to) in others {
        bind(from, to, "ro")?;
    }
    bind(vm, "/vm", "rw")
}

fn push(list: &mut Value, item: Value) {
    match list.as_array_mut() {
        Some(items) => items.push(item),
        None => *list = json!([item]),
    }
}
