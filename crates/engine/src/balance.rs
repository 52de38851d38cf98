// SPDX-License-Identifier: Apache-2.0
//! Which endpoint of a service takes the next request: the less loaded of two drawn at random (Mitzenmacher 1996), where load is what is under way
//! times how slow the answers are (peak EWMA). Failing endpoints are left alone for a while, new ones begin slowly, near ones go first.
//!
//! A try beyond the first costs the service's budget, here and nowhere else. Time and randomness are arguments. Nothing is allocated for a pick once the
//! service is known. The [`Book`] must stay bounded whatever is going on. Read `balance/roster.rs` for the draw, `balance/seat.rs` for one endpoint.

mod budget;
mod roster;
mod seat;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use foldhash::HashMap;
use maille_model::{ServiceId, Terms};

use crate::route::{Hop, Plan};
use budget::Budget;
use roster::{Ask, Dice, Place, Roster};
use seat::{Turn, Verdict};

/// Services that one book knows at the same time. A proxy subscribes to no more.
const MOST: usize = 10_000;
/// With so many services known, those that nobody calls any more are forgotten.
const MANY: usize = 256;
/// Nobody has called for so long.
const UNUSED: Duration = Duration::from_secs(60);

/// What is under way, and how it went. One for each worker.
#[derive(Debug, Default)]
pub struct Book {
    accounts: Vec<Option<Account>>,
    by_id: HashMap<ServiceId, usize>,
    free: Vec<usize>,
    generation: u32,
    tally: Tally,
}

/// What happened since the last [`Book::take_tally`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tries beyond the first.
    pub retries: u64,
    /// Those that the budget did not allow.
    pub retries_refused: u64,
    /// Endpoints that were left alone.
    pub ejections: u64,
    /// Endpoints that came back.
    pub readmissions: u64,
    /// Requests that were refused because a service, or its endpoints, had as much under way as they may.
    pub limited: u64,
}

/// What one service has under way.
#[derive(Debug)]
struct Account {
    /// Tells it from its successor in the same place.
    generation: u32,
    under_way: u32,
    budget: Budget,
    rosters: Vec<Roster>,
    terms: Terms,
    used: Instant,
}

/// One request or connection that is under way; to be given back to its book by [`Book::end`].
#[derive(Debug)]
#[must_use = "a lease that is dropped counts for ever: give it to Book::end"]
pub struct Lease {
    began: Instant,
    at: Option<Counted>,
    judged: bool,
}

/// What a try costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cost {
    /// Nothing: it is the first, and earns.
    Free,
    /// A place in the budget of its service.
    Budget,
}

#[derive(Debug)]
struct Counted {
    account: usize,
    generation: u32,
    place: Place,
}

/// What came of a request or connection, as far as its endpoint can be judged by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// An HTTP answer.
    Status(u16),
    /// A connection.
    Connected,
    /// It could not be reached, left, or did not answer in time.
    Nothing,
}

/// Why nobody was picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unpicked {
    /// Every endpoint was tried, or there is none.
    #[error("no endpoint is left to try")]
    NoEndpoint,
    /// The service, or each of its endpoints, has as much under way as it may.
    #[error("as much is under way as may be")]
    Limited,
    /// There is an endpoint, but the budget for tries beyond the first is used up.
    #[error("the retry budget is used up")]
    Spent,
    /// The book is full.
    #[error("more services are called than can be counted")]
    Full,
}

// === impl Tally ===

impl Tally {
    /// Adds `more`.
    pub fn add(&mut self, more: &Self) {
        self.retries += more.retries;
        self.retries_refused += more.retries_refused;
        self.ejections += more.ejections;
        self.readmissions += more.readmissions;
        self.limited += more.limited;
    }
}

// === impl Book ===

impl Book {
    /// Nothing under way.
    pub fn new() -> Self {
        Self::default()
    }

    /// Picks where `plan` goes now. `tried` are targets ([`Hop::target`]) that failed already, for the same request; `random` any 64 random bits.
    pub fn pick(
        &mut self,
        plan: &Plan,
        tried: &[SocketAddr],
        now: Instant,
        random: u64,
    ) -> Result<(Hop, Lease), Unpicked> {
        let cost = match tried {
            [] => Cost::Free,
            _ => Cost::Budget,
        };
        self.take(plan, (tried, cost), now, random)
    }

    /// The same for a request that everybody was asked for and nobody has looked at: whoever is best, once more.
    pub fn pick_again(
        &mut self,
        plan: &Plan,
        now: Instant,
        random: u64,
    ) -> Result<(Hop, Lease), Unpicked> {
        self.take(plan, (&[], Cost::Budget), now, random)
    }

