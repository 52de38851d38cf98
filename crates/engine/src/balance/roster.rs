// SPDX-License-Identifier: Apache-2.0
//! The endpoints of one service port, each with its [`Seat`], in the order of the snapshot's group; and the draw among them.
//!
//! A draw looks at a few endpoints, however many there are; only where almost all are shut does it look further. Must never shut
//! more than half of them, and never refuse because of ejection. Read `../balance.rs` for who asks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use maille_model::terms::{Counted, Ejection, Zones};
use maille_model::{WorkloadUid, Zone};

use super::seat::{Seat, Turn, Verdict};
use crate::route::Backends;
use crate::snapshot::{Candidate, Group};

/// Places that one draw looks at before it looks at all in turn.
const DRAWS: u32 = 8;
/// An endpoint elsewhere must cost less than this part of the one nearby to be taken in its place.
const SPILL: f64 = 0.5;
/// No more than one in so many endpoints is left alone at the same time.
const OUT_AT_MOST: usize = 2;
/// How much one answer weighs in the mean of all.
const MEAN_WEIGHT: f64 = 1.0 / 64.0;

/// The endpoints of one service port.
#[derive(Debug)]
pub(super) struct Roster {
    pub(super) port: u16,
    group: Arc<Group>,
    /// Whose seats `near` has; `None` where zones do not matter.
    zone: Option<Zone>,
    /// Under way at one endpoint at most.
    limit: u32,
    seats: Vec<Seat>,
    near: Vec<u32>,
    /// Changes with the group.
    epoch: u32,
    /// Seats that are out.
    out: usize,
    /// Seats that have as much under way as they may.
    full: usize,
    /// Seconds that an answer takes, over all endpoints.
    mean: f64,
}

/// Where something is under way.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) port: u16,
    seat: usize,
    epoch: u32,
    uid: WorkloadUid,
}

/// Random numbers out of one: SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug)]
pub(super) struct Dice(pub(super) u64);

/// What a draw must know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask<'a> {
    pub(super) backends: &'a Backends,
    pub(super) tried: &'a [SocketAddr],
    pub(super) now: Instant,
}

#[derive(Clone, Copy)]
enum Pool<'a> {
    All(usize),
    Some(&'a [u32]),
}

// === impl Dice ===

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0 to `bound`, `bound` left out, each as likely (Lemire 2019; good for up to 2^32).
    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(((self.next() >> 32) * bound as u64) >> 32).unwrap_or(0)
    }

    /// 0 to 1.
    pub(super) fn share(&mut self) -> f64 {
        let bits = u32::try_from(self.next() >> 32).unwrap_or(0);
        f64::from(bits) / f64::from(u32::MAX)
    }
}

// === impl Pool ===

impl Pool<'_> {
    fn len(self) -> usize {
        match self {
            Self::All(count) => count,
            Self::Some(places) => places.len(),
        }
    }

    fn at(self, place: usize) -> usize {
        match self {
            Self::All(_) => place,
            Self::Some(places) => places.get(place).map_or(usize::MAX, |at| *at as usize),
        }
    }
}

// === impl Roster: who is there ===

impl Roster {
    /// Everybody who is there at the beginning counts as at work for long.
    pub(super) fn new(backends: &Backends, now: Instant) -> Self {
        let seats = backends.candidates().iter();
        let mut roster = Self {
            port: backends.service().1,
            group: Arc::clone(backends.group()),
            zone: None,
            limit: u32::MAX,
            seats: seats.map(|_| Seat::new(now, 0, None)).collect(),
            near: Vec::new(),
            epoch: 0,
            out: 0,
            full: 0,
            mean: 0.0,
        };
        roster.settle(backends, now);
        roster
    }

