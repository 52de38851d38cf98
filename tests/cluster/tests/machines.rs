// SPDX-License-Identifier: Apache-2.0
//! Pods in virtual machines as Kata makes them: all containers of a pod in one machine and in their order, each of the ways in which a machine is
//! connected.
//!
//! `cargo xtask test cluster` builds the programs and images that this takes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::IpAddr;
use std::path::Path;

use anyhow::ensure;
use maille_cluster::agents;
use maille_cluster::meshed::{Meshed, text};
use maille_cluster::pairs::{self, ALL, IMAGE, NAMESPACE, all_hear_all};
use maille_cluster::witness::Witness;
use serde_json::{Value, json};

/// Of the node's kernel.
const SHARED: &str = "shared";

fn up() -> Meshed {
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    pairs::start(program, scratch, true).unwrap()
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

/// What its kernel holds cannot be seen where its runtime lets no container in, which is said with the runtime's reason.
fn lets_none_in(up: &Meshed, name: &str) {
    let line = format!("capture {name} -n {NAMESPACE} --state --guest");
    let state = up.maille(&line).unwrap();
    let (outside, guest) = state.split_once("# guest\n").unwrap();
    assert!(outside.contains("# mesh namespace"), "{state}");
    assert!(guest.starts_with("not seen: "), "{guest}");
    assert!(guest.contains("no room for another container"), "{guest}");
    eprintln!("{guest}");
}

#[test]
fn a_machine_has_all_containers_of_its_pod_and_is_meshed_however_it_is_connected() {
    let up = up();
    let mut witness = Witness::start(&up).unwrap();
    let shared = pairs::pod(NAMESPACE, SHARED, "node2", None);
    pairs::apply(&up, &shared).unwrap();
    pairs::apply(&up, &of_many("many")).unwrap();
    up.settled(NAMESPACE, ALL, 2).unwrap();
    let many = pairs::there(&up, "many").unwrap();
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
    all_hear_all(&up, SHARED, &["many"], |_| true).unwrap();

    // Of one that does not begin well, nothing begins.
    let mut fails = of_many("fails");
    fails["spec"]["initContainers"][0]["command"][3] = json!("exit 3");
    fails["spec"]["restartPolicy"] = json!("Never");
    pairs::apply(&up, &fails).unwrap();
    let failed = up.until("an end", || {
        let pod = pairs::there(&up, "fails")?;
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
    all_hear_all(&up, SHARED, &["by-macvtap"], |_| true).unwrap();
    // Which has IPv4 alone.
    let names = ["by-macvtap", "by-l3forwarding"];
    all_hear_all(&up, SHARED, &names, IpAddr::is_ipv4).unwrap();
    lets_none_in(&up, "by-l3forwarding");
    let captured = agents::captured(&up.cluster().node(1)).unwrap();
    assert_eq!(captured.len(), 2, "{captured:?}");
    let seen = witness.end().unwrap();
    assert!(seen["bytes_tls"].as_u64() > Some(0), "{seen}");
}
