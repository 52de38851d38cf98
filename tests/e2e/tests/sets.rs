// SPDX-License-Identifier: Apache-2.0
//! Orders to what keeps pods: scale and restart, each in its order, with what pods have written kept; and what cannot be ordered.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::path::Path;
use std::process::Command;

use http::Method;
use maille_testkit::Up;
use maille_testkit::up::READY;
use maille_testkit::wait::until_async;
use serde_json::Value;

/// The cluster's DNS is a pod too.
const DNS: usize = 1;

const SETS: &str = r#"
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: common}
spec: {accessModes: [ReadWriteMany], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, selector: {app: db}, ports: [{name: tcp, port: 80}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  replicas: 3
  serviceName: db
  selector: {matchExpressions: [{key: app, operator: In, values: [db, other]}]}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 5
      volumes: [{name: common, persistentVolumeClaim: {claimName: common}}]
      containers:
        - name: db
          command: [sh, -c]
          args:
            - |
              trap 'echo "$(hostname) ends" >> /maille-common/order; exit 0' TERM
              echo begun >> /maille-own/runs
              echo "$(hostname) run $(wc -l < /maille-own/runs)" >> /maille-common/order
              touch /tmp-ready/up
              while :; do sleep 0.1; done
          readinessProbe: {exec: {command: [test, -e, /tmp-ready/up]}, periodSeconds: 1}
          volumeMounts:
            - {name: common, mountPath: /maille-common}
            - {name: own, mountPath: /maille-own}
            - {name: ready, mountPath: /tmp-ready}
  volumeClaimTemplates:
    - metadata: {name: own}
      spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
    - metadata: {name: ready}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: every}
spec:
  selector: {matchLabels: {app: every}}
  template:
    metadata: {labels: {app: every}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: c, command: [sleep, infinity]}]
---
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: some}
spec:
  replicas: 1
  selector: {matchLabels: {app: some}}
  template:
    metadata: {labels: {app: some}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: c, command: [sleep, infinity]}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec:
  template:
    spec:
      restartPolicy: Never
      containers: [{name: c, command: ["true"]}]
"#;

