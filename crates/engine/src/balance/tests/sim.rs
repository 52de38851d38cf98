// SPDX-License-Identifier: Apache-2.0
//! Everything together, in virtual time: clients that retry, endpoints that are slow, ill, dead, come, drain and go, drawn from a seed.
//!
//! What must hold holds for every seed: the budget bounds what is sent, no more than half are left alone, who drains gets nothing new and
//! loses nothing, every request ends once, and nothing is left behind. What is a matter of degree holds over all seeds together.
//! `MAILLE_SIM_SEEDS` and `MAILLE_SIM_SEED` choose more seeds, or one; a failure says which.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt::Write as _;

use super::*;

/// What CI runs; the milestone asks for 10^4.
const SEEDS: u64 = 10_000;
/// Requests of one seed.
const REQUESTS: u32 = 200;
/// Endpoints tried for one request.
const TRIES: usize = 3;

/// How an endpoint behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Well,
    /// So many times slower.
    Slow(u32),
    /// Answers 503 at once.
    Ill,
    /// Refuses every connection.
    Dead,
    /// Was one of these, and is well by now.
    Healed,
}

#[derive(Debug)]
struct Pod {
    kind: Kind,
    /// Listed as ready.
    listed: bool,
    /// Serves: a pod that drains does until its last request has ended.
    serves: bool,
    got: u32,
    busy: u32,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Arrives(u32),
    /// Request, endpoint, whether it was reached, status.
    Answers(u32, u16, bool, u16),
    Changes,
    /// Who was broken is well from now on.
    Heals,
}

#[derive(Debug)]
struct Request {
    tried: Vec<SocketAddr>,
    lease: Option<Lease>,
    done: bool,
}

struct Sim {
    dice: Dice,
    world: World,
    book: Book,
    pods: BTreeMap<u16, Pod>,
    now: Instant,
    queue: BinaryHeap<Reverse<(Instant, u32, Happening)>>,
    sequence: u32,
    requests: Vec<Request>,
    began: Instant,
    /// Times of first tries and of retries.
    firsts: Vec<Instant>,
    retries: Vec<Instant>,
    failed: u32,
    succeeded: u32,
    /// Whether endpoints come and go.
    moving: bool,
}

/// What all seeds together have seen.
#[derive(Debug, Default)]
struct Seen {
    well: (u64, u64),
    slow: (u64, u64),
    broken: (u64, u64),
    failed: u64,
    succeeded: u64,
    retries: u64,
    refused: u64,
    ejections: u64,
    back: u64,
    drained: u64,
}

impl Sim {
    fn new(seed: u64, began: Instant) -> Self {
        let mut dice = Dice(seed);
        let mut terms = Terms::DEFAULT;
        terms.retry.budget_percent = [0, 5, 20, 50][dice.below(4)];
        terms.retry.budget_floor = [0, 1, 5][dice.below(3)];
        terms.ejection.consecutive = [3, 5, 7][dice.below(3)];
        terms.ejection.counts = [Counts::Unavailable, Counts::ServerErrors][dice.below(2)];
        if dice.below(3) == 0 {
            terms.max_requests_per_endpoint = NonZeroU32::new(8);
        }
        if dice.below(4) == 0 {
            terms.zones = Zones::PreferClose;
        }
        let moving = dice.below(2) == 0;
        let mut sim = Self {
            world: World::new(terms, 0),
            dice,
            book: Book::new(),
            pods: BTreeMap::new(),
            now: began,
            queue: BinaryHeap::new(),
            sequence: 0,
            requests: Vec::new(),
            began,
            firsts: Vec::new(),
            retries: Vec::new(),
            failed: 0,
            succeeded: 0,
            moving,
        };
        for _ in 0..sim.dice.below(11) + 2 {
            sim.come();
        }
        sim.publish();
        let mut at = began;
        for n in 0..REQUESTS {
            // One in 20 ms: 5 s in all, and bursts among them.
            let gap = if n % 10 == 0 {
                sim.dice.below(200_000)
            } else {
                sim.dice.below(20_000)
            };
            at += Duration::from_micros(gap as u64);
            sim.at(at, Happening::Arrives(n));
        }
        if moving {
            for n in 0..50 {
                // A hundred changes a second, for half a second; then some more.
                let ms = if n < 40 { n * 10 } else { n * 100 };
                sim.at(began + Duration::from_millis(ms), Happening::Changes);
            }
        }
        if sim.dice.below(2) == 0 {
            sim.at(began + Duration::from_millis(500), Happening::Heals);
        }
        sim
    }

    fn at(&mut self, when: Instant, what: Happening) {
        self.sequence += 1;
        self.queue.push(Reverse((when, self.sequence, what)));
    }

