// SPDX-License-Identifier: Apache-2.0
use maille_manifest::{Object, load_text};

use super::*;

fn launch_of(container: &str) -> Result<Launch, LaunchError> {
    let text = format!(
        "
apiVersion: v1
kind: ConfigMap
metadata: {{name: settings}}
data: {{A: from-map, K: key}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: web}}
---
apiVersion: v1
kind: Pod
metadata: {{name: one, labels: {{app: web}}}}
spec:
  serviceAccountName: web
  containers:
    - {container}
"
    );
    let loaded = load_text(&[("app.yaml".to_owned(), text)]).unwrap();
    let mut maps = BTreeMap::new();
    let mut pod = None;
    for object in loaded.objects {
        match object {
            Object::ConfigMap(map) => {
                maps.insert(("default".to_owned(), map.metadata.name.to_string()), map);
            }
            Object::Pod(found) => pod = Some(*found),
            _ => {}
        }
    }
    let mut pod = pod.unwrap();
    pod.status =
        serde_json::from_str(r#"{"podIPs":[{"ip":"10.244.0.2"},{"ip":"fd00:244::2"}]}"#).unwrap();
    launch(&pod.spec.containers[0], &pod, &maps, "/bin")
}

fn value(launch: &Launch, name: &str) -> Option<String> {
    launch
        .env
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.clone())
}

#[test]
fn later_variables_win_and_see_earlier_ones() {
    let launch = launch_of(
        r#"{name: c, command: [sh, "$(B)"], args: ["$(NOPE)", "$$(B)"], envFrom: [{configMapRef: {name: settings}}, {prefix: P_, configMapRef: {name: settings}}],
        env: [{name: B, value: "b-$(A)-$(LATER)"}, {name: A, value: own}, {name: LATER, value: x}]}"#,
    )
    .unwrap();
    assert_eq!(launch.program, "sh");
    assert_eq!(launch.args, ["b-from-map-$(LATER)", "$(NOPE)", "$(B)"]);
    assert_eq!(value(&launch, "A").unwrap(), "own");
    assert_eq!(value(&launch, "P_A").unwrap(), "from-map");
    assert_eq!(value(&launch, "PATH").unwrap(), "/bin");
    assert_eq!(value(&launch, "HOSTNAME").unwrap(), "one");
}

#[test]
fn fields_and_keys() {
    let launch = launch_of(
        r#"{name: c, command: [x], env: [
        {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}},
        {name: IPS, valueFrom: {fieldRef: {fieldPath: status.podIPs}}},
        {name: SA, valueFrom: {fieldRef: {fieldPath: spec.serviceAccountName}}},
        {name: L, valueFrom: {fieldRef: {fieldPath: "metadata.labels['app']"}}},
        {name: K, valueFrom: {configMapKeyRef: {name: settings, key: K}}},
        {name: O, valueFrom: {configMapKeyRef: {name: nope, key: K, optional: true}}}]}"#,
    )
    .unwrap();
    assert_eq!(value(&launch, "IP").unwrap(), "10.244.0.2");
    assert_eq!(value(&launch, "IPS").unwrap(), "10.244.0.2,fd00:244::2");
    assert_eq!(value(&launch, "SA").unwrap(), "web");
    assert_eq!(value(&launch, "L").unwrap(), "web");
    assert_eq!(value(&launch, "K").unwrap(), "key");
    assert_eq!(value(&launch, "O"), None);
}
