// SPDX-License-Identifier: Apache-2.0
//! gRPC for the agent, on `control.sock`: delta discovery, certificates, reports, and questions the other way round. Each call names the workload that it is for
//! in the metadata `maille-workload`; the agent attested it, nobody else can open the socket.
//!
//! A stream is a value that tonic polls ([`ads`]): it makes an answer when the peer has room for one, so that nothing
//! queues here. Read [`session`] first: it is what the protocol is.

use std::sync::Arc;
use std::time::Duration;

use maille_identity::Authority;
use maille_model::{Workload, WorkloadUid};
use maille_wire::discovery::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer;
use maille_wire::v1::certificates_server::CertificatesServer;
use maille_wire::v1::questions_server::QuestionsServer;
use maille_wire::v1::telemetry_server::TelemetryServer;
use tonic::metadata::MetadataMap;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tonic::{Code, Status};

use crate::hub::{Hub, Proxy, Refusal};

/// Delta discovery.
pub mod ads;
/// Signing.
pub mod certificates;
/// Lines for questions.
pub mod questions;
/// One stream as a value.
pub mod session;
/// Reports.
pub mod telemetry;

/// The metadata that names the workload.
pub const WORKLOAD: &str = "maille-workload";
/// Streams of one kind that one workload may have: the one it uses, and those that are ending.
const STREAMS: usize = 4;
/// How long a call waits for control to have read its sources. Discovery streams are held without an answer meanwhile.
const PATIENCE: Duration = Duration::from_secs(30);

/// Largest signing request: a CSR has some 300 bytes.
const SIGN_BYTES: usize = 16 * 1024;
/// Largest report: [`crate::stat::EDGES`] edges with full histograms are far below.
const REPORT_BYTES: usize = 8 * 1024 * 1024;
/// Largest answer: a hundred lines of a tap, each with two heads.
const ANSWER_BYTES: usize = 8 * 1024 * 1024;
/// Largest discovery request: 20,000 names and versions.
const DISCOVERY_BYTES: usize = 8 * 1024 * 1024;

/// Adds the four services to a server.
pub fn add(
    mut server: Server,
    hub: &Arc<Hub>,
    authority: Arc<Authority>,
    leaf_lifetime: Duration,
) -> Router {
    let ads = ads::Ads::new(hub.clone());
    let signer = certificates::Signer::new(hub.clone(), authority, leaf_lifetime);
    let reports = telemetry::Reports::new(hub.clone());
    let asking = questions::Asking::new(hub.clone());
    server
        .add_service(
            AggregatedDiscoveryServiceServer::new(ads).max_decoding_message_size(DISCOVERY_BYTES),
        )
        .add_service(CertificatesServer::new(signer).max_decoding_message_size(SIGN_BYTES))
        .add_service(TelemetryServer::new(reports).max_decoding_message_size(REPORT_BYTES))
        .add_service(QuestionsServer::new(asking).max_decoding_message_size(ANSWER_BYTES))
}

/// The workload that a call is for, by the agent's word.
fn workload_of(metadata: &MetadataMap) -> Result<WorkloadUid, Status> {
    let text = metadata.get(WORKLOAD).and_then(|value| value.to_str().ok());
    text.and_then(WorkloadUid::new).ok_or_else(|| {
        Status::invalid_argument(format!("metadata {WORKLOAD} must be the uid of a workload"))
    })
}

/// The workload, once control knows it; refused when it is not to be served.
async fn admitted(hub: &Hub, uid: &WorkloadUid) -> Result<Workload, Status> {
    let admitted = hub.await_admission(uid, PATIENCE).await;
    admitted.map_err(|refusal| {
        maille_chassis::limited!(warn, workload = %uid, reason = %refusal, "workload refused");
        status(&refusal)
    })
}

fn status(refusal: &Refusal) -> Status {
    let code = match refusal {
        Refusal::Unknown(_) | Refusal::Unmeshed(_) | Refusal::Finished(_) => Code::PermissionDenied,
        Refusal::Starting | Refusal::Draining => Code::Unavailable,
    };
    Status::new(code, refusal.to_string())
}

/// A place among a workload's streams of one kind; given back on drop.
struct Seat {
    hub: Arc<Hub>,
    uid: WorkloadUid,
    count: fn(&mut Proxy) -> &mut usize,
}

// === impl Seat ===

impl Seat {
    /// Takes a place, or refuses when the workload has enough streams.
    fn take(
        hub: &Arc<Hub>,
        uid: &WorkloadUid,
        count: fn(&mut Proxy) -> &mut usize,
    ) -> Result<Self, Status> {
        hub.note(uid, |proxy| {
            let taken = count(proxy);
            if *taken >= STREAMS {
                return Err(Status::resource_exhausted(format!(
                    "workload {uid} has {STREAMS} streams of this kind already"
                )));
            }
            *taken += 1;
            Ok(())
        })?;
        Ok(Self {
            hub: hub.clone(),
            uid: uid.clone(),
            count,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.hub.note(&self.uid, |proxy| {
            let taken = (self.count)(proxy);
            *taken = taken.saturating_sub(1);
        });
    }
}
