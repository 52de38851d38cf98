// SPDX-License-Identifier: Apache-2.0
//! A tenant that burns every processor and byte that it may use does not keep its proxy from its work, and a proxy that is flooded does not take what is
//! the tenant's, whatever that runs in.
//!
//! Each proxy is held against another pod's on the same node at the same time, each tenant against itself without the flood. The opposite: in the tenant's
//! own control group each takes from the other; and so it is where a sidecar is inside a virtual machine.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::ensure;
use futures_util::future::join_all;
use maille_cluster::agents::{self, Begin};
use maille_cluster::machine::Machine;
use maille_cluster::meshed::{Meshed, text};
use maille_cluster::pairs::addresses;
use maille_sys::netns::NetNs;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// A tenant: its name and RuntimeClass, how it burns memory, and what its proxy may have of a processor.
struct Kind {
    name: &'static str,
    class: Option<&'static str>,
    memory: &'static str,
    limit: Option<&'static str>,
    capture: Option<&'static str>,
}

const KINDS: [Kind; 6] = [
    Kind {
        name: "shared",
        class: None,
        memory: HOG,
        limit: None,
        capture: None,
    },
    Kind {
        name: "sandbox",
        class: Some("gvisor"),
        memory: FILL,
        limit: None,
        capture: None,
    },
    Kind {
        name: "machine",
        class: Some("machine-mmio"),
        memory: HOG,
        limit: None,
        capture: None,
    },
    Kind {
        name: "shared-with-room",
        class: Some("roomy"),
        memory: HOG,
        limit: Some("100m"),
        capture: None,
    },
    Kind {
        name: "sandbox-with-room",
        class: Some("gvisor-roomy"),
        memory: FILL,
        limit: Some("100m"),
        capture: None,
    },
    Kind {
        name: "sidecar",
        class: None,
        memory: HOG,
        limit: Some("100m"),
        capture: Some("inboard"),
    },
];
/// Whose proxy is the guest's, and has what the tenant leaves.
const INSIDE: Kind = Kind {
    name: "machine-with-sidecar",
    class: Some("machine-mmio"),
    memory: ":",
    limit: None,
    capture: Some("inboard"),
};
/// Classes whose pods have room for a proxy, and their handlers.
const ROOMY: [(&str, &str); 2] = [("roomy", "runc"), ("gvisor-roomy", "runsc")];
/// Whoever needs more than there is, is ended, and there is another.
const HOG: &str = "while :; do /bin/busybox tail /dev/zero >/dev/null; done";
/// In gVisor that would end everything.
const FILL: &str =
    "/bin/busybox dd if=/dev/zero of=/dev/shm/full bs=1M count=64; while :; do :; done";
/// A pod that does nothing beside it.
const CALM: &str = "calm";
/// Where proxies take what others send.
const MESH: u16 = 15008;
/// Handshakes of each that are compared, and the pace of both.
const TRIES: usize = 80;
const PACE: Duration = Duration::from_millis(15);
/// Handshakes of a flood that are under way.
const AT_ONCE: usize = 32;
/// How long processor time is counted.
const WINDOW: Duration = Duration::from_secs(3);
/// How much longer a proxy may take to answer than twice what the other takes.
const SLACK: Duration = Duration::from_millis(15);
const PATIENCE: Duration = Duration::from_secs(10);

/// A tenant that burns on the first node.
struct Tenant {
    node: Machine,
    network: NetNs,
    name: &'static str,
    uid: String,
    /// Its proxy's process.
    proxy: String,
    address: IpAddr,
    calm: IpAddr,
}

fn burning(kind: &Kind) -> serde_json::Value {
    let mut pod = agents::pod(kind.name, "default", "node1", &[]);
    let spins = "for n in 1 2 3 4; do while :; do :; done & done";
    let container = &mut pod["spec"]["containers"][0];
    let script = format!("{spins}; {}", kind.memory);
    container["command"] = json!(["/bin/busybox", "sh", "-c", script]);
    // A virtual machine has its own memory in that, and what runs it.
    let bytes = if kind.class.is_some_and(|class| class.starts_with("machine")) {
        "1Gi"
    } else {
        "128Mi"
    };
    container["resources"] = json!({"limits": {"cpu": "300m", "memory": bytes}});
    if let Some(class) = kind.class {
        pod["spec"]["runtimeClassName"] = json!(class);
    }
    for (key, value) in [("proxy-cpu-limit", kind.limit), ("capture", kind.capture)] {
        if let Some(value) = value {
            pod["metadata"]["annotations"][format!("maille.io/{key}")] = json!(value);
        }
    }
    pod
}

