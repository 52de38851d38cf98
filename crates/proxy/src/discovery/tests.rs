// SPDX-License-Identifier: Apache-2.0
//! Discovery over a real socket against a server whose every word is scripted.

use std::path::Path;
use std::time::Duration;

use maille_chassis::tasks::Tasks;
use maille_engine::snapshot::Known;
use maille_wire::Kind;
use maille_wire::discovery::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response};

use super::samples::{
    address_of_pod, address_of_service, answer, cluster_ip, endpoints, mesh, own, pod, service,
    service_id, uid,
};
use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

/// One stream, as the server sees it.
struct Conversation {
    caller: String,
    requests: Streaming<DeltaDiscoveryRequest>,
    answers: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
}

struct Script(mpsc::Sender<Conversation>);

#[tonic::async_trait]
impl AggregatedDiscoveryService for Script {
    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let caller = request
            .metadata()
            .get("maille-workload")
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let (answers, stream) = mpsc::channel(16);
        let conversation = Conversation {
            caller,
            requests: request.into_inner(),
            answers,
        };
        self.0.send(conversation).await.unwrap();
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

impl Conversation {
    /// The next request with names, or with a nonce: kind, subscribed, unsubscribed.
    async fn next(&mut self) -> DeltaDiscoveryRequest {
        soon(self.requests.message()).await.unwrap().unwrap()
    }

    /// Requests until each of `kinds` was asked for, in their order on the wire.
    async fn names(&mut self, count: usize) -> Vec<(Kind, Vec<String>)> {
        let mut all = Vec::new();
        for _ in 0..count {
            let request = self.next().await;
            all.push((
                Kind::of_type_url(&request.type_url).unwrap(),
                request.resource_names_subscribe,
            ));
        }
        all
    }

    async fn say(&mut self, answer: DeltaDiscoveryResponse) {
        soon(self.answers.send(Ok(answer))).await.unwrap();
    }

    /// Says something and waits for its acknowledgement.
    async fn tell(&mut self, answer: DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
        let nonce = answer.nonce.clone();
        self.say(answer).await;
        let reply = self.next().await;
        assert_eq!(reply.response_nonce, nonce);
        reply
    }

    async fn greet(&mut self) {
        assert_eq!(self.caller, "uid-1");
        let first = self.names(2).await;
        assert_eq!(
            first,
            [
                (Kind::Mesh, vec!["mesh".to_owned()]),
                (Kind::Own, vec!["uid-1".to_owned()])
            ]
        );
        self.tell(answer("1", Kind::Mesh, &[("mesh", mesh())], &[]))
            .await;
        self.tell(answer("2", Kind::Own, &[("uid-1", own(1))], &[]))
            .await;
    }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.unwrap()
}

async fn change(view: &mut View, until: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
    let seen = soon(view.snapshots.wait_for(|snapshot| until(snapshot)))
        .await
        .unwrap();
    Arc::clone(&seen)
}

/// Starts a scripted control at `path`.
fn serve(tasks: &Tasks, path: &Path) -> mpsc::Receiver<Conversation> {
    let (send, streams) = mpsc::channel(4);
    let listener = maille_chassis::grpc::listen(path).unwrap();
    let service = AggregatedDiscoveryServiceServer::new(Script(send));
    let server = maille_chassis::grpc::server().add_service(service);
    tasks.spawn("control", async move {
        server
            .serve_with_incoming(UnixListenerStream::new(listener))
            .await
            .unwrap();
    });
    streams
}

fn discover(tasks: &Tasks, path: &Path) -> View {
    let (view, discovery) = new(uid(1), Clock::start());
    let channel = maille_chassis::grpc::channel(path);
    tasks.spawn(
        "discovery",
        discovery.run(channel, Caller::new(&uid(1)).unwrap()),
    );
    view
}

#[tokio::test]
async fn asks_on_demand_and_follows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let tasks = Tasks::new();
    let (mut streams, mut view) = (serve(&tasks, &path), discover(&tasks, &path));
    let mut control = soon(streams.recv()).await.unwrap();
    control.greet().await;
    assert!(
        change(&mut view, Snapshot::is_complete)
            .await
            .own()
            .is_some()
    );

    view.questions
        .try_send(Key::Address(cluster_ip(1)))
        .unwrap();
    assert_eq!(
        control.names(1).await,
        [(Kind::Address, vec!["10.96.0.1".to_owned()])]
    );
    control
        .tell(answer(
            "3",
            Kind::Address,
            &[("10.96.0.1", address_of_service(1))],
            &[],
        ))
        .await;
    let followed = control.names(2).await;
    assert_eq!(
        followed,
        [
            (Kind::Service, vec!["shop/svc-1".to_owned()]),
            (Kind::Endpoints, vec!["shop/svc-1".to_owned()]),
        ]
    );
    control
        .tell(answer(
            "4",
            Kind::Endpoints,
            &[("shop/svc-1", endpoints(&[2, 3]))],
            &[],
        ))
        .await;
    control
        .tell(answer(
            "5",
            Kind::Service,
            &[("shop/svc-1", service(1))],
            &[],
        ))
        .await;
    let snapshot = change(&mut view, |snapshot| {
        snapshot.service(&service_id(1)).present().is_some()
    })
    .await;
    assert_eq!(
        snapshot
            .endpoints(&service_id(1))
            .present()
            .unwrap()
            .candidates(80)
            .len(),
        2
    );
}

