// SPDX-License-Identifier: Apache-2.0
//! A trust anchor is retired: what rests on it ends, at once and on whichever side learns of it; everything else goes on.

use std::net::SocketAddr;

use maille_engine::snapshot::Snapshot;
use maille_identity::Authority;
use maille_model::{Membership, Protocol};

use crate::lab::{Lab, Pod, Proxy, authority, signed, trust_domain};
use crate::origin::{Origin, Wire};

/// A client between two authorities, and behind its service a server of each: `old` is the one to be retired.
struct Change {
    lab: Lab,
    new: Authority,
    both: Vec<Vec<u8>>,
    client: Proxy,
    snapshot: Snapshot,
    /// The old one, and the new one.
    servers: [(Proxy, Origin, Snapshot); 2],
}

impl Change {
    fn new() -> Self {
        let (old, new) = (authority(), authority());
        let both = [old.trust_anchors(), new.trust_anchors()].concat();
        let lab = Lab::new();
        let credentials = |authority: &Authority, pod: &Pod| {
            signed(authority, &pod.workload.identity(&trust_domain()), &both)
        };
        let own = |pod: &Pod, port: u16| {
            let mut snapshot = lab.own(pod, port, Protocol::Tcp);
            snapshot.set_mesh(lab.believing(&both));
            snapshot
        };
        let pods = [2, 3].map(|n| lab.pod(n, Membership::Meshed));
        let origins = [0, 1].map(|n: usize| Origin::echo(SocketAddr::new(pods[n].ip, 0)));
        let ports = [0, 1].map(|n: usize| origins[n].address.port());
        let app = lab.pod(1, Membership::Meshed);
        let mut snapshot = own(&app, 9);
        let backends = [(&pods[0], ports[0]), (&pods[1], ports[1])];
        lab.add_service(&mut snapshot, Protocol::Tcp, &backends);
        let client = lab.start_with(
            &app,
            snapshot.clone(),
            credentials(&new, &app),
            (lab.service(), SocketAddr::new(app.ip, 9)),
        );
        let serve = |pod: &Pod, origin: Origin, authority: &Authority| {
            let known = own(pod, origin.address.port());
            let to = (lab.service(), origin.address);
            let credentials = credentials(authority, pod);
            let proxy = lab.start_with(pod, known.clone(), credentials, to);
            (proxy, origin, known)
        };
        let [first, second] = origins;
        let servers = [serve(&pods[0], first, &old), serve(&pods[1], second, &new)];
        Self {
            lab,
            new,
            both,
            client,
            snapshot,
            servers,
        }
    }

    fn accepted(&self) -> [usize; 2] {
        [0, 1].map(|n: usize| self.servers[n].1.accepted())
    }

    /// A connection through to each server: balancing is asked until it chose both.
    fn dial_both(&self) -> [Wire; 2] {
        let mut wires = [None, None];
        while wires.iter().any(Option::is_none) {
            let before = self.accepted();
            let wire = self.dial();
            let reached = usize::from(self.accepted()[1] > before[1]);
            wires[reached] = Some(wire);
        }
        wires.map(Option::unwrap)
    }

    /// A connection that has been answered once.
    fn dial(&self) -> Wire {
        let mut wire = Wire::connect(self.client.outbound);
        assert_echo(&mut wire);
        wire
    }

    fn only_new(&self, mut snapshot: Snapshot) -> Snapshot {
        snapshot.set_mesh(self.lab.believing(&self.new.trust_anchors()));
        snapshot
    }
}

fn assert_echo(wire: &mut Wire) {
    wire.send("x");
    assert_eq!(wire.exactly(1), b"x");
}

#[test]
fn who_dialled_cuts_what_rests_on_the_retired_anchor() {
    let change = Change::new();
    let [mut old, mut new] = change.dial_both();
    change
        .client
        .learn(change.only_new(change.snapshot.clone()));
    let (rest, _) = old.rest();
    assert!(rest.is_empty());
    assert_echo(&mut new);
    // Its credentials still believe both: what counts is what control says now.
    let before = change.accepted();
    for _ in 0..10 {
        change.dial();
    }
    assert_eq!(change.accepted(), [before[0], before[1] + 10]);
}

#[test]
fn who_was_dialled_cuts_what_rests_on_the_retired_anchor() {
    let change = Change::new();
    let [mut old, mut new] = change.dial_both();
    // The client's own certificate is of the new authority: to these servers the old one means nothing.
    for (server, _, snapshot) in &change.servers {
        server.learn(change.only_new(snapshot.clone()));
    }
    assert_echo(&mut old);
    assert_echo(&mut new);
    let old_anchors: Vec<_> = change.both[..1].to_vec();
    for (server, _, snapshot) in &change.servers {
        let mut snapshot = snapshot.clone();
        snapshot.set_mesh(change.lab.believing(&old_anchors));
        server.learn(snapshot);
    }
    for wire in [&mut old, &mut new] {
        assert!(wire.rest().0.is_empty());
    }
}

#[test]
fn an_anchor_that_comes_cuts_nothing() {
    let change = Change::new();
    let wires = change.dial_both();
    change
        .client
        .learn(change.only_new(change.snapshot.clone()));
    let [mut old, mut new] = wires;
    assert!(old.rest().0.is_empty());
    // The old one is taken back: it is believed again, by credentials that never ceased to.
    change.client.learn(change.snapshot.clone());
    assert_echo(&mut new);
    let [mut old, mut again] = change.dial_both();
    for wire in [&mut old, &mut again, &mut new] {
        assert_echo(wire);
    }
}
