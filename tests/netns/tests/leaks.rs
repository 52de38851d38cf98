// SPDX-License-Identifier: Apache-2.0
//! Nothing passes a captured pod's interface but by its proxy or by the list of what may: crafted frames in both
//! directions, with the proxy running, dead, and gone with its listeners. Each direction has a control: with the protection
//! taken away every one of the same frames arrives.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::time::Duration;

use maille_sys::packet::Port;
use maille_tests_netns::evil::{self, Case, contains};
use maille_tests_netns::frames::Ends;
use maille_tests_netns::lab::{Wire, stay_on_one_cpu};
use maille_tests_netns::proxy::Proxy;

/// How long a frame that must come may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A direction: who sends, who should not receive, and the addresses.
struct Way {
    from: Port,
    to: Port,
    ends: Ends,
}

impl Way {
    fn out(wire: &Wire) -> Self {
        let open = |namespace| Port::open(namespace, "eth0").unwrap();
        Self {
            from: open(&wire.pod),
            to: open(&wire.far),
            ends: wire.ends,
        }
    }

    fn back(wire: &Wire) -> Self {
        let open = |namespace| Port::open(namespace, "eth0").unwrap();
        Self {
            from: open(&wire.far),
            to: open(&wire.pod),
            ends: wire.back(),
        }
    }

    /// Sends until something arrives: a link that just came up drops what is sent too early, and that would prove nothing.
    fn settle(&self) {
        let settling = evil::sentinel(&self.ends, u32::MAX);
        let arrives = || {
            self.from.send(&settling.frames[0]).unwrap();
            let frame = self.to.receive(Duration::from_millis(50)).unwrap();
            frame.is_some_and(|frame| contains(&frame, &settling.needle))
        };
        assert!((0..400).any(|_| arrives()), "nothing arrives at all");
    }

    /// Sends each case and then a datagram that passes; gives which cases were seen before the last of those.
    fn arrived(&self, cases: &[Case]) -> Vec<String> {
        stay_on_one_cpu();
        self.settle();
        let mut seen = vec![false; cases.len()];
        let rounds = (0..).zip(cases.iter().map(Some).chain([None]));
        for (number, case) in rounds {
            for frame in case.iter().flat_map(|case| &case.frames) {
                self.from.send(frame).unwrap();
            }
            let sentinel = evil::sentinel(&self.ends, number);
            self.from.send(&sentinel.frames[0]).unwrap();
            loop {
                let frame = self.to.receive(PATIENCE).unwrap();
                let frame = frame.unwrap_or_else(|| panic!("no sentinel after {case:?}"));
                if contains(&frame, &sentinel.needle) {
                    break;
                }
                // Late ones count too, whichever case is on.
                for (seen, case) in seen.iter_mut().zip(cases) {
                    *seen |= contains(&frame, &case.needle);
                }
            }
        }
        let arrived = cases.iter().zip(seen).filter(|(_, seen)| *seen);
        arrived.map(|(case, _)| case.name.clone()).collect()
    }
}

/// The state of what should protect the pod.
#[derive(Clone, Copy, Debug)]
enum State {
    Running,
    Dead,
    Gone,
}

fn check(state: State) {
    let wire = Wire::new();
    let mut captured = wire.capture();
    let proxy = match state {
        State::Running => Some(Proxy::start(&captured)),
        State::Dead => None,
        State::Gone => {
            let devnull = || std::fs::File::open("/dev/null").unwrap().into();
            captured.listeners.outbound = devnull();
            captured.listeners.inbound = devnull();
            captured.listeners.mesh = devnull();
            None
        }
    };
    let out = Way::out(&wire);
    assert_eq!(
        out.arrived(&evil::tcp_in_disguise(&out.ends, 1)),
        <[&str; 0]>::default(),
        "left the pod ({state:?})"
    );
    assert_eq!(
        out.arrived(&evil::lies_of_a_pod(&out.ends, 2)),
        <[&str; 0]>::default(),
        "left the pod ({state:?})"
    );
    let back = Way::back(&wire);
    assert_eq!(
        back.arrived(&evil::tcp_in_disguise(&back.ends, 3)),
        <[&str; 0]>::default(),
        "reached the pod ({state:?})"
    );
    drop(proxy);
}

#[test]
fn nothing_passes_a_running_proxy() {
    check(State::Running);
}

#[test]
fn nothing_passes_a_dead_proxy() {
    check(State::Dead);
}

#[test]
fn nothing_passes_without_listeners() {
    check(State::Gone);
}

#[test]
fn without_protection_every_one_of_them_arrives() {
    let wire = Wire::new();
    let captured = wire.capture();
    wire.open(&captured);
    let names = |cases: &[Case]| {
        cases
            .iter()
            .map(|case| case.name.clone())
            .collect::<Vec<_>>()
    };
    let out = Way::out(&wire);
    for cases in [
        evil::tcp_in_disguise(&out.ends, 4),
        evil::lies_of_a_pod(&out.ends, 5),
    ] {
        assert_eq!(
            out.arrived(&cases),
            names(&cases),
            "the test would not see these leave"
        );
    }
    let back = Way::back(&wire);
    let cases = evil::tcp_in_disguise(&back.ends, 6);
    assert_eq!(
        back.arrived(&cases),
        names(&cases),
        "the test would not see these reach the pod"
    );
}

#[test]
fn what_is_honest_passes_with_the_proxy_dead() {
    let wire = Wire::new();
    let _captured = wire.capture();
    let names = |cases: &[Case]| {
        cases
            .iter()
            .map(|case| case.name.clone())
            .collect::<Vec<_>>()
    };
    let out = Way::out(&wire);
    let cases = evil::honest(&out.ends, 7);
    assert_eq!(out.arrived(&cases), names(&cases));
    // Opened only now, so that it has not seen the answers to those.
    let back = Way::back(&wire);
    let cases = evil::honest(&back.ends, 8);
    assert_eq!(back.arrived(&cases), names(&cases));
}
