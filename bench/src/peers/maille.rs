// SPDX-License-Identifier: Apache-2.0
//! Maille: real control, real certificates, explicit ports. Identity, metrics, discovery and strict parsing are on, as they always are. Used by
//! `peers.rs`, and by `counts.rs` with a tool around each proxy.

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use maille_chassis::clock::Clock;

use super::{Carries, Pair, Peer, Under, backend};
use crate::lab::{Core, Lab, Process, Side};

/// How a pair is looked at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Looked {
    /// The program around the client's and the server's proxy.
    pub(crate) under: Option<[Under; 2]>,
    /// Whether they write an access log.
    pub(crate) logged: bool,
}

/// The pair of one of the things that are carried has addresses of its own: an address is one pod's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    client: Ipv4Addr,
    server: Ipv4Addr,
    pub(super) service: Ipv4Addr,
}

pub(super) fn addresses(carries: Carries) -> Addresses {
    let n = carries as u8;
    Addresses {
        client: Ipv4Addr::new(10, 251, 0, 1 + 2 * n),
        server: Ipv4Addr::new(10, 251, 0, 2 + 2 * n),
        service: Ipv4Addr::new(10, 96, 1, 1 + n),
    }
}

fn backend_port(carries: Carries) -> u16 {
    match carries {
        Carries::Http1 | Carries::Tcp => 8080,
        Carries::Http2 => 8082,
    }
}

/// Starts the backend and a pair for HTTP/1.1, with what looks at it.
pub(crate) fn watched(
    lab: &Lab,
    bin_dir: &Path,
    looked: &Looked,
) -> anyhow::Result<(Vec<Process>, Pair)> {
    let mut support = Vec::from(backend::start(lab)?);
    support.push(control(lab, bin_dir, None)?);
    Ok((support, pair(lab, bin_dir, Carries::Http1, looked)?))
}

/// Starts the backend and a pair for HTTP/1.1, whose certificates are good for so long.
pub(crate) fn soaked(
    lab: &Lab,
    bin_dir: &Path,
    certificates: &str,
) -> anyhow::Result<(Vec<Process>, Pair)> {
    let mut support = Vec::from(backend::start(lab)?);
    support.push(control(lab, bin_dir, Some(certificates))?);
    let pair = pair(lab, bin_dir, Carries::Http1, &Looked::default())?;
    Ok((support, pair))
}

const COMING: Ipv4Addr = Ipv4Addr::new(10, 251, 0, 100);

/// One more pod behind the Service for HTTP/1.1, outside the mesh: the backend, at another address.
#[derive(Debug)]
pub(crate) struct Coming {
    state: PathBuf,
}

impl Coming {
    /// Of the world whose control runs.
    pub(crate) fn of(lab: &Lab) -> anyhow::Result<Self> {
        lab.address(Side::Server, COMING)?;
        Ok(Self {
            state: lab.scratch().join("state"),
        })
    }

    /// Makes it ready, or not.
    pub(crate) fn set(&self, ready: bool) -> anyhow::Result<()> {
        let other = Pod {
            name: "other",
            app: "server-http1",
            address: COMING,
            port: backend_port(Carries::Http1),
            meshed: false,
            ready,
        };
        other.write(&self.state)
    }
}

/// A pod, as control finds it.
#[derive(Debug)]
struct Pod<'a> {
    name: &'a str,
    app: &'a str,
    address: Ipv4Addr,
    port: u16,
    meshed: bool,
    ready: bool,
}

/// Starts control, which knows the pods and Services of all pairs. Certificates are good for as long as is said.
pub(super) fn control(
    lab: &Lab,
    bin_dir: &Path,
    certificates: Option<&str>,
) -> anyhow::Result<Process> {
    let state = lab.scratch().join("state");
    std::fs::create_dir_all(state.join("manifests"))?;
    let mut services = String::new();
    for carries in Carries::ALL {
        let (name, at) = (carries.name(), addresses(carries));
        let protocol = match carries {
            Carries::Http1 => "http",
            Carries::Http2 => "kubernetes.io/h2c",
            Carries::Tcp => "tcp",
        };
        services += &format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{ name: {name}, namespace: bench }}\nspec:\n  clusterIP: {}\n  \
             selector: {{ app: server-{name} }}\n  ports: [{{ name: main, appProtocol: {protocol}, port: 80, targetPort: {} }}]\n",
            at.service,
            backend_port(carries)
        );
        for (which, address) in [("client", at.client), ("server", at.server)] {
            let name = format!("{which}-{name}");
            let pod = Pod {
                name: &name,
                app: &name,
                address,
                port: backend_port(carries),
                meshed: true,
                ready: true,
            };
            pod.write(&state)?;
        }
        // The first pair's are the interface's own.
        if carries != Carries::Http1 {
            lab.address(Side::Client, at.client)?;
            lab.address(Side::Server, at.server)?;
        }
    }
    std::fs::write(state.join("manifests/bench.yaml"), services)?;
    let mut command = lab.command(Side::Server, Core::Load, &bin_dir.join("maille-control"));
    command.arg("--state").arg(&state).args([
        "--cluster-range",
        "10.96.0.0/16",
        "--cluster-range",
        "10.251.0.0/16",
    ]);
    if let Some(certificates) = certificates {
        command.args(["--leaf-lifetime", certificates]);
    }
    lab.start("maille-control", &mut command)
}

