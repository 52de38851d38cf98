// SPDX-License-Identifier: Apache-2.0
//! nginx as proxy: HTTP/1.1 or bytes, TLS between the two. Used by `peers.rs`.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use maille_chassis::clock::Clock;

use super::{Carries, Pair, Peer};
use crate::lab::{Core, Lab, SERVER, Side};

/// Where Debian's package `libnginx-mod-stream` has it.
const STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

pub(super) fn pair(lab: &Lab, carries: Carries) -> anyhow::Result<Pair> {
    let started = Clock::start();
    let (entry, between) = match carries {
        Carries::Http1 | Carries::Http2 => (4160, 4161),
        Carries::Tcp => (4164, 4165),
    };
    let directory = lab.scratch().display();
    let files = format!("{directory}/leaf.crt; ");
    let to_server = |prefix: &str| {
        format!(
            "{prefix}_ssl_certificate {files}{prefix}_ssl_certificate_key {directory}/leaf.key; {prefix}_ssl_protocols TLSv1.3; \
             {prefix}_ssl_trusted_certificate {directory}/ca.pem; {prefix}_ssl_verify on; {prefix}_ssl_name bench.local; "
        )
    };
    let of_client = format!(
        "ssl_certificate {files}ssl_certificate_key {directory}/leaf.key; ssl_protocols TLSv1.3; \
         ssl_client_certificate {directory}/ca.pem; ssl_verify_client on; "
    );
    let (client, server) = match carries {
        Carries::Tcp => (
            format!(
                "stream {{ server {{ listen 127.0.0.1:{entry}; proxy_pass {SERVER}:{between}; proxy_ssl on; {} }} }}",
                to_server("proxy")
            ),
            format!(
                "stream {{ server {{ listen {SERVER}:{between} ssl; {of_client} proxy_pass {SERVER}:8080; }} }}"
            ),
        ),
        Carries::Http1 | Carries::Http2 => (
            http(
                lab,
                &format!("{SERVER}:{between}"),
                &format!("listen 127.0.0.1:{entry};"),
                &format!("proxy_pass https://next; {}", to_server("proxy")),
            ),
            http(
                lab,
                &format!("{SERVER}:8080"),
                &format!("listen {SERVER}:{between} ssl; {of_client}"),
                "proxy_pass http://next;",
            ),
        ),
    };
    let name = carries.name();
    let start = |side, which: &str, text: &str| {
        let which = format!("nginx-{which}-{name}");
        let config = config(lab, &which, carries, text)?;
        let mut command = lab.command(side, Core::Pair, Path::new("nginx"));
        lab.start(&which, command.arg("-c").arg(config))
            .map(RefCell::new)
    };
    Ok(Pair {
        started,
        peer: Peer::Nginx,
        carries,
        entry: format!("127.0.0.1:{entry}"),
        proxies: vec![
            start(Side::Server, "server", &server)?,
            start(Side::Client, "client", &client)?,
        ],
        world: None,
    })
}

/// An HTTP proxy that keeps its connections.
fn http(lab: &Lab, to: &str, listen: &str, pass: &str) -> String {
    let directory = lab.scratch().display();
    format!(
        "http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 600s; client_max_body_size 0; \
         client_body_temp_path {directory}; proxy_temp_path {directory}; fastcgi_temp_path {directory}; \
         uwsgi_temp_path {directory}; scgi_temp_path {directory};\n\
         upstream next {{ server {to}; keepalive 1024; keepalive_requests 100000000; }}\n\
         server {{ {listen} location / {{ proxy_http_version 1.1; proxy_set_header Connection \"\"; {pass} }} }} }}\n"
    )
}

fn config(lab: &Lab, name: &str, carries: Carries, text: &str) -> anyhow::Result<PathBuf> {
    let directory = lab.scratch().display();
    let most = 2 * lab.most_connections();
    let module = match carries {
        Carries::Tcp => format!("load_module {STREAM};\n"),
        Carries::Http1 | Carries::Http2 => String::new(),
    };
    lab.write(
        &format!("{name}.conf"),
        &format!(
            "{module}daemon off; worker_processes 1; master_process off; pid {directory}/{name}.pid; error_log stderr error; \
             \nevents {{ worker_connections {most}; }}\n{text}\n"
        ),
    )
}
