// SPDX-License-Identifier: Apache-2.0
//! What a pod's manifest says is what its containers find: volumes, variables, users, probes, hooks, the order of starts; and the kinds
//! that make pods make them.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use http::Method;
use maille_testkit::Up;
use maille_testkit::up::READY;
use maille_testkit::wait::until_async;
use serde_json::Value;

/// The runner's view of the pods.
async fn pods(up: &Up) -> Vec<Value> {
    let answer = up.node(Method::GET, "/v1/pods").await.unwrap_or_default();
    answer["pods"].as_array().cloned().unwrap_or_default()
}

/// Waits until a pod whose name begins with `name` is as `holds` says.
async fn pod(up: &Up, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let found = until_async(name, READY, async || {
        let pods = pods(up).await;
        let mut mine = pods
            .into_iter()
            .filter(|pod| pod["name"].as_str().unwrap().starts_with(name));
        mine.find(&holds)
    });
    match found.await {
        Ok(found) => found,
        Err(error) => panic!("{error:#}\n{:#?}\n{}", pods(up).await, up.log()),
    }
}

fn file(up: &Up, pod: &Value, name: &str) -> PathBuf {
    let uid = pod["uid"].as_str().unwrap();
    up.state().join("pods").join(uid).join(name)
}

/// The lines that a container has written, once one of them is `last`.
async fn log(up: &Up, pod: &Value, container: &str, last: &str) -> Vec<String> {
    let path = file(up, pod, &format!("{container}.log"));
    let lines = || -> Vec<String> {
        let text = fs::read_to_string(&path).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    };
    let found = until_async(last, READY, async || {
        let lines = lines();
        lines.iter().any(|line| line == last).then_some(lines)
    });
    match found.await {
        Ok(found) => found,
        Err(error) => panic!("{error:#}: {:#?}", lines()),
    }
}

