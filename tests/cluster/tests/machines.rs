// SPDX-License-Identifier: Apache-2.0
//! Pods in virtual machines as Kata makes them: all containers of a pod in one machine and in their order, each of the ways in which a machine is
//! connected, a sidecar inside one beside capture from outside, and what either costs.
//!
//! `cargo xtask test cluster` builds the programs and images that this takes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::IpAddr;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context as _, ensure};
use maille_cluster::agents;
use maille_cluster::meshed::{Meshed, text};
use maille_cluster::pairs::{self, ALL, IMAGE, NAMESPACE, OUTSIDE, addresses, ask, ask_through};
use maille_cluster::witness::Witness;
use serde_json::{Value, json};

/// Of the node's kernel, in the mesh and outside.
const SHARED: &str = "shared";
const STRANGER: &str = "stranger";

fn up() -> Meshed {
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    pairs::start(program, scratch, true).unwrap()
}

fn pod(up: &Meshed, name: &str) -> anyhow::Result<Value> {
    let mut pods = up.pods(NAMESPACE, &format!("app={name}"))?;
    pods.pop().with_context(|| name.to_owned())
}

/// What its proxy said before it ended.
fn told(up: &Meshed, namespace: &str) -> String {
    let line = format!("-n {namespace} logs machine -c maille-proxy --previous --tail 30");
    up.kubectl(&line).unwrap_or_else(|error| error.to_string())
}

fn shell(name: &str, script: &str) -> Value {
    json!({"name": name, "image": IMAGE, "command": ["/bin/busybox", "sh", "-c", script]})
}

