// SPDX-License-Identifier: Apache-2.0
use maille_manifest::{Object, load_text};

use super::*;
use crate::machine::Machine;

fn launch_of(container: &str) -> Result<Launch, LaunchError> {
    let text = format!(
        "
apiVersion: v1
kind: ConfigMap
metadata: {{name: settings}}
data: {{A: from-map, K: key}}
binaryData: {{B: /w==}}
---
apiVersion: v1
kind: Secret
metadata: {{name: keys}}
data: {{password: c2VjcmV0}}
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
    let machine = Machine {
        cores: 2,
        memory: 1 << 30,
    };
    let data = Data::of(&loaded.objects, machine);
    let pod = loaded.objects.into_iter().find_map(|object| match object {
        Object::Pod(found) => Some(*found),
        _ => None,
    });
    let mut pod = pod.unwrap();
    pod.status =
        serde_json::from_str(r#"{"podIPs":[{"ip":"10.244.0.2"},{"ip":"fd00:244::2"}]}"#).unwrap();
    launch(&pod.spec.containers[0], &pod, &data, "/bin")
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
        {name: P, valueFrom: {secretKeyRef: {name: keys, key: password}}},
        {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu}}},
        {name: MEM, valueFrom: {resourceFieldRef: {resource: requests.memory, divisor: 1Mi}}},
        {name: O, valueFrom: {configMapKeyRef: {name: nope, key: K, optional: true}}}],
        envFrom: [{prefix: S_, secretRef: {name: keys}}], resources: {requests: {memory: 64Mi}}}"#,
    )
    .unwrap();
    assert_eq!(value(&launch, "P").unwrap(), "secret");
    assert_eq!(value(&launch, "S_password").unwrap(), "secret");
    assert_eq!(value(&launch, "CPU").unwrap(), "2");
    assert_eq!(value(&launch, "MEM").unwrap(), "64");
    assert_eq!(value(&launch, "IP").unwrap(), "10.244.0.2");
    assert_eq!(value(&launch, "IPS").unwrap(), "10.244.0.2,fd00:244::2");
    assert_eq!(value(&launch, "SA").unwrap(), "web");
    assert_eq!(value(&launch, "L").unwrap(), "web");
    assert_eq!(value(&launch, "K").unwrap(), "key");
    assert_eq!(value(&launch, "O"), None);
}

#[test]
fn bytes_are_no_variable() {
    let error = launch_of(
        "{name: c, command: [x], env: [{name: B, valueFrom: {configMapKeyRef: {name: settings, key: B}}}]}",
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "variable B cannot hold key B of ConfigMap settings: it is no text"
    );
}
