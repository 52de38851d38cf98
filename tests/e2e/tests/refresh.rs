// SPDX-License-Identifier: Apache-2.0
//! Files of ConfigMaps and Secrets follow the manifests while containers run; what was taken at their start does not.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;

use http::Method;
use maille_testkit::Up;
use maille_testkit::up::READY;
use maille_testkit::wait::until_async;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: reader}
spec:
  terminationGracePeriodSeconds: 0
  volumes:
    - {name: conf, configMap: {name: settings}}
    - name: all
      projected:
        sources:
          - {configMap: {name: settings, items: [{key: text, path: deep/text}]}}
          - {secret: {name: keys}}
  containers:
    - name: c
      command: [sh, -c]
      args:
        - |
          while :; do
            echo "$(cat /maille-c/text) $(cat /maille-a/deep/text) $(cat /maille-a/key) sub=$(cat /maille-one) env=$TEXT $(ls /maille-c | tr '\n' ' ')"
            sleep 0.1
          done
      env: [{name: TEXT, valueFrom: {configMapKeyRef: {name: settings, key: text}}}]
      volumeMounts:
        - {name: conf, mountPath: /maille-c}
        - {name: conf, mountPath: /maille-one, subPath: text}
        - {name: all, mountPath: /maille-a}
"#;

fn settings(data: &str, key: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings}}\ndata: {data}\n---\n\
         apiVersion: v1\nkind: Secret\nmetadata: {{name: keys}}\nstringData: {{key: {key}}}\n"
    )
}

/// Changes the manifests as an editor does: never half a file.
fn change(up: &Up, text: &str) {
    let beside = up.runtime_dir().with_file_name("new");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, up.manifests().join("settings.yaml")).unwrap();
}

/// The pod, as the runner sees it.
async fn reader(up: &Up) -> Value {
    let pods = up.node(Method::GET, "/v1/pods").await.unwrap();
    let mut pods = pods["pods"].as_array().unwrap().iter();
    pods.find(|pod| pod["name"] == "reader").unwrap().clone()
}

/// Waits until the container says `line`.
async fn says(up: &Up, line: &str) {
    let pod = reader(up).await;
    let uid = pod["uid"].as_str().unwrap();
    let log = up.state().join("pods").join(uid).join("c.log");
    let text = || fs::read_to_string(&log).unwrap_or_default();
    let last = || text().lines().next_back().map(|last| last.trim() == line);
    let heard = until_async(line, READY, async || last().unwrap_or(false).then_some(()));
    if let Err(error) = heard.await {
        panic!("{error:#}: {:?}\n{}", text().lines().next_back(), up.log());
    }
}

#[tokio::test]
async fn files_follow_the_manifests_and_the_environment_does_not() {
    let files = [
        ("pod.yaml", POD.to_owned()),
        ("settings.yaml", settings("{text: one, other: x}", "red")),
    ];
    let mut up = Up::start("refresh", &files).unwrap();
    // The cluster's DNS is a pod too.
    up.ready(1 + 1).await.unwrap();
    let pod = reader(&up).await["uid"].clone();
    says(&up, "one one red sub=one env=one other text").await;
    change(&up, &settings("{text: two, third: three}", "blue"));
    says(&up, "two two blue sub=one env=one text third").await;
    // What makes no sense changes nothing.
    change(&up, &settings("{third: four}", "green"));
    let refused = until_async("a refusal", READY, async || {
        up.log().contains("has no key \"text\"").then_some(())
    });
    refused.await.unwrap();
    says(&up, "two two blue sub=one env=one text third").await;
    change(&up, &settings("{text: four}", "green"));
    says(&up, "four four green sub=one env=one text").await;
    assert_eq!(reader(&up).await["uid"], pod, "it is the same pod");
    // Started again, a container has everything as it is now.
    let own = up.processes().into_iter().find(|process| {
        process.name == "sh" && process.args().iter().any(|arg| arg.contains("maille-one"))
    });
    let own = own.unwrap_or_else(|| panic!("no container\n{}", up.log()));
    kill(Pid::from_raw(own.pid), Signal::SIGKILL).unwrap();
    says(&up, "four four green sub=four env=four text").await;
    up.down().await.unwrap();
}
