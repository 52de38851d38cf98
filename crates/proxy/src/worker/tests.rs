// SPDX-License-Identifier: Apache-2.0
//! Panics while the worker serves real sockets: they end whose they are, they are counted, and everybody else is served.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener as Blocking};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use maille_chassis::panics;
use maille_engine::route::Direction;
use maille_engine::snapshot::{Known, Snapshot};
use maille_model::{
    AddressOwner, ClusterRanges, Endpoint, Endpoints, Membership, Mesh, Own, Protocol, Service,
    ServiceId, ServicePort, Terms, Workload, WorkloadUid,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;
use crate::accept::Door;
use crate::forward::{Settings, hooked};

const PATIENCE: Duration = Duration::from_secs(20);
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A worker at work, and a place where its clients arrive.
struct World {
    worker: Worker,
    door: TcpListener,
    full: Arc<Snapshot>,
}

impl World {
    async fn new(origin: SocketAddr) -> Self {
        let clock = Clock::start();
        let core = Core::new(Settings::default(), clock.now().into_std());
        let worker = Worker::new(core, clock).unwrap();
        let (flusher, alarm) = (worker.clone(), worker.clone());
        tokio::task::spawn_local(async move { flusher.flush().await });
        tokio::task::spawn_local(async move { alarm.ring().await });
        let full = Arc::new(snapshot(Some(origin)));
        worker.tell(|core| core.learn(Arc::clone(&full)));
        let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { worker, door, full }
    }

    /// A client of the service.
    async fn dial(&self) -> TcpStream {
        let client = TcpStream::connect(self.door.local_addr().unwrap());
        let (client, accepted) = tokio::join!(client, self.door.accept());
        let (stream, from) = accepted.unwrap();
        let accepted = Accepted {
            door: Door::Plain(Direction::Outbound),
            client: from,
            destination: SERVICE.parse().unwrap(),
        };
        self.worker.accept(stream, accepted);
        client.unwrap()
    }

    /// Lets everything else run until so many exchanges are under way.
    async fn until_exchanges(&self, count: usize) {
        let until = async {
            while self.worker.tell(|core| core.exchanges()) != count {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, until).await.unwrap();
    }
}

const SERVICE: &str = "10.96.0.1:80";

/// What is known of the service, if anything is.
fn snapshot(origin: Option<SocketAddr>) -> Snapshot {
    let workload = |n: u8, at, membership| Workload {
        uid: WorkloadUid::new(&format!("uid-{n}")).unwrap(),
        namespace: "shop".parse().unwrap(),
        name: format!("pod-{n}").parse().unwrap(),
        service_account: "web".parse().unwrap(),
        addresses: vec![at],
        owner: None,
        membership,
        zone: None,
    };
    let mut snapshot = Snapshot::new();
    snapshot.set_mesh(Mesh {
        trust_domain: "cluster.local".parse().unwrap(),
        trust_anchors: Vec::new(),
        cluster_ranges: ClusterRanges(vec!["10.0.0.0/8".parse().unwrap()]),
    });
    snapshot.set_own(Own {
        workload: workload(1, [10, 244, 0, 1].into(), Membership::Meshed),
        ports: Vec::new(),
        leaving: false,
    });
    let Some(origin) = origin else {
        return snapshot;
    };
    let id: ServiceId = "shop/web".parse().unwrap();
    let at: SocketAddr = SERVICE.parse().unwrap();
    let owner = AddressOwner::Service(id.clone());
    snapshot.set_address(at.ip(), Known::Present(owner));
    let service = Service {
        id: id.clone(),
        addresses: vec![at.ip()],
        ports: vec![ServicePort {
            port: at.port(),
            name: String::new(),
            protocol: Protocol::Http1,
        }],
        terms: Terms::default(),
    };
    snapshot.set_service(id.clone(), Known::Present(service));
    let endpoint = Endpoint {
        workload: workload(2, origin.ip(), Membership::Unmeshed),
        ready: true,
        targets: vec![(at.port(), origin.port())],
    };
    snapshot.set_endpoints(id, Known::Present(Endpoints(vec![endpoint])));
    snapshot
}

/// Answers every request but those for `/slam`, at which it leaves when it is told to.
fn origin(leave: mpsc::Receiver<()>) -> SocketAddr {
    let listener = Blocking::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let leave = Arc::new(parking_lot::Mutex::new(leave));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, leave) = (stream.unwrap(), Arc::clone(&leave));
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(n @ 1..) = stream.read(&mut buffer) {
                    if buffer[..n].starts_with(b"GET /slam") {
                        let _ = leave.lock().recv();
                        return;
                    }
                    stream.write_all(ANSWER).unwrap();
                }
            });
        }
    });
    at
}

