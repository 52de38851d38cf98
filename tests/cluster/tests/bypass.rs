// SPDX-License-Identifier: Apache-2.0
//! What a captured pod of a real node can send by raw sockets, and what can be sent to it: nothing passes but by its proxy, or as what
//! passes untouched, with its own addresses. Frames of every kind that tests/netns knows, and changes of them drawn from a seed.
//!
//! The opposite: with other rules every one of the same frames arrives, and the judge of drawn ones finds what is wrong.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use maille_cluster::agents::{self, Begin};
use maille_cluster::meshed::{Meshed, text};
use maille_cluster::processes::Process;
use maille_sys::link::{Net, Scope, inside};
use maille_sys::netns::NetNs;
use maille_sys::packet::Port;
use maille_tests_netns::evil::{self, Case, contains};
use maille_tests_netns::frames::Ends;
use maille_tests_netns::lab::stay_on_one_cpu;
use nix::sys::signal::Signal;

/// How long a frame that must come may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Drawn frames between two that must come.
const PART: usize = 50;

/// The pod's own namespace, its node's, and who is on the wire.
struct Wire {
    pod: NetNs,
    node: NetNs,
    /// The node's end of the pod's wire.
    link: String,
    ends: Ends,
}

/// One direction: who sends, who would receive.
struct Way {
    from: Port,
    to: Port,
    ends: Ends,
}

fn wire(up: &Meshed) -> Wire {
    let pods = up.pods("default", "app=evil").unwrap();
    let process = Process::of_pod(text(&pods[0], "/metadata/uid"), "/maille-steady").unwrap();
    let pod = NetNs::of_pid(process.pid()).unwrap();
    let machine = up.cluster().node(1);
    let node = NetNs::of_pid(machine.pid().unwrap()).unwrap();
    // `12: up0@if34: ...`
    let peer = agents::inside(&machine, "evil", "ip -o link show up0").unwrap();
    let (_, rest) = peer.split_once("@if").unwrap();
    let index: u32 = rest.split(':').next().unwrap().parse().unwrap();
    let links = inside(&node, async |net: Net| net.links().await).unwrap();
    let link = links.iter().find(|link| link.index == index).unwrap();
    let bridge = links.iter().find(|link| link.name == "cni0").unwrap();
    let (own, addresses, routes) = inside(&pod, async |net: Net| {
        let own = net.link("eth0").await?;
        Ok((
            own,
            net.addresses("eth0", Scope::Global).await?,
            net.routes("eth0").await?,
        ))
    })
    .unwrap();
    let v4 = |ip: IpAddr| {
        if let IpAddr::V4(ip) = ip {
            Some(ip)
        } else {
            None
        }
    };
    let v6 = |ip: IpAddr| {
        if let IpAddr::V6(ip) = ip {
            Some(ip)
        } else {
            None
        }
    };
    let gateways = || routes.iter().filter_map(|route| route.gateway);
    let ends = Ends {
        mac: own.mac.unwrap(),
        to_mac: bridge.mac.unwrap(),
        v4: addresses.iter().find_map(|net| v4(net.addr())).unwrap(),
        to_v4: gateways().find_map(v4).unwrap(),
        v6: addresses.iter().find_map(|net| v6(net.addr())).unwrap(),
        to_v6: gateways().find_map(v6).unwrap(),
    };
    Wire {
        pod,
        node,
        link: link.name.clone(),
        ends,
    }
}

// === impl Wire ===

impl Wire {
    fn out(&self) -> Way {
        Way {
            from: Port::open(&self.pod, "eth0").unwrap(),
            to: Port::open(&self.node, &self.link).unwrap(),
            ends: self.ends,
        }
    }

    fn back(&self) -> Way {
        let ends = self.ends;
        Way {
            from: Port::open(&self.node, &self.link).unwrap(),
            to: Port::open(&self.pod, "eth0").unwrap(),
            ends: Ends {
                mac: ends.to_mac,
                to_mac: ends.mac,
                v4: ends.to_v4,
                to_v4: ends.v4,
                v6: ends.to_v6,
                to_v6: ends.v6,
            },
        }
    }
}

// === impl Way ===

impl Way {
    /// Sends frames, then a datagram that passes: everything that arrived before that.
    fn pass(&self, frames: &[Vec<u8>], number: u32) -> Vec<Vec<u8>> {
        for frame in frames {
            // One that is too short or too long for the link goes nowhere.
            let _ = self.from.send(frame);
        }
        let sentinel = evil::sentinel(&self.ends, number);
        self.from.send(&sentinel.frames[0]).unwrap();
        let mut arrived = Vec::new();
        loop {
            let frame = self.to.receive(PATIENCE).unwrap();
            let frame = frame.unwrap_or_else(|| panic!("no sentinel {number}"));
            if contains(&frame, &sentinel.needle) {
                return arrived;
            }
            arrived.push(frame);
        }
    }