const FACTS: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {a.conf: "text a", GREETING: hello}
binaryData: {raw: AAH/}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {password: secret}
---
apiVersion: v1
kind: Pod
metadata: {name: facts, labels: {app: facts}}
spec:
  hostname: known
  terminationGracePeriodSeconds: 5
  hostAliases: [{ip: 10.9.9.9, hostnames: [far.example]}]
  volumes:
    - {name: common, emptyDir: {}}
    - {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
    - {name: conf, configMap: {name: settings}}
    - {name: secret, secret: {secretName: keys, defaultMode: 256}}
    - name: all
      projected:
        sources:
          - {configMap: {name: settings, items: [{key: a.conf, path: deep/a}]}}
          - {secret: {name: keys}}
          - {downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
  initContainers:
    - name: first
      command: [sh, -c, "echo first >> /maille-common/order"]
      volumeMounts: [{name: common, mountPath: /maille-common}]
    - name: side
      restartPolicy: Always
      command: [sh, -c, "trap 'echo side-ends >> /maille-common/order; exit 0' TERM; echo side >> /maille-common/order; touch /memory/up; while :; do sleep 0.1; done"]
      startupProbe: {exec: {command: [test, -e, /memory/up]}, periodSeconds: 1}
      volumeMounts: [{name: common, mountPath: /maille-common}, {name: memory, mountPath: /memory}]
    - name: second
      command: [sh, -c, "test -e /memory/up && echo second >> /maille-common/order"]
      volumeMounts: [{name: common, mountPath: /maille-common}, {name: memory, mountPath: /memory}]
  containers:
    - name: main
      command: [sh, -c]
      args:
        - |
          trap 'echo main-ends >> /maille-common/order; exit 0' TERM
          cat /maille-etc/conf/a.conf; echo
          cat /maille-etc/secret/password; echo
          stat -c %a -L /maille-etc/secret/password
          cat /maille-etc/one; echo
          cat /maille-all/deep/a /maille-all/password /maille-all/labels; echo
          echo "$GREETING $(PASSWORD) $CPU $WHO $S_password"
          hostname; pwd
          grep far.example /etc/hosts
          stat -f -c %T /memory
          head -c 2000000 /dev/zero > /memory/large 2>/dev/null || echo full
          (echo x > /maille-etc/conf/new) 2>/dev/null || echo closed
          echo main >> /maille-common/order
          echo done
          while :; do sleep 0.1; done
      workingDir: /maille-work/here
      env:
        - {name: PASSWORD, valueFrom: {secretKeyRef: {name: keys, key: password}}}
        - {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}
        - {name: WHO, valueFrom: {fieldRef: {fieldPath: "metadata.labels['app']"}}}
      envFrom: [{configMapRef: {name: settings}}, {prefix: S_, secretRef: {name: keys}}]
      resources: {limits: {cpu: 1500m}}
      readinessProbe: {exec: {command: [grep, -q, main, /maille-common/order]}, periodSeconds: 1}
      lifecycle:
        postStart: {exec: {command: [sh, -c, "echo post >> /maille-common/order"]}}
        preStop: {exec: {command: [sh, -c, "echo pre >> /maille-common/order"]}}
      volumeMounts:
        - {name: common, mountPath: /maille-common}
        - {name: memory, mountPath: /memory}
        - {name: conf, mountPath: /maille-etc/conf}
        - {name: conf, mountPath: /maille-etc/one, subPath: GREETING}
        - {name: secret, mountPath: /maille-etc/secret}
        - {name: all, mountPath: /maille-all}
"#;

#[tokio::test]
async fn containers_find_what_their_manifest_says() {
    let up = Up::start("facts", &[("facts.yaml", FACTS.to_owned())]).unwrap();
    let found = pod(&up, "facts", |pod| pod["ready"] == true).await;
    let lines = log(&up, &found, "main", "done").await;
    assert_eq!(
        lines,
        [
            "text a",
            "secret",
            "400",
            "hello",
            "text asecretapp=\"facts\"",
            "hello secret 1500 facts secret",
            "known",
            "/maille-work/here",
            "10.9.9.9 far.example",
            "tmpfs",
            "full",
            "closed",
            "done"
        ]
    );
    for trace in [
        "/maille-etc",
        "/maille-all",
        "/maille-work",
        "/memory",
        "/maille-common/order",
    ] {
        assert!(!PathBuf::from(trace).exists(), "{trace} is on the machine");
    }
    let order = file(&up, &found, "volumes/common/order");
    let order_now = || fs::read_to_string(&order).unwrap_or_default();
    let mut begun: Vec<String> = order_now().lines().map(str::to_owned).collect();
    // The hook and the process begin together.
    begun[3..].sort();
    assert_eq!(begun, ["first", "side", "second", "main", "post"]);
    let statuses = found["init_statuses"].as_array().unwrap();
    assert!(
        statuses.iter().all(|status| status["ready"] == true),
        "{statuses:?}"
    );
    // The end: the hook first, then what the pod is for, then what it leans on.
    let kept = fs::File::open(&order).unwrap();
    let deleted = up.node(Method::POST, "/v1/pods/default/facts/delete").await;
    deleted.unwrap();
    let gone = until_async("the pod's end", READY, async || {
        pods(&up).await.is_empty().then_some(())
    });
    gone.await.unwrap();
    let ended = std::io::read_to_string(kept).unwrap();
    let ended: Vec<&str> = ended.lines().skip(5).collect();
    assert_eq!(ended, ["pre", "main-ends", "side-ends"]);
    up.down().await.unwrap();
}

const KINDS: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, selector: {app: db}, ports: [{name: tcp, port: 80}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  replicas: 2
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
        - name: db
          command: [sh, -c, "hostname; exec sleep infinity"]
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: every}
spec:
  selector: {matchLabels: {app: every}}
  template:
    metadata: {labels: {app: every}}
    spec: {containers: [{name: c, command: [sleep, infinity]}]}
---
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: some}
spec:
  replicas: 2
  selector: {matchLabels: {app: some}}
  template:
    metadata: {labels: {app: some}}
    spec: {containers: [{name: c, command: [sleep, infinity]}]}
---
apiVersion: batch/v1
kind: Job
metadata: {name: sum}
spec:
  completions: 3
  parallelism: 2
  completionMode: Indexed
  template:
    spec:
      restartPolicy: Never
      containers: [{name: c, command: [sh, -c, "echo number $JOB_COMPLETION_INDEX of $(hostname)"]}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: bad}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers: [{name: c, command: [sh, -c, "echo oh no; exit 3"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: crash}
spec: {containers: [{name: c, command: [sh, -c, "echo broken; exit 1"]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: late}
spec:
  restartPolicy: Never
  activeDeadlineSeconds: 1
  terminationGracePeriodSeconds: 0
  containers: [{name: c, command: [sleep, infinity]}]
---
apiVersion: v1
kind: Pod
metadata: {name: asks}
spec:
  restartPolicy: OnFailure
  containers:
    - name: c
      command: [sh, -c]
      args:
        - |
          until getent hosts db-1.db.default.svc.cluster.local > /dev/null; do sleep 0.1; done
          getent hosts db-0.db
          getent hosts db-1.db.default
          id -u
          echo done
      securityContext: {runAsUser: 1234, allowPrivilegeEscalation: false, readOnlyRootFilesystem: true}
"#;

#[tokio::test]
async fn kinds_make_the_pods_that_they_should() {
    let up = Up::start("kinds", &[("kinds.yaml", KINDS.to_owned())]).unwrap();
    for name in ["db-0", "db-1", "every-", "some-"] {
        pod(&up, name, |pod| pod["ready"] == true).await;
    }
    let asks = pod(&up, "asks", |pod| pod["phase"] == "Succeeded").await;
    let lines = log(&up, &asks, "c", "done").await;
    assert!(
        lines[0].contains("db-0.db") && lines[1].contains("db-1.db"),
        "{lines:?}"
    );
    assert_eq!(lines[2], "1234", "{lines:?}");
    for number in 0..3 {
        let found = pod(&up, &format!("sum-{number}-"), |pod| {
            pod["phase"] == "Succeeded"
        })
        .await;
        let said = format!("number {number} of sum-{number}");
        log(&up, &found, "c", &said).await;
    }
    let bad = pod(&up, "bad-", |pod| pod["phase"] == "Failed").await;
    let message = bad["message"].as_str().unwrap();
    assert_eq!(
        message,
        "container c: exited with status 3; its last line: oh no"
    );
    pod(&up, "late", |pod| {
        pod["phase"] == "Failed"
            && pod["message"]
                .as_str()
                .unwrap()
                .contains("DeadlineExceeded")
    })
    .await;
    let crash = pod(&up, "crash", |pod| {
        pod["statuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    })
    .await;
    let message = crash["message"].as_str().unwrap();
    let expected = "container c: CrashLoopBackOff: exited with status 1; its last line: broken; started again in 10 s";
    assert_eq!(message, expected);
    // A number's pod comes again under its name, as another pod; nobody made one too many.
    let first = pod(&up, "db-0", |_| true).await;
    let deleted = up.node(Method::POST, "/v1/pods/default/db-0/delete").await;
    deleted.unwrap();
    pod(&up, "db-0", |pod| {
        pod["uid"] != first["uid"] && pod["ready"] == true
    })
    .await;
    let all = pods(&up).await;
    let count = |name: &str| {
        let mine = |pod: &&Value| pod["name"].as_str().unwrap().starts_with(name);
        all.iter().filter(mine).count()
    };
    for (name, number) in [
        ("db-", 2),
        ("every-", 1),
        ("some-", 2),
        ("sum-", 3),
        ("bad-", 1),
    ] {
        assert_eq!(count(name), number, "{name}: {all:#?}");
    }
    let began = tokio::time::Instant::now();
    up.down().await.unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
}