impl Pod<'_> {
    /// Writes it so that it is never found half.
    fn write(&self, state: &Path) -> anyhow::Result<()> {
        let Self { name, app, .. } = self;
        let folder = state.join("pods").join(name);
        std::fs::create_dir_all(&folder)?;
        let ready = if self.ready { "True" } else { "False" };
        let annotations = match self.meshed {
            true => serde_json::json!({ "maille.io/capture": "outboard" }),
            false => serde_json::json!({ "maille.io/inject": "disabled" }),
        };
        let pod = serde_json::json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": "bench", "uid": name, "labels": { "app": app },
                          "annotations": annotations },
            "spec": { "serviceAccountName": name,
                      "containers": [{ "name": "app", "image": "app", "ports": [{ "containerPort": self.port }] }] },
            "status": { "phase": "Running", "podIP": self.address, "podIPs": [{ "ip": self.address }],
                        "conditions": [{ "type": "Ready", "status": ready }] },
        });
        let half = folder.join("pod.half");
        std::fs::write(&half, serde_json::to_vec_pretty(&pod)?)?;
        std::fs::rename(half, folder.join("pod.json"))?;
        Ok(())
    }
}

/// Starts the two proxies of one pair.
pub(super) fn pair(
    lab: &Lab,
    bin_dir: &Path,
    carries: Carries,
    looked: &Looked,
) -> anyhow::Result<Pair> {
    let started = Clock::start();
    let at = addresses(carries);
    let port = 4140 + carries as u16;
    let entry = format!("127.0.0.1:{port}");
    let app = format!("{}:{}", at.server, backend_port(carries));
    let nobody = |n: u16| format!("127.0.0.1:{}", port + n);
    let proxy = |side: Side, address: Ipv4Addr, to: &str, inbound_to: &str| {
        let mut command = command(lab, side, &bin_dir.join("maille-proxy"), looked);
        let name = describe(&mut command, lab, (side, carries));
        command
            .env("MAILLE_SOURCE", "own")
            .env("MAILLE_OUTBOUND", &entry)
            .env("MAILLE_OUTBOUND_TO", to)
            .env("MAILLE_INBOUND", nobody(100))
            .env("MAILLE_INBOUND_TO", inbound_to)
            .env("MAILLE_MESH", format!("{address}:15008"));
        if looked.logged {
            command.env("MAILLE_ACCESS_LOG", "json");
        }
        lab.start(&name, &mut command).map(RefCell::new)
    };
    let service = format!("{}:80", at.service);
    Ok(Pair {
        started,
        peer: Peer::Maille,
        carries,
        proxies: vec![
            proxy(Side::Client, at.client, &service, "127.0.0.1:9")?,
            proxy(Side::Server, at.server, &app, &app)?,
        ],
        entry,
        world: None,
    })
}

/// Says whose proxy it is, and whom it asks. What the process is called.
pub(super) fn describe(
    command: &mut Command,
    lab: &Lab,
    (side, carries): (Side, Carries),
) -> String {
    let state = lab.scratch().join("state");
    let which = match side {
        Side::Client => "client",
        Side::Server => "server",
    };
    let workload = format!("{which}-{}", carries.name());
    command
        .env("MAILLE_WORKLOAD", &workload)
        .env("MAILLE_AGENT", state.join("control.sock"))
        .env("MAILLE_ADMIN", state.join(format!("{workload}.sock")));
    format!("maille-{workload}")
}

fn command(lab: &Lab, side: Side, program: &Path, looked: &Looked) -> Command {
    match &looked.under {
        None => lab.command(side, Core::Pair, program),
        Some(under) => {
            let Under {
                program: tool,
                args,
            } = &under[side as usize];
            let mut command = lab.command(side, Core::Pair, tool);
            command.args(args).arg(program);
            command
        }
    }
}
