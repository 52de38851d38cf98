// SPDX-License-Identifier: Apache-2.0
//! What everybody's requests go to: one nginx, that answers 1 KiB at once, or as many bytes as are asked for, or passes streams on to what sends
//! back what it is sent (`echo.rs`). Used by `peers.rs`.

use std::path::Path;

use crate::lab::{BULK, Core, Lab, Process, Side};

/// What `/bulk` has.
const BULK_BYTES: u64 = 1 << 30;

/// Where the echo listens.
const ECHO: &str = "127.0.0.1:8083";

/// Starts both, in the server's namespace, on the load's core.
pub(super) fn start(lab: &Lab) -> anyhow::Result<[Process; 2]> {
    let body = "x".repeat(1024);
    let directory = lab.scratch().display();
    let most = lab.most_connections();
    // It takes no room: nothing is in it.
    std::fs::File::create(lab.scratch().join(BULK))?.set_len(BULK_BYTES)?;
    let config = lab.write(
        "backend.conf",
        &format!(
            "daemon off; worker_processes 1; master_process off; pid {directory}/backend.pid; error_log stderr error; \n\
             events {{ worker_connections {most}; }}\n\
             http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 600s; sendfile on; client_max_body_size 0; \
             client_body_temp_path {directory}; proxy_temp_path {directory}; fastcgi_temp_path {directory}; \
             uwsgi_temp_path {directory}; scgi_temp_path {directory};\n\
             server {{ listen 8080; listen 8082 http2; location / {{ return 200 \"{body}\"; }} \
             location /{BULK} {{ root {directory}; }} \
             location /echo {{ grpc_read_timeout 600s; grpc_send_timeout 600s; grpc_pass grpc://{ECHO}; }} }} }}\n"
        ),
    )?;
    let mut command = lab.command(Side::Server, Core::Load, Path::new("nginx"));
    let backend = lab.start("backend", command.arg("-c").arg(config))?;
    let mut command = lab.command(Side::Server, Core::Load, &std::env::current_exe()?);
    Ok([backend, lab.start("echo", command.args(["echo", ECHO]))?])
}
