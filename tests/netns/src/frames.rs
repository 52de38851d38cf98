// SPDX-License-Identifier: Apache-2.0
//! Frames, byte by byte, right unless asked to be wrong. Offsets and numbers are those of the RFCs named.

use std::net::{Ipv4Addr, Ipv6Addr};

use maille_sys::link::Mac;

/// Who sends and who should get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Sender.
    pub mac: Mac,
    /// Next hop.
    pub to_mac: Mac,
    /// Sender.
    pub v4: Ipv4Addr,
    /// Receiver.
    pub to_v4: Ipv4Addr,
    /// Sender.
    pub v6: Ipv6Addr,
    /// Receiver.
    pub to_v6: Ipv6Addr,
}

/// TCP flags (RFC 9293 3.1).
pub const FIN: u8 = 1;
/// SYN.
pub const SYN: u8 = 2;
/// RST.
pub const RST: u8 = 4;
/// PSH.
pub const PSH: u8 = 8;
/// ACK.
pub const ACK: u8 = 16;
/// URG.
pub const URG: u8 = 32;

/// Protocol numbers.
pub const ICMP: u8 = 1;
/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;
/// ICMPv6.
pub const ICMP6: u8 = 58;

/// An Ethernet frame.
pub fn ether(ends: &Ends, kind: u16, payload: &[u8]) -> Vec<u8> {
    [&ends.to_mac[..], &ends.mac, &kind.to_be_bytes(), payload].concat()
}

/// An IPv4 packet (RFC 791). `options` is a multiple of four bytes; `fragment` is flags and offset as on the wire.
pub fn ip4(ends: &Ends, protocol: u8, options: &[u8], fragment: u16, payload: &[u8]) -> Vec<u8> {
    let header = 20 + options.len();
    let mut packet = vec![0x40 | u8::try_from(header / 4).unwrap(), 0];
    packet.extend(u16::try_from(header + payload.len()).unwrap().to_be_bytes());
    packet.extend([0x12, 0x34]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(ends.v4.octets());
    packet.extend(ends.to_v4.octets());
    packet.extend(options);
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum);
    packet.extend(payload);
    packet
}

/// An IPv6 packet (RFC 8200).
pub fn ip6(ends: &Ends, next: u8, hops: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    packet.extend([next, hops]);
    packet.extend(ends.v6.octets());
    packet.extend(ends.to_v6.octets());
    packet.extend(payload);
    packet
}

/// A TCP segment (RFC 9293) for IPv4 (`pseudo4`) or IPv6 (`pseudo6`).
pub fn tcp(pseudo: &[u8], ports: (u16, u16), flags: u8, data: &[u8]) -> Vec<u8> {
    let mut segment = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    segment.extend(1_000_000_u32.to_be_bytes());
    segment.extend(if flags & ACK != 0 { 77_u32 } else { 0 }.to_be_bytes());
    segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(data);
    seal(pseudo, TCP, &mut segment, 16);
    segment
}

/// A UDP datagram (RFC 768).
pub fn udp(pseudo: &[u8], ports: (u16, u16), data: &[u8]) -> Vec<u8> {
    let mut datagram = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    datagram.extend(u16::try_from(8 + data.len()).unwrap().to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(data);
    seal(pseudo, UDP, &mut datagram, 6);
    datagram
}

/// An ICMP message (RFC 792).
pub fn icmp(kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0][..], rest].concat();
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum);
    message
}

/// An ICMPv6 message (RFC 4443).
pub fn icmp6(pseudo: &[u8], kind: u8, rest: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, 0, 0, 0][..], rest].concat();
    seal(pseudo, ICMP6, &mut message, 2);
    message
}

/// An ARP packet (RFC 826).
pub fn arp(operation: u16, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4];
    packet.extend(operation.to_be_bytes());
    for (mac, ip) in [sender, target] {
        packet.extend(mac);
        packet.extend(ip.octets());
    }
    packet
}

/// The addresses that a checksum covers.
pub fn pseudo4(ends: &Ends) -> Vec<u8> {
    [ends.v4.octets(), ends.to_v4.octets()].concat()
}

/// The addresses that a checksum covers.
pub fn pseudo6(ends: &Ends) -> Vec<u8> {
    [ends.v6.octets(), ends.to_v6.octets()].concat()
}

/// An IPv6 fragment header (RFC 8200 4.5); `offset` in bytes.
pub fn fragment6(next: u8, offset: u16, more: bool) -> Vec<u8> {
    let place = offset | u16::from(more);
    [&[next, 0][..], &place.to_be_bytes(), &[0, 0, 0x56, 0x78]].concat()
}

/// The Ethernet address of an IPv4 or IPv6 multicast group.
pub fn group_mac(group: std::net::IpAddr) -> Mac {
    match group {
        std::net::IpAddr::V4(ip) => {
            let [_, b, c, d] = ip.octets();
            [1, 0, 0x5e, b & 0x7f, c, d]
        }
        std::net::IpAddr::V6(ip) => {
            let octets = ip.octets();
            [0x33, 0x33, octets[12], octets[13], octets[14], octets[15]]
        }
    }
}

fn seal(pseudo: &[u8], protocol: u8, message: &mut [u8], at: usize) {
    let length = u32::try_from(message.len()).unwrap();
    let covered = [pseudo, &length.to_be_bytes(), &[0, 0, 0, protocol], message].concat();
    let sum = checksum(&covered);
    message[at..at + 2].copy_from_slice(&sum);
}

/// The Internet checksum (RFC 1071).
pub fn checksum(bytes: &[u8]) -> [u8; 2] {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap()).to_be_bytes()
}
