// SPDX-License-Identifier: Apache-2.0
//! A captured pod's wire: who sends frames on it, from the pod's namespace or from inside the pod, and who sees what arrives.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail, ensure};
use maille_cluster::agents;
use maille_cluster::meshed::{Meshed, text};
use maille_cluster::pairs::addresses;
use maille_cluster::processes::Process;
use maille_sys::link::{Net, Scope, inside};
use maille_sys::netns::NetNs;
use maille_sys::nft;
use maille_sys::packet::Port;
use maille_tests_netns::evil::{self, Case, contains};
use maille_tests_netns::frames::Ends;

use crate::judge::Random;

/// How long a frame that must come may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Who does not answer for so long is told again,
const AGAIN: Duration = Duration::from_secs(1);
/// so often: lies about the node's own address, where they pass, reach other pods too, whose answers go astray until they look for it anew.
const TRIES: usize = 30;
/// Where proxies take what others send.
const MESH: u16 = 15008;
/// Drawn frames between two that must come.
const PART: usize = 50;
/// Where a pod is told of frames (`maille-frames`).
pub(crate) const TOLD: u16 = 4999;

/// The pod's own namespace, its node's, and who is on the wire.
pub(crate) struct Wire {
    pod: NetNs,
    node: NetNs,
    /// The node's end of the pod's wire.
    link: String,
    pub(crate) ends: Ends,
}

/// One direction: who sends, who would receive.
pub(crate) struct Way {
    from: Sender,
    to: Port,
    ends: Ends,
}

/// Who sends.
pub(crate) enum Sender {
    /// Whoever looks at an interface.
    Port(Port),
    /// A program in the pod.
    Guest(Guest),
}

/// A program in a pod that sends what it is told of.
pub(crate) struct Guest {
    socket: UdpSocket,
    number: std::cell::Cell<u32>,
}

// === impl Guest ===

impl Guest {
    /// Has a frame sent; returns when it was.
    fn send(&self, frame: &[u8]) -> anyhow::Result<()> {
        let number = self.number.replace(self.number.get() + 1).to_be_bytes();
        let told = [&number[..], frame].concat();
        let mut tries = 0..TRIES;
        let answer = loop {
            tries.next().context("the guest does not answer")?;
            self.socket.send(&told)?;
            if let Some(answer) = self.answer(number)? {
                break answer;
            }
        };
        match i32::from_be_bytes([answer[4], answer[5], answer[6], answer[7]]) {
            0 => Ok(()),
            error => bail!(std::io::Error::from_raw_os_error(error)),
        }
    }

    /// What it says to this number, if it says it soon.
    fn answer(&self, number: [u8; 4]) -> anyhow::Result<Option<[u8; 8]>> {
        let mut answer = [0; 8];
        loop {
            match self.socket.recv(&mut answer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                length => ensure!(length? == 8, "{answer:?}"),
            }
            // One that came too late is an earlier one's.
            if answer[..4] == number {
                return Ok(Some(answer));
            }
        }
    }
}

// === impl Sender ===

impl Sender {
    fn send(&self, frame: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::Port(port) => Ok(port.send(frame)?),
            Self::Guest(guest) => guest.send(frame),
        }
    }
}

// === impl Wire ===

impl Wire {
    /// That of the pod `name`, which is `process`, on node 1.
    pub(crate) fn of(up: &Meshed, name: &str, process: &str) -> Self {
        let pods = up.pods("default", &format!("app={name}")).unwrap();
        let process = Process::of_pod(text(&pods[0], "/metadata/uid"), process).unwrap();
        let pod = NetNs::of_pid(process.pid()).unwrap();
        let machine = up.cluster().node(1);
        let node = NetNs::of_pid(machine.pid().unwrap()).unwrap();
        // `12: up0@if34: ...`
        let peer = agents::inside(&machine, name, "ip -o link show up0").unwrap();
        let (_, rest) = peer.split_once("@if").unwrap();
        let index: u32 = rest.split(':').next().unwrap().parse().unwrap();
        let (links, gateways) = inside(&node, async |net: Net| {
            Ok((
                net.links().await?,
                net.addresses("cni0", Scope::Global).await?,
            ))
        })
        .unwrap();
        let link = links.iter().find(|link| link.index == index).unwrap();
        let bridge = links.iter().find(|link| link.name == "cni0").unwrap();
        // gVisor takes the addresses away from there.
        let own = inside(&pod, async |net: Net| net.link("eth0").await).unwrap();
        let addresses: Vec<IpAddr> = addresses(&pods[0])
            .iter()
            .map(|one| one.parse().unwrap())
            .collect();
        let gateways: Vec<IpAddr> = gateways.iter().map(|net| net.addr()).collect();
        let ends = Ends {
            mac: own.mac.unwrap(),
            to_mac: bridge.mac.unwrap(),
            v4: addresses.iter().find_map(v4).unwrap(),
            to_v4: gateways.iter().find_map(v4).unwrap(),
            v6: addresses.iter().find_map(v6).unwrap(),
            to_v6: gateways.iter().find_map(v6).unwrap(),
        };
        Self {
            pod,
            node,
            link: link.name.clone(),
            ends,
        }
    }

