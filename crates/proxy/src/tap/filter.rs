// SPDX-License-Identifier: Apache-2.0
//! Which exchanges a tap wants to see: by what is known when they begin, and by how they were answered. Pure.
//!
//! Must never want what it was not asked for: an empty list of peers that was given wants nothing. Next: `heads.rs`.

use std::collections::HashSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use maille_engine::route::Direction;
use maille_model::{ServiceId, WorkloadUid};

use super::{Facts, Request};

/// What a tap wants to see. The default wants everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only this way.
    pub direction: Option<Direction>,
    /// Only with these on the other side.
    pub others: Option<Others>,
    /// Only this method.
    pub method: Option<String>,
    /// Only paths that begin so.
    pub path: Option<String>,
    /// Only this authority (`Host`), with or without its port.
    pub authority: Option<String>,
    /// Only with such an answer.
    pub status: Option<RangeInclusive<u16>>,
    /// Only with this outcome of a gRPC call.
    pub grpc_status: Option<u8>,
    /// Only if the first byte of the answer took so long.
    pub latency: Option<Duration>,
}

/// The other side, in every way in which it may be known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// One of these workloads.
    pub uids: HashSet<WorkloadUid>,
    /// One of these services was addressed.
    pub services: HashSet<ServiceId>,
    /// One of these addresses is the client's, was dialled, or is where it went.
    pub addresses: HashSet<IpAddr>,
}

impl Filter {
    /// Whether a request is one of those, as far as can be said before its answer.
    pub fn asks_for(&self, facts: &Facts, request: &Request) -> bool {
        let is = |want: &Option<String>, have: &[u8], like: fn(&str, &[u8]) -> bool| {
            want.as_ref().is_none_or(|want| like(want, have))
        };
        self.direction.is_none_or(|way| way == facts.direction)
            && self.others.as_ref().is_none_or(|other| other.has(facts))
            && is(&self.method, &request.method.kept, |want, have| {
                want.as_bytes().eq_ignore_ascii_case(have)
            })
            && is(&self.path, &request.path.kept, |want, have| {
                have.starts_with(want.as_bytes())
            })
            && is(&self.authority, &request.authority.kept, same_authority)
    }

    /// Whether how it is answered matters: then nothing can be told before.
    pub const fn waits(&self) -> bool {
        self.status.is_some() || self.latency.is_some() || self.grpc_status.is_some()
    }

    /// Whether it was answered as wanted. `None`: that is known at its end.
    pub fn answered(&self, facts: &Facts, ended: bool) -> Option<bool> {
        let status = self.status.as_ref();
        let wanted = status.is_none_or(|range| range.contains(&facts.status))
            && self.latency.is_none_or(|least| facts.latency >= least);
        match self.grpc_status {
            Some(want) if wanted => match facts.grpc_status {
                None if !ended => None,
                have => Some(have == Some(want)),
            },
            _ => Some(wanted),
        }
    }
}

impl Others {
    fn has(&self, facts: &Facts) -> bool {
        let uid = facts.peer_uid.as_ref();
        let service = facts.service.as_ref();
        let mut addresses = match facts.direction {
            Direction::Outbound => vec![facts.dialled.ip()],
            Direction::Inbound => vec![facts.client.ip()],
        };
        match facts.direction {
            Direction::Outbound => addresses.extend(facts.endpoint.map(|to| to.ip())),
            Direction::Inbound => addresses.extend(facts.claimed),
        }
        uid.is_some_and(|uid| self.uids.contains(uid))
            || service.is_some_and(|service| self.services.contains(service))
            || addresses
                .iter()
                .any(|address| self.addresses.contains(&address.to_canonical()))
    }
}

/// Names of hosts have no case (RFC 9110, section 4.2.3); a port that was not asked for does not matter.
fn same_authority(want: &str, have: &[u8]) -> bool {
    let (want, plain) = (want.as_bytes(), without_port(have));
    want.eq_ignore_ascii_case(have) || want.eq_ignore_ascii_case(plain)
}

fn without_port(authority: &[u8]) -> &[u8] {
    let end = authority.iter().rposition(|byte| *byte == b':');
    match end {
        Some(colon) if authority[colon + 1..].iter().all(u8::is_ascii_digit) => &authority[..colon],
        _ => authority,
    }
}

#[cfg(test)]
mod tests;
