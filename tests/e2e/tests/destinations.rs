// SPDX-License-Identifier: Apache-2.0
//! Everything that a pod may dial, with the mesh between: who answers, and whom the answerer saw.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeMap;
use std::fs;

use maille_testkit::up::READY;
use maille_testkit::{Up, until};
use serde_json::Value;

/// The node, as pods see it.
const NODE: [&str; 2] = ["10.245.0.1", "fd00:245::1"];

const PODS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: far}
---
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: far, labels: {app: server}}
spec: {containers: [{name: serve, command: [PEER, serve, server, "7000"]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: outsider, namespace: far, labels: {app: outsider}, annotations: {maille.io/inject: disabled}}
spec:
  containers:
    - {name: serve, command: [PEER, serve, outsider, "7000"]}
    - {name: ask, command: [PEER, ask, "line4:web:80", "line6:web:80", "greet:web:81", "line:bare:7000", "udp:web:82",
        "line:[fe80::1%eth0]:7100"]}
---
apiVersion: v1
kind: Pod
metadata: {name: host, namespace: far, labels: {app: host}}
spec:
  hostNetwork: true
  containers:
    - {name: serve, command: [PEER, serve, host, "7100"]}
    - {name: ask, command: [PEER, ask, "line4:web:80", "line6:web:80", "greet:bare:7001", "udp4:web:82"]}
---
apiVersion: v1
kind: Pod
metadata: {name: self, namespace: far, labels: {app: self}}
spec:
  containers:
    - {name: serve, command: [PEER, serve, self, "7000"]}
    - {name: ask, command: [PEER, ask, "line4:own:80", "line6:own:80", "greet:own:81", "line4:ownbare:7000", "line6:ownbare:7000",
        "line:127.0.0.1:7000", "line:[::1]:7000", "udp:own:82"]}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: far}
spec:
  containers:
    - {name: ask, command: [PEER, ask, "line4:web:80", "line6:web:80", "greet4:web:81", "greet6:web:81", "udp4:web:82", "udp6:web:82",
        "line6:six:80", "line4:bare:7000", "line6:bare:7000", "greet4:bare:7001", "udp4:bare:7002", "udp6:bare:7002",
        "line:alias:80", "line:alias.far.svc.cluster.local:80", "line:outsider:80", "greet:outsider:81",
        "line4:hosted:80", "line6:hosted:80", "greet:hosted:81", "line:10.245.0.1:7100", "greet:[fd00:245::1]:7101",
        "line:169.254.1.1:7100", "greet:169.254.1.1:7101",
        "line:[fe80::1%eth0]:7100", "greet:[fe80::1%eth0]:7101"]}
---
apiVersion: v1
kind: Service
metadata: {name: alias, namespace: far}
spec: {type: ExternalName, externalName: web.far.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {name: six, namespace: far}
spec: {ipFamilies: [IPv6], selector: {app: server}, ports: [{port: 80, targetPort: 7000}]}
"#;

/// A Service of both families for the pods of `app`, whose ports begin at `target`.
fn service(name: &str, app: &str, headless: bool, target: u16) -> String {
    let address = if headless { ", clusterIP: None" } else { "" };
    let port = |n: u16| if headless { target + n } else { 80 + n };
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: far}}\n\
         spec:\n  {{selector: {{app: {app}}}, ipFamilyPolicy: RequireDualStack{address}, ports: [\n    \
         {{name: a, port: {}, targetPort: {}}}, {{name: b, port: {}, targetPort: {}}}, {{name: c, port: {}, targetPort: {}, protocol: UDP}}]}}\n",
        port(0),
        target,
        port(1),
        target + 1,
        port(2),
        target + 2,
    )
}

fn manifests() -> String {
    let peer = std::env::current_exe().unwrap();
    let peer = peer.parent().unwrap().parent().unwrap().join("maille-peer");
    let mut text = PODS.replace("PEER", peer.to_str().unwrap());
    for (name, app, headless, target) in [
        ("web", "server", false, 7000),
        ("bare", "server", true, 7000),
        ("outsider", "outsider", false, 7000),
        ("hosted", "host", false, 7100),
        ("own", "self", false, 7000),
        ("ownbare", "self", true, 7000),
    ] {
        text += &service(name, app, headless, target);
    }
    text
}

/// What the questions of a pod were answered.
async fn answers(up: &Up, pod: &Value) -> BTreeMap<String, String> {
    let dir = up.state().join("pods").join(pod["uid"].as_str().unwrap());
    let log = dir.join("ask.log");
    let read = || fs::read_to_string(&log).unwrap_or_default();
    let all = until("the last question", READY, || {
        let text = read();
        text.contains("that was all").then_some(text)
    });
    let all = all
        .await
        .unwrap_or_else(|_| panic!("{}\n{}", read(), up.log()));
    let lines = all
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    lines
        .map(|line| {
            let failed = line["failed"]
                .as_str()
                .map(|error| format!("failed: {error}"));
            (
                text(&line["ask"]),
                failed.unwrap_or_else(|| text(&line["said"])),
            )
        })
        .collect()
}

#[tokio::test]
async fn whatever_a_pod_dials_answers_and_sees_who_asked() {
    let mut up = Up::start("far", &[("far.yaml", manifests())]).unwrap();
    up.ready(5).await.unwrap();
    let pods = up.pods().await.unwrap();
    let named = |name: &str| pods.iter().find(|pod| pod["name"] == name).unwrap().clone();
    let mut wrong = Vec::new();
    for asker in ["client", "self", "outsider", "host"] {
        let pod = named(asker);
        let ips = pod["ips"].as_array().unwrap();
        let ip = |n: usize| ips[n].as_str().unwrap().to_owned();
        for (question, answer) in answers(&up, &pod).await {
            if question.is_empty() {
                continue;
            }
            let mut words = answer.split(' ');
            let who = words.next().unwrap();
            let seen = words.next().unwrap_or_default();
            let host = &question[question.find(':').unwrap() + 1..];
            let expected = match host.split(':').next().unwrap() {
                "web" | "bare" | "six" | "alias" | "alias.far.svc.cluster.local" => "server",
                "outsider" => "outsider",
                "own" | "ownbare" | "127.0.0.1" => "self",
                _ if host.starts_with("[::1]") => "self",
                _ => "host",
            };
            let loopback = host.starts_with("127.") || host.starts_with("[::1]");
            let known = [ip(0), ip(1)];
            let right = match asker {
                _ if loopback => seen == "127.0.0.1" || seen == "::1",
                // From the own address on the link.
                _ if host.starts_with("[fe80:") => seen.starts_with("fe80::") && seen != "fe80::1",
                // What is asked over its service comes back from the service (TCP), or from the node (UDP): not from itself.
                "self" if question.starts_with("udp") => NODE.contains(&seen),
                "self" if host.starts_with("own:") => {
                    seen.starts_with("10.96.") || seen.starts_with("fd00:96:")
                }
                // For a service's address its kernel prefers the address nearest to it: that of DNS.
                "host" => NODE.contains(&seen) || seen == "fd00:96::a",
                _ => known.iter().any(|ip| ip == seen),
            };
            if who != expected || !right {
                wrong.push(format!("{asker} {known:?} {question}: {answer}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), up.log());
    up.down().await.unwrap();
}
