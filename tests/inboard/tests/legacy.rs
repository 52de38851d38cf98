// SPDX-License-Identifier: Apache-2.0
//! The same by the kernel's legacy packet filter, which old guests and sandboxes have in place of nftables: without the program
//! `iptables`, and on Linux with no more than CAP_NET_ADMIN.

#![forbid(unsafe_code)]

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};

use maille_sys::nft;
use maille_tests_inboard::cases;
use maille_tests_inboard::lab::{APP, Lab, Rules};
use maille_tests_inboard::talk::{Client, ask, serve};

#[test]
fn two_pods_speak_tls_with_each_other_and_plain_text_with_others() {
    cases::two_pods_speak_tls_with_each_other_and_plain_text_with_others(Rules::Legacy);
}

#[test]
fn what_a_pod_says_to_itself_stays_in_it() {
    cases::what_a_pod_says_to_itself_stays_in_it(Rules::Legacy);
}

#[test]
fn skipped_ports_and_datagrams_pass_untouched() {
    cases::skipped_ports_and_datagrams_pass_untouched(Rules::Legacy);
}

#[test]
fn without_its_proxy_a_pod_reaches_nobody_and_nobody_reaches_it() {
    cases::without_its_proxy_a_pod_reaches_nobody_and_nobody_reaches_it(Rules::Legacy);
}

#[test]
fn init_may_run_again_under_connections() {
    let lab = Lab::with(3, 2, Rules::Legacy);
    (0..3).for_each(|n| serve(lab.net(n), APP));
    let _proxies = [lab.mesh(0), lab.mesh(1)];
    assert_eq!(
        nft::stateless(lab.net(0)).unwrap(),
        "",
        "nothing of nftables"
    );
    let mut held = Client::connect(lab.net(0), lab.apps(1)[0]).unwrap();
    held.say("before").unwrap();
    lab.capture(0, &[("MAILLE_SKIP_OUTBOUND_PORTS", "8080")]);
    assert!(
        ask(lab.net(0), lab.apps(2)[1], "hello")
            .unwrap()
            .is_direct()
    );
    lab.capture(0, &[]);
    assert_eq!(held.say("after").unwrap().text, "after");
    assert!(
        !ask(lab.net(0), lab.apps(2)[1], "hello")
            .unwrap()
            .is_direct()
    );
}

#[test]
fn the_proxy_is_nobody_s_destination() {
    let lab = Lab::with(2, 1, Rules::Legacy);
    let proxy = lab.mesh(0);
    let own = lab.pod(0).addresses();
    for port in [15001, 15006] {
        for (from, to) in [
            (0, SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
            (0, (own[0], port).into()),
            (1, (own[0], port).into()),
            (1, (own[1], port).into()),
        ] {
            let error = ask(lab.net(from), to, "hello").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{to}");
        }
    }
    assert!(!proxy.said("connection refused").is_empty());
}

#[test]
fn what_neither_kernel_way_may_do_says_both() {
    let lab = Lab::with(1, 1, Rules::Either);
    let output = lab.powerless(0);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    for part in [
        "CAP_NET_ADMIN",
        "nftables: nft refused",
        "legacy nat table of IPv4",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}
