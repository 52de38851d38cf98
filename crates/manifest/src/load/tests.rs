// SPDX-License-Identifier: Apache-2.0
mod updates;

use std::path::PathBuf;

use super::*;

fn examples() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

fn errors(text: &str) -> Vec<String> {
    match load_text(&[("app.yaml".to_owned(), text.to_owned())]) {
        Ok(loaded) => panic!("taken: {loaded:?}"),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn the_examples_are_taken_as_they_are() {
    for name in ["demo/manifests", "hello"] {
        let loaded = load(&[examples().join(name)]).unwrap();
        assert!(loaded.objects.len() > 2, "{name}");
        assert!(loaded.warnings.is_empty(), "{name}: {:?}", loaded.warnings);
        for object in &loaded.objects {
            if let Object::Service(service) = object {
                let families = service.spec.ip_families.len();
                let addresses = if service.is_headless() { 0 } else { families };
                assert_eq!(service.addresses().count(), addresses, "{service:?}");
            }
        }
    }
}

#[test]
fn one_bad_field_is_named_with_its_line() {
    assert_eq!(
        errors(
            "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  prots:\n    - port: 80\n"
        ),
        ["app.yaml:5: spec.prots: unknown field, did you mean \"ports\"?",]
    );
}

/// A Deployment whose only container has `more` lines, each indented as a container's field. The first one is line 15.
fn deployment(more: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  selector:
    matchLabels: {{app: web}}
  template:
    metadata:
      labels: {{app: web}}
    spec:
      containers:
        - name: web
          command: [web]
{more}"
    )
}

#[test]
fn errors_name_line_field_and_fix() {
    for (text, error) in container_errors().into_iter().chain(object_errors()) {
        assert_eq!(errors(&text), [error], "{text}");
    }
}

fn container_errors() -> Vec<(String, String)> {
    let container = |more: &str| deployment(&format!("          {more}\n"));
    let path = "spec.template.spec.containers[0]";
    vec![
        (
            container("comand: [x]"),
            format!("app.yaml:15: {path}.comand: unknown field, did you mean \"command\"?"),
        ),
        (
            container("ports: [{containerPort: 70000}]"),
            format!(
                "app.yaml:15: {path}.ports[0].containerPort: is the number 70000, must be a number from 1 to 65535"
            ),
        ),
        (
            container("env: [{name: A, value: 1}]"),
            format!(
                "app.yaml:15: {path}.env[0].value: is the number 1, must be text: put it in quotes"
            ),
        ),
        (
            container("env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: k}}}]"),
            format!(
                "app.yaml:15: {path}.env[0].valueFrom.secretKeyRef.name: there is no Secret \"s\" here"
            ),
        ),
        (
            container("env: [{name: A, valueFrom: {configMapKeyRef: {name: nope, key: k}}}]"),
            format!(
                "app.yaml:15: {path}.env[0].valueFrom.configMapKeyRef.name: there is no ConfigMap \"nope\" here"
            ),
        ),
        (
            container("env: [{name: A, valueFrom: {fieldRef: {fieldPath: spec.nope}}}]"),
            format!(
                "app.yaml:15: {path}.env[0].valueFrom.fieldRef.fieldPath: \"spec.nope\" is not a field that a variable may have: \
                 metadata.name, metadata.namespace, metadata.uid, metadata.labels['KEY'], metadata.annotations['KEY'], \
                 spec.nodeName, spec.serviceAccountName, status.hostIP, status.hostIPs, status.podIP, status.podIPs"
            ),
        ),
        (
            container("readinessProbe: {httpGet: {port: htp}, tcpSocket: {port: 1}}"),
            format!(
                "app.yaml:15: {path}.readinessProbe: must have exactly one of httpGet, tcpSocket, grpc, exec"
            ),
        ),
        (
            container("readinessProbe: {exec: {command: []}}"),
            format!(
                "app.yaml:15: {path}.readinessProbe.exec.command: missing: say which program to run"
            ),
        ),
        (
            container(
                "ports: [{name: http, containerPort: 80}]\n          readinessProbe: {httpGet: {port: htp}}",
            ),
            format!(
                "app.yaml:16: {path}.readinessProbe.httpGet.port: no container of the pods has a port named \"htp\", did you mean \"http\"?"
            ),
        ),
        (
            container("volumeMounts: [{name: data, mountPath: /x}]"),
            format!(
                "app.yaml:15: {path}.volumeMounts[0].name: no volume of the pod is named \"data\""
            ),
        ),
        (
            container("lifecycle: {preStop: {tcpSocket: {port: 1}}}"),
            format!(
                "app.yaml:15: {path}.lifecycle.preStop.tcpSocket: is not supported: Kubernetes runs no such hook; use exec or httpGet"
            ),
        ),
        (
            deployment("").replace("          command: [web]\n", ""),
            format!(
                "app.yaml:13: {path}.command: missing: say which program of this machine to run"
            ),
        ),
    ]
}

fn object_errors() -> Vec<(String, String)> {
    vec![
        (
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  annotations:\n    maille.io/access-log: loud\n\
             spec:\n  containers: [{name: a, command: [x]}]\n"
                .to_owned(),
            "app.yaml:6: metadata.annotations.maille.io/access-log: \"loud\" is not off, json or text"
                .to_owned(),
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  annotations: {maille.io/capture-inside: \"yes\"}\n\
             spec:\n  containers: [{name: a, command: [x]}]\n"
                .to_owned(),
            "app.yaml:5: metadata.annotations.maille.io/capture-inside: \"yes\" is not one of the words allowed and refused"
                .to_owned(),
        ),
        (
            deployment("").replace("matchLabels: {app: web}", "matchLabels: {app: wep}"),
            "app.yaml:7: spec.selector.matchLabels: selects app=wep, which the template's labels do not have: use the same in both"
                .to_owned(),
        ),
        (
            deployment("").replace("  name: web\n", "  name: Web\n"),
            "app.yaml:4: metadata.name: \"Web\" is not a name: lower-case letters, digits, '-' and '.', each part starting and \
             ending with a letter or digit"
                .to_owned(),
        ),
        (
            deployment("").replace("  name: web\nspec", "  name: web\n  namespce: x\nspec"),
            "app.yaml:5: metadata.namespce: unknown field, did you mean \"namespace\"?".to_owned(),
        ),
        (deployment("").replace("apps/v1", "v1"), "app.yaml:1: apiVersion: is \"v1\", must be \"apps/v1\" for kind Deployment".to_owned()),
        (
            deployment("").replace("kind: Deployment", "kind: Deploymnet"),
            "app.yaml:2: kind: unknown kind \"Deploymnet\" of \"apps/v1\", did you mean \"Deployment\"?".to_owned(),
        ),
        (
            deployment("").replace("kind: Deployment", "kind: ReplicationController").replace("apps/v1", "v1"),
            "app.yaml:2: kind: kind ReplicationController is not supported: write a ReplicaSet, or a Deployment".to_owned(),
        ),
        (
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [a.yaml]\n".to_owned(),
            "app.yaml:2: kind: kind Kustomization is not supported: render it first: `kubectl kustomize DIR | maille up -`".to_owned(),
        ),
        (
            deployment("      serviceAccountName: web\n"),
            "app.yaml:15: spec.template.spec.serviceAccountName: there is no ServiceAccount \"web\" here".to_owned(),
        ),
        (
            deployment("      restartPolicy: Never\n"),
            "app.yaml:15: spec.template.spec.restartPolicy: \"Never\" is not Always: these pods are to run for ever; a Job's pods end".to_owned(),
        ),
        (
            deployment("      hostPID: true\n"),
            "app.yaml:15: spec.template.spec.hostPID: \"true\" is not supported: each container has a process table and shared memory \
             of its own"
                .to_owned(),
        ),
        (
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: n}\n".to_owned(),
            "app.yaml:2: kind: kind NetworkPolicy is not supported: ignoring a policy would let traffic through that it forbids"
                .to_owned(),
        ),
        ("kind: Service\n".to_owned(), "app.yaml:1: apiVersion: missing: every object says which version of the API it is written for".to_owned()),
        ("- a\n".to_owned(), "app.yaml:1: is a list, must be a Kubernetes object".to_owned()),
        (String::new(), "app.yaml: no object in it".to_owned()),
        ("apiVersion: v1\nkind: Service\nmetadata: {name: web, name: web}\n".to_owned(), "app.yaml:3: is not YAML: duplicate mapping key: name".to_owned()),
    ]
}

fn service(spec: &str) -> String {
    format!(
        "{}---\napiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {spec}\n",
        deployment("          ports: [{name: http, containerPort: 8080}]\n")
    )
}

#[test]
fn services_fit_their_pods() {
    for (spec, error) in [
        (
            "{selector: {app: web}, ports: [{port: 80, targetPort: htpp}]}",
            "app.yaml:20: spec.ports[0].targetPort: no container of the pods has a port named \"htpp\", did you mean \"http\"?",
        ),
        (
            "{selector: {app: web}, ports: [{name: a, port: 80}, {name: a, port: 81}]}",
            "app.yaml:20: spec.ports[1].name: \"a\" is used twice, first in spec.ports[0]",
        ),
        (
            "{selector: {app: web}, ports: [{name: a, port: 80}, {name: b, port: 80}]}",
            "app.yaml:20: spec.ports[1].port: \"80\" is used twice, first in spec.ports[0]",
        ),
        (
            "{selector: {app: web}, ports: [{port: 80}, {name: b, port: 81}]}",
            "app.yaml:20: spec.ports[0].name: missing: a service with several ports names each",
        ),
        (
            "{selector: {app: web}}",
            "app.yaml:20: spec.ports: missing: give it at least one port, or clusterIP: None",
        ),
        (
            "{selector: {app: web}, clusterIP: 10.96.0.10, ports: [{port: 80}]}",
            "app.yaml:20: spec.clusterIP: address 10.96.0.10 is already the cluster's DNS's",
        ),
        (
            "{type: ExternalName, ports: [{port: 80}]}",
            "app.yaml:20: spec.externalName: missing: say which name it stands for",
        ),
        (
            "{type: ExternalName, externalName: example.com, clusterIP: None}",
            "app.yaml:20: spec.clusterIP: a service that is another name has no address",
        ),
        (
            "{type: ExternalName, externalName: 10.0.0.1}",
            "app.yaml:20: spec.externalName: \"10.0.0.1\" is not a name that DNS knows",
        ),
    ] {
        let found = errors(&service(spec));
        assert_eq!(found.first().map(String::as_str), Some(error), "{spec}");
    }
}

#[test]
fn the_clusters_own_service_is_nobodys_to_declare() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("dns.yaml");
    let text = "apiVersion: v1\nkind: Service\nmetadata:\n  namespace: kube-system\n  name: kube-dns\nspec: {ports: [{port: 53}]}\n";
    std::fs::write(&file, text).unwrap();
    let errors = load(std::slice::from_ref(&file)).unwrap_err();
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let expected = format!(
        "{}:5: metadata.name: Service kube-system/kube-dns is the cluster's own: use another name or namespace",
        file.display()
    );
    assert_eq!(errors, [expected]);
    for other in [
        text.replace("kube-system", "shop"),
        text.replace("kube-dns", "dns"),
    ] {
        std::fs::write(&file, other).unwrap();
        assert!(load(std::slice::from_ref(&file)).is_ok());
    }
}

