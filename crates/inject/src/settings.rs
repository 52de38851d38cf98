// SPDX-License-Identifier: Apache-2.0
//! Where control is, who it must be, and which images run beside applications. Parsed once; read by `sidecar.rs`.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use maille_model::Identity;

use crate::sandbox::Handlers;

/// Everything that an injected pod needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The version that is written to what is injected.
    pub version: String,
    /// The proxy's image.
    pub proxy_image: String,
    /// The image of the container that captures.
    pub init_image: String,
    /// Where proxies reach control.
    pub control: ControlAddress,
    /// Whom they believe to be control.
    pub control_identity: Identity,
    /// Who captures pods.
    pub nodes: Nodes,
    /// What is known of runtime classes.
    pub handlers: Handlers,
}

/// Whether nodes have the mesh's agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Nodes {
    /// Nothing of the mesh is on them; pods capture themselves.
    #[default]
    Bare,
    /// Each has an agent and a CNI plugin. Pods are captured so where neither they nor their namespaces say how.
    Agents(Capture),
}

/// How a pod's packets reach its proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Capture {
    /// From inside the pod: a sidecar, and an init container that writes the rules.
    #[default]
    Inboard,
    /// The same, but the agent of its node writes the rules: no container of the pod has a right.
    InboardCni,
    /// From outside, by the agent of its node; nothing is in the pod.
    Outboard,
}

/// `ADDRESS:PORT`. Never a name: proxies need no DNS, so that DNS itself can be meshed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlAddress(SocketAddr);

/// Why settings are none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Not an address and a port.
    #[error("{0:?} is not ADDRESS:PORT, as in 10.96.3.7:15010 or [fd00::7]:15010")]
    Address(String),
    /// Not a way to capture.
    #[error("{0:?} is no way to capture: use inboard, inboard-cni or outboard")]
    Capture(String),
    /// Not a part of an image's name.
    #[error("{0:?} is not what an image's name begins with, as in registry.example.com/maille")]
    ImagePrefix(String),
}

impl Settings {
    /// For a mesh of this `version`, whose images have names that begin with `prefix`.
    pub fn new(
        version: &str,
        prefix: &str,
        control: ControlAddress,
        control_identity: Identity,
    ) -> Result<Self, SettingsError> {
        let image = image(prefix, "proxy", version)?;
        Ok(Self {
            version: version.to_owned(),
            proxy_image: image.clone(),
            init_image: image,
            control,
            control_identity,
            nodes: Nodes::Bare,
            handlers: Handlers::new(),
        })
    }
}

// === impl Nodes ===

impl Nodes {
    /// How a pod is captured where nobody says.
    pub const fn usual(self) -> Capture {
        match self {
            Self::Bare => Capture::Inboard,
            Self::Agents(usual) => usual,
        }
    }

    /// Whether pods can be captured so.
    pub const fn can(self, capture: Capture) -> bool {
        matches!(
            (self, capture),
            (Self::Agents(_), _) | (Self::Bare, Capture::Inboard)
        )
    }
}

// === impl Capture ===

impl Capture {
    /// As annotations, labels and options say it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Inboard => "inboard",
            Self::InboardCni => "inboard-cni",
            Self::Outboard => "outboard",
        }
    }
}

impl fmt::Display for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Capture {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Self, SettingsError> {
        match text {
            "inboard" => Ok(Self::Inboard),
            "inboard-cni" => Ok(Self::InboardCni),
            "outboard" => Ok(Self::Outboard),
            other => Err(SettingsError::Capture(other.chars().take(80).collect())),
        }
    }
}

/// `PREFIX/NAME:VERSION`.
pub(crate) fn image(prefix: &str, name: &str, version: &str) -> Result<String, SettingsError> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-/:".contains(&b);
    let whole = prefix.split('/').all(|part| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric()) && !part.ends_with([':', '.', '-'])
    });
    if prefix.len() > 200 || !prefix.bytes().all(fits) || !whole {
        return Err(SettingsError::ImagePrefix(prefix.to_owned()));
    }
    Ok(format!("{prefix}/{name}:{version}"))
}

// === impl ControlAddress ===

impl From<SocketAddr> for ControlAddress {
    fn from(address: SocketAddr) -> Self {
        Self(address)
    }
}

impl FromStr for ControlAddress {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Self, SettingsError> {
        let address = text.parse::<SocketAddr>().ok();
        let address = address.filter(|address| address.port() != 0);
        address
            .map(Self)
            .ok_or_else(|| SettingsError::Address(text.chars().take(200).collect()))
    }
}

impl fmt::Display for ControlAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for good in ["10.96.0.7:15010", "[fd00::7]:15010"] {
            assert_eq!(good.parse::<ControlAddress>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "10.96.0.7",
            "10.96.0.7:0",
            "10.96.0.7:65536",
            "300.1.2.3:15010",
            "fd00::7:15010",
            "https://10.96.0.7:443",
            "control.example.com:15010",
            ":15010",
        ] {
            assert!(bad.parse::<ControlAddress>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn images() {
        assert_eq!(
            image("registry.example.com:5000/team/maille", "proxy", "1.0.0"),
            Ok("registry.example.com:5000/team/maille/proxy:1.0.0".to_owned())
        );
        for bad in ["", "/", "a//b", "a/", "A", "a b", "a\nb", "-a"] {
            assert!(image(bad, "proxy", "1").is_err(), "{bad:?}");
        }
    }
}
