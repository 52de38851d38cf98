// SPDX-License-Identifier: Apache-2.0
//! Against an authority on a real socket: patience, renewal, changed anchors, and that nothing unusable is ever put in force.

use std::path::{Path, PathBuf};

use maille_chassis::tasks::Tasks;
use maille_identity::Authority;
use maille_model::{Identity, Mesh, WorkloadUid};
use maille_wire::v1::certificates_server::{Certificates, CertificatesServer};
use maille_wire::v1::{SignRequest, SignResponse};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

use super::*;
use crate::control::Caller;

const PATIENCE: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_secs(3600);

/// What the authority does with one request.
enum Act {
    Refuse,
    /// Says things that are no certificates.
    Babble,
    /// Signs with another authority than the one it names as anchor.
    Foreign,
    /// Signs for `lifetime`, as if it were `ago` earlier.
    Sign {
        lifetime: Duration,
        ago: Duration,
    },
}

struct Script {
    authority: Authority,
    foreign: Authority,
    acts: tokio::sync::Mutex<mpsc::Receiver<Act>>,
}

fn identity() -> Identity {
    "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap()
}

fn authority() -> Authority {
    Authority::create(&identity().trust_domain, SystemTime::now()).unwrap()
}

#[tonic::async_trait]
impl Certificates for Script {
    async fn sign(&self, request: Request<SignRequest>) -> Result<Response<SignResponse>, Status> {
        assert_eq!(request.metadata().get("maille-workload").unwrap(), "uid-1");
        let csr = request.into_inner().csr;
        let sign = |authority: &Authority, lifetime, ago| {
            let now = SystemTime::now() - ago;
            authority
                .sign(&csr, &identity(), lifetime, now)
                .unwrap()
                .chain
        };
        // A test that is over asks for nothing any more.
        let act = self.acts.lock().await.recv().await;
        let chain = match act.ok_or_else(|| Status::unavailable("the test is over"))? {
            Act::Refuse => return Err(Status::unavailable("not now")),
            Act::Babble => vec![vec![1, 2, 3]],
            Act::Foreign => sign(&self.foreign, HOUR, Duration::ZERO),
            Act::Sign { lifetime, ago } => sign(&self.authority, lifetime, ago),
        };
        let trust_anchors = self.authority.trust_anchors();
        Ok(Response::new(SignResponse {
            chain,
            trust_anchors,
            ..SignResponse::default()
        }))
    }
}

struct World {
    acts: mpsc::Sender<Act>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    feed: Feed,
    anchors: Vec<Vec<u8>>,
    // Ends the tasks' sockets with the test.
    _folder: tempfile::TempDir,
}

impl World {
    fn begin() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path: PathBuf = folder.path().join("control.sock");
        let tasks = Tasks::new();
        let (acts, script) = mpsc::channel(8);
        let authority = authority();
        let anchors = authority.trust_anchors();
        serve(
            &tasks,
            &path,
            Script {
                authority,
                foreign: self::authority(),
                acts: script.into(),
            },
        );
        let (snapshots, seen) = watch::channel(Arc::new(Snapshot::new()));
        let (feed, identity) = new(seen, Clock::start());
        let caller = Caller::new(&WorkloadUid::new("uid-1").unwrap()).unwrap();
        let signer = Signer::agent(maille_chassis::grpc::channel(&path), caller);
        tasks.spawn("identity", identity.run(signer));
        Self {
            acts,
            snapshots,
            feed,
            anchors,
            _folder: folder,
        }
    }

    fn act(&self, act: Act) {
        self.acts.try_send(act).unwrap();
    }

    async fn next(&mut self) -> Credentials {
        timeout(PATIENCE, self.feed.changed())
            .await
            .unwrap()
            .unwrap();
        self.feed.borrow_and_update().clone().unwrap()
    }

    fn set_anchors(&self, trust_anchors: Vec<Vec<u8>>) {
        let mut snapshot = Snapshot::new();
        snapshot.set_mesh(Mesh {
            trust_domain: identity().trust_domain,
            trust_anchors,
            cluster_ranges: maille_model::ClusterRanges::default(),
        });
        self.snapshots.send_replace(Arc::new(snapshot));
    }
}

fn serve(tasks: &Tasks, path: &Path, script: Script) {
    let listener = maille_chassis::grpc::listen(path).unwrap();
    let server = maille_chassis::grpc::server().add_service(CertificatesServer::new(script));
    tasks.spawn("control", async move {
        server
            .serve_with_incoming(UnixListenerStream::new(listener))
            .await
            .unwrap();
    });
}

#[tokio::test]
async fn only_what_can_be_used_comes_into_force() {
    let mut world = World::begin();
    for act in [
        Act::Refuse,
        Act::Babble,
        Act::Foreign,
        Act::Sign {
            lifetime: HOUR,
            ago: HOUR * 2,
        },
    ] {
        world.act(act);
    }
    world.act(Act::Sign {
        lifetime: HOUR,
        ago: Duration::ZERO,
    });
    let credentials = world.next().await;
    assert_eq!(*credentials.identity(), identity());
    assert!(credentials.not_after() > SystemTime::now() + HOUR - Duration::from_secs(60));
    assert!(world.acts.capacity() == 8, "everything before was refused");
}

#[tokio::test]
async fn a_certificate_is_replaced_before_it_ends() {
    let mut world = World::begin();
    // 70 % of its life have passed in half a second.
    world.act(Act::Sign {
        lifetime: Duration::from_secs(20),
        ago: Duration::from_secs(12),
    });
    let first = world.next().await;
    world.act(Act::Refuse);
    world.act(Act::Sign {
        lifetime: HOUR,
        ago: Duration::ZERO,
    });
    let second = world.next().await;
    assert!(second.generation() > first.generation());
    assert!(
        first.not_after() > SystemTime::now(),
        "it was replaced in time"
    );
}

#[tokio::test]
async fn changed_anchors_ask_for_a_new_certificate() {
    let mut world = World::begin();
    world.act(Act::Sign {
        lifetime: HOUR,
        ago: Duration::ZERO,
    });
    world.next().await;
    // The same anchors, and then others.
    world.set_anchors(world.anchors.clone());
    world.act(Act::Sign {
        lifetime: HOUR,
        ago: Duration::ZERO,
    });
    world.set_anchors(vec![vec![9]]);
    world.next().await;
}
