// SPDX-License-Identifier: Apache-2.0
//! A proxy without a node agent, as a process, and control behind TLS: how it becomes somebody, stays so, and whom it does not believe.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set up its world fails"
)]

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use maille_identity::Authority;
use maille_testkit::secure::{Control, IDENTITY, Pod};
use serde_json::Value;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// The shortest life of a certificate.
const SHORT: Duration = Duration::from_secs(10);

/// What a pod has mounted, and its proxy.
struct World {
    control: Control,
    mounted: TempDir,
}

struct Proxy {
    child: Child,
    log: PathBuf,
    notify: UnixDatagram,
}

impl World {
    fn new(leaf: Duration) -> Self {
        let control = Control::start("127.0.0.1:0".parse().unwrap(), leaf, &[]).unwrap();
        control.know(&pod()).unwrap();
        let mounted = tempfile::tempdir().unwrap();
        let world = Self { control, mounted };
        fs::write(world.path("ca.crt"), world.control.anchors()).unwrap();
        fs::write(world.path("token"), "pod-web").unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.mounted.path().join(name)
    }

    fn proxy(&self) -> Proxy {
        Proxy::start(self.mounted.path(), self.control.address(), IDENTITY)
    }
}

fn pod() -> Pod {
    Pod {
        uid: "web".into(),
        namespace: "shop".into(),
        addresses: vec![[127, 9, 9, 9].into()],
        ports: vec![8080],
        meshed: true,
    }
}

impl Proxy {
    fn start(mounted: &Path, control: SocketAddr, identity: &str) -> Self {
        let path = |name: &str| mounted.join(name);
        let notify = UnixDatagram::bind(path("notify")).unwrap();
        notify.set_read_timeout(Some(PATIENCE)).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_maille-proxy"))
            .env_clear()
            .env("MAILLE_WORKLOAD", "web")
            .env("MAILLE_CONTROL", control.to_string())
            .env("MAILLE_CONTROL_IDENTITY", identity)
            .env("MAILLE_TRUST", path("ca.crt"))
            .env("MAILLE_TOKEN", path("token"))
            .env("MAILLE_MESH", "127.0.0.1:0")
            .env("MAILLE_LOG_FORMAT", "json")
            .env("NOTIFY_SOCKET", path("notify"))
            .stderr(File::create(path("log")).unwrap())
            .spawn()
            .unwrap();
        let log = path("log");
        Self { child, log, notify }
    }

    fn ready(&self) {
        let mut word = [0; 64];
        let told = self.notify.recv(&mut word);
        assert!(
            told.as_ref().is_ok_and(|n| word[..*n] == *b"READY=1"),
            "{told:?}"
        );
    }

    /// Every line that says `what`.
    fn said(&self, what: &str) -> Vec<Value> {
        let text = fs::read_to_string(&self.log).unwrap();
        let lines = text.lines().map(serde_json::from_str::<Value>);
        lines
            .filter_map(Result::ok)
            .map(|line| line["fields"].clone())
            .filter(|fields| fields["message"] == what)
            .collect()
    }

    /// Waits until it has said `what` with a word of `why`.
    fn says(&self, what: &str, why: &str) -> Value {
        wait_for(&format!("{what}: {why}"), || {
            let mut lines = self.said(what).into_iter();
            lines.find(|line| line.to_string().contains(why))
        })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(maille_testkit::until(what, PATIENCE, look))
        .unwrap()
}

#[test]
fn a_token_is_shown_once_and_the_certificate_renews_itself() {
    let world = World::new(SHORT * 2);
    let proxy = world.proxy();
    proxy.ready();
    assert_eq!(world.control.reviewed(), 1);
    // A copy of a token is good once: what comes later rests on the key.
    fs::write(world.path("token"), "stale").unwrap();
    // The second renewal comes when the certificate is over by which the connection was first opened.
    wait_for("two renewals", || {
        (proxy.said("certificate in force").len() >= 3).then_some(())
    });
    assert_eq!(world.control.reviewed(), 1);
    assert!(proxy.said("no new certificate").is_empty());
}

#[test]
fn a_token_is_read_for_each_attempt() {
    let world = World::new(HOUR);
    fs::remove_file(world.path("token")).unwrap();
    let proxy = world.proxy();
    proxy.says("no new certificate", "token");
    fs::write(world.path("token"), "of-nobody").unwrap();
    proxy.says("no new certificate", "the token is not valid");
    fs::write(world.path("token"), "pod-web\n").unwrap();
    proxy.ready();
}

#[test]
fn control_may_go_and_come_back_and_a_lost_certificate_is_asked_for_with_the_token() {
    let mut world = World::new(SHORT);
    let proxy = world.proxy();
    proxy.ready();
    world.control.stop();
    // The certificate ends: nobody is there to renew it.
    proxy.says("no new certificate", "\"seconds_left\":0");
    let before = world.control.reviewed();
    world.control.begin().unwrap();
    let had = proxy.said("certificate in force").len();
    wait_for("another certificate", || {
        (proxy.said("certificate in force").len() > had).then_some(())
    });
    assert_eq!(world.control.reviewed(), before + 1);
    // It has nothing new to say of itself until something is new.
    let grown = Pod {
        addresses: vec![[127, 9, 9, 9].into(), [127, 9, 9, 10].into()],
        ..pod()
    };
    world.control.know(&grown).unwrap();
    proxy.says("control answers again", "");
}

#[test]
fn who_is_not_control_is_shown_no_token() {
    let world = World::new(HOUR);
    let other = Authority::create(
        &"cluster.local".parse().unwrap(),
        std::time::SystemTime::now(),
    );
    let anchor = other.unwrap().trust_anchors().remove(0);
    fs::write(
        world.path("ca.crt"),
        maille_identity::describe::pem(&anchor),
    )
    .unwrap();
    let proxy = world.proxy();
    proxy.says("no new certificate", "not from an authority of this mesh");
    // Its anchors are mended, as a ConfigMap is that was written late.
    fs::write(world.path("ca.crt"), world.control.anchors()).unwrap();
    proxy.ready();
    assert_eq!(world.control.reviewed(), 1);
    drop(proxy);

    fs::remove_file(world.path("notify")).unwrap();
    let elsewhere = "spiffe://cluster.local/ns/maille-system/sa/somebody-else";
    let proxy = Proxy::start(world.mounted.path(), world.control.address(), elsewhere);
    proxy.says(
        "no new certificate",
        "but spiffe://cluster.local/ns/maille-system/sa/somebody-else was expected",
    );
    assert_eq!(world.control.reviewed(), 1);
}

#[test]
fn a_pod_that_control_does_not_know_any_more_is_not_renewed() {
    let world = World::new(SHORT);
    let proxy = world.proxy();
    proxy.ready();
    world.control.forget("web").unwrap();
    proxy.says("no new certificate", "");
    // Served again as soon as it exists again: nothing of it was lost.
    world.control.know(&pod()).unwrap();
    let had = proxy.said("certificate in force").len();
    wait_for("another certificate", || {
        (proxy.said("certificate in force").len() > had).then_some(())
    });
}
