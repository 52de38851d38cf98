// SPDX-License-Identifier: Apache-2.0
//! HTTP/2 with prior knowledge, judged by h2spec, and gRPC by grpc-go's interop client.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use maille_tests_suites::{Said, Server, Side, Stage, judge};

/// Every case of grpc-go's interop client that needs no credentials from outside, but for `pick_first_unary`: grpc-go's own
/// server does not say who it is.
const INTEROP: &[&str] = &[
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "status_code_and_message",
    "special_status_message",
    "custom_metadata",
    "unimplemented_method",
    "unimplemented_service",
    "orca_per_rpc",
    "orca_oob",
];

#[tokio::test]
async fn grpc_interop() {
    let stage = Stage::start("grpc", |_, programs| {
        Ok(vec![Server {
            name: "grpc",
            ports: &[8080],
            declared: None,
            serves: "nc -z grpc 8080",
            command: format!("exec {} -port 8080", judge(programs, "interop-server")),
        }])
    });
    let stage = stage.await.unwrap();
    let client = stage.judge("interop-client");
    let mut failures = Vec::new();
    for case in INTEROP {
        // As grpc-go's own interop_test.sh has it.
        let options = if case.starts_with("orca") {
            "-service_config_json '{\"loadBalancingConfig\":[{\"test_backend_metrics_load_balancer\":{}}]}'"
        } else {
            ""
        };
        let line = format!(
            "timeout 30 {client} -server_host grpc -server_port 8080 -test_case {case} {options}"
        );
        let said = stage.both(&line).await.unwrap();
        let bad = said.iter().filter(|said| !said.status.success());
        failures.extend(bad.map(Said::text));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    stage.end().await.unwrap();
}

/// The one case that an undeclared port with both HTTP/1.1 and HTTP/2 fails, un-meshed too: what is no preface is an HTTP/1 request, and
/// is answered with 400 before the connection is closed (RFC 9112 3), in words that h2spec takes for frames.
const NO_PREFACE: &str = "3.5. × 2: Sends invalid connection preface";

/// What h2spec says of a case that failed: its section and title.
fn failures(said: &Said) -> Vec<String> {
    let out = String::from_utf8_lossy(&said.out).into_owned();
    let Some((_, list)) = out.split_once("\nFailures:") else {
        return Vec::new();
    };
    let mut section = String::new();
    let mut failures = Vec::new();
    for line in list.lines().map(str::trim) {
        if line.starts_with('×') {
            failures.push(format!("{section} {line}"));
        } else if line.starts_with(|letter: char| letter.is_ascii_digit()) {
            section = line.split(' ').next().unwrap_or_default().to_owned();
        }
    }
    failures
}

/// What h2spec says of the port of a server that is called `name`.
async fn judged(stage: &Stage, name: &str) -> Said {
    let line = format!("{} -h {name} -p 8080 -S -o 3", stage.judge("h2spec"));
    stage.run(Side::Meshed, &line).await.unwrap()
}

/// In full where the port is declared; where nobody says what it speaks, but for the one case.
#[tokio::test]
async fn h2spec() {
    let stage = Stage::start("h2", |_, programs| {
        let server = |name, declared, serves| Server {
            name,
            ports: &[8080],
            declared,
            serves,
            command: format!("exec {} :8080", judge(programs, "h2c")),
        };
        Ok(vec![
            server(
                "h2c",
                Some("kubernetes.io/h2c"),
                "curl -sSf --http2-prior-knowledge -o /dev/null http://h2c:8080/",
            ),
            server(
                "any",
                None,
                "curl -sSf --http2-prior-knowledge -o /dev/null http://any:8080/",
            ),
        ])
    });
    let stage = stage.await.unwrap();
    let said = judged(&stage, "h2c").await;
    let out = said.good().unwrap();
    assert!(
        out.contains("146 tests, 146 passed, 0 skipped, 0 failed"),
        "{}",
        said.text()
    );
    let said = judged(&stage, "any").await;
    let out = String::from_utf8_lossy(&said.out).into_owned();
    assert_eq!(failures(&said), [NO_PREFACE], "{}", said.text());
    assert!(
        out.contains("146 tests, 145 passed, 0 skipped, 1 failed"),
        "{}",
        said.text()
    );
    let line = "printf 'INVALID CONNECTION PREFACE\\r\\n\\r\\n' | timeout 10 nc any 8080";
    for said in stage.both(line).await.unwrap() {
        assert!(
            said.good().unwrap().starts_with("HTTP/1.1 400 "),
            "{}",
            said.text()
        );
    }
    stage.end().await.unwrap();
}
