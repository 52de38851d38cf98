// SPDX-License-Identifier: Apache-2.0
//! A pod for tests: routed as `maille up` does it.

use maille_sys::link::{MAIN_TABLE, Route};

use super::PodNet;

/// A pod with both families, a neighbour and three routes.
pub(super) fn pod() -> PodNet {
    let route = |destination: &str, gateway: Option<&str>| Route {
        destination: destination.parse().unwrap(),
        gateway: gateway.map(|ip| ip.parse().unwrap()),
        onlink: gateway.is_some(),
        table: MAIN_TABLE,
        metric: 0,
    };
    PodNet {
        interface: "eth0".into(),
        mac: [0x0a, 0x58, 0x0a, 0xf4, 0x00, 0x09],
        mtu: 1500,
        addresses: vec![
            "10.244.0.9/32".parse().unwrap(),
            "fd00:244::9/128".parse().unwrap(),
        ],
        routes: vec![
            route("169.254.1.1/32", None),
            route("0.0.0.0/0", Some("169.254.1.1")),
            route("::/0", Some("fe80::1")),
        ],
        neighbours: vec![("169.254.1.1".parse().unwrap(), [0xee; 6])],
    }
}
