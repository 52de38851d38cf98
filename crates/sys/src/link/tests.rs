// SPDX-License-Identifier: Apache-2.0
//! What is made reads back as it was made. These run as root, or inside a user namespace.

use std::time::Duration;

use super::*;

fn parsed<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().unwrap()
}

fn default_route(destination: &str, gateway: &str) -> Route {
    Route {
        destination: parsed(destination),
        gateway: Some(parsed(gateway)),
        onlink: true,
        table: MAIN_TABLE,
        metric: 77,
    }
}

#[test]
fn a_routed_pair_reads_back_as_it_was_made() {
    let (node, pod) = (NetNs::create().unwrap(), NetNs::create().unwrap());
    let mac = [2, 0, 0, 0, 0, 9];
    inside(&node, async |net| {
        let pair = Veth {
            name: "m1",
            peer: "eth0",
            peer_mac: Some(mac),
            mtu: 1400,
        };
        net.add_pair(&pair, &pod).await?;
        assert!(net.links().await?.iter().all(|link| link.name != "eth0"));
        net.up("m1").await
    })
    .unwrap();
    inside(&pod, async |net| {
        net.up("eth0").await?;
        let addresses: [IpNet; 2] = [parsed("10.244.0.9/32"), parsed("fd00:244::9/128")];
        for address in addresses {
            net.add_address("eth0", address).await?;
        }
        let routes = [
            default_route("0.0.0.0/0", "169.254.1.1"),
            default_route("::/0", "fe80::1"),
        ];
        for route in &routes {
            net.add_route("eth0", route).await?;
        }
        let gateway = (parsed("169.254.1.1"), [2, 0, 0, 0, 0, 1]);
        net.add_neighbour("eth0", gateway.0, gateway.1).await?;

        let link = net.link("eth0").await?;
        assert_eq!((link.mac, link.mtu, link.up), (Some(mac), 1400, true));
        assert_eq!(net.addresses("eth0", Scope::Global).await?, addresses);
        assert_eq!(net.routes("eth0").await?, routes);
        assert_eq!(net.neighbours("eth0").await?, [gateway]);
        Ok(())
    })
    .unwrap();
}

#[test]
fn rules_go_before_the_local_table() {
    let mesh = NetNs::create().unwrap();
    inside(&mesh, async |net| {
        net.up("lo").await?;
        net.add_local_default(101).await?;
        net.add_mark_rule(&MarkRule {
            preference: 1,
            mark: 2,
            mask: 0xf,
            table: 101,
        })
        .await?;
        net.move_local_rule(3).await
    })
    .unwrap();
    let listed = |family: &str| {
        let run = || {
            std::process::Command::new("ip")
                .args([family, "rule"])
                .output()
                .unwrap()
                .stdout
        };
        String::from_utf8(mesh.run(run).unwrap()).unwrap()
    };
    for family in ["-4", "-6"] {
        let rules: Vec<_> = listed(family)
            .lines()
            .take(2)
            .map(|line| line.replace('\t', " "))
            .collect();
        assert_eq!(
            rules,
            [
                "1: from all fwmark 0x2/0xf lookup 101",
                "3: from all lookup local"
            ]
        );
    }
}

#[test]
fn links_move_and_go() {
    let (a, b) = (NetNs::create().unwrap(), NetNs::create().unwrap());
    inside(&a, async |net| net.add_veth("x", "y", &b, 1500).await).unwrap();
    inside(&b, async |net| net.move_link("y", "up0", &a).await).unwrap();
    inside(&a, async |net| {
        net.up("up0").await?;
        net.set_mac("up0", [2, 0, 0, 0, 0, 7]).await?;
        assert_eq!(net.link("up0").await?.mac, Some([2, 0, 0, 0, 0, 7]));
        net.delete("x").await?;
        assert!(matches!(net.link("up0").await, Err(LinkError::Absent(_))));
        net.delete("x").await
    })
    .unwrap();
}

#[test]
fn a_link_is_ready_once_its_peer_is_up() {
    let (a, b) = (NetNs::create().unwrap(), NetNs::create().unwrap());
    inside(&a, async |net| {
        net.add_veth("x", "y", &b, 1500).await?;
        net.up("x").await?;
        let late = net.ready("x", Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(late.to_string(), "x was not ready to send in time");
        inside(&b, async |net| net.up("y").await)?;
        net.ready("x", Duration::from_secs(5)).await
    })
    .unwrap();
}

#[test]
fn what_cannot_be_copied_is_said() {
    let (node, pod) = (NetNs::create().unwrap(), NetNs::create().unwrap());
    inside(&node, async |net| {
        net.add_veth("m1", "eth0", &pod, 1500).await
    })
    .unwrap();
    let script = "ip link set eth0 up; ip addr add 10.0.0.2/24 dev eth0; \
        ip route add 10.9.0.0/16 nexthop via 10.0.0.3 dev eth0 nexthop via 10.0.0.4 dev eth0";
    let done = pod
        .run(|| {
            std::process::Command::new("sh")
                .args(["-ec", script])
                .status()
                .unwrap()
        })
        .unwrap();
    assert!(done.success());
    let error = inside(&pod, async |net| net.routes("eth0").await).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a route through eth0 is of a kind that cannot be copied"
    );
}

#[test]
fn what_is_not_there_is_named() {
    let node = NetNs::create().unwrap();
    let error = inside(&node, async |net| net.up("eth7").await).unwrap_err();
    assert_eq!(error.to_string(), "there is no interface eth7");
    inside(&node, async |net| net.delete("eth7").await).unwrap();
}
