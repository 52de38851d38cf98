// SPDX-License-Identifier: Apache-2.0
//! A tenant that burns every processor and byte that it may use does not keep its proxy from its work, whatever it runs in.
//!
//! Each is held against another pod's proxy on the same node at the same time. The opposite: in the tenant's own control group it is kept from it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::ensure;
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
}

const KINDS: [Kind; 5] = [
    Kind {
        name: "shared",
        class: None,
        memory: HOG,
        limit: None,
    },
    Kind {
        name: "sandbox",
        class: Some("gvisor"),
        memory: FILL,
        limit: None,
    },
    Kind {
        name: "machine",
        class: Some("machine-mmio"),
        memory: HOG,
        limit: None,
    },
    Kind {
        name: "shared-with-room",
        class: Some("roomy"),
        memory: HOG,
        limit: Some("100m"),
    },
    Kind {
        name: "sandbox-with-room",
        class: Some("gvisor-roomy"),
        memory: FILL,
        limit: Some("100m"),
    },
];
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
    let bytes = if kind.name == "machine" {
        "512Mi"
    } else {
        "128Mi"
    };
    container["resources"] = json!({"limits": {"cpu": "300m", "memory": bytes}});
    if let Some(class) = kind.class {
        pod["spec"]["runtimeClassName"] = json!(class);
    }
    if let Some(limit) = kind.limit {
        pod["metadata"]["annotations"] = json!({"maille.io/proxy-cpu-limit": limit});
    }
    pod
}

/// How long until a proxy has answered in TLS, of each of two by turns: the nine of ten that are quickest.
fn handshakes(network: &NetNs, both: [IpAddr; 2]) -> [Duration; 2] {
    let work = async {
        let mut took = [Vec::new(), Vec::new()];
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for _ in 0..TRIES {
            for (took, to) in took.iter_mut().zip(both) {
                pace.tick().await;
                let begin = SystemTime::now();
                handshake(to).await;
                took.push(begin.elapsed().unwrap());
            }
        }
        took.map(|mut took| {
            took.sort_unstable();
            took[TRIES * 9 / 10]
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
    let done = timeout(PATIENCE, async {
        let stream = TcpStream::connect((to, MESH)).await?;
        maille_identity::anyone::dial(stream, to).await
    });
    done.await.unwrap().unwrap();
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
        // A guest says itself who it is, in its own time.
        let mac = "ip -j link show up0 | sed 's/.*\"address\":\"//; s/\".*//'";
        let mac = agents::inside(&node, name, mac).unwrap();
        let known = format!(
            "ip neigh replace {} lladdr {} dev cni0 nud permanent",
            addresses(&pod(name))[0],
            mac.trim()
        );
        agents::shell(&node, &known).unwrap();
        Self {
            network: NetNs::of_pid(node.pid().unwrap()).unwrap(),
            node,
            name,
            uid: text(&pod(name), "/metadata/uid").to_owned(),
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
        let nanos = "own=$(cat $used/maille-proxy/cpuacct.usage 2>/dev/null || echo 0); echo $(($(cat $used/cpuacct.usage) - own))";
        let (begin, before) = (SystemTime::now(), self.number(nanos));
        runtime().block_on(async {
            let mut window = interval(WINDOW);
            window.tick().await;
            window.tick().await;
        });
        let nanos = self.number(nanos) - before;
        nanos * 1000 / u64::try_from(begin.elapsed().unwrap().as_nanos()).unwrap()
    }

    /// Moves its proxy into its own group, where it has what the tenant leaves, or back to where it was.
    fn join(&self, there: bool) {
        let to = if there {
            "busy=$(for g in $(ls $used | grep -v maille-proxy); do [ ! -d $used/$g ] || echo $(cat $used/$g/cpuacct.usage) $g; done | \
             sort -n | tail -1 | cut -d' ' -f2); grep ':cpu:' /proc/$proxy/cgroup | cut -d: -f3 >/run/was; to=$pod/$busy"
        } else {
            "to=/sys/fs/cgroup/cpu$(cat /run/was)"
        };
        let script = format!(
            "proxy=$(cut -d' ' -f1 $(dirname $(grep -l '\"name\":\"{}\"' /run/maille/node/sandboxes/*/sandbox.json))/proxy.pid); {to}; \
             echo $proxy >$to/cgroup.procs; echo 0",
            self.name
        );
        self.number(&script);
    }
}

#[test]
fn a_tenant_that_burns_all_that_it_has_does_not_starve_its_proxy() {
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
        let tenant = Tenant::start(&up, kind);
        up.until("all that it has", || {
            let share = tenant.share();
            ensure!(share > 200, "{share} thousandths of a processor");
            Ok(())
        })
        .unwrap();
        let [calm, own] = handshakes(&tenant.network, [tenant.calm, tenant.address]);
        tenant.join(true);
        let [_, starved] = handshakes(&tenant.network, [tenant.calm, tenant.address]);
        tenant.join(false);
        eprintln!(
            "{}: its proxy answers in {own:?}, another's in {calm:?}; in the tenant's own group in {starved:?}",
            tenant.name
        );
        let most = 2 * calm + SLACK;
        assert!(own < most, "{}: {own:?}, {calm:?}", tenant.name);
        assert!(starved > 2 * own, "{}: {starved:?}, {own:?}", tenant.name);
        up.kubectl(&format!("-n default delete pod {}", tenant.name))
            .unwrap();
    }
}
