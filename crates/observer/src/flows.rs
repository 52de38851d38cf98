// SPDX-License-Identifier: Apache-2.0
//! Every stream that passes, and what was found in it, by pair of addresses. Judges nothing: who should be protected is asked
//! when a report is written (`report.rs`, read it next), so that it does not matter when an address became known.
//!
//! A stream between two pods is seen twice, on the interface of each. Each sight is put in order and judged by itself; the
//! stream's own numbers are those of the sight that shows most, so that nothing counts twice and nothing hides. A hole is a
//! gap if every sight has one: what passed at one place was seen, whatever became of it on the way to the other.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use maille_sys::packet::Direction;

use crate::classify::{Classifier, Counts};
use crate::frame::{Parsed, Segment};
use crate::markers::{Markers, Tail};
use crate::stream::{Part, Reassembly};

/// How many streams are followed at once.
const STREAMS: usize = 1 << 17;

/// How many pairs of addresses are told apart.
const PAIRS: usize = 1 << 15;

/// How many findings of one pair are kept for each reason; more are only counted.
const FINDINGS: usize = 4;

/// How much may wait behind holes in all streams together.
const HELD_BYTES: usize = 256 << 20;

/// An ended stream is remembered as long as its last bytes may come again: Linux' longest retransmission timeout and more.
const LINGER: Duration = Duration::from_secs(130);

/// The same, where room is needed.
const SHORT_LINGER: Duration = Duration::from_secs(5);

/// A stream that nobody ended.
const IDLE: Duration = Duration::from_secs(3600);

/// Where a frame was seen.
pub(crate) type Place = (u32, Direction);

/// What one address sent another.
#[derive(Debug, Default)]
pub(crate) struct Pair {
    pub(crate) counts: Counts,
    pub(crate) streams: u64,
    /// Those of them whose beginning was not seen.
    pub(crate) beginnings_missed: u64,
    pub(crate) gaps: u64,
    /// How many findings there were.
    pub(crate) found: u64,
    /// The first of each reason.
    pub(crate) findings: Vec<Finding>,
}

/// Something that must not be between meshed pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Since 1970.
    pub(crate) at: Duration,
    /// Which stream, or which addresses.
    pub(crate) stream: String,
    pub(crate) reason: Reason,
}

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It is not TLS, or was until it stopped to be.
    Plain,
    /// It holds a marker.
    Marker,
    /// It is TLS, but not TLS 1.3.
    NotTls13(&'static str),
    /// A part of it was not seen.
    Gap,
    /// TCP in a packet that cannot be read.
    Unreadable,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => f.write_str("plain bytes"),
            Self::Marker => f.write_str("a marker is readable"),
            Self::NotTls13(why) => write!(f, "not TLS 1.3: {why}"),
            Self::Gap => f.write_str("a hole in the stream that was never filled"),
            Self::Unreadable => f.write_str("a fragment, or broken TCP headers"),
        }
    }
}

/// All streams.
#[derive(Debug)]
pub(crate) struct Flows {
    markers: Markers,
    flows: HashMap<Key, Flow>,
    pairs: HashMap<(IpAddr, IpAddr), Pair>,
    held: usize,
    now: Duration,
    swept: Duration,
    /// There was no room, and looking for some again is not worth it before this.
    full_until: Duration,
    /// Streams that were not followed because there was no room.
    pub(crate) missed: u64,
}

type Key = (SocketAddr, SocketAddr);

#[derive(Debug)]
struct Flow {
    /// Its first sequence number, if its SYN was seen.
    syn: Option<u32>,
    ended: bool,
    last: Duration,
    counts: Counts,
    told: Told,
    sights: Vec<(Place, Sight)>,
}

/// What was reported of a stream: each thing once.
#[derive(Debug, Default)]
struct Told {
    plain: bool,
    marker: bool,
    flaw: bool,
}

#[derive(Debug, Default)]
struct Sight {
    order: Reassembly,
    classifier: Classifier,
    tail: Tail,
    markers: u64,
    /// Holes that were given up. What follows the first is searched for markers but not judged: records begin anywhere.
    gaps: u64,
}

impl Flows {
    pub(crate) fn new(markers: Markers) -> Self {
        Self {
            markers,
            flows: HashMap::new(),
            pairs: HashMap::new(),
            held: 0,
            now: Duration::ZERO,
            swept: Duration::ZERO,
            full_until: Duration::ZERO,
            missed: 0,
        }
    }

