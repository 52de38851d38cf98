// SPDX-License-Identifier: Apache-2.0
//! Command lines of what concerns a Kubernetes cluster: `inject`, `uninject`, `install`, `upgrade`, `uninstall`, and which cluster is
//! meant. Must never act. Read `../args.rs` next.

use std::path::PathBuf;

use maille_inject::{Capture, ControlAddress};
use maille_model::{Name, TrustDomain};

/// Which cluster.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ClusterAt {
    /// The file that says where clusters are, in place of $KUBECONFIG and ~/.kube/config.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Which of the file's contexts, in place of its current one.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
}

/// Which mesh is asked: one of this machine, or a cluster's.
///
/// What is named is asked. Where nothing is named it is the `maille up` named `default`, if one runs, and else the cluster of kubectl.
#[derive(Debug, Clone, clap::Args)]
pub struct Where {
    /// Ask this `maille up`; without it the one named `default`, or where none runs the cluster that kubectl would ask.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["kubeconfig", "context"])]
    pub name: Option<String>,
    #[command(flatten)]
    pub cluster: ClusterAt,
}

const INJECT: &str = "\
Examples:
  maille inject app.yaml | kubectl apply -f -
  kubectl get deploy -n shop -o yaml | maille inject - | kubectl apply -f -
  maille inject manifests/ -o meshed/             each file under its name into another directory
  maille inject app.yaml --control-address 10.96.3.7:15010     without asking a cluster

Every object that has pods gets a sidecar, whatever its namespace says, unless its pods say `maille.io/inject: disabled` or
cannot have one; standard error tells what became of each. Everything else passes byte for byte, comments included.

Annotations of the pods' template:
  maille.io/inject: disabled              no sidecar (also as a label, which the webhook sees)
  maille.io/sidecar: classic              a container beside the others, for clusters without native sidecars
  maille.io/skip-inbound-ports: 22,8000-8010     what reaches the application without its proxy
  maille.io/skip-outbound-ports: 3306     what the application dials without its proxy
  maille.io/proxy-cpu-request, -limit     as in 100m
  maille.io/proxy-memory-request, -limit  as in 64Mi
  maille.io/proxy-log-level: debug        error, warn, info, debug or trace
  maille.io/access-log: json              json, text or off
  maille.io/capture-inside: allowed       the proxy may show what goes through it in plain text (refused unless said)
  maille.io/uncaptured-interfaces: refused   an outboard pod with interfaces past its proxy does not start (also a namespace's label)

Exit codes: 0 done, 2 something is wrong with the manifests (nothing is written then), 3 nobody says where control is.";

/// `maille inject`.
#[derive(Debug, clap::Args)]
#[command(after_help = INJECT)]
pub struct Inject {
    #[command(flatten)]
    pub files: Files,
    /// Where proxies reach control; without it the cluster is asked.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub control_address: Option<ControlAddress>,
    /// The trust domain of control's identity, with --control-address.
    #[arg(
        long,
        default_value = "cluster.local",
        value_name = "NAME",
        requires = "control_address"
    )]
    pub trust_domain: TrustDomain,
    /// What the images' names begin with, with --control-address.
    #[arg(
        long,
        default_value = "maille.io",
        value_name = "PREFIX",
        requires = "control_address"
    )]
    pub image_prefix: String,
    /// Where the mesh's own objects are.
    #[arg(long, default_value = "maille-system", value_name = "NAME")]
    pub mesh_namespace: Name,
    /// The namespace of objects that name none.
    #[arg(short = 'n', long, value_name = "NAME")]
    pub namespace: Option<Name>,
    #[command(flatten)]
    pub cluster: ClusterAt,
}

/// `maille uninject`.
#[derive(Debug, clap::Args)]
pub struct Uninject {
    #[command(flatten)]
    pub files: Files,
}

/// What is read, and where the result goes.
#[derive(Debug, Clone, clap::Args)]
pub struct Files {
    /// Directories (their *.yaml, *.yml and *.json), files, or - for standard input.
    #[arg(required_unless_present = "filename", value_name = "DIR|FILE|-")]
    pub sources: Vec<PathBuf>,
    /// The same, as kubectl takes it.
    #[arg(short = 'f', long, value_name = "DIR|FILE|-")]
    pub filename: Vec<PathBuf>,
    /// Write each file under its own name into this directory, in place of standard output.
    #[arg(short = 'o', long, value_name = "DIR")]
    pub output: Option<PathBuf>,
}

impl Files {
    /// Everything that is to be read.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.sources.iter().chain(&self.filename).cloned().collect()
    }
}

const INSTALL: &str = "\
Examples:
  maille install | kubectl apply -f -
  maille install --ha | kubectl apply -f -                       three replicas of control, on nodes apart
  maille install --cni | kubectl apply -f -                      an agent and a CNI plugin on every node, nothing in pods
  maille install --image-prefix registry.example.com/maille > maille.yaml

The same options print the same bytes. No key is among them: control makes its certificate authority in the cluster at its first
start, as Secret maille-ca, which may also be there before. Next: `maille check`.";

