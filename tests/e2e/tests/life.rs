// SPDX-License-Identifier: Apache-2.0
//! Start and end of `maille up`: several by name, orderly stops, and what is left after a kill: nothing.

use std::time::Duration;

use http::Method;
use maille_testkit::up::{READY, SHOP_PODS};
use maille_testkit::{Settings, Traces, Up, until};

const QUIET: Settings = Settings {
    rate: 20,
    seconds: 0,
    connections: 2,
};

#[tokio::test]
async fn down_leaves_nothing() {
    let mut up = Up::shop("a", QUIET).unwrap();
    up.ready(SHOP_PODS).await.unwrap();
    let traces = Traces::of(&up);
    assert!(traces.processes.len() > SHOP_PODS, "{:?}", traces.processes);
    let dir = up.runtime_dir();
    let begin = tokio::time::Instant::now();
    up.down().await.unwrap();
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(5), "down took {took:?}");
    traces.gone().await;
    assert!(!dir.exists());
}

/// Fifty pods of ten services, as a small team has them, on two cores.
#[tokio::test]
async fn fifty_pods_come_and_go_at_once() {
    let files: Vec<(String, String)> = (0..10)
        .map(|n| {
            (
                format!("{n}.yaml"),
                format!("{}---\n{}", deployment(n), service(n)),
            )
        })
        .collect();
    let files: Vec<_> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.clone()))
        .collect();
    let begin = tokio::time::Instant::now();
    let mut up = Up::start("many", &files).unwrap();
    up.ready(50).await.unwrap();
    let came = begin.elapsed();
    let traces = Traces::of(&up);
    assert!(traces.processes.len() > 100, "a proxy for each pod");
    let dir = up.runtime_dir();
    let begin = tokio::time::Instant::now();
    up.down().await.unwrap();
    let went = begin.elapsed();
    eprintln!("50 pods came in {came:?} and went in {went:?}");
    assert!(came < Duration::from_secs(30), "came in {came:?}");
    assert!(went < Duration::from_secs(5), "went in {went:?}");
    traces.gone().await;
    assert!(!dir.exists());
}

fn deployment(n: usize) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: app-{n}}}\nspec:\n  replicas: 5\n  \
         selector: {{matchLabels: {{app: app-{n}}}}}\n  template:\n    metadata: {{labels: {{app: app-{n}}}}}\n    \
         spec:\n      containers:\n        - name: app\n          command: [maille-demo, catalog]\n          \
         readinessProbe: {{httpGet: {{path: /ready, port: 8080}}}}\n"
    )
}

fn service(n: usize) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: app-{n}}}\nspec:\n  selector: {{app: app-{n}}}\n  \
         ports: [{{name: http, port: 8080}}]\n"
    )
}

#[tokio::test]
async fn a_killed_up_leaves_nothing_after_down() {
    let mut up = Up::shop("a", QUIET).unwrap();
    up.ready(SHOP_PODS).await.unwrap();
    let traces = Traces::of(&up);
    up.kill().unwrap();
    // The kernel ends what it started, even before anybody cleans up.
    traces.ended().await;
    assert!(up.state().exists());
    let down = up.maille(&["down"]).output().unwrap();
    assert!(
        down.status.success(),
        "{}",
        String::from_utf8_lossy(&down.stderr)
    );
    assert!(!up.runtime_dir().exists());
    traces.gone().await;
    let again = up.maille(&["down"]).output().unwrap();
    assert!(again.status.success());
    assert!(String::from_utf8_lossy(&again.stderr).contains("nothing is running"));
}

/// Takes all the time that it is given, as does the hook of the container beside it.
const STUBBORN: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: stubborn}
spec:
  terminationGracePeriodSeconds: 600
  containers:
    - name: deaf
      command: [sh, -c, "trap 'echo heard' TERM; echo up; while :; do sleep 0.1; done"]
    - name: hooked
      command: [sleep, "1000"]
      lifecycle: {preStop: {exec: {command: [sleep, "600"]}}}
"#;

#[tokio::test]
async fn what_leaves_slowly_already_is_not_waited_for_when_everything_ends() {
    let mut up = Up::start("slow", &[("slow.yaml", STUBBORN.to_owned())]).unwrap();
    up.ready(2).await.unwrap();
    // Beside that of DNS.
    let pods = up.pods().await.unwrap();
    let own = pods.iter().find(|pod| pod["name"] == "stubborn");
    let uid = own.unwrap()["uid"].as_str().unwrap();
    let dir = up.state().join("pods").join(uid);
    let says = async |word: &str| {
        let log = || std::fs::read_to_string(dir.join("deaf.log")).unwrap_or_default();
        let said = until(word, READY, || log().contains(word).then_some(())).await;
        said.unwrap_or_else(|error| panic!("{error}\n{}", up.log()));
    };
    says("up").await;
    let deleted = up
        .node(Method::POST, "/v1/pods/default/stubborn/delete")
        .await;
    deleted.unwrap();
    says("heard").await;
    let state = up.state();
    let down = up.maille(&["down"]).output().unwrap();
    assert!(down.status.success() && !state.exists(), "{down:?}");
    let log = up.log();
    assert!(!log.contains("did not stop in time"), "{log}");
}

#[tokio::test]
async fn two_names_side_by_side() {
    let mut first = Up::shop("one", QUIET).unwrap();
    let mut second = Up::shop("two", QUIET).unwrap();
    first.ready(SHOP_PODS).await.unwrap();
    second.ready(SHOP_PODS).await.unwrap();
    first.load_began().await.unwrap();
    second.load_began().await.unwrap();
    first.down().await.unwrap();
    second.more_requests(20).await.unwrap();
    second.down().await.unwrap();
}

#[tokio::test]
async fn one_name_only_once() {
    let mut up = Up::shop("a", QUIET).unwrap();
    up.ready(SHOP_PODS).await.unwrap();
    let manifests = up.manifests();
    let twice = up
        .maille(&["up", manifests.to_str().unwrap()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&twice.stderr);
    assert_eq!(twice.status.code(), Some(4), "{said}");
    assert!(said.contains("runs already"), "{said}");
    for verb in [
        &["stat"][..],
        &["stat", "pods", "-o", "json"],
        &["check"],
        &["version"],
    ] {
        let output = up.maille(verb).output().unwrap();
        assert!(
            output.status.success(),
            "{verb:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(!output.stdout.is_empty());
    }
    up.down().await.unwrap();
}