    /// Which of these arrive.
    fn arrived(&self, cases: &[Case]) -> Vec<String> {
        let mut seen = vec![false; cases.len()];
        for (number, case) in (0..).zip(cases.iter().map(Some).chain([None])) {
            let frames = case.map_or(&[][..], |case| &case.frames);
            for frame in self.pass(frames, number) {
                for (seen, case) in seen.iter_mut().zip(cases) {
                    *seen |= contains(&frame, &case.needle);
                }
            }
        }
        let arrived = cases.iter().zip(seen).filter(|(_, seen)| *seen);
        arrived.map(|(case, _)| case.name.clone()).collect()
    }

    /// Sends `count` drawn frames; those that arrive and are none that may, each with what is wrong.
    fn drawn(
        &self,
        count: usize,
        seed: u64,
        judge: &dyn Fn(&[u8]) -> Option<&'static str>,
    ) -> Vec<String> {
        let mut seeds: Vec<Vec<u8>> = Vec::new();
        for cases in [
            evil::tcp_in_disguise(&self.ends, 20),
            evil::lies_of_a_pod(&self.ends, 21),
            evil::honest(&self.ends, 22),
        ] {
            seeds.extend(cases.into_iter().flat_map(|case| case.frames));
        }
        let mut random = Random(seed);
        let mut wrong = Vec::new();
        for part in 0..count.div_ceil(PART) {
            let frames: Vec<_> = (0..PART).map(|_| random.changed(&seeds)).collect();
            for frame in self.pass(&frames, 1_000_000 + u32::try_from(part).unwrap()) {
                if let Some(why) = judge(&frame) {
                    wrong.push(format!("{why}: {frame:02x?}"));
                }
            }
        }
        wrong
    }
}

/// The same frames for the same seed (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap()
    }

    /// A frame of which some bytes are others, most of them where headers are; some are cut.
    fn changed(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut frame = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(3) {
            let headers = frame.len().min(64);
            let at = if self.below(4) == 0 {
                self.below(frame.len())
            } else {
                self.below(headers)
            };
            frame[at] = match self.below(3) {
                0 => frame[at] ^ (1 << self.below(8)),
                1 => [0, 1, 6, 17, 44, 58, 255][self.below(7)],
                _ => self.next().to_be_bytes()[0],
            };
        }
        if self.below(16) == 0 {
            frame.truncate(14 + self.below(frame.len() - 14));
        }
        frame
    }
}

fn word(frame: &[u8], at: usize) -> u16 {
    frame
        .get(at..at + 2)
        .map_or(0, |two| u16::from_be_bytes([two[0], two[1]]))
}

/// What is wrong with a frame that left the pod, by its own reading of it.
fn left(ends: &Ends, frame: &[u8]) -> Option<&'static str> {
    let (v4, v6) = (ends.v4.octets(), ends.v6.octets());
    let [a, b, c, d, e, f] = ends.mac;
    let local = [
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ 2,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ];
    let is = |at: usize, bytes: &[u8]| frame.get(at..at + bytes.len()) == Some(bytes);
    if !is(6, &ends.mac) {
        return Some("another sender's hardware address");
    }
    match word(frame, 12) {
        0x0806 if !is(22, &ends.mac) => Some("ARP with another hardware address"),
        0x0806 if !is(28, &v4) && !is(28, &[0; 4]) => Some("ARP with another address"),
        0x0800 if !is(26, &v4) => Some("IPv4 from another address"),
        0x0800 if is(23, &[6]) => Some("TCP over IPv4"),
        0x86dd if !is(22, &v6) && !is(22, &local) && !is(22, &[0; 16]) => {
            Some("IPv6 from another address")
        }
        0x86dd if is(20, &[58]) && is(54, &[136]) && !is(62, &v6) && !is(62, &local) => {
            Some("an advertisement of another address")
        }
        0x0806 | 0x0800 => None,
        0x86dd => carried(frame),
        _ => Some("another protocol"),
    }
}

/// The same of one that reached the pod.
fn reached(_: &Ends, frame: &[u8]) -> Option<&'static str> {
    match word(frame, 12) {
        0x0800 if frame.get(23) == Some(&6) => Some("TCP over IPv4"),
        0x0806 | 0x0800 => None,
        0x86dd => carried(frame),
        _ => Some("another protocol"),
    }
}

