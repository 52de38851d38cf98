// SPDX-License-Identifier: Apache-2.0
//! What taps are told of exchanges, and when: as a request is sent on, as its answer begins, and at its end.
//!
//! An exchange that began while nobody tapped has nothing to tell, so that without taps nothing is kept, copied or counted: what it costs
//! is to ask whether a list is empty. Must never hold up an exchange: what finds no room is counted instead. Next: `../tap.rs`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use maille_engine::http1::ResponseHead;
use maille_engine::route::{Direction, Hop};
use maille_engine::snapshot::Snapshot;
use tokio::sync::mpsc;

use super::Core;
use super::exchange::{Carries, Exchange};
use super::inside::Looking;
use super::report::outcome_of;
use crate::outcome;
use crate::table::Id;
use crate::tap::{
    Allowance, Facts, Head, Moment, ROOM, Seen, Spoken, TAPS, Tap, Tapped, Taps, Told, Untold,
    Watcher,
};

/// Taps in force, and what they were not told yet.
#[derive(Debug, Default)]
pub(super) struct Tapping {
    slots: Vec<Slot>,
    pub(super) told: VecDeque<Told>,
    exchanges: u64,
    /// Whether somebody looks at what goes through mesh connections.
    pub(super) looking: Looking,
}

#[derive(Debug)]
struct Slot {
    tap: Arc<Tap>,
    allowance: Allowance,
    untold: Untold,
}

/// By which snapshot, and when.
type At<'a> = (&'a Snapshot, Instant);

// === impl Tapping ===

impl Tapping {
    /// The exchange is sent on, or has ended without: who wants to see it, and is told, or waits for how it is answered.
    fn begin(&mut self, exchange: &Exchange, tapped: &mut Tapped, at: At<'_>) {
        if std::mem::replace(&mut tapped.begun, true) {
            return;
        }
        let facts = Arc::new(facts_of(exchange, at));
        let now = at.1;
        for place in 0..self.slots.len() {
            let slot = &mut self.slots[place];
            let tap = Arc::clone(&slot.tap);
            if !tap.filter.asks_for(&facts, &tapped.request) {
                continue;
            }
            let told = !tap.filter.waits();
            if told && !slot.spend(now) {
                continue;
            }
            tapped.watchers.push(Watcher { tap: tap.id, told });
            if told && !tap.ends_only {
                self.tell(place, tapped, Moment::Begin, &facts, now);
            }
        }
    }

    /// It is answered, or has ended: whoever waited for that decides, and everybody who still watches is told.
    fn moment(&mut self, exchange: &Exchange, tapped: &mut Tapped, moment: Moment, at: At<'_>) {
        if tapped.watchers.is_empty() {
            return;
        }
        let facts = Arc::new(facts_of(exchange, at));
        let now = at.1;
        let mut watchers = std::mem::take(&mut tapped.watchers);
        watchers.retain_mut(|watcher| self.watch(watcher, tapped, moment, (&facts, now)));
        tapped.watchers = watchers;
    }

    /// Whether the tap goes on watching.
    fn watch(
        &mut self,
        watcher: &mut Watcher,
        tapped: &Tapped,
        moment: Moment,
        (facts, now): (&Arc<Facts>, Instant),
    ) -> bool {
        let mut slots = self.slots.iter();
        let Some(place) = slots.position(|slot| slot.tap.id == watcher.tap) else {
            return false;
        };
        let slot = &mut self.slots[place];
        let tap = Arc::clone(&slot.tap);
        if !watcher.told {
            match tap.filter.answered(facts, moment == Moment::End) {
                None => return true,
                Some(false) => return false,
                Some(true) if !slot.spend(now) => return false,
                Some(true) => watcher.told = true,
            }
            if !tap.ends_only {
                self.tell(place, tapped, Moment::Begin, facts, now);
            }
            if moment == Moment::End && facts.status != 0 && !tap.ends_only {
                self.tell(place, tapped, Moment::Answer, facts, now);
            }
        }
        if moment == Moment::End || !tap.ends_only {
            self.tell(place, tapped, moment, facts, now);
        }
        true
    }

    fn tell(
        &mut self,
        place: usize,
        tapped: &Tapped,
        moment: Moment,
        facts: &Arc<Facts>,
        at: Instant,
    ) {
        let slot = &mut self.slots[place];
        if self.told.len() >= ROOM {
            slot.untold.no_room += 1;
            return;
        }
        self.told.push_back(Told::Seen(Box::new(Seen {
            tap: slot.tap.id,
            exchange: tapped.number,
            at,
            moment,
            facts: Arc::clone(facts),
            request: Arc::clone(&tapped.request),
            answer: Arc::clone(&tapped.answer),
            headers: slot.tap.headers,
        })));
    }
}

// === impl Slot ===

impl Slot {
    /// Whether the tap may see one more exchange; it is counted where not.
    fn spend(&mut self, now: Instant) -> bool {
        let may = self.allowance.spend(now);
        self.untold.over_rate += u64::from(!may);
        may
    }
}

// === impl Exchange ===

impl Exchange {
    /// The fields of an answer that was parsed from `bytes`. Costs nothing where nobody taps.
    pub(super) fn tap_answer(&mut self, head: &ResponseHead, bytes: &[u8]) {
        if let Some(tapped) = &mut self.tapped {
            tapped.answer = Arc::new(Head::of_response(head, bytes));
        }
    }

