// SPDX-License-Identifier: Apache-2.0
//! Where services lead that no pod is behind: EndpointSlices; and pods that come at their time: CronJobs.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use http::Method;
use maille_testkit::Up;
use maille_testkit::up::READY;
use maille_testkit::wait::until_async;
use serde_json::Value;

/// A server on the node's network, as something outside of the cluster; a service of two names that leads there, and somebody who asks.
const SLICE: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: outside}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 0
  containers:
    - name: c
      command: [PEER, serve, outside, "7100"]
      readinessProbe: {tcpSocket: {port: 7100}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: far}
spec: {ports: [{name: line, port: 80}, {name: greet, port: 81}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: far-1, labels: {kubernetes.io/service-name: far}}
addressType: IPv4
endpoints: [{addresses: [10.245.0.1]}]
ports: [{name: line, port: 7100}, {name: greet, port: 7101}]
---
apiVersion: v1
kind: Service
metadata: {name: direct}
spec: {clusterIP: None, ports: [{name: line, port: 7100}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: direct-1, labels: {kubernetes.io/service-name: direct}}
addressType: IPv4
endpoints: [{addresses: [10.245.0.1], hostname: named}]
ports: [{name: line, port: 7100}]
---
apiVersion: v1
kind: Pod
metadata: {name: meshed}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: c, command: [PEER, ask, "line:far:80", "greet:far:81", "line:direct:7100", "line:named.direct.default.svc.cluster.local:7100"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: plain, labels: {maille.io/inject: disabled}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: c, command: [PEER, ask, "line:far:80", "greet:far:81", "line:direct:7100", "line:named.direct.default.svc.cluster.local:7100"]}]
"#;

async fn pod(up: &Up, name: &str, within: Duration, holds: impl Fn(&Value) -> bool) -> Value {
    let found = until_async(name, within, async || {
        let answer = up.node(Method::GET, "/v1/pods").await.ok()?;
        let mut pods = answer["pods"].as_array()?.clone().into_iter();
        pods.find(|pod| pod["name"].as_str().unwrap().starts_with(name) && holds(pod))
    });
    match found.await {
        Ok(found) => found,
        Err(error) => {
            let pods = up.node(Method::GET, "/v1/pods").await;
            panic!("{error:#}\n{pods:#?}\n{}", up.log())
        }
    }
}

async fn log(up: &Up, pod: &Value, last: &str) -> String {
    let uid = pod["uid"].as_str().unwrap();
    let path = up.state().join("pods").join(uid).join("c.log");
    let text = || fs::read_to_string(&path).unwrap_or_default();
    let found = until_async(last, READY, async || {
        Some(text()).filter(|text| text.contains(last))
    });
    match found.await {
        Ok(found) => found,
        Err(error) => panic!("{error:#}: {}\n{}", text(), up.log()),
    }
}

#[tokio::test]
async fn a_service_without_pods_leads_where_its_slices_say() {
    let own = std::env::current_exe().unwrap();
    let peer: PathBuf = own.parent().unwrap().parent().unwrap().join("maille-peer");
    let text = SLICE.replace("PEER", peer.to_str().unwrap());
    let up = Up::start("slices", &[("slices.yaml", text)]).unwrap();
    for name in ["meshed", "plain"] {
        let asks = pod(&up, name, READY, |pod| pod["phase"] == "Running").await;
        let said = log(&up, &asks, "that was all").await;
        let answers: Vec<&str> = said.lines().collect();
        for (answer, words) in answers.iter().zip(["hello", "greets", "hello", "hello"]) {
            assert!(
                answer.contains("outside") && answer.contains(words),
                "{name}: {said}"
            );
        }
        assert_eq!(answers.len(), 5, "{name}: {said}");
    }
    up.down().await.unwrap();
}

const CRON: &str = r#"
apiVersion: batch/v1
kind: CronJob
metadata: {name: tick}
spec:
  schedule: "* * * * *"
  timeZone: Europe/Berlin
  concurrencyPolicy: Forbid
  jobTemplate:
    metadata: {labels: {made: by-tick}}
    spec:
      template:
        metadata: {labels: {app: tick}}
        spec:
          restartPolicy: Never
          containers: [{name: c, command: [sh, -c, "echo ticked"]}]
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: rests}
spec:
  schedule: "* * * * *"
  suspend: true
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          containers: [{name: c, command: ["true"]}]
"#;

/// The next full minute is at most one away.
#[tokio::test]
async fn a_cron_job_runs_when_its_minute_comes() {
    let up = Up::start("cron", &[("cron.yaml", CRON.to_owned())]).unwrap();
    let within = Duration::from_secs(90);
    let tick = pod(&up, "tick-", within, |pod| pod["phase"] == "Succeeded").await;
    assert_eq!(log(&up, &tick, "ticked").await, "ticked\n");
    let pods = up.node(Method::GET, "/v1/pods").await.unwrap();
    let pods = pods["pods"].as_array().unwrap();
    let rests = |pod: &&Value| pod["name"].as_str().unwrap().starts_with("rests");
    assert_eq!(pods.iter().filter(rests).count(), 0, "{pods:#?}");
    up.down().await.unwrap();
}