/// TCP anywhere behind an IPv6 header.
fn carried(frame: &[u8]) -> Option<&'static str> {
    let (mut next, mut at) = (frame.get(20).copied()?, 54);
    loop {
        let length = |unit: usize| Some(unit * (usize::from(*frame.get(at + 1)?) + 1));
        at += match next {
            6 => return Some("TCP over IPv6"),
            0 | 43 | 60 => length(8)?,
            44 => 8,
            _ => return None,
        };
        let before = at.checked_sub(8)?;
        next = match next {
            44 => frame.get(before).copied()?,
            // The first byte of the header that was passed over says what follows; only short ones are looked into.
            _ if frame.get(before).is_some() => frame.get(before).copied()?,
            _ => return None,
        };
    }
}

/// How many frames are drawn in each direction.
fn count() -> usize {
    let said = std::env::var_os("MAILLE_TEST_EXCHANGES");
    said.and_then(|text| text.to_str()?.parse().ok())
        .unwrap_or(5_000)
}

fn names(cases: &[Case]) -> Vec<String> {
    cases.iter().map(|case| case.name.clone()).collect()
}

#[test]
fn nothing_passes_a_captured_pods_proxy_and_with_other_rules_everything_does() {
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let up = agents::start(program, scratch, Begin::With).unwrap();
    up.until("a namespace's account", || {
        let mut pod = agents::pod("evil", "default", "node1", &["serve", "0"]);
        pod["spec"]["containers"][0]["securityContext"] =
            serde_json::json!({"capabilities": {"add": ["NET_RAW"]}});
        up.cluster().apply(&pod.to_string())
    })
    .unwrap();
    up.settled("default", "app=evil", 1).unwrap();
    let wire = wire(&up);
    stay_on_one_cpu();
    let none: [String; 0] = [];
    let (disguised, lies) = (
        evil::tcp_in_disguise(&wire.ends, 1),
        evil::lies_of_a_pod(&wire.ends, 2),
    );
    let kinds = disguised.len() + lies.len();
    assert!(kinds >= 40, "{kinds}");
    let out = wire.out();
    assert_eq!(out.arrived(&disguised), none, "left the pod");
    assert_eq!(out.arrived(&lies), none, "left the pod");
    let honest = evil::honest(&wire.ends, 3);
    assert_eq!(out.arrived(&honest), names(&honest), "what may leave");
    let wrong = out.drawn(count(), 1, &|frame| left(&wire.ends, frame));
    assert_eq!(wrong, none, "left the pod");
    // What the pod began and never finished is answered for a minute: those answers are its own.
    up.until("the end of what the pod began", || {
        let none = "test -z \"$(ss -Htn state syn-recv)\"";
        agents::inside(&up.cluster().node(1), "evil", none)
    })
    .unwrap();
    let back = wire.back();
    let disguised = evil::tcp_in_disguise(&back.ends, 4);
    assert_eq!(back.arrived(&disguised), none, "reached the pod");
    let wrong = back.drawn(count(), 2, &|frame| reached(&wire.ends, frame));
    assert_eq!(wrong, none, "reached the pod");
    eprintln!(
        "{kinds} kinds out, {} back, {} drawn ones each way",
        disguised.len(),
        count()
    );

    // The opposite, while nobody mends it.
    let agent = agents::process(&up, "node1").unwrap();
    agent.signal(Signal::SIGSTOP).unwrap();
    let open = "nft -f - <<E\nflush ruleset\ntable netdev open {\n\
        chain a {\n type filter hook ingress device \"up0\" priority 0; policy drop;\n fwd to \"dn0\"\n }\n\
        chain b {\n type filter hook ingress device \"dn0\" priority 0; policy drop;\n fwd to \"up0\"\n }\n}\nE\n";
    agents::inside(&up.cluster().node(1), "evil", open).unwrap();
    let out = wire.out();
    for cases in [
        evil::tcp_in_disguise(&wire.ends, 5),
        evil::lies_of_a_pod(&wire.ends, 6),
    ] {
        assert_eq!(out.arrived(&cases), names(&cases), "these are not seen");
    }
    let wrong = out.drawn(1_000, 1, &|frame| left(&wire.ends, frame));
    assert!(
        wrong.len() > 100,
        "{} of 1,000 drawn ones are wrong",
        wrong.len()
    );
    agent.signal(Signal::SIGCONT).unwrap();
    up.until("rules", || {
        agents::inside(
            &up.cluster().node(1),
            "evil",
            "nft list ruleset | grep -q tproxy",
        )
    })
    .unwrap();
    assert_eq!(
        wire.out().arrived(&evil::lies_of_a_pod(&wire.ends, 7)),
        none,
        "left the pod again"
    );
}