    /// Takes over what the snapshot says by now. Nothing is done while it says the same.
    pub(super) fn settle(&mut self, backends: &Backends, now: Instant) {
        let terms = backends.terms();
        let limit = terms
            .max_requests_per_endpoint
            .map_or(u32::MAX, |n| n.get());
        let zone = backends
            .zone()
            .filter(|_| terms.zones == Zones::PreferClose);
        let same = Arc::ptr_eq(&self.group, backends.group());
        if same && self.limit == limit && self.zone.as_ref() == zone {
            return;
        }
        if !same {
            self.regroup(backends, now);
        }
        self.limit = limit;
        self.zone = zone.cloned();
        self.near.clear();
        if let Some(zone) = &self.zone {
            let near = (0u32..).zip(backends.candidates());
            let near =
                near.filter(|(_, candidate)| candidate.workload().zone.as_ref() == Some(zone));
            self.near.extend(near.map(|(at, _)| at));
        }
        self.out = self.seats.iter().filter(|seat| seat.is_out()).count();
        self.full = self
            .seats
            .iter()
            .filter(|seat| seat.under_way >= limit)
            .count();
    }

    /// Who stays keeps the seat. Both groups are in the order of uids, so that one walk along both tells who came.
    fn regroup(&mut self, backends: &Backends, now: Instant) {
        self.epoch = self.epoch.wrapping_add(1);
        let old = Arc::clone(&self.group);
        let stayed = old.candidates(self.port).iter().zip(self.seats.drain(..));
        let mut stayed = stayed.peekable();
        let mut seats = Vec::with_capacity(backends.candidates().len());
        for candidate in backends.candidates() {
            while stayed
                .next_if(|(before, _)| before.uid() < candidate.uid())
                .is_some()
            {}
            let kept = stayed.next_if(|(before, _)| before.uid() == candidate.uid());
            seats
                .push(kept.map_or_else(|| Seat::new(now, self.epoch, Some(now)), |(_, seat)| seat));
        }
        drop(stayed);
        self.seats = seats;
        self.group = Arc::clone(backends.group());
    }

    /// Whether every endpoint has as much under way as it may.
    pub(super) fn is_full(&self) -> bool {
        self.full >= self.seats.len() && !self.seats.is_empty()
    }

    fn candidates(&self) -> &[Candidate] {
        self.group.candidates(self.port)
    }
}

// === impl Roster: the draw ===

impl Roster {
    /// Which seat takes the next request.
    pub(super) fn choose(&self, ask: &Ask<'_>, dice: &mut Dice) -> Option<usize> {
        let all = Pool::All(self.seats.len());
        let near = self.best(Pool::Some(&self.near), ask, dice);
        let far = self.best(all, ask, dice);
        match (near, far) {
            (Some(near), Some(far))
                if self.load(far, ask.now) < SPILL * self.load(near, ask.now) =>
            {
                Some(far)
            }
            (Some(near), _) => Some(near),
            (None, Some(far)) => Some(far),
            // Only those that are left alone are left: better one of them than nobody.
            (None, None) => self.scan(all, dice, |at| self.is_open(at, ask)),
        }
    }

    /// The lighter of two that are drawn; one whose penalty is over is taken at once, so that it gets its chance.
    fn best(&self, pool: Pool<'_>, ask: &Ask<'_>, dice: &mut Dice) -> Option<usize> {
        let takes = |at: usize| {
            self.seats
                .get(at)
                .is_some_and(|seat| !seat.is_shut(ask.now))
                && self.is_open(at, ask)
        };
        if pool.len() < 2 {
            return (pool.len() == 1)
                .then(|| pool.at(0))
                .filter(|at| takes(*at));
        }
        let mut first = None;
        for _ in 0..DRAWS {
            let at = pool.at(dice.below(pool.len()));
            if first == Some(at) || !takes(at) {
                continue;
            }
            let seat = &self.seats[at];
            if seat.wants_probe(ask.now) {
                return Some(at);
            }
            let share = seat.share(ask.now);
            if share < 1.0 && dice.share() >= share {
                continue;
            }
            let Some(other) = first else {
                first = Some(at);
                continue;
            };
            let lighter = self.load(at, ask.now) < self.load(other, ask.now);
            return Some(if lighter { at } else { other });
        }
        first.or_else(|| self.scan(pool, dice, takes))
    }

