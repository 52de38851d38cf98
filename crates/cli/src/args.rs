// SPDX-License-Identifier: Apache-2.0
//! The command line, as clap reads it. Must never act: `lib.rs` dispatches. Read `failure.rs` for the exit codes.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Questions about traffic.
pub(crate) mod ask;
/// A Kubernetes cluster.
pub(crate) mod kubernetes;
pub(crate) mod orders;

use kubernetes::{Inject, Install, Uninject, Uninstall, Upgrade, Where};
use orders::{Diff, Exec, Get, Logs, PortForward, Restart, Scale};

const AFTER: &str = "\
Exit codes:
  0    done (also: nothing to do)
  1    it ran and found a problem: a failed check, a failed request, a pod that did not become ready, a difference
  2    the command line or a manifest is wrong; nothing was started or written
  3    nothing answers: no `maille up` of that name is running, or no cluster
  4    a `maille up` of that name runs already
  5    this machine lacks something, or forbids it; the message says what
  130  interrupted\n\
`maille exec` passes on the exit code of its command.";

/// Maille: a service mesh. Runs Kubernetes manifests on this machine, each pod behind its own proxy, and shows what they say to each other.
#[derive(Debug, Parser)]
#[command(name = "maille", version, after_help = AFTER, disable_help_subcommand = true)]
pub struct Cli {
    /// What every verb takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What every verb takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Global {
    /// Where state is kept, in place of /run/maille (root) or $XDG_RUNTIME_DIR/maille.
    #[arg(
        long,
        global = true,
        env = "MAILLE_RUNTIME_DIR",
        hide_env_values = true,
        value_name = "DIR"
    )]
    pub runtime_dir: Option<PathBuf>,
    /// The user's runtime directory, as the login manager set it.
    #[arg(long, global = true, env = "XDG_RUNTIME_DIR", hide = true)]
    pub xdg_runtime_dir: Option<PathBuf>,
    /// Set to anything, forbids colour.
    #[arg(long, global = true, env = "NO_COLOR", hide = true)]
    pub no_color: Option<String>,
}

/// Which `maille up` is meant.
#[derive(Debug, Clone, clap::Args)]
pub struct Which {
    /// Name of the `maille up`; several run side by side under different names.
    #[arg(long, default_value = "default", value_name = "NAME")]
    pub name: String,
}

/// How a result is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs: one JSON object.
    Json,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run Kubernetes manifests on this machine, meshed, until Ctrl-C.
    Up(Up),
    /// Stop a `maille up` and remove what it left.
    Down(Down),
    /// Show traffic: success rate, requests a second, latencies, what is protected.
    Stat(Stat),
    /// Show what runs: pods, deployments, services, endpoints and the other objects.
    Get(Get),
    /// Show what a container wrote.
    Logs(Logs),
    /// Run a command beside a container's own.
    Exec(Exec),
    /// Lead local ports into a pod.
    PortForward(PortForward),
    /// Show what differs between manifests and what runs; exits with 1 where something does.
    Diff(Diff),
    /// Replace the pods of a Deployment step by step, losing no request.
    Restart(Restart),
    /// Set how many pods a Deployment has.
    Scale(Scale),
    /// Watch requests and connections as they pass.
    Tap(Box<ask::Tap>),
    /// Show the paths that are asked for, the busiest first.
    Top(Box<ask::Top>),
    /// Show who talks to whom, as whom, and what is protected.
    Edges(ask::Edges),
    /// Show the certificates of pods.
    Identity(ask::Identity),
    /// Say what would become of a request, and which resource decides it.
    Explain(ask::Explain),
    /// Record the frames of a pod, from both sides of its proxy.
    Capture(ask::Capture),
    /// Put sidecars into Kubernetes manifests.
    Inject(Box<Inject>),
    /// Take sidecars out of Kubernetes manifests.
    Uninject(Uninject),
    /// Print the objects that install the mesh on a Kubernetes cluster.
    Install(Install),
    /// Print the objects that bring a cluster's mesh to this version.
    Upgrade(Upgrade),
    /// Print what is to be deleted to remove the mesh from a cluster.
    Uninstall(Uninstall),
    /// Show what nodes captured: pods, their proxies, what those use, and what somebody changed.
    Node(kubernetes::Node),
    /// Check that the mesh works.
    Check(Check),
    /// Write an archive of logs, checks, metrics and objects, without secrets, for whoever helps.
    Diagnose(Diagnose),
    /// Run the example application for a look at the mesh.
    Demo(Demo),
    /// Print the versions of this program and of the mesh that runs.
    Version(Version),
    /// Write man pages, one a command, into a directory.
    Man {
        /// Which; it is made where there is none.
        dir: PathBuf,
        /// In Markdown, in place of what `man` reads.
        #[arg(long)]
        markdown: bool,
    },
    /// Print a completion script.
    Completion {
        /// For which shell.
        shell: Shell,
    },
}

