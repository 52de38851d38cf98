// SPDX-License-Identifier: Apache-2.0
//! Bodies: pieces end where the whole ends, and nothing behind the end is taken.
#![no_main]

use libfuzzer_sys::fuzz_target;
use maille_engine::http1::{Body, Framing, Malformed};

fuzz_target!(|input: &[u8]| {
    let [kind, piece, bytes @ ..] = input else {
        return;
    };
    let framing = match kind % 4 {
        0 | 1 => Framing::Chunked,
        2 => Framing::Length(u64::from(*kind)),
        _ => Framing::UntilClose,
    };
    let whole = follow(framing, bytes, usize::MAX);
    let parts = follow(framing, bytes, usize::from(*piece) + 1);
    assert_eq!(whole, parts);
    if let Ok((taken, true)) = whole {
        // The end is the first possible end.
        if taken > 0 {
            assert!(matches!(follow(framing, &bytes[..taken - 1], 7), Ok((_, false))));
        }
        assert_eq!(follow(framing, &bytes[..taken], 3), Ok((taken, true)));
    }
});

fn follow(framing: Framing, bytes: &[u8], piece: usize) -> Result<(usize, bool), Malformed> {
    let mut body = Body::new(framing);
    let mut taken = 0;
    for piece in bytes.chunks(piece) {
        let step = body.advance(piece)?;
        taken += step.taken;
        assert_eq!(step.ended, body.ended());
        assert!(step.ended || step.taken == piece.len());
        if step.ended {
            break;
        }
    }
    Ok((taken, body.ended()))
}
