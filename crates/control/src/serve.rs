// SPDX-License-Identifier: Apache-2.0
//! gRPC for proxies: delta discovery, certificates, reports, and questions the other way round. On `control.sock` the agent names the workload that a call is
//! for in the metadata `maille-workload`, and attested it; in a cluster each proxy proves its own ([`caller`]).
//!
//! A stream is a value that tonic polls ([`ads`]): it makes an answer when the peer has room for one, so that nothing
//! queues here. Read [`session`] first: it is what the protocol is.

use std::sync::Arc;
use std::time::Duration;

use maille_model::{Identity, Workload, WorkloadUid};
use maille_wire::discovery::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer;
use maille_wire::v1::certificates_server::CertificatesServer;
use maille_wire::v1::nodes_server::NodesServer;
use maille_wire::v1::questions_server::QuestionsServer;
use maille_wire::v1::replicas_server::ReplicasServer;
use maille_wire::v1::telemetry_server::TelemetryServer;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tonic::{Code, Status};

use crate::cluster::events::Events;
use crate::hub::{Hub, Proxy, Refusal};
use crate::keyring::Keyring;

/// Delta discovery.
pub mod ads;
/// Who calls.
pub mod caller;
/// Signing.
pub mod certificates;
/// Connections of proxies.
pub mod door;
/// What agents tell of pods.
pub mod nodes;
/// Lines for questions.
pub mod questions;
/// Other replicas.
pub mod replicas;
/// One stream as a value.
pub mod session;
mod strangers;
/// Reports.
pub mod telemetry;

pub use caller::{Callers, Shown};

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

/// What the services rest on.
#[derive(Clone, Debug)]
pub struct Desk {
    /// Everything that is known.
    pub hub: Arc<Hub>,
    /// What certificates are signed with.
    pub keyring: Keyring,
    /// How long they are valid.
    pub leaf_lifetime: Duration,
    /// How callers are told apart.
    pub callers: Callers,
    /// Where events of pods are written, if anywhere.
    pub events: Option<Events>,
}

/// Adds the five services to a server; for other replicas, which prove to be `control`, one more.
pub fn add(mut server: Server, desk: &Desk, control: Option<Identity>) -> Router {
    let ads = ads::Ads::new(desk.clone());
    let signer = certificates::Signer::new(desk.clone());
    let reports = telemetry::Reports::new(desk.clone());
    let asking = questions::Asking::new(desk.clone());
    let told = nodes::Told::new(desk.clone());
    let router = server
        .add_service(
            AggregatedDiscoveryServiceServer::new(ads).max_decoding_message_size(DISCOVERY_BYTES),
        )
        .add_service(CertificatesServer::new(signer).max_decoding_message_size(SIGN_BYTES))
        .add_service(TelemetryServer::new(reports).max_decoding_message_size(REPORT_BYTES))
        .add_service(QuestionsServer::new(asking).max_decoding_message_size(ANSWER_BYTES))
        .add_service(NodesServer::new(told).max_decoding_message_size(SIGN_BYTES));
    match control {
        None => router,
        Some(control) => router.add_service(ReplicasServer::new(replicas::Others::new(
            desk.clone(),
            control,
        ))),
    }
}

/// The workload, once control knows it; refused when it is not to be served.
async fn admitted_uid(hub: &Hub, uid: &WorkloadUid) -> Result<Workload, Status> {
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
