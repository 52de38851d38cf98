// SPDX-License-Identifier: Apache-2.0
//! Stage 5, thin: one endpoint of a plan, the count of what is under way there, and the endpoints that failed already.
//!
//! Must never offer an endpoint twice to one exchange that it may have seen. Next: `connect/tcp.rs`.

use std::net::SocketAddr;
use std::time::Instant;

use maille_engine::balance::{Book, Heard, Lease, Tally, Unpicked};
use maille_engine::route::{Hop, Plan};

use crate::failure::Failure;

/// Endpoints tried for one exchange in all.
pub(crate) const ATTEMPTS: usize = 3;

/// The worker's share of balancing.
#[derive(Debug)]
pub(crate) struct Balance {
    book: Book,
    random: fastrand::Rng,
}

/// The endpoints that one exchange has tried.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tried {
    targets: [Option<SocketAddr>; ATTEMPTS],
    count: usize,
}

/// An endpoint, and the proof that it is counted.
#[derive(Debug)]
pub(crate) struct Picked {
    hop: Hop,
    /// `None` once it was given back.
    lease: Option<Lease>,
}

// === impl Balance ===

impl Balance {
    /// Nothing under way. `seed` makes draws repeatable in tests.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            book: Book::new(),
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// An endpoint that was not tried, to be given back with [`Self::done`]. A try beyond the first costs the service's budget.
    pub(crate) fn pick(
        &mut self,
        plan: &Plan,
        tried: &mut Tried,
        now: Instant,
    ) -> Result<Picked, Failure> {
        if tried.count == ATTEMPTS {
            return Err(Failure::NoEndpoint);
        }
        let mut targets = [SocketAddr::from(([0, 0, 0, 0], 0)); ATTEMPTS];
        for (place, target) in targets.iter_mut().zip(tried.targets.iter().flatten()) {
            *place = *target;
        }
        let random = self.random.u64(..);
        let picked = self.book.pick(plan, &targets[..tried.count], now, random);
        Ok(tried.note(picked.map_err(unpicked)?))
    }

    /// An endpoint for a request that all of them were asked for and none has looked at. It counts as a try, and costs as one.
    pub(crate) fn pick_again(
        &mut self,
        plan: &Plan,
        tried: &mut Tried,
        now: Instant,
    ) -> Result<Picked, Failure> {
        if tried.count == ATTEMPTS {
            return Err(Failure::NoEndpoint);
        }
        let random = self.random.u64(..);
        let picked = self.book.pick_again(plan, now, random);
        Ok(tried.note(picked.map_err(unpicked)?))
    }

    /// The endpoint was heard, or should have been.
    pub(crate) fn heard(&mut self, picked: &mut Picked, heard: Heard, now: Instant) {
        if let Some(lease) = &mut picked.lease {
            let random = self.random.u64(..);
            self.book.judge(lease, heard, now, random);
        }
    }

    /// What was under way has ended.
    pub(crate) fn done(&mut self, picked: &mut Picked, now: Instant) {
        if let Some(lease) = picked.lease.take() {
            self.book.end(lease, now);
        }
    }

    /// What happened since the last time.
    pub(crate) fn take_tally(&mut self) -> Tally {
        self.book.take_tally()
    }
}

// === impl Tried ===

impl Tried {
    /// One more, of which there are fewer than [`ATTEMPTS`].
    fn note(&mut self, (hop, lease): (Hop, Lease)) -> Picked {
        self.targets[self.count] = Some(hop.target());
        self.count += 1;
        let lease = Some(lease);
        Picked { hop, lease }
    }
}

fn unpicked(why: Unpicked) -> Failure {
    match why {
        Unpicked::NoEndpoint => Failure::NoEndpoint,
        Unpicked::Limited => Failure::ConcurrencyLimit,
        // Only ever after a failure, which is the one that is told.
        Unpicked::Spent | Unpicked::Full => Failure::Overloaded,
    }
}

// === impl Picked ===

impl Picked {
    /// Whether the endpoint was heard already, or need not be.
    pub(crate) fn is_judged(&self) -> bool {
        self.lease.as_ref().is_none_or(Lease::is_judged)
    }

    /// How the endpoint is reached.
    pub(crate) fn hop(&self) -> &Hop {
        &self.hop
    }
}
