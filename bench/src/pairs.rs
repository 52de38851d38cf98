// SPDX-License-Identifier: Apache-2.0
//! The pairs under test: each takes plain HTTP/1.1 at a port of the client's namespace and hands it to the backend over
//! a mutual-TLS link that carries HTTP/2.

use std::cell::RefCell;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use serde::Serialize;

use crate::lab::{BACKEND, CLIENT, Core, Lab, Process, SERVER, Side};

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Peer {
    /// Two `maille-proxy`, with identity, metrics and control, at explicit ports.
    Maille,
    /// Two haproxy with HTTP/2 and mutual TLS 1.3 between them.
    Haproxy,
}

/// A running pair.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) peer: Peer,
    /// Where the client sends its requests, in its own namespace.
    pub(crate) entry: &'static str,
    /// The two proxies: their CPU time is what counts.
    pub(crate) proxies: Vec<RefCell<Process>>,
}

/// Everything that runs during a measurement.
#[derive(Debug)]
pub(crate) struct Pairs {
    pub(crate) pairs: Vec<Pair>,
    support: Vec<Process>,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Maille => "maille",
            Self::Haproxy => "haproxy L7h2",
        })
    }
}

/// Starts the backend and the pairs that were asked for.
pub(crate) fn start(lab: &Lab, bin_dir: &Path, peers: &[Peer]) -> anyhow::Result<Pairs> {
    let mut running = Pairs {
        pairs: Vec::new(),
        support: vec![nginx(lab)?],
    };
    for peer in peers {
        match peer {
            Peer::Maille => {
                let (control, pair) = maille(lab, bin_dir)?;
                running.support.push(control);
                running.pairs.push(pair);
            }
            Peer::Haproxy => running.pairs.push(haproxy(lab)?),
        }
    }
    Ok(running)
}

fn nginx(lab: &Lab) -> anyhow::Result<Process> {
    let body = "x".repeat(1024);
    let directory = lab.scratch().display();
    let config = write(
        lab,
        "nginx.conf",
        &format!(
            "daemon off; worker_processes 1; master_process off; pid {directory}/nginx.pid; error_log stderr error;\n\
             events {{ worker_connections 4096; }}\n\
             http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 600s; \
             client_body_temp_path {directory}; proxy_temp_path {directory}; fastcgi_temp_path {directory}; \
             uwsgi_temp_path {directory}; scgi_temp_path {directory};\n\
             server {{ listen {BACKEND}; location / {{ return 200 \"{body}\"; }} }} }}\n"
        ),
    )?;
    let mut command = lab.command(Side::Server, Core::Load, Path::new("nginx"));
    lab.start("nginx", command.arg("-c").arg(config))
}

// --- haproxy: what it needs to do the same job ---

fn haproxy(lab: &Lab) -> anyhow::Result<Pair> {
    pki(lab)?;
    let directory = lab.scratch().display();
    let common = "global\n  nbthread 1\n  maxconn 4000\n  ssl-default-bind-options ssl-min-ver TLSv1.3\n  \
                  ssl-default-server-options ssl-min-ver TLSv1.3\n  tune.h2.max-concurrent-streams 1000\n\
                  defaults\n  mode http\n  timeout connect 5s\n  timeout client 600s\n  timeout server 600s\n  http-reuse always\n";
    let client = write(
        lab,
        "haproxy-client.cfg",
        &format!(
            "{common}frontend in\n  bind 127.0.0.1:4150\n  default_backend out\nbackend out\n  \
             server s {SERVER}:4151 ssl verify required ca-file {directory}/ca.pem crt {directory}/leaf.pem alpn h2 verifyhost bench.local\n"
        ),
    )?;
    let server = write(
        lab,
        "haproxy-server.cfg",
        &format!(
            "{common}frontend in\n  bind {SERVER}:4151 ssl crt {directory}/leaf.pem ca-file {directory}/ca.pem verify required alpn h2\n  \
             default_backend out\nbackend out\n  server s {BACKEND}\n"
        ),
    )?;
    let start = |side, name: &str, config: PathBuf| {
        let mut command = lab.command(side, Core::Pair, Path::new("haproxy"));
        lab.start(name, command.arg("-db").arg("-f").arg(config))
            .map(RefCell::new)
    };
    Ok(Pair {
        peer: Peer::Haproxy,
        entry: "127.0.0.1:4150",
        proxies: vec![
            start(Side::Client, "haproxy-client", client)?,
            start(Side::Server, "haproxy-server", server)?,
        ],
    })
}

