// SPDX-License-Identifier: Apache-2.0
//! The process: opens everything in order, then one loop carries events from the source to the hub.
//!
//! When [`start`] returns, the sources are read and both sockets take connections; that is what ready means.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use maille_chassis::clock::Clock;
use maille_chassis::drain::{Drain, Phase, Watch};
use maille_chassis::grpc;
use maille_chassis::tasks::Tasks;
use maille_identity::{Authority, AuthorityError};
use maille_model::{ClusterRanges, Mesh, NameError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::server::{Connected, Router};

use crate::api::{self, Api};
use crate::causes::with_causes;
use crate::cluster::ClusterError;
use crate::hub::Hub;
use crate::keyring::Keyring;
use crate::listen::{self, Place};
use crate::replicas::Replicas;
use crate::serve::{self, Callers, Desk};
use crate::settings::Settings;
use crate::watch::Source;
use crate::watch::dir::{DirError, DirSource};

/// In a cluster.
pub mod cluster;

/// Streams of the one connection that the agent has: three for each workload.
const STREAMS: u32 = 16_384;
/// Connections of people at a time.
const CONNECTIONS: usize = 32;
/// How often old statistics are forgotten.
const PRUNE: Duration = Duration::from_secs(10);

/// A control that serves.
#[derive(Debug)]
pub struct Running {
    /// Everything that it knows.
    pub hub: Arc<Hub>,
    /// Says why the source ended, which it never should.
    pub failed: oneshot::Receiver<DirError>,
}

/// Why control could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The source.
    #[error("the state directory is not usable")]
    Source(#[from] DirError),
    /// The certificate authority.
    #[error("the certificate authority in {} is not usable", .path.display())]
    Authority {
        /// Its directory.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: AuthorityError,
    },
    /// The cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Where control is, which is a part of its identity.
    #[error("the namespace that control is in cannot be one")]
    Namespace(#[source] NameError),
    /// An address.
    #[error("{address} cannot be bound")]
    Address {
        /// Which one.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A socket.
    #[error("socket {} cannot be bound", .path.display())]
    Bind {
        /// Which one.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Opens everything in `state` and serves in `tasks`, until `drain` begins.
pub fn start(
    settings: &Settings,
    state: &Path,
    tasks: &Tasks,
    drain: &Drain,
) -> Result<Running, StartError> {
    let clock = Clock::start();
    let (source, events) = DirSource::open(state)?;
    let path = state.join("ca");
    let authority = Authority::open(&path, &settings.trust_domain, clock.wall())
        .map_err(|source| StartError::Authority { path, source })?;
    let mesh = Mesh {
        trust_domain: settings.trust_domain.clone(),
        trust_anchors: authority.trust_anchors(),
        cluster_ranges: ClusterRanges(settings.cluster_ranges.clone()),
    };
    let hub = Arc::new(Hub::new(mesh, 1, clock));
    hub.apply(events);
    let keyring = Keyring::fixed(authority);
    let api = Api {
        hub: hub.clone(),
        keyring: keyring.clone(),
        replicas: Replicas::default(),
        node: Some(api::frames::Node {
            socket: state.join("frames.sock"),
            tasks: tasks.clone(),
        }),
    };
    let control_socket = bind(state, "control.sock")?;
    let api_socket = bind(state, "api.sock")?;
    let (failure, failed) = oneshot::channel();
    let source = Source::Dir(Box::new(source));
    tasks.spawn(
        "source",
        follow(source, hub.clone(), failure, drain.watch()),
    );
    tasks.spawn("statistics", prune(hub.clone(), clock, drain.watch()));
    let desk = Desk {
        hub: hub.clone(),
        keyring,
        leaf_lifetime: settings.leaf_lifetime,
        callers: Callers::Attested,
        events: None,
    };
    let server = grpc::server().max_concurrent_streams(STREAMS);
    let router = serve::add(server, &desk, None);
    let incoming = UnixListenerStream::new(control_socket);
    let grpc = serve_grpc(incoming, router, hub.clone(), drain.watch());
    tasks.spawn("gRPC", grpc);
    let router = api::router(api);
    let handle = move |stream: UnixStream, place: Place, drain: Watch| {
        let router = router.clone();
        async move {
            listen::talk(stream, router, listen::BRIEF, drain).await;
            drop(place);
        }
    };
    let api = listen::serve(
        api_socket,
        CONNECTIONS,
        handle,
        tasks.clone(),
        drain.watch(),
    );
    tasks.spawn("API", api);
    Ok(Running { hub, failed })
}

fn bind(state: &Path, name: &str) -> Result<UnixListener, StartError> {
    let path = state.join(name);
    grpc::listen(&path).map_err(|source| StartError::Bind { path, source })
}

/// The loop: events of the source, until it fails or the drain begins.
async fn follow(
    mut source: Source,
    hub: Arc<Hub>,
    failure: oneshot::Sender<DirError>,
    mut drain: Watch,
) {
    loop {
        let told = tokio::select! {
            told = source.next() => told,
            () = drain.reached(Phase::Graceful) => return,
        };
        match told {
            Ok(events) if events.is_empty() => {}
            Ok(events) => hub.apply(events),
            Err(error) => {
                // Whoever started this process has gone: then nobody needs to know.
                drop(failure.send(error));
                return;
            }
        }
    }
}

async fn prune(hub: Arc<Hub>, clock: Clock, mut drain: Watch) {
    loop {
        tokio::select! {
            () = clock.wait(PRUNE) => {}
            () = drain.reached(Phase::Graceful) => return,
        }
        let world = hub.world();
        let exists = |uid: &_| world.index.pod(uid).is_some();
        hub.stats().prune(hub.second(), exists);
    }
}

async fn serve_grpc<S, C>(incoming: S, router: Router, hub: Arc<Hub>, mut drain: Watch)
where
    S: Stream<Item = io::Result<C>>,
    C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let mut hurry = drain.clone();
    let stop = async {
        drain.reached(Phase::Graceful).await;
        hub.drain();
    };
    tokio::select! {
        served = router.serve_with_incoming_shutdown(incoming, stop) => {
            if let Err(error) = served {
                tracing::error!(error = %with_causes(&error), "gRPC ended");
            }
        }
        // A client may keep its connection for as long as it likes.
        () = hurry.reached(Phase::Immediate) => {}
    }
}
