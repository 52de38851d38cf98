// SPDX-License-Identifier: Apache-2.0
//! A captured pod of a cluster, whose frames the agent of its node shows. Who may enter the agent (`create` on `pods/exec` in the mesh's namespace) may
//! see them, and nobody else. Must never need anything in the pod. Read `../entered.rs` for the way in.

use maille_manifest::marks;
use serde_json::Value;

use super::guest;
use crate::args::ask::Capture;
use crate::check::NAMESPACE;
use crate::cluster::Cluster;
use crate::entered;
use crate::failure::Expected;
use crate::names::{Named, name, namespace};
use crate::nodes;
use crate::reach::Stream;
use crate::shapes::text;
use crate::text::clean;

/// A pod, and who shows it.
#[derive(Debug, Clone)]
pub(super) struct Afar {
    cluster: Cluster,
    agent: String,
    /// The image of that, which holds what looks from inside too.
    image: String,
    /// Whether a container is to be put into the pod for that.
    enter: bool,
    namespace: String,
    pod: String,
    /// Its RuntimeClass; empty where it has none.
    class: String,
}

// === impl Afar ===

impl Afar {
    /// The pod that was named.
    pub(super) async fn find(cluster: &Cluster, args: &Capture) -> Result<Self, Expected> {
        if args.plain {
            return Err(refused(
                "a cluster's proxies show nobody what goes through them in plain text".to_owned(),
                "leave --plain out: what the application and its proxy say to each other is on dn0 as it is",
            ));
        }
        let pod = find(cluster, &args.pod, args.namespace.as_deref()).await?;
        let (space, own) = (namespace(&pod), name(&pod));
        if pod["metadata"]["annotations"][marks::CAPTURE] != "outboard" {
            return Err(refused(
                format!(
                    "{}/{} is not captured by its node",
                    clean(space),
                    clean(own)
                ),
                "a pod with a sidecar, or outside the mesh, is seen from inside: `kubectl debug POD --image IMAGE --target CONTAINER -- tcpdump -w - ...`",
            ));
        }
        let node = text(&pod, "/spec/nodeName");
        let agent = nodes::agent(cluster, NAMESPACE, node).await?;
        Ok(Self {
            agent: name(&agent).to_owned(),
            image: text(&agent, "/spec/containers/0/image").to_owned(),
            enter: args.guest,
            cluster: cluster.clone(),
            namespace: space.to_owned(),
            pod: own.to_owned(),
            class: text(&pod, "/spec/runtimeClassName").to_owned(),
        })
    }

    /// Its frames, until nobody reads them any more.
    pub(super) async fn frames(&self, args: &Capture) -> Result<Stream, Expected> {
        let mut more = Vec::new();
        if let Some(filter) = &args.filter {
            more.extend(["--filter".to_owned(), filter.clone()]);
        }
        if let Some(snaplen) = args.snaplen {
            more.extend(["--snaplen".to_owned(), snaplen.to_string()]);
        }
        self.enter(more).await
    }

    /// What the kernels of its sides hold.
    pub(super) async fn state(&self) -> Result<Stream, Expected> {
        self.enter(vec!["--state".to_owned()]).await
    }

    async fn enter(&self, more: Vec<String>) -> Result<Stream, Expected> {
        let pod = format!("{}/{}", self.namespace, self.pod);
        let mut command = vec!["/maille-node".to_owned(), "--frames".to_owned(), pod];
        command.extend(more);
        let place = (NAMESPACE, self.agent.as_str(), "node");
        entered::stream(&self.cluster, place, &command).await
    }

    /// What the side holds that no node sees, or why that is not known.
    pub(super) async fn guest(&self) -> String {
        if self.enter {
            let look = guest::look(&self.cluster, (&self.namespace, &self.pod), &self.image);
            return match look.await {
                Ok(text) => text,
                Err(why) => format!("# guest\nnot seen: {why}\n"),
            };
        }
        let kernel = match self.class.as_str() {
            "" => "its network is the node's kernel's".to_owned(),
            class => format!(
                "the sandbox (RuntimeClass {}) has a kernel of its own",
                clean(class)
            ),
        };
        format!(
            "# guest\nnot seen from here: {kernel}. Where its runtime lets an ephemeral container in, --guest looks from inside\n"
        )
    }
}

fn refused(what: String, hint: &str) -> Expected {
    Expected::Refused {
        what,
        hint: Some(hint.to_owned()),
        wrong: true,
    }
}

/// The pod that somebody named, or one of what was named, a ready one first.
async fn find(cluster: &Cluster, target: &str, wanted: Option<&str>) -> Result<Value, Expected> {
    let named = Named::parse(target, "pod")?;
    let space = wanted.unwrap_or_else(|| cluster.namespace());
    let path = named.kind.path(space);
    let object = cluster.object(&format!("{path}/{}", named.name)).await?;
    let object = object.ok_or_else(|| Expected::Unknown {
        what: format!(
            "there is no {} in {}",
            clean(&named.kind.report(&named.name)),
            clean(space)
        ),
        hint: "`kubectl get pods -A` shows all; name a namespace with -n".to_owned(),
    })?;
    if named.kind.name == "Pod" {
        return Ok(object);
    }
    let pods = match selector(&object) {
        None => Vec::new(),
        Some(labels) => {
            let path = format!("/api/v1/namespaces/{space}/pods");
            cluster.all(&path, Some(&labels)).await?
        }
    };
    let ready = |pod: &Value| {
        let all = pod["status"]["conditions"].as_array().into_iter().flatten();
        let mut all = all.filter(|one| one["type"] == "Ready" && one["status"] == "True");
        all.next().is_some()
    };
    let chosen = pods
        .into_iter()
        .min_by_key(|pod| (!ready(pod), name(pod).to_owned()));
    chosen.ok_or_else(|| Expected::Unknown {
        what: format!("{} has no pod", clean(&named.kind.report(&named.name))),
        hint: "`kubectl get pods` shows all".to_owned(),
    })
}

/// The labels by which an object has its pods.
fn selector(object: &Value) -> Option<String> {
    let selector = &object["spec"]["selector"];
    let labels = selector["matchLabels"].as_object();
    let labels = labels.or_else(|| selector.as_object())?;
    let one = |(key, value): (&String, &Value)| Some(format!("{key}={}", value.as_str()?));
    let all: Option<Vec<_>> = labels.iter().map(one).collect();
    all.map(|all| all.join(",")).filter(|all| !all.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_has_pods_says_by_which_labels() {
        let service = json!({"spec": {"selector": {"app": "web", "tier": "front"}}});
        assert_eq!(selector(&service).unwrap(), "app=web,tier=front");
        let set = json!({"spec": {"selector": {"matchLabels": {"app": "web"}}}});
        assert_eq!(selector(&set).unwrap(), "app=web");
        for none in [json!({}), json!({"spec": {"selector": {}}})] {
            assert_eq!(selector(&none), None);
        }
        let expressions = json!({"spec": {"selector": {"matchExpressions": []}}});
        assert_eq!(selector(&expressions), None, "every pod is not meant");
    }
}