fn pki(lab: &Lab) -> anyhow::Result<()> {
    let run = |arguments: &str| -> anyhow::Result<()> {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(lab.scratch())
            .output()
            .context("running openssl")?;
        if !output.status.success() {
            bail!(
                "openssl {arguments}: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(())
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    run(&format!(
        "req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=bench-ca"
    ))?;
    run(&format!(
        "req {key} -keyout leaf.key -out leaf.csr -subj /CN=bench.local"
    ))?;
    write(
        lab,
        "leaf.ext",
        "subjectAltName=DNS:bench.local\nextendedKeyUsage=serverAuth,clientAuth\n",
    )?;
    run(
        "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out leaf.crt -days 2 -extfile leaf.ext",
    )?;
    let both = [
        std::fs::read(lab.scratch().join("leaf.crt"))?,
        std::fs::read(lab.scratch().join("leaf.key"))?,
    ]
    .concat();
    std::fs::write(lab.scratch().join("leaf.pem"), both)?;
    Ok(())
}

// --- Maille: real control, real certificates, explicit ports ---

const SERVICE: &str = "10.96.1.1";

fn maille(lab: &Lab, bin_dir: &Path) -> anyhow::Result<(Process, Pair)> {
    let state = lab.scratch().join("state");
    for folder in ["manifests", "pods/client", "pods/server"] {
        std::fs::create_dir_all(state.join(folder))?;
    }
    std::fs::write(
        state.join("manifests/bench.yaml"),
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{ name: web, namespace: bench }}\nspec:\n  clusterIP: {SERVICE}\n  \
             selector: {{ app: server }}\n  ports: [{{ name: http, port: 80, targetPort: 8080 }}]\n"
        ),
    )?;
    for (name, address) in [("client", CLIENT), ("server", SERVER)] {
        let pod = serde_json::json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": "bench", "uid": name, "labels": { "app": name },
                          "annotations": { "maille.io/capture": "outboard" } },
            "spec": { "serviceAccountName": name, "containers": [{ "name": "app", "image": "app", "ports": [{ "containerPort": 8080 }] }] },
            "status": { "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }],
                        "conditions": [{ "type": "Ready", "status": "True" }] },
        });
        std::fs::write(
            state.join("pods").join(name).join("pod.json"),
            serde_json::to_vec_pretty(&pod)?,
        )?;
    }
    let mut command = lab.command(Side::Server, Core::Load, &bin_dir.join("maille-control"));
    command.arg("--state").arg(&state).args([
        "--cluster-range",
        "10.96.0.0/16",
        "--cluster-range",
        "10.251.0.0/16",
    ]);
    let control = lab.start("maille-control", &mut command)?;
    let proxy = |side, name: &str, settings: &[(&str, &str)]| {
        let mut command = lab.command(side, Core::Pair, &bin_dir.join("maille-proxy"));
        command
            .env("MAILLE_WORKLOAD", name)
            .env("MAILLE_AGENT", state.join("control.sock"))
            .env("MAILLE_ADMIN", state.join(format!("{name}.sock")))
            .env("MAILLE_SOURCE", "own")
            .envs(settings.iter().copied());
        lab.start(&format!("maille-{name}"), &mut command)
            .map(RefCell::new)
    };
    let mesh = format!("{SERVER}:15008");
    let client_mesh = format!("{CLIENT}:15008");
    let service = format!("{SERVICE}:80");
    let app = format!("{SERVER}:8080");
    let proxies = vec![
        proxy(
            Side::Client,
            "client",
            &[
                ("MAILLE_OUTBOUND", "127.0.0.1:4140"),
                ("MAILLE_OUTBOUND_TO", &service),
                ("MAILLE_INBOUND", "127.0.0.1:4143"),
                ("MAILLE_INBOUND_TO", "127.0.0.1:9"),
                ("MAILLE_MESH", &client_mesh),
            ],
        )?,
        proxy(
            Side::Server,
            "server",
            &[
                ("MAILLE_OUTBOUND", "127.0.0.1:4140"),
                ("MAILLE_OUTBOUND_TO", &app),
                ("MAILLE_INBOUND", "127.0.0.1:4143"),
                ("MAILLE_INBOUND_TO", BACKEND),
                ("MAILLE_MESH", &mesh),
            ],
        )?,
    ];
    Ok((
        control,
        Pair {
            peer: Peer::Maille,
            entry: "127.0.0.1:4140",
            proxies,
        },
    ))
}

fn write(lab: &Lab, name: &str, text: &str) -> anyhow::Result<PathBuf> {
    let path = lab.scratch().join(name);
    std::fs::write(&path, text)?;
    Ok(path)
}
