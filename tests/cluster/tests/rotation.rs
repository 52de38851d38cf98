// SPDX-License-Identifier: Apache-2.0
//! Issuer and trust anchor are replaced on a cluster, as somebody with an authority of their own does it: by the Secret, under load.
//! Nobody starts again, nobody loses a request, and `maille check` says how far it is. Only streams as old as the anchor that is
//! retired are cut with it (`docs/wire.md`, section 7).
//!
//! Certificates last a minute here, so that proxies renew theirs while we watch.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, ensure};
use maille_cluster::meshed::{Meshed, is_ready, text};
use maille_cluster::twins::{APP, Load, Twin};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use serde_json::{Value, json};

/// Requests a second.
const RATE: u64 = 200;
/// Streams that are held open all the time, of both kinds.
const STREAMS: u64 = 8;
const SYSTEM: &str = "maille-system";
const CONTROL: &str = "app.kubernetes.io/component=control";
/// Proxies: of the application, of the load, of control.
const PROXIES: usize = 4;
const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: maille-system}\n";
/// The checks that say how far it is.
const ISSUED: &str = "proxies have certificates of the issuer in force";
const BELIEVED: &str = "proxies believe the trust anchors in force, and no others";

/// A trust anchor that is kept elsewhere.
struct Anchor {
    pem: String,
    signer: Issuer<'static, KeyPair>,
}

/// An authority as its Secret has it.
struct Issued {
    certificate: String,
    key: String,
}

fn authority(name: &str, path: u8) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let domain = "spiffe://cluster.local".try_into().unwrap();
    params.subject_alt_names = vec![SanType::URI(domain)];
    params
}

impl Anchor {
    fn new(name: &str) -> Self {
        let (params, key) = (authority(name, 1), KeyPair::generate().unwrap());
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            signer: Issuer::new(params, key),
        }
    }

    fn issuer(&self, name: &str) -> Issued {
        let key = KeyPair::generate().unwrap();
        let certificate = authority(name, 0).signed_by(&key, &self.signer).unwrap();
        Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

/// Puts an authority in force.
fn put(up: &Meshed, anchors: &[&Anchor], issued: &Issued) {
    let anchors: String = anchors.iter().map(|anchor| anchor.pem.as_str()).collect();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "maille-ca", "namespace": SYSTEM},
        "stringData": {"ca.crt": anchors, "tls.crt": issued.certificate, "tls.key": issued.key},
    });
    up.cluster().apply(&secret.to_string()).unwrap();
}

/// What `maille check` says of `name`.
fn said(up: &Meshed, name: &str) -> anyhow::Result<Value> {
    let all: Value = serde_json::from_str(&up.maille("check -o json")?)?;
    let checks = all["checks"].as_array().context("checks")?;
    let one = checks.iter().find(|check| check["name"] == name);
    Ok(one.with_context(|| format!("{name}: {all:#}"))?.clone())
}

/// Whether everybody is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Far {
    /// What is left to do, and by whom, is said.
    Underway,
    Done,
}

/// Waits until `maille check` says by `name` that it is so far.
fn is_so_far(up: &Meshed, name: &str, far: Far) {
    let all = format!("{PROXIES} of {PROXIES} do");
    up.until(name, || {
        let check = said(up, name)?;
        let (message, hint) = (text(&check, "/message"), text(&check, "/hint"));
        let is_so = match far {
            Far::Done => message == all && hint.is_empty(),
            Far::Underway => message.contains("; not yet ") && !hint.is_empty(),
        };
        ensure!(check["ok"] == true && is_so, "not {far:?}: {check:#}");
        eprintln!("{name}: {message}");
        Ok(())
    })
    .unwrap();
}

/// A new issuer is in force: proxies go over to it when it is time for each to renew.
fn renewed(up: &Meshed) {
    is_so_far(up, ISSUED, Far::Underway);
    is_so_far(up, ISSUED, Far::Done);
}

/// Every container of the mesh and of the application, by its id: another life is another id.
fn lives(up: &Meshed) -> BTreeSet<String> {
    let mut pods = up.pods("meshed", "app").unwrap();
    pods.extend(up.pods(SYSTEM, CONTROL).unwrap());
    let of = |pod: &Value| -> Vec<String> {
        let kinds = ["containerStatuses", "initContainerStatuses"];
        let all = kinds.map(|kind| pod["status"][kind].as_array().cloned());
        let all = all.into_iter().flatten().flatten();
        all.map(|status| text(&status, "/containerID").to_owned())
            .collect()
    };
    pods.iter().flat_map(of).collect()
}

