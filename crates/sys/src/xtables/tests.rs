// SPDX-License-Identifier: Apache-2.0
//! The distribution's own `iptables-legacy-save` says what is in force.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::*;
use crate::netns::NetNs;

fn rule(looks: Vec<Look>, then: Then) -> Rule {
    Rule { looks, then }
}

fn to(net: &str) -> Look {
    Look::To(net.parse().unwrap())
}

fn chains() -> [Chain; 2] {
    [
        Chain {
            name: "MAILLE_OUT",
            hook: Hook::Leaving,
            rules: vec![
                rule(
                    vec![
                        Look::User(2102),
                        to("127.0.0.1/32"),
                        Look::Ports(vec![9..=9]),
                    ],
                    Then::Redirect(15001),
                ),
                rule(vec![Look::User(2102)], Then::Pass),
                rule(vec![Look::Loopback], Then::Pass),
                rule(vec![to("fe80::/10")], Then::Pass),
                rule(vec![Look::Ports(vec![443..=443, 8000..=8010])], Then::Pass),
                rule(vec![Look::Tcp], Then::Redirect(15001)),
            ],
        },
        Chain {
            name: "MAILLE_IN",
            hook: Hook::Arriving,
            rules: vec![
                rule(vec![Look::Loopback], Then::Pass),
                rule(vec![Look::Tcp], Then::Redirect(15006)),
            ],
        },
    ]
}

