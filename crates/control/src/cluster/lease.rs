// SPDX-License-Identifier: Apache-2.0
//! Who of several replicas writes: the one that holds a Lease. Pure: it is told what the Lease says and what time it is, and
//! says what to do.
//!
//! Clocks of machines are not compared: somebody else's lease has run out when it was not renewed for its whole duration by
//! our own clock (as Kubernetes' own components do it). Who holds it stops before that, however late an answer comes.
//! Read [`super::leader`] next.

use std::time::Duration;

/// How long a lease holds after it was renewed.
pub const DURATION: Duration = Duration::from_secs(15);
/// How long its holder relies on it: it has stopped before anybody else begins.
const RELIED_ON: Duration = Duration::from_secs(10);
/// Between two looks.
pub const LOOK: Duration = Duration::from_secs(2);

/// What a Lease says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who holds it; nobody where it was given up.
    pub holder: Option<String>,
    /// When it was renewed, by its holder's clock: only compared with itself.
    pub renewed: Option<String>,
    /// How long it holds.
    pub duration: Duration,
    /// How often its holder has changed.
    pub transitions: i32,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is none: make it ours.
    Create,
    /// Write that it is ours, with so many transitions.
    Claim {
        /// How often its holder has changed.
        transitions: i32,
    },
    /// It is somebody else's.
    Wait,
}

/// One replica's view.
#[derive(Clone, Debug)]
pub struct Elector {
    me: String,
    /// What somebody else's lease said, and since when it says so.
    seen: Option<(Record, Duration)>,
    /// Until when we rely on ours.
    until: Option<Duration>,
}

// === impl Elector ===

impl Elector {
    /// A replica of this name that holds nothing.
    pub fn new(me: &str) -> Self {
        Self {
            me: me.to_owned(),
            seen: None,
            until: None,
        }
    }

    /// What to do when the Lease says `record` at `now`.
    pub fn look(&mut self, record: Option<Record>, now: Duration) -> Step {
        let Some(record) = record else {
            self.seen = None;
            return Step::Create;
        };
        let transitions = record.transitions;
        match &record.holder {
            Some(holder) if *holder == self.me => return Step::Claim { transitions },
            Some(_) => {}
            None => {
                return Step::Claim {
                    transitions: transitions.saturating_add(1),
                };
            }
        }
        // Whatever we wrote before, it is somebody else's now.
        self.until = None;
        match &self.seen {
            Some((before, since)) if *before == record => {
                if now.saturating_sub(*since) < record.duration {
                    return Step::Wait;
                }
                Step::Claim {
                    transitions: transitions.saturating_add(1),
                }
            }
            _ => {
                self.seen = Some((record, now));
                Step::Wait
            }
        }
    }

    /// The Lease was written as ours; the writing began at `begun`.
    pub fn wrote(&mut self, begun: Duration) {
        self.seen = None;
        self.until = Some(begun + RELIED_ON);
    }

    /// Until when this replica writes, if it does at `now`.
    pub fn leads_until(&self, now: Duration) -> Option<Duration> {
        self.until.filter(|until| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(holder: Option<&str>, renewed: &str) -> Option<Record> {
        Some(Record {
            holder: holder.map(str::to_owned),
            renewed: Some(renewed.to_owned()),
            duration: DURATION,
            transitions: 3,
        })
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_lease_that_is_free_is_taken() {
        let mut elector = Elector::new("a");
        assert_eq!(elector.look(None, at(0)), Step::Create);
        assert_eq!(
            elector.look(record(None, "x"), at(0)),
            Step::Claim { transitions: 4 }
        );
        assert_eq!(elector.leads_until(at(0)), None);
        elector.wrote(at(0));
        assert_eq!(elector.leads_until(at(9)), Some(at(10)));
        assert_eq!(elector.leads_until(at(10)), None);
    }

    #[test]
    fn ours_is_renewed_without_a_transition() {
        let mut elector = Elector::new("a");
        let step = elector.look(record(Some("a"), "x"), at(100));
        assert_eq!(step, Step::Claim { transitions: 3 });
    }

    #[test]
    fn another_ones_is_taken_when_it_was_not_renewed_for_its_duration() {
        let mut elector = Elector::new("a");
        assert_eq!(elector.look(record(Some("b"), "1"), at(0)), Step::Wait);
        assert_eq!(elector.look(record(Some("b"), "1"), at(14)), Step::Wait);
        // Renewed: the wait begins again.
        assert_eq!(elector.look(record(Some("b"), "2"), at(14)), Step::Wait);
        assert_eq!(elector.look(record(Some("b"), "2"), at(28)), Step::Wait);
        assert_eq!(
            elector.look(record(Some("b"), "2"), at(29)),
            Step::Claim { transitions: 4 }
        );
    }

    #[test]
    fn who_finds_another_holder_stops_at_once() {
        let mut elector = Elector::new("a");
        elector.wrote(at(0));
        assert_eq!(elector.look(record(Some("b"), "1"), at(1)), Step::Wait);
        assert_eq!(elector.leads_until(at(1)), None);
    }

    /// However long answers take and whoever dies, two never lead at once; and somebody leads again soon.
    #[test]
    fn never_two_at_once() {
        for seed in 0..500 {
            let mut random = fastrand::Rng::with_seed(seed);
            let names = ["a", "b", "c"];
            let mut electors = names.map(Elector::new);
            let mut lease: Option<Record> = None;
            // Until when each is away.
            let mut away = [0; 3];
            let mut last_led = 0;
            for second in 0..600_u64 {
                for who in 0..3 {
                    if away[who] > second {
                        continue;
                    }
                    // Reading and writing are one step here: the API server refuses a write to a version that is gone.
                    let begun = at(second.saturating_sub(random.u64(0..3)));
                    let step = electors[who].look(lease.clone(), at(second));
                    let transitions = match step {
                        Step::Wait => continue,
                        Step::Create => 0,
                        Step::Claim { transitions } => transitions,
                    };
                    lease = Some(Record {
                        holder: Some(names[who].to_owned()),
                        renewed: Some(second.to_string()),
                        duration: DURATION,
                        transitions,
                    });
                    electors[who].wrote(begun);
                    if random.u8(..) < 4 {
                        away[who] = second + random.u64(1..60);
                    }
                }
                let leading = electors.iter();
                let leading = leading.filter(|one| one.leads_until(at(second)).is_some());
                let leading = leading.count();
                assert!(leading <= 1, "seed {seed}: {leading} lead at {second}");
                if leading == 1 || away.iter().all(|until| *until > second) {
                    last_led = second;
                }
                assert!(
                    second - last_led < 60,
                    "seed {seed}: nobody leads at {second}"
                );
            }
        }
    }
}
