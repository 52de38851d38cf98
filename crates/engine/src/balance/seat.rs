// SPDX-License-Identifier: Apache-2.0
//! One endpoint as its clients feel it: what is under way there, how slow it is of late, whether it is left alone.
//!
//! Slowness is a peak-sensitive moving average (Finagle's Peak EWMA): a worse answer counts at once, a better one by and by, and what is long ago
//! counts for nothing. Time and randomness are arguments. Read `roster.rs` next.

use std::time::{Duration, Instant};

use maille_model::terms::Ejection;

/// After so long an answer counts 1/e.
const FADE: Duration = Duration::from_secs(10);
/// A new endpoint gets its whole share after this time, and before that a part of it that rises.
pub(super) const SLOW_START: Duration = Duration::from_secs(10);
/// The least part.
const FIRST_SHARE: f64 = 0.1;
/// Answers that are needed before their success rate says anything.
const RATED: u32 = 20;
/// How much one answer weighs in the success rate.
const RATE_WEIGHT: f64 = 1.0 / 20.0;
/// How much of a penalty chance may add or take away, so that not all endpoints come back at once.
const JITTER: f64 = 0.1;

/// What is known of one endpoint.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) under_way: u32,
    /// The roster's epoch in which it came: older leases are its namesake's.
    pub(super) born: u32,
    /// Seconds; 0 where no answer came yet.
    latency: f64,
    /// When `latency` was found out.
    told: Instant,
    /// When it came, or came back, while others were at work.
    came: Option<Instant>,
    health: Health,
    /// Failures in a row.
    failures: u32,
    /// Penalties in a row.
    penalties: u32,
    /// Share of good answers, and how many there were.
    success: f64,
    answers: u32,
}

/// Whether it is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Well,
    /// Until then it gets nothing; afterwards one request, which decides.
    Ejected(Instant),
    /// That one request is under way.
    Probed,
}

/// What an answer, or none, says about an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It works.
    Good,
    /// It does not.
    Bad,
}

/// What a verdict changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Nothing,
    /// It is left alone from now on.
    Ejected,
    /// It was probed, and failed again.
    Again,
    /// It is back.
    Back,
}

impl Seat {
    pub(super) fn new(now: Instant, born: u32, came: Option<Instant>) -> Self {
        Self {
            under_way: 0,
            born,
            latency: 0.0,
            told: now,
            came,
            health: Health::Well,
            failures: 0,
            penalties: 0,
            success: 1.0,
            answers: 0,
        }
    }

    /// Whether it counts as ejected; one that is probed still does.
    pub(super) fn is_out(&self) -> bool {
        self.health != Health::Well
    }

    /// Whether it gets nothing now.
    pub(super) fn is_shut(&self, now: Instant) -> bool {
        match self.health {
            Health::Well => false,
            Health::Ejected(until) => now < until,
            Health::Probed => true,
        }
    }

    /// Whether its penalty is over and nobody has tried it since.
    pub(super) fn wants_probe(&self, now: Instant) -> bool {
        matches!(self.health, Health::Ejected(until) if now >= until)
    }

    /// The part of its share that it gets: 1 but for one that came not long ago.
    pub(super) fn share(&self, now: Instant) -> f64 {
        self.came.map_or(1.0, |came| {
            let age = now.saturating_duration_since(came).as_secs_f64();
            (age / SLOW_START.as_secs_f64()).clamp(FIRST_SHARE, 1.0)
        })
    }

    /// What one more request costs there. `mean` stands for an endpoint of which nothing is known.
    pub(super) fn load(&self, now: Instant, mean: f64) -> f64 {
        let latency = if self.latency > 0.0 {
            let age = now.saturating_duration_since(self.told);
            self.latency * (-age.as_secs_f64() / FADE.as_secs_f64()).exp()
        } else {
            mean
        };
        // Without any latency at all the number alone decides.
        latency.max(1e-6) * (f64::from(self.under_way) + 1.0)
    }

    /// Something begins there.
    pub(super) fn begin(&mut self, now: Instant) {
        self.under_way = self.under_way.saturating_add(1);
        if self.wants_probe(now) {
            self.health = Health::Probed;
        }
    }

    /// It ended. `judged` says whether a verdict was given: a probe without one is worth nothing, and another may come.
    pub(super) fn end(&mut self, now: Instant, judged: bool) {
        self.under_way = self.under_way.saturating_sub(1);
        if self.health == Health::Probed && !judged {
            self.health = Health::Ejected(now);
        }
    }

    /// An answer came after `took`, or none did. `may_eject` says whether one endpoint more may be left alone.
    pub(super) fn judge(
        &mut self,
        now: Instant,
        took: Duration,
        verdict: Verdict,
        (terms, may_eject, chance): (&Ejection, bool, f64),
    ) -> Turn {
        self.note_latency(now, took, verdict);
        let good = f64::from(u8::from(verdict == Verdict::Good));
        self.success += (good - self.success) * RATE_WEIGHT;
        self.answers = self.answers.saturating_add(1);
        match (verdict, self.health) {
            (Verdict::Good, Health::Probed) => {
                self.health = Health::Well;
                self.failures = 0;
                (self.success, self.answers) = (1.0, 0);
                self.came = Some(now);
                Turn::Back
            }
            (Verdict::Good, _) => {
                self.failures = 0;
                if self.share(now) >= 1.0 {
                    (self.penalties, self.came) = (0, None);
                }
                Turn::Nothing
            }
            (Verdict::Bad, Health::Probed) => {
                self.penalise(now, terms, chance);
                Turn::Again
            }
            (Verdict::Bad, Health::Ejected(_)) => Turn::Nothing,
            (Verdict::Bad, Health::Well) => {
                self.failures = self.failures.saturating_add(1);
                let poor = terms.success_percent.is_some_and(|percent| {
                    self.answers >= RATED && self.success * 100.0 < f64::from(percent)
                });
                if may_eject && (poor || self.failures >= terms.consecutive) {
                    self.penalise(now, terms, chance);
                    Turn::Ejected
                } else {
                    Turn::Nothing
                }
            }
        }
    }

    fn note_latency(&mut self, now: Instant, took: Duration, verdict: Verdict) {
        let took = took.as_secs_f64();
        let age = now.saturating_duration_since(self.told).as_secs_f64();
        let old = self.latency;
        // A refusal that came fast is no reason to send more.
        if took >= old {
            self.latency = took;
        } else if verdict == Verdict::Good {
            let kept = (-age / FADE.as_secs_f64()).exp();
            self.latency = old * kept + took * (1.0 - kept);
        } else {
            return;
        }
        self.told = now;
    }

    fn penalise(&mut self, now: Instant, terms: &Ejection, chance: f64) {
        let doubled = 2f64.powi(i32::try_from(self.penalties.min(20)).unwrap_or(20));
        let whole =
            (terms.min_penalty.as_secs_f64() * doubled).min(terms.max_penalty.as_secs_f64());
        let jittered = whole * (1.0 + JITTER * (2.0 * chance - 1.0));
        self.penalties = self.penalties.saturating_add(1);
        self.health = Health::Ejected(now + Duration::from_secs_f64(jittered));
    }
}