/// How long until a proxy has answered in TLS, of each of two by turns: the nine of ten that are quickest.
fn handshakes(network: &NetNs, both: [IpAddr; 2], tries: usize) -> [Duration; 2] {
    let work = async {
        let mut took = [Vec::new(), Vec::new()];
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for _ in 0..tries {
            for (took, to) in took.iter_mut().zip(both) {
                pace.tick().await;
                let begin = SystemTime::now();
                handshake(to).await;
                took.push(begin.elapsed().unwrap());
            }
        }
        took.map(|mut took| {
            took.sort_unstable();
            took[tries * 9 / 10]
        })
    };
    network.run(|| runtime().block_on(work)).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

async fn handshake(to: IpAddr) {
    timeout(PATIENCE, begin(to)).await.unwrap().unwrap();
}

/// Has a proxy make a key exchange and a signature.
async fn begin(to: IpAddr) -> std::io::Result<()> {
    let stream = TcpStream::connect((to, MESH)).await?;
    maille_identity::anyone::dial(stream, to)
        .await
        .map(drop)
        .map_err(std::io::Error::other)
}

// === impl Tenant ===

impl Tenant {
    fn start(up: &Meshed, kind: &Kind) -> Self {
        let name = kind.name;
        up.cluster().apply(&burning(kind).to_string()).unwrap();
        up.settled("default", &format!("app={name}"), 1).unwrap();
        let node = up.cluster().node(1);
        let pod = |name: &str| {
            up.pods("default", &format!("app={name}"))
                .unwrap()
                .remove(0)
        };
        let address = |pod| addresses(&pod)[0].parse().unwrap();
        if kind.capture.is_none() {
            // A guest says itself who it is, in its own time.
            let mac = "ip -j link show up0 | sed 's/.*\"address\":\"//; s/\".*//'";
            let mac = agents::inside(&node, name, mac).unwrap();
            let known = format!(
                "ip neigh replace {} lladdr {} dev cni0 nud permanent",
                addresses(&pod(name))[0],
                mac.trim()
            );
            agents::shell(&node, &known).unwrap();
        }
        let uid = text(&pod(name), "/metadata/uid").to_owned();
        let proxy = match kind {
            Kind { capture: None, .. } => agents::shell(
                &node,
                &format!(
                    "cut -d' ' -f1 $(dirname $(grep -l '\"name\":\"{name}\"' /run/maille/node/sandboxes/*/sandbox.json))/proxy.pid"
                ),
            ),
            // Its node does not see that one.
            Kind { class: Some(_), .. } => Ok("none".to_owned()),
            Kind { class: None, .. } => agents::shell(
                &node,
                &format!(
                    "for p in $(grep -l pod{uid} /proc/[0-9]*/cgroup); do p=${{p%/cgroup}}; grep -q maille-proxy $p/comm && echo ${{p#/proc/}}; done; true"
                ),
            ),
        };
        Self {
            network: NetNs::of_pid(node.pid().unwrap()).unwrap(),
            node,
            name,
            uid,
            proxy: proxy.unwrap().trim().to_owned(),
            address: address(pod(name)),
            calm: address(pod(CALM)),
        }
    }

    /// The number that a shell says on its node, where `$pod` is its control group that is given processor time, and `$used` the one that counts it.
    fn number(&self, script: &str) -> u64 {
        let find = format!(
            "pod=$(find /sys/fs/cgroup/cpu/{} -name 'pod{}' -type d); used=$(echo $pod | sed s#/cpu/#/cpuacct/#); {script}",
            self.node.cgroup(),
            self.uid
        );
        let said = agents::shell(&self.node, &find).unwrap();
        said.trim().parse().unwrap_or_else(|_| panic!("{said}"))
    }

    /// Its share of a processor during a while, its proxy's left out, in thousandths.
    fn share(&self) -> u64 {
        let nanos = format!(
            "own=0; group=$(grep :cpuacct: /proc/{}/cgroup 2>/dev/null | cut -d: -f3); case $group in \
             */pod{}/*) own=$(cat /sys/fs/cgroup/cpuacct$group/cpuacct.usage);; esac; echo $(($(cat $used/cpuacct.usage) - own))",
            self.proxy, self.uid
        );
        let (begin, before) = (SystemTime::now(), self.number(&nanos));
        runtime().block_on(async {
            let mut window = interval(WINDOW);
            window.tick().await;
            window.tick().await;
        });
        let nanos = self.number(&nanos) - before;
        nanos * 1000 / u64::try_from(begin.elapsed().unwrap().as_nanos()).unwrap()
    }

    /// The same while its proxy is asked for as many handshakes as can be made; and how many were.
    fn share_in_flood(&self) -> (u64, usize) {
        let over = AtomicBool::new(false);
        let one = async || {
            let mut made = 0;
            while !over.load(Ordering::Relaxed) {
                // Who is refused asks again.
                if let Ok(Ok(())) = timeout(PATIENCE, begin(self.address)).await {
                    made += 1;
                }
            }
            made
        };
        let flood = || {
            let all = async { join_all((0..AT_ONCE).map(|_| one())).await };
            let made = self.network.run(|| runtime().block_on(all)).unwrap();
            made.iter().sum::<usize>()
        };
        thread::scope(|scope| {
            let flood = scope.spawn(flood);
            let share = self.share();
            over.store(true, Ordering::Relaxed);
            (share, flood.join().unwrap())
        })
    }

    /// Moves its proxy into its own group, where it has what the tenant leaves, or back to where it was.
    fn join(&self, there: bool) {
        let proxy = &self.proxy;
        let to = if there {
            format!(
                "own=$(grep :cpuacct: /proc/{proxy}/cgroup | sed 's#.*/##'); \
                 busy=$(for g in $(ls $used | grep -v $own); do [ ! -d $used/$g ] || echo $(cat $used/$g/cpuacct.usage) $g; done | \
                 sort -n | tail -1 | cut -d' ' -f2); grep ':cpu:' /proc/{proxy}/cgroup | cut -d: -f3 >/run/was; to=$pod/$busy"
            )
        } else {
            "to=/sys/fs/cgroup/cpu$(cat /run/was)".to_owned()
        };
        self.number(&format!("{to}; echo {proxy} >$to/cgroup.procs; echo 0"));
    }

    fn end(self, up: &Meshed) {
        up.kubectl(&format!("-n default delete pod {}", self.name))
            .unwrap();
    }
}

/// Neither takes what is the other's.
fn each_has_its_own(up: &Meshed, kind: &Kind) {
    let tenant = Tenant::start(up, kind);
    let quiet = up.until("all that it has", || {
        let share = tenant.share();
        ensure!(share > 200, "{share} thousandths of a processor");
        Ok(share)
    });
    let quiet = quiet.unwrap();
    let both = [tenant.calm, tenant.address];
    let [calm, own] = handshakes(&tenant.network, both, TRIES);
    let (flooded, made) = tenant.share_in_flood();
    tenant.join(true);
    let [_, starved] = handshakes(&tenant.network, both, TRIES);
    let (robbed, _) = tenant.share_in_flood();
    tenant.join(false);
    eprintln!(
        "{}: its proxy answers in {own:?}, another's in {calm:?}; in the tenant's own group in {starved:?}. The tenant has {quiet} thousandths of \
         a processor, in a flood of {made} handshakes {flooded}; with its proxy in its own group {robbed}",
        tenant.name
    );
    let most = 2 * calm + SLACK;
    assert!(own < most, "{}: {own:?}, {calm:?}", tenant.name);
    assert!(starved > 2 * own, "{}: {starved:?}, {own:?}", tenant.name);
    assert!(
        flooded * 100 > quiet * 93,
        "{}: {flooded}, {quiet}",
        tenant.name
    );
    assert!(
        robbed * 100 < quiet * 93,
        "{}: {robbed}, {quiet}",
        tenant.name
    );
    tenant.end(up);
}

/// A sidecar in a machine has what its tenant leaves: there are no groups around both.
fn a_sidecar_in_a_machine_is_starved(up: &Meshed) {
    let tenant = Tenant::start(up, &INSIDE);
    let both = [tenant.calm, tenant.address];
    let [calm, own] = handshakes(&tenant.network, both, 10);
    eprintln!(
        "{}: its proxy answers in {own:?}, another's in {calm:?}",
        tenant.name
    );
    assert!(own > 2 * calm + SLACK, "{own:?}, {calm:?}");
    tenant.end(up);
}

#[test]
fn neither_a_tenant_that_burns_nor_a_proxy_that_is_flooded_takes_what_is_the_other_s() {
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let up = agents::start_with_machines(program, scratch, Begin::With).unwrap();
    up.until("a namespace's account", || {
        let pod = agents::pod(CALM, "default", "node1", &["serve", "0"]);
        up.cluster().apply(&pod.to_string())
    })
    .unwrap();
    up.settled("default", "app=calm", 1).unwrap();
    for (class, handler) in ROOMY {
        let class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": class}, "handler": handler,
            "overhead": {"podFixed": {"memory": "64Mi", "cpu": "100m"}}});
        up.cluster().apply(&class.to_string()).unwrap();
    }
    for kind in &KINDS {
        each_has_its_own(&up, kind);
    }
    a_sidecar_in_a_machine_is_starved(&up);
}
