// SPDX-License-Identifier: Apache-2.0
//! What a captured pod of a real node can send by raw sockets, and what can be sent to it: nothing passes but by its proxy, or as what
//! passes untouched, with its own addresses. Frames of every kind that tests/netns knows, and changes of them drawn from a seed; sent in the pod's
//! namespace, and by a program in gVisor and in virtual machines of both models.
//!
//! The opposite: with other rules every one of the same frames arrives, and the judge of drawn ones finds what is wrong.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use maille_cluster::agents::{self, Begin};
use maille_cluster::meshed::Meshed;
use maille_cluster::pairs::addresses;
use maille_tests_netns::evil::{self, Case};
use maille_tests_netns::lab::stay_on_one_cpu;
use nix::sys::signal::Signal;
use serde_json::json;

#[path = "bypass/judge.rs"]
mod judge;
#[path = "bypass/wire.rs"]
mod wire;

use judge::{left, reached};
use wire::{TOLD, Way, Wire};

const NONE: [String; 0] = [];
/// Of a program that sends frames.
const FRAMES: &str = "maille.test/frames:1";
/// Connections that are begun at a time and never finished, and how many of a pod's are kept (net.core.somaxconn, for each listener and family).
const HALF_OPEN: u16 = 5_000;
const KEPT: usize = 2 * 4_096;
/// Rules that forward everything.
const OPEN: &str = "nft -f - <<E\nflush ruleset\ntable netdev open {\n\
    chain a {\n type filter hook ingress device \"up0\" priority 0; policy drop;\n fwd to \"dn0\"\n }\n\
    chain b {\n type filter hook ingress device \"dn0\" priority 0; policy drop;\n fwd to \"up0\"\n }\n}\nE\n";
/// Name, RuntimeClass, and the process of the node that it is.
const SANDBOXES: [(&str, &str, &str); 3] = [
    ("sandbox", "gvisor-raw", "runsc-sandbox"),
    ("machine", "machine-mmio", "qemu-system-x86_64"),
    ("machine-with-pci", "machine-pci", "qemu-system-x86_64"),
];

/// How many frames are drawn in each direction.
fn count() -> usize {
    let said = std::env::var_os("MAILLE_TEST_EXCHANGES");
    said.and_then(|text| text.to_str()?.parse().ok())
        .unwrap_or(5_000)
}

fn names(cases: &[Case]) -> Vec<String> {
    cases.iter().map(|case| case.name.clone()).collect()
}

/// Nothing leaves that must not, and what may does.
fn none_leaves(wire: &Wire, out: &Way, count: usize) {
    let (disguised, lies) = (
        evil::tcp_in_disguise(&wire.ends, 1),
        evil::lies_of_a_pod(&wire.ends, 2),
    );
    let kinds = disguised.len() + lies.len();
    assert!(kinds >= 40, "{kinds}");
    assert_eq!(out.arrived(&disguised), NONE, "left the pod");
    assert_eq!(out.arrived(&lies), NONE, "left the pod");
    let honest = evil::honest(&wire.ends, 3);
    assert_eq!(out.arrived(&honest), names(&honest), "what may leave");
    let wrong = out.drawn(count, 1, &|frame| left(&wire.ends, frame));
    assert_eq!(wrong, NONE, "left the pod");
    eprintln!(
        "out: {} kinds of TCP, {} of lies and {count} drawn ones, of which none arrived that should not, and {} honest ones, of which all did",
        disguised.len(),
        lies.len(),
        honest.len()
    );
}

/// Nothing reaches the pod that must not.
fn none_reaches(up: &Meshed, name: &str, wire: &Wire, count: usize) {
    // What the pod began and never finished is answered for a minute: those answers are its own.
    up.until("the end of what the pod began", || {
        let none = "test -z \"$(ss -Htn state syn-recv)\"";
        agents::inside(&up.cluster().node(1), name, none)
    })
    .unwrap();
    let back = wire.back();
    let disguised = evil::tcp_in_disguise(back.ends(), 4);
    assert_eq!(back.arrived(&disguised), NONE, "reached the pod");
    let wrong = back.drawn(count, 2, &|frame| reached(&wire.ends, frame));
    assert_eq!(wrong, NONE, "reached the pod");
    eprintln!(
        "back: {} kinds of TCP and {count} drawn ones, of which none arrived that should not",
        disguised.len()
    );
}

/// The opposite: with other rules every kind arrives, and drawn ones are found wrong.
fn all_leave(up: &Meshed, name: &str, wire: &Wire, out: &Way) {
    agents::inside(&up.cluster().node(1), name, OPEN).unwrap();
    for cases in [
        evil::tcp_in_disguise(&wire.ends, 5),
        evil::lies_of_a_pod(&wire.ends, 6),
    ] {
        assert_eq!(out.arrived(&cases), names(&cases), "these are not seen");
    }
    let wrong = out.drawn(1_000, 1, &|frame| left(&wire.ends, frame));
    eprintln!(
        "with other rules: every kind, and {} of 1,000 drawn ones are wrong",
        wrong.len()
    );
    assert!(
        wrong.len() > 100,
        "{} of 1,000 drawn ones are wrong",
        wrong.len()
    );
}