/// Runs it to its end: whether it went well, and all it said.
fn run(mut command: Command) -> (bool, String) {
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

fn done(up: &Up, verb: &[&str]) -> String {
    let (well, said) = run(up.maille(verb));
    assert!(well, "{verb:?}: {said}\n{}", up.log());
    said
}

/// Names and uids of the pods whose names begin so.
async fn pods(up: &Up, name: &str) -> Vec<(String, String)> {
    let answer = up.node(Method::GET, "/v1/pods").await.unwrap_or_default();
    let all = answer["pods"].as_array().cloned().unwrap_or_default();
    let text = |pod: &Value, key: &str| pod[key].as_str().unwrap().to_owned();
    let mut mine: Vec<_> = all
        .iter()
        .map(|pod| (text(pod, "name"), text(pod, "uid")))
        .filter(|(known, _)| known.starts_with(name))
        .collect();
    mine.sort();
    mine
}

async fn names(up: &Up, name: &str, wanted: &[&str]) {
    let found = until_async(name, READY, async || {
        let pods = pods(up, name).await;
        let names: Vec<&str> = pods.iter().map(|(name, _)| name.as_str()).collect();
        (names == wanted).then_some(())
    });
    if let Err(error) = found.await {
        panic!("{error:#}: {:?}\n{}", pods(up, name).await, up.log());
    }
}

/// Waits until as many others are there in place of `before`.
async fn replaced(up: &Up, name: &str, before: &[(String, String)]) {
    let others = until_async("the older pods to go", READY, async || {
        let now = pods(up, name).await;
        let new = now.iter().all(|pod| !before.contains(pod));
        (now.len() == before.len() && new).then_some(())
    });
    if let Err(error) = others.await {
        panic!("{error:#}: {:?}\n{}", pods(up, name).await, up.log());
    }
}

fn lines(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn sets_are_scaled_and_restarted_in_their_order() {
    let mut up = Up::start("sets", &[("sets.yaml", SETS.to_owned())]).unwrap();
    up.ready(5 + DNS).await.unwrap();
    let order = up.state().join("claims/default/common/order");
    assert_eq!(lines(&order), ["db-0 run 1", "db-1 run 1", "db-2 run 1"]);
    let first = pods(&up, "db-0").await;

    // The highest goes first, one after the other; the claim of what has gone stays, and is found again.
    done(&up, &["scale", "sts/db", "--replicas", "1", "--wait"]);
    names(&up, "db-", &["db-0"]).await;
    assert_eq!(lines(&order)[3..], ["db-2 ends", "db-1 ends"]);
    assert_eq!(pods(&up, "db-0").await, first);
    done(
        &up,
        &["scale", "statefulset/db", "--replicas", "2", "--wait"],
    );
    assert_eq!(lines(&order)[5..], ["db-1 run 2"]);

    // New pods of the same names, the highest first, each when the one before is ready.
    done(&up, &["restart", "sts/db", "ds/every", "--wait"]);
    names(&up, "db-", &["db-0", "db-1"]).await;
    assert_eq!(
        lines(&order)[6..],
        ["db-1 ends", "db-1 run 3", "db-0 ends", "db-0 run 2"]
    );
    assert_ne!(pods(&up, "db-0").await, first);

    let every = pods(&up, "every-").await;
    done(&up, &["restart", "daemonset/every", "--wait"]);
    replaced(&up, "every-", &every).await;

    done(&up, &["scale", "rs/some", "--replicas", "3", "--wait"]);
    assert_eq!(pods(&up, "some-").await.len(), 3);
    let before = pods(&up, "some-").await;
    done(&up, &["restart", "rs/some", "--wait", "--timeout", "60s"]);
    replaced(&up, "some-", &before).await;

    told(&up);
    refused(&up);
    up.down().await.unwrap();
}

/// What `get` shows of them.
fn told(up: &Up) {
    for (kind, line) in [
        ("sts", "db 2/2"),
        ("ds", "every 1 1 1 1 1"),
        ("rs", "some 3 3 3"),
        ("pvc", "common Bound 1Gi RWX"),
        ("jobs", "once 1/1"),
    ] {
        let said = done(up, &["get", kind]);
        let words: Vec<String> = said
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert!(words.iter().any(|words| words.contains(line)), "{said}");
    }
}

fn refused(up: &Up) {
    for (verb, what, hint) in [
        (
            &["scale", "ds/every", "--replicas", "2"][..],
            "a DaemonSet cannot be scaled",
            "one node",
        ),
        (
            &["restart", "job/once"],
            "a Job cannot be restarted",
            "manifest",
        ),
        (
            &["scale", "job/once", "--replicas", "2"],
            "a Job cannot be scaled",
            "manifest",
        ),
        (
            &["restart", "pod/db-0"],
            "a Pod cannot be restarted",
            "StatefulSet",
        ),
        (
            &["restart", "svc/db"],
            "a Service cannot be restarted",
            "StatefulSet",
        ),
        (
            &["scale", "sts/dc", "--replicas", "2"],
            "no statefulset \"dc\"",
            "did you mean db?",
        ),
    ] {
        let (well, said) = run(up.maille(verb));
        assert!(
            !well && said.contains(what) && said.contains(hint),
            "{verb:?}: {said}"
        );
    }
}

const WRITER: &str = r#"
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
---
apiVersion: v1
kind: Pod
metadata: {name: writer}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
  containers:
    - name: c
      command: [sh, -c, "echo run >> /maille-data/runs; exec sleep infinity"]
      readinessProbe: {exec: {command: [test, -e, /maille-data/runs]}, periodSeconds: 1}
      volumeMounts: [{name: data, mountPath: /maille-data}]
"#;

#[tokio::test]
async fn what_is_claimed_is_kept_where_somebody_said() {
    let storage = tempfile::Builder::new()
        .prefix("m")
        .tempdir_in("/tmp")
        .unwrap();
    let runs = storage.path().join("default/data/runs");
    for run in 1..=2 {
        let files = [("writer.yaml", WRITER.to_owned())];
        let mut up = Up::start_with("kept", &files, |command| {
            command.arg("--storage").arg(storage.path());
        })
        .unwrap();
        up.ready(1 + DNS).await.unwrap();
        up.down().await.unwrap();
        assert_eq!(lines(&runs), vec!["run"; run]);
    }
    // Without that it is gone with everything else.
    let mut up = Up::start("kept", &[("writer.yaml", WRITER.to_owned())]).unwrap();
    up.ready(1 + DNS).await.unwrap();
    assert_eq!(lines(&up.state().join("claims/default/data/runs")), ["run"]);
    up.down().await.unwrap();
    assert_eq!(lines(&runs), ["run", "run"]);
}
