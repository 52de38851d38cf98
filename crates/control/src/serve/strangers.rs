// SPDX-License-Identifier: Apache-2.0
//! Connections from a network that have proved nothing: few from each address, and none for long. A proxy needs one for as long
//! as its first certificate takes; whoever else opens them must not take the room of those that have proved who they are.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// From one address at a time: a pod has one proxy, a node that stands for its pods has as many as pods start at once.
const EACH: usize = 128;
/// For a handshake and one question about a certificate, which may have to wait for control to have read its sources.
pub(super) const LIFETIME: Duration = Duration::from_secs(60);

/// How many there are, by address. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Strangers(Arc<Mutex<BTreeMap<IpAddr, usize>>>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Stranger {
    all: Strangers,
    source: IpAddr,
    until: Pin<Box<Sleep>>,
}

// === impl Strangers ===

impl Strangers {
    /// One more from `source`; `None` where there are enough of them.
    pub(super) fn admit(&self, source: IpAddr) -> Option<Stranger> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(source).or_default();
        if *count >= EACH {
            return None;
        }
        *count += 1;
        Some(Stranger {
            all: self.clone(),
            source,
            until: Box::pin(sleep_until(Instant::now() + LIFETIME)),
        })
    }
}

// === impl Stranger ===

impl Stranger {
    /// Whether its time is over; the task is woken when it will be.
    pub(super) fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.until.as_mut().poll(context)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut counts = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn each_address_has_so_many_and_gets_them_back() {
        let all = Strangers::default();
        let [one, two] = ["10.0.0.1", "fd00::2"].map(|text| text.parse::<IpAddr>().unwrap());
        let mut those: Vec<_> = (0..EACH).map(|_| all.admit(one).unwrap()).collect();
        assert!(all.admit(one).is_none());
        assert!(all.admit(two).is_some(), "another address has its own");
        drop(those.pop());
        those.push(all.admit(one).unwrap());
        assert!(all.admit(one).is_none());
        drop(those);
        assert!(all.0.lock().unwrap().is_empty(), "nobody is remembered");
    }

    #[tokio::test(start_paused = true)]
    async fn its_time_ends() {
        let begin = Instant::now();
        let mut stranger = Strangers::default()
            .admit("10.0.0.1".parse().unwrap())
            .unwrap();
        poll_fn(|context| stranger.poll_over(context)).await;
        assert!(begin.elapsed() >= LIFETIME);
    }
}
