// SPDX-License-Identifier: Apache-2.0
//! `maille install`, `upgrade` and `uninstall`: print objects for kubectl. Must never change a cluster. Read `inject.rs` next.

use std::collections::BTreeSet;
use std::process::ExitCode;

use maille_inject::Capture;
use maille_inject::install::{self, CONFIG, LEAVE, Nodes, Options, PART_OF, Replicas};
use serde_json::Value;

use crate::args::kubernetes::{Install, Uninstall, Upgrade};
use crate::cluster::{Cluster, Found};
use crate::failure::Expected;
use crate::screen::{Screen, print_exactly};
use crate::shapes::{data, is_injected};
use crate::text::clean;

mod definitions;

use definitions::Definitions;

/// Collections in which an installation has objects, each with its API version and kind.
pub(crate) const COLLECTIONS: [(&str, &str, &str); 15] = [
    (
        "admissionregistration.k8s.io/v1",
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
    ),
    (
        "admissionregistration.k8s.io/v1",
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
    ),
    (
        "admissionregistration.k8s.io/v1",
        "ValidatingAdmissionPolicyBinding",
        "validatingadmissionpolicybindings",
    ),
    (
        "admissionregistration.k8s.io/v1",
        "ValidatingAdmissionPolicy",
        "validatingadmissionpolicies",
    ),
    ("apiregistration.k8s.io/v1", "APIService", "apiservices"),
    ("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
    ("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    ("apps/v1", "Deployment", "deployments"),
    ("apps/v1", "DaemonSet", "daemonsets"),
    ("v1", "Service", "services"),
    (
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        "rolebindings",
    ),
    ("rbac.authorization.k8s.io/v1", "Role", "roles"),
    (
        "rbac.authorization.k8s.io/v1",
        "ClusterRoleBinding",
        "clusterrolebindings",
    ),
    (
        "rbac.authorization.k8s.io/v1",
        "ClusterRole",
        "clusterroles",
    ),
    ("v1", "ServiceAccount", "serviceaccounts"),
];

/// Pods that are named before the rest is counted.
const SHOWN: usize = 10;

pub(crate) fn install(args: &Install) -> anyhow::Result<ExitCode> {
    let options = Options {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        namespace: args.namespace.namespace.clone(),
        image_prefix: args.image_prefix.clone(),
        trust_domain: args.trust_domain.clone(),
        control: if args.ha {
            Replicas::Three
        } else {
            Replicas::One
        },
        nodes: if args.cni {
            Nodes::agents(args.capture, !args.no_chain)
        } else {
            Nodes::Bare
        },
        chain: !args.no_chain,
    };
    print(&options)
}

pub(crate) async fn upgrade(args: &Upgrade) -> anyhow::Result<ExitCode> {
    let cluster = Cluster::connect(&args.cluster).await?;
    let mut options = installed(&cluster, &args.namespace.namespace).await?;
    env!("CARGO_PKG_VERSION").clone_into(&mut options.version);
    if let Some(prefix) = &args.image_prefix {
        options.image_prefix.clone_from(prefix);
    }
    match (args.ha, args.no_ha) {
        (true, _) => options.control = Replicas::Three,
        (_, true) => options.control = Replicas::One,
        _ => {}
    }
    choose_capture(&mut options, args)?;
    print(&options)
}

/// What is for agents alone.
fn choose_capture(options: &mut Options, args: &Upgrade) -> Result<(), Expected> {
    let chain = match (args.chain, args.no_chain) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    };
    let asked = match (args.capture, chain) {
        (Some(_), _) => "--capture chooses among what nodes' agents can do",
        (_, Some(_)) => "--chain and --no-chain say what nodes' agents do",
        (None, None) => return Ok(()),
    };
    if options.nodes == Nodes::Bare {
        let what = format!("{asked}, and this mesh has none: it was installed without --cni");
        return Err(wrong(what));
    }
    if let Some(chain) = chain {
        options.set_chain(chain);
    }
    if let Some(usual) = args.capture {
        options.nodes = Nodes::Agents(usual);
    }
    Ok(())
}

fn print(options: &Options) -> anyhow::Result<ExitCode> {
    let text = install::manifest(options).map_err(|error| wrong(error.to_string()))?;
    print_exactly(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn wrong(what: String) -> Expected {
    Expected::Refused {
        what,
        hint: None,
        wrong: true,
    }
}

/// What was chosen when the cluster's mesh was installed.
pub(crate) async fn installed(
    cluster: &Cluster,
    namespace: &maille_model::Name,
) -> Result<Options, Expected> {
    let path = format!("/api/v1/namespaces/{namespace}/configmaps/{CONFIG}");
    let config = cluster.object(&path).await?.ok_or(Expected::NoMesh)?;
    Options::from_config(namespace.clone(), &data(&config))
        .map_err(|error| wrong(error.to_string()))
}

pub(crate) async fn uninstall(args: &Uninstall, screen: Screen) -> anyhow::Result<ExitCode> {
    if args.prune {
        let cluster = Cluster::connect(&args.cluster).await?;
        let options = installed(&cluster, &args.namespace.namespace).await?;
        let present = present(&cluster).await?;
        let wanted = install::objects(&options).map_err(|error| wrong(error.to_string()))?;
        print_exactly(&install::text(&left(&present, &wanted)))?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.nodes {
        let cluster = Cluster::connect(&args.cluster).await?;
        let options = installed(&cluster, &args.namespace.namespace).await?;
        let agents = install::leaving(&options).map_err(|error| wrong(error.to_string()))?;
        print_exactly(&install::text(agents.as_slice()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut found = Definitions::default();
    if !args.force {
        match Cluster::find(&args.cluster).await? {
            Found::Yes(cluster) => {
                let mesh = args.namespace.namespace.as_str();
                nobody_left(&cluster, mesh).await?;
                let path = format!("/apis/apps/v1/namespaces/{mesh}/daemonsets/maille-node");
                nodes_left(cluster.object(&path).await?.as_ref())?;
                found = definitions::look(&cluster).await?;
            }
            Found::Nowhere => screen.say(&format!(
                "{} no cluster is known here: whether pods and nodes are in the mesh still was not looked at",
                screen.yellow("warning:")
            )),
        }
    }
    let options = Options {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        namespace: args.namespace.namespace.clone(),
        image_prefix: "maille.io".to_owned(),
        trust_domain: "cluster.local".parse()?,
        control: Replicas::Three,
        nodes: Nodes::Agents(Capture::Outboard),
        chain: true,
    };
    let mut removal = install::removal(&options).map_err(|error| wrong(error.to_string()))?;
    let last = removal.len().saturating_sub(1);
    removal.splice(last..last, found.unused);
    for why in found.kept {
        screen.say(&format!("{} {why}", screen.yellow("kept:")));
    }
    print_exactly(&install::text(&removal))?;
    Ok(ExitCode::SUCCESS)
}

/// Refuses while pods have sidecars. The mesh's own go with it.
async fn nobody_left(cluster: &Cluster, mesh: &str) -> Result<(), Expected> {
    let pods = cluster.all("/api/v1/pods", None).await?;
    let others = |pod: &&Value| pod["metadata"]["namespace"] != mesh;
    let meshed: Vec<String> = pods
        .iter()
        .filter(others)
        .filter(|pod| is_injected(pod))
        .map(|pod| {
            let text = |key: &str| clean(pod["metadata"][key].as_str().unwrap_or_default());
            format!("{}/{}", text("namespace"), text("name"))
        })
        .collect();
    if meshed.is_empty() {
        return Ok(());
    }
    let shown = meshed
        .iter()
        .take(SHOWN)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    let more = meshed.len().saturating_sub(SHOWN);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    Err(Expected::Refused {
        what: format!("{} pod(s) still have sidecars: {shown}{more}", meshed.len()),
        hint: Some(
            "take them out first (remove the label maille.io/inject and restart, or `maille uninject`), or use --force: \
             they run on until their certificates end"
                .to_owned(),
        ),
        wrong: false,
    })
}

/// Refuses while nodes have agents that have not taken away what they wrote.
fn nodes_left(agents: Option<&Value>) -> Result<(), Expected> {
    let Some(agents) = agents else { return Ok(()) };
    let number = |pointer: &str| {
        let found = agents.pointer(pointer).and_then(Value::as_u64);
        found.unwrap_or_default()
    };
    let args = agents.pointer("/spec/template/spec/containers/0/args");
    let args = args.and_then(Value::as_array);
    let is_told = args.is_some_and(|args| args.iter().any(|one| one == LEAVE));
    let is_heard = number("/status/observedGeneration") >= number("/metadata/generation");
    let wanted = number("/status/desiredNumberScheduled");
    let left = if is_told && is_heard {
        number("/status/updatedNumberScheduled").min(number("/status/numberReady"))
    } else {
        0
    };
    if left >= wanted && is_told && is_heard {
        return Ok(());
    }
    Err(Expected::Refused {
        what: format!("{left} of {wanted} nodes have left the mesh"),
        hint: Some(
            "use `maille uninstall --nodes | kubectl apply -f -` and wait until its pods are ready (each says in its log what it waits for), \
             or use --force: files of the mesh stay on the nodes then"
                .to_owned(),
        ),
        wrong: false,
    })
}

/// What is in the cluster and marked as part of the mesh.
async fn present(cluster: &Cluster) -> Result<Vec<Value>, Expected> {
    let label = format!("{}={}", PART_OF.0, PART_OF.1);
    let mut present = Vec::new();
    for (version, kind, resource) in COLLECTIONS {
        let base = if version.contains('/') { "apis" } else { "api" };
        let path = format!("/{base}/{version}/{resource}");
        for mut object in cluster.all(&path, Some(&label)).await? {
            // Items of a list do not say what they are.
            object["apiVersion"] = version.into();
            object["kind"] = kind.into();
            present.push(install::identity(&object));
        }
    }
    Ok(present)
}

/// What is present and not wanted.
fn left(present: &[Value], wanted: &[Value]) -> Vec<Value> {
    let wanted: BTreeSet<String> = wanted
        .iter()
        .map(|object| install::identity(object).to_string())
        .collect();
    let left = present
        .iter()
        .filter(|object| !wanted.contains(&object.to_string()));
    left.cloned().collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use serde_json::json;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        upgrade: Upgrade,
    }

    #[test]
    fn what_agents_do_is_chosen_where_there_are_agents() {
        let agents = |usual, chain| (Nodes::Agents(usual), chain);
        let (out, sidecar) = (Capture::Outboard, Capture::InboardCni);
        let bare = (Nodes::Bare, true);
        for (options, before, after) in [
            ("", bare, Some(bare)),
            ("--capture outboard", bare, None),
            ("--chain", bare, None),
            ("--no-chain", bare, None),
            (
                "--no-chain",
                agents(out, true),
                Some(agents(sidecar, false)),
            ),
            ("--chain", agents(sidecar, false), Some(agents(out, true))),
            (
                "--chain --capture inboard-cni",
                agents(sidecar, false),
                Some(agents(sidecar, true)),
            ),
            (
                "--no-chain",
                agents(Capture::Inboard, true),
                Some(agents(Capture::Inboard, false)),
            ),
        ] {
            let words = std::iter::once("upgrade").chain(options.split_whitespace());
            let args = Line::try_parse_from(words).unwrap().upgrade;
            let mut chosen = installed_as(before);
            match (choose_capture(&mut chosen, &args), after) {
                (Ok(()), Some(after)) => {
                    assert_eq!((chosen.nodes, chosen.chain), after, "{options}")
                }
                (Err(Expected::Refused { wrong: true, .. }), None) => {}
                (other, _) => panic!("{options}: {other:?}"),
            }
        }
    }

    fn installed_as((nodes, chain): (Nodes, bool)) -> Options {
        Options {
            version: "1".to_owned(),
            namespace: "m".parse().unwrap(),
            image_prefix: "m".to_owned(),
            trust_domain: "m".parse().unwrap(),
            control: Replicas::Three,
            nodes,
            chain,
        }
    }

    #[test]
    fn what_an_older_version_left_is_found() {
        let role = |name: &str| json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name, "uid": "1"}});
        let present =
            [role("maille-control"), role("maille-old")].map(|one| install::identity(&one));
        let wanted = [role("maille-control")];
        assert_eq!(
            left(&present, &wanted),
            [install::identity(&role("maille-old"))]
        );
    }

    #[test]
    fn nodes_have_left_when_each_says_so() {
        let agents = |args: Value, ready: u64, observed: u64| {
            json!({
                "metadata": {"generation": 2},
                "spec": {"template": {"spec": {"containers": [{"args": args}]}}},
                "status": {"observedGeneration": observed, "desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberReady": ready},
            })
        };
        assert!(nodes_left(None).is_ok());
        let told = json!(["--kubernetes", "--leave"]);
        assert!(nodes_left(Some(&agents(told.clone(), 2, 2))).is_ok());
        for (agents, said) in [
            (agents(json!(["--kubernetes"]), 2, 2), "0 of 2"),
            (agents(told.clone(), 1, 2), "1 of 2"),
            (agents(told, 2, 1), "0 of 2"),
        ] {
            match nodes_left(Some(&agents)) {
                Err(Expected::Refused { what, .. }) => assert!(what.starts_with(said), "{what}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn every_kind_that_is_installed_is_looked_at() {
        let options = installed_as((Nodes::Agents(Capture::Outboard), true));
        for object in install::objects(&options).unwrap() {
            let kind = object["kind"].as_str().unwrap();
            // Those two go with the namespace, and hold what people chose.
            let known = ["Namespace", "ConfigMap"].contains(&kind)
                || COLLECTIONS
                    .iter()
                    .any(|(version, name, _)| object["apiVersion"] == *version && kind == *name);
            assert!(known, "{kind}");
        }
    }
}
