// SPDX-License-Identifier: Apache-2.0
//! Pods in virtual machines, for the tests alone: what containerd runs in runc's place for a RuntimeClass. A pod's container becomes a
//! machine that QEMU emulates, in the pod's network as Kata has it: a tap beside the pod's interface, and every frame passed between the two
//! before anything of the node's network sees it (Kata's model *tcfilter*). Everything else is runc's.
//!
//! The machine's memory is loaded with the container's image and its small files, so one container a pod, no volumes, no `exec`. It is no
//! Kata: that needs KVM. Must never ship. Read `guest.rs` for what is in a machine.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::guest::Cpio;
use crate::shell::output;

/// Who says whether it is a pod's sandbox or a container in it.
const TYPE: &str = "io.kubernetes.cri.container-type";
/// The tap's name, as Kata gives it.
const TAP: &str = "tap0_kata";
/// What of the node QEMU needs to see.
const SEEN: [&str; 3] = ["/usr", "/lib", "/lib64"];
/// Files that the kubelet makes are small.
const SMALL: u64 = 1 << 20;

/// The two kinds of machines.
#[derive(Clone, Copy, Debug)]
enum Model {
    /// With PCI, as Kata's with QEMU.
    Pci,
    /// Without, as Firecracker's.
    Mmio,
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
    let model = match *model {
        "pci" => Model::Pci,
        "mmio" => Model::Mmio,
        other => bail!("no model {other}"),
    };
    let bundle = rest.iter().position(|word| *word == "--bundle");
    let bundle = bundle.and_then(|at| rest.get(at + 1));
    if let (true, Some(bundle)) = (rest.contains(&"create"), bundle) {
        prepare(Path::new(bundle), Path::new(guest), model)?;
    }
    // It returns only where that program cannot be run.
    Err(Command::new(runc).args(rest).exec()).context("runc")
}

/// Makes a machine of a container that is about to be created, where it is one.
fn prepare(bundle: &Path, guest: &Path, model: Model) -> anyhow::Result<()> {
    let path = bundle.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path)?)?;
    if config["annotations"][TYPE] != "container" {
        return Ok(());
    }
    let vm = bundle.join("vm");
    fs::create_dir_all(&vm)?;
    let network = scrape(&namespace(&config)?)?;
    fill(&vm, guest, bundle, &config, &network)?;
    fs::copy(guest.join("vmlinuz"), vm.join("vmlinuz"))?;
    become_machine(&mut config, &vm, model, &network.mac)?;
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

/// What the guest is to have of the pod's network.
struct Network {
    mac: String,
    /// Lines of a shell.
    setup: String,
}

/// Reads the pod's interface, and puts a tap beside it.
fn scrape(namespace: &Path) -> anyhow::Result<Network> {
    let inside = |words: &str| {
        let mut enter = Command::new("nsenter");
        enter.arg(format!("--net={}", namespace.display()));
        output(enter.args(words.split(' ')))
    };
    let told =
        |words: &str| -> anyhow::Result<Value> { Ok(serde_json::from_str(&inside(words)?)?) };
    let link = told("ip -j addr show dev eth0")?[0].take();
    let (mac, mtu) = (link["address"].as_str().context("a MAC")?, &link["mtu"]);
    let mut setup = format!("ip link set eth0 mtu {mtu} up\n");
    for address in link["addr_info"].as_array().context("addresses")? {
        if address["scope"] == "global" {
            let (local, length) = (address["local"].as_str(), &address["prefixlen"]);
            let local = local.context("an address")?;
            setup.push_str(&format!("ip addr add {local}/{length} dev eth0\n"));
        }
    }
    for family in ["-4", "-6"] {
        let routes = told(&format!("ip -j {family} route show dev eth0"))?;
        for route in routes.as_array().context("routes")? {
            // The kernel makes those of addresses itself.
            if route["protocol"] == "kernel" {
                continue;
            }
            let to = route["dst"].as_str().context("a destination")?;
            let via = route["gateway"].as_str();
            let via = via.map_or(String::new(), |gateway| format!(" via {gateway}"));
            setup.push_str(&format!("ip {family} route add {to}{via} dev eth0\n"));
        }
    }
    // What a machine before this one had in the same namespace.
    if inside(&format!("ip link del {TAP}")).is_ok() {
        inside("tc qdisc del dev eth0 ingress")?;
    }
    for line in [
        format!("ip tuntap add {TAP} mode tap user 0 vnet_hdr"),
        format!("ip link set {TAP} mtu {mtu} up"),
        "tc qdisc add dev eth0 ingress".to_owned(),
        format!("tc qdisc add dev {TAP} ingress"),
        format!(
            "tc filter add dev eth0 parent ffff: protocol all u32 match u8 0 0 action mirred egress redirect dev {TAP}"
        ),
        format!(
            "tc filter add dev {TAP} parent ffff: protocol all u32 match u8 0 0 action mirred egress redirect dev eth0"
        ),
    ] {
        inside(&line)?;
    }
    Ok(Network {
        mac: mac.to_owned(),
        setup,
    })
}