#[tokio::test]
async fn a_lost_stream_is_begun_again_with_what_is_held_and_takes_nothing_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let tasks = Tasks::new();
    let (mut streams, mut view) = (serve(&tasks, &path), discover(&tasks, &path));
    let mut control = soon(streams.recv()).await.unwrap();
    control.greet().await;
    view.questions.try_send(Key::Address(pod(2))).unwrap();
    control.names(1).await;
    control
        .tell(answer(
            "3",
            Kind::Address,
            &[("10.244.0.2", address_of_pod(2))],
            &[],
        ))
        .await;
    let known = |snapshot: &Snapshot| snapshot.address(pod(2)).present().is_some();
    change(&mut view, known).await;

    for ending in [Some(Status::unavailable("restarting")), None] {
        if let Some(status) = ending {
            soon(control.answers.send(Err(status))).await.unwrap();
        }
        drop(control);
        control = soon(streams.recv()).await.unwrap();
        let mut held = Vec::new();
        for _ in 0..3 {
            let request = control.next().await;
            assert!(request.response_nonce.is_empty());
            held.extend(request.initial_resource_versions);
        }
        held.sort();
        let expected = [("10.244.0.2", "3"), ("mesh", "1"), ("uid-1", "2")];
        assert_eq!(
            held,
            expected.map(|(name, version)| (name.to_owned(), version.to_owned()))
        );
        assert!(known(&view.snapshots.borrow()) && view.snapshots.borrow().is_complete());
    }
    // What went away meanwhile is taken back then.
    control
        .say(answer("1", Kind::Address, &[], &["10.244.0.2"]))
        .await;
    change(&mut view, |snapshot| {
        snapshot.address(pod(2)) == Known::Unknown
    })
    .await;
}

#[tokio::test]
async fn a_question_that_comes_without_control_is_asked_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let tasks = Tasks::new();
    let view = discover(&tasks, &path);
    for n in 2..5 {
        view.questions.send(Key::Address(pod(n))).await.unwrap();
    }
    let mut streams = serve(&tasks, &path);
    let mut control = soon(streams.recv()).await.unwrap();
    let mut asked = Vec::new();
    while asked.len() < 5 {
        asked.extend(control.next().await.resource_names_subscribe);
    }
    asked.sort();
    assert_eq!(
        asked,
        ["10.244.0.2", "10.244.0.3", "10.244.0.4", "mesh", "uid-1"]
    );
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_and_the_stream_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let tasks = Tasks::new();
    let (mut streams, mut view) = (serve(&tasks, &path), discover(&tasks, &path));
    let mut control = soon(streams.recv()).await.unwrap();
    control.greet().await;
    let reply = control
        .tell(answer("3", Kind::Own, &[("uid-1", own(2))], &[]))
        .await;
    assert_eq!(
        reply.error_detail.unwrap().message,
        "\"uid-1\" holds something else"
    );
    view.questions.try_send(Key::Address(pod(3))).unwrap();
    control.names(1).await;
    let reply = control
        .tell(answer("4", Kind::Address, &[], &["10.244.0.3"]))
        .await;
    assert_eq!(reply.error_detail, None);
    let snapshot = change(&mut view, |snapshot| {
        snapshot.address(pod(3)) == Known::Absent
    })
    .await;
    assert_eq!(
        snapshot.own().unwrap().workload.uid,
        uid(1),
        "the last good word is in force"
    );
}

#[tokio::test]
async fn a_removed_address_is_unsubscribed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let tasks = Tasks::new();
    let (mut streams, mut view) = (serve(&tasks, &path), discover(&tasks, &path));
    let mut control = soon(streams.recv()).await.unwrap();
    control.greet().await;
    view.questions.try_send(Key::Address(pod(3))).unwrap();
    control.names(1).await;
    control
        .tell(answer(
            "3",
            Kind::Address,
            &[("10.244.0.3", address_of_pod(3))],
            &[],
        ))
        .await;
    control
        .tell(answer("4", Kind::Address, &[], &["10.244.0.3"]))
        .await;
    let request = control.next().await;
    assert_eq!(request.resource_names_unsubscribe, ["10.244.0.3"]);
    change(&mut view, |snapshot| {
        snapshot.address(pod(3)) == Known::Unknown
    })
    .await;
}