/// What to run, and what it may do.
#[derive(Debug, Clone, clap::Args)]
pub struct Manifests {
    /// Directories (their *.yaml, *.yml and *.json), files, or - for standard input.
    #[arg(required_unless_present = "filename", value_name = "DIR|FILE|-")]
    pub sources: Vec<PathBuf>,
    /// The same, as kubectl takes it.
    #[arg(short = 'f', long, value_name = "DIR|FILE|-")]
    pub filename: Vec<PathBuf>,
    /// Which program of this machine stands for an image; without it the one that is called as the image's last part.
    #[arg(long = "image", value_name = "NAME=PROGRAM", value_parser = image)]
    pub images: Vec<String>,
    /// Let containers mount what is on this machine (hostPath).
    #[arg(long)]
    pub allow_host_path: bool,
}

impl Manifests {
    /// Everything that is to be read.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.sources.iter().chain(&self.filename).cloned().collect()
    }
}

/// `maille up`.
#[derive(Debug, clap::Args)]
pub struct Up {
    #[command(flatten)]
    pub manifests: Manifests,
    #[command(flatten)]
    pub which: Which,
    /// Say what would be done, and do nothing.
    #[arg(long, conflicts_with_all = ["detach", "announce"])]
    pub dry_run: bool,
    /// Let the pods go on running when this ends; the next `maille up` of the same name finds them again, `maille down` stops them.
    #[arg(long)]
    pub keep: bool,
    /// Return when the pods are ready; `maille down` stops it.
    #[arg(short = 'd', long)]
    pub detach: bool,
    /// Say `ready` on standard output, then keep silent: how `--detach` knows.
    #[arg(long, hide = true, conflicts_with = "detach")]
    pub announce: bool,
    /// How long certificates are valid.
    #[arg(long, hide = true, value_name = "TIME")]
    pub leaf_lifetime: Option<String>,
    /// Keep what pods write to their claims in this directory; without it that is gone with everything else.
    #[arg(long, value_name = "DIR")]
    pub storage: Option<PathBuf>,
    /// How long the pods may take to become ready.
    #[arg(long, default_value = "60s", value_parser = duration, value_name = "TIME")]
    pub timeout: Duration,
}

/// `maille down`.
#[derive(Debug, clap::Args)]
pub struct Down {
    #[command(flatten)]
    pub which: Which,
    /// Every `maille up` of this user.
    #[arg(long, conflicts_with = "name")]
    pub all: bool,
}

const STAT: &str = "\
Examples:
  maille stat                              every workload, and every pair that talks
  maille stat deploy                       what deployments are sent
  maille stat pods -n shop -t 5m           what pods of a namespace were sent in five minutes
  maille stat deploy web --to svc/api      what web sends to the service api
  maille stat svc --from deploy/web        what services are sent by web
  maille stat all -o json                  for programs

Kinds: deploy, sts, ds, rs, job, cj, po, svc, ns, all, and edges.";

/// `maille stat`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = STAT)]
pub struct Stat {
    /// What to show: kinds, or one resource; workloads and edges unless told.
    #[arg(value_name = "KIND[/NAME]")]
    pub resources: Vec<String>,
    /// Only what these sent.
    #[arg(long, value_name = "KIND[/NAME]", conflicts_with = "to")]
    pub from: Option<String>,
    /// The namespace of those.
    #[arg(long, requires = "from", value_name = "NAME")]
    pub from_namespace: Option<String>,
    /// Only what was sent to these.
    #[arg(long, value_name = "KIND[/NAME]")]
    pub to: Option<String>,
    /// The namespace of those.
    #[arg(long, requires = "to", value_name = "NAME")]
    pub to_namespace: Option<String>,
    /// Only this namespace.
    #[arg(short = 'n', long, conflicts_with = "all_namespaces")]
    pub namespace: Option<String>,
    /// Every namespace, that of the cluster itself included.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// The time that rates and latencies cover; at most 10m are kept.
    #[arg(short = 't', long, default_value = "1m", value_parser = duration, value_name = "TIME")]
    pub time_window: Duration,
    /// Show again every second until Ctrl-C.
    #[arg(short = 'w', long)]
    pub watch: bool,
    /// How to write it.
    #[arg(short = 'o', long, value_enum, default_value_t)]
    pub output: ask::List,
    #[command(flatten)]
    pub which: Where,
}