async fn ask(client: &mut TcpStream, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: web\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
}

async fn answered(client: &mut TcpStream) {
    let mut answer = vec![0; ANSWER.len()];
    let read = timeout(PATIENCE, client.read_exact(&mut answer));
    read.await.unwrap().unwrap();
    assert_eq!(answer, ANSWER);
}

/// The connection ended without a byte, however.
async fn ended(client: &mut TcpStream) {
    let mut rest = Vec::new();
    // A reset is an end as well.
    let _ = timeout(PATIENCE, client.read_to_end(&mut rest))
        .await
        .unwrap();
    assert_eq!(rest, b"");
}

/// Runs `test` on a thread like the worker's. How many panics there were.
fn run(test: impl AsyncFnOnce()) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap();
    hooked(|| {
        panics::install();
        let counting = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panicked| {
            // Shown where the test fails.
            println!("{panicked}");
            counting(panicked);
        }));
        let before = panics::count();
        runtime.block_on(test());
        panics::count() - before
    })
}

#[test]
fn a_panic_at_the_end_of_a_turn_ends_its_connection_alone() {
    let panics = run(async || {
        let (_leave, left) = mpsc::channel();
        let world = World::new(origin(left)).await;
        let mut kept = world.dial().await;
        ask(&mut kept, "/kept").await;
        answered(&mut kept).await;
        // Nobody knows the service: requests wait.
        world
            .worker
            .tell(|core| core.learn(Arc::new(snapshot(None))));
        let (mut broken, mut waiting) = (world.dial().await, world.dial().await);
        ask(&mut broken, "/broken").await;
        ask(&mut waiting, "/waiting").await;
        world.until_exchanges(2).await;
        world
            .worker
            .tell(|core| core.break_exchange(b"GET /broken "));
        let full = Arc::clone(&world.full);
        world.worker.tell(|core| core.learn(full));
        ended(&mut broken).await;
        answered(&mut waiting).await;
        ask(&mut kept, "/kept").await;
        answered(&mut kept).await;
        let mut another = world.dial().await;
        ask(&mut another, "/another").await;
        answered(&mut another).await;
        assert!(!world.worker.state.borrow().doubtful);
    });
    assert_eq!(panics, 1);
}

#[test]
fn a_panic_over_what_a_socket_says_ends_its_connection_alone() {
    let panics = run(async || {
        let (leave, left) = mpsc::channel();
        let world = World::new(origin(left)).await;
        let mut broken = world.dial().await;
        // A connection that was used is tried again when it is lost: that is when the broken request is looked at.
        ask(&mut broken, "/first").await;
        answered(&mut broken).await;
        ask(&mut broken, "/slam").await;
        world.until_exchanges(1).await;
        let mut kept = world.dial().await;
        ask(&mut kept, "/kept").await;
        answered(&mut kept).await;
        world.until_exchanges(1).await;
        world.worker.tell(|core| core.break_exchange(b"GET /slam "));
        leave.send(()).unwrap();
        ended(&mut broken).await;
        ask(&mut kept, "/kept").await;
        answered(&mut kept).await;
        world.until_exchanges(0).await;
        assert!(!world.worker.state.borrow().doubtful);
    });
    assert_eq!(panics, 1);
}

#[test]
fn a_panic_for_nobody_in_particular_ends_the_worker() {
    run(async || {
        let (_leave, left) = mpsc::channel();
        let world = World::new(origin(left)).await;
        let state = Rc::clone(&world.worker.state);
        let guarded = world.worker.guarded(&mut state.borrow_mut(), |state| {
            state.core.begin_turn(state.clock.now().into_std());
            panic!("for nobody in particular")
        });
        assert_eq!(guarded, None::<()>);
        timeout(PATIENCE, world.worker.broken.notified())
            .await
            .unwrap();
        assert!(state.borrow().doubtful);
    });
}
