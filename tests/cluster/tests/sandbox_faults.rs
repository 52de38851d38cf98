// SPDX-License-Identifier: Apache-2.0
//! What fails with a pod in gVisor and with pods in virtual machines of both models: its proxy, its agent, its runtime, itself, its node. Nobody reaches it then
//! but by its proxy, it reaches nobody else, everything is well again without a person, and what is deleted leaves nothing.
//!
//! Each answer that is missed was there before, and is there afterwards.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::thread;

use anyhow::{Context as _, ensure};
use maille_cluster::agents;
use maille_cluster::machine::Machine;
use maille_cluster::meshed::{Meshed, is_ready, text};
use maille_cluster::pairs::{self, ALL, NAMESPACE, OUTSIDE};
use maille_cluster::processes::Process;
use maille_cluster::witness::Witness;
use nix::sys::signal::Signal;
use serde_json::Value;

/// A pod with a kernel of its own.
struct Sandbox {
    name: &'static str,
    class: &'static str,
    /// The processes of the node that it is.
    processes: &'static [&'static str],
}

const SANDBOXES: [Sandbox; 3] = [
    Sandbox {
        name: "sandbox",
        class: "gvisor",
        processes: &["runsc-sandbox"],
    },
    Sandbox {
        name: "machine",
        class: "machine-mmio",
        processes: &["qemu-system-x86_64"],
    },
    Sandbox {
        name: "machine-with-pci",
        class: "machine-pci",
        processes: &["qemu-system-x86_64"],
    },
];
/// One with the node's kernel, in the mesh, on the other node.
const INSIDE: &str = "inside";
/// The same outside.
const STRANGER: &str = "stranger";
/// What a node could tell of captured pods, each kind with its count.
const LEFT: &str = "{ ls /run/maille/node/sandboxes | sed 's/.*/sandbox/'; ip -o link | cut -d: -f2 | sed '/cni0/d; s/@.*//; s/veth.*/veth/'; \
    ls /run/netns | sed 's/.*/namespace/'; grep -o ' /run/maille/node/sandboxes' /proc/1/mounts; \
    find /sys/fs/cgroup/*/$1/maille-proxies -mindepth 1 -type d | sed 's/.*/group/'; \
    for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline | cut -d' ' -f1 | sed 's#.*/##'; done | grep -E '^(maille-proxy|runsc|qemu)'; \
    true; } 2>/dev/null | sort | uniq -c";

struct Stage {
    up: Meshed,
    /// The name of the node that the sandboxes are on, and its number.
    node: String,
    index: usize,
    /// What that node could tell before they were.
    before: String,
    witness: Witness,
}

// === impl Stage ===

impl Stage {
    fn start() -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
        let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let up = pairs::start(program, scratch, true).unwrap();
        let (kept, node) = up.kept_and_other().unwrap();
        let index = if node == "node1" { 1 } else { 2 };
        let before = told(&up.cluster().node(index)).unwrap();
        let witness = Witness::start(&up).unwrap();
        for (namespace, name) in [(NAMESPACE, INSIDE), (OUTSIDE, STRANGER)] {
            pairs::apply(&up, &pairs::pod(namespace, name, &kept, None)).unwrap();
        }
        let mut stage = Self {
            up,
            node,
            index,
            before,
            witness,
        };
        stage.begin();
        stage
    }

    /// Makes the sandboxes; returns when everybody reaches them.
    fn begin(&mut self) {
        for Sandbox { name, class, .. } in SANDBOXES {
            let pod = pairs::pod(NAMESPACE, name, &self.node, Some(class));
            pairs::apply(&self.up, &pod).unwrap();
        }
        self.up
            .settled(NAMESPACE, ALL, SANDBOXES.len() + 1)
            .unwrap();
        self.up.settled(OUTSIDE, ALL, 1).unwrap();
        self.reached();
    }

    fn machine(&self) -> Machine {
        self.up.cluster().node(self.index)
    }

    /// Waits until both reach every sandbox in each way, who is in the mesh by its name too, and it reaches others.
    fn reached(&mut self) -> Vec<Value> {
        let (up, mut pods) = (&self.up, Vec::new());
        for Sandbox { name, .. } in SANDBOXES {
            let pod = up.until(name, || {
                let pod = up.pods(NAMESPACE, &format!("app={name}"))?;
                let pod = pod.into_iter().next().context(name)?;
                ensure!(is_ready(&pod), "{pod:#}");
                let mut hosts = pairs::addresses(&pod);
                pairs::all_are(name, &pairs::ask(up, OUTSIDE, STRANGER, &hosts)?)?;
                hosts.push(name.to_owned());
                pairs::all_are(name, &pairs::ask(up, NAMESPACE, INSIDE, &hosts)?)?;
                let to = [INSIDE.to_owned()];
                pairs::all_are(INSIDE, &pairs::ask_through(up, INSIDE, name, &to)?)?;
                Ok(pod)
            });
            pods.push(pod.unwrap());
        }
        let all = up.pods(NAMESPACE, ALL).unwrap();
        self.witness.expect(&all).unwrap();
        pods
    }

    /// The same of sandboxes that are the same as before.
    fn reached_as(&mut self, before: &[Value]) {
        for (now, before) in self.reached().iter().zip(before) {
            for same in ["/metadata/uid", "/status/podIP"] {
                assert_eq!(text(now, same), text(before, same));
            }
            let restarts = "/status/containerStatuses/0/restartCount";
            assert_eq!(now.pointer(restarts), before.pointer(restarts), "{now:#}");
        }
    }

    /// Nobody reaches any of these; nor does one in which a program can be started reach anybody.
    fn closed(&self, pods: &[Value], from: Option<&str>) {
        let up = &self.up;
        let asked = |namespace: &str, from: &str, hosts: &[String]| {
            pairs::none_is(&pairs::ask(up, namespace, from, hosts).unwrap()).unwrap();
        };
        let others = [INSIDE.to_owned(), format!("{STRANGER}.{OUTSIDE}")];
        thread::scope(|scope| {
            let (asked, others) = (&asked, &others);
            for pod in pods {
                let hosts = pairs::addresses(pod);
                let from_outside = hosts.clone();
                scope.spawn(move || asked(OUTSIDE, STRANGER, &from_outside));
                scope.spawn(move || asked(NAMESPACE, INSIDE, &hosts));
            }
            if let Some(from) = from {
                scope.spawn(move || asked(NAMESPACE, from, others));
            }
        });
    }

    /// While this is done, every question to every sandbox is answered.
    fn undisturbed(&self, what: impl FnOnce(&Meshed) + Send) {
        let up = &self.up;
        thread::scope(|scope| {
            let work = scope.spawn(move || what(up));
            let mut rounds = 0;
            while !work.is_finished() {
                for Sandbox { name, .. } in SANDBOXES {
                    let heard = pairs::ask(up, NAMESPACE, INSIDE, &[name.to_owned()]).unwrap();
                    pairs::all_are(name, &heard).unwrap();
                }
                rounds += 1;
            }
            work.join().unwrap();
            eprintln!("{rounds} rounds of questions meanwhile");
        });
    }

    /// Deletes them; nothing of them is left on their node.
    fn nothing_left(&self) {
        let up = &self.up;
        for Sandbox { name, .. } in SANDBOXES {
            up.kubectl(&format!("-n {NAMESPACE} delete pod {name}"))
                .unwrap();
        }
        up.until("nothing left", || {
            let now = told(&self.machine())?;
            ensure!(now == self.before, "before:\n{}now:\n{now}", self.before);
            Ok(())
        })
        .unwrap();
    }
}

