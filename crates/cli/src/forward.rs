// SPDX-License-Identifier: Apache-2.0
//! `maille port-forward`: local ports that lead into a pod, as if one were inside it: what listens on its loopback only is reached, too.
//!
//! Must never listen on anything but loopback unless it is told to. Read `pods_of.rs` for which pod it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;

use anyhow::Context as _;
use http::StatusCode;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::args::orders::PortForward;
use crate::failure::Expected;
use crate::mesh::StopSignals;
use crate::node;
use crate::pods_of::{Chosen, choose};
use crate::screen::{Screen, print};
use crate::state::{Base, State};

/// `LOCAL:REMOTE`, `REMOTE` or `:REMOTE`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ports {
    /// 0: any that is free.
    local: u16,
    /// A number, or a name that a Service or a container gives.
    remote: String,
}

impl Ports {
    fn parse(text: &str) -> Result<Self, Expected> {
        let wrong = || Expected::Wrong {
            what: format!("{text:?} is no pair of ports"),
            hint: "say LOCAL:REMOTE, such as 8080:80; REMOTE alone is the same on both sides"
                .to_owned(),
        };
        let (local, remote) = match text.split_once(':') {
            Some(("", remote)) => (0, remote),
            Some((local, remote)) => (local.parse().map_err(|_| wrong())?, remote),
            None => (text.parse().unwrap_or(0), text),
        };
        let digits = remote.bytes().all(|byte| byte.is_ascii_digit());
        if remote.contains(':') || digits && !matches!(remote.parse::<u16>(), Ok(1..)) {
            return Err(wrong());
        }
        let remote = remote.to_owned();
        Ok(Self { local, remote })
    }
}

pub(crate) async fn run(
    args: &PortForward,
    base: &Base,
    screen: Screen,
) -> anyhow::Result<ExitCode> {
    let pairs: Vec<Ports> = args
        .ports
        .iter()
        .map(|text| Ports::parse(text))
        .collect::<Result<_, _>>()?;
    let state = base.state(&args.which.name)?;
    let chosen = choose(&state, &args.target, args.namespace.as_deref(), screen).await?;
    let mut listeners = JoinSet::new();
    for pair in pairs {
        let port = target(&chosen, &pair.remote)?;
        for listener in listen(&args.address, pair.local).await? {
            let at = listener.local_addr()?;
            print(&format!("Forwarding from {at} -> {port}"))?;
            let path = format!("{}/port-forward?port={port}", chosen.path());
            listeners.spawn(accept(listener, state.clone(), path, at, screen));
        }
    }
    let mut stop = StopSignals::watch()?;
    tokio::select! {
        () = stop.next() => Ok(ExitCode::SUCCESS),
        Some(ended) = listeners.join_next() => ended?.map(|()| ExitCode::SUCCESS),
    }
}

/// Both families on the same port, as far as there are both.
async fn listen(addresses: &[IpAddr], local: u16) -> anyhow::Result<Vec<TcpListener>> {
    if !addresses.is_empty() {
        let mut listeners = Vec::new();
        for address in addresses {
            let at = SocketAddr::new(*address, local);
            let bound = TcpListener::bind(at).await;
            listeners.push(bound.with_context(|| format!("failed to listen on {at}"))?);
        }
        return Ok(listeners);
    }
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, local));
    let four = TcpListener::bind(at)
        .await
        .with_context(|| format!("failed to listen on {at}"))?;
    let six = SocketAddr::from((Ipv6Addr::LOCALHOST, four.local_addr()?.port()));
    let mut listeners = vec![four];
    // A machine without IPv6 has but one; a port that is taken there is somebody else's.
    listeners.extend(TcpListener::bind(six).await);
    Ok(listeners)
}

async fn accept(
    listener: TcpListener,
    state: State,
    path: String,
    at: SocketAddr,
    screen: Screen,
) -> anyhow::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let (socket, _) = listener.accept().await?;
        screen.say(&format!("Handling connection for {}", at.port()));
        let (state, path) = (state.clone(), path.clone());
        connections.spawn(async move {
            if let Err(error) = carry(socket, &state, &path).await {
                screen.say(&format!("{} {error:#}", screen.red("error:")));
            }
        });
    }
}