/// `maille install`.
#[derive(Debug, clap::Args)]
#[command(after_help = INSTALL)]
pub struct Install {
    #[command(flatten)]
    pub namespace: MeshNamespace,
    /// Run control three times, on nodes apart.
    #[arg(long)]
    pub ha: bool,
    /// Have nodes capture pods: they get an agent and a CNI plugin, and no container of a pod needs a right.
    #[arg(long)]
    pub cni: bool,
    /// With --cni, how pods are captured where neither they nor their namespaces say (annotation, label maille.io/capture): outboard (nothing of
    /// the mesh is in them; the default), inboard-cni (a sidecar whose rules the node writes), or inboard (by an init container).
    #[arg(long, value_name = "MODE", requires = "cni")]
    pub capture: Option<Capture>,
    /// With --cni, leave the nodes' CNI configurations alone: pods name the plugin as a network of theirs (a NetworkAttachmentDefinition, as with
    /// Multus; docs/cni.md), and are captured inboard-cni.
    #[arg(long, requires = "cni")]
    pub no_chain: bool,
    /// What the images' names begin with.
    #[arg(long, default_value = "maille.io", value_name = "PREFIX")]
    pub image_prefix: String,
    /// Who vouches for identities: the first part of every one of them. It cannot be changed later without renewing them all.
    #[arg(long, default_value = "cluster.local", value_name = "NAME")]
    pub trust_domain: TrustDomain,
}

/// Where the mesh's own objects are.
#[derive(Debug, Clone, clap::Args)]
pub struct MeshNamespace {
    /// Where the mesh's own objects are.
    #[arg(long, default_value = "maille-system", value_name = "NAME")]
    pub namespace: Name,
}

const NODE: &str = "\
Examples:
  maille node                     pods that nodes captured, their proxies, what those use, and what somebody changed
  maille node worker-1            of one node
  maille node worker-1 -o json    for programs

It asks the nodes' agents by way of the API server, which takes the right to get pods/proxy in the mesh's namespace.

Exit codes: 0 all is well, 1 a proxy is not ready, a capture is not as it was, or an agent says nothing, 3 nothing answers.";

/// `maille node`.
#[derive(Debug, clap::Args)]
#[command(after_help = NODE)]
pub struct Node {
    /// Which; without it every node that has an agent.
    #[arg(value_name = "NODE")]
    pub node: Option<String>,
    /// How to write it.
    #[arg(short = 'o', long, value_enum, default_value_t)]
    pub output: super::Output,
    #[command(flatten)]
    pub namespace: MeshNamespace,
    #[command(flatten)]
    pub cluster: ClusterAt,
}

const UPGRADE: &str = "\
Examples:
  maille upgrade | kubectl apply -f -
  maille upgrade --ha | kubectl apply -f -
  maille uninstall --prune | kubectl delete -f -      what the older version had and this one has not

Prints what `maille install` of this program's version prints, with what was chosen when the cluster's mesh was installed. Sidecars
keep their version until their pods are made again.";

/// `maille upgrade`.
#[derive(Debug, clap::Args)]
#[command(after_help = UPGRADE)]
pub struct Upgrade {
    #[command(flatten)]
    pub namespace: MeshNamespace,
    /// From now on run control three times, on nodes apart.
    #[arg(long, conflicts_with = "no_ha")]
    pub ha: bool,
    /// From now on run control once.
    #[arg(long)]
    pub no_ha: bool,
    /// From now on capture pods so where neither they nor their namespaces say: outboard, inboard-cni or inboard. Pods that are there stay as they are:
    /// another capture takes another pod.
    #[arg(long, value_name = "MODE")]
    pub capture: Option<Capture>,
    /// From now on chain the plugin into the nodes' CNI configurations. Pods for which nothing was chosen are captured outboard.
    #[arg(long, conflicts_with = "no_chain")]
    pub chain: bool,
    /// From now on leave the nodes' CNI configurations alone: pods name the plugin as a network of theirs (docs/cni.md), and are captured
    /// inboard-cni where nothing was chosen.
    #[arg(long)]
    pub no_chain: bool,
    /// From now on take images whose names begin so.
    #[arg(long, value_name = "PREFIX")]
    pub image_prefix: Option<String>,
    #[command(flatten)]
    pub cluster: ClusterAt,
}

const UNINSTALL: &str = "\
Examples:
  maille uninstall --nodes | kubectl apply -f -       first, where nodes have agents: they let their nodes be as they were
  maille uninstall | kubectl delete --ignore-not-found -f -
  maille uninstall --prune | kubectl delete -f -      only what an older version had and this one has not

Names what is to be deleted, in an order that never refuses a pod for want of control. While pods are in the mesh it refuses: they
would keep running, with certificates that nobody renews. While nodes have agents that have not left, it refuses too: nobody would
take their files away.

Exit codes: 0 done, 1 pods or nodes are in the mesh still, 3 the cluster does not answer.";

/// `maille uninstall`.
#[derive(Debug, clap::Args)]
#[command(after_help = UNINSTALL)]
pub struct Uninstall {
    #[command(flatten)]
    pub namespace: MeshNamespace,
    /// Name only what an older version installed and this one does not.
    #[arg(long)]
    pub prune: bool,
    /// Print the agents of nodes, told to leave: each waits until no pod of its node is captured, and then takes away what it wrote.
    #[arg(long, conflicts_with_all = ["prune", "force"])]
    pub nodes: bool,
    /// Do not look for pods and nodes that are in the mesh still.
    #[arg(long, conflicts_with = "prune")]
    pub force: bool,
    #[command(flatten)]
    pub cluster: ClusterAt,
}
