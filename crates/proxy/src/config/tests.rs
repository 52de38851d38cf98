// SPDX-License-Identifier: Apache-2.0
//! Settings that are there, missing or wrong.

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
fn control_is_reached_by_an_agent_or_by_itself() {
    let config = Config::read(&minimal()).unwrap();
    assert_eq!(config.control.to_string(), "agent at /x/agent.sock");
    let mut direct = minimal();
    direct.remove("MAILLE_AGENT");
    direct.insert("MAILLE_CONTROL", "[fd00:96::20]:15010");
    let Way::Direct(direct) = Config::read(&direct).unwrap().control else {
        panic!("not direct")
    };
    assert_eq!(direct.address, "[fd00:96::20]:15010".parse().unwrap());
    assert_eq!(direct.identity.service_account.as_str(), "maille-control");
    assert!(direct.trust.is_absolute() && direct.token.is_absolute());
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
        ("MAILLE_CAPTURE", "redirect"),
        ("MAILLE_SOURCE", "keep"),
        ("MAILLE_MARK", "2"),
        ("MAILLE_DRAIN_SECONDS", "0"),
        ("LISTEN_FDS", "1"),
        ("LISTEN_FDNAMES", "inbound"),
    ]);
    let config = Config::read(&all).unwrap();
    assert_eq!(config.outbound.to, Some("10.96.0.1:80".parse().unwrap()));
    assert_eq!((config.source, config.mark), (SourceAddress::Keep, Some(2)));
    assert_eq!(config.capture, Capture::Redirect);
    assert_eq!(config.drain, Duration::ZERO);
    assert_eq!(config.inherited[0].name, "inbound");
    assert_eq!(config.log, "warn");
    assert_eq!(config.access, Access::On(Format::Json));
}

#[test]
fn a_port_in_front_of_an_application_has_both_ends() {
    let with = |more: &[(&'static str, &'static str)]| {
        let mut settings = minimal();
        settings.extend(more.iter().copied());
        Config::read(&settings)
    };
    let (none, inbound, application) = (
        ("MAILLE_CAPTURE", "none"),
        ("MAILLE_INBOUND", "[::]:8080"),
        ("MAILLE_APPLICATION", "127.0.0.1:8081"),
    );
    let front = with(&[none, inbound, application]).unwrap().front;
    let application_at = "127.0.0.1:8081".parse().unwrap();
    assert_eq!(
        front,
        Some(Front {
            port: 8080,
            application: application_at
        })
    );
    for (settings, named) in [
        (vec![none, inbound], "MAILLE_APPLICATION"),
        (vec![none, application], "MAILLE_INBOUND"),
        (vec![inbound, application], "MAILLE_APPLICATION"),
    ] {
        let said = with(&settings).unwrap_err().to_string();
        assert!(said.starts_with(named), "{said}");
    }
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    for (key, value) in [
        ("MAILLE_WORKLOAD", ""),
        ("MAILLE_WORKLOAD", "a/b"),
        ("MAILLE_AGENT", ""),
        ("MAILLE_CONTROL", "10.96.0.20:15010"),
        ("MAILLE_CONTROL", "maille-control:15010"),
        ("MAILLE_CONTROL", "0.0.0.0:15010"),
        ("MAILLE_CONTROL_IDENTITY", "maille-control"),
        ("MAILLE_CAPTURE", "iptables"),
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
