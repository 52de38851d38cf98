// SPDX-License-Identifier: Apache-2.0
//! This process's settings, read once from the environment. Each is declared here, once, with what belongs there.
//!
//! A setting that is there but wrong is an error, never replaced by a default. Read `process.rs` next.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use maille_chassis::config::{Setting, SettingError, Source};
use maille_chassis::listen::{self, Inherited};
use maille_chassis::log::{self, Format};
use maille_chassis::notify;
use maille_chassis::without::{self, Without};
use maille_model::{Identity, IdentityError, WorkloadUid};

use crate::control::Way;
use crate::control::direct::Direct;
use crate::outcome::Access;
use crate::route::Front;

const WORKLOAD: Setting = Setting::new(
    "MAILLE_WORKLOAD",
    "the uid of the pod that this proxy serves",
);
const AGENT: Setting = Setting::new(
    "MAILLE_AGENT",
    "the node agent's socket, such as /run/maille/pods/UID/agent.sock; without a node agent MAILLE_CONTROL is set instead",
);
const CONTROL: Setting = Setting::new(
    "MAILLE_CONTROL",
    "control's address and port, such as 10.96.0.20:15010, where there is no node agent; an address, as DNS may be behind this proxy",
);
const CONTROL_IDENTITY: Setting = Setting::with_default(
    "MAILLE_CONTROL_IDENTITY",
    "whom the certificate at MAILLE_CONTROL must be for",
    "spiffe://cluster.local/ns/maille-system/sa/maille-control",
);
const TRUST: Setting = Setting::with_default(
    "MAILLE_TRUST",
    "the file of the mesh's trust anchors, in PEM, read anew for each use; for MAILLE_CONTROL",
    "/var/run/maille/trust/ca.crt",
);
const TOKEN: Setting = Setting::with_default(
    "MAILLE_TOKEN",
    "the file of the pod's token for control, read anew for each use; for MAILLE_CONTROL",
    "/var/run/maille/token/token",
);
const ADMIN: Setting = Setting::new(
    "MAILLE_ADMIN",
    "where to bind the socket for metrics and questions, such as /run/maille/pods/UID/admin.sock",
);
const OUTBOUND: Setting = Setting::new(
    "MAILLE_OUTBOUND",
    "where to take what the application dials, such as 127.0.0.1:15001, when no sockets are passed",
);
const INBOUND: Setting = Setting::new(
    "MAILLE_INBOUND",
    "where to take what is sent to the application in plain text, such as 127.0.0.1:15006, when no sockets are passed",
);
const MESH: Setting = Setting::new(
    "MAILLE_MESH",
    "where to take what other proxies send, such as 127.0.0.1:15008, when no sockets are passed",
);
const METRICS: Setting = Setting::new(
    "MAILLE_METRICS",
    "where to answer for metrics and readiness to whoever can reach it, such as 127.0.0.1:4191, when no sockets are passed",
);
const OUTBOUND_TO: Setting = Setting::new(
    "MAILLE_OUTBOUND_TO",
    "for tests: what every outbound connection meant to dial, such as 10.96.0.20:80",
);
const INBOUND_TO: Setting = Setting::new(
    "MAILLE_INBOUND_TO",
    "for tests: what every inbound connection meant to dial, such as 10.244.0.2:8080",
);
const CAPTURE: Setting = Setting::with_default(
    "MAILLE_CAPTURE",
    "how connections come to the sockets that are bound here: tproxy (their own address is where they were going), redirect (the kernel remembers it) or \
     none (clients dial the port of MAILLE_INBOUND, which is in front of MAILLE_APPLICATION)",
    "tproxy",
);
const APPLICATION: Setting = Setting::new(
    "MAILLE_APPLICATION",
    "where the application listens that the port of MAILLE_INBOUND is in front of, such as 127.0.0.1:8081; with MAILLE_CAPTURE=none",
);
const SOURCE: Setting = Setting::with_default(
    "MAILLE_SOURCE",
    "whose address the application sees: keep (the client's) or own",
    "own",
);
const MARK: Setting = Setting::new(
    "MAILLE_MARK",
    "the SO_MARK of sockets towards the application, such as 2",
);
const DRAIN: Setting = Setting::with_default(
    "MAILLE_DRAIN_SECONDS",
    "how long open requests may take at the end",
    "10",
);
const LOG: Setting = log::filter("info");
const ACCESS_LOG: Setting = Setting::with_default(
    "MAILLE_ACCESS_LOG",
    "off, json or text: a line for each request and connection",
    "off",
);

