// SPDX-License-Identifier: Apache-2.0
//! A capture judged by somebody who knows no mesh: tshark reads the file, names both interfaces, and finds one request on both sides of a proxy:
//! as HTTP on the pod's, as TLS on the wire's.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::path::Path;
use std::process::Command;

use maille_testkit::Up;

/// How far apart in time both sides of one request may be.
const APART: f64 = 1.0;

/// One frame, as tshark tells it.
#[derive(Debug)]
struct Frame {
    at: f64,
    text: String,
}

/// The frames that `filter` shows, with one more field of each.
fn tshark(file: &Path, filter: &str, field: &str) -> Vec<Frame> {
    let mut command = Command::new("tshark");
    // The mesh's port, and the one that the server has.
    command.args([
        "-d",
        "tcp.port==15008,tls",
        "-d",
        "tcp.port==8080,http",
        "-d",
        "tcp.port==15009,http2",
    ]);
    command.arg("-r").arg(file).args(["-Y", filter]);
    command.args(["-T", "fields", "-e", "frame.time_epoch", "-e", field]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let text = String::from_utf8(output.stdout).unwrap();
    let frame = |line: &str| {
        let (at, text) = line.split_once('\t').unwrap_or((line, ""));
        Frame {
            at: at.parse().unwrap_or_else(|error| panic!("{error}: {line}")),
            text: text.to_owned(),
        }
    };
    text.lines().map(frame).collect()
}

#[tokio::test]
async fn tshark_finds_one_request_on_both_sides() {
    let files = [
        ("client.yaml", include_str!("../../../examples/hello/client.yaml").to_owned()),
        (
            "server.yaml",
            include_str!("../../../examples/hello/server.yaml").replace(
                "labels: {app: server}\n    spec:",
                "labels: {app: server}\n      annotations: {maille.io/capture-inside: allowed}\n    spec:",
            ),
        ),
    ];
    let mut up = Up::start("shark", &files).unwrap();
    // And the cluster's own DNS.
    up.ready(3).await.unwrap();
    for pod in ["deploy/server", "deploy/client"] {
        let file = up.runtime_dir().join("frames.pcapng");
        let mut command = up.maille(&["capture", pod, "--seconds", "3"]);
        let output = command.arg("-w").arg(&file).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        both_sides(&file, pod);
    }
    inside(&up);
}

/// The server's owner lets its proxy show what goes through it; the client's does not.
fn inside(up: &Up) {
    let file = up.runtime_dir().join("inside.pcapng");
    let record = |pod: &str| {
        let mut command = up.maille(&["capture", pod, "--plain", "--seconds", "3"]);
        command.arg("-w").arg(&file).output().unwrap()
    };
    let refused = record("deploy/client");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(
        said.contains("maille.io/capture-inside") && !file.exists(),
        "{said}"
    );
    let output = record("deploy/server");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && said.contains("nothing is left out"),
        "{said}"
    );
    let names = tshark(
        &file,
        "frame.interface_name == \"in0\"",
        "frame.interface_name",
    );
    assert!(names.len() > 10, "{}", names.len());
    // What the server answers is there as it is, in frames of HTTP/2, both ways.
    let data = tshark(
        &file,
        "frame.interface_name == \"in0\" && http2.type == 0 && frame contains \"warp beam\"",
        "http2.streamid",
    );
    assert!(data.len() > 5, "{data:?}");
    let heads = tshark(
        &file,
        "frame.interface_name == \"in0\" && http2.type == 1",
        "tcp.dstport",
    );
    let to = |port: &str| heads.iter().filter(|head| head.text == port).count();
    assert!(to("15009") > 5 && to("15009") < heads.len(), "{heads:?}");
    // And on the wire still not.
    let plain = tshark(
        &file,
        "frame.interface_name == \"up0\" && frame contains \"/items\"",
        "frame.number",
    );
    assert!(plain.is_empty(), "{plain:?}");
}

fn both_sides(file: &Path, pod: &str) {
    let mut names: Vec<String> = tshark(file, "tcp", "frame.interface_name")
        .into_iter()
        .map(|frame| frame.text)
        .collect();
    names.sort();
    names.dedup();
    assert_eq!(names, ["dn0", "up0"], "{pod}");
    let asked = tshark(
        file,
        "frame.interface_name == \"dn0\" && http.request.method == GET && http.request.uri == \"/items\"",
        "http.host",
    );
    assert!(asked.len() > 5, "{pod}: {asked:?}");
    assert!(
        asked.iter().all(|frame| frame.text == "server:8080"),
        "{pod}: {asked:?}"
    );
    let answered = tshark(
        file,
        "frame.interface_name == \"dn0\" && http.response.code == 200",
        "http.response.code",
    );
    assert!(answered.len() > 5, "{pod}");
    // The same on the wire: records of TLS at the mesh's port, and not a word of HTTP.
    let records = tshark(
        file,
        // Where tshark has seen the handshake it knows TLS 1.3, in which this is called opaque.
        "frame.interface_name == \"up0\" && tcp.port == 15008 && (tls.record.content_type == 23 || tls.record.opaque_type == 23)",
        "tls.record.version",
    );
    for request in &asked {
        let near = records
            .iter()
            .any(|record| (record.at - request.at).abs() < APART);
        assert!(near, "{pod}: no record beside {request:?}");
    }
    let plain = tshark(
        file,
        "frame.interface_name == \"up0\" && frame contains \"/items\"",
        "frame.number",
    );
    assert!(plain.is_empty(), "{pod}: {plain:?}");
    let http = tshark(
        file,
        "frame.interface_name == \"up0\" && http.request.uri == \"/items\"",
        "frame.number",
    );
    assert!(http.is_empty(), "{pod}: {http:?}");
}
