// SPDX-License-Identifier: Apache-2.0
//! The process: opens everything in order, then one loop carries events from the source to the hub.
//!
//! When [`start`] returns, the sources are read and both sockets take connections; that is what ready means.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use maille_chassis::clock::Clock;
use maille_chassis::drain::{Drain, Phase, Watch};
use maille_chassis::grpc;
use maille_chassis::tasks::Tasks;
use maille_identity::{Authority, AuthorityError};
use maille_model::{ClusterRanges, Mesh};
use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::server::Router;

use crate::api::{self, Api};
use crate::causes::with_causes;
use crate::hub::Hub;
use crate::serve;
use crate::settings::Settings;
use crate::watch::dir::{DirError, DirSource};

/// Streams of the one connection that the agent has: three for each workload.
const STREAMS: u32 = 16_384;
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

/// Opens everything and serves in `tasks`, until `drain` begins.
pub fn start(settings: &Settings, tasks: &Tasks, drain: &Drain) -> Result<Running, StartError> {
    let clock = Clock::start();
    let (source, events) = DirSource::open(&settings.state)?;
    let path = settings.state.join("ca");
    let authority = Authority::open(&path, &settings.trust_domain, clock.wall())
        .map_err(|source| StartError::Authority { path, source })?;
    let mesh = Mesh {
        trust_domain: settings.trust_domain.clone(),
        trust_anchors: authority.trust_anchors(),
        cluster_ranges: ClusterRanges(settings.cluster_ranges.clone()),
    };
    let hub = Arc::new(Hub::new(mesh, 1, clock));
    hub.apply(events);
    let api = Api {
        hub: hub.clone(),
        ca_validity: authority.validity(),
        node: api::frames::Node {
            socket: settings.state.join("frames.sock"),
            tasks: tasks.clone(),
        },
    };
    let control_socket = bind(settings, "control.sock")?;
    let api_socket = bind(settings, "api.sock")?;
    let (failure, failed) = oneshot::channel();
    tasks.spawn(
        "source",
        follow(source, hub.clone(), failure, drain.watch()),
    );
    tasks.spawn("statistics", prune(hub.clone(), clock, drain.watch()));
    let server = grpc::server().max_concurrent_streams(STREAMS);
    let router = serve::add(server, &hub, Arc::new(authority), settings.leaf_lifetime);
    let grpc = serve_grpc(control_socket, router, hub.clone(), drain.watch());
    tasks.spawn("gRPC", grpc);
    let router = api::router(api);
    let api = api::listen::serve(api_socket, router, tasks.clone(), drain.watch());
    tasks.spawn("API", api);
    Ok(Running { hub, failed })
}

fn bind(settings: &Settings, name: &str) -> Result<UnixListener, StartError> {
    let path = settings.state.join(name);
    grpc::listen(&path).map_err(|source| StartError::Bind { path, source })
}

/// The loop: events of the source, until it fails or the drain begins.
async fn follow(
    mut source: DirSource,
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

async fn serve_grpc(listener: UnixListener, router: Router, hub: Arc<Hub>, mut drain: Watch) {
    let stop = async {
        drain.reached(Phase::Graceful).await;
        hub.drain();
    };
    let incoming = UnixListenerStream::new(listener);
    if let Err(error) = router.serve_with_incoming_shutdown(incoming, stop).await {
        tracing::error!(error = %with_causes(&error), "gRPC ended");
    }
}
