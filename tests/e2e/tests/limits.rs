// SPDX-License-Identifier: Apache-2.0
//! What containers may use: held by control groups for root, on a machine that has them; others are told that it is not held.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::path::PathBuf;

use http::Method;
use maille_testkit::up::READY;
use maille_testkit::wait::until_async;
use maille_testkit::{Programs, Traces, Up};
use nix::unistd::geteuid;
use serde_json::Value;

const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: greedy}
spec:
  restartPolicy: Never
  containers:
    - name: c
      command: [sh, -c, "echo begins; exec sh -c 'x=0123456789abcdef; while :; do x=$x$x; done'"]
      resources: {limits: {memory: 32Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: again}
spec:
  containers:
    - name: c
      command: [sh, -c, "x=0123456789abcdef; while :; do x=$x$x; done"]
      resources: {limits: {memory: 32Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: modest}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: c
      command: [sh, -c]
      args:
        - |
          find /sys/fs/cgroup -name memory.limit_in_bytes -o -name memory.max | while read file; do
            (echo 999999999999 > "$file") 2>/dev/null && echo open
          done
          echo done
          exec sleep infinity
      resources: {limits: {memory: 64Mi, cpu: 250m}}
      readinessProbe: {exec: {command: [grep, -q, maille.limits, /proc/self/cgroup]}, periodSeconds: 1}
    - name: free
      command: [sleep, infinity]
"#;

async fn pod(up: &Up, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let found = until_async(name, READY, async || {
        let answer = up.node(Method::GET, "/v1/pods").await.ok()?;
        let mut pods = answer["pods"].as_array()?.clone().into_iter();
        pods.find(|pod| pod["name"] == name && holds(pod))
    });
    match found.await {
        Ok(found) => found,
        Err(error) => {
            let pods = up.node(Method::GET, "/v1/pods").await;
            panic!("{error:#}\n{pods:#?}\n{}", up.log())
        }
    }
}

/// The groups of the container `c` of a pod.
fn groups(up: &Up, pod: &Value) -> Vec<PathBuf> {
    let name = format!("{}.c", pod["uid"].as_str().unwrap());
    let groups = up.groups().into_iter().map(|group| group.join(&name));
    groups.collect()
}

/// What one of the files says, whichever is there.
fn says(groups: &[PathBuf], files: &[&str]) -> Option<String> {
    let mut paths = groups
        .iter()
        .flat_map(|group| files.iter().map(|file| group.join(file)));
    let text = paths.find_map(|path| fs::read_to_string(path).ok())?;
    Some(text.trim().to_owned())
}

#[tokio::test]
async fn limits_hold_or_it_is_said_that_they_do_not() {
    let said = dry_run(PODS);
    if !geteuid().is_root() {
        let warning = "spec.containers[0].resources.limits.memory: the container is not limited: limits need root";
        // Nothing is started: without limits two of these would take the whole machine.
        return assert_eq!(said.matches(warning).count(), 3, "{said}");
    }
    assert!(!said.contains("is not limited"), "{said}");
    let up = Up::start("limits", &[("pods.yaml", PODS.to_owned())]).unwrap();
    let greedy = pod(&up, "greedy", |pod| pod["phase"] == "Failed").await;
    let ended = &greedy["statuses"][0]["state"]["terminated"];
    assert_eq!(ended["reason"], "OOMKilled", "{greedy:#}");
    assert_eq!(ended["exitCode"], 137);
    let message = greedy["message"].as_str().unwrap();
    let expected =
        "container c: OOMKilled: killed by SIGKILL, it needed more memory than its limit of 32Mi";
    assert!(message.starts_with(expected), "{message}");
    assert!(groups(&up, &greedy).iter().all(|group| !group.exists()));
    pod(&up, "again", |pod| {
        let waits = &pod["statuses"][0]["state"]["waiting"];
        let message = waits["message"].as_str().unwrap_or_default();
        message.contains("OOMKilled") && waits["reason"] == "CrashLoopBackOff"
    })
    .await;
    // Its probe, which is in the group too, finds itself there.
    let modest = pod(&up, "modest", |pod| pod["ready"] == true).await;
    let groups = groups(&up, &modest);
    let memory = says(&groups, &["memory.limit_in_bytes", "memory.max"]);
    assert_eq!(memory.as_deref(), Some("67108864"));
    let cpu = says(&groups, &["cpu.cfs_quota_us", "cpu.max"]).unwrap();
    assert!(cpu == "25000" || cpu == "25000 100000", "{cpu}");
    assert_eq!(says(&groups, &["pids.max"]).as_deref(), Some("4096"));
    let log = up
        .state()
        .join("pods")
        .join(modest["uid"].as_str().unwrap())
        .join("c.log");
    assert_eq!(fs::read_to_string(log).unwrap(), "done\n");
    up.down().await.unwrap();
}

/// What `maille up --dry-run` says of a text.
fn dry_run(text: &str) -> String {
    let dir = tempfile::Builder::new()
        .prefix("m")
        .tempdir_in("/tmp")
        .unwrap();
    let file = dir.path().join("pods.yaml");
    fs::write(&file, text).unwrap();
    let mut maille = Programs::find().unwrap().maille();
    maille.args(["up", "--dry-run"]).arg(&file);
    let output = maille
        .env("MAILLE_RUNTIME_DIR", dir.path().join("s"))
        .output()
        .unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn a_killed_up_leaves_no_group_after_down() {
    const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: one}
spec:
  containers: [{name: c, command: [sleep, infinity], resources: {limits: {cpu: 100m}}}]
"#;
    let mut up = Up::start("limits2", &[("pod.yaml", POD.to_owned())]).unwrap();
    // The cluster's DNS is a pod too.
    up.ready(1 + 1).await.unwrap();
    let groups = up.groups();
    assert!(groups.iter().all(|group| group.exists()), "{groups:?}");
    assert_eq!(
        groups.is_empty(),
        up.log().contains("is not limited: limits need root")
    );
    up.kill().unwrap();
    let down = up.maille(&["down"]).output().unwrap();
    assert!(
        down.status.success(),
        "{}",
        String::from_utf8_lossy(&down.stderr)
    );
    assert!(groups.iter().all(|group| !group.exists()), "{groups:?}");
    assert!(!up.runtime_dir().exists());
}

/// The next one takes them away, too, even where the note of them is lost with everything else of the state directory.
#[tokio::test]
async fn a_killed_up_leaves_no_group_after_the_next() {
    const LIMITED: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: one}
spec:
  containers: [{name: c, command: [sleep, infinity], resources: {limits: {cpu: 100m}}}]
"#;
    for lost in [false, true] {
        let mut up = Up::start("limits3", &[("pod.yaml", LIMITED.to_owned())]).unwrap();
        up.ready(1 + 1).await.unwrap();
        let one = pod(&up, "one", |pod| pod["ready"] == true).await;
        let before = groups(&up, &one);
        assert!(before.iter().all(|group| group.exists()), "{before:?}");
        let traces = Traces::of(&up);
        up.kill().unwrap();
        traces.ended().await;
        assert!(
            before.iter().all(|group| group.exists()),
            "there was nobody to take them away: {before:?}"
        );
        if lost {
            fs::remove_dir_all(up.state()).unwrap();
        }
        let manifests = up.manifests();
        let unlimited = LIMITED.replace(", resources: {limits: {cpu: 100m}}", "");
        fs::write(manifests.join("pod.yaml"), unlimited).unwrap();
        let manifests = manifests.to_str().unwrap();
        let next = up.maille(&["up", manifests, "--detach"]).output().unwrap();
        let said = String::from_utf8_lossy(&next.stderr);
        assert!(next.status.success(), "{said}");
        assert!(
            before.iter().all(|group| !group.exists()),
            "lost: {lost}: {before:?}"
        );
        let down = up.maille(&["down"]).output().unwrap();
        assert!(down.status.success());
        traces.gone().await;
    }
}
