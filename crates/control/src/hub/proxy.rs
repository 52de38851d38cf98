// SPDX-License-Identifier: Apache-2.0
//! What two replicas know of one proxy, put together. Pure. Read [`crate::replicas`] for how it travels.

use std::time::{Duration, UNIX_EPOCH};

use maille_model::WorkloadUid;
use maille_wire::v1;

use super::Proxy;

// === impl Proxy ===

impl Proxy {
    /// As another replica is told.
    pub(super) fn carry(&self, uid: &WorkloadUid) -> v1::Connected {
        let count = |streams: usize| u32::try_from(streams).unwrap_or(u32::MAX);
        let until = self.certified_until;
        let seconds = until.and_then(|until| until.duration_since(UNIX_EPOCH).ok());
        v1::Connected {
            uid: uid.to_string(),
            discovery: count(self.discovery),
            reports: count(self.reports),
            questions: count(self.questions),
            certified_until: seconds
                .and_then(|seconds| i64::try_from(seconds.as_secs()).ok())
                .unwrap_or_default(),
            rejection: self.rejection.clone().unwrap_or_default(),
        }
    }

    /// What another replica told.
    pub(crate) fn carried(told: &v1::Connected) -> Self {
        let count = |streams: u32| usize::try_from(streams).unwrap_or(usize::MAX);
        let until = u64::try_from(told.certified_until).ok();
        let until = until.filter(|seconds| *seconds > 0);
        Self {
            discovery: count(told.discovery),
            reports: count(told.reports),
            questions: count(told.questions),
            certified_until: until
                .and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds))),
            signed: (0, 0),
            told: (0, 0),
            rejection: Some(told.rejection.clone()).filter(|text| !text.is_empty()),
        }
    }

    /// Adds what another replica knows of the same proxy: the newest certificate counts.
    pub(crate) fn join(&mut self, other: &Self) {
        self.discovery = self.discovery.saturating_add(other.discovery);
        self.reports = self.reports.saturating_add(other.reports);
        self.questions = self.questions.saturating_add(other.questions);
        self.certified_until = self.certified_until.max(other.certified_until);
        if self.rejection.is_none() {
            self.rejection.clone_from(&other.rejection);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_certificate_counts_and_streams_add_up() {
        let at = |seconds| Some(UNIX_EPOCH + Duration::from_secs(seconds));
        let uid = WorkloadUid::new("u").unwrap();
        let there = Proxy {
            discovery: 1,
            certified_until: at(100),
            ..Proxy::default()
        };
        let mut here = Proxy {
            reports: 1,
            certified_until: at(200),
            ..Proxy::default()
        };
        here.join(&Proxy::carried(&there.carry(&uid)));
        assert_eq!((here.discovery, here.reports), (1, 1));
        assert_eq!(here.certified_until, at(200));
        let mut unsigned = Proxy::default();
        unsigned.join(&Proxy::carried(&here.carry(&uid)));
        assert_eq!(unsigned.certified_until, at(200));
        assert_eq!(unsigned.rejection, None);
    }
}
