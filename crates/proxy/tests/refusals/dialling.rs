// SPDX-License-Identifier: Apache-2.0
//! Strangers that dial a proxy: they get an end, perhaps an alert, and nothing else.

use std::net::{SocketAddr, TcpStream};

use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use crate::pki::{self, CLIENT, HOUR, Leaf, Signer};
use crate::talk::{CLAIM, Codec, Heard, bytes, peer, records, stranger};
use crate::world::{App, Proxy, QUIETLY, World};
use crate::{refused_for, wait_for};

const MAILLE: Option<&str> = Some("maille/1");

/// A server under a real control, and whoever holds its authority's key.
struct Scene {
    world: World,
    proxy: Proxy,
    app: App,
    signer: Signer,
}

impl Scene {
    fn new() -> Self {
        let world = World::new(HOUR);
        let signer = Signer::open(&world.state.path().join("ca"));
        Self {
            app: App::start(world.app()),
            proxy: world.server_proxy(QUIETLY),
            signer,
            world,
        }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.world.server_mesh()).unwrap()
    }

    /// Dials with TLS 1.3 and asks for what a peer would be given.
    fn dial(&self, leaf: Option<Leaf>, protocol: Option<&str>) -> (Heard, SocketAddr) {
        let stream = self.connect();
        let name = ServerName::try_from("server").unwrap();
        let tls = ClientConnection::new(pki::client(leaf, protocol), name).unwrap();
        let heard = stranger(tls.into(), &stream, Codec::asking(self.world.app()));
        (heard, stream.local_addr().unwrap())
    }

    /// It was refused for `reason`, without a word.
    fn refused(&self, (heard, client): &(Heard, SocketAddr), reason: &str) {
        assert!(heard.ended, "{reason}: {heard:?}");
        assert_eq!(heard.answer, None, "{reason}");
        assert_eq!(heard.plain, b"", "{reason}: something was said through TLS");
        records(&heard.raw);
        assert_eq!(refused_for(&self.proxy, *client, 0), reason);
        assert_eq!(
            self.app.accepted(),
            0,
            "{reason}: the application was reached"
        );
    }

    /// A stranger that has all it needs is served.
    fn served(&self) {
        let (heard, _) = self.dial(Some(self.signer.valid(CLIENT)), MAILLE);
        assert_eq!(heard.answer, Some((200, String::new())), "{heard:?}");
        assert_eq!(self.app.accepted(), 1);
    }
}

#[test]
fn who_cannot_prove_to_be_of_the_mesh_is_refused() {
    let scene = Scene::new();
    let other = tempfile::tempdir().unwrap();
    let other = Signer::open(&other.path().join("ca"));
    let signer = &scene.signer;
    let elsewhere = "spiffe://elsewhere/ns/shop/sa/client";
    for (leaf, reason) in [
        (Some(signer.valid(elsewhere)), "wrong-trust-domain"),
        (Some(signer.expired(CLIENT)), "certificate-expired"),
        (Some(signer.early(CLIENT)), "certificate-not-yet-valid"),
        (Some(other.valid(CLIENT)), "unknown-ca"),
        (None, "no-certificate"),
    ] {
        scene.refused(&scene.dial(leaf, MAILLE), reason);
    }
    scene.served();
}

#[test]
fn who_speaks_something_else_is_refused() {
    let scene = Scene::new();
    for protocol in [Some("h2"), Some("maille/2"), None] {
        let leaf = scene.signer.valid(CLIENT);
        scene.refused(&scene.dial(Some(leaf), protocol), "no-common-protocol");
    }
    for (text, reason) in [
        (&b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"[..], "not-tls"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "not-tls"),
        (&[0xa5; 4096], "not-tls"),
        (&[22, 3, 1, 0, 4, 0xff, 0xff, 0xff, 0xff], "tls-malformed"),
        (&hello_of_tls12(), "old-tls-version"),
    ] {
        let stream = scene.connect();
        let heard = bytes(&stream, text);
        if reason == "not-tls" {
            assert_eq!(heard.raw, b"", "what is no TLS is not answered");
        } else {
            assert!(
                records(&heard.raw).iter().all(|kind| *kind == 21),
                "{heard:?}"
            );
        }
        scene.refused(&(heard, stream.local_addr().unwrap()), reason);
    }
    scene.served();
}

#[test]
fn a_peer_that_asks_for_somebody_elses_address_is_misdirected() {
    let scene = Scene::new();
    let own = scene.signer.credentials(CLIENT);
    let at = scene.world.server_mesh();
    let foreign = SocketAddr::new(scene.world.ip(3), scene.world.app().port());
    let foreign_app = App::start(foreign);
    let heard = peer(&own, at, foreign);
    assert_eq!(heard.answer, Some((421, "misdirected".to_owned())));
    assert_eq!((foreign_app.accepted(), scene.app.accepted()), (0, 0));
    let heard = peer(&own, at, scene.world.app());
    assert_eq!(heard.answer, Some((200, String::new())));
    assert_eq!((foreign_app.accepted(), scene.app.accepted()), (0, 1));
}

#[test]
fn what_a_peer_claims_of_its_client_is_reported_as_a_claim() {
    let world = World::new(HOUR);
    let signer = Signer::open(&world.state.path().join("ca"));
    let _app = App::start(world.app());
    let proxy = world.server_proxy("json");
    let heard = peer(
        &signer.credentials(CLIENT),
        world.server_mesh(),
        world.app(),
    );
    assert_eq!(heard.answer, Some((200, String::new())));
    let line = wait_for("the access log", || proxy.said("access").pop());
    assert_eq!(line["src.claimed"], CLAIM, "{line}");
    // What the connection itself says is another fact, and the one that counts.
    let from = line["src.addr"].as_str().unwrap();
    let from: SocketAddr = from.parse().unwrap();
    assert!(from.ip().is_loopback(), "{line}");
    assert_eq!(line["peer.id"], CLIENT, "{line}");
}

/// A ClientHello as TLS 1.2 has it (RFC 5246, 7.4.1.2): ECDHE-ECDSA with AES-128-GCM, P-256, no supported_versions.
fn hello_of_tls12() -> Vec<u8> {
    let extensions = [
        &[0, 10, 0, 4, 0, 2, 0, 23][..],
        &[0, 11, 0, 2, 1, 0],
        &[0, 13, 0, 4, 0, 2, 4, 3],
        &[0, 23, 0, 0],
    ]
    .concat();
    let mut body = vec![3, 3];
    body.extend_from_slice(&[7; 32]);
    body.extend_from_slice(&[0, 0, 2, 0xc0, 0x2b, 1, 0, 0]);
    body.push(u8::try_from(extensions.len()).unwrap());
    body.extend(extensions);
    let length = u8::try_from(body.len()).unwrap();
    [&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &body].concat()
}
