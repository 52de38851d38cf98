// SPDX-License-Identifier: Apache-2.0
//! What somebody changes of a capture on a node is as it was within five seconds, and agents are replaced, while others' requests go on:
//! none is lost. While the agent is stopped, what was changed stays changed.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use maille_cluster::agents::{self, Begin};
use maille_cluster::twins::{Load, Twin};
use nix::sys::signal::Signal;

/// Requests a second.
const RATE: u64 = 200;
/// Within which everything is as it was.
const REPAIR: Duration = Duration::from_secs(5);
/// The node on which something is changed.
const NODE: &str = "node1";

/// Something that somebody changes in the mesh namespace of a pod, and how it is seen that it is as it was.
struct Change {
    name: &'static str,
    does: &'static str,
    is_well: &'static str,
}

const CHANGES: [Change; 8] = [
    Change {
        name: "its proxy",
        does: "cp $dir/proxy.pid /run/ended.pid; kill -9 $(cut -d' ' -f1 $dir/proxy.pid)",
        is_well: "! cmp -s $dir/proxy.pid /run/ended.pid && kill -0 $(cut -d' ' -f1 $dir/proxy.pid)",
    },
    Change {
        name: "every rule",
        does: "nft flush ruleset",
        is_well: "nft list ruleset | grep -q tproxy",
    },
    Change {
        name: "one rule more",
        does: "nft add table inet other",
        is_well: "! nft list tables | grep -q other",
    },
    Change {
        name: "a switch",
        does: "echo 1 >/proc/sys/net/ipv4/ip_forward",
        is_well: "grep -q 0 /proc/sys/net/ipv4/ip_forward",
    },
    Change {
        name: "the ways to its listeners",
        does: "ip route flush table 101; ip -6 route flush table 101",
        is_well: "ip route show table 101 | grep -q default && ip -6 route show table 101 | grep -q default",
    },
    Change {
        name: "a policy rule",
        does: "ip rule del pref 1",
        is_well: "ip rule show pref 1 | grep -q fwmark",
    },
    Change {
        name: "one policy rule more",
        does: "ip -6 rule add pref 0 lookup 102",
        is_well: "! ip -6 rule | grep -q ^0:",
    },
    Change {
        name: "who its neighbours are",
        does: "ip neigh flush dev dn0 nud permanent; ip -6 neigh flush dev dn0 nud permanent",
        is_well: "ip neigh show dev dn0 | grep -q PERM && ip -6 neigh show dev dn0 | grep -q PERM",
    },
];

#[test]
fn what_is_changed_is_as_it_was_and_no_request_beside_it_is_lost() {
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let up = agents::start(program, scratch, Begin::With).unwrap();
    Twin::Meshed.start(&up, 2).unwrap();
    let loads = Load::start(&up, &[(Twin::Meshed, RATE)], NODE).unwrap();
    let broken = agents::pod("broken", "meshed", NODE, &["serve", "0"]);
    up.cluster().apply(&broken.to_string()).unwrap();
    up.settled("meshed", "app=broken", 1).unwrap();
    let node = up.cluster().node(1);
    let counted = || agents::counted(&node, "maille_node_repairs_total{what=\"capture\"}").unwrap();
    let before = counted();

    for change in &CHANGES {
        agents::inside(&node, "broken", change.is_well)
            .context(change.name)
            .unwrap();
        let begin = SystemTime::now();
        agents::inside(&node, "broken", change.does)
            .context(change.name)
            .unwrap();
        up.until(change.name, || {
            agents::inside(&node, "broken", change.is_well)
        })
        .unwrap();
        eprintln!(
            "{} was away for {:?}",
            change.name,
            begin.elapsed().unwrap()
        );
        assert!(begin.elapsed().unwrap() < REPAIR, "{}", change.name);
    }
    up.until("a count", || {
        let mended = CHANGES.len() as u64 - 1;
        ensure!(counted() >= before + mended, "{before}, then {}", counted());
        Ok(())
    })
    .unwrap();
    agents::says(&up, "meshed", "broken", "it is as it was again").unwrap();

    // The opposite: nobody is there to mend any of it.
    let agent = agents::process(&up, NODE).unwrap();
    agent.signal(Signal::SIGSTOP).unwrap();
    // Its proxy is started anew at once, by whoever is there.
    let kept = &CHANGES[1..];
    for change in kept {
        agents::inside(&node, "broken", change.does).unwrap();
    }
    loads[0].share(REPAIR.as_secs() + 1).unwrap();
    for change in kept {
        let is_well = agents::inside(&node, "broken", change.is_well);
        assert!(is_well.is_err(), "who mended {}?", change.name);
    }
    agent.signal(Signal::SIGCONT).unwrap();
    for change in kept {
        up.until(change.name, || {
            agents::inside(&node, "broken", change.is_well)
        })
        .unwrap();
    }
    assert_eq!(loads[0].failed().unwrap(), 0, "beside what was changed");

    // Every agent is replaced.
    up.kubectl("-n maille-system rollout restart daemonset/maille-node")
        .unwrap();
    agents::are_there(&up).unwrap();
    loads[0].share(3).unwrap();
    let [load] = <[Load; 1]>::try_from(loads).unwrap();
    let sum = load.finish().unwrap();
    eprintln!("{}", sum.said);
    assert_eq!(sum.failed, 0, "{sum:?}");
}
