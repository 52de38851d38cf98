// SPDX-License-Identifier: Apache-2.0
//! Reports over a real socket: sent once, kept while nobody listens, and the rest at the end.

use std::path::Path;

use maille_chassis::drain::Drain;
use maille_chassis::tasks::{Task, Tasks};
use maille_model::{Identity, WorkloadUid};
use maille_wire::v1::ReportResponse;
use maille_wire::v1::telemetry_server::{Telemetry, TelemetryServer};
use tokio::time::timeout;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Response, Status, Streaming};

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

/// Passes on what it hears; refuses a stream for each `refuse` that is left.
struct Ear {
    heard: mpsc::Sender<ReportRequest>,
    refuse: Arc<Mutex<u32>>,
}

#[tonic::async_trait]
impl Telemetry for Ear {
    async fn report(
        &self,
        request: Request<Streaming<ReportRequest>>,
    ) -> Result<Response<ReportResponse>, Status> {
        {
            let mut refuse = self.refuse.lock();
            if *refuse > 0 {
                *refuse -= 1;
                return Err(Status::unavailable("not now"));
            }
        }
        let mut reports = request.into_inner();
        while let Some(report) = reports.message().await? {
            self.heard.send(report).await.unwrap();
        }
        Ok(Response::new(ReportResponse {}))
    }
}

fn listen(tasks: &Tasks, path: &Path, refuse: u32) -> mpsc::Receiver<ReportRequest> {
    let (heard, reports) = mpsc::channel(64);
    let listener = maille_chassis::grpc::listen(path).unwrap();
    let ear = Ear {
        heard,
        refuse: Arc::new(Mutex::new(refuse)),
    };
    let server = maille_chassis::grpc::server().add_service(TelemetryServer::new(ear));
    tasks.spawn("control", async move {
        server
            .serve_with_incoming(UnixListenerStream::new(listener))
            .await
            .unwrap();
    });
    reports
}

fn report(tasks: &Tasks, path: &Path, counted: &Counted, end: &Drain) -> Task {
    let caller = Caller::new(&WorkloadUid::new("uid-1").unwrap()).unwrap();
    let channel = maille_chassis::grpc::channel(path);
    tasks.spawn(
        "reports",
        run(
            counted.clone(),
            channel,
            caller,
            Clock::start(),
            end.watch(),
        ),
    )
}

fn batch(requests: u64) -> Batch {
    let key = EdgeKey {
        direction: Direction::Inbound,
        peer_uid: None,
        workload: None,
        peer_address: None,
        peer: Some(
            "spiffe://cluster.local/ns/shop/sa/web"
                .parse::<Identity>()
                .unwrap(),
        ),
        service: None,
        port: 8080,
        carries: Carries::Http,
        protected: true,
        server_name: None,
    };
    let increment = Increment {
        requests,
        latency: vec![(3, requests)],
        failed: vec![(Failure::Draining, 1)],
        ..Increment::default()
    };
    Batch {
        edges: vec![(Arc::new(key), increment)],
        dropped: 1,
        ..Batch::default()
    }
}

async fn next(reports: &mut mpsc::Receiver<ReportRequest>) -> ReportRequest {
    timeout(PATIENCE, reports.recv()).await.unwrap().unwrap()
}

#[tokio::test]
async fn what_was_counted_is_said_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let (tasks, counted, mut end) = (Tasks::new(), Counted::default(), Drain::new());
    // Nobody listens at first, and then refuses twice: nothing of it may be lost.
    let reporting = report(&tasks, &path, &counted, &end);
    counted.add(&batch(2));
    let mut reports = listen(&tasks, &path, 2);
    counted.add(&batch(3));
    let first = next(&mut reports).await;
    assert_eq!(first.edges_dropped, 2);
    let [edge] = &first.edges[..] else {
        panic!("{first:?}")
    };
    assert_eq!(
        (
            edge.requests,
            edge.port,
            edge.protected,
            edge.protocol.as_str()
        ),
        (5, 8080, true, "http")
    );
    assert_eq!(edge.peer_identity, "spiffe://cluster.local/ns/shop/sa/web");
    assert_eq!(edge.latency.get(&3), Some(&5));
    assert_eq!(edge.flags.get("draining"), Some(&2));
    counted.add(&batch(7));
    end.finish(PATIENCE, std::future::pending()).await;
    assert_eq!(
        next(&mut reports).await.edges[0].requests,
        7,
        "the rest comes with the end"
    );
    timeout(PATIENCE, reporting.ended()).await.unwrap();
    let all = counted.totals(|totals| totals.of(&batch(0).edges[0].0).unwrap().requests);
    assert_eq!(all, 12);
}

#[test]
fn pending_edges_are_bounded() {
    let counted = Counted::default();
    for port in 0..=u16::MAX {
        let mut one = batch(1);
        let key = EdgeKey {
            port,
            ..(*one.edges[0].0).clone()
        };
        one.edges[0].0 = Arc::new(key);
        one.dropped = 0;
        counted.add(&one);
    }
    let report = counted.report(EVERY).unwrap();
    // Port 0 is the edge of all others already.
    assert_eq!(report.edges.len(), EDGES + 1);
    let lost = u64::from(u16::MAX) + 1 - EDGES as u64;
    assert_eq!(report.edges_dropped, lost);
    let all: u64 = report.edges.iter().map(|edge| edge.requests).sum();
    assert_eq!(all, u64::from(u16::MAX) + 1, "each is counted, somewhere");
    assert!(counted.report(EVERY).is_none());
}