/// Writes what the guest begins with.
fn fill(
    vm: &Path,
    guest: &Path,
    bundle: &Path,
    config: &Value,
    network: &Network,
) -> anyhow::Result<()> {
    let root = config["root"]["path"].as_str().context("a root")?;
    let own = vm.join("own.cpio");
    let mut cpio = Cpio::create(&own)?;
    cpio.file("network", 0o644, network.setup.as_bytes())?;
    cpio.file("command", 0o644, command(config)?.as_bytes())?;
    cpio.tree(&bundle.join(root), "pod")?;
    cpio.directory("pod/etc")?;
    for mount in config["mounts"].as_array().into_iter().flatten() {
        let (Some(from), Some(to)) = (mount["source"].as_str(), mount["destination"].as_str())
        else {
            continue;
        };
        let found = fs::metadata(from);
        if to.starts_with("/etc/")
            && found.is_ok_and(|found| found.is_file() && found.len() < SMALL)
        {
            cpio.file(&format!("pod{to}"), 0o644, &fs::read(from)?)?;
        }
    }
    cpio.end()?;
    let whole = [fs::read(guest.join("base.cpio"))?, fs::read(own)?].concat();
    Ok(fs::write(vm.join("initrd"), whole)?)
}

/// The container's command, for a shell.
fn command(config: &Value) -> anyhow::Result<String> {
    let words = |key: &str| -> anyhow::Result<Vec<String>> {
        let all = config["process"][key].as_array().context("a command")?;
        let all = all.iter().filter_map(Value::as_str);
        Ok(all
            .map(|word| format!("'{}'", word.replace('\'', r"'\''")))
            .collect())
    };
    let (env, args) = (words("env")?.join(" "), words("args")?.join(" "));
    Ok(format!("chroot /pod /bin/busybox env -i {env} {args}\n"))
}

/// The container is QEMU from now on.
fn become_machine(config: &mut Value, vm: &Path, model: Model, mac: &str) -> anyhow::Result<()> {
    let (machine, card) = match model {
        Model::Pci => ("q35", "virtio-net-pci"),
        Model::Mmio => ("microvm,acpi=on,rtc=on", "virtio-net-device"),
    };
    // Without the clock's speed a microvm that is emulated often hangs at its start.
    let append = "console=ttyS0 quiet tsc_early_khz=2000000 panic=-1 mitigations=off tsc=reliable no_timer_check";
    let line = format!(
        "/usr/bin/qemu-system-x86_64 -M {machine} -accel tcg -smp 1 -m 256 -nodefaults -no-user-config -display none -no-reboot \
         -kernel /vm/vmlinuz -initrd /vm/initrd -chardev file,id=log,path=/proc/self/fd/1 -serial chardev:log \
         -netdev tap,id=n0,ifname={TAP},script=no,downscript=no,vhost=off -device {card},netdev=n0,mac={mac}"
    );
    let mut args: Vec<&str> = line.split(' ').collect();
    args.extend(["-append", append]);
    let process = &mut config["process"];
    process["args"] = json!(args);
    process["user"] = json!({"uid": 0, "gid": 0});
    process["cwd"] = json!("/");
    process["env"] = json!(["PATH=/usr/bin:/bin"]);
    for kind in ["bounding", "effective", "permitted"] {
        process["capabilities"][kind] = json!(["CAP_NET_ADMIN"]);
    }
    let bind = |from: &str, to: &str| json!({"type": "bind", "source": from, "destination": to, "options": ["rbind", "ro"]});
    let vm = vm.display().to_string();
    let mounts = config["mounts"].as_array_mut().context("mounts")?;
    for path in SEEN {
        let real = fs::canonicalize(path)?.display().to_string();
        mounts.push(bind(&real, path));
    }
    mounts.push(bind(&vm, "/vm"));
    let linux = &mut config["linux"];
    let tun = json!({"path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200, "fileMode": 438, "uid": 0, "gid": 0});
    push(&mut linux["devices"], tun);
    let allow = json!({"allow": true, "type": "c", "major": 10, "minor": 200, "access": "rw"});
    push(&mut linux["resources"]["devices"], allow);
    // What an application may call is for its own kernel to say.
    linux["seccomp"] = Value::Null;
    config["root"]["readonly"] = json!(false);
    Ok(())
}

fn push(list: &mut Value, item: Value) {
    match list.as_array_mut() {
        Some(items) => items.push(item),
        None => *list = json!([item]),
    }
}