#[test]
fn objects_are_declared_once() {
    let text = service("{selector: {app: web}, ports: [{port: 80}]}");
    let twice = [
        ("a.yaml".to_owned(), text.clone()),
        ("b.yaml".to_owned(), text),
    ];
    let errors: Vec<String> = load_text(&twice)
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        errors,
        [
            "b.yaml:4: metadata.name: Deployment web is declared twice, first at a.yaml:1",
            "b.yaml:19: metadata.name: Service web is declared twice, first at a.yaml:17",
        ]
    );
}

#[test]
fn every_error_of_every_file_is_given_up_to_a_bound() {
    let bad = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {prots: []}\n---\n";
    let found = load_text(&[
        ("a.yaml".to_owned(), bad.repeat(3)),
        ("b.yaml".to_owned(), bad.repeat(200)),
    ])
    .unwrap_err();
    assert_eq!(found.len(), 101);
    assert_eq!(found[100].problem, Problem::TooMany(100));
    let lines: Vec<u64> = found.iter().take(4).map(|error| error.line).collect();
    assert_eq!(lines, [4, 9, 14, 4]);
}

#[test]
fn what_is_ignored_is_said() {
    let text =
        deployment("          stdin: true\n          imagePullPolicy: Always\n      nodeName: a\n");
    let loaded = load_text(&[("app.yaml".to_owned(), text)]).unwrap();
    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "app.yaml:15: spec.template.spec.containers[0].stdin: ignored: containers have no terminal and no input",
            "app.yaml:16: spec.template.spec.containers[0].imagePullPolicy: ignored: no image is pulled: containers are processes of this machine",
            "app.yaml:17: spec.template.spec.nodeName: ignored: there is one machine to choose",
        ]
    );
}

