// SPDX-License-Identifier: Apache-2.0
//! nginx from the distribution: HTTP/1, HTTP/2 with prior knowledge, WebSocket as a proxy, and TLS of its own.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::path::Path;

use maille_tests_suites::{Figures, Said, Server, Stage, certificate, judge, scaled};

/// HTTP/1 on 8080, HTTP/2 on 8081, WebSocket on 8082, TLS on 8443.
fn config(dir: &Path) -> String {
    let dir = dir.display();
    let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|what| format!("{what}_temp_path {dir}/{what};\n"))
        .collect();
    format!(
        "daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log stderr;\n\
         events {{ worker_connections 512; }}\n\
         http {{ access_log off; keepalive_requests 1000000; {temp} root {dir}/www; ssl_certificate {dir}/cert.pem; ssl_certificate_key {dir}/key.pem;\n\
         server {{ listen 8080; listen [::]:8080; }}\n\
         server {{ listen 8081 http2; listen [::]:8081 http2; }}\n\
         server {{ listen 8443 ssl http2; listen [::]:8443 ssl http2; }}\n\
         server {{ listen 8082; listen [::]:8082; location / {{ proxy_pass http://127.0.0.1:9000; proxy_http_version 1.1;\n\
         proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; }} }} }}\n"
    )
}

async fn start(name: &str) -> Stage {
    let stage = Stage::start(name, |dir, programs| {
        certificate(dir)?;
        fs::write(dir.join("nginx.conf"), config(dir))?;
        fs::create_dir_all(dir.join("www"))?;
        fs::write(dir.join("www/small"), "water\n".repeat(10))?;
        let large: Vec<u8> = (0u32..8_000_000).flat_map(u32::to_le_bytes).collect();
        fs::write(dir.join("www/large"), large)?;
        let backend = format!("{} serve 127.0.0.1:9000 &", judge(programs, "websocket"));
        let dir = dir.display();
        let nginx = format!("nginx -p {dir} -c {dir}/nginx.conf -e stderr");
        Ok(vec![Server {
            name: "nginx",
            ports: &[8080, 8081, 8082, 8443],
            declared: None,
            serves: "curl -sSf -o /dev/null http://nginx:8080/small",
            command: format!("{backend} {}", Server::unprivileged(&nginx, "nobody")),
        }])
    });
    stage.await.unwrap()
}

