// SPDX-License-Identifier: Apache-2.0
//! What control sends to a proxy: any message is a resource or refused; a resource is the same once it was written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use maille_wire::{Kind, Resource};

fuzz_target!(|input: &[u8]| {
    let Some((kind, bytes)) = input.split_first() else {
        return;
    };
    let kind = Kind::ALL[usize::from(*kind) % Kind::ALL.len()];
    let Ok(resource) = Resource::decode(kind, bytes) else {
        return;
    };
    assert_eq!(resource.kind(), kind);
    assert_eq!(Resource::decode(kind, &resource.encode()), Ok(resource.clone()));
    assert_eq!(Resource::from_any(&resource.to_any()), Ok(resource));
});