    /// The first that `takes`, from a place drawn at random.
    fn scan(
        &self,
        pool: Pool<'_>,
        dice: &mut Dice,
        takes: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let count = pool.len();
        let from = dice.below(count);
        (from..count)
            .chain(0..from)
            .map(|place| pool.at(place))
            .find(|at| takes(*at))
    }

    fn load(&self, at: usize, now: Instant) -> f64 {
        self.seats
            .get(at)
            .map_or(f64::MAX, |seat| seat.load(now, self.mean))
    }

    /// Whether it could take one more, if its health is not asked.
    fn is_open(&self, at: usize, ask: &Ask<'_>) -> bool {
        let (Some(seat), Some(candidate)) = (self.seats.get(at), self.candidates().get(at)) else {
            return false;
        };
        seat.under_way < self.limit
            && ask
                .backends
                .target(candidate)
                .is_some_and(|target| !ask.tried.contains(&target))
    }
}

// === impl Roster: what goes on ===

impl Roster {
    /// Something begins at the seat `at`, and where that is written down.
    pub(super) fn begin(&mut self, at: usize, now: Instant) -> Option<Place> {
        let uid = self.candidates().get(at)?.uid().clone();
        let (epoch, limit) = (self.epoch, self.limit);
        let seat = self.seats.get_mut(at)?;
        seat.begin(now);
        if seat.under_way == limit {
            self.full += 1;
        }
        Some(Place {
            port: self.port,
            seat: at,
            epoch,
            uid,
        })
    }

    /// It ended.
    pub(super) fn end(&mut self, place: &Place, now: Instant, judged: bool) {
        let limit = self.limit;
        if let Some(seat) = self.seat(place) {
            let was_full = seat.under_way >= limit;
            seat.end(now, judged);
            if was_full && seat.under_way < limit {
                self.full -= 1;
            }
        }
    }

    /// An answer came, or none did.
    pub(super) fn judge(
        &mut self,
        place: &Place,
        (began, now): (Instant, Instant),
        verdict: Verdict,
        (terms, random): (&Ejection, u64),
    ) -> Turn {
        let took = now.saturating_duration_since(began);
        if verdict == Verdict::Good {
            let took = took.as_secs_f64();
            self.mean = if self.mean > 0.0 {
                self.mean + (took - self.mean) * MEAN_WEIGHT
            } else {
                took
            };
        }
        let may_eject =
            terms.counts != Counted::Nothing && (self.out + 1) * OUT_AT_MOST <= self.seats.len();
        let chance = Dice(random).share();
        let Some(seat) = self.seat(place) else {
            return Turn::Nothing;
        };
        let turn = seat.judge(now, took, verdict, (terms, may_eject, chance));
        match turn {
            Turn::Ejected => self.out += 1,
            Turn::Back => self.out -= 1,
            Turn::Again | Turn::Nothing => {}
        }
        turn
    }

    /// The seat that a lease was given for, if it is still the same one's.
    fn seat(&mut self, place: &Place) -> Option<&mut Seat> {
        let at = if place.epoch == self.epoch {
            place.seat
        } else {
            let candidates = self.candidates();
            candidates
                .binary_search_by(|candidate| candidate.uid().cmp(&place.uid))
                .ok()?
        };
        let seat = self.seats.get_mut(at)?;
        // Wraps after 2^32 changes of one group: 500 days at 100 a second.
        (seat.born <= place.epoch).then_some(seat)
    }

    /// Seats that are left alone, and all seats.
    #[cfg(test)]
    pub(super) fn outs(&self) -> (usize, usize) {
        let out = self.seats.iter().filter(|seat| seat.is_out()).count();
        assert_eq!(out, self.out, "the count of those that are out");
        (self.out, self.seats.len())
    }

    /// What is under way in all.
    #[cfg(test)]
    pub(super) fn under_way(&self) -> u32 {
        self.seats.iter().map(|seat| seat.under_way).sum()
    }
}
