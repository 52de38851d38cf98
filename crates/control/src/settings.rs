// SPDX-License-Identifier: Apache-2.0
//! The command line of `maille-control`. Every setting is declared once, here. Read [`crate::run`] next.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use ipnet::IpNet;
use maille_chassis::config::Setting;
use maille_chassis::{log, notify};
use maille_model::TrustDomain;

/// What is logged.
pub const LOG: Setting = log::filter("info");

/// Every setting that comes from the environment.
pub const ENVIRONMENT: [Setting; 3] = [LOG, log::FORMAT, notify::SOCKET];

/// The control plane and certificate authority of one mesh.
#[derive(Clone, Debug, Parser)]
#[command(name = "maille-control", version)]
pub struct Settings {
    /// Directory with manifests/ and pods/; control makes ca/, control.sock and api.sock in it.
    #[arg(long, value_name = "DIR")]
    pub state: PathBuf,
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
        assert!(Settings::try_parse_from(["maille-control"]).is_err());
    }
}