async fn carry(mut socket: TcpStream, state: &State, path: &str) -> anyhow::Result<()> {
    let response = node::upgrade(state, path, None).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (status, body) = node::whole(response).await?;
        return Err(node::refused(status, &body).into());
    }
    let mut upgraded = TokioIo::new(hyper::upgrade::on(response).await?);
    // A side that breaks off is its own business.
    let _ = tokio::io::copy_bidirectional(&mut socket, &mut upgraded).await;
    Ok(())
}

/// The pod's port that `remote` means: a Service's port leads to its target.
fn target(chosen: &Chosen, remote: &str) -> Result<u16, Expected> {
    let unknown = |what: String| Expected::Unknown {
        what,
        hint: "use the number of a port".to_owned(),
    };
    let mut wanted = Value::from(remote);
    if let Ok(number) = remote.parse::<u16>() {
        wanted = Value::from(number);
    }
    if chosen.object["kind"] == "Service" {
        let ports = chosen.object["spec"]["ports"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let found = ports
            .iter()
            .find(|port| port["port"] == wanted || port["name"] == wanted);
        let Some(port) = found else {
            let all: Vec<String> = ports.iter().map(|port| port["port"].to_string()).collect();
            let what = format!(
                "the service has no port {remote}; it has {}",
                all.join(", ")
            );
            return Err(unknown(what));
        };
        let target = &port["targetPort"];
        wanted = if target.is_null() {
            port["port"].clone()
        } else {
            target.clone()
        };
    }
    if let Some(number) = wanted
        .as_u64()
        .and_then(|number| u16::try_from(number).ok())
    {
        return Ok(number);
    }
    let containers = chosen.pod["spec"]["containers"].as_array();
    let mut ports = containers
        .into_iter()
        .flatten()
        .flat_map(|one| one["ports"].as_array())
        .flatten();
    let named = ports.find(|port| port["name"] == wanted);
    let number = named.and_then(|port| u16::try_from(port["containerPort"].as_u64()?).ok());
    number.ok_or_else(|| {
        unknown(format!(
            "no container has a port named {}",
            wanted.as_str().unwrap_or(remote)
        ))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pairs_are_those_of_kubectl() {
        let pair = |text: &str| {
            Ports::parse(text)
                .map(|pair| (pair.local, pair.remote))
                .ok()
        };
        assert_eq!(pair("8080:80"), Some((8080, "80".to_owned())));
        assert_eq!(pair("80"), Some((80, "80".to_owned())));
        assert_eq!(pair(":80"), Some((0, "80".to_owned())));
        assert_eq!(pair("8080:http"), Some((8080, "http".to_owned())));
        for wrong in [
            "", ":", "x:80", "70000:80", "1:2:3", "80:", "8080:0", "99999", "0",
        ] {
            assert_eq!(pair(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_services_port_leads_to_its_target() {
        let pod = json!({"kind": "Pod", "spec": {"containers": [{"name": "a", "ports": [{"name": "web", "containerPort": 8080}]}]}});
        let service = json!({"kind": "Service", "spec": {"ports": [
            {"name": "http", "port": 80, "targetPort": "web"}, {"name": "admin", "port": 81, "targetPort": 9000}, {"port": 82}]}});
        let of = |object: &Value, remote: &str| {
            let (object, pod) = (object.clone(), pod.clone());
            target(&Chosen { object, pod }, remote).ok()
        };
        assert_eq!(of(&service, "80"), Some(8080));
        assert_eq!(of(&service, "http"), Some(8080));
        assert_eq!(of(&service, "admin"), Some(9000));
        assert_eq!(of(&service, "82"), Some(82));
        assert_eq!(of(&service, "8080"), None);
        assert_eq!(of(&pod, "8080"), Some(8080));
        assert_eq!(of(&pod, "web"), Some(8080));
        assert_eq!(of(&pod, "gone"), None);
    }
}
