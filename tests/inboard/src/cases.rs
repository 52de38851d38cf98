// SPDX-License-Identifier: Apache-2.0
//! What holds of a captured pod, whatever redirects its connections. Each case fails by a panic, as a test does.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use maille_sys::packet::Port;
use maille_tests_netns::evil::contains;

use crate::lab::{APP, Lab, Rules};
use crate::talk::{ask, datagram, serve, serve_at};

const MARKER: &str = "maille-marker-of-inboard";
const MESH: u16 = 15008;

/// TLS between two pods, plain text with whom control knows nothing of.
pub fn two_pods_speak_tls_with_each_other_and_plain_text_with_others(rules: Rules) {
    let lab = Lab::with(3, 2, rules);
    (0..3).for_each(|n| serve(lab.net(n), APP));
    let _proxies = [lab.mesh(0), lab.mesh(1)];
    let wire = Port::open(&lab.node.namespace, "m3").unwrap();
    for (to, own) in lab.apps(1).into_iter().zip(lab.pod(1).addresses()) {
        let seen = ask(lab.net(0), to, MARKER).unwrap();
        assert_eq!(seen.text, MARKER);
        assert_eq!(seen.peer.ip(), own, "the server's own proxy dials it");
    }
    let frames = frames(&wire);
    assert!(frames.iter().any(|frame| of_port(frame, MESH)));
    assert!(!frames.iter().any(|frame| of_port(frame, APP)));
    let told = |frame: &Vec<u8>| contains(frame, MARKER.as_bytes());
    assert!(!frames.iter().any(told), "plain text on the wire");

    // Out to who has no proxy, and in from there; the node's own processes, which probe.
    for to in lab.apps(2) {
        let seen = ask(lab.net(0), to, "hello").unwrap();
        assert!(lab.pod(0).addresses().contains(&seen.peer.ip()) && !seen.is_direct());
    }
    for to in lab.apps(0) {
        for from in [lab.net(2), &lab.node.namespace] {
            let seen = ask(from, to, "hello").unwrap();
            assert_eq!(seen.peer.ip(), to.ip());
        }
    }
}

/// Loopback, and a service that a pod is behind itself.
pub fn what_a_pod_says_to_itself_stays_in_it(rules: Rules) {
    let lab = Lab::with(1, 1, rules);
    serve(lab.net(0), APP);
    let inner = [
        SocketAddr::from((Ipv4Addr::LOCALHOST, 9000)),
        SocketAddr::from((Ipv6Addr::LOCALHOST, 9000)),
    ];
    inner.iter().for_each(|at| serve_at(lab.net(0), *at));
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: own, namespace: shop}\nspec:\n  clusterIP: 10.96.0.50\n  \
                   selector: {app: p0}\n  ports: [{port: 80, targetPort: 8080}]\n";
    lab.control.apply("own", service).unwrap();
    let _proxy = lab.mesh(0);
    for to in inner.into_iter().chain(lab.apps(0)) {
        let seen = ask(lab.net(0), to, "hello").unwrap();
        assert!(seen.is_direct(), "{to}: {seen:?}");
    }
    // By a service that it is behind itself: through the proxy, and back into the pod.
    let seen = ask(lab.net(0), "10.96.0.50:80".parse().unwrap(), "hello").unwrap();
    assert_eq!(seen.peer.ip(), lab.pod(0).addresses()[0]);
}

/// Both ends see each other.
pub fn skipped_ports_and_datagrams_pass_untouched(rules: Rules) {
    let lab = Lab::with(2, 1, rules);
    let (out, into) = (8081, 8082);
    serve(lab.net(1), out);
    serve(lab.net(1), APP);
    serve(lab.net(0), into);
    lab.capture(
        0,
        &[
            ("MAILLE_SKIP_OUTBOUND_PORTS", "8081,9000-9010"),
            ("MAILLE_SKIP_INBOUND_PORTS", "8082"),
        ],
    );
    let _proxy = lab.proxy(0);
    for (own, other) in lab
        .pod(0)
        .addresses()
        .into_iter()
        .zip(lab.pod(1).addresses())
    {
        let seen = ask(lab.net(0), (other, out).into(), "hello").unwrap();
        assert!(seen.is_direct(), "{seen:?}");
        let seen = ask(lab.net(0), (other, APP).into(), "hello").unwrap();
        assert!(!seen.is_direct(), "{seen:?}");
        let seen = ask(lab.net(1), (own, into).into(), "hello").unwrap();
        assert!(seen.is_direct(), "{seen:?}");
        let seen = datagram(lab.net(0), (lab.net(1), other)).unwrap();
        assert!(seen.is_direct() && seen.text == "hello", "{seen:?}");
        let seen = datagram(lab.net(1), (lab.net(0), own)).unwrap();
        assert!(seen.is_direct(), "{seen:?}");
    }
}

/// Closed, and open again with the next proxy.
pub fn without_its_proxy_a_pod_reaches_nobody_and_nobody_reaches_it(rules: Rules) {
    let lab = Lab::with(2, 1, rules);
    (0..2).for_each(|n| serve(lab.net(n), APP));
    let proxy = lab.mesh(0);
    ask(lab.net(0), lab.apps(1)[0], "hello").unwrap();
    drop(proxy);
    for (own, other) in lab.apps(0).into_iter().zip(lab.apps(1)) {
        for (from, to) in [(lab.net(0), other), (lab.net(1), own)] {
            let error = ask(from, to, "hello").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{to}");
        }
    }
    let _proxy = lab.proxy(0);
    for to in lab.apps(1) {
        ask(lab.net(0), to, "hello").unwrap();
    }
}

/// Whether a frame is TCP to or from this port: the last two are of IPv6.
fn of_port(frame: &[u8], port: u16) -> bool {
    let at = |offset: usize| frame.get(offset..offset + 2) == Some(&port.to_be_bytes()[..]);
    at(34) || at(36) || at(54) || at(56)
}

/// Everything that came by `wire` so far: what was answered has passed there.
fn frames(wire: &Port) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| wire.receive(Duration::ZERO).unwrap()).collect()
}
