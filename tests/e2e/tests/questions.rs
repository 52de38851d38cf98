// SPDX-License-Identifier: Apache-2.0
//! The questions people ask, typed as they type them, about two workloads that know nothing of a mesh.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use maille_testkit::up::{NAMESPACE, SHOP_PODS, Settings};
use maille_testkit::{Up, until_async};
use serde_json::Value;

/// How long an answer may take to become what it will be: reports come once a second.
const SETTLED: Duration = Duration::from_secs(60);

async fn hello(name: &str) -> Up {
    let files = [
        (
            "client.yaml",
            include_str!("../../../examples/hello/client.yaml"),
        ),
        (
            "server.yaml",
            include_str!("../../../examples/hello/server.yaml"),
        ),
    ];
    let files: Vec<_> = files
        .into_iter()
        .map(|(file, text)| (file, text.to_owned()))
        .collect();
    let mut up = Up::start(name, &files).unwrap();
    // And the cluster's own DNS.
    up.ready(3).await.unwrap();
    up
}

fn typed(up: &Up, line: &str) -> Output {
    let words: Vec<&str> = line.split(' ').collect();
    up.maille(&words).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json(up: &Up, line: &str) -> Value {
    let output = typed(up, line);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{line}: {error}: {said}"))
}

/// The first lines of a command that goes on, which is then interrupted; its exit code.
fn first_lines(mut command: Command, count: usize) -> (Vec<String>, Option<i32>) {
    use std::io::BufRead as _;
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut lines = out.lines();
    let first: Vec<String> = lines.by_ref().take(count).map(Result::unwrap).collect();
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    for line in lines {
        line.unwrap();
    }
    (first, child.wait().unwrap().code())
}

#[tokio::test]
async fn people_get_answers() {
    let up = hello("ask").await;
    stat_and_edges(&up).await;
    tap_and_top(&up);
    explain_and_identity(&up);
    capture(&up);
    refusals(&up);
}

async fn stat_and_edges(up: &Up) {
    // Reports are on their way.
    until_async("a row with traffic", SETTLED, async || {
        let said = json(up, "stat deploy server -o json");
        (said["rows"][0]["window"]["requests"].as_u64() > Some(5)).then_some(())
    })
    .await
    .unwrap();
    let rows = text(&typed(up, "stat deploy/server -n default"));
    let words: Vec<&str> = rows.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(words[..3], ["server", "1/1", "100.00%"], "{rows}");
    // What the kubelet asks comes in plain text.
    let secured = words.last().and_then(|word| word.strip_suffix('%'));
    let secured: u8 = secured.unwrap().parse().unwrap();
    assert!(secured > 50, "{rows}");
    for line in [
        "stat pods -o json",
        "stat svc --from deploy/client -o json",
        "stat deploy/client --to svc/server -o json",
        "stat ns -o json",
        "stat all -o json",
    ] {
        let said = json(up, line);
        let rows = said["rows"].as_array().unwrap();
        let counted = rows
            .iter()
            .filter_map(|row| row["window"]["requests"].as_u64());
        assert!(counted.sum::<u64>() > 0, "{line}: {said}");
    }
    let edges = json(up, "edges -o json");
    let edge = edges["edges"].as_array().unwrap();
    let edge = edge
        .iter()
        .find(|edge| edge["service"] == "default/server")
        .unwrap_or_else(|| panic!("{edges}"));
    assert_eq!(edge["protection"], "mtls");
    assert_eq!(
        edge["client_id"],
        "spiffe://cluster.local/ns/default/sa/default"
    );
    let shown = text(&typed(up, "edges deploy/client"));
    assert!(shown.contains("client") && shown.contains('√'), "{shown}");
}

fn tap_and_top(up: &Up) {
    let (lines, code) = first_lines(up.maille(&["tap", "deploy/client"]), 3);
    assert_eq!(code, Some(0));
    assert!(lines[0].starts_with("req id="), "{lines:?}");
    for part in ["proxy=out", "tls=true", ":method=GET", ":path=/items"] {
        assert!(lines[0].contains(part), "{part}: {lines:?}");
    }
    assert!(lines[1].starts_with("rsp ") && lines[1].contains(":status=200"));
    assert!(lines[2].starts_with("end ") && lines[2].contains("response-length="));
    let mut command = up.maille(&["tap", "deploy/server", "-o", "json", "--path", "/items"]);
    let (lines, _) = first_lines(
        {
            command.args(["--direction", "in"]);
            command
        },
        3,
    );
    let line: Value = serde_json::from_str(&lines[2]).unwrap();
    assert_eq!(line["proxy"], "in", "{line}");
    assert_eq!(line["src"]["owner"], "deploy/client");
    let top = json(up, "top deploy --seconds 2 --hide-sources -o json");
    let row = &top["rows"][0];
    assert_eq!(
        (&row["method"], &row["path"]),
        (&"GET".into(), &"/items".into()),
        "{top}"
    );
    assert!(row["count"].as_u64() > Some(5), "{top}");
}

fn explain_and_identity(up: &Up) {
    let said = json(up, "explain client http://server:8080 --method GET -o json");
    assert_eq!(said["verdict"], "forward", "{said}");
    assert_eq!(said["endpoints"][0]["hop"], "mesh");
    assert_eq!(said["endpoints"][0]["accepts"], "forward");
    let steps: Vec<&str> = said["steps"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|step| step["name"].as_str())
        .collect();
    assert_eq!(
        steps,
        [
            "capture",
            "destination",
            "protocol",
            "route",
            "endpoints",
            "policy",
            "protection"
        ]
    );
    let shown = text(&typed(up, "explain deploy/client svc/server"));
    assert!(
        shown.contains("FORWARD") && shown.contains("DECIDED BY"),
        "{shown}"
    );
    let refused = typed(up, "explain client svc/server --port 81");
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(text(&refused).contains("REFUSE [no-port]"), "{refused:?}");
    let identity = json(up, "identity pods -o json");
    let pods = identity["pods"].as_array().unwrap();
    let meshed: Vec<_> = pods.iter().filter(|pod| pod["meshed"] == true).collect();
    assert_eq!(meshed.len(), 2, "{identity}");
    assert_eq!(
        meshed[0]["identity"],
        "spiffe://cluster.local/ns/default/sa/default"
    );
    let pem = text(&typed(up, "identity deploy/server -o pem"));
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----"), "{pem}");
}

fn capture(up: &Up) {
    let file = up.runtime_dir().join("frames.pcapng");
    let mut command = up.maille(&["capture", "deploy/server", "--seconds", "2"]);
    let output = command.arg("-w").arg(&file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let (names, frames) = pcapng(&std::fs::read(&file).unwrap());
    assert_eq!(names, ["up0", "dn0"]);
    let has = |side: u32, text: &[u8]| {
        let mut frames = frames.iter().filter(|(of, _)| *of == side);
        frames.any(|(_, frame)| frame.windows(text.len()).any(|part| part == text))
    };
    assert!(
        has(1, b"GET /items HTTP/1.1"),
        "the pod's side is as it is said"
    );
    assert!(!has(0, b"GET /items"), "the wire's side is not");
    let to_mesh_port = |frame: &[u8]| frame.get(36..38) == Some(&15_008_u16.to_be_bytes());
    let mut wire = frames.iter().filter(|(side, _)| *side == 0);
    assert!(wire.any(|(_, frame)| to_mesh_port(frame)));
    let state = std::fs::read_to_string(file.with_extension("pcapng.txt")).unwrap();
    for part in [
        "# mesh namespace",
        "# pod",
        "up0",
        "eth0",
        "LISTEN",
        "table",
    ] {
        assert!(state.contains(part), "{part}: {state}");
    }
    let wrong = typed(up, "capture deploy/server -w /dev/null --filter nonsense");
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
}

/// The front of the shop calls the rates in all four kinds of gRPC; without a pod of theirs the mesh answers in gRPC's own words.
#[tokio::test]
async fn grpc_calls_are_tapped() {
    let settings = Settings {
        rate: 50,
        seconds: 0,
        connections: 4,
    };
    let mut up = Up::shop("askgrpc", settings).unwrap();
    up.ready(SHOP_PODS).await.unwrap();
    up.load_began().await.unwrap();
    let to_rates = [
        "tap",
        "deploy/front",
        "-n",
        NAMESPACE,
        "--to",
        "svc/rates",
        "-o",
        "json",
    ];
    let tapped = |more: &[&str], count: usize| -> Vec<Value> {
        let (lines, code) = first_lines(up.maille(&[&to_rates[..], more].concat()), count);
        assert_eq!(code, Some(0), "{lines:?}");
        let read = |line: &String| serde_json::from_str(line).unwrap();
        lines.iter().map(read).collect()
    };
    for line in tapped(&["--path", "/loom.Rates/Follow"], 6) {
        assert_eq!(line["protocol"], "grpc", "{line}");
        assert_eq!(line["tls"], true, "{line}");
        match line["type"].as_str().unwrap() {
            "request" => assert_eq!(
                (&line["method"], &line["path"]),
                (&"POST".into(), &"/loom.Rates/Follow".into())
            ),
            "end" => assert_eq!(line["grpc_status"], 0, "{line}"),
            _ => {}
        }
    }
    let ends = |lines: Vec<Value>| -> Vec<Value> {
        let ends: Vec<Value> = lines
            .into_iter()
            .filter(|line| line["type"] == "end")
            .collect();
        assert!(!ends.is_empty(), "nothing has ended");
        ends
    };
    for end in ends(tapped(&["--grpc-status", "0"], 3)) {
        assert_eq!(end["grpc_status"], 0, "{end}");
    }
    let scaled = up.maille(&[
        "scale",
        "deploy/rates",
        "-n",
        NAMESPACE,
        "--replicas",
        "0",
        "--wait",
    ]);
    let scaled = { scaled }.output().unwrap();
    assert!(scaled.status.success(), "{scaled:?}");
    // 14 is Unavailable.
    for end in ends(tapped(&["--grpc-status", "14"], 3)) {
        assert_eq!(
            (&end["grpc_status"], &end["failure"]),
            (&14.into(), &"no-endpoint".into()),
            "{end}"
        );
    }
    let (lines, _) = first_lines(
        up.maille(&[&to_rates[..6], &["--grpc-status", "14"]].concat()),
        3,
    );
    assert!(
        lines
            .iter()
            .any(|line| line.contains("grpc-status=Unavailable")),
        "{lines:?}"
    );
}

/// Interfaces' names, and frames with the number of theirs.
fn pcapng(mut bytes: &[u8]) -> (Vec<String>, Vec<(u32, Vec<u8>)>) {
    let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let (mut names, mut frames) = (Vec::new(), Vec::new());
    while !bytes.is_empty() {
        let length = word(bytes, 4) as usize;
        let body = &bytes[8..length - 4];
        match word(bytes, 0) {
            1 => {
                // The name is the first option.
                let long = usize::from(u16::from_le_bytes(body[10..12].try_into().unwrap()));
                names.push(String::from_utf8(body[12..12 + long].to_vec()).unwrap());
            }
            6 => {
                let long = word(body, 12) as usize;
                frames.push((word(body, 0), body[20..20 + long].to_vec()));
            }
            _ => {}
        }
        bytes = &bytes[length..];
    }
    (names, frames)
}

fn refusals(up: &Up) {
    for (line, code, part) in [
        ("tap deploy/nobody", 1, "there is no deploy/nobody"),
        ("stat deploy/servr", 1, "did you mean deploy/server?"),
        ("tap deploy/clint", 1, "did you mean deploy/client?"),
        ("top deploy/clint", 1, "did you mean deploy/client?"),
        ("edges svc/servr", 1, "did you mean svc/server"),
        ("identity po/server", 1, "did you mean po/server-"),
        ("explain clint svc/server", 1, "did you mean deploy/client?"),
        ("stat deploymnts", 2, "did you mean deployments?"),
        ("tap thing/web", 2, "no kind of resource"),
        ("tap deploy/client --status 5y", 2, "no status"),
        ("explain client nowhere", 1, "nothing here is called"),
        ("stat deploy/nobody", 1, "there is no"),
        ("identity deploy/nobody", 1, "there is no"),
        (
            "capture deploy/nobody -w /dev/null",
            1,
            "there is no deploy/nobody",
        ),
    ] {
        let output = typed(up, line);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{line}: {said}");
        assert!(said.contains(part), "{line}: {said}");
        assert!(said.contains("hint:"), "{line}: {said}");
        assert!(!said.contains("panicked"), "{line}: {said}");
    }
}
