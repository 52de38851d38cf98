// SPDX-License-Identifier: Apache-2.0
//! The cluster's DNS: any message gets no answer, or one that belongs to it, can be read, and fits its transport.
#![no_main]

use hickory_proto::op::{Message, MessageType};
use libfuzzer_sys::fuzz_target;
use maille_node::fuzzing::{dns_over_tcp, dns_over_udp};

fuzz_target!(|input: &[u8]| {
    let Some((transport, question)) = input.split_first() else {
        return;
    };
    match transport % 2 {
        0 => ask(question, dns_over_udp, 1232),
        _ => ask(question, dns_over_tcp, usize::from(u16::MAX)),
    }
});

fn ask(question: &[u8], dns: fn(&[u8]) -> Option<Vec<u8>>, largest: usize) {
    let Some(answer) = dns(question) else {
        return;
    };
    assert!(answer.len() <= largest);
    assert_eq!(answer[..2], question[..2], "the id");
    let read = Message::from_vec(&answer).expect("our own messages can be read");
    assert_eq!(read.metadata.message_type, MessageType::Response);
    // Nobody is answered who has only answered: two servers would go on for ever.
    assert_eq!(dns(&answer), None);
}