/// A cluster with a mesh whose certificates last a minute, and the application in it; `before` is done before the mesh is installed.
fn start(before: impl FnOnce(&Meshed)) -> Meshed {
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    let up = Meshed::start(program, Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    before(&up);
    up.install_brief().unwrap();
    Load::image(&up).unwrap();
    Twin::Meshed.start(&up, 2).unwrap();
    up
}

#[test]
fn issuer_and_anchor_are_replaced_under_load_and_nobody_starts_again() {
    let (old, new) = (Anchor::new("old anchor"), Anchor::new("new anchor"));
    let up = start(|up| {
        up.cluster().apply(NAMESPACE).unwrap();
        put(up, &[&old], &old.issuer("first issuer"));
    });
    let (kept, _) = up.kept_and_other().unwrap();
    let load = Load::start(&up, &[(Twin::Meshed, RATE)], &kept)
        .unwrap()
        .remove(0);
    is_so_far(&up, ISSUED, Far::Done);
    is_so_far(&up, BELIEVED, Far::Done);
    let before = lives(&up);

    // Another issuer under the same anchor.
    let second = old.issuer("second issuer");
    put(&up, &[&old], &second);
    renewed(&up);
    load.share(2).unwrap();

    // Another anchor: everybody believes both before anybody signs under the new one, and the old one goes last.
    put(&up, &[&old, &new], &second);
    believed(&up, 2);
    let third = new.issuer("third issuer");
    put(&up, &[&old, &new], &third);
    renewed(&up);
    load.share(2).unwrap();
    assert_eq!(load.failed().unwrap(), 0);
    put(&up, &[&new], &third);
    believed(&up, 1);
    is_so_far(&up, ISSUED, Far::Done);
    load.share(2).unwrap();

    assert_eq!(lives(&up), before);
    let sum = load.finish().unwrap();
    eprintln!("{}", sum.said);
    // What was opened when nobody had another anchor, and is open still, is cut when that is withdrawn; nothing else is lost.
    assert!((1..=STREAMS).contains(&sum.failed), "{sum:?}");
    for error in sum.said["errors"].as_array().unwrap() {
        let error = error.as_str().unwrap();
        assert!(
            error.starts_with("WebSocket") || error.starts_with("gRPC stream"),
            "{error}"
        );
    }
}

/// From when on the certificates of these pods are valid.
fn valid_from(up: &Meshed, pods: &[String]) -> anyhow::Result<BTreeMap<String, i64>> {
    let one = |pod: &String| {
        let said = up.maille(&format!("identity po/{pod} -n meshed -o json"))?;
        let said: Value = serde_json::from_str(&said)?;
        let from = said["pods"][0]["not_before"].as_i64();
        Ok((pod.clone(), from.with_context(|| format!("{said:#}"))?))
    };
    pods.iter().map(one).collect()
}

/// A token is needed once. Where none is good for anything any more, who has a certificate goes on renewing it, and who has none waits.
#[test]
fn certificates_are_renewed_without_a_token() {
    let up = start(|_| ());
    let pods = up.pods("meshed", APP).unwrap();
    let pods = pods
        .iter()
        .map(|pod| text(pod, "/metadata/name").to_owned());
    let pods: Vec<_> = pods.collect();
    let first = valid_from(&up, &pods).unwrap();
    assert_eq!(first.len(), 2, "{first:?}");
    let role = "get clusterrole maille-control -o json";
    let mut role: Value = serde_json::from_str(&up.kubectl(role).unwrap()).unwrap();
    role["metadata"] = json!({"name": "maille-control"});
    let mut without = role.clone();
    let rules = without["rules"].as_array_mut().unwrap();
    let all = rules.len();
    rules.retain(|rule| rule["resources"] != json!(["tokenreviews"]));
    assert_eq!(rules.len(), all - 1);
    up.cluster().apply(&without.to_string()).unwrap();
    up.kubectl("-n meshed scale deployment/app --replicas 3")
        .unwrap();
    for life in 1..=2 {
        up.until("another certificate", || {
            let now = valid_from(&up, &pods)?;
            let is_later = |(pod, from): (&String, &i64)| {
                now.get(pod).is_some_and(|now| *now >= from + life * 30)
            };
            ensure!(first.iter().all(is_later), "{first:?}, now {now:?}");
            Ok(())
        })
        .unwrap();
    }
    let pods = up.pods("meshed", APP).unwrap();
    let ready = pods.iter().filter(|pod| is_ready(pod));
    let ready: BTreeSet<_> = ready
        .map(|pod| text(pod, "/metadata/name").to_owned())
        .collect();
    assert_eq!((pods.len(), ready), (3, first.into_keys().collect()));
    up.cluster().apply(&role.to_string()).unwrap();
    Twin::Meshed.settled(&up, 3).unwrap();
}

/// Waits until every proxy believes the anchors of now, of which there are so many.
fn believed(up: &Meshed, count: usize) {
    up.until("what pods trust", || {
        let trust = up.kubectl("-n meshed get configmap maille-trust -o json")?;
        let trust: Value = serde_json::from_str(&trust)?;
        let anchors = text(&trust, "/data/ca.crt").matches("BEGIN").count();
        ensure!(anchors == count, "{anchors} anchors");
        Ok(())
    })
    .unwrap();
    is_so_far(up, BELIEVED, Far::Done);
}