    fn take(
        &mut self,
        plan: &Plan,
        (tried, cost): (&[SocketAddr], Cost),
        now: Instant,
        random: u64,
    ) -> Result<(Hop, Lease), Unpicked> {
        let backends = match plan {
            Plan::One(hop) if tried.contains(&hop.target()) => return Err(Unpicked::NoEndpoint),
            Plan::One(hop) => return Ok((hop.clone(), Lease::new(now, None))),
            Plan::Service(backends) => backends,
        };
        let (id, port) = backends.service();
        let terms = *backends.terms();
        let at = self.account(id, now)?;
        let tally = &mut self.tally;
        let Some(account) = self.accounts.get_mut(at).and_then(Option::as_mut) else {
            return Err(Unpicked::Full);
        };
        account.used = now;
        account.terms = terms;
        let first = cost == Cost::Free;
        if first {
            account.budget.request(now);
        }
        if terms
            .max_requests
            .is_some_and(|most| account.under_way >= most.get())
        {
            tally.limited += 1;
            return Err(Unpicked::Limited);
        }
        let known = account
            .rosters
            .iter()
            .position(|roster| roster.port == port);
        let nth = known.unwrap_or_else(|| {
            account.rosters.push(Roster::new(backends, now));
            account.rosters.len() - 1
        });
        let roster = &mut account.rosters[nth];
        roster.settle(backends, now);
        if roster.is_full() {
            tally.limited += 1;
            return Err(Unpicked::Limited);
        }
        let ask = Ask {
            backends,
            tried,
            now,
        };
        let seat = roster
            .choose(&ask, &mut Dice(random))
            .ok_or(Unpicked::NoEndpoint)?;
        let candidate = backends.candidates().get(seat);
        let hop = candidate
            .and_then(|candidate| backends.hop(candidate))
            .ok_or(Unpicked::NoEndpoint)?;
        let retry = &terms.retry;
        if !first
            && !account
                .budget
                .withdraw(now, retry.budget_percent, retry.budget_floor)
        {
            tally.retries_refused += 1;
            return Err(Unpicked::Spent);
        }
        tally.retries += u64::from(!first);
        let place = roster.begin(seat, now).ok_or(Unpicked::NoEndpoint)?;
        account.under_way += 1;
        let generation = account.generation;
        Ok((
            hop,
            Lease::new(
                now,
                Some(Counted {
                    account: at,
                    generation,
                    place,
                }),
            ),
        ))
    }

    /// The endpoint answered, or did not: once for each lease, the first word counts. `random` any 64 random bits.
    pub fn judge(&mut self, lease: &mut Lease, heard: Heard, now: Instant, random: u64) {
        if std::mem::replace(&mut lease.judged, true) {
            return;
        }
        let Some(counted) = &lease.at else { return };
        let Some(account) = Self::of(&mut self.accounts, counted) else {
            return;
        };
        let terms = account.terms.ejection;
        let verdict = match heard {
            Heard::Status(status) if terms.counts.status(status) => Verdict::Bad,
            Heard::Status(_) | Heard::Connected => Verdict::Good,
            Heard::Nothing => Verdict::Bad,
        };
        let port = counted.place.port;
        let Some(roster) = account
            .rosters
            .iter_mut()
            .find(|roster| roster.port == port)
        else {
            return;
        };
        let times = (lease.began, now);
        match roster.judge(&counted.place, times, verdict, (&terms, random)) {
            Turn::Ejected | Turn::Again => self.tally.ejections += 1,
            Turn::Back => self.tally.readmissions += 1,
            Turn::Nothing => {}
        }
    }

    /// It ended.
    pub fn end(&mut self, lease: Lease, now: Instant) {
        let Some(counted) = &lease.at else { return };
        let Some(account) = Self::of(&mut self.accounts, counted) else {
            return;
        };
        account.under_way = account.under_way.saturating_sub(1);
        account.used = now;
        let port = counted.place.port;
        if let Some(roster) = account
            .rosters
            .iter_mut()
            .find(|roster| roster.port == port)
        {
            roster.end(&counted.place, now, lease.judged);
        }
    }

    /// What happened since the last time.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    fn of<'a>(accounts: &'a mut [Option<Account>], counted: &Counted) -> Option<&'a mut Account> {
        accounts
            .get_mut(counted.account)?
            .as_mut()
            .filter(|account| account.generation == counted.generation)
    }

    /// Where the account of `id` is. A new one may take the place of one that nobody uses.
    fn account(&mut self, id: &ServiceId, now: Instant) -> Result<usize, Unpicked> {
        if let Some(at) = self.by_id.get(id) {
            return Ok(*at);
        }
        if self.by_id.len() >= MANY {
            self.forget_unused(now);
        }
        if self.by_id.len() >= MOST {
            return Err(Unpicked::Full);
        }
        self.generation = self.generation.wrapping_add(1);
        let account = Account {
            generation: self.generation,
            under_way: 0,
            budget: Budget::new(now),
            rosters: Vec::new(),
            terms: Terms::DEFAULT,
            used: now,
        };
        let at = match self.free.pop() {
            Some(at) => at,
            None => {
                self.accounts.push(None);
                self.accounts.len() - 1
            }
        };
        self.accounts[at] = Some(account);
        self.by_id.insert(id.clone(), at);
        Ok(at)
    }

    fn forget_unused(&mut self, now: Instant) {
        let (accounts, free) = (&mut self.accounts, &mut self.free);
        self.by_id.retain(|_, at| {
            let unused = accounts[*at].as_ref().is_none_or(|account| {
                account.under_way == 0 && now.saturating_duration_since(account.used) >= UNUSED
            });
            if unused {
                accounts[*at] = None;
                free.push(*at);
            }
            !unused
        });
    }
}

// === impl Lease ===

impl Lease {
    fn new(began: Instant, at: Option<Counted>) -> Self {
        Self {
            began,
            at,
            judged: false,
        }
    }

    /// Whether the first word was heard.
    pub fn is_judged(&self) -> bool {
        self.judged
    }
}

#[cfg(test)]
mod tests;
