// SPDX-License-Identifier: Apache-2.0
//! Pods that answer and ask in every way (`maille-pairs`), whatever they run in: started, asked from inside and from outside the mesh.
//!
//! It knows nothing of what protects them. Read `meshed.rs` for what they run on.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::meshed::{Meshed, text};

/// The image of all of them.
pub const IMAGE: &str = "maille.test/pairs:1";
/// The namespace that is in the mesh.
pub const NAMESPACE: &str = "shop";
/// One that is not.
pub const OUTSIDE: &str = "default";
/// Selects all of them.
pub const ALL: &str = "pairs=yes";
/// How one can ask another.
pub const WAYS: [&str; 3] = ["http", "grpc", "tcp"];

/// A cluster whose nodes capture, with the application's image; it can run virtual machines where `machines` says so.
///
/// # Errors
///
/// What was said by whom.
pub fn start(init: &Path, scratch: &Path, machines: bool) -> anyhow::Result<Meshed> {
    let up = if machines {
        Meshed::start_with_machines(init, scratch)?
    } else {
        Meshed::start(init, scratch)?
    };
    install(&up)?;
    Ok(up)
}

/// The same on a cluster that is there.
///
/// # Errors
///
/// What was said by whom.
pub fn install(up: &Meshed) -> anyhow::Result<()> {
    up.load_built("node.tar")?;
    up.load_program(IMAGE, &up.program("maille-pairs")?)?;
    up.install_as("install --cni")?;
    crate::agents::are_there(up)?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {"maille.io/inject": "enabled"}}});
    up.cluster().apply(&namespace.to_string()).map(|_| ())
}

/// A pod that answers, of the RuntimeClass `class` where there is one.
pub fn pod(namespace: &str, name: &str, node: &str, class: Option<&str>) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod",
    "metadata": {"name": name, "namespace": namespace, "labels": {"app": name, "pairs": "yes"}},
    "spec": {"nodeName": node, "terminationGracePeriodSeconds": 1, "containers": [{
        "name": "pairs", "image": IMAGE, "args": ["serve", name],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
    }]}});
    if let Some(class) = class {
        pod["spec"]["runtimeClassName"] = json!(class);
    }
    pod
}

/// Makes a pod and its service of both families.
///
/// # Errors
///
/// What the API server said.
pub fn apply(up: &Meshed, pod: &Value) -> anyhow::Result<()> {
    let (name, namespace) = (
        text(pod, "/metadata/name"),
        text(pod, "/metadata/namespace"),
    );
    let port = |name, port| json!({"name": name, "port": port});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": name}, "ipFamilyPolicy": "RequireDualStack",
            "ports": [port("http", 8080), port("grpc", 8081), port("tcp", 8082)]}});
    up.cluster().apply(&service.to_string())?;
    up.until("a namespace's account", || {
        up.cluster().apply(&pod.to_string())
    })
    .map(|_| ())
}

/// Its addresses, one of each family.
pub fn addresses(pod: &Value) -> Vec<String> {
    let all = pod["status"]["podIPs"].as_array().into_iter().flatten();
    all.map(|one| text(one, "/ip").to_owned()).collect()
}

/// What a pod hears from each host that it asks, by host.
///
/// # Errors
///
/// It could not be told to ask.
pub fn ask(
    up: &Meshed,
    namespace: &str,
    from: &str,
    hosts: &[String],
) -> anyhow::Result<BTreeMap<String, Value>> {
    run(up, namespace, from, &format!("ask {}", hosts.join(" ")))
}

/// The same of a pod of the mesh in which no program can be started: another pod of it asks what it hears.
///
/// # Errors
///
/// The other could not be told to ask.
pub fn ask_through(
    up: &Meshed,
    by: &str,
    from: &str,
    hosts: &[String],
) -> anyhow::Result<BTreeMap<String, Value>> {
    let line = format!("through {from} {}", hosts.join(" "));
    run(up, NAMESPACE, by, &line)
}

fn run(
    up: &Meshed,
    namespace: &str,
    by: &str,
    line: &str,
) -> anyhow::Result<BTreeMap<String, Value>> {
    let said = up.kubectl(&format!(
        "-n {namespace} exec {by} -c pairs -- /usr/local/bin/maille-pairs {line}"
    ))?;
    let lines = said.lines().map(serde_json::from_str::<Value>);
    let by_host = |one: Value| (text(&one, "/host").to_owned(), one);
    let all = lines.collect::<Result<Vec<_>, _>>()?;
    Ok(all.into_iter().map(by_host).collect())
}

/// Everybody asked is `name`, in every way.
///
/// # Errors
///
/// Somebody else, or nobody.
pub fn all_are(name: &str, heard: &BTreeMap<String, Value>) -> anyhow::Result<()> {
    ensure!(!heard.is_empty(), "nobody was asked");
    for answer in heard.values() {
        for way in WAYS {
            let said = text(&answer[way], "/said");
            ensure!(said.split(' ').next() == Some(name), "{way}: {answer}");
        }
    }
    Ok(())
}

/// The one that is there.
///
/// # Errors
///
/// There is none.
pub fn there(up: &Meshed, name: &str) -> anyhow::Result<Value> {
    let mut pods = up.pods(NAMESPACE, &format!("app={name}"))?;
    pods.pop().with_context(|| name.to_owned())
}

/// `by` and `names` hear each other and themselves, by those of their addresses that are `wanted`: `by`, in which a program can be started, asks for
/// the others.
///
/// # Errors
///
/// Who did not hear whom in time.
pub fn all_hear_all(
    up: &Meshed,
    by: &str,
    names: &[&str],
    wanted: fn(&IpAddr) -> bool,
) -> anyhow::Result<()> {
    let all = names.iter().chain([&by]);
    let pods = all
        .map(|name| there(up, name))
        .collect::<anyhow::Result<Vec<_>>>()?;
    for from in &pods {
        for to in &pods {
            let (asker, own) = (text(from, "/metadata/name"), addresses(from));
            let mut hosts = addresses(to);
            hosts.retain(|ip| ip.parse().is_ok_and(|ip| wanted(&ip)));
            let name = text(to, "/metadata/name");
            // Who is ready is known to everybody a moment later.
            up.until(name, || {
                let heard = match own.first() {
                    Some(first) if asker != by => ask_through(up, by, first, &hosts)?,
                    _ => ask(up, NAMESPACE, asker, &hosts)?,
                };
                all_are(name, &heard).with_context(|| format!("{asker} asks"))
            })?;
        }
    }
    Ok(())
}

/// Nobody answered, in no way.
///
/// # Errors
///
/// Somebody did.
pub fn none_is(heard: &BTreeMap<String, Value>) -> anyhow::Result<()> {
    ensure!(!heard.is_empty(), "nobody was asked");
    for answer in heard.values() {
        for way in WAYS {
            ensure!(answer[way]["error"].is_string(), "{way}: {answer}");
        }
    }
    Ok(())
}

/// Microseconds of a round trip from one pod to another, of so many.
///
/// # Errors
///
/// Not in time.
pub fn round_trip(
    up: &Meshed,
    namespace: &str,
    from: &str,
    to: &str,
    count: usize,
) -> anyhow::Result<Value> {
    let line = format!(
        "-n {namespace} exec {from} -c pairs -- /usr/local/bin/maille-pairs time {to} {count}"
    );
    // What is ready is in the packets' way a moment later.
    let said = up.until("a round trip", || up.kubectl(&line))?;
    Ok(serde_json::from_str(&said)?)
}