#[test]
fn lists_and_json_are_read_too() {
    let text = r#"{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"k":"v"}}]}"#;
    let loaded = load_text(&[("list.json".to_owned(), text.to_owned())]).unwrap();
    let [Object::ConfigMap(map)] = &loaded.objects[..] else {
        panic!("{loaded:?}")
    };
    assert_eq!(map.data["k"], "v");
    assert_eq!(map.metadata.namespace(), "default");
}

#[test]
fn service_addresses_do_not_depend_on_the_order_of_files() {
    let one = |name: &str| {
        (
            format!("{name}.yaml"),
            format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ipFamilyPolicy: PreferDualStack, ports: [{{port: 80}}]}}\n"
            ),
        )
    };
    let addresses = |files: &[(String, String)]| {
        let mut all: Vec<(String, Vec<std::net::IpAddr>)> = load_text(files)
            .unwrap()
            .objects
            .iter()
            .map(|object| {
                let Object::Service(service) = object else {
                    panic!("{object:?}")
                };
                (
                    service.metadata.name.to_string(),
                    service.addresses().collect(),
                )
            })
            .collect();
        all.sort();
        all
    };
    let files: Vec<(String, String)> = (0..300).map(|n| one(&format!("s{n}"))).collect();
    let mut turned = files.clone();
    turned.reverse();
    let given = addresses(&files);
    assert_eq!(given, addresses(&turned));
    let mut flat: Vec<_> = given.iter().flat_map(|(_, ips)| ips).collect();
    flat.sort();
    flat.dedup();
    assert_eq!(flat.len(), 600);
}