    fn come(&mut self) {
        let n = self.pods.last_key_value().map_or(1, |(n, _)| n + 1);
        let kind = match self.dice.below(10) {
            0 => Kind::Slow(20),
            1 => Kind::Ill,
            2 => Kind::Dead,
            _ => Kind::Well,
        };
        let pod = Pod {
            kind,
            listed: true,
            serves: true,
            got: 0,
            busy: 0,
        };
        self.pods.insert(n, pod);
    }

    fn publish(&mut self) {
        let zone = |n: u16| ["a", "b", "c"][usize::from(n % 3)];
        let listed: Vec<_> = self
            .pods
            .iter()
            .filter(|(_, pod)| pod.listed)
            .map(|(n, _)| (*n, zone(*n)))
            .collect();
        self.world.behind(listed);
    }

    /// One comes, or one drains: control lists it no more, and it ends what it has.
    fn change(&mut self) {
        let listed: Vec<u16> = self
            .pods
            .iter()
            .filter(|(_, pod)| pod.listed)
            .map(|(n, _)| *n)
            .collect();
        if listed.len() > 3 && self.dice.below(2) == 0 {
            let leaves = listed[self.dice.below(listed.len())];
            let pod = self.pods.get_mut(&leaves).unwrap();
            pod.listed = false;
            pod.serves = pod.busy > 0;
        } else if listed.len() < 14 {
            self.come();
        }
        self.publish();
    }

    /// Sends a request to whom the book picks.
    fn attempt(&mut self, n: u32) {
        let plan = self.world.plan();
        let random = self.dice.share().to_bits();
        let tried = self.requests[n as usize].tried.clone();
        let picked = if tried.len() < TRIES {
            self.book.pick(&plan, &tried, self.now, random)
        } else {
            Err(Unpicked::NoEndpoint)
        };
        if tried.is_empty() {
            self.firsts.push(self.now);
        }
        let Ok((hop, lease)) = picked else {
            self.failed += 1;
            let request = &mut self.requests[n as usize];
            assert!(
                !std::mem::replace(&mut request.done, true),
                "it ended twice"
            );
            return;
        };
        if !tried.is_empty() {
            self.retries.push(self.now);
        }
        let at = number(&hop);
        let request = &mut self.requests[n as usize];
        assert!(!request.tried.contains(&hop.target()), "tried twice");
        request.tried.push(hop.target());
        request.lease = Some(lease);
        let pod = self.pods.get_mut(&at).unwrap();
        assert!(pod.listed, "who drains gets nothing new");
        pod.got += 1;
        pod.busy += 1;
        let usual = 1_000 + self.dice.below(4_000) as u64;
        let (micros, reached, status) = match pod.kind {
            // What waits there makes the rest wait.
            Kind::Well | Kind::Healed => (usual * u64::from(1 + pod.busy / 4), true, 200),
            Kind::Slow(times) => (usual * u64::from(times), true, 200),
            Kind::Ill => (100, true, 503),
            Kind::Dead => (50, false, 0),
        };
        let when = self.now + Duration::from_micros(micros);
        self.at(when, Happening::Answers(n, at, reached, status));
    }

    fn answer(&mut self, n: u32, at: u16, reached: bool, status: u16) {
        let pod = self.pods.get_mut(&at).unwrap();
        assert!(pod.serves, "who drains serves what it has");
        pod.busy -= 1;
        pod.serves = pod.listed || pod.busy > 0;
        let mut lease = self.requests[n as usize].lease.take().unwrap();
        let heard = if reached {
            Heard::Status(status)
        } else {
            Heard::Nothing
        };
        let random = self.dice.share().to_bits();
        self.book.judge(&mut lease, heard, self.now, random);
        self.book.end(lease, self.now);
        if status == 200 {
            self.succeeded += 1;
            let request = &mut self.requests[n as usize];
            assert!(
                !std::mem::replace(&mut request.done, true),
                "it ended twice"
            );
        } else {
            self.attempt(n);
        }
    }

    fn run(&mut self) {
        while let Some(Reverse((when, _, what))) = self.queue.pop() {
            self.now = when;
            match what {
                Happening::Arrives(_) => {
                    self.requests.push(Request {
                        tried: Vec::new(),
                        lease: None,
                        done: false,
                    });
                    self.attempt(u32::try_from(self.requests.len() - 1).unwrap());
                }
                Happening::Answers(n, at, reached, status) => self.answer(n, at, reached, status),
                Happening::Changes => self.change(),
                Happening::Heals => {
                    let broken = |pod: &&mut Pod| matches!(pod.kind, Kind::Ill | Kind::Dead);
                    let healed = self.pods.values_mut().filter(broken);
                    healed.for_each(|pod| pod.kind = Kind::Healed);
                }
            }
            self.check_floor();
        }
    }

    fn check_floor(&self) {
        for account in self.book.accounts.iter().flatten() {
            for roster in &account.rosters {
                let (out, all) = roster.outs();
                // A group that shrank may have more: who was out before is not let in for that.
                assert!(
                    self.moving || out * 2 <= all,
                    "{out} of {all} are left alone"
                );
            }
        }
    }