    /// Out of the pod, sent in its namespace.
    pub(crate) fn out(&self) -> Way {
        self.out_from(Sender::Port(Port::open(&self.pod, "eth0").unwrap()))
    }

    /// Whether the pod's own kernel hears what is said to it by TCP; one that does not never ends what was begun in its name.
    pub(crate) fn hears(&self, hears: bool) {
        let mut rules = "table netdev deaf {\n}\ndelete table netdev deaf\n".to_owned();
        if !hears {
            rules.push_str(
                "table netdev deaf {\n chain heard {\n type filter hook ingress device \"eth0\" priority 0; policy accept;\n meta l4proto tcp drop\n }\n}\n",
            );
        }
        nft::apply(&self.pod, &rules).unwrap();
    }

    /// How long until a program in the pod has a connection to this address, or `None` if it has none in time.
    pub(crate) fn connects(&self, to: SocketAddr) -> Option<Duration> {
        let begin = SystemTime::now();
        let connected = self.pod.run(|| TcpStream::connect_timeout(&to, PATIENCE));
        connected.unwrap().ok()?;
        Some(begin.elapsed().unwrap())
    }

    /// How long until the proxy of the pod at `ip` has answered its node in TLS.
    pub(crate) fn answered(&self, ip: IpAddr) -> Duration {
        let work = async {
            let begin = SystemTime::now();
            let stream = tokio::net::TcpStream::connect((ip, MESH)).await.unwrap();
            maille_identity::anyone::dial(stream, ip).await.unwrap();
            begin.elapsed().unwrap()
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let limited = async { tokio::time::timeout(PATIENCE, work).await };
        self.node
            .run(|| runtime.block_on(limited))
            .unwrap()
            .unwrap()
    }

    /// The same, sent by a program in the pod, which is waited for.
    pub(crate) fn out_of_guest(&self, up: &Meshed) -> Way {
        let (here, there) = (self.ends.to_v4, SocketAddr::from((self.ends.v4, TOLD)));
        // Whatever the pod says about it later.
        let mac = self.ends.mac.map(|byte| format!("{byte:02x}")).join(":");
        let known = format!(
            "ip neigh replace {} lladdr {mac} dev cni0 nud permanent",
            self.ends.v4
        );
        agents::shell(&up.cluster().node(1), &known).unwrap();
        let socket = self.node.run(|| UdpSocket::bind((here, 0)));
        let socket = socket.unwrap().unwrap();
        socket.set_read_timeout(Some(AGAIN)).unwrap();
        socket.connect(there).unwrap();
        let guest = Guest {
            socket,
            number: 1.into(),
        };
        let honest = evil::sentinel(&self.ends, 0);
        up.until("the program in the pod", || guest.send(&honest.frames[0]))
            .unwrap();
        self.out_from(Sender::Guest(guest))
    }

    fn out_from(&self, from: Sender) -> Way {
        Way {
            from,
            to: Port::open(&self.node, &self.link).unwrap(),
            ends: self.ends,
        }
    }

    /// To the pod.
    pub(crate) fn back(&self) -> Way {
        let ends = self.ends;
        Way {
            from: Sender::Port(Port::open(&self.node, &self.link).unwrap()),
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

fn v4(ip: &IpAddr) -> Option<Ipv4Addr> {
    if let IpAddr::V4(ip) = ip {
        Some(*ip)
    } else {
        None
    }
}

fn v6(ip: &IpAddr) -> Option<Ipv6Addr> {
    if let IpAddr::V6(ip) = ip {
        Some(*ip)
    } else {
        None
    }
}

// === impl Way ===

impl Way {
    /// Who is where, seen from who sends.
    pub(crate) fn ends(&self) -> &Ends {
        &self.ends
    }

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

    /// Sends this, whatever comes of it.
    pub(crate) fn flood(&self, frames: impl Iterator<Item = Vec<u8>>) {
        for frame in frames {
            self.from.send(&frame).unwrap();
        }
    }

    /// Which of these arrive.
    pub(crate) fn arrived(&self, cases: &[Case]) -> Vec<String> {
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
    pub(crate) fn drawn(
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
