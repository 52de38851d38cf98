// SPDX-License-Identifier: Apache-2.0
use std::path::Path;

use maille_chassis::tasks::Tasks;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};

use super::*;

/// Control's side: says what the metadata named, then echoes, then fails where it is told to.
#[derive(Clone)]
struct Control;

impl NamedService for Control {
    const NAME: &'static str = Discovery::NAME;
}

impl tower::Service<http::Request<Body>> for Control {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move { Ok(Server::new(Raw).streaming(Echo, request).await) })
    }
}

struct Echo;

impl StreamingService<Bytes> for Echo {
    type Response = Bytes;
    type ResponseStream = Answers;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answers>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let named: Vec<String> = request
            .metadata()
            .get_all(WORKLOAD)
            .iter()
            .map(|value| value.to_str().unwrap().to_owned())
            .collect();
        let first = futures_util::stream::once(async move { Ok(Bytes::from(named.join(","))) });
        let rest = request.into_inner().map(|message| match message {
            Ok(bytes) if &bytes[..] == b"refuse" => Err(Status::permission_denied("no")),
            other => other,
        });
        Box::pin(async move { Ok(Response::new(Box::pin(first.chain(rest)) as Answers)) })
    }
}

async fn serve(path: &Path, tasks: &Tasks, relay_to: Option<&Path>) -> maille_chassis::tasks::Task {
    let listener = UnixListenerStream::new(maille_chassis::grpc::listen(path).unwrap());
    let server = match relay_to {
        None => maille_chassis::grpc::server().add_service(Control),
        Some(control) => {
            let channel = maille_chassis::grpc::channel(control);
            maille_chassis::grpc::server()
                .add_service(Relay::<Discovery>::new(channel, "uid-1").unwrap())
        }
    };
    tasks.spawn("server", async move {
        server.serve_with_incoming(listener).await.unwrap()
    })
}

async fn call(path: &Path) -> (mpsc::Sender<Bytes>, Streaming<Bytes>) {
    let (say, said) = mpsc::channel(4);
    let mut client = Client::new(maille_chassis::grpc::channel(path));
    client.ready().await.unwrap();
    let mut request = Request::new(ReceiverStream::new(said));
    request
        .metadata_mut()
        .insert(WORKLOAD, "uid-of-somebody-else".parse().unwrap());
    let path = http::uri::PathAndQuery::from_static(Discovery::PATHS[0]);
    (
        say,
        client
            .streaming(request, path, Raw)
            .await
            .unwrap()
            .into_inner(),
    )
}

#[tokio::test]
async fn messages_pass_both_ways_and_the_workload_is_the_attested_one() {
    let dir = tempfile::tempdir().unwrap();
    let tasks = Tasks::new();
    let (control, agent) = (dir.path().join("c"), dir.path().join("a"));
    serve(&control, &tasks, None).await;
    serve(&agent, &tasks, Some(&control)).await;
    let (say, mut answers) = call(&agent).await;
    assert_eq!(answers.message().await.unwrap().unwrap(), "uid-1");
    for text in ["one", "", "two"] {
        say.send(Bytes::from(text)).await.unwrap();
        assert_eq!(answers.message().await.unwrap().unwrap(), text);
    }
    say.send(Bytes::from("refuse")).await.unwrap();
    let status = answers.message().await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (tonic::Code::PermissionDenied, "no")
    );
}

#[tokio::test]
async fn control_going_away_is_unavailable() {
    let dir = tempfile::tempdir().unwrap();
    let tasks = Tasks::new();
    let (control, agent) = (dir.path().join("c"), dir.path().join("a"));
    // No control yet.
    serve(&agent, &tasks, Some(&control)).await;
    let mut client = Client::new(maille_chassis::grpc::channel(&agent));
    client.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static(Discovery::PATHS[0]);
    let nothing = Request::new(futures_util::stream::empty::<Bytes>());
    let status = client
        .streaming(nothing, path, Raw)
        .await
        .map(drop)
        .unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");
}
