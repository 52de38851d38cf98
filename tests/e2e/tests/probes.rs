// SPDX-License-Identifier: Apache-2.0
//! Probes of a kind that no shell script answers: gRPC's health protocol, and HTTPS with a certificate that nobody signed.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::path::PathBuf;

use maille_testkit::Up;
use maille_testkit::up::READY;
use maille_testkit::wait::until_async;
use serde_json::Value;

/// A pod that is ready, or goes on, as the program in it answers.
const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{name: common, emptyDir: {}}]
  containers:
    - name: c
      command: [ASKED, "9000", /maille-common/well]
      volumeMounts: [{name: common, mountPath: /maille-common}]
      ports: [{name: secure, containerPort: 9001}]
      PROBE
"#;

fn asked() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.parent().unwrap().parent().unwrap().join("maille-asked")
}

fn pod(name: &str, probe: &str) -> String {
    POD.replace("NAME", name)
        .replace("ASKED", asked().to_str().unwrap())
        .replace("PROBE", probe)
}

async fn until_pod(up: &Up, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let found = until_async(name, READY, async || {
        let pods = up.node(http::Method::GET, "/v1/pods").await.ok()?;
        let mut pods = pods["pods"].as_array()?.clone().into_iter();
        pods.find(|pod| pod["name"] == name && holds(pod))
    });
    match found.await {
        Ok(found) => found,
        Err(error) => {
            let pods = up.node(http::Method::GET, "/v1/pods").await;
            panic!("{error:#}\n{pods:#?}\n{}", up.log())
        }
    }
}

/// Where the program in `pod` looks whether all is well.
fn well(up: &Up, pod: &Value) -> PathBuf {
    let uid = pod["uid"].as_str().unwrap();
    up.state()
        .join("pods")
        .join(uid)
        .join("volumes/common/well")
}

#[tokio::test]
async fn grpc_and_https_say_whether_a_pod_is_ready() {
    let ready = |action: &str| {
        format!("readinessProbe: {{{action}, periodSeconds: 1, failureThreshold: 1}}")
    };
    let probes = [
        ("server", ready("grpc: {port: 9000}"), "NOT_SERVING"),
        (
            "service",
            ready("grpc: {port: 9000, service: shop.Cart}"),
            "NOT_SERVING",
        ),
        (
            "https",
            ready("httpGet: {port: secure, scheme: HTTPS, path: /}"),
            "503",
        ),
    ];
    let mut files: Vec<(String, String)> = probes
        .iter()
        .map(|(name, probe, _)| (format!("{name}.yaml"), pod(name, probe)))
        .collect();
    // Neither will ever be ready: nobody knows the service, and what answers there speaks no TLS.
    files.push((
        "unknown.yaml".to_owned(),
        pod("unknown", &ready("grpc: {port: 9000, service: other}")),
    ));
    files.push((
        "plain.yaml".to_owned(),
        pod("plain", &ready("httpGet: {port: 9000, scheme: HTTPS}")),
    ));
    let files: Vec<_> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.clone()))
        .collect();
    let up = Up::start("probes", &files).unwrap();
    let says = |words: &'static str| {
        move |pod: &Value| {
            let said = pod["message"].as_str().unwrap_or_default();
            pod["ready"] == false && said.contains(words)
        }
    };
    for (name, _, words) in &probes {
        let found = until_pod(&up, name, says(words)).await;
        fs::write(well(&up, &found), "").unwrap();
        until_pod(&up, name, |pod| pod["ready"] == true).await;
        fs::remove_file(well(&up, &found)).unwrap();
        until_pod(&up, name, says(words)).await;
    }
    let unknown = until_pod(&up, "unknown", says("NotFound")).await;
    fs::write(well(&up, &unknown), "").unwrap();
    until_pod(&up, "plain", says("no TLS")).await;
    until_pod(&up, "unknown", says("NotFound")).await;
    up.down().await.unwrap();
}

#[tokio::test]
async fn a_container_that_says_it_does_not_serve_is_started_again() {
    let live = "livenessProbe: {grpc: {port: 9000}, initialDelaySeconds: 1, periodSeconds: 1, failureThreshold: 2}";
    let files = [("live.yaml", pod("live", live))];
    let up = Up::start("live", &files).unwrap();
    let again = until_pod(&up, "live", |pod| {
        pod["statuses"][0]["restart_count"]
            .as_u64()
            .or_else(|| pod["statuses"][0]["restartCount"].as_u64())
            > Some(0)
    })
    .await;
    fs::write(well(&up, &again), "").unwrap();
    until_pod(&up, "live", |pod| pod["ready"] == true).await;
    up.down().await.unwrap();
}