    /// Takes what a frame held. `at`: since 1970; it need not be in order.
    pub(crate) fn take(&mut self, place: Place, at: Duration, parsed: Parsed<'_>) {
        self.now = self.now.max(at);
        match parsed {
            Parsed::Other => {}
            Parsed::Unreadable { from, to } => {
                if let Some(pair) = self.pair((from, to)) {
                    pair.find(at, format!("{from} -> {to}"), Reason::Unreadable);
                }
            }
            Parsed::Tcp(segment) => self.segment(place, at, &segment),
        }
        if self.now.saturating_sub(self.swept) > Duration::from_secs(1) {
            self.sweep(LINGER);
        }
    }

    /// Everything found so far.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&(IpAddr, IpAddr), &Pair)> {
        self.pairs.iter()
    }

    /// The capture is over. A hole in a stream that was still running is no gap: what fills it was on its way.
    pub(crate) fn finish(&mut self) {
        let running = self.now.saturating_sub(Duration::from_secs(1));
        for (key, mut flow) in std::mem::take(&mut self.flows) {
            let pair = self.pairs.get_mut(&(key.0.ip(), key.1.ip()));
            let holes = flow.ended || flow.last < running;
            flow.finish(&self.markers, key, pair, holes);
        }
        self.held = 0;
    }

    fn segment(&mut self, place: Place, at: Duration, segment: &Segment<'_>) {
        let key = (segment.from, segment.to);
        if segment.rst
            && let Some(other) = self.flows.get_mut(&(key.1, key.0))
        {
            other.ended = true;
        }
        let syn = segment.syn.then_some(segment.sequence);
        if syn.is_some() && self.flows.get(&key).is_some_and(|flow| flow.syn != syn) {
            self.end(key);
        }
        if !self.flows.contains_key(&key) && !self.begin(key, at, segment) {
            return;
        }
        let Some(flow) = self.flows.get_mut(&key) else {
            return;
        };
        let Some(pair) = self.pairs.get_mut(&(key.0.ip(), key.1.ip())) else {
            return;
        };
        flow.last = flow.last.max(at);
        flow.ended |= segment.fin || segment.rst;
        let sight = flow.sight(place);
        let before = sight.order.held_bytes();
        sight.take(&self.markers, segment);
        if self.held + sight.order.held_bytes() > HELD_BYTES + before {
            sight.give_up(&self.markers);
        }
        self.held = (self.held + sight.order.held_bytes()).saturating_sub(before);
        flow.tell(key, place, pair);
    }

    /// Begins to follow a stream, at its SYN or at its first data. `false`: there is nothing to follow, or no room.
    fn begin(&mut self, key: Key, at: Duration, segment: &Segment<'_>) -> bool {
        if !segment.syn && segment.payload.is_empty() {
            return false;
        }
        if !self.has_room() {
            self.missed += 1;
            return false;
        }
        let Some(pair) = self.pair((key.0.ip(), key.1.ip())) else {
            return false;
        };
        pair.streams += 1;
        pair.beginnings_missed += u64::from(!segment.syn);
        let flow = Flow {
            syn: segment.syn.then_some(segment.sequence),
            ended: false,
            last: at,
            counts: Counts::default(),
            told: Told::default(),
            sights: Vec::with_capacity(2),
        };
        self.flows.insert(key, flow);
        true
    }

    fn has_room(&mut self) -> bool {
        if self.flows.len() >= STREAMS && self.now >= self.full_until {
            self.sweep(SHORT_LINGER);
            self.full_until = self.now + Duration::from_secs(1);
        }
        self.flows.len() < STREAMS
    }

    fn pair(&mut self, key: (IpAddr, IpAddr)) -> Option<&mut Pair> {
        let room = self.pairs.len() < PAIRS;
        match self.pairs.entry(key) {
            Entry::Occupied(entry) => Some(entry.into_mut()),
            Entry::Vacant(entry) if room => Some(entry.insert(Pair::default())),
            Entry::Vacant(_) => {
                self.missed += 1;
                None
            }
        }
    }

    fn end(&mut self, key: Key) {
        if let Some(mut flow) = self.flows.remove(&key) {
            self.held = self.held.saturating_sub(flow.held());
            let pair = self.pairs.get_mut(&(key.0.ip(), key.1.ip()));
            flow.finish(&self.markers, key, pair, true);
        }
    }

    /// Forgets what has been silent for long enough.
    fn sweep(&mut self, linger: Duration) {
        self.swept = self.now;
        let now = self.now;
        let over = |flow: &Flow| {
            let silent = now.saturating_sub(flow.last);
            let empty = flow.counts == Counts::default();
            silent > IDLE || silent > linger && (flow.ended || empty)
        };
        let over: Vec<Key> = self
            .flows
            .iter()
            .filter(|(_, flow)| over(flow))
            .map(|(&key, _)| key)
            .collect();
        for key in over {
            self.end(key);
        }
    }
}

