// SPDX-License-Identifier: Apache-2.0
//! What strangers' bytes reach in this crate, for the targets in `fuzz/`. Compiled for them alone.
//!
//! Must never do what production does not. Next: `flows.rs`, `classify.rs`.

use std::time::Duration;

use maille_sys::packet::Direction;

use crate::classify::Classifier;
use crate::flows::Flows;
use crate::frame;
use crate::markers::Markers;

/// A frame, where and when.
#[derive(Clone, Copy, Debug)]
pub struct Sighting<'a> {
    /// On which interface.
    pub interface: u32,
    /// Since the one before.
    pub seconds: u64,
    /// From its Ethernet header on.
    pub frame: &'a [u8],
}

/// What there was, in all streams together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Bytes of TLS.
    pub tls: u64,
    /// Other bytes.
    pub plain: u64,
    /// Markers.
    pub markers: u64,
    /// Streams.
    pub streams: u64,
    /// It is TLS, but not TLS 1.3.
    pub flawed: bool,
}

/// Follows `sightings` to their end.
pub fn observe(sightings: &[Sighting<'_>], marker: &[u8]) -> Found {
    let mut flows = Flows::new(Markers::new([marker.to_vec()]));
    let mut now = Duration::ZERO;
    for sighting in sightings {
        now += Duration::from_secs(sighting.seconds);
        let place = (sighting.interface, Direction::In);
        flows.take(place, now, frame::parse(sighting.frame));
    }
    flows.finish();
    let mut found = Found::default();
    for (_, pair) in flows.pairs() {
        found.tls += pair.counts.tls;
        found.plain += pair.counts.plain;
        found.markers += pair.counts.markers;
        found.streams += pair.streams;
    }
    found
}

/// Judges one stream that comes in these pieces; `midway`: its beginning was not seen.
pub fn classify<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, midway: bool) -> Found {
    let mut classifier = match midway {
        true => Classifier::midway(),
        false => Classifier::default(),
    };
    pieces.into_iter().for_each(|piece| classifier.feed(piece));
    classifier.finish();
    let counts = classifier.counts();
    Found {
        tls: counts.tls,
        plain: counts.plain,
        flawed: classifier.flaw().is_some(),
        ..Found::default()
    }
}
