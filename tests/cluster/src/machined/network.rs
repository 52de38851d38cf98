// SPDX-License-Identifier: Apache-2.0
//! How a machine is connected to its pod's network, in each of Kata's ways: a tap into which every frame of the pod's interface is turned before
//! anything of the node sees it (*tcfilter*), one on that interface itself (*macvtap*), or the pod's namespace as a router in between (*l3forwarding*).
//!
//! Read `l3_forwarding_model.rs`, `tc_filter_model.rs` and `macvtap` of Kata 4.1.0 for what is done there.

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use serde_json::Value;

use crate::shell::output;

/// The tap's name, as Kata gives it.
const TAP: &str = "tap0_kata";
/// As which the router knows itself on that.
const ROUTER: &str = "169.254.0.1/32";

/// Kata's names: tcfilter, macvtap, l3forwarding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Network {
    Mirrored,
    Macvtap,
    /// IPv4 alone, as there.
    Routed,
}

/// What QEMU and the guest are to have of the pod's network.
pub(super) struct Connection {
    pub(super) mac: String,
    /// Lines of the guest's shell.
    pub(super) setup: String,
    /// QEMU's words.
    pub(super) netdev: String,
    /// What its shell opens for it.
    pub(super) opens: String,
    /// A device that it needs: path and numbers.
    pub(super) device: (String, u32, u32),
}

/// The pod's namespace.
struct Inside<'n>(&'n Path);

impl Inside<'_> {
    fn run(&self, words: &str) -> anyhow::Result<String> {
        self.script(&["sh", "-c", words])
    }

    fn script(&self, words: &[&str]) -> anyhow::Result<String> {
        let mut enter = Command::new("nsenter");
        enter.arg(format!("--net={}", self.0.display()));
        output(enter.args(words))
    }

    fn told(&self, words: &str) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.run(words)?)?)
    }
}

/// Reads the pod's interface, and connects a tap with it.
pub(super) fn connect(namespace: &Path, network: Network) -> anyhow::Result<Connection> {
    let inside = Inside(namespace);
    // What a machine before this one had in the same namespace.
    if inside.run(&format!("ip link del {TAP}")).is_ok() && network == Network::Mirrored {
        inside.run("tc qdisc del dev eth0 ingress")?;
    }
    let link = inside.told("ip -j addr show dev eth0")?[0].take();
    let (mac, mtu) = (link["address"].as_str().context("a MAC")?, &link["mtu"]);
    let setup = setup(&inside, &link, network)?;
    let tap =
        format!("ip tuntap add {TAP} mode tap user 0 vnet_hdr && ip link set {TAP} mtu {mtu} up");
    let mut connection = Connection {
        mac: mac.to_owned(),
        setup,
        netdev: format!("ifname={TAP},script=no,downscript=no,vhost=off"),
        opens: String::new(),
        device: ("/dev/net/tun".to_owned(), 10, 200),
    };
    match network {
        Network::Mirrored => {
            inside.run(&tap)?;
            mirror(&inside)?;
        }
        Network::Routed => {
            inside.run(&tap)?;
            route(&inside, &link)?;
        }
        Network::Macvtap => {
            let numbers = macvtap(&inside, mac, mtu)?;
            connection.netdev = "fd=3,vhost=off".to_owned();
            connection.opens = "3<>/dev/tap0".to_owned();
            connection.device = ("/dev/tap0".to_owned(), numbers.0, numbers.1);
        }
    }
    Ok(connection)
}

/// The pod's addresses and routes, for the guest.
fn setup(inside: &Inside<'_>, link: &Value, network: Network) -> anyhow::Result<String> {
    let only_v4 = network == Network::Routed;
    let mut setup = format!("ip link set eth0 mtu {} up\n", link["mtu"]);
    for address in link["addr_info"].as_array().context("addresses")? {
        if address["scope"] != "global" || (only_v4 && address["family"] != "inet") {
            continue;
        }
        let (local, length) = (address["local"].as_str(), &address["prefixlen"]);
        let local = local.context("an address")?;
        setup.push_str(&format!("ip addr add {local}/{length} dev eth0\n"));
    }
    for family in ["-4", "-6"].into_iter().take(if only_v4 { 1 } else { 2 }) {
        let routes = inside.told(&format!("ip -j {family} route show dev eth0"))?;
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
    Ok(setup)
}

/// Every frame of the one leaves by the other.
fn mirror(inside: &Inside<'_>) -> anyhow::Result<()> {
    for (from, to) in [("eth0", TAP), (TAP, "eth0")] {
        inside.run(&format!("tc qdisc add dev {from} ingress"))?;
        inside.run(&format!(
            "tc filter add dev {from} parent ffff: protocol all u32 match u8 0 0 action mirred egress redirect dev {to}"
        ))?;
    }
    Ok(())
}

/// The guest has the interface's MAC, and that another; the addresses are the guest's alone. Without all multicasts it would not hear who looks for its
/// IPv6 addresses.
fn macvtap(inside: &Inside<'_>, mac: &str, mtu: &Value) -> anyhow::Result<(u32, u32)> {
    inside.run(&format!(
        "ip link add link eth0 name {TAP} type macvtap mode bridge && ip link set eth0 down && \
         ip link set eth0 address 02:00:5e:$(od -An -N3 -tx1 /dev/urandom | sed 's/^ //; s/ /:/g') && ip link set {TAP} address {mac} mtu {mtu} && \
         ip addr flush dev eth0 && ip link set eth0 up && ip link set {TAP} allmulticast on up"
    ))?;
    // Its device's numbers are in a view of the kernel's devices from this network alone.
    let view = format!("mount -t sysfs none /sys && cat /sys/class/net/{TAP}/macvtap/tap*/dev");
    let said = inside.script(&["unshare", "--mount", "sh", "-c", &view])?;
    let numbers = said.trim().split_once(':').context("a device's numbers")?;
    Ok((numbers.0.parse()?, numbers.1.parse()?))
}

/// The namespace answers for everybody on both sides, and forwards. Without `accept_local` it answers nobody: it has the guest's address itself.
fn route(inside: &Inside<'_>, link: &Value) -> anyhow::Result<()> {
    let all = link["addr_info"].as_array().context("addresses")?;
    let v4 = all.iter().find(|address| address["family"] == "inet");
    let v4 = v4.and_then(|address| address["local"].as_str());
    let v4 = v4.context("an IPv4 address")?;
    inside.script(&[
        "unshare",
        "--mount",
        "sh",
        "-c",
        &format!(
            "mount -t proc none /proc; cd /proc/sys/net/ipv4 && echo 1 >ip_forward && echo 1 >conf/eth0/proxy_arp && \
             echo 1 >conf/{TAP}/proxy_arp && echo 1 >conf/{TAP}/accept_local && ip addr add {ROUTER} dev {TAP} && \
             ip route del local {v4} dev eth0 table 255 && ip route add {v4}/32 dev {TAP} scope link"
        ),
    ])?;
    Ok(())
}
