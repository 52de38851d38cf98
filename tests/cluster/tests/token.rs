// SPDX-License-Identifier: Apache-2.0
//! A guest whose token was copied into it once, as into a virtual machine that shares no files with its node: it keeps its identity by
//! its certificate, long after the token's end. A twin that loses its certificate then gets none by that token, and one by a fresh token.
//!
//! No token lasts less than ten minutes (Kubernetes, `validation.ValidateTokenRequest`), so this runs beside the other tests. Read
//! `rotation.rs` for renewal without anybody who reviews tokens.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use maille_cluster::meshed::{Meshed, text};
use maille_cluster::processes::Process;
use maille_cluster::twins::Load;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// A namespace that asks for nothing: what is in the mesh there has its sidecar from its manifest.
const NAMESPACE: &str = "copied";
/// Who keeps its certificate, and who loses it.
const GUESTS: [&str; 2] = ["kept", "lost"];
/// Seconds for which a certificate is good here.
const LIFE: i64 = 60;

/// A pod with a sidecar whose token comes from a Secret, which nobody renews.
fn guest(up: &Meshed, name: &str) -> Value {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"one": name}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [
            {"name": "app", "image": "maille.test/steady:1", "args": ["serve", "0"]},
        ]},
    });
    let injected = up.maille_of("inject -", &pod.to_string()).unwrap();
    let mut pod: Value = serde_json::from_str(&injected).unwrap();
    let volumes = pod["spec"]["volumes"].as_array_mut().unwrap();
    let projected = |volume: &&mut Value| volume["projected"]["sources"][0].is_object();
    let volume = volumes.iter_mut().find(projected).unwrap();
    *volume = json!({"name": volume["name"], "secret": {"secretName": format!("token-of-{name}")}});
    pod
}

/// A token of a pod that is there, for the least time that there is.
fn token(up: &Meshed, name: &str) -> String {
    let pod = up
        .pods(NAMESPACE, &format!("one={name}"))
        .unwrap()
        .remove(0);
    let uid = text(&pod, "/metadata/uid");
    let line = format!(
        "-n {NAMESPACE} create token default --audience maille.io --duration 600s \
         --bound-object-kind Pod --bound-object-name {name} --bound-object-uid {uid}"
    );
    up.kubectl(&line).unwrap().trim().to_owned()
}

/// Copies a token to where its guest finds it.
fn copy(up: &Meshed, name: &str, token: &str) {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": format!("token-of-{name}"), "namespace": NAMESPACE},
        "stringData": {"token": token},
    });
    up.cluster().apply(&secret.to_string()).unwrap();
}

/// Whether the API server believes it.
fn is_believed(up: &Meshed, token: &str) -> anyhow::Result<bool> {
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": token, "audiences": ["maille.io"]},
    });
    let mut create = up.cluster().kubectl_command()?;
    create.args(["create", "-o", "json", "-f", "-"]);
    let said: Value = serde_json::from_str(&up.output_of(&mut create, &review.to_string())?)?;
    Ok(said["status"]["authenticated"] == true)
}

/// From when on the certificate of a guest is valid; an error where it shows none.
fn valid_from(up: &Meshed, name: &str) -> anyhow::Result<i64> {
    let said = up.maille(&format!("identity po/{name} -n {NAMESPACE} -o json"))?;
    let said: Value = serde_json::from_str(&said)?;
    let from = said["pods"][0]["not_before"].as_i64();
    from.with_context(|| format!("{said:#}"))
}

/// Waits until a guest has a certificate from after `when`.
fn renewed_after(up: &Meshed, name: &str, when: i64) {
    up.until("another certificate", || {
        let from = valid_from(up, name)?;
        ensure!(from > when, "{name}: of {from}, wanted after {when}");
        Ok(())
    })
    .unwrap();
}

/// Asks `whom` as the application of `who`.
fn asks(up: &Meshed, who: &str, whom: &str) -> anyhow::Result<String> {
    let pod = up.pods(NAMESPACE, &format!("one={whom}"))?.remove(0);
    let url = format!("http://{}:8080/ready", text(&pod, "/status/podIP"));
    let wget = [
        "/bin/busybox",
        "timeout",
        "10",
        "/bin/busybox",
        "wget",
        "-qO-",
        &url,
    ];
    let exec = ["-n", NAMESPACE, "exec", who, "-c", "app", "--"];
    up.cluster().kubectl(&[&exec[..], &wget].concat())
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// The process of its proxy ends, and with it the certificate: the next one asks by the token.
fn lose_certificate(up: &Meshed, name: &str) {
    let pod = up
        .pods(NAMESPACE, &format!("one={name}"))
        .unwrap()
        .remove(0);
    let proxy = Process::of_pod(text(&pod, "/metadata/uid"), "maille-proxy").unwrap();
    proxy.signal(Signal::SIGKILL).unwrap();
}

#[test]
fn a_guest_whose_token_was_copied_once_keeps_its_identity() {
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    let up = Meshed::start(program, Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    up.install_brief().unwrap();
    Load::image(&up).unwrap();
    up.kubectl(&format!("create namespace {NAMESPACE}"))
        .unwrap();
    let tokens = GUESTS.map(|name| {
        up.cluster().apply(&guest(&up, name).to_string()).unwrap();
        let token = token(&up, name);
        assert!(is_believed(&up, &token).unwrap());
        copy(&up, name, &token);
        token
    });
    let begun = now();
    for name in GUESTS {
        up.settled(NAMESPACE, &format!("one={name}"), 1).unwrap();
        valid_from(&up, name).unwrap();
    }
    asks(&up, "kept", "lost").unwrap();
    asks(&up, "lost", "kept").unwrap();

    for token in &tokens {
        up.patiently("a token's end", || {
            ensure!(!is_believed(&up, token)?, "it is believed still");
            Ok(())
        })
        .unwrap();
    }
    let ended = now();
    assert!(ended - begun >= 600 - 5, "{} s", ended - begun);
    // Two lives of a certificate later both have others, by which they talk.
    for name in GUESTS {
        renewed_after(&up, name, ended);
        renewed_after(&up, name, ended + LIFE);
    }
    asks(&up, "kept", "lost").unwrap();
    asks(&up, "lost", "kept").unwrap();
    eprintln!(
        "tokens ended after {} s; identities last after {} s",
        ended - begun,
        now() - begun
    );

    // What kept it was the certificate: without that, the copy is good for nothing.
    lose_certificate(&up, "lost");
    up.until("what a refused proxy says", || {
        let log = up.kubectl(&format!("-n {NAMESPACE} logs lost -c maille-proxy"))?;
        let said = |line: &str| line.contains("no new certificate") && line.contains("token");
        ensure!(log.lines().any(said), "{log}");
        Ok(())
    })
    .unwrap();
    let without = valid_from(&up, "lost").unwrap_err();
    eprintln!("who lost its certificate: {without:#}");
    asks(&up, "kept", "lost").unwrap_err();
    renewed_after(&up, "kept", now());

    // And nothing else was in its way.
    let fresh = now();
    copy(&up, "lost", &token(&up, "lost"));
    up.patiently("a certificate by a fresh token", || valid_from(&up, "lost"))
        .unwrap();
    renewed_after(&up, "lost", fresh);
    up.settled(NAMESPACE, "one=lost", 1).unwrap();
    asks(&up, "kept", "lost").unwrap();
    assert!(!is_believed(&up, &tokens[1]).unwrap());
}
