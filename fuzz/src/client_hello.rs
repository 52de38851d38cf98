// SPDX-License-Identifier: Apache-2.0
//! The first bytes of a client: more of them never change an answer, neither what is spoken nor whom a ClientHello asks for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use maille_engine::client_hello::{Hello, LONGEST, read};
use maille_engine::detect::{Detected, detect, given_up};
use maille_model::Protocol;

fuzz_target!(|input: &[u8]| {
    let Some((cut, bytes)) = input.split_first() else {
        return;
    };
    let part = &bytes[..usize::from(*cut).min(bytes.len())];
    let (some, all) = (read(part), read(bytes));
    assert!(some == Hello::Partial || some == all);
    assert!(all != Hello::Partial || bytes.len() < LONGEST);
    if let Hello::Whole(Some(name)) = &all {
        assert!(name.as_str().len() <= 253);
        assert_eq!(name.as_str(), name.as_str().to_ascii_lowercase());
    }
    for declared in [Protocol::Undeclared, Protocol::Tls] {
        let (some, all) = (detect(part, declared), detect(bytes, declared));
        assert!(some == Detected::NeedMore || some == all);
        given_up(bytes, declared);
    }
});
