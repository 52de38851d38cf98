// SPDX-License-Identifier: Apache-2.0
//! The command lines of the verbs that change or enter what runs. Must never act.

use std::net::IpAddr;
use std::time::Duration;

use super::{Manifests, Which, duration};

const GET: &str = "\
Examples:
  maille get pods                         every pod, with its namespace
  maille get deploy,svc -n shop -o wide   two kinds, more columns
  maille get endpoints web -o json        who answers for a Service
  maille get pods -l app=web -o name      for a loop in a shell
  maille get pods -w                      and again whatever changes";

const LOGS: &str = "\
Examples:
  maille logs deploy/web --tail 20        of one of its pods
  maille logs web-5d7f9-abcde -c sidecar -f
  maille logs deploy/web --all-containers --prefix --since 5m
  maille logs web-5d7f9-abcde --previous  what it said before it was started again
  maille logs web-5d7f9-abcde -c maille-proxy

Into a file or a pipe a log goes as it was written, byte by byte. On a terminal text and colours are shown, and what would move
the cursor, hide or turn round text is shown by its number; --raw shows it as it is.";

const EXEC: &str = "\
Examples:
  maille exec -it deploy/web -- sh
  maille exec deploy/web -- cat /etc/resolv.conf
  tar c . | maille exec -i web-5d7f9-abcde -- tar x -C /tmp

The exit code is the command's.";

const FORWARD: &str = "\
Examples:
  maille port-forward svc/web 8080:80     until Ctrl-C
  maille port-forward deploy/web 8080 9090:metrics
  maille port-forward pod/web-5d7f9-abcde :80   on any free port";

const DIFF: &str = "\
Examples:
  maille diff app/                        1 where something differs, 0 where nothing does";

const RESTART: &str = "\
Examples:
  maille restart deployment/web --wait    new pods, one by one, losing no request
  maille restart sts/db ds/agent          several at once";

const SCALE: &str = "\
Examples:
  maille scale deployment/web --replicas 3 --wait
  maille scale sts/db --replicas 2        the highest number goes first";

/// `maille get`.
#[derive(Debug, clap::Args)]
#[command(after_help = GET)]
pub struct Get {
    /// Kinds, with commas between; or KIND/NAME.
    #[arg(required = true, value_name = "KIND[/NAME]")]
    pub kind: String,
    /// Only these.
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Only this namespace.
    #[arg(short = 'n', long, conflicts_with = "all_namespaces")]
    pub namespace: Option<String>,
    /// Every namespace, which is the default.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Only with these labels: KEY=VALUE, with commas between.
    #[arg(short = 'l', long, value_name = "KEY=VALUE")]
    pub selector: Option<String>,
    /// How to write it.
    #[arg(short = 'o', long, value_enum, default_value_t)]
    pub output: Form,
    /// Go on with what changes, until Ctrl-C.
    #[arg(short = 'w', long)]
    pub watch: bool,
    #[command(flatten)]
    pub which: Which,
}

/// How `get` writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// For people.
    #[default]
    Table,
    /// For people, with more columns.
    Wide,
    /// For programs: one object, or a List.
    Json,
    /// The same in YAML.
    Yaml,
    /// KIND/NAME, one a line.
    Name,
}