    /// What must hold at the end of every seed.
    fn check(&self) {
        assert!(
            self.requests.iter().all(|request| request.done),
            "a request never ended"
        );
        assert_eq!(self.failed + self.succeeded, REQUESTS);
        let account = self.book.accounts[0].as_ref().unwrap();
        assert_eq!(account.under_way, 0, "something was left behind");
        assert!(account.rosters.iter().all(|roster| roster.under_way() == 0));
        self.check_budget();
    }

    /// In any ten seconds there are no more retries than a share of the requests that came in them, and the floor.
    fn check_budget(&self) {
        let retry = &self.world.terms.retry;
        let second = |at: &Instant| at.saturating_duration_since(self.began).as_secs();
        let last = self
            .firsts
            .iter()
            .chain(&self.retries)
            .map(second)
            .max()
            .unwrap_or(0);
        for end in 0..=last {
            let within = |at: &&Instant| second(at) <= end && second(at) + 10 > end;
            let requests = self.firsts.iter().filter(within).count();
            let retries = self.retries.iter().filter(within).count();
            let allowed = requests * usize::from(retry.budget_percent) / 100
                + usize::from(retry.budget_floor) * 10;
            assert!(
                retries <= allowed,
                "{retries} retries where {allowed} are allowed"
            );
        }
    }

    fn add_to(&mut self, seen: &mut Seen) {
        for pod in self.pods.values() {
            let sum = match pod.kind {
                Kind::Well => &mut seen.well,
                Kind::Slow(_) => &mut seen.slow,
                Kind::Ill | Kind::Dead => &mut seen.broken,
                Kind::Healed => continue,
            };
            // Only worlds that stand still tell what a share is.
            if !self.moving {
                sum.0 += u64::from(pod.got);
                sum.1 += 1;
            }
        }
        seen.drained += self.pods.values().filter(|pod| !pod.listed).count() as u64;
        let tally = self.book.take_tally();
        seen.failed += u64::from(self.failed);
        seen.succeeded += u64::from(self.succeeded);
        seen.retries += tally.retries;
        seen.refused += tally.retries_refused;
        seen.ejections += tally.ejections;
        seen.back += tally.readmissions;
        assert_eq!(tally.retries, self.retries.len() as u64);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the length of a test is its caller's choice"
)]
fn chosen(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Prints the seed when it is dropped in a panic.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("MAILLE_SIM_SEED={} shows it again", self.0);
        }
    }
}

#[test]
fn whatever_is_drawn_the_promises_hold() {
    let began = start();
    let seeds = match chosen("MAILLE_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..chosen("MAILLE_SIM_SEEDS").unwrap_or(SEEDS),
    };
    let mut seen = Seen::default();
    let many = seeds.end - seeds.start >= 1_000;
    for seed in seeds {
        let _told = Seed(seed);
        let mut sim = Sim::new(seed, began);
        sim.run();
        sim.check();
        sim.add_to(&mut seen);
    }
    if !many {
        return;
    }
    let mut text = String::new();
    write!(text, "{seen:?}").unwrap();
    println!("{text}");
    let mean = |(got, pods): (u64, u64)| got as f64 / pods as f64;
    assert!(
        mean(seen.slow) < 0.4 * mean(seen.well),
        "slow endpoints shed load: {text}"
    );
    assert!(
        mean(seen.broken) < 0.6 * mean(seen.well),
        "broken endpoints shed load: {text}"
    );
    let events = [
        seen.retries,
        seen.refused,
        seen.ejections,
        seen.drained,
        seen.failed,
    ];
    assert!(
        events.iter().all(|count| *count > 1_000),
        "everything happened: {text}"
    );
    assert!(seen.failed * 10 < seen.succeeded, "most is served: {text}");
}

/// Ten endpoints that are alike, under a steady load: none gets much more or less than its share, whatever the seed.
#[test]
fn equals_get_equal_shares() {
    let began = start();
    for seed in 0..200 {
        let _told = Seed(seed);
        let mut sim = Sim::new(seed, began);
        sim.moving = false;
        sim.queue
            .retain(|Reverse((_, _, what))| *what != Happening::Changes);
        sim.pods.clear();
        sim.world = World::new(Terms::DEFAULT, 0);
        for n in 1..=5 {
            let pod = Pod {
                kind: Kind::Well,
                listed: true,
                serves: true,
                got: 0,
                busy: 0,
            };
            sim.pods.insert(n, pod);
        }
        sim.publish();
        sim.run();
        sim.check();
        let share = REQUESTS / 5;
        let got: Vec<u32> = sim.pods.values().map(|pod| pod.got).collect();
        assert!(
            got.iter().all(|got| (share / 3..share * 3).contains(got)),
            "{got:?}"
        );
    }
}