#[test]
fn missing_files_and_empty_directories_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("nope.yaml");
    let errors = load(&[missing.clone(), dir.path().to_owned()]).unwrap_err();
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            format!(
                "{}: cannot be read: No such file or directory (os error 2)",
                missing.display()
            ),
            format!(
                "{}: no .yaml, .yml or .json file in this directory",
                dir.path().display()
            ),
        ]
    );
}

mod any_bytes {
    use proptest::prelude::*;

    use super::*;

    fn values() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            "[a-z./-]{0,12}".prop_map(Into::into),
        ];
        let keys = prop_oneof![
            Just("metadata"),
            Just("name"),
            Just("spec"),
            Just("ports"),
            Just("port"),
            Just("selector"),
            Just("template"),
            Just("containers"),
            Just("env"),
            Just("matchLabels"),
            Just("labels"),
            Just("clusterIP"),
            Just("clusterIPs"),
            Just("ipFamilies"),
            Just("items"),
            Just("x"),
        ];
        leaf.prop_recursive(6, 64, 6, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                proptest::collection::btree_map(keys.clone(), inner, 0..6).prop_map(|map| map
                    .into_iter()
                    .map(|(k, v)| (k.to_owned(), v))
                    .collect::<serde_json::Map<_, _>>()
                    .into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_object_makes_it_panic(
            kind in prop_oneof![Just("Service"), Just("Deployment"), Just("Pod"), Just("ConfigMap"), Just("List")],
            body in values(),
        ) {
            let mut object = match body {
                serde_json::Value::Object(object) => object,
                other => serde_json::Map::from_iter([("spec".to_owned(), other)]),
            };
            object.insert("apiVersion".to_owned(), if kind == "Deployment" { "apps/v1" } else { "v1" }.into());
            object.insert("kind".to_owned(), kind.into());
            let _ = load_text(&[("x.json".to_owned(), serde_json::Value::Object(object).to_string())]);
        }
    }
}

