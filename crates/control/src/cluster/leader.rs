// SPDX-License-Identifier: Apache-2.0
//! Holds the Lease `maille-control`, or waits for it. Decides nothing: [`super::lease`] does.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::PostParams;
use maille_chassis::clock::Clock;
use maille_chassis::drain::{Phase, Watch};
use maille_chassis::limited;
use tokio::sync::watch;

use super::lease::{DURATION, Elector, LOOK, Record, Step};
use super::{CallError, Cluster, call};
use crate::causes::with_causes;

/// The Lease's name, in control's own namespace.
const NAME: &str = "maille-control";

/// Says whether this replica writes. It stops saying so by itself when the API server is not heard of in time.
#[derive(Clone, Debug)]
pub struct Leading(watch::Receiver<bool>);

struct Candidate {
    api: Api<Lease>,
    me: String,
    elector: Elector,
    clock: Clock,
    says: watch::Sender<bool>,
}

// === impl Leading ===

impl Leading {
    /// Whether it writes now.
    pub fn now(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until that is different.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // The process is about to end.
            std::future::pending().await
        }
    }
}

/// The word, and the task that keeps it; it gives the lease up when the drain begins.
pub fn lead(
    cluster: &Cluster,
    clock: Clock,
    drain: Watch,
) -> (Leading, impl Future<Output = ()> + use<>) {
    let (says, leading) = watch::channel(false);
    let candidate = Candidate {
        api: Api::namespaced(cluster.client.clone(), &cluster.namespace),
        me: cluster.me.clone(),
        elector: Elector::new(&cluster.me),
        clock,
        says,
    };
    (Leading(leading), candidate.run(drain))
}

// === impl Candidate ===

impl Candidate {
    async fn run(mut self, mut drain: Watch) {
        loop {
            let next = self.clock.now() + LOOK;
            // A call that hangs must not make us rely on the lease for longer than it holds.
            let (clock, now) = (self.clock, self.clock.elapsed());
            let left = self.elector.leads_until(now).map(|until| until - now);
            let over = async move {
                match left {
                    Some(time) => clock.wait(time).await,
                    None => std::future::pending().await,
                }
            };
            let looked = tokio::select! {
                looked = self.look() => looked,
                () = over => {
                    self.say();
                    continue;
                }
                () = drain.reached(Phase::Graceful) => break,
            };
            if let Err(error) = looked {
                limited!(warn, error = %with_causes(&error), "lease not held");
            }
            self.say();
            tokio::select! {
                () = self.clock.until(next) => {}
                () = drain.reached(Phase::Graceful) => break,
            }
        }
        if *self.says.borrow() {
            self.says.send_replace(false);
            if let Err(error) = self.give_up().await {
                tracing::info!(error = %with_causes(&error), "lease not given up, it runs out");
            }
        }
    }

    fn say(&self) {
        let leads = self.elector.leads_until(self.clock.elapsed()).is_some();
        let changed = self.says.send_if_modified(|said| {
            let changed = *said != leads;
            *said = leads;
            changed
        });
        if changed {
            tracing::info!(leads, me = self.me, "lease");
        }
    }

    async fn look(&mut self) -> Result<(), CallError> {
        let lease = call(self.api.get_opt(NAME)).await?;
        let record = lease.as_ref().map(record);
        let begun = self.clock.elapsed();
        let transitions = match self.elector.look(record, begun) {
            Step::Wait => return Ok(()),
            Step::Create => 0,
            Step::Claim { transitions } => transitions,
        };
        let ours = self.ours(lease.as_ref(), transitions);
        let post = PostParams::default();
        let written = match lease {
            None => call(self.api.create(&post, &ours)).await,
            Some(_) => call(self.api.replace(NAME, &post, &ours)).await,
        };
        match written {
            Ok(_) => self.elector.wrote(begun),
            // Another one was quicker: it is seen at the next look.
            Err(error) if error.code() == Some(409) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn ours(&self, before: Option<&Lease>, transitions: i32) -> Lease {
        let now = MicroTime(Timestamp::now());
        let spec = before.and_then(|lease| lease.spec.as_ref());
        let mine = spec.filter(|spec| spec.holder_identity.as_ref() == Some(&self.me));
        let acquired = mine.and_then(|spec| spec.acquire_time.clone());
        Lease {
            metadata: before.map_or_else(
                || ObjectMeta {
                    name: Some(NAME.to_owned()),
                    ..ObjectMeta::default()
                },
                |lease| lease.metadata.clone(),
            ),
            spec: Some(LeaseSpec {
                holder_identity: Some(self.me.clone()),
                acquire_time: Some(acquired.unwrap_or_else(|| now.clone())),
                renew_time: Some(now),
                lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
                lease_transitions: Some(transitions),
                ..LeaseSpec::default()
            }),
        }
    }

    /// The next one need not wait.
    async fn give_up(&self) -> Result<(), CallError> {
        let Some(mut lease) = call(self.api.get_opt(NAME)).await? else {
            return Ok(());
        };
        if let Some(spec) = &mut lease.spec
            && spec.holder_identity.as_ref() == Some(&self.me)
        {
            spec.holder_identity = None;
            call(self.api.replace(NAME, &PostParams::default(), &lease)).await?;
        }
        Ok(())
    }
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec
        .lease_duration_seconds
        .and_then(|s| u64::try_from(s).ok());
    Record {
        holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
        renewed: spec.renew_time.map(|time| time.0.to_string()),
        duration: seconds.map_or(DURATION, Duration::from_secs),
        transitions: spec.lease_transitions.unwrap_or(0),
    }
}
