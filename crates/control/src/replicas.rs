// SPDX-License-Identifier: Apache-2.0
//! The other replicas of control: each proxy is connected to one of us, and whoever is asked answers for all.
//!
//! Who they are comes from what every replica knows anyway, the pods behind control's own Service. Each of us keeps a stream to each
//! other ([`peer`]): by it proxies that are connected there are asked. Statistics are fetched when somebody wants them. Must never
//! wait long for one that is away: who did not answer is named in the answer. Read `serve/replicas.rs` for the other end.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use maille_model::WorkloadUid;
use maille_wire::v1;
use maille_wire::v1::replicas_client::ReplicasClient;
use parking_lot::Mutex;
use tokio::time::timeout;
use tonic::Status;
use tonic::transport::Channel;

use crate::causes::with_causes;
use crate::hub::{Hub, Proxy};
use crate::stat::{KEPT_SECONDS, Stats};

/// Who they are, by what exists. Pure.
mod find;
/// One of them.
mod peer;
/// All of them.
mod watch;

pub use watch::{Own, keep};

/// For the statistics of one replica.
const PATIENCE: Duration = Duration::from_secs(3);
/// Parts of one answer; a replica that has more keeps more than it may.
const PARTS: usize = 1_024;

/// Those that are known. Cheap to clone; on one machine there are none.
#[derive(Clone, Debug, Default)]
pub struct Replicas(Arc<Mutex<BTreeMap<String, Replica>>>);

#[derive(Clone, Debug)]
struct Replica {
    channel: Channel,
    /// Its stream is open.
    is_there: bool,
}

/// What all of us know together.
#[derive(Debug)]
pub struct Gathered {
    /// Ours among it, where there are others at all.
    stats: Option<Stats>,
    others: HashMap<WorkloadUid, Proxy>,
    /// Replicas that did not answer; their proxies are missing.
    pub missing: Vec<String>,
}

// === impl Replicas ===

impl Replicas {
    /// Everything that was counted in the last `window` seconds, by proxies of every replica.
    pub async fn gather(&self, hub: &Hub, window: u64) -> Gathered {
        let all: Vec<(String, Replica)> = self.0.lock().clone().into_iter().collect();
        let mut gathered = Gathered {
            stats: (!all.is_empty()).then(Stats::default),
            others: HashMap::new(),
            missing: Vec::new(),
        };
        let asked = all.into_iter().map(async |(name, replica)| {
            if !replica.is_there {
                return (name, None);
            }
            match timeout(PATIENCE, statistics(replica.channel, window)).await {
                Ok(Ok(parts)) => (name, Some(parts)),
                Ok(Err(error)) => {
                    let reason = with_causes(&error);
                    maille_chassis::limited!(
                        warn,
                        replica = name,
                        reason,
                        "no statistics of another replica"
                    );
                    (name, None)
                }
                Err(_) => (name, None),
            }
        });
        let told = join_all(asked).await;
        let second = hub.second() + KEPT_SECONDS;
        for (name, parts) in told {
            match parts {
                Some(parts) => gathered.take(&parts, second),
                None => gathered.missing.push(name),
            }
        }
        if let Some(stats) = &mut gathered.stats {
            stats.absorb(&hub.stats(), KEPT_SECONDS);
        }
        gathered
    }

    /// Those that cannot be asked at this moment.
    pub fn away(&self) -> Vec<String> {
        let all = self.0.lock();
        let away = all.iter().filter(|(_, replica)| !replica.is_there);
        away.map(|(name, _)| name.clone()).collect()
    }

    /// What to say to somebody who misses a proxy: empty where every replica is there.
    pub fn excuse(&self) -> String {
        match &self.away()[..] {
            [] => String::new(),
            away => format!(
                " (or it is connected to {}, which does not answer)",
                away.join(" or ")
            ),
        }
    }

    fn put(&self, name: &str, channel: Channel) {
        let is_there = false;
        let replica = Replica { channel, is_there };
        self.0.lock().insert(name.to_owned(), replica);
    }

    fn forget(&self, name: &str) {
        self.0.lock().remove(name);
    }

    fn set_there(&self, name: &str, is_there: bool) {
        if let Some(replica) = self.0.lock().get_mut(name) {
            replica.is_there = is_there;
        }
    }
}

async fn statistics(channel: Channel, window_s: u64) -> Result<Vec<v1::StatisticsPart>, Status> {
    let mut client = ReplicasClient::new(channel);
    let asked = client.statistics(v1::StatisticsRequest { window_s });
    let mut answer = asked.await?.into_inner();
    let mut parts = Vec::new();
    while let Some(part) = answer.message().await? {
        if parts.len() >= PARTS {
            return Err(Status::resource_exhausted("too many parts"));
        }
        parts.push(part);
    }
    Ok(parts)
}

// === impl Gathered ===

impl Gathered {
    fn take(&mut self, parts: &[v1::StatisticsPart], second: u64) {
        for part in parts {
            if let Some(stats) = &mut self.stats {
                stats.unload(part, second);
            }
            for connected in &part.proxies {
                if let Some(uid) = WorkloadUid::new(&connected.uid) {
                    let known = self.others.entry(uid).or_default();
                    known.join(&Proxy::carried(connected));
                }
            }
        }
    }

    /// What `read` makes of what was counted, by the second that it is there. Never hold anything of it across an `await`.
    pub fn read<T>(&self, hub: &Hub, read: impl FnOnce(&Stats, u64) -> T) -> T {
        match &self.stats {
            None => read(&hub.stats(), hub.second()),
            Some(stats) => read(stats, hub.second() + KEPT_SECONDS),
        }
    }

    /// What is known of a workload's proxy.
    pub fn proxy(&self, hub: &Hub, uid: &WorkloadUid) -> Proxy {
        let mut proxy = hub.proxy(uid);
        if let Some(other) = self.others.get(uid) {
            proxy.join(other);
        }
        proxy
    }
}
