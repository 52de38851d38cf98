// SPDX-License-Identifier: Apache-2.0
//! What the observer says of a stream: pieces say what the whole says, and every byte counts once.
#![no_main]

use libfuzzer_sys::fuzz_target;
use maille_observer::fuzzing::classify;

fuzz_target!(|input: &[u8]| {
    let [kind, piece, bytes @ ..] = input else {
        return;
    };
    let midway = kind % 2 == 1;
    let whole = classify([bytes], midway);
    let parts = classify(bytes.chunks(usize::from(*piece) + 1), midway);
    assert_eq!(whole, parts);
    assert_eq!(whole.tls + whole.plain, bytes.len() as u64);
});
