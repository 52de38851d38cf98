// SPDX-License-Identifier: Apache-2.0
//! Frames sent on one side are seen on the other, with their facts. These run as root, or inside a user namespace.

use super::*;
use crate::link::inside;

const SIZE: RingSize = RingSize {
    block: 1 << 17,
    blocks: 8,
};
const PATIENCE: Duration = Duration::from_secs(5);

fn pair() -> (NetNs, NetNs) {
    let (a, b) = (NetNs::create().unwrap(), NetNs::create().unwrap());
    for namespace in [&a, &b] {
        namespace
            .sysctl("net/ipv6/conf/default/disable_ipv6", "1")
            .unwrap();
    }
    inside(&a, async |net| {
        net.add_veth("x", "y", &b, 1500).await?;
        net.up("x").await
    })
    .unwrap();
    inside(&b, async |net| net.up("y").await).unwrap();
    // What is sent before is lost without a word.
    for (namespace, end) in [(&a, "x"), (&b, "y")] {
        inside(namespace, async |net| net.ready(end, PATIENCE).await).unwrap();
    }
    (a, b)
}

fn frame(number: u32, length: usize) -> Vec<u8> {
    let mut frame = vec![0xff; 12];
    frame.extend([0x88, 0xb5]);
    frame.extend(number.to_be_bytes());
    frame.resize(length, 7);
    frame
}

#[test]
fn a_ring_sees_every_frame_in_order_and_knows_its_way() {
    let (a, b) = pair();
    let mut ring = Ring::open(&b, SIZE).unwrap();
    let (sender, answer) = (Port::open(&a, "x").unwrap(), Port::open(&b, "y").unwrap());
    const FRAMES: u32 = 5000;
    let mut seen = Vec::new();
    let mut out = 0;
    let mut read = |seen: &mut Vec<u32>| {
        let mut tell = |frame: Frame<'_>| match frame.direction {
            Direction::In => {
                assert_eq!(
                    (frame.wire_len, frame.bytes.len(), frame.vlan),
                    (200, 200, None)
                );
                seen.push(u32::from_be_bytes(frame.bytes[14..18].try_into().unwrap()));
            }
            Direction::Out => out += 1,
        };
        ring.read(PATIENCE, &mut tell).unwrap()
    };
    for number in 0..FRAMES {
        sender.send(&frame(number, 200)).unwrap();
        if number % 1000 == 0 {
            answer.send(&frame(number, 100)).unwrap();
            while read(&mut seen) > 0 && seen.last() != Some(&number) {}
        }
    }
    while seen.len() < FRAMES as usize {
        assert!(read(&mut seen) > 0, "{} of {FRAMES}", seen.len());
    }
    assert_eq!(seen, (0..FRAMES).collect::<Vec<_>>());
    assert_eq!(out, 5);
    assert_eq!(ring.dropped().unwrap(), 0);
}

#[test]
fn tags_that_the_kernel_took_out_are_told() {
    let (a, b) = pair();
    let mut ring = Ring::open(&b, SIZE).unwrap();
    let mut tagged = frame(1, 100);
    tagged.splice(12..12, [0x81, 0x00, 0x00, 0x05]);
    Port::open(&a, "x").unwrap().send(&tagged).unwrap();
    let mut vlan = None;
    ring.read(PATIENCE, |frame| vlan = frame.vlan).unwrap();
    assert_eq!(vlan, Some(5));
}

#[test]
fn a_port_receives_what_another_sends() {
    let (a, b) = pair();
    let (x, y) = (Port::open(&a, "x").unwrap(), Port::open(&b, "y").unwrap());
    x.send(&frame(7, 60)).unwrap();
    assert_eq!(y.receive(PATIENCE).unwrap(), Some(frame(7, 60)));
    assert_eq!(x.receive(Duration::ZERO).unwrap(), None);
}