const INSIDE: Setting = Setting::with_default(
    "MAILLE_INSIDE",
    "refused or allowed: whether what goes through mesh connections is shown in plain text to whoever may ask",
    "refused",
);

/// Every setting of this process.
pub const SETTINGS: [Setting; 26] = [
    WORKLOAD,
    AGENT,
    CONTROL,
    CONTROL_IDENTITY,
    TRUST,
    TOKEN,
    ADMIN,
    OUTBOUND,
    INBOUND,
    MESH,
    METRICS,
    OUTBOUND_TO,
    INBOUND_TO,
    CAPTURE,
    APPLICATION,
    SOURCE,
    MARK,
    DRAIN,
    LOG,
    ACCESS_LOG,
    INSIDE,
    log::FORMAT,
    without::SETTING,
    listen::SETTINGS[0],
    listen::SETTINGS[1],
    notify::SOCKET,
];

/// All settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whom this proxy serves.
    pub workload: WorkloadUid,
    /// Whom to ask for configuration and certificates, and to report to.
    pub control: Way,
    /// Where to answer people and Prometheus, if anywhere.
    pub admin: Option<PathBuf>,
    /// For what the application dials.
    pub outbound: Door,
    /// For what is sent to the application in plain text.
    pub inbound: Door,
    /// For other proxies.
    pub mesh: Door,
    /// For questions to the proxy itself.
    pub metrics: Option<SocketAddr>,
    /// Sockets that a supervisor passed on.
    pub inherited: Vec<Inherited>,
    /// How connections come to the sockets that are bound here.
    pub capture: Capture,
    /// The port that clients dial in place of the application's.
    pub front: Option<Front>,
    /// Whose address the application sees.
    pub source: SourceAddress,
    /// SO_MARK of sockets towards the application.
    pub mark: Option<u32>,
    /// How long open requests may take at the end.
    pub drain: Duration,
    /// What is logged.
    pub log: String,
    /// How log lines look.
    pub log_format: Format,
    /// Whether there is an access log, and how its lines look.
    pub access: Access,
    /// Whether what goes through mesh connections may be shown.
    pub inside: Inside,
    /// Protections that a test left out.
    pub without: Without,
}

/// Where connections of one kind are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Door {
    /// Bound here when no socket was passed.
    pub bind: Option<SocketAddr>,
    /// What every connection meant to dial, in place of what the socket says.
    pub to: Option<SocketAddr>,
}

/// How captured connections come to a socket of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capture {
    /// With their addresses kept, by TPROXY.
    Tproxy,
    /// Redirected, their destination kept in the kernel's connection tracking.
    Redirect,
    /// Nobody captures: clients dial the proxy.
    None,
}

/// Whose address an application sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceAddress {
    /// The client's.
    Keep,
    /// The proxy's.
    Own,
}

/// Whether what goes through mesh connections is shown in plain text to whoever may ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inside {
    /// Nobody sees it.
    #[default]
    Refused,
    /// The pod's owner has agreed.
    Allowed,
}

struct Uid(WorkloadUid);

/// An address that can be dialled.
struct At(SocketAddr);

struct Of(Identity);

// === impl Config ===

