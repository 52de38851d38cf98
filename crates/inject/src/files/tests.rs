// SPDX-License-Identifier: Apache-2.0
use proptest::prelude::*;

use super::*;

fn settings(version: &str) -> Settings {
    let control = "10.96.3.7:15010".parse().unwrap();
    let identity = "spiffe://cluster.local/ns/maille-system/sa/maille-control";
    Settings::new(version, "maille.io", control, identity.parse().unwrap()).unwrap()
}

fn file(text: &str) -> Vec<(String, String)> {
    vec![("app.yaml".to_owned(), text.to_owned())]
}

fn injected(text: &str) -> Done {
    let done = inject(&file(text), &settings("1.0.0"), &[], "default");
    let mut done = done.unwrap_or_else(|errors| panic!("{errors:?}: {text}"));
    done.remove(0)
}

fn uninjected(text: &str) -> String {
    uninject(&file(text)).unwrap().remove(0).text
}

fn errors(text: &str) -> Vec<String> {
    let errors = inject(&file(text), &settings("1.0.0"), &[], "default").unwrap_err();
    errors.iter().map(ToString::to_string).collect()
}

fn values(text: &str) -> Vec<Value> {
    let one = |piece: crate::documents::Piece<'_>| {
        yaml::deep_documents(piece.text).unwrap_or_else(|error| panic!("{error:?}: {text}"))
    };
    let nodes = pieces(text).into_iter().flat_map(one);
    nodes.map(|node| node.to_json()).collect()
}

const SERVICE: &str = "# A service.\napiVersion: v1\nkind: Service\nmetadata: {name: web}   # kept\nspec:\n  ports: [ {port: 80} ]\n";

