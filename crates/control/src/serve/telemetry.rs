// SPDX-License-Identifier: Apache-2.0
//! `Telemetry.Report`: what proxies counted, read into [`crate::stat`]'s words.
//!
//! A report is a peer's text: everything in it is bounded, and a field that makes no sense is left out, never believed.
//! Who the other end is comes from the index by its uid, not from the report.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use maille_model::{AddressOwner, WorkloadUid, latency};
use maille_wire::v1::telemetry_server::Telemetry;
use maille_wire::v1::{Direction as WireDirection, Edge, ReportRequest, ReportResponse};
use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming};

use super::{Desk, Seat};
use crate::hub::{Hub, Phase};
use crate::stat::{Counters, Direction, EdgeKey, Increment, Observation, Spoken, Who};

/// A proxy reports once a second; one that is quiet for so long is gone.
const QUIET: Duration = Duration::from_secs(60);
/// Flags of one edge that are read.
const FLAGS: usize = 32;

/// The service.
#[derive(Clone, Debug)]
pub struct Reports {
    desk: Desk,
}

/// Says that a workload's stream ended, however it did.
struct Reporting {
    hub: Arc<Hub>,
    uid: WorkloadUid,
    _seat: Seat,
}

// === impl Reports ===

impl Reports {
    /// A service on `desk`.
    pub fn new(desk: Desk) -> Self {
        Self { desk }
    }
}

#[tonic::async_trait]
impl Telemetry for Reports {
    async fn report(
        &self,
        request: Request<Streaming<ReportRequest>>,
    ) -> Result<Response<ReportResponse>, Status> {
        let hub = &self.desk.hub;
        let caller = self.desk.callers.caller(&request)?;
        let mut reports = request.into_inner();
        caller.admitted(hub).await?;
        let reporting = Reporting {
            _seat: Seat::take(hub, &caller.uid, |proxy| &mut proxy.reports)?,
            hub: hub.clone(),
            uid: caller.uid,
        };
        let mut phase = hub.phase();
        loop {
            let next = tokio::select! {
                next = timeout(QUIET, reports.message()) => next,
                _ = phase.wait_for(|phase| *phase == Phase::Draining) => break,
            };
            match next {
                Ok(Ok(Some(report))) => reporting.take(report),
                Ok(Ok(None)) => break,
                Ok(Err(status)) => return Err(status),
                Err(_) => return Err(Status::deadline_exceeded("no report for a minute")),
            }
        }
        Ok(Response::new(ReportResponse {}))
    }
}

// === impl Reporting ===

impl Reporting {
    fn take(&self, report: ReportRequest) {
        let second = self.hub.second();
        let world = self.hub.world();
        let Some(pod) = world.index.pod(&self.uid) else {
            return;
        };
        let who = |edge: &Edge| {
            let uid = match WorkloadUid::new(&edge.peer_uid) {
                Some(uid) => uid,
                None => match world.index.owner_of(address(&edge.peer_address)?)? {
                    AddressOwner::Workload(workload) => workload.uid,
                    AddressOwner::Service(_) => return None,
                },
            };
            Some((Arc::new(Who::of(world.index.pod(&uid)?)), uid))
        };
        let observations = report
            .edges
            .into_iter()
            .take(crate::stat::EDGES)
            .filter_map(|edge| observation(edge, who));
        let me = Arc::new(Who::of(pod));
        self.hub.stats().report(
            &self.uid,
            &me,
            second,
            observations.collect(),
            report.edges_dropped,
        );
    }
}

impl Drop for Reporting {
    /// The last stream to end says that its proxy is gone; one that was replaced says nothing.
    fn drop(&mut self) {
        if self.hub.proxy(&self.uid).reports <= 1 {
            self.hub.stats().silence(&self.uid);
        }
    }
}

/// An address of 4 or 16 bytes.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

fn observation(
    edge: Edge,
    who: impl Fn(&Edge) -> Option<(Arc<Who>, WorkloadUid)>,
) -> Option<Observation> {
    let direction = match WireDirection::try_from(edge.direction) {
        Ok(WireDirection::Outbound) => Direction::Outbound,
        Ok(WireDirection::Inbound) => Direction::Inbound,
        Ok(WireDirection::Unspecified) | Err(_) => return None,
    };
    let (peer, pod) = who(&edge).unzip();
    let mut latency: Vec<(u16, u32)> = edge
        .latency
        .into_iter()
        .filter_map(|(bucket, count)| {
            let bucket = u16::try_from(bucket).ok()?;
            (usize::from(bucket) < latency::BUCKETS)
                .then(|| (bucket, u32::try_from(count).unwrap_or(u32::MAX)))
        })
        .collect();
    latency.sort_unstable();
    Some(Observation {
        key: EdgeKey {
            direction,
            peer,
            pod,
            service: edge.service.parse().ok(),
            port: u16::try_from(edge.port).ok()?,
            spoken: if edge.protocol == "http" {
                Spoken::Http
            } else {
                Spoken::Tcp
            },
            protected: edge.protected,
        },
        increment: Increment {
            counters: Counters {
                requests: edge.requests,
                failures: edge.failures,
                bytes: edge.bytes_sent.saturating_add(edge.bytes_received),
                opened: edge.connections_opened,
                closed: edge.connections_closed,
            },
            latency,
        },
        flags: edge.flags.into_iter().take(FLAGS).collect(),
    })
}
