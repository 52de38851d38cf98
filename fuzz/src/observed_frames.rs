// SPDX-License-Identifier: Apache-2.0
//! The observer: any frames are followed, and no more bytes are found than there were.
#![no_main]

use libfuzzer_sys::fuzz_target;
use maille_observer::fuzzing::{Sighting, observe};

fuzz_target!(|input: &[u8]| {
    let mut sightings = Vec::new();
    let mut rest = input;
    // Frames by the interface, the seconds since the last one, and a length.
    while let [place, seconds, high, low, more @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (frame, more) = more.split_at(length.min(more.len()));
        rest = more;
        sightings.push(Sighting {
            interface: u32::from(place % 4),
            seconds: u64::from(*seconds),
            frame,
        });
    }
    let found = observe(&sightings, b"marker");
    let there: usize = sightings.iter().map(|sighting| sighting.frame.len()).sum();
    assert!(found.tls + found.plain <= there as u64);
    assert!(found.markers <= there as u64);
    assert!(found.streams <= 2 * sightings.len() as u64);
});
