// SPDX-License-Identifier: Apache-2.0
//! Strangers at the address of a peer: the proxy tells them nothing, and its application hears why.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use parking_lot::Mutex;
use rustls::{ServerConfig, ServerConnection};

use crate::pki::{self, HOUR, SERVER, Signer};
use crate::refused_for;
use crate::talk::{Codec, Heard, bytes, records, stranger};
use crate::world::{PATIENCE, World};

const MAILLE: Option<&str> = Some("maille/1");
/// Must be seen nowhere but in the application.
const SECRET: &str = "a-secret-of-the-application";

/// How whoever is there behaves.
#[derive(Clone)]
enum Manner {
    Tls(Arc<ServerConfig>),
    Plain,
}

/// Stands where a peer should.
struct Impostor {
    manner: Arc<Mutex<Manner>>,
    heard: Receiver<Heard>,
}

impl Impostor {
    fn start(at: SocketAddr) -> Self {
        let listener = TcpListener::bind(at).unwrap();
        let manner = Arc::new(Mutex::new(Manner::Plain));
        let (tell, heard) = channel();
        let now = Arc::clone(&manner);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let heard = match now.lock().clone() {
                    Manner::Plain => {
                        bytes(&stream, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                    }
                    Manner::Tls(config) => {
                        let tls = ServerConnection::new(config).unwrap();
                        stranger(tls.into(), &stream, Codec::answering())
                    }
                };
                // The test may have ended.
                drop(tell.send(heard));
            }
        });
        Self { manner, heard }
    }
}

/// The application asks once.
fn ask(to: SocketAddr) -> String {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "GET /{SECRET} HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn whoever_is_not_the_peer_that_control_named_is_told_nothing() {
    let world = World::new(HOUR);
    let signer = Signer::open(&world.state.path().join("ca"));
    let other = tempfile::tempdir().unwrap();
    let other = Signer::open(&other.path().join("ca"));
    let impostor = Impostor::start(world.server_mesh());
    let proxy = world.client_proxy();
    let somebody = "spiffe://cluster.local/ns/shop/sa/somebody";
    let elsewhere = "spiffe://elsewhere/ns/shop/sa/server";
    let tls = |leaf, protocol| Manner::Tls(pki::server(leaf, protocol));
    let table = [
        (tls(signer.valid(somebody), MAILLE), "wrong-identity"),
        (tls(signer.valid(elsewhere), MAILLE), "wrong-trust-domain"),
        (tls(signer.expired(SERVER), MAILLE), "certificate-expired"),
        (
            tls(signer.early(SERVER), MAILLE),
            "certificate-not-yet-valid",
        ),
        (tls(other.valid(SERVER), MAILLE), "unknown-ca"),
        (tls(signer.valid(SERVER), None), "no-common-protocol"),
        (tls(signer.valid(SERVER), Some("h2")), "refused-by-peer"),
        (Manner::Plain, "not-tls"),
    ];
    for (known, (manner, reason)) in table.into_iter().enumerate() {
        *impostor.manner.lock() = manner;
        let answer = ask(world.outbound());
        assert!(answer.starts_with("HTTP/1.1 503 "), "{reason}: {answer}");
        assert!(
            answer.contains("\r\n\r\nmaille: peer-identity: "),
            "{reason}: {answer}"
        );
        let heard = impostor.heard.recv_timeout(PATIENCE).unwrap();
        assert!(heard.ended, "{reason}");
        assert_eq!(heard.plain, b"", "{reason}: it was told something");
        // A ClientHello, and nothing but TLS after it.
        assert_eq!(records(&heard.raw).first(), Some(&22), "{reason}");
        let seen = heard
            .raw
            .windows(SECRET.len())
            .any(|bytes| bytes == SECRET.as_bytes());
        assert!(
            !seen,
            "{reason}: the application's words went out in plain text"
        );
        assert_eq!(refused_for(&proxy, world.server_mesh(), known), reason);
    }
    // The same peer made right.
    *impostor.manner.lock() = tls(signer.valid(SERVER), MAILLE);
    let answer = ask(world.outbound());
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
}