/// What the pod begins and never finishes fills its own proxy's queue, which has an end, and nobody else's: another pod's proxy answers as before, and so does
/// this one on the other side. When it is over the pod reaches others again.
fn half_open_ones_are_its_own(up: &Meshed, name: &str, wire: &Wire) {
    let node = up.cluster().node(1);
    let pods = up.pods("default", "app=calm").unwrap();
    let calm = addresses(&pods[0])[0].parse().unwrap();
    let quiet = wire.answered(calm);
    assert!(wire.connects((calm, 80).into()).is_some());
    wire.hears(false);
    let out = wire.out();
    let waiting = "ss -Htn state syn-recv | wc -l";
    let (mut most, mut slowest) = (0, Duration::ZERO);
    for _ in 0..8 {
        out.flood((0..HALF_OPEN).map(|number| evil::half_open(&wire.ends, number)));
        let now: usize = agents::inside(&node, name, waiting)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        most = most.max(now);
        slowest = slowest.max(wire.answered(calm));
        slowest = slowest.max(wire.answered(wire.ends.v4.into()));
    }
    wire.hears(true);
    let again = up.until("the pod", || {
        wire.connects((calm, 80).into())
            .context("it reaches nobody")
    });
    eprintln!(
        "{} half-open connections: at most {most} were kept; another's proxy, and this one from outside, answered within {slowest:?} ({quiet:?} before); \
         afterwards the pod had a connection after {:?}",
        8 * usize::from(HALF_OPEN),
        again.unwrap()
    );
    assert!(most > 0 && most <= KEPT, "{most}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
}

/// Its rules are as they were.
fn is_mended(up: &Meshed, name: &str) {
    up.until("rules", || {
        let there = "nft list ruleset | grep -q tproxy";
        agents::inside(&up.cluster().node(1), name, there)
    })
    .unwrap();
    // The lies that left had its node take it for others.
    agents::shell(&up.cluster().node(1), "ip neigh flush all").unwrap();
}

#[test]
fn nothing_passes_a_captured_pods_proxy_and_with_other_rules_everything_does() {
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let up = agents::start(program, scratch, Begin::With).unwrap();
    up.until("a namespace's account", || {
        let mut pod = agents::pod("evil", "default", "node1", &["serve", "0"]);
        pod["spec"]["containers"][0]["securityContext"] =
            json!({"capabilities": {"add": ["NET_RAW"]}});
        up.cluster().apply(&pod.to_string())
    })
    .unwrap();
    up.settled("default", "app=evil", 1).unwrap();
    up.cluster()
        .apply(&agents::pod("calm", "default", "node1", &["serve", "0"]).to_string())
        .unwrap();
    up.settled("default", "app=calm", 1).unwrap();
    let wire = Wire::of(&up, "evil", "/maille-steady");
    half_open_ones_are_its_own(&up, "evil", &wire);
    stay_on_one_cpu();
    none_leaves(&wire, &wire.out(), count());
    none_reaches(&up, "evil", &wire, count());

    // The opposite, while nobody mends it.
    let agent = agents::process(&up, "node1").unwrap();
    agent.signal(Signal::SIGSTOP).unwrap();
    all_leave(&up, "evil", &wire, &wire.out());
    agent.signal(Signal::SIGCONT).unwrap();
    is_mended(&up, "evil");
    let lies = evil::lies_of_a_pod(&wire.ends, 7);
    assert_eq!(wire.out().arrived(&lies), NONE, "left the pod again");
}

#[test]
fn frames_that_are_made_inside_a_sandbox_do_not_pass_and_with_other_rules_do() {
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let up = agents::start_with_machines(program, scratch, Begin::With).unwrap();
    up.load_program(FRAMES, Path::new(env!("CARGO_BIN_EXE_maille-frames")))
        .unwrap();
    for (name, class, _) in SANDBOXES {
        let mut pod = agents::pod(name, "default", "node1", &[&TOLD.to_string()]);
        pod["spec"]["runtimeClassName"] = json!(class);
        let container = &mut pod["spec"]["containers"][0];
        container["image"] = json!(FRAMES);
        container["securityContext"] =
            json!({"runAsUser": 0, "capabilities": {"add": ["NET_RAW"]}});
        up.until("a namespace's account", || {
            up.cluster().apply(&pod.to_string())
        })
        .unwrap();
    }
    // Each of them twice: every frame waits for the guest's answer.
    let count = count() / 5;
    let mut wires = Vec::new();
    for (name, _, process) in SANDBOXES {
        up.settled("default", &format!("app={name}"), 1).unwrap();
        let wire = Wire::of(&up, name, process);
        let out = wire.out_of_guest(&up);
        eprint!("{name}: ");
        none_leaves(&wire, &out, count);
        wires.push((name, wire, out));
    }
    stay_on_one_cpu();
    for (name, wire, _) in &wires {
        eprint!("{name}: ");
        none_reaches(&up, name, wire, count);
    }
    for (name, wire, out) in &wires {
        // The opposite, while nobody mends it.
        let agent = agents::process(&up, "node1").unwrap();
        agent.signal(Signal::SIGSTOP).unwrap();
        eprint!("{name}: ");
        all_leave(&up, name, wire, out);
        agent.signal(Signal::SIGCONT).unwrap();
        is_mended(&up, name);
        let lies = evil::lies_of_a_pod(&wire.ends, 7);
        assert_eq!(out.arrived(&lies), NONE, "left the pod again");
    }
}