const DEPLOYMENT: &str = "\
---
# The shop's front.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 02
  template:
    metadata:
      labels: {app: web} # flow
    spec:
      # What runs.
      containers:
        - image: web:1   # pinned
          name: web
          env:
            - {name: MODE, value: \"yes\"}
          unknownField: 'kept'
      terminationGracePeriodSeconds: 5
";

#[test]
fn everything_else_stays_byte_for_byte() {
    let done = injected(&format!("{SERVICE}{DEPLOYMENT}{}", "---\n# nothing here\n"));
    assert!(done.text.starts_with(SERVICE) && done.text.ends_with("---\n# nothing here\n"));
    // Only lines were added.
    let mut rest = done.text.lines();
    for line in format!("{SERVICE}{DEPLOYMENT}").lines() {
        assert!(
            rest.any(|other| other == line),
            "{line:?} is gone: {}",
            done.text
        );
    }
    assert!(
        done.text
            .contains("      initContainers:\n        - name: maille-init\n"),
        "{}",
        done.text
    );
    assert!(
        done.text
            .contains("      annotations:\n        maille.io/injected: \"1.0.0\"\n"),
        "{}",
        done.text
    );
    assert_eq!(done.reports.len(), 1);
    assert_eq!(
        (done.reports[0].kind, done.reports[0].name.as_str()),
        ("deployment", "web")
    );
    assert_eq!(done.reports[0].said, Said::Injected);
}

#[test]
fn twice_is_once_and_uninject_gives_back_the_same_bytes() {
    let text = format!("{SERVICE}{DEPLOYMENT}");
    let once = injected(&text).text;
    let twice = injected(&once);
    assert_eq!(twice.text, once);
    assert!(matches!(
        twice.reports[0].said,
        Said::Untouched(Untouched::Injected { .. })
    ));
    assert_eq!(uninjected(&once), text);
    assert_eq!(uninjected(&text), text);
}

#[test]
fn another_version_is_replaced() {
    let old = inject(&file(DEPLOYMENT), &settings("0.9.0"), &[], "default").unwrap();
    let done = injected(&old[0].text);
    assert_eq!(done.text, injected(DEPLOYMENT).text);
    assert_eq!(done.reports[0].said, Said::Updated);
}

/// Shapes of one workload, each with a reason to be hard.
fn shapes() -> Vec<String> {
    let pod =
        |spec: &str| format!("apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\nspec:\n{spec}");
    vec![
        // Flow style throughout.
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: a}]}}\n".to_owned(),
        "--- {apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: a}]}}\n".to_owned(),
        // Lists that stand under their keys, and what is empty.
        pod("  containers:\n  - name: a\n  volumes: []\n  initContainers:\n"),
        pod("  volumes:\n  - name: v\n    emptyDir: {}\n  initContainers:\n  - name: i\n  containers:\n  - name: a\n"),
        "apiVersion: v1\nkind: Pod\nmetadata:\n  annotations: {}\n  name: p\nspec:\n  containers:\n   -   name: a\n".to_owned(),
        "apiVersion: v1\nkind: Pod\nmetadata:\n  annotations:\n    a: b\n\n    # after\n  name: p\nspec:\n  containers:\n  - name: a\n...\n".to_owned(),
        // Dashes alone on their lines.
        pod("  containers:\n  -\n    name: a\n"),
        // Anchors, aliases and merges.
        pod("  containers:\n  - &a\n    name: a\n    env: &e [{name: X, value: \"1\"}]\n  - name: b\n    env: *e\n"),
        pod("  containers:\n  - name: a\n    <<: {image: x}\n"),
        // Texts of many lines.
        pod("  containers:\n  - name: a\n    args:\n    - |\n      ---\n      initContainers:\n      - x\n\n      end\n    - >-\n      folded\n      text\n"),
        // No metadata, no newline at the end, other line ends.
        "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: s}\nspec:\n  template:\n    spec:\n      containers:\n      - name: a".to_owned(),
        pod("  containers:\n  - name: a\n").replace('\n', "\r\n"),
        "apiVersion: batch/v1\nkind: CronJob\nmetadata:\n  name: c\nspec:\n  jobTemplate:\n    spec:\n      template:\n        metadata:\n        spec:\n          containers:\n          - name: a\n".to_owned(),
        // Several in one.
        format!("apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  data: {{a: \"1.0\"}}\n{}  extra: true\n",
            ["a", "b"].map(|n| format!("- apiVersion: v1\n  kind: Pod\n  metadata:\n    name: {n}\n  spec:\n    containers:\n    - name: {n}\n")).concat()),
        "%YAML 1.2\n---\n# c\nkind: Pod\napiVersion: v1\nmetadata: &m\n  name: x\nspec:\n  containers: # c\n\n  - name: a # c\n".to_owned(),
        // As `kubectl get -o yaml` and `-o json` write it.
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: d\nspec:\n  template:\n    metadata:\n      creationTimestamp: null\n      labels:\n        a: b\n    spec:\n      containers:\n      - args:\n        - -x\n        name: a\n      dnsPolicy: Default\n      volumes:\n      - configMap:\n          name: c\n        name: c\nstatus: {}\n".to_owned(),
        "{\n    \"apiVersion\": \"v1\",\n    \"kind\": \"Pod\",\n    \"metadata\": {\n        \"name\": \"p\"\n    },\n    \"spec\": {\n        \"containers\": [\n            {\n                \"name\": \"a\"\n            }\n        ]\n    }\n}\n".to_owned(),
        "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"p\"},\"spec\":{\"containers\":[{\"name\":\"a\"}]}}\n{\"kind\":\"Other\"}".to_owned(),
    ]
}

fn empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        _ => false,
    }
}

/// As the API server has it: what is empty is not there.
fn bare(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(bare).collect(),
        Value::Object(entries) => {
            let entries = entries
                .iter()
                .map(|(key, value)| (key.clone(), bare(value)));
            Value::Object(entries.filter(|(_, value)| !empty(value)).collect())
        }
        other => other.clone(),
    }
}