/// Bytes and head of a page are the same, the sum is that of the file.
async fn same(stage: &Stage, curl: &str) {
    // What HEAD is answered with has no body, and curl puts the head in its place.
    let body = if curl.contains(" -I ") {
        "/dev/null"
    } else {
        "body"
    };
    let line = format!(
        "{curl} -D head -o {body} && grep -iv '^date:' head | tr -d '\\r' && sha256sum < {body}"
    );
    let [plain, meshed] = stage.both(&line).await.unwrap();
    // The time at which each side's files were made.
    let stable = |said: &Said| {
        let out = said.good().unwrap();
        let lines = out
            .lines()
            .filter(|line| !line.to_ascii_lowercase().starts_with("last-modified:"));
        let lines = lines.filter(|line| !line.to_ascii_lowercase().starts_with("etag:"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(stable(&plain), stable(&meshed), "{curl}");
}

#[tokio::test]
async fn pages_and_loads() {
    let stage = start("ng").await;
    for curl in [
        "curl -sS http://nginx:8080/large",
        "curl -sS -r 1000-30000000 http://nginx:8080/large",
        "curl -sS -I http://nginx:8080/large",
        "curl -sS http://nginx:8080/missing",
        "curl -sS --http2-prior-knowledge http://nginx:8081/large",
        "curl -sS -k https://nginx:8443/large",
        "curl -sS -k --http1.1 https://nginx:8443/large",
    ] {
        same(&stage, curl).await;
    }
    // TLS ends at nginx: the certificate is its own.
    let line = "echo | openssl s_client -connect nginx:8443 -servername server 2>/dev/null | openssl x509 > seen && \
                openssl x509 -in cert.pem | cmp - seen";
    for said in stage.both(line).await.unwrap() {
        said.good().unwrap();
    }
    let mut figures = Figures::default();
    for (what, line, length, rate) in LOADS {
        let length = scaled(*length, length / 4).to_string();
        let line = line.replace("$N", &length);
        let [plain, meshed] = stage.both(&line).await.unwrap();
        figures.add(what, "requests/s", rate(&plain), rate(&meshed));
    }
    let line = "curl -sS -o /dev/null -w '%{speed_download}\\n' http://nginx:8080/large";
    let [plain, meshed] = stage.both(line).await.unwrap();
    let rate = |said: &Said| said.number("").unwrap() / 1e6;
    figures.add(
        "nginx, one page of 32 MB",
        "MB/s",
        rate(&plain),
        rate(&meshed),
    );
    figures.show();
    stage.end().await.unwrap();
}

/// What is measured, by which line, at which full length (`$N`), and how its verdict and rate are read.
type Load = (&'static str, &'static str, u32, fn(&Said) -> f64);

const LOADS: &[Load] = &[
    (
        "nginx, ab, HTTP/1.0 kept alive, 16 connections",
        "ab -q -k -n $N -c 16 http://nginx:8080/small",
        10_000,
        ab,
    ),
    (
        "nginx, wrk, HTTP/1.1, 32 connections",
        "wrk -t 1 -c 32 -d $N http://nginx:8080/small",
        4,
        wrk,
    ),
    (
        "nginx, h2load, prior knowledge, 4 x 16 streams",
        "h2load -n $N -c 4 -m 16 http://nginx:8081/small",
        20_000,
        h2load,
    ),
    (
        "nginx, h2load, its own TLS, 4 x 16 streams",
        "h2load -n $N -c 4 -m 16 https://nginx:8443/small",
        20_000,
        h2load,
    ),
];

fn ab(said: &Said) -> f64 {
    let failed = said.number("Failed requests:").unwrap();
    assert_eq!(failed, 0.0, "{}", said.text());
    said.number("Requests per second:").unwrap()
}

fn wrk(said: &Said) -> f64 {
    let out = said.good().unwrap();
    assert!(
        !out.contains("Socket errors") && !out.contains("Non-2xx"),
        "{}",
        said.text()
    );
    said.number("Requests/sec:").unwrap()
}

fn h2load(said: &Said) -> f64 {
    let out = said.good().unwrap();
    let total = said.number("requests: ").unwrap();
    let all = format!(
        "{total} total, {total} started, {total} done, {total} succeeded, 0 failed, 0 errored, 0 timeout"
    );
    assert!(total > 0.0 && out.contains(&all), "{}", said.text());
    total / finished(said)
}

/// Seconds in h2load's `finished in 1.23s` or `987.65ms`.
fn finished(said: &Said) -> f64 {
    let number = said.number("finished in ").unwrap();
    let out = said.good().unwrap();
    let rest = out.split_once("finished in ").unwrap().1;
    let unit = rest.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
    match unit.split(',').next() {
        Some("s") => number,
        Some("ms") => number / 1e3,
        Some("us") => number / 1e6,
        unit => panic!("h2load's unit {unit:?}"),
    }
}

/// nginx has an opinion of its own on some frames' ends: both sides must have the same verdicts.
#[tokio::test]
async fn websockets_through_nginx() {
    let stage = start("ngws").await;
    let line = format!("{} judge nginx:8082; true", stage.judge("websocket"));
    let [plain, meshed] = stage.both(&line).await.unwrap();
    let names = |said: &Said| {
        let out = said.good().unwrap();
        let lines = out
            .lines()
            .map(|line| line.split(": ").next().unwrap_or_default().to_owned());
        lines.collect::<Vec<_>>()
    };
    let passed = names(&plain)
        .iter()
        .filter(|line| line.starts_with("PASS "))
        .count();
    assert!(passed > 90, "{}", plain.text());
    assert_eq!(
        names(&plain),
        names(&meshed),
        "{}\n{}",
        plain.text(),
        meshed.text()
    );
    stage.end().await.unwrap();
}
