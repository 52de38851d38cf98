// SPDX-License-Identifier: Apache-2.0
//! How far sets are updated by themselves: a StatefulSet from its partition on, a DaemonSet only where somebody deletes its pod.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;

use http::Method;
use maille_testkit::Up;
use maille_testkit::up::READY;
use maille_testkit::wait::until_async;

const SETS: &str = r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  replicas: 2
  minReadySeconds: 1
  selector: {matchLabels: {app: db}}
  updateStrategy: {rollingUpdate: {partition: PARTITION}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: c, command: [sleep, infinity], env: [{name: VERSION, value: "NUMBER"}]}]
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: every}
spec:
  selector: {matchLabels: {app: every}}
  updateStrategy: {type: OnDelete}
  template:
    metadata: {labels: {app: every}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: c, command: [sleep, infinity], env: [{name: VERSION, value: "NUMBER"}]}]
"#;

fn sets(partition: u32, version: u32) -> String {
    let partition = partition.to_string();
    let text = SETS.replace("PARTITION", &partition);
    text.replace("NUMBER", &version.to_string())
}

/// The pods whose names begin so: name and uid of each that is ready.
async fn pods(up: &Up, name: &str) -> Vec<(String, String)> {
    let answer = up.node(Method::GET, "/v1/pods").await.unwrap_or_default();
    let all = answer["pods"].as_array().cloned().unwrap_or_default();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let ready = all.iter().filter(|pod| pod["ready"] == true);
    let mut mine: Vec<_> = ready
        .map(|pod| (text(&pod["name"]), text(&pod["uid"])))
        .filter(|(known, _)| known.starts_with(name))
        .collect();
    mine.sort();
    mine
}

/// What a pod was made with.
fn version(up: &Up, pod: &str) -> String {
    let mut command = up.maille(&["exec", pod]);
    let output = command.args(["--", "printenv", "VERSION"]).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Waits until the only ready pods whose names begin so are of these versions.
async fn versions(up: &Up, name: &str, wanted: &[&str]) {
    let found = until_async(name, READY, async || {
        let pods = pods(up, name).await;
        let all = pods.iter().map(|(name, _)| {
            let mut command = up.maille(&["exec", name]);
            // It may go just now.
            let output = command.args(["--", "printenv", "VERSION"]).output();
            String::from_utf8(output.unwrap().stdout).unwrap()
        });
        let all: Vec<String> = all.map(|text| text.trim().to_owned()).collect();
        (all == wanted).then_some(())
    });
    if let Err(error) = found.await {
        panic!("{error:#}: {:?}\n{}", pods(up, name).await, up.log());
    }
}

async fn delete(up: &Up, pod: &str) {
    let path = format!("/v1/pods/default/{pod}/delete");
    up.node(Method::POST, &path).await.unwrap();
}

#[tokio::test]
async fn sets_are_updated_as_far_as_they_say() {
    let mut up = Up::start("updates", &[("sets.yaml", sets(1, 1))]).unwrap();
    // The cluster's DNS is a pod too.
    up.ready(2 + 1 + 1).await.unwrap();
    let (first, daemon) = (pods(&up, "db-0").await, pods(&up, "every-").await);
    let change = |text: String| fs::write(up.manifests().join("sets.yaml"), text).unwrap();
    change(sets(1, 2));
    versions(&up, "db-", &["1", "2"]).await;
    assert_eq!(pods(&up, "db-0").await, first, "before the partition");
    assert_eq!(pods(&up, "every-").await, daemon, "nobody has deleted it");
    // Who is made anew is of what his number is to be.
    delete(&up, "db-0").await;
    let again = until_async("db-0 to come again", READY, async || {
        let now = pods(&up, "db-0").await;
        (now.len() == 1 && now != first).then_some(())
    });
    again.await.unwrap();
    assert_eq!(version(&up, "db-0"), "1");
    delete(&up, &daemon[0].0).await;
    versions(&up, "every-", &["2"]).await;
    // And the rest once there is no partition any more.
    change(sets(0, 2));
    versions(&up, "db-", &["2", "2"]).await;
    up.down().await.unwrap();
}
