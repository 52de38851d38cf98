// SPDX-License-Identifier: Apache-2.0
//! kubectl's columns, kind by kind. Pure.

use serde_json::Value;

use super::age;
use crate::names::name;
use crate::pods_of::is_ready;
use crate::text::clean_to;

/// Letters of a cell that are shown.
const LETTERS: usize = 253;
/// Endpoints that a table shows.
const SHOWN: usize = 3;

/// The head of a table.
pub(super) fn head(kind: &str, wide: bool) -> Vec<&'static str> {
    let (short, more): (&[&str], &[&str]) = match kind {
        "Pod" => (
            &["NAME", "READY", "STATUS", "RESTARTS", "AGE"],
            &["IP", "MESH", "MESSAGE"],
        ),
        "Deployment" => (
            &["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"],
            &["CONTAINERS", "SELECTOR"],
        ),
        "Service" => (
            &[
                "NAME",
                "TYPE",
                "CLUSTER-IP",
                "EXTERNAL-IP",
                "PORT(S)",
                "AGE",
            ],
            &["SELECTOR"],
        ),
        "StatefulSet" => (&["NAME", "READY", "AGE"], &["CONTAINERS"]),
        "ReplicaSet" => (
            &["NAME", "DESIRED", "CURRENT", "READY", "AGE"],
            &["CONTAINERS", "SELECTOR"],
        ),
        "DaemonSet" => (
            &[
                "NAME",
                "DESIRED",
                "CURRENT",
                "READY",
                "UP-TO-DATE",
                "AVAILABLE",
                "AGE",
            ],
            &["CONTAINERS", "SELECTOR"],
        ),
        "PersistentVolumeClaim" => (
            &["NAME", "STATUS", "CAPACITY", "ACCESS MODES", "AGE"],
            &["STORAGECLASS"],
        ),
        "Endpoints" => (&["NAME", "ENDPOINTS", "AGE"], &[]),
        "Namespace" => (&["NAME", "STATUS", "AGE"], &[]),
        "ConfigMap" | "Secret" => (&["NAME", "DATA", "AGE"], &[]),
        "Job" => (&["NAME", "COMPLETIONS", "AGE"], &[]),
        _ => (&["NAME", "AGE"], &[]),
    };
    let more = if wide { more } else { &[] };
    short.iter().chain(more).copied().collect()
}

/// The row of one object, under [`head`].
pub(super) fn row(kind: &str, object: &Value, wide: bool, now: u64) -> Vec<String> {
    let age = age::since(object["metadata"]["creationTimestamp"].as_str(), now);
    let name = name(object).to_owned();
    let (mut row, more) = match kind {
        "Pod" => (
            pod(object, name, age),
            vec![
                text(&object["status"]["podIP"]),
                text(&object["metadata"]["annotations"]["maille.io/capture"]),
                text(&object["status"]["message"]),
            ],
        ),
        "Deployment" => (deployment(object, name, age), template(object)),
        "StatefulSet" => (
            vec![name, ready_of(object), age],
            vec![containers(&object["spec"]["template"])],
        ),
        "ReplicaSet" => {
            let wanted = object["spec"]["replicas"].as_u64().unwrap_or(1);
            let mut row = vec![name, wanted.to_string()];
            row.extend(numbers(object, &["replicas", "readyReplicas"]));
            row.push(age);
            (row, template(object))
        }
        "DaemonSet" => {
            let mut row = vec![name];
            row.extend(numbers(
                object,
                &[
                    "desiredNumberScheduled",
                    "currentNumberScheduled",
                    "numberReady",
                    "updatedNumberScheduled",
                    "numberAvailable",
                ],
            ));
            row.push(age);
            (row, template(object))
        }
        "Service" => (
            service(object, name, age),
            vec![pairs(&object["spec"]["selector"])],
        ),
        "PersistentVolumeClaim" => (
            claim(object, name, age),
            vec![text(&object["spec"]["storageClassName"])],
        ),
        "Endpoints" => (vec![name, endpoints(object), age], vec![]),
        "Namespace" => (vec![name, "Active".to_owned(), age], vec![]),
        "ConfigMap" | "Secret" => {
            let data = object["data"].as_object().map_or(0, serde_json::Map::len);
            (vec![name, data.to_string(), age], vec![])
        }
        "Job" => {
            let done = object["status"]["succeeded"].as_u64().unwrap_or(0);
            let all = object["spec"]["completions"].as_u64().unwrap_or(1);
            (vec![name, format!("{done}/{all}"), age], vec![])
        }
        _ => (vec![name, age], vec![]),
    };
    if wide {
        row.extend(more);
    }
    row.iter().map(|cell| clean_to(cell, LETTERS)).collect()
}