const CHECK: &str = "\
Examples:
  maille check               the machine, captures, control and proxies of a mesh that runs
  maille check --pre         whether this cluster can have one; where kubectl knows of none, whether this machine can run one
  maille check --proxy -n shop     each proxy of a namespace
  maille check --guest-config .config     what a sandbox with this kernel can do by itself
  maille check -o json       for programs: {\"checks\":[{category,name,ok,message,hint}],\"ok\":true}

A check with \u{203c} is well, and something is on its way that is not done: how far says its line.

Exit codes: 0 all is well, 1 a check failed (each says what to do), 3 nothing answers.";

/// `maille check`.
#[derive(Debug, clap::Args)]
#[command(after_help = CHECK)]
pub struct Check {
    /// Before anything runs: the cluster that kubectl would ask, or where there is none, or with --name, this machine.
    #[arg(long, conflicts_with_all = ["namespace", "proxy"])]
    pub pre: bool,
    /// Only what concerns the pods of this namespace, which needs no right anywhere else.
    #[arg(short = 'n', long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Each proxy by itself: connected, in sync, its certificate valid, of the mesh's version.
    #[arg(long)]
    pub proxy: bool,
    /// A kernel's configuration (- is standard input): how pods in a sandbox with this kernel can be captured. Asks no mesh.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["pre", "namespace", "proxy"])]
    pub guest_config: Option<PathBuf>,
    /// How to write it.
    #[arg(short = 'o', long, value_enum, default_value_t)]
    pub output: Output,
    #[command(flatten)]
    pub which: Where,
}

const DIAGNOSE: &str = "\
Examples:
  maille diagnose                        of the mesh that `maille check` would ask
  maille diagnose -o trouble.tar --context staging

What cannot be had is named in the archive's missing.txt. No Secret is read; what looks like a key or a token is left out of
everything else, and so are the values of containers' settings. Logs hold what requests wrote there: look at it before you pass it on.

Exit codes: 0 written, 3 nothing answers.";

/// `maille diagnose`.
#[derive(Debug, clap::Args)]
#[command(after_help = DIAGNOSE)]
pub struct Diagnose {
    /// The file to write, which must not be there; without it maille-diagnose-TIME.tar here.
    #[arg(short = 'o', long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub which: Where,
}

/// `maille version`.
#[derive(Debug, clap::Args)]
pub struct Version {
    /// Only this program's, without asking the mesh.
    #[arg(long)]
    pub client: bool,
    /// How to write it.
    #[arg(short = 'o', long, value_enum, default_value_t)]
    pub output: Output,
    #[command(flatten)]
    pub which: Where,
}

/// `maille demo`.
#[derive(Debug, clap::Args)]
pub struct Demo {
    /// Run for a while, print a summary, and fail if a request failed or a byte went unprotected.
    #[arg(long)]
    pub once: bool,
    /// How long `--once` sends requests.
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    /// Requests a second.
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: u32,
    /// Run without any mesh. The witness must then object: this is how it is tested.
    #[arg(long)]
    pub no_mesh: bool,
    /// How to write the summary.
    #[arg(short = 'o', long, value_enum, default_value_t)]
    pub output: Output,
}

/// Takes what can be said of an image, as it is.
fn image(text: &str) -> Result<String, String> {
    let mut images = maille_manifest::images::Images::default();
    images
        .add(text)
        .map_err(|expected| format!("must be {expected}"))?;
    Ok(text.to_owned())
}

/// Reads `90`, `90s`, `5m` or `1h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("use a number with s, m or h".to_owned()),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "use a number with s, m or h".to_owned())?;
    match number.checked_mul(unit) {
        Some(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
        _ => Err("must be between 1s and 24h".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for bad in [
            "",
            "s",
            "-1s",
            "0",
            "25h",
            "1d",
            "1.5s",
            "99999999999999999999h",
            "µs",
        ] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn kubectl_habits() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        assert!(parse("maille stat deployments -n shop -t 5m -o json").is_ok());
        assert!(parse("maille stat po edges --watch").is_ok());
        assert!(parse("maille up a.yaml dir - --name x").is_ok());
        assert!(parse("maille restart deployment/web -n shop --wait").is_ok());
        assert!(parse("maille scale deploy/web --replicas 3").is_ok());
        assert!(parse("maille scale deploy/web --replicas=-1").is_err());
        assert!(
            parse("maille up -f a.yaml -f - --image redis=redis-server --allow-host-path").is_ok()
        );
        assert!(parse("maille up").is_err());
        assert!(parse("maille up a.yaml --image redis").is_err());
        assert!(parse("maille down --all --name x").is_err());
    }
}