#[test]
fn every_shape_is_injected_and_given_back() {
    for text in shapes() {
        let done = injected(&text);
        assert!(
            done.reports
                .iter()
                .all(|report| report.said == Said::Injected),
            "{text}"
        );
        let count = done.text.matches("restartPolicy").count();
        assert_eq!(count, done.reports.len(), "{}", done.text);
        assert_eq!(injected(&done.text).text, done.text, "{text}");
        let back = uninjected(&done.text);
        let before: Vec<_> = values(&text).iter().map(bare).collect();
        let after: Vec<_> = values(&back).iter().map(bare).collect();
        assert_eq!(before, after, "{text}\n{back}");
    }
}

#[test]
fn lines_are_edited_where_they_can_be() {
    for text in shapes().iter().filter(|text| text.contains("# ")) {
        let done = injected(text).text;
        let comments = |text: &str| text.matches('#').count();
        assert_eq!(comments(&done), comments(text), "{done}");
        assert_eq!(
            uninjected(&done).replace(": {}", ""),
            text.replace(": {}", "")
        );
    }
}

#[test]
fn flow_style_stays_where_annotations_are_written() {
    for metadata in [
        "{labels: {app: web}}",
        "{ annotations: { a: b }, labels: {}}  # why",
        "{annotations: {a: b,\n                   c: d}}",
        "{annotations: {}, labels: {app: web}}",
    ] {
        let text = format!(
            "apiVersion: apps/v1\nkind: Deployment\nspec:\n  template:\n    metadata: {metadata}\n    spec:\n      containers:\n      - name: a # b\n"
        );
        let done = injected(&text).text;
        assert!(done.contains("      - name: a # b\n"), "{done}");
        if !metadata.contains("annotations: {}") {
            assert_eq!(uninjected(&done), text);
        }
    }
}

#[test]
fn flow_style_stays_where_lists_are_written() {
    for spec in [
        "\n      containers: [{name: a, image: \"x\"}] # b",
        "\n      volumes: [ {name: v, emptyDir: {}} ]\n      initContainers: [{name: i}]\n      containers:\n        - name: a",
        " {containers: [{name: a}], volumes: [{name: v}]} # b",
    ] {
        let text = format!(
            "apiVersion: apps/v1\nkind: Deployment\nspec:\n  template:\n    metadata:\n      labels: {{a: b}} # c\n    spec:{spec}\n"
        );
        assert_eq!(uninjected(&injected(&text).text), text);
    }
}

#[test]
fn what_something_else_makes_is_left_to_that() {
    let owned = "apiVersion: apps/v1\nkind: ReplicaSet\nmetadata:\n  name: web-1\n  ownerReferences: [{kind: Deployment, name: web, controller: true}]\n\
        spec: {template: {spec: {containers: [{name: a}]}}}\n";
    let done = injected(owned);
    let owner = Untouched::Owned("deployment/web".to_owned());
    assert_eq!(
        (done.text.as_str(), &done.reports[0].said),
        (owned, &Said::Untouched(owner))
    );
}

#[test]
fn items_of_a_list_of_their_kind_need_not_say_what_they_are() {
    let text = "\
apiVersion: apps/v1
kind: DeploymentList
items:
- metadata: {name: one}
  spec: {template: {spec: {containers: [{name: c, image: i}]}}}
- kind: Deployment
  apiVersion: apps/v1
  metadata: {name: two}
  spec: {template: {spec: {containers: [{name: c, image: i}]}}}
";
    let done = injected(text);
    let names: Vec<_> = done
        .reports
        .iter()
        .map(|one| (one.kind, &*one.name))
        .collect();
    assert_eq!(names, [("deployment", "one"), ("deployment", "two")]);
    assert_eq!(
        done.text.matches("maille.io/proxy:").count(),
        4,
        "{}",
        done.text
    );
    assert_eq!(injected(&done.text).text, done.text);
    assert_eq!(values(&uninjected(&done.text)), values(text));
    // A list of anything says nothing of its items.
    let any = text
        .replace("DeploymentList", "List")
        .replace("apps/v1\nkind: L", "v1\nkind: L");
    assert_eq!(injected(&any).reports.len(), 1);
}

