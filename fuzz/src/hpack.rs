// SPDX-License-Identifier: Apache-2.0
//! HPACK: any blocks are decoded within their bounds; what was decoded and is encoded again is decoded alike.
#![no_main]

use libfuzzer_sys::fuzz_target;
use maille_engine::hpack::{Decoder, Encoder, INITIAL_TABLE, Limits, List, OVERHEAD, Outcome};

const LIMITS: Limits = Limits {
    size: 4096,
    fields: 40,
};

fuzz_target!(|input: &[u8]| {
    let mut decoder = Decoder::new(8192, LIMITS);
    let mut encoder = Encoder::new(INITIAL_TABLE);
    let mut second = Decoder::new(8192, LIMITS);
    let (mut list, mut again) = (List::default(), List::default());
    let mut rest = input;
    // Blocks by a length and a table size.
    while let [length, size, more @ ..] = rest {
        let (block, more) = more.split_at(more.len().min(usize::from(*length)));
        rest = more;
        let Ok(outcome) = decoder.decode(block, &mut list) else {
            return;
        };
        let size_of = |(name, value): (&[u8], &[u8])| name.len() + value.len() + OVERHEAD;
        assert!(list.iter().map(size_of).sum::<usize>() <= LIMITS.size);
        assert!(list.len() <= LIMITS.fields);
        if outcome == Outcome::TooLarge {
            continue;
        }
        if size % 4 == 0 {
            encoder.set_table(usize::from(*size) * 32);
        }
        let mut out = Vec::new();
        for (name, value) in list.iter() {
            encoder.encode(name, value, &mut out);
        }
        if size % 7 == 0 {
            encoder.forget();
            out.clear();
            for (name, value) in list.iter() {
                encoder.encode(name, value, &mut out);
            }
        }
        assert_eq!(second.decode(&out, &mut again), Ok(Outcome::Complete));
        assert_eq!(list, again);
    }
});
