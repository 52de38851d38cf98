// SPDX-License-Identifier: Apache-2.0
//! A ring between real namespaces, and what it makes of a block that lies. These run as root, or inside a user namespace.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

use super::*;
use crate::link;

const SIZE: RingSize = RingSize {
    block: 1 << 20,
    blocks: 8,
};

/// Two namespaces and a pair between them: 192.0.2.1 in the first, 192.0.2.2 in the second.
fn pair(a: &NetNs, b: &NetNs) {
    link::inside(a, async |net| {
        net.add_veth("left", "right", b, 1500).await?;
        net.add_address("left", "192.0.2.1/24".parse().unwrap())
            .await?;
        net.up("left").await
    })
    .unwrap();
    link::inside(b, async |net| {
        net.add_address("right", "192.0.2.2/24".parse().unwrap())
            .await?;
        net.up("right").await
    })
    .unwrap();
}

/// Sends `bytes` from `a` to `b` and waits until all have come.
fn send(a: &NetNs, b: &NetNs, bytes: usize) {
    let listener = b
        .run(|| TcpListener::bind("192.0.2.2:7000").unwrap())
        .unwrap();
    let reader = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all.len()
    });
    a.run(|| {
        let mut stream = TcpStream::connect("192.0.2.2:7000").unwrap();
        stream.write_all(&vec![b'x'; bytes]).unwrap();
    })
    .unwrap();
    assert_eq!(reader.join().unwrap(), bytes);
}

#[test]
fn a_later_interface_is_seen_in_both_directions_and_whole() {
    let (a, b) = (NetNs::create().unwrap(), NetNs::create().unwrap());
    let mut ring = Ring::open(&a, SIZE).unwrap();
    pair(&a, &b);
    send(&a, &b, 1_000_000);
    let (mut ins, mut payload, mut largest) = (0, 0, 0);
    while ring
        .read(Duration::from_millis(200), |frame| {
            assert_eq!(frame.bytes.len(), frame.wire_len);
            assert!(frame.interface > 1 && frame.at > Duration::ZERO);
            if frame.direction == Direction::In {
                ins += 1;
            } else {
                payload += frame.bytes.iter().filter(|&&byte| byte == b'x').count();
                largest = largest.max(frame.wire_len);
            }
        })
        .unwrap()
        > 0
    {}
    assert!(ins > 0, "nothing came in");
    assert!(payload >= 1_000_000, "only {payload} bytes went out");
    assert!(largest > 1514, "no frame was above the MTU: {largest}");
    assert_eq!(ring.dropped().unwrap(), 0);
}

#[test]
fn what_does_not_fit_is_counted() {
    let (a, b) = (NetNs::create().unwrap(), NetNs::create().unwrap());
    let size = RingSize {
        block: 1 << 17,
        blocks: 2,
    };
    let mut ring = Ring::open(&a, size).unwrap();
    pair(&a, &b);
    send(&a, &b, 2_000_000);
    let dropped = ring.dropped().unwrap();
    assert!(dropped > 0);
    assert!(
        ring.dropped().unwrap() >= dropped,
        "the count began again at zero"
    );
}

#[test]
fn impossible_sizes_are_refused() {
    let namespace = NetNs::create().unwrap();
    for (block, blocks) in [(0, 1), (1 << 20, 0), (5000, 1), (1 << 31, u32::MAX)] {
        assert!(Ring::open(&namespace, RingSize { block, blocks }).is_err());
    }
}

#[test]
fn a_block_that_lies_is_not_believed() {
    let mut block = vec![0xff; 4096];
    assert_eq!(each_frame(&block, &mut |_| ()), 0);
    block.truncate(3);
    assert_eq!(each_frame(&block, &mut |_| ()), 0);
}