impl Flow {
    fn sight(&mut self, place: Place) -> &mut Sight {
        let at = self.sights.iter().position(|(known, _)| *known == place);
        let at = at.unwrap_or_else(|| {
            self.sights.push((place, Sight::new(self.syn)));
            self.sights.len() - 1
        });
        &mut self.sights[at].1
    }

    fn held(&self) -> usize {
        let held = |(_, sight): &(Place, Sight)| sight.order.held_bytes();
        self.sights.iter().map(held).sum()
    }

    /// Brings the pair up to what was seen at `place`.
    fn tell(&mut self, key: Key, place: Place, pair: &mut Pair) {
        let Some((_, sight)) = self.sights.iter().find(|(known, _)| *known == place) else {
            return;
        };
        let seen = sight.counts();
        let raise = |known: &mut u64, sum: &mut u64, seen: u64| {
            *sum += seen.saturating_sub(*known);
            *known = seen.max(*known);
        };
        raise(&mut self.counts.tls, &mut pair.counts.tls, seen.tls);
        raise(&mut self.counts.plain, &mut pair.counts.plain, seen.plain);
        raise(
            &mut self.counts.markers,
            &mut pair.counts.markers,
            seen.markers,
        );
        let told = &mut self.told;
        let flaw = sight.classifier.flaw();
        let found = [
            (&mut told.plain, (seen.plain > 0).then_some(Reason::Plain)),
            (
                &mut told.marker,
                (seen.markers > 0).then_some(Reason::Marker),
            ),
            (&mut told.flaw, flaw.map(Reason::NotTls13)),
        ];
        for (told, reason) in found {
            if let Some(reason) = reason
                && !std::mem::replace(told, true)
            {
                pair.find(self.last, format!("{} -> {}", key.0, key.1), reason);
            }
        }
    }

    fn finish(&mut self, markers: &Markers, key: Key, pair: Option<&mut Pair>, holes: bool) {
        let Some(pair) = pair else { return };
        for at in 0..self.sights.len() {
            let (place, sight) = &mut self.sights[at];
            let place = *place;
            if holes {
                sight.give_up(markers);
            }
            sight.classifier.finish();
            self.tell(key, place, pair);
        }
        let gaps = self.sights.iter().map(|(_, sight)| sight.gaps).min();
        if let Some(gaps @ 1..) = gaps {
            pair.gaps += gaps;
            pair.find(self.last, format!("{} -> {}", key.0, key.1), Reason::Gap);
        }
    }
}

impl Sight {
    fn new(syn: Option<u32>) -> Self {
        let mut sight = Self::default();
        match syn {
            Some(sequence) => sight.order.syn(sequence),
            None => sight.classifier = Classifier::midway(),
        }
        sight
    }

    fn take(&mut self, markers: &Markers, segment: &Segment<'_>) {
        let first = segment.sequence.wrapping_add(u32::from(segment.syn));
        self.with(markers, |order, give| {
            order.data(first, segment.payload, give);
        });
        if segment.fin {
            #[expect(clippy::cast_possible_truncation, reason = "sequence numbers wrap")]
            let length = segment.payload.len() as u32;
            self.order.fin(first.wrapping_add(length));
        }
    }

    fn give_up(&mut self, markers: &Markers) {
        self.with(markers, |order, give| order.finish(give));
    }

    fn with(
        &mut self,
        markers: &Markers,
        work: impl FnOnce(&mut Reassembly, &mut dyn FnMut(Part<'_>)),
    ) {
        let (classifier, tail) = (&mut self.classifier, &mut self.tail);
        let (hits, gaps) = (&mut self.markers, &mut self.gaps);
        work(&mut self.order, &mut |part| match part {
            Part::Hole => {
                *gaps += 1;
                *tail = Tail::default();
            }
            Part::Bytes(bytes) => {
                if *gaps == 0 {
                    classifier.feed(bytes);
                }
                *hits += markers.search(tail, bytes);
            }
        });
    }

    fn counts(&self) -> Counts {
        Counts {
            markers: self.markers,
            ..self.classifier.counts()
        }
    }
}

impl Pair {
    fn find(&mut self, at: Duration, stream: String, reason: Reason) {
        self.found += 1;
        let alike = |known: &&Finding| known.reason == reason;
        if self.findings.iter().filter(alike).count() < FINDINGS {
            self.findings.push(Finding { at, stream, reason });
        }
    }
}

#[cfg(test)]
mod tests;
