// SPDX-License-Identifier: Apache-2.0
//! Whatever is changed of a network is noticed, and is as it was when it was restored. These run as root, or inside a user namespace.

use std::process::Command;

use super::super::{MarkRule, Route, Veth, inside};
use super::*;
use crate::link::changes::Changes;
use crate::netns::NetNs;

/// A network with something of every kind.
fn network() -> (NetNs, NetNs) {
    let (one, other) = (NetNs::create().unwrap(), NetNs::create().unwrap());
    inside(&other, async |net| net.up("lo").await).unwrap();
    inside(&one, async |net| {
        let pair = Veth {
            name: "w",
            peer: "w",
            peer_mac: None,
            mtu: 1400,
        };
        net.add_pair(&pair, &other).await?;
        net.up("lo").await?;
        net.up("w").await
    })
    .unwrap();
    inside(&other, async |net| net.up("w").await).unwrap();
    inside(&one, async |net| {
        for address in ["10.1.0.9/24", "fd00:1::9/64", "fe80::9/64"] {
            net.add_address("w", address.parse().unwrap()).await?;
        }
        for (destination, gateway) in [("0.0.0.0/0", "10.1.0.1"), ("::/0", "fd00:1::1")] {
            let route = Route {
                destination: destination.parse().unwrap(),
                gateway: Some(gateway.parse().unwrap()),
                onlink: false,
                table: super::super::MAIN_TABLE,
                metric: 0,
            };
            net.add_route("w", &route).await?;
        }
        for to in ["10.1.0.7", "fd00:1::7"] {
            net.add_neighbour("w", to.parse().unwrap(), [2, 0, 0, 0, 0, 7])
                .await?;
        }
        net.add_local_default(101).await?;
        net.add_local_link("w", 101).await?;
        net.add_unreachable_default(102).await?;
        let rule = MarkRule {
            preference: 1,
            mark: 2,
            mask: 15,
            table: 102,
        };
        net.add_mark_rule(&rule).await?;
        net.move_local_rule(3).await
    })
    .unwrap();
    (one, other)
}

fn facts(of: &NetNs) -> Facts {
    inside(of, async |net| net.facts().await).unwrap()
}

fn ip(of: &NetNs, line: &str) {
    let run = || Command::new("ip").args(line.split(' ')).status();
    assert!(of.run(run).unwrap().unwrap().success(), "ip {line}");
}

#[test]
fn whatever_is_changed_is_noticed_and_restored() {
    let (one, _other) = network();
    let changes = Changes::of(&one).unwrap();
    // What the kernel makes by itself is there a moment later.
    let before = (0..)
        .map(|_| facts(&one))
        .find(|now| now.is_whole() && *now == facts(&one))
        .unwrap();
    changes.any().unwrap();
    assert!(!changes.any().unwrap());
    for line in [
        "-4 route del default",
        "-6 route del default",
        "-4 route add 10.9.0.0/16 dev w",
        "-6 route add fd09::/64 dev w metric 5",
        "-4 route flush table 101",
        "-6 route flush table 102",
        "-4 route del local 10.1.0.9 dev w table local",
        "-4 rule del pref 1",
        "-6 rule flush",
        "-4 rule add pref 0 lookup main",
        "-6 rule add pref 7 fwmark 9 lookup 7",
        "neigh del 10.1.0.7 dev w",
        "neigh add fd00:1::8 lladdr 02:00:00:00:00:08 dev w nud permanent",
        "addr add 10.7.0.1/24 dev w",
        "addr del 10.1.0.9/24 dev w",
        "-6 addr del fd00:1::9/64 dev w",
    ] {
        ip(&one, line);
        assert!(changes.any().unwrap(), "{line}");
        let now = facts(&one);
        assert!(!before.difference(&now).is_none(), "{line}");
        inside(&one, async |net| net.restore(&before).await).unwrap();
        let now = facts(&one);
        let left = before.made().difference(&now.made());
        assert!(left.is_none(), "{line}: {left:?}");
        changes.any().unwrap();
    }
}

#[test]
fn they_are_read_as_they_were_written() {
    let (one, _other) = network();
    let before = facts(&one);
    assert_eq!(before.to_string().parse::<Facts>().unwrap(), before);
    assert_eq!(before.made().difference(&before).gone, 0);
    for text in ["00", "0014", "zz", "00180", "ffff00"] {
        assert_eq!(text.parse::<Facts>(), Err(NoFact(1)), "{text}");
    }
}
