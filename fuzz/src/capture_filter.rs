// SPDX-License-Identifier: Apache-2.0
//! `maille capture`: any text is a filter or none, any frame is taken or not, and what `not` says is the opposite.
#![no_main]

use libfuzzer_sys::fuzz_target;
use maille_node::fuzzing::filter_takes;

fuzz_target!(|input: &[u8]| {
    // A filter, NUL, a frame.
    let at = input.iter().position(|byte| *byte == 0);
    let (filter, frame) = input.split_at(at.unwrap_or(input.len()));
    let Ok(filter) = str::from_utf8(filter) else {
        return;
    };
    let frame = frame.get(1..).unwrap_or_default();
    let takes = filter_takes(filter, frame);
    if !filter.trim().is_empty() && let Some(takes) = takes {
        // A filter near the bound of words or depth has no room for more.
        let opposite = filter_takes(&format!("not ( {filter} )"), frame);
        assert!(opposite.is_none_or(|opposite| opposite != takes));
    }
    filter_takes("src host 10.0.0.1 or portrange 1-2 or icmp", frame);
});