/// An init container, one that goes on, and two beside each other, of which one asks the other in their common network.
fn of_many(name: &str) -> Value {
    let mut pod = pairs::pod(NAMESPACE, name, "node1", Some("machine-mmio"));
    let mut goes_on = shell("goes-on", "echo goes on; exec /bin/busybox sleep 9999");
    goes_on["restartPolicy"] = json!("Always");
    pod["spec"]["initContainers"] = json!([
        shell(
            "first",
            "/bin/busybox test $(/bin/busybox id -u) = 1234 && echo was first"
        ),
        goes_on
    ]);
    pod["spec"]["initContainers"][0]["securityContext"] = json!({"runAsUser": 1234});
    let asks = "until /bin/busybox wget -qO- http://127.0.0.1:8080/; do /bin/busybox usleep 100000; done; exec /bin/busybox sleep 9999";
    pod["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(shell("beside", asks));
    pod
}

/// Everybody hears everybody by these addresses.
fn all_hear_all(up: &Meshed, names: &[&str], wanted: fn(&IpAddr) -> bool) {
    let pods: Vec<Value> = names.iter().map(|name| pod(up, name).unwrap()).collect();
    let hosts = |pod: &Value| -> Vec<String> {
        let all = addresses(pod).into_iter();
        all.filter(|ip| wanted(&ip.parse().unwrap())).collect()
    };
    for from in &pods {
        for to in &pods {
            let (by, hosts) = (&addresses(from)[0], hosts(to));
            let (from, name) = (text(from, "/metadata/name"), text(to, "/metadata/name"));
            assert!(!hosts.is_empty());
            // Who is ready is known to everybody a moment later.
            up.until(name, || {
                let heard = if from == SHARED {
                    ask(up, NAMESPACE, from, &hosts)?
                } else {
                    ask_through(up, SHARED, by, &hosts)?
                };
                pairs::all_are(name, &heard).with_context(|| format!("{from} asks"))
            })
            .unwrap();
        }
    }
}

#[test]
fn a_machine_has_all_containers_of_its_pod_and_is_meshed_however_it_is_connected() {
    let up = up();
    let mut witness = Witness::start(&up).unwrap();
    let shared = pairs::pod(NAMESPACE, SHARED, "node2", None);
    pairs::apply(&up, &shared).unwrap();
    pairs::apply(&up, &of_many("many")).unwrap();
    up.settled(NAMESPACE, ALL, 2).unwrap();
    let many = pod(&up, "many").unwrap();
    let names = |list: &Value| -> Vec<String> {
        let all = list.as_array().unwrap().iter();
        all.map(|one| text(one, "/name").to_owned()).collect()
    };
    assert_eq!(names(&many["spec"]["initContainers"]), ["first", "goes-on"]);
    assert_eq!(names(&many["spec"]["containers"]), ["pairs", "beside"]);
    let said = |container: &str, what: &str| {
        let line = format!("-n {NAMESPACE} logs many -c {container}");
        up.until(what, || {
            let log = up.kubectl(&line)?;
            ensure!(log.contains("guest: ") && log.contains(what), "{log}");
            Ok(())
        })
        .unwrap();
    };
    said("first", "was first");
    said("goes-on", "goes on");
    said("beside", "many 127.0.0.1");
    let first = &many["status"]["initContainerStatuses"][0]["state"]["terminated"];
    assert_eq!(first["exitCode"], 0, "{many:#}");
    let begun = text(&many, "/status/containerStatuses/0/state/running/startedAt");
    assert!(text(first, "/finishedAt") <= begun, "{many:#}");
    witness.expect(&up.pods(NAMESPACE, ALL).unwrap()).unwrap();
    all_hear_all(&up, &["many", SHARED], |_| true);

    // Of one that does not begin well, nothing begins.
    let mut fails = of_many("fails");
    fails["spec"]["initContainers"][0]["command"][3] = json!("exit 3");
    fails["spec"]["restartPolicy"] = json!("Never");
    pairs::apply(&up, &fails).unwrap();
    let failed = up.until("an end", || {
        let pod = pod(&up, "fails")?;
        ensure!(pod["status"]["phase"] == "Failed", "{pod:#}");
        Ok(pod)
    });
    let failed = failed.unwrap();
    let first = &failed["status"]["initContainerStatuses"][0]["state"];
    assert_eq!(first["terminated"]["exitCode"], 3, "{failed:#}");
    up.kubectl(&format!("-n {NAMESPACE} delete pod many fails"))
        .unwrap();

    for (name, class) in [
        ("by-macvtap", "machine-macvtap"),
        ("by-l3forwarding", "machine-l3forwarding"),
    ] {
        let pod = pairs::pod(NAMESPACE, name, "node1", Some(class));
        pairs::apply(&up, &pod).unwrap();
    }
    up.settled(NAMESPACE, ALL, 3).unwrap();
    witness.expect(&up.pods(NAMESPACE, ALL).unwrap()).unwrap();
    all_hear_all(&up, &["by-macvtap", SHARED], |_| true);
    // Which has IPv4 alone.
    let names = ["by-macvtap", "by-l3forwarding", SHARED];
    all_hear_all(&up, &names, IpAddr::is_ipv4);
    let captured = agents::captured(&up.cluster().node(1)).unwrap();
    assert_eq!(captured.len(), 2, "{captured:?}");
    let seen = witness.end().unwrap();
    assert!(seen["bytes_tls"].as_u64() > Some(0), "{seen}");
}

#[test]
fn a_machine_with_a_sidecar_is_meshed_and_costs_what_is_said() {
    let up = up();
    pairs::apply(&up, &pairs::pod(NAMESPACE, SHARED, "node2", None)).unwrap();
    pairs::apply(&up, &pairs::pod(OUTSIDE, STRANGER, "node2", None)).unwrap();
    up.settled(NAMESPACE, ALL, 1).unwrap();
    up.settled(OUTSIDE, ALL, 1).unwrap();
    let mut witness = Witness::start(&up).unwrap();
    for round in 0..3 {
        for (what, namespace, from, capture) in [
            ("outside", OUTSIDE, STRANGER, None),
            ("outboard", NAMESPACE, SHARED, None),
            ("inboard", NAMESPACE, SHARED, Some("inboard")),
        ] {
            let mut machine = pairs::pod(namespace, "machine", "node1", Some("machine-mmio"));
            if let Some(capture) = capture {
                machine["metadata"]["annotations"] = json!({"maille.io/capture": capture});
            }
            let begin = SystemTime::now();
            pairs::apply(&up, &machine).unwrap();
            up.settled(namespace, "app=machine", 1)
                .with_context(|| told(&up, namespace))
                .unwrap();
            let until_ready = begin.elapsed().unwrap();
            if namespace == NAMESPACE {
                let pod = pod(&up, "machine").unwrap();
                let inside = pod["spec"]["initContainers"].is_array();
                assert_eq!(inside, capture.is_some(), "{pod:#}");
                witness.expect(&up.pods(NAMESPACE, ALL).unwrap()).unwrap();
                all_hear_all(&up, &["machine", SHARED], |_| true);
            }
            let took = pairs::round_trip(&up, namespace, from, "machine", 400).unwrap();
            eprintln!(
                "round {round}, a machine on another node, {what}, ready after {until_ready:?}: {took}"
            );
            up.kubectl(&format!("-n {namespace} delete pod machine"))
                .unwrap();
        }
    }
    witness.end().unwrap();
}