#[test]
fn terms_of_services_are_checked_with_their_lines() {
    let text = "apiVersion: v1
kind: Service
metadata:
  name: web
  annotations:
    example.com/other: anything
    maille.io/timeout-request: soon
    maille.io/retries: \"1\"
spec:
  trafficDistribution: PreferHome
  ports: [{port: 80}]
";
    assert_eq!(
        errors(text),
        [
            "app.yaml:10: spec.trafficDistribution: \"PreferHome\" is not PreferClose, PreferSameZone or PreferSameNode",
        ]
    );
    assert_eq!(
        errors(&text.replace("PreferHome", "PreferClose")),
        [
            "app.yaml:8: metadata.annotations.maille.io/retries: unknown annotation",
            "app.yaml:7: metadata.annotations.maille.io/timeout-request: \"soon\" is not a time from 1ms to 24h, such as 250ms, 10s or 1m",
        ]
    );
}

#[test]
fn capabilities_are_read_in_any_case() {
    let said =
        "          securityContext: {capabilities: {drop: [all], add: [net_bind_service]}}\n";
    let loaded = load_text(&[("app.yaml".to_owned(), deployment(said))]).unwrap();
    let spec = loaded.objects[0].pod_spec().unwrap();
    let security = spec.containers[0].security_context.as_ref().unwrap();
    let read = security.capabilities.as_ref().unwrap();
    assert_eq!(
        (&read.drop[..], &read.add[..]),
        (
            &["ALL".to_owned()][..],
            &["NET_BIND_SERVICE".to_owned()][..]
        )
    );
}

/// A StatefulSet with one claim of its own, whose pods have `volumes` too and mount `mounted`.
fn stateful(volumes: &str, mounted: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: db}}\nspec:\n  replicas: 2\n  selector: {{matchLabels: {{app: db}}}}\n  \
         template:\n    metadata: {{labels: {{app: db}}}}\n    spec:\n      volumes: {volumes}\n      containers:\n        - name: db\n          \
         command: [db]\n          volumeMounts: [{{name: {mounted}, mountPath: /data}}]\n  volumeClaimTemplates:\n    - metadata: {{name: own}}\n"
    )
}

#[test]
fn claims_are_found_whoever_makes_them() {
    let good = |text: String| load_text(&[("app.yaml".to_owned(), text)]).unwrap();
    good(stateful("[]", "own"));
    // As manifests have it that were written for pods alone.
    good(stateful(
        "[{name: own, persistentVolumeClaim: {claimName: elsewhere}}]",
        "own",
    ));
    let pod = |claim: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: one}}\nspec:\n  volumes: [{{name: v, persistentVolumeClaim: {{claimName: {claim}}}}}]\n  \
             containers: [{{name: c, command: [c]}}]\n"
        )
    };
    let both = |claim: &str| format!("{}{}", stateful("[]", "own"), pod(claim));
    good(both("own-db-1"));
    assert_eq!(
        errors(&both("own-db-2")),
        [
            "app.yaml:22: spec.volumes[0].persistentVolumeClaim.claimName: there is no PersistentVolumeClaim \"own-db-2\" here, did you mean \"own-db-0\"?"
        ]
    );
    assert_eq!(
        errors(&stateful("[]", "owm")),
        [
            "app.yaml:14: spec.template.spec.containers[0].volumeMounts[0].name: no volume of the pod is named \"owm\", did you mean \"own\"?"
        ]
    );
}

#[test]
fn an_empty_text_is_none() {
    let said = "          workingDir: \"\"\n          volumeMounts: [{name: v, mountPath: /v, subPath: \"\"}]\n      volumes: [{name: v, emptyDir: {}}]\n";
    let loaded = load_text(&[("app.yaml".to_owned(), deployment(said))]).unwrap();
    let container = &loaded.objects[0].pod_spec().unwrap().containers[0];
    assert_eq!(container.volume_mounts[0].sub_path, None);
    assert_eq!(container.working_dir, None);
    let nameless = deployment("          volumeMounts: [{name: \"\", mountPath: /v}]\n");
    assert!(errors(&nameless)[0].contains("volumeMounts[0].name: \"\" is not"));
}
