// SPDX-License-Identifier: Apache-2.0
//! The text of the rules. What they do is proven with frames, in `tests/netns`.

use super::*;
use crate::capture::testing::pod;

#[test]
fn the_rules_are_the_ones_that_were_reviewed() {
    let text = render(&pod());
    assert_eq!(
        text,
        include_str!("golden.nft"),
        "if the change is meant, this is golden.nft:\n{text}"
    );
}

#[test]
fn nothing_tracks_connections() {
    let text = render(&pod());
    for word in ["ct", "nat", "masquerade", "redirect", "notrack"] {
        assert!(text.split_whitespace().all(|other| other != word), "{word}");
    }
}

#[test]
fn a_pod_without_ipv4_sends_none() {
    let mut pod = pod();
    pod.addresses.remove(0);
    let text = render(&pod);
    assert!(
        text.contains("ip saddr != { 255.255.255.255 } counter name pod_v4_source drop"),
        "{text}"
    );
    assert!(text.contains("arp saddr ip { 0.0.0.0 }"), "{text}");
}

#[test]
fn the_link_local_address_is_the_kernels() {
    // RFC 2464 section 4, with the example's digits.
    let mut pod = pod();
    pod.mac = [0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde];
    assert_eq!(pod.link_local().to_string(), "fe80::3656:78ff:fe9a:bcde");
}