    /// The same of HTTP/2.
    pub(super) fn tap_fields<'f>(&mut self, fields: impl Iterator<Item = (&'f [u8], &'f [u8])>) {
        if let Some(tapped) = &mut self.tapped {
            tapped.answer = Arc::new(Head::of_fields(fields));
        }
    }
}

// === impl Core ===

impl Core {
    /// From now on these are the taps.
    pub fn tap(&mut self, taps: &Taps) {
        self.tapping.looking.set(taps.inside);
        let mut before = std::mem::take(&mut self.tapping.slots);
        for tap in taps.exchanges.iter().take(TAPS) {
            let known = before.iter().position(|slot| slot.tap.id == tap.id);
            let slot = match known.map(|place| before.swap_remove(place)) {
                Some(slot) if slot.tap.max_rps == tap.max_rps => Slot {
                    tap: Arc::clone(tap),
                    ..slot
                },
                _ => Slot {
                    tap: Arc::clone(tap),
                    allowance: Allowance::new(tap.max_rps, self.now),
                    untold: Untold::default(),
                },
            };
            self.tapping.slots.push(slot);
        }
    }

    /// Whether somebody is to be told something.
    pub fn has_told(&self) -> bool {
        !self.tapping.told.is_empty()
    }

    /// Tells what there is to tell. What `to` has no room for is counted, and the count is told once there is.
    pub fn tell(&mut self, to: &mpsc::Sender<Told>) {
        while let Some(told) = self.tapping.told.pop_front() {
            let Err(error) = to.try_send(told) else {
                continue;
            };
            match error.into_inner() {
                Told::Seen(seen) => {
                    let mut slots = self.tapping.slots.iter_mut();
                    if let Some(slot) = slots.find(|slot| slot.tap.id == seen.tap) {
                        slot.untold.no_room += 1;
                    }
                }
                Told::Piece(_) => self.tapping.looking.lose(),
                Told::Lost(_) | Told::Untold { .. } => {}
            }
        }
    }

    /// Says how much was not told. Call it once a second.
    pub fn tell_untold(&mut self, to: &mpsc::Sender<Told>) {
        if let Ok(permit) = to.try_reserve()
            && let lost @ 1.. = self.tapping.looking.take_lost()
        {
            permit.send(Told::Lost(lost));
        }
        for slot in &mut self.tapping.slots {
            let told = Told::Untold {
                tap: slot.tap.id,
                untold: slot.untold,
            };
            if !slot.untold.is_nothing() && to.try_send(told).is_ok() {
                slot.untold = Untold::default();
            }
        }
    }

    /// Prepares a new exchange for the taps, where there are any.
    pub(super) fn tap_new(&mut self, exchange: &mut Exchange) {
        if self.tapping.slots.is_empty() {
            return;
        }
        self.tapping.exchanges += 1;
        exchange.tapped = Some(Box::new(Tapped {
            number: self.tapping.exchanges,
            ..Tapped::default()
        }));
    }

    /// The exchange was sent on.
    pub(super) fn tap_begun(&mut self, id: Id<Exchange>) {
        if let Some(exchange) = self.exchanges.get_mut(id)
            && !exchange.silent
            && let Some(mut tapped) = exchange.tapped.take()
        {
            self.tapping
                .begin(exchange, &mut tapped, (&self.snapshot, self.now));
            exchange.tapped = Some(tapped);
        }
    }

    /// The final answer has begun.
    pub(super) fn tap_answered(&mut self, id: Id<Exchange>) {
        if let Some(exchange) = self.exchanges.get_mut(id)
            && let Some(mut tapped) = exchange.tapped.take()
        {
            let at: At<'_> = (&self.snapshot, self.now);
            self.tapping
                .moment(exchange, &mut tapped, Moment::Answer, at);
            exchange.tapped = Some(tapped);
        }
    }

    /// The exchange is over.
    pub(super) fn tap_ended(&mut self, exchange: &mut Exchange) {
        if let Some(mut tapped) = exchange.tapped.take() {
            let at: At<'_> = (&self.snapshot, self.now);
            self.tapping.begin(exchange, &mut tapped, at);
            self.tapping.moment(exchange, &mut tapped, Moment::End, at);
        }
    }
}

fn facts_of(exchange: &Exchange, (snapshot, now): At<'_>) -> Facts {
    let outcome = outcome_of(exchange, now);
    let known = &exchange.facts;
    // Before the first byte of the other side nobody has proved anything.
    let proven = known.direction == Direction::Inbound || exchange.established || exchange.answered;
    Facts {
        direction: known.direction,
        client: known.client,
        dialled: known.dialled.unwrap_or(known.destination),
        endpoint: outcome.hop.map(|hop| hop.target()),
        peer_uid: outcome.hop.and_then(|hop| hop.uid().cloned()),
        peer: outcome::peer(&outcome).filter(|_| proven),
        claimed: known.claimed,
        service: outcome::service(&outcome, snapshot),
        protected: exchange.protected || matches!(outcome.hop, Some(Hop::Mesh { .. })),
        spoken: match exchange.carries {
            Carries::Http => Spoken::Http1,
            Carries::Http2 if exchange.grpc => Spoken::Grpc,
            Carries::Http2 => Spoken::Http2,
            Carries::Tcp => Spoken::Tcp,
        },
        server_name: known.server_name.clone(),
        status: exchange.status,
        grpc_status: exchange.grpc_status,
        latency: outcome.latency,
        lasted: outcome.lasted,
        bytes: (outcome.request_bytes, outcome.response_bytes),
        flag: exchange.failure.map(crate::failure::Failure::flag),
    }
}
