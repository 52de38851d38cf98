// SPDX-License-Identifier: Apache-2.0
//! `maille-init`: captures the pod that it runs in, before anything else does, and ends. Run again it leaves the same behind.
//!
//! It needs CAP_NET_ADMIN in the pod's network and nothing else. Must never end well without the rules in force. Read
//! `capture/inboard.rs` for what they are, `capture/inboard/apply.rs` for how they
//! come into force.

use std::str::FromStr;

use maille_chassis::config::{Setting, SettingError, Source};
use maille_model::{Ports, PortsError};

use crate::capture::inboard::{By, Inboard, InsideError};

const USER: Setting = Setting::with_default(
    "MAILLE_PROXY_UID",
    "the number of the user that the proxy runs as, who is not captured; root cannot be it",
    "2102",
);
const SKIP_INBOUND: Setting = Setting::new(
    "MAILLE_SKIP_INBOUND_PORTS",
    "ports of the pod that are reached past the proxy, such as 22,9000-9010",
);
const SKIP_OUTBOUND: Setting = Setting::new(
    "MAILLE_SKIP_OUTBOUND_PORTS",
    "ports elsewhere that are dialled past the proxy, such as 3306",
);
const RULES: Setting = Setting::with_default(
    "MAILLE_RULES",
    "what redirects connections: nftables, legacy (the kernel's ip_tables), or auto: nftables, and legacy where the kernel has none",
    "auto",
);

/// Every setting of this program.
pub const SETTINGS: [Setting; 4] = [USER, SKIP_INBOUND, SKIP_OUTBOUND, RULES];

/// Why the pod is not captured.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// A setting.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The rules.
    #[error(transparent)]
    Inside(#[from] InsideError),
}

/// Captures the pod, and tells what is captured, and by what.
pub fn run(source: &dyn Source) -> Result<(Inboard, By), InitError> {
    let inboard = read(source)?;
    let by = inboard.apply_here(RULES.required(source)?)?;
    Ok((inboard, by))
}

struct User(u32);

struct Skipped(Ports);

fn read(source: &dyn Source) -> Result<Inboard, SettingError> {
    let ports = |setting: Setting| {
        let ports: Option<Skipped> = setting.optional(source)?;
        Ok(ports.map_or_else(Ports::default, |ports| ports.0))
    };
    Ok(Inboard {
        user: USER.required::<User>(source)?.0,
        skip_inbound: ports(SKIP_INBOUND)?,
        skip_outbound: ports(SKIP_OUTBOUND)?,
    })
}

impl FromStr for User {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(0) => Err("every program of the pod that runs as root would go past the proxy"),
            Ok(user) => Ok(Self(user)),
            Err(_) => Err("not the number of a user"),
        }
    }
}

impl FromStr for Skipped {
    type Err = PortsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn settings_are_read_or_named() {
        let none: HashMap<&str, &str> = HashMap::new();
        assert_eq!(read(&none).unwrap(), Inboard::default());
        let all = HashMap::from([
            ("MAILLE_PROXY_UID", "1337"),
            ("MAILLE_SKIP_INBOUND_PORTS", "22"),
            ("MAILLE_SKIP_OUTBOUND_PORTS", "443,80"),
        ]);
        let inboard = read(&all).unwrap();
        assert_eq!(
            (inboard.user, inboard.skip_outbound.contains(80)),
            (1337, true)
        );
        for (key, value) in [
            ("MAILLE_PROXY_UID", "0"),
            ("MAILLE_PROXY_UID", "maille"),
            ("MAILLE_SKIP_INBOUND_PORTS", "ssh"),
            ("MAILLE_SKIP_OUTBOUND_PORTS", "0-9"),
        ] {
            let said = read(&HashMap::from([(key, value)]))
                .unwrap_err()
                .to_string();
            assert!(said.starts_with(key), "{said}");
        }
    }
}