impl Config {
    /// Reads every setting. Refuses at the first that is missing or wrong.
    pub fn read(source: &dyn Source) -> Result<Self, SettingError> {
        let door = |bind: Setting, to: Option<Setting>| {
            Ok(Door {
                bind: bind.optional(source)?,
                to: to.map_or(Ok(None), |to| to.optional(source))?,
            })
        };
        let (capture, inbound) = (CAPTURE.required(source)?, door(INBOUND, Some(INBOUND_TO))?);
        Ok(Self {
            workload: WORKLOAD.required::<Uid>(source)?.0,
            control: way(source)?,
            admin: ADMIN.optional(source)?,
            outbound: door(OUTBOUND, Some(OUTBOUND_TO))?,
            inbound,
            mesh: door(MESH, None)?,
            metrics: METRICS.optional(source)?,
            inherited: listen::inherited(source)?,
            capture,
            front: front(source, capture, inbound)?,
            source: SOURCE.required(source)?,
            mark: MARK.optional(source)?,
            drain: Duration::from_secs(DRAIN.required::<u32>(source)?.into()),
            log: LOG.required(source)?,
            access: ACCESS_LOG.required(source)?,
            inside: INSIDE.required(source)?,
            log_format: log::FORMAT.required(source)?,
            without: without::SETTING.required(source)?,
        })
    }
}

/// Where nobody captures there is one port, and somebody behind it; where somebody does there is no such thing.
fn front(
    source: &dyn Source,
    capture: Capture,
    inbound: Door,
) -> Result<Option<Front>, SettingError> {
    let application: Option<At> = APPLICATION.optional(source)?;
    match (capture, inbound.bind, application) {
        (Capture::None, Some(bind), Some(At(application))) => Ok(Some(Front {
            port: bind.port(),
            application,
        })),
        (Capture::None, None, _) => Err(SettingError::Missing {
            key: INBOUND.key,
            help: INBOUND.help,
        }),
        (Capture::None, Some(_), None) => Err(SettingError::Missing {
            key: APPLICATION.key,
            help: APPLICATION.help,
        }),
        (Capture::Tproxy | Capture::Redirect, _, None) => Ok(None),
        (Capture::Tproxy | Capture::Redirect, _, Some(At(application))) => {
            Err(SettingError::Unusable {
                key: APPLICATION.key,
                value: application.to_string(),
                reason: format!("{} is not none", CAPTURE.key),
                help: APPLICATION.help,
            })
        }
    }
}

/// Exactly one of both ways must be set.
fn way(source: &dyn Source) -> Result<Way, SettingError> {
    let agent: Option<PathBuf> = AGENT.optional(source)?;
    let address: Option<At> = CONTROL.optional(source)?;
    let (identity, trust, token) = (
        CONTROL_IDENTITY.required::<Of>(source)?.0,
        TRUST.required(source)?,
        TOKEN.required(source)?,
    );
    match (agent, address) {
        (None, Some(At(address))) => Ok(Way::Direct(Direct {
            address,
            identity,
            trust,
            token,
        })),
        (Some(agent), None) => Ok(Way::Agent(agent)),
        (Some(_), Some(At(address))) => Err(SettingError::Unusable {
            key: CONTROL.key,
            value: address.to_string(),
            reason: format!("{} is set too, and there is one way only", AGENT.key),
            help: CONTROL.help,
        }),
        (None, None) => Err(SettingError::Missing {
            key: AGENT.key,
            help: AGENT.help,
        }),
    }
}

impl FromStr for At {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address: SocketAddr = text.parse().map_err(|_| "not an address with a port")?;
        if address.ip().is_unspecified() || address.port() == 0 {
            return Err("nobody can be dialled there");
        }
        Ok(Self(address))
    }
}

impl FromStr for Of {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl FromStr for Capture {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "tproxy" => Ok(Self::Tproxy),
            "redirect" => Ok(Self::Redirect),
            "none" => Ok(Self::None),
            _ => Err("neither tproxy nor redirect nor none"),
        }
    }
}

impl FromStr for Uid {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        WorkloadUid::new(text).map(Self).ok_or("not a uid")
    }
}

impl FromStr for Inside {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "refused" => Ok(Self::Refused),
            "allowed" => Ok(Self::Allowed),
            _ => Err("neither refused nor allowed"),
        }
    }
}

impl FromStr for SourceAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "keep" => Ok(Self::Keep),
            "own" => Ok(Self::Own),
            _ => Err("neither keep nor own"),
        }
    }
}

#[cfg(test)]
mod tests;