/// Runs one of the distribution's programs in `namespace`.
fn legacy(namespace: &NetNs, program: &str, input: &str) -> String {
    let run = || {
        let mut child = Command::new(program)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{program}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    namespace.run(run).unwrap()
}

/// What is in force, without times and counts.
fn saved(namespace: &NetNs, program: &str) -> Vec<String> {
    let text = legacy(namespace, program, "");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let bare = lines.map(|line| line.split(" [").next().unwrap_or_default().to_owned());
    bare.collect()
}

fn applied(namespace: &NetNs, chains: &[Chain]) {
    namespace.run(|| apply_here(chains)).unwrap().unwrap();
}

#[test]
fn rules_mean_what_they_say_in_both_families() {
    let namespace = NetNs::create().unwrap();
    applied(&namespace, &chains());
    let v4 = saved(&namespace, "iptables-legacy-save");
    let expected = "*nat
:PREROUTING ACCEPT
:INPUT ACCEPT
:OUTPUT ACCEPT
:POSTROUTING ACCEPT
:MAILLE_IN -
:MAILLE_OUT -
-A PREROUTING -j MAILLE_IN
-A OUTPUT -j MAILLE_OUT
-A MAILLE_IN -i lo -j RETURN
-A MAILLE_IN -p tcp -j REDIRECT --to-ports 15006
-A MAILLE_OUT -d 127.0.0.1/32 -p tcp -m owner --uid-owner 2102 -m tcp --dport 9 -j REDIRECT --to-ports 15001
-A MAILLE_OUT -m owner --uid-owner 2102 -j RETURN
-A MAILLE_OUT -o lo -j RETURN
-A MAILLE_OUT -p tcp -m tcp --dport 443 -j RETURN
-A MAILLE_OUT -p tcp -m tcp --dport 8000:8010 -j RETURN
-A MAILLE_OUT -p tcp -j REDIRECT --to-ports 15001
COMMIT";
    assert_eq!(v4.join("\n"), expected);
    let v6 = saved(&namespace, "ip6tables-legacy-save");
    let expected = expected
        .replace("-A MAILLE_OUT -d 127.0.0.1/32 -p tcp -m owner --uid-owner 2102 -m tcp --dport 9 -j REDIRECT --to-ports 15001\n", "")
        .replace(
            "-A MAILLE_OUT -o lo -j RETURN\n",
            "-A MAILLE_OUT -o lo -j RETURN\n-A MAILLE_OUT -d fe80::/10 -j RETURN\n",
        );
    assert_eq!(v6.join("\n"), expected);
}

#[test]
fn a_second_run_leaves_the_same_and_others_rules_stay() {
    let foreign = "*nat
:PREROUTING ACCEPT
:INPUT ACCEPT
:OUTPUT ACCEPT
:POSTROUTING ACCEPT
:FIRST -
:SECOND -
:THIRD -
-A PREROUTING -p tcp -m tcp --dport 1
-A PREROUTING -g THIRD
-A OUTPUT -j SECOND
-A OUTPUT -p udp -j FIRST
-A FIRST -p tcp -m tcp --dport 53 -j DNAT --to-destination 10.0.0.1:53
-A FIRST -j SECOND
-A SECOND -d 10.0.0.0/8 -j RETURN
-A SECOND -j THIRD
-A THIRD -p udp -m multiport --dports 53,5353 -j ACCEPT
COMMIT
";
    let namespace = NetNs::create().unwrap();
    legacy(&namespace, "iptables-legacy-restore", foreign);
    let before = saved(&namespace, "iptables-legacy-save");
    assert_eq!(before.len(), foreign.lines().count());
    applied(&namespace, &chains());
    let once = saved(&namespace, "iptables-legacy-save");
    let theirs = |lines: &[String]| -> Vec<String> {
        let theirs = lines.iter().filter(|line| !line.contains("MAILLE"));
        theirs.cloned().collect()
    };
    assert_eq!(theirs(&once), before);
    let at = |text: &str| once.iter().position(|line| line == text);
    assert!(at("-A OUTPUT -j MAILLE_OUT") < at("-A OUTPUT -j SECOND"));
    let mut other = chains();
    other[0].rules.truncate(2);
    applied(&namespace, &other);
    assert_ne!(saved(&namespace, "iptables-legacy-save"), once);
    applied(&namespace, &chains());
    assert_eq!(saved(&namespace, "iptables-legacy-save"), once);
    // Ours taken away by others' tools leaves theirs as it was.
    let flush = "*nat\n:MAILLE_IN -\n:MAILLE_OUT -\n-D PREROUTING -j MAILLE_IN\n-D OUTPUT -j MAILLE_OUT\n-X MAILLE_IN\n-X MAILLE_OUT\nCOMMIT\n";
    let run = || {
        let mut child = Command::new("/usr/sbin/iptables-legacy-restore")
            .arg("--noflush")
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(flush.as_bytes())
            .unwrap();
        child.wait().unwrap()
    };
    assert!(namespace.run(run).unwrap().success());
    assert_eq!(saved(&namespace, "iptables-legacy-save"), before);
}

#[test]
fn what_is_no_table_is_refused() {
    let namespace = NetNs::create().unwrap();
    applied(&namespace, &chains());
    let read = || {
        let socket = open(Family::V4).unwrap().unwrap();
        let mut info = Info::request(NAT);
        ask(&socket, Family::V4, GET_INFO, &mut info).unwrap();
        let parsed = Info::parse(&info).unwrap();
        let mut entries = parsed.entries_request(NAT);
        ask(&socket, Family::V4, GET_ENTRIES, &mut entries).unwrap();
        (info, entries)
    };
    let (info, entries) = namespace.run(read).unwrap();
    let parsed = Info::parse(&info).unwrap();
    assert!(Table::parse(Family::V4, &parsed, &entries).is_ok());
    for end in 0..info.len() {
        assert!(Info::parse(&info[..end]).is_err());
    }
    for end in 0..entries.len() {
        assert!(Table::parse(Family::V4, &parsed, &entries[..end]).is_err());
    }
    for at in 40..entries.len() {
        let mut bad = entries.clone();
        bad[at] ^= 0xff;
        // It may still be a table; what matters is that it ends.
        let _ = Table::parse(Family::V4, &parsed, &bad);
        let _ = Table::parse(Family::V6, &parsed, &bad);
    }
}