#[test]
fn what_seems_to_have_pods_and_is_not_known_is_said() {
    let text = "\
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: web}
spec: {template: {spec: {containers: [{name: c, image: i}]}}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
";
    let done = injected(text);
    assert_eq!(
        (&*done.text, done.unknown),
        (text, vec!["Rollout/web".to_owned()])
    );
    assert!(injected(SERVICE).unknown.is_empty() && injected(DEPLOYMENT).unknown.is_empty());
}

#[test]
fn windows_line_ends_stay() {
    let text = DEPLOYMENT.replace('\n', "\r\n");
    let done = injected(&text).text;
    assert_eq!(done.matches("\r\n").count(), done.matches('\n').count());
    assert_eq!(uninjected(&done), text);
}

#[test]
fn what_is_wrong_is_said_with_file_line_and_field() {
    let bad = DEPLOYMENT.replace(
        "      labels: {app: web} # flow\n",
        "      annotations:\n        maille.io/proxy-log-level: loud\n        maille.io/skip-inbound-ports: \"99999\"\n",
    );
    assert_eq!(
        errors(&format!("{SERVICE}{bad}")),
        [
            "app.yaml:19: spec.template.metadata.annotations.maille.io/skip-inbound-ports: \"99999\" is neither a port from 1 to 65535 nor a range such as 8000-8010",
            "app.yaml:18: spec.template.metadata.annotations.maille.io/proxy-log-level: \"loud\" is not one of error, warn, info, debug and trace",
        ]
    );
    let [error] = errors(&format!("{SERVICE}---\na: b: c\n"))
        .try_into()
        .unwrap();
    assert!(error.starts_with("app.yaml:8: is not YAML: "), "{error}");
    let list = "kind: List\napiVersion: v1\nitems:\n- {kind: Pod, apiVersion: v1, spec: 1}\n";
    assert_eq!(
        errors(list),
        ["app.yaml:4: items[0].spec: is a number, must be a map with the pod's containers"]
    );
    let empty = "kind: Deployment\napiVersion: apps/v1\n";
    assert_eq!(
        errors(empty),
        ["app.yaml:1: spec.template: is null, must be a map with metadata and spec of the pods"]
    );
}

#[test]
fn namespaces_in_the_same_files_count() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: shop}\nspec: {containers: [{name: a}]}\n";
    let namespace = |label: &str| {
        format!(
            "---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, labels: {{{label}}}}}\n"
        )
    };
    let done = injected(&format!("{pod}{}", namespace("maille.io/inject: disabled")));
    assert_eq!(
        done.reports[0].said,
        Said::Untouched(Untouched::OptedOut("its namespace"))
    );
    let refused = errors(&format!(
        "{pod}{}",
        namespace("pod-security.kubernetes.io/enforce: restricted")
    ));
    assert!(refused[0].contains("have the node capture"), "{refused:?}");
}

#[test]
fn what_runs_already_is_warned_of() {
    let pod =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p, uid: u}\nspec: {containers: [{name: a}]}\n";
    assert!(injected(pod).reports[0].warnings[0].contains("exists already"));
    let label = DEPLOYMENT.replace(
        "\nspec:\n",
        "\n  labels: {maille.io/inject: disabled}\nspec:\n",
    );
    assert!(injected(&label).reports[0].warnings[0].contains("spec.template.metadata.labels"));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(apiVersion: v1\n|kind: (Pod|List|Job)\n|spec:|containers:|items:|  |- |name: a|\n|---|[{}\\[\\]&*:\"'#|>%]|[^\n]){0,60}") {
        let _ = inject(&file(&text), &settings("1.0.0"), &[], "default");
        let _ = uninject(&file(&text));
    }
}
