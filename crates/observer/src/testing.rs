// SPDX-License-Identifier: Apache-2.0
//! Frames and TLS records made by hand.

use std::net::SocketAddr;

pub(crate) const SYN: u8 = 2;
pub(crate) const FIN: u8 = 1;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// A segment to be put into a frame.
#[derive(Clone, Debug)]
pub(crate) struct Tcp<'a> {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) sequence: u32,
    pub(crate) flags: u8,
    pub(crate) payload: &'a [u8],
}

impl Tcp<'_> {
    /// A TCP header with twelve bytes of options, and the payload.
    pub(crate) fn segment(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.from.port().to_be_bytes());
        bytes.extend(self.to.port().to_be_bytes());
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend([0, 0, 0, 0, 8 << 4, self.flags, 1, 0, 0, 0, 0, 0]);
        bytes.extend([1; 12]);
        bytes.extend(self.payload);
        bytes
    }

    /// The whole frame.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let segment = self.segment();
        match (self.from, self.to) {
            (SocketAddr::V4(_), _) => ethernet(0x0800, &self.ipv4(0, &segment)),
            (SocketAddr::V6(_), _) => ethernet(0x86dd, &self.ipv6(6, &segment)),
        }
    }

    /// An IPv4 packet with four bytes of options.
    pub(crate) fn ipv4(&self, fragment: u16, body: &[u8]) -> Vec<u8> {
        let (SocketAddr::V4(from), SocketAddr::V4(to)) = (self.from, self.to) else {
            panic!("not IPv4");
        };
        let mut packet = vec![0x46, 0];
        packet.extend(u16::try_from(24 + body.len()).unwrap().to_be_bytes());
        packet.extend([0, 0]);
        packet.extend(fragment.to_be_bytes());
        packet.extend([64, 6, 0, 0]);
        packet.extend(from.ip().octets());
        packet.extend(to.ip().octets());
        packet.extend([1, 1, 1, 1]);
        packet.extend(body);
        packet
    }

    pub(crate) fn ipv6(&self, next: u8, body: &[u8]) -> Vec<u8> {
        let (SocketAddr::V6(from), SocketAddr::V6(to)) = (self.from, self.to) else {
            panic!("not IPv6");
        };
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        packet.extend([next, 64]);
        packet.extend(from.ip().octets());
        packet.extend(to.ip().octets());
        packet.extend(body);
        packet
    }
}

pub(crate) fn ethernet(kind: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend(kind.to_be_bytes());
    frame.extend(packet);
    frame
}

pub(crate) fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut record = vec![kind, 3, 3];
    record.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    record.extend(body);
    record
}

pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind], &length[1..], body].concat()
}

pub(crate) fn client_hello() -> Vec<u8> {
    record(22, &message(1, &[9; 300]))
}

/// A ServerHello with this random and these extensions.
pub(crate) fn server_hello_of(random: [u8; 32], extensions: &[u8]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend(random);
    body.extend([2, 5, 5, 0x13, 0x01, 0]);
    body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend(extensions);
    record(22, &message(2, &body))
}

/// One that chooses TLS 1.3.
pub(crate) fn server_hello() -> Vec<u8> {
    server_hello_of([7; 32], &[0, 51, 0, 2, 9, 9, 0, 43, 0, 2, 3, 4])
}

/// What a client sends on a TLS 1.3 connection.
pub(crate) fn client_stream(content: &[u8]) -> Vec<u8> {
    [client_hello(), record(20, &[1]), record(23, content)].concat()
}

/// What a server sends on one.
pub(crate) fn server_stream(content: &[u8]) -> Vec<u8> {
    [server_hello(), record(20, &[1]), record(23, content)].concat()
}
