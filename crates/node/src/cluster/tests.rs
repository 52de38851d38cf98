// SPDX-License-Identifier: Apache-2.0
use super::*;

const MACHINE: Machine = Machine {
    cores: 2,
    memory: 1 << 30,
};

const APP: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: out, labels: {maille.io/inject: disabled}}
---
apiVersion: v1
kind: Namespace
metadata: {name: in}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: in}
spec: {selector: {app: web}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: pods, namespace: in}
spec: {clusterIP: None, selector: {app: web}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: pods6, namespace: in}
spec: {clusterIP: None, ipFamilies: [IPv6], selector: {app: web}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: both, namespace: in}
spec: {ipFamilyPolicy: PreferDualStack, selector: {app: web}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: pods-both, namespace: in}
spec: {clusterIP: None, ipFamilyPolicy: PreferDualStack, selector: {app: web}, ports: [{name: http, port: 80}]}
";

fn pod(namespace: &str, labels: &str, annotations: &str) -> Pod {
    let text = format!(
        r#"{{"metadata":{{"name":"p","namespace":"{namespace}","uid":"u-{namespace}","labels":{labels},"annotations":{annotations}}},
        "spec":{{"containers":[]}},"status":{{"podIPs":[{{"ip":"10.244.0.2"}},{{"ip":"fd00:244::2"}}],
        "conditions":[{{"type":"Ready","status":"True"}}]}}}}"#
    );
    maille_manifest::from_json(text.as_bytes()).unwrap()
}

fn cluster(dir: &Path) -> Cluster {
    let loaded = maille_manifest::load_text(&[("app.yaml".to_owned(), APP.to_owned())]).unwrap();
    let cluster = Cluster::new(dir, MACHINE);
    cluster.declare(&loaded.objects);
    cluster
}

#[test]
fn the_pod_wins_over_its_namespace() {
    let cluster = cluster(Path::new("/nonexistent"));
    let (yes, no) = (
        r#"{"maille.io/inject":"enabled"}"#,
        r#"{"maille.io/inject":"disabled"}"#,
    );
    for (namespace, labels, annotations, capture) in [
        ("in", "{}", "{}", Capture::Outboard),
        ("in", no, "{}", Capture::None),
        ("in", "{}", no, Capture::None),
        ("in", yes, no, Capture::Outboard),
        ("out", "{}", "{}", Capture::None),
        ("out", yes, "{}", Capture::Outboard),
        ("out", "{}", yes, Capture::Outboard),
        ("undeclared", "{}", "{}", Capture::Outboard),
    ] {
        assert_eq!(
            cluster.capture(&pod(namespace, labels, annotations)),
            capture,
            "{namespace} {labels} {annotations}"
        );
    }
}

#[test]
fn a_published_pod_is_in_its_file_and_its_names_until_it_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster(dir.path());
    let pod = pod("in", r#"{"app":"web"}"#, "{}");
    let file = dir.path().join("pods/u-in/pod.json");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let changes = cluster.changes();
    cluster.publish(&pod).unwrap();
    assert!(changes.has_changed().unwrap());
    assert_eq!(
        maille_manifest::from_json::<Pod>(&std::fs::read(&file).unwrap()).unwrap(),
        pod
    );
    let names = cluster.names();
    let [v4, v6] = pod.addresses().collect::<Vec<_>>()[..] else {
        panic!("{pod:?}")
    };
    for (name, addresses) in [
        ("pods", vec![v4]),
        ("pods6", vec![v6]),
        ("pods-both", vec![v4, v6]),
    ] {
        assert_eq!(names.services["in"][name].addresses, addresses, "{name}");
    }
    assert!(names.services["in"]["web"].addresses[0].is_ipv4());
    assert_eq!(names.services["in"]["web"].addresses.len(), 1);
    assert_eq!(names.services["in"]["both"].addresses.len(), 2);
    assert!(!names.services["in"]["web"].headless);
    assert!(names.services["out"].is_empty());
    cluster.remove("u-in").unwrap();
    assert!(!file.parent().unwrap().exists());
    assert!(cluster.names().services["in"]["pods"].addresses.is_empty());
}