fn told(node: &Machine) -> anyhow::Result<String> {
    agents::shell(node, &format!("set -- {}; {LEFT}", node.cgroup()))
}

/// Ends the proxies of a node, all at once.
fn kill_proxies(node: &Machine) {
    let script =
        "for f in /run/maille/node/sandboxes/*/proxy.pid; do kill -9 $(cut -d' ' -f1 $f); done";
    agents::shell(node, script).unwrap();
}

#[test]
fn a_sandbox_outlives_its_proxy_its_agent_and_its_runtime() {
    let mut stage = Stage::start();
    let first = stage.reached();

    // Nobody but the proxy lets anything through, and nobody is there to start another.
    agents::let_be(&stage.up, false).unwrap();
    stage.reached_as(&first);
    kill_proxies(&stage.machine());
    stage.closed(&first, Some(SANDBOXES[0].name));
    agents::let_be(&stage.up, true).unwrap();
    stage.reached_as(&first);
    kill_proxies(&stage.machine());
    stage.reached_as(&first);

    let (node, index) = (stage.node.clone(), stage.index);
    let agent = agents::process(&stage.up, &node).unwrap();
    stage.undisturbed(|up| {
        agent.signal(Signal::SIGKILL).unwrap();
        let another = up.until("another agent", || {
            let now = agents::process(up, &node)?;
            ensure!(now.pid() != agent.pid(), "it is there still");
            Ok(())
        });
        another.unwrap();
        agents::are_there(up).unwrap();
    });
    stage.undisturbed(|up| agents::replace(up).unwrap());
    stage.undisturbed(|up| up.cluster().restart(index, "containerd").unwrap());
    stage.reached_as(&first);
    // Who comes now is captured by what is there now.
    stage.nothing_left();
    stage.begin();
    stage.witness.end().unwrap();
}

#[test]
fn a_sandbox_that_ends_or_whose_node_does_comes_back_captured_and_leaves_nothing() {
    let mut stage = Stage::start();
    let first = stage.reached();
    for (pod, Sandbox { processes, .. }) in first.iter().zip(&SANDBOXES) {
        for program in *processes {
            let process = Process::of_pod(text(pod, "/metadata/uid"), program).unwrap();
            process.signal(Signal::SIGKILL).unwrap();
        }
    }
    for Sandbox { name, .. } in SANDBOXES {
        let again = stage.up.until("another sandbox", || {
            let pods = stage.up.pods(NAMESPACE, &format!("app={name}"))?;
            let pod = pods.first().context(name)?;
            let restarts = &pod["status"]["containerStatuses"][0]["restartCount"];
            ensure!(is_ready(pod) && *restarts != 0, "{pod:#}");
            Ok(())
        });
        again.unwrap();
    }
    let second = stage.reached();
    for (now, before) in second.iter().zip(&first) {
        let uid = "/metadata/uid";
        assert_eq!(text(now, uid), text(before, uid), "the same pod");
    }

    agents::let_be(&stage.up, false).unwrap();
    stage.machine().halt().unwrap();
    stage.up.cluster().boot(stage.index).unwrap();
    for Sandbox { name, .. } in SANDBOXES {
        agents::says(&stage.up, NAMESPACE, name, "node agent is away").unwrap();
    }
    stage.closed(&second, None);
    agents::let_be(&stage.up, true).unwrap();
    let third = stage.reached();
    for (now, before) in third.iter().zip(&second) {
        let uid = "/metadata/uid";
        assert_eq!(text(now, uid), text(before, uid), "the same pod");
    }
    stage.nothing_left();
    stage.witness.end().unwrap();
}