fn pod(object: &Value, name: String, age: String) -> Vec<String> {
    let status = &object["status"];
    let all = object["spec"]["containers"].as_array().map_or(0, Vec::len);
    let containers = status["containerStatuses"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let ready = match containers {
        [] if is_ready(object) => all,
        some => some.iter().filter(|one| one["ready"] == true).count(),
    };
    let restarts: u64 = containers
        .iter()
        .filter_map(|one| one["restartCount"].as_u64())
        .sum();
    let waits = containers
        .iter()
        .find_map(|one| one["state"]["waiting"]["reason"].as_str());
    let word = if object["metadata"]["deletionTimestamp"].is_string() {
        "Terminating"
    } else {
        waits
            .or_else(|| status["reason"].as_str())
            .or_else(|| status["phase"].as_str())
            .unwrap_or("Pending")
    };
    vec![
        name,
        format!("{ready}/{all}"),
        word.to_owned(),
        restarts.to_string(),
        age,
    ]
}

fn deployment(object: &Value, name: String, age: String) -> Vec<String> {
    let mut row = vec![name, ready_of(object)];
    row.extend(numbers(object, &["updatedReplicas", "availableReplicas"]));
    row.push(age);
    row
}

/// Numbers of the status, 0 where it does not say.
fn numbers(object: &Value, keys: &[&str]) -> Vec<String> {
    let number = |key: &&str| object["status"][*key].as_u64().unwrap_or(0).to_string();
    keys.iter().map(number).collect()
}

/// `2/3`: how many of the wanted pods are ready.
fn ready_of(object: &Value) -> String {
    let wanted = object["spec"]["replicas"].as_u64().unwrap_or(1);
    let ready = object["status"]["readyReplicas"].as_u64().unwrap_or(0);
    format!("{ready}/{wanted}")
}

/// What wide tables tell of what pods are made of.
fn template(object: &Value) -> Vec<String> {
    vec![
        containers(&object["spec"]["template"]),
        pairs(&object["spec"]["selector"]["matchLabels"]),
    ]
}

/// A directory is there as soon as somebody needs it.
fn claim(object: &Value, name: String, age: String) -> Vec<String> {
    let spec = &object["spec"];
    let modes = spec["accessModes"].as_array().into_iter().flatten();
    let modes = modes.filter_map(Value::as_str).map(|mode| match mode {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        other => other,
    });
    vec![
        name,
        "Bound".to_owned(),
        text(&spec["resources"]["requests"]["storage"]),
        modes.collect::<Vec<_>>().join(","),
        age,
    ]
}

fn service(object: &Value, name: String, age: String) -> Vec<String> {
    let spec = &object["spec"];
    let kind = spec["type"].as_str().unwrap_or("ClusterIP").to_owned();
    let ports = spec["ports"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let ports: Vec<String> = ports
        .iter()
        .map(|port| {
            format!(
                "{}/{}",
                port["port"],
                port["protocol"].as_str().unwrap_or("TCP")
            )
        })
        .collect();
    let ports = if ports.is_empty() {
        "<none>".to_owned()
    } else {
        ports.join(",")
    };
    vec![
        name,
        kind,
        text(&spec["clusterIP"]),
        text(&spec["externalName"]),
        ports,
        age,
    ]
}

fn endpoints(object: &Value) -> String {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut all = Vec::new();
    for subset in list(&object["subsets"]) {
        for port in list(&subset["ports"]) {
            for address in list(&subset["addresses"]) {
                let ip = address["ip"].as_str().unwrap_or_default();
                let ip = if ip.contains(':') {
                    format!("[{ip}]")
                } else {
                    ip.to_owned()
                };
                all.push(format!("{ip}:{}", port["port"]));
            }
        }
    }
    match all.len() {
        0 => "<none>".to_owned(),
        n if n > SHOWN => format!("{} + {} more...", all[..SHOWN].join(","), n - SHOWN),
        _ => all.join(","),
    }
}

fn containers(template: &Value) -> String {
    let containers = template["spec"]["containers"]
        .as_array()
        .into_iter()
        .flatten();
    let names: Vec<&str> = containers.filter_map(|one| one["name"].as_str()).collect();
    names.join(",")
}

fn pairs(map: &Value) -> String {
    let pairs = map.as_object().into_iter().flatten();
    let pairs: Vec<String> = pairs
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    if pairs.is_empty() {
        "<none>".to_owned()
    } else {
        pairs.join(",")
    }
}

/// A text, or that there is none.
fn text(value: &Value) -> String {
    match value.as_str() {
        Some(text) if !text.is_empty() => text.to_owned(),
        _ => "<none>".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(kind: &str, object: &Value) -> String {
        let row = row(kind, object, false, 100);
        assert_eq!(row.len(), head(kind, false).len());
        row.join(" ")
    }

    #[test]
    fn rows_are_those_of_kubectl() {
        let pod = json!({"metadata": {"name": "web-1", "creationTimestamp": "1970-01-01T00:00:40Z"},
            "spec": {"containers": [{}, {}]}, "status": {"phase": "Running",
            "containerStatuses": [{"ready": true, "restartCount": 2}, {"ready": false, "restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}});
        assert_eq!(line("Pod", &pod), "web-1 1/2 CrashLoopBackOff 3 60s");
        let bare = json!({"metadata": {"name": "p"}, "spec": {"containers": [{}]}, "status": {"phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}]}});
        assert_eq!(line("Pod", &bare), "p 1/1 Running 0 <unknown>");
        let deployment = json!({"metadata": {"name": "web"}, "spec": {"replicas": 3}, "status": {"readyReplicas": 2, "updatedReplicas": 1, "availableReplicas": 2}});
        assert_eq!(line("Deployment", &deployment), "web 2/3 1 2 <unknown>");
        assert_eq!(line("StatefulSet", &deployment), "web 2/3 <unknown>");
        assert_eq!(line("ReplicaSet", &deployment), "web 3 0 2 <unknown>");
        let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce", "ReadOnlyMany"],
            "resources": {"requests": {"storage": "1Gi"}}}});
        assert_eq!(
            line("PersistentVolumeClaim", &claim),
            "data Bound 1Gi RWO,ROX <unknown>"
        );
        let daemon = json!({"metadata": {"name": "every"}, "spec": {}, "status": {"desiredNumberScheduled": 1,
            "currentNumberScheduled": 1, "numberReady": 1, "updatedNumberScheduled": 0, "numberAvailable": 1}});
        assert_eq!(line("DaemonSet", &daemon), "every 1 1 1 0 1 <unknown>");
        let service = json!({"metadata": {"name": "web"}, "spec": {"clusterIP": "10.96.1.1", "ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]}});
        assert_eq!(
            line("Service", &service),
            "web ClusterIP 10.96.1.1 <none> 80/TCP,53/UDP <unknown>"
        );
        let endpoints = json!({"metadata": {"name": "web"}, "subsets": [{"ports": [{"port": 80}], "addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}]});
        assert_eq!(
            line("Endpoints", &endpoints),
            "web 10.0.0.1:80,[fd00::1]:80 <unknown>"
        );
        assert_eq!(
            line(
                "ConfigMap",
                &json!({"metadata": {"name": "m"}, "data": {"a": "b"}})
            ),
            "m 1 <unknown>"
        );
    }

    #[test]
    fn what_a_pod_says_cannot_move_the_cursor() {
        let pod =
            json!({"metadata": {"name": "p"}, "spec": {}, "status": {"message": "\u{1b}[2Jgone"}});
        assert_eq!(row("Pod", &pod, true, 0).last().unwrap(), "\\u{1b}[2Jgone");
    }
}
