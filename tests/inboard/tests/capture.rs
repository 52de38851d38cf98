// SPDX-License-Identifier: Apache-2.0
//! What a pod with its proxy inside can do, and what it cannot: seen from both ends, and on the wire between.

#![forbid(unsafe_code)]

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};

use maille_sys::nft;
use maille_tests_inboard::cases;
use maille_tests_inboard::lab::{APP, Lab, Rules};
use maille_tests_inboard::talk::{Client, ask, serve, serve_at};

#[test]
fn two_pods_speak_tls_with_each_other_and_plain_text_with_others() {
    cases::two_pods_speak_tls_with_each_other_and_plain_text_with_others(Rules::Nftables);
}

#[test]
fn what_a_pod_says_to_itself_stays_in_it() {
    cases::what_a_pod_says_to_itself_stays_in_it(Rules::Nftables);
}

#[test]
fn skipped_ports_and_datagrams_pass_untouched() {
    cases::skipped_ports_and_datagrams_pass_untouched(Rules::Nftables);
}

#[test]
fn without_its_proxy_a_pod_reaches_nobody_and_nobody_reaches_it() {
    cases::without_its_proxy_a_pod_reaches_nobody_and_nobody_reaches_it(Rules::Nftables);
}

#[test]
fn init_may_run_again_under_connections() {
    let lab = Lab::new(2, 2);
    (0..2).for_each(|n| serve(lab.net(n), APP));
    let _proxies = [lab.mesh(0), lab.mesh(1)];
    let first = nft::stateless(lab.net(0)).unwrap();
    let mut held = Client::connect(lab.net(0), lab.apps(1)[0]).unwrap();
    held.say("before").unwrap();
    lab.capture(0, &[("MAILLE_SKIP_OUTBOUND_PORTS", "443")]);
    assert_ne!(nft::stateless(lab.net(0)).unwrap(), first);
    lab.capture(0, &[]);
    assert_eq!(nft::stateless(lab.net(0)).unwrap(), first);
    assert_eq!(held.say("after").unwrap().text, "after");
    ask(lab.net(0), lab.apps(1)[1], "hello").unwrap();
    let output = lab.init(0, &[("MAILLE_SKIP_INBOUND_PORTS", "http")]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("MAILLE_SKIP_INBOUND_PORTS=\"http\""),
        "{said}"
    );
    assert_eq!(
        nft::stateless(lab.net(0)).unwrap(),
        first,
        "a refused run changes nothing"
    );
}

#[test]
fn a_pod_that_is_not_captured_has_no_ready_proxy() {
    let lab = Lab::new(1, 1);
    let (mut proxy, notify) = lab.begin(0);
    assert_eq!(proxy.ended().code(), Some(1));
    let said = proxy.text();
    assert!(
        said.contains("the init container maille-init did not run in this pod"),
        "{said}"
    );
    notify.set_nonblocking(true).unwrap();
    notify.recv(&mut [0; 16]).unwrap_err();
    // Rules that somebody took away again are no rules.
    lab.capture(0, &[]);
    nft::apply(lab.net(0), "delete table inet maille_inboard").unwrap();
    let (mut proxy, _notify) = lab.begin(0);
    assert_eq!(proxy.ended().code(), Some(1));
}

#[test]
fn a_pod_of_one_family_is_captured_in_that_one() {
    let lab = Lab::new(2, 1);
    lab.net(0)
        .sysctl("net/ipv6/conf/all/disable_ipv6", "1")
        .unwrap();
    (0..2).for_each(|n| serve_at(lab.net(n), (Ipv4Addr::UNSPECIFIED, APP).into()));
    let _proxy = lab.mesh(0);
    assert!(
        !ask(lab.net(0), lab.apps(1)[0], "hello")
            .unwrap()
            .is_direct()
    );
    assert!(
        !ask(lab.net(1), lab.apps(0)[0], "hello")
            .unwrap()
            .is_direct()
    );
}

#[test]
fn the_proxy_is_nobody_s_destination() {
    let lab = Lab::new(2, 1);
    let proxy = lab.mesh(0);
    let own = lab.pod(0).addresses();
    // Nobody in the pod gets there, as those connections are not redirected ones.
    for port in [15001, 15006] {
        for to in [
            SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            (own[0], port).into(),
        ] {
            let error = ask(lab.net(0), to, "hello").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{to}");
        }
    }
    // From outside they are, and the proxy says why it does not dial itself.
    for to in own.map(|own| SocketAddr::from((own, 15001))) {
        let error = ask(lab.net(1), to, "hello").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{to}");
    }
    let said = proxy.said("connection refused");
    assert!(
        !said.is_empty() && said[0]["reason"].as_str().unwrap().contains("15001"),
        "{said:?}"
    );
}

#[test]
fn a_port_at_which_nobody_listens_is_closed_as_without_a_mesh() {
    let lab = Lab::new(2, 1);
    serve(lab.net(0), APP);
    // At loopback only: nobody's from outside.
    serve_at(lab.net(0), (Ipv4Addr::LOCALHOST, 9000).into());
    let proxy = lab.mesh(0);
    for (open, own) in lab.apps(0).into_iter().zip(lab.pod(0).addresses()) {
        assert!(!ask(lab.net(1), open, "hello").unwrap().is_direct());
        for port in [9000, 9001] {
            let error = ask(lab.net(1), (own, port).into(), "hello").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{own}:{port}");
        }
    }
    assert!(
        proxy.said("connection refused").is_empty(),
        "the proxy was asked"
    );
}
