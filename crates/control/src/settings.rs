// SPDX-License-Identifier: Apache-2.0
//! The command line of `maille-control`. Every setting is declared once, here. Read [`crate::run`] next.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{ArgMatches, Args, Command, FromArgMatches, Parser};
use ipnet::IpNet;
use maille_chassis::config::Setting;
use maille_chassis::{log, notify};
use maille_inject::Capture;
use maille_model::{Name, TrustDomain};

/// What is logged.
pub const LOG: Setting = log::filter("info");

/// Every setting that comes from the environment.
pub const ENVIRONMENT: [Setting; 3] = [LOG, log::FORMAT, notify::SOCKET];

/// The control plane and certificate authority of one mesh.
#[derive(Clone, Debug, Parser)]
#[command(name = "maille-control", version)]
pub struct Settings {
    /// Where objects come from, and where control is asked.
    #[command(flatten)]
    pub source: Source,
    /// The authority that signs identities.
    #[arg(long, value_name = "NAME", default_value = "cluster.local")]
    pub trust_domain: TrustDomain,
    /// How long a workload's certificate is valid: a number with s, m or h.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = lifetime)]
    pub leaf_lifetime: Duration,
    /// Pod or service range: an address in it is never dialled before control has said whose it is.
    #[arg(long = "cluster-range", value_name = "CIDR")]
    pub cluster_ranges: Vec<IpNet>,
}

/// Where objects come from, and where control is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A directory with manifests/ and pods/; control makes ca/, control.sock and api.sock in it.
    State(PathBuf),
    /// The API server of a cluster.
    Kubernetes(Kubernetes),
}

/// How control is in a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Kubernetes {
    /// Who the API server is and who we are to it, where control is not in a pod of the cluster.
    #[arg(long, value_name = "FILE", conflicts_with = "state")]
    pub kubeconfig: Option<PathBuf>,
    /// The namespace that control is in. Without it: the service account's.
    #[arg(long, value_name = "NAME", conflicts_with = "state")]
    pub namespace: Option<Name>,
    /// Who of several replicas this one is: the name of its pod. Without it: the host's name, which in a pod is the same.
    #[arg(long, value_name = "NAME", conflicts_with = "state")]
    pub pod: Option<String>,
    /// What the names of images begin with that are put into pods.
    #[arg(long, value_name = "PREFIX", default_value = "maille.io")]
    pub image_prefix: String,
    /// How nodes' agents capture pods where neither these nor their namespaces say: outboard, inboard-cni (a sidecar whose rules the node writes),
    /// or inboard (by an init container). Without it nodes have no agents, and pods capture themselves.
    #[arg(long, value_name = "MODE")]
    pub capture: Option<Capture>,
    /// Where the trust anchors are kept for the proxy in control's own pod, which asks for everything else over loopback.
    #[arg(long, value_name = "FILE", conflicts_with = "state")]
    pub anchors_file: Option<PathBuf>,
    /// Where proxies ask, with TLS.
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:15010")]
    pub grpc: SocketAddr,
    /// Where the API server asks: the webhook and the API, with TLS.
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:8443")]
    pub https: SocketAddr,
    /// Where the kubelet and Prometheus ask: /ready, /live and /metrics.
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:8080")]
    pub health: SocketAddr,
}

/// The same as it is typed; [`Source`] is what it means.
#[derive(Debug, Args)]
struct TypedSource {
    /// Directory with manifests/ and pods/; control makes ca/, control.sock and api.sock in it.
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with = "kubernetes",
        required_unless_present = "kubernetes"
    )]
    state: Option<PathBuf>,
    /// Objects come from the API server of the cluster that control runs in.
    #[arg(long)]
    kubernetes: bool,
    #[command(flatten)]
    cluster: Kubernetes,
}

// === impl Source ===

impl From<TypedSource> for Source {
    fn from(typed: TypedSource) -> Self {
        typed
            .state
            .map_or(Self::Kubernetes(typed.cluster), Self::State)
    }
}

impl Args for Source {
    fn augment_args(command: Command) -> Command {
        TypedSource::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        TypedSource::augment_args_for_update(command)
    }
}

impl FromArgMatches for Source {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        TypedSource::from_arg_matches(matches).map(Self::from)
    }

    fn update_from_arg_matches(&mut self, _: &ArgMatches) -> Result<(), clap::Error> {
        // Nothing here is ever parsed a second time.
        Err(clap::Error::new(ErrorKind::ArgumentConflict))
    }
}

/// Shorter ones are over before everybody has rotated, longer ones are no protection.
const LIFETIMES: std::ops::RangeInclusive<u64> = 10..=30 * 24 * 3600;

fn lifetime(text: &str) -> Result<Duration, String> {
    let unit = |unit: &str| text.strip_suffix(unit);
    let (number, seconds) = unit("h")
        .map(|number| (number, 3600))
        .or_else(|| unit("m").map(|number| (number, 60)))
        .or_else(|| unit("s").map(|number| (number, 1)))
        .ok_or("must be a number with s, m or h, such as 24h")?;
    let number: u64 = number
        .parse()
        .map_err(|_| "must be a number with s, m or h, such as 24h")?;
    let total = number.saturating_mul(seconds);
    if LIFETIMES.contains(&total) {
        Ok(Duration::from_secs(total))
    } else {
        Err("must be between 10s and 720h".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes() {
        for (text, seconds) in [
            ("24h", 86_400),
            ("60s", 60),
            ("5m", 300),
            ("720h", 2_592_000),
        ] {
            assert_eq!(lifetime(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "h",
            "24",
            "-1h",
            "9s",
            "721h",
            "1d",
            "99999999999999999999h",
        ] {
            assert!(lifetime(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_documented_command_line_is_taken() {
        let settings = Settings::try_parse_from([
            "maille-control",
            "--state",
            "/run/maille/x",
            "--trust-domain",
            "cluster.local",
            "--leaf-lifetime",
            "60s",
            "--cluster-range",
            "10.244.0.0/16",
            "--cluster-range",
            "fd00:244::/48",
        ])
        .unwrap();
        assert_eq!(settings.cluster_ranges.len(), 2);
        assert_eq!(settings.source, Source::State("/run/maille/x".into()));
    }

    #[test]
    fn the_source_is_one_or_the_other() {
        let parse = |text: &str| Settings::try_parse_from(text.split(' '));
        let settings = parse("maille-control --kubernetes --namespace mesh").unwrap();
        let Source::Kubernetes(cluster) = settings.source else {
            panic!("{settings:?}");
        };
        assert_eq!(cluster.namespace.as_ref().map(Name::as_str), Some("mesh"));
        assert_eq!(cluster.grpc.port(), 15010);
        for text in [
            "maille-control",
            "maille-control --kubernetes --state /x",
            "maille-control --state /x --namespace a",
            "maille-control --state /x --kubeconfig f",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
