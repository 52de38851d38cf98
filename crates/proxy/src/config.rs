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
use maille_model::WorkloadUid;

use crate::outcome::Access;

const WORKLOAD: Setting = Setting::new(
    "MAILLE_WORKLOAD",
    "the uid of the pod that this proxy serves",
);
const AGENT: Setting = Setting::new(
    "MAILLE_AGENT",
    "the node agent's socket, such as /run/maille/pods/UID/agent.sock",
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

/// Every setting of this process.
pub const SETTINGS: [Setting; 19] = [
    WORKLOAD,
    AGENT,
    ADMIN,
    OUTBOUND,
    INBOUND,
    MESH,
    METRICS,
    OUTBOUND_TO,
    INBOUND_TO,
    SOURCE,
    MARK,
    DRAIN,
    LOG,
    ACCESS_LOG,
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
    /// The socket to ask for configuration and certificates, and to report to.
    pub agent: PathBuf,
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

/// Whose address an application sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceAddress {
    /// The client's.
    Keep,
    /// The proxy's.
    Own,
}

struct Uid(WorkloadUid);

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
        Ok(Self {
            workload: WORKLOAD.required::<Uid>(source)?.0,
            agent: AGENT.required(source)?,
            admin: ADMIN.optional(source)?,
            outbound: door(OUTBOUND, Some(OUTBOUND_TO))?,
            inbound: door(INBOUND, Some(INBOUND_TO))?,
            mesh: door(MESH, None)?,
            metrics: METRICS.optional(source)?,
            inherited: listen::inherited(source)?,
            source: SOURCE.required(source)?,
            mark: MARK.optional(source)?,
            drain: Duration::from_secs(DRAIN.required::<u32>(source)?.into()),
            log: LOG.required(source)?,
            access: ACCESS_LOG.required(source)?,
            log_format: log::FORMAT.required(source)?,
            without: without::SETTING.required(source)?,
        })
    }
}

impl FromStr for Uid {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        WorkloadUid::new(text).map(Self).ok_or("not a uid")
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
mod tests {
    use std::cell::RefCell;
    use std::collections::{BTreeSet, HashMap};

    use super::*;

    fn minimal() -> HashMap<&'static str, &'static str> {
        HashMap::from([
            ("MAILLE_WORKLOAD", "uid-1"),
            ("MAILLE_AGENT", "/x/agent.sock"),
        ])
    }

    #[test]
    fn the_least_and_the_defaults() {
        let config = Config::read(&minimal()).unwrap();
        assert_eq!(config.workload.as_str(), "uid-1");
        assert_eq!(config.outbound, Door::default());
        assert_eq!(config.source, SourceAddress::Own);
        assert_eq!(
            (config.drain, config.log.as_str()),
            (Duration::from_secs(10), "info")
        );
        assert!(config.inherited.is_empty() && config.mark.is_none() && config.admin.is_none());
    }

    /// Notes what is asked for.
    #[derive(Default)]
    struct Asked(RefCell<BTreeSet<String>>);

    impl Source for Asked {
        fn get(&self, key: &str) -> Option<String> {
            self.0.borrow_mut().insert(key.to_owned());
            minimal().get(key).map(|value| (*value).to_owned())
        }
    }

    #[test]
    fn what_is_read_is_listed_and_what_is_listed_is_read() {
        let asked = Asked::default();
        Config::read(&asked).unwrap();
        // Named only where sockets were passed; read when the process is ready.
        let later = [listen::SETTINGS[1].key, notify::SOCKET.key];
        let mut asked = asked.0.into_inner();
        asked.extend(later.map(str::to_owned));
        let listed: BTreeSet<_> = SETTINGS.iter().map(|one| one.key.to_owned()).collect();
        assert_eq!(asked, listed);
        assert_eq!(listed.len(), SETTINGS.len());
    }

    #[test]
    fn everything() {
        let mut all = minimal();
        all.extend([
            ("MAILLE_OUTBOUND", "127.0.0.1:15001"),
            ("MAILLE_OUTBOUND_TO", "10.96.0.1:80"),
            ("MAILLE_MESH", "[::]:15008"),
            ("MAILLE_LOG", "warn"),
            ("MAILLE_ACCESS_LOG", "json"),
            ("MAILLE_SOURCE", "keep"),
            ("MAILLE_MARK", "2"),
            ("MAILLE_DRAIN_SECONDS", "0"),
            ("LISTEN_FDS", "1"),
            ("LISTEN_FDNAMES", "inbound"),
        ]);
        let config = Config::read(&all).unwrap();
        assert_eq!(config.outbound.to, Some("10.96.0.1:80".parse().unwrap()));
        assert_eq!((config.source, config.mark), (SourceAddress::Keep, Some(2)));
        assert_eq!(config.drain, Duration::ZERO);
        assert_eq!(config.inherited[0].name, "inbound");
        assert_eq!(config.log, "warn");
        assert_eq!(config.access, Access::On(Format::Json));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (key, value) in [
            ("MAILLE_WORKLOAD", ""),
            ("MAILLE_WORKLOAD", "a/b"),
            ("MAILLE_AGENT", ""),
            ("MAILLE_MESH", "15008"),
            ("MAILLE_SOURCE", "client"),
            ("MAILLE_MARK", "-1"),
            ("MAILLE_DRAIN_SECONDS", "long"),
            ("MAILLE_LOG_FORMAT", "xml"),
            ("MAILLE_ACCESS_LOG", "on"),
        ] {
            let mut settings = minimal();
            settings.insert(key, value);
            let said = Config::read(&settings).unwrap_err().to_string();
            assert!(said.starts_with(key), "{said}");
        }
    }
}