/// `maille logs`.
#[derive(Debug, clap::Args)]
#[command(after_help = LOGS)]
pub struct Logs {
    /// A pod, or something that has pods: NAME, pod/NAME, deployment/NAME, service/NAME.
    #[arg(value_name = "POD")]
    pub target: String,
    /// The container, or maille-proxy; the first one unless told.
    #[arg(short = 'c', long, value_name = "NAME")]
    pub container: Option<String>,
    /// Go on with what is written from now on, until Ctrl-C or the pod is gone.
    #[arg(short = 'f', long)]
    pub follow: bool,
    /// Only the last lines; -1 is all.
    #[arg(long, value_name = "LINES", allow_negative_numbers = true)]
    pub tail: Option<i64>,
    /// Only what was written so short a time ago: 30s, 5m, 1h; to the second.
    #[arg(long, value_parser = duration, value_name = "TIME", conflicts_with = "previous")]
    pub since: Option<Duration>,
    /// Of the run before this one.
    #[arg(short = 'p', long, conflicts_with = "follow")]
    pub previous: bool,
    /// Of every container of the pod, init containers first.
    #[arg(long, conflicts_with = "container")]
    pub all_containers: bool,
    /// Begin each line with the pod and the container that wrote it.
    #[arg(long)]
    pub prefix: bool,
    /// To a terminal too every byte as it was written; it may then move the cursor, hide text or worse.
    #[arg(long)]
    pub raw: bool,
    /// The namespace; not needed where only one has a pod of this name.
    #[arg(short = 'n', long)]
    pub namespace: Option<String>,
    #[command(flatten)]
    pub which: Which,
}

/// `maille exec`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXEC)]
pub struct Exec {
    /// A pod, or something that has pods: NAME, pod/NAME, deployment/NAME, service/NAME.
    #[arg(value_name = "POD")]
    pub target: String,
    /// The command, after --.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
    /// The container; the first one unless told.
    #[arg(short = 'c', long, value_name = "NAME")]
    pub container: Option<String>,
    /// Pass standard input on.
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// Give it this terminal.
    #[arg(short = 't', long)]
    pub tty: bool,
    /// The namespace; not needed where only one has a pod of this name.
    #[arg(short = 'n', long)]
    pub namespace: Option<String>,
    /// The kind of this terminal.
    #[arg(long, env = "TERM", hide = true)]
    pub term: Option<String>,
    #[command(flatten)]
    pub which: Which,
}

/// `maille port-forward`.
#[derive(Debug, clap::Args)]
#[command(after_help = FORWARD)]
pub struct PortForward {
    /// A pod, or something that has pods: NAME, pod/NAME, deployment/NAME, service/NAME.
    #[arg(value_name = "POD")]
    pub target: String,
    /// [LOCAL:]REMOTE; without LOCAL the same, with an empty one any that is free.
    #[arg(required = true, value_name = "[LOCAL:]REMOTE")]
    pub ports: Vec<String>,
    /// Where to listen, in place of loopback.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub address: Vec<IpAddr>,
    /// The namespace; not needed where only one has a pod of this name.
    #[arg(short = 'n', long)]
    pub namespace: Option<String>,
    #[command(flatten)]
    pub which: Which,
}

/// `maille diff`.
#[derive(Debug, clap::Args)]
#[command(after_help = DIFF)]
pub struct Diff {
    #[command(flatten)]
    pub manifests: Manifests,
    #[command(flatten)]
    pub which: Which,
}

/// `maille restart`.
#[derive(Debug, clap::Args)]
#[command(after_help = RESTART)]
pub struct Restart {
    /// Which Deployments, StatefulSets, DaemonSets or ReplicaSets: KIND/NAME, or the NAME of a Deployment.
    #[arg(required = true, value_name = "KIND/NAME")]
    pub targets: Vec<String>,
    #[command(flatten)]
    pub(crate) order: Order,
}

/// `maille scale`.
#[derive(Debug, clap::Args)]
#[command(after_help = SCALE)]
pub struct Scale {
    /// Which Deployments, StatefulSets or ReplicaSets: KIND/NAME, or the NAME of a Deployment.
    #[arg(required = true, value_name = "KIND/NAME")]
    pub targets: Vec<String>,
    /// How many pods there are to be.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=200))]
    pub replicas: u32,
    #[command(flatten)]
    pub(crate) order: Order,
}

/// What both take.
#[derive(Debug, clap::Args)]
pub(crate) struct Order {
    /// The namespace; not needed where only one has such an object.
    #[arg(short = 'n', long)]
    pub(crate) namespace: Option<String>,
    /// Return when it is done.
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long that may take.
    #[arg(long, default_value = "60s", value_parser = duration, value_name = "TIME")]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) which: Which,
}
