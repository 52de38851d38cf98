// SPDX-License-Identifier: Apache-2.0
//! `maille tap`: requests and connections as they pass. Must never show a stranger's text but through `text.rs`. Read `stream.rs` next.

use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use crate::args::ask::{HeaderView, List, Matching, Resources, Tap, Way};
use crate::query::Query;
use crate::reach::Reach;
use crate::screen::{Screen, print};
use crate::state::Base;
use crate::stream::Lines;
use crate::text::{clean, guard_json};

/// A line of `/v1/tap`. What this program does not use stays in the JSON that is passed on.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Line {
    #[serde(rename = "type")]
    pub(crate) what: String,
    pub(crate) id: String,
    pub(crate) proxy: String,
    pub(crate) src: Option<End>,
    pub(crate) dst: Option<End>,
    pub(crate) service: String,
    pub(crate) dialled: String,
    pub(crate) tls: Option<bool>,
    pub(crate) peer_id: String,
    pub(crate) protocol: String,
    pub(crate) sni: String,
    pub(crate) method: String,
    pub(crate) authority: String,
    pub(crate) path: String,
    pub(crate) request_headers: Vec<Header>,
    pub(crate) status: Option<u32>,
    pub(crate) response_headers: Vec<Header>,
    pub(crate) grpc_status: Option<u32>,
    pub(crate) latency_us: Option<u64>,
    pub(crate) duration_us: Option<u64>,
    pub(crate) request_bytes: Option<u64>,
    pub(crate) response_bytes: Option<u64>,
    pub(crate) failure: String,
    pub(crate) over_rate: u64,
    pub(crate) no_room: u64,
    pub(crate) pod: Option<Named>,
    pub(crate) error: String,
}

/// One end.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct End {
    pub(crate) address: String,
    pub(crate) pod: Option<Named>,
    pub(crate) owner: String,
}

/// A name.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Named {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// One header.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Header {
    pub(crate) name: String,
    pub(crate) value: Option<String>,
}

pub(crate) async fn run(args: &Tap, base: &Base, screen: Screen) -> anyhow::Result<ExitCode> {
    let reach = Reach::find(&args.which, base).await?;
    let wide = args.output != List::Table;
    let headers = match args.headers {
        HeaderView::Redacted if wide => "redacted",
        HeaderView::All if wide => "all",
        _ => "none",
    };
    let query = query(&args.what, &args.matching)
        .maybe("status", args.status.as_deref())
        .maybe("grpc_status", args.grpc_status)
        .maybe(
            "min_latency_ms",
            args.min_latency.map(|time| time.as_millis()),
        )
        .maybe(
            "direction",
            args.direction.map(|way| match way {
                Way::In => "in",
                Way::Out => "out",
            }),
        )
        .with("max_rps", args.max_rps)
        .with("headers", headers);
    let mut lines = Lines::open(&reach, query.path()).await?;
    let mut dropped = (0, 0);
    loop {
        let Some(text) = lines.next().await? else {
            break;
        };
        let line: Line = serde_json::from_str(&text)?;
        match line.what.as_str() {
            "dropped" => {
                dropped = (dropped.0 + line.over_rate, dropped.1 + line.no_room);
            }
            "error" if args.output != List::Json => screen.say(&refusal(&line)),
            _ => {}
        }
        let shown = match args.output {
            List::Json => print(&guard_json(&text))?,
            _ if matches!(line.what.as_str(), "dropped" | "error") => true,
            output => print(&show(&line, output))?,
        };
        if !shown {
            break;
        }
    }
    if dropped != (0, 0) {
        screen.say(&losses(dropped, args.max_rps));
    }
    Ok(ExitCode::SUCCESS)
}

/// The parameters that `tap` and `top` share.
pub(crate) fn query(what: &Resources, matching: &Matching) -> Query {
    Query::of("/v1/tap")
        .with("resource", what.text())
        .maybe("namespace", what.namespace.as_deref())
        .maybe("to", matching.to.as_deref())
        .maybe("to_namespace", matching.to_namespace.as_deref())
        .maybe("method", matching.method.as_deref())
        .maybe("path", matching.path.as_deref())
        .maybe("authority", matching.authority.as_deref())
}

fn losses((over_rate, no_room): (u64, u64), max_rps: u32) -> String {
    let mut text = Vec::new();
    if over_rate > 0 {
        text.push(format!(
            "{over_rate} requests were not shown: more than {max_rps} a second (--max-rps)"
        ));
    }
    if no_room > 0 {
        text.push(format!(
            "{no_room} lines were lost: this reader, or the way to it, is too slow"
        ));
    }
    text.join("\n")
}

fn refusal(line: &Line) -> String {
    let pod = line.pod.clone().unwrap_or_default();
    format!(
        "{}/{} is not shown: {}",
        clean(&pod.namespace),
        clean(&pod.name),
        clean(&line.error)
    )
}

/// One line, in the manner of the field.
fn show(line: &Line, output: List) -> String {
    let mut text = Vec::new();
    let word = match line.what.as_str() {
        "request" => "req",
        "response" => "rsp",
        other => other,
    };
    text.push(clean(word));
    let mut add = |name: &str, value: &str| {
        if !value.is_empty() {
            text.push(format!("{name}={}", quoted(value)));
        }
    };
    add("id", &line.id);
    add("proxy", &line.proxy);
    add("src", &end(line.src.as_ref(), output));
    add("dst", &end(line.dst.as_ref(), output));
    add("tls", if line.tls == Some(true) { "true" } else { "no" });
    let first = matches!(line.what.as_str(), "request" | "open");
    if first || output == List::Wide {
        add("protocol", if first { &line.protocol } else { "" });
        add(":method", &line.method);
        add(":authority", &line.authority);
        add(":path", &line.path);
        add("sni", &line.sni);
    }
    if output == List::Wide {
        add("service", &line.service);
        add("dialled", &line.dialled);
        add("peer", &line.peer_id);
    }
    let number = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
    if let Some(status) = line.status
        && line.what != "request"
    {
        add(":status", &status.to_string());
    }
    if line.what == "response" {
        add("latency", &micros(line.latency_us));
    }
    if matches!(line.what.as_str(), "end" | "close") {
        add(
            "grpc-status",
            &line.grpc_status.map(grpc).unwrap_or_default(),
        );
        add("failure", &line.failure);
        add("duration", &micros(line.duration_us));
        add("request-length", &bytes(&number(line.request_bytes)));
        add("response-length", &bytes(&number(line.response_bytes)));
    }
    let mut text = text.join(" ");
    if output == List::Wide {
        let headers = match line.what.as_str() {
            "request" => &line.request_headers,
            "response" => &line.response_headers,
            _ => &Vec::new(),
        };
        for header in headers {
            let value = match &header.value {
                Some(value) => clean(value),
                None => "(redacted)".to_owned(),
            };
            text.push_str(&format!("\n    {}: {value}", clean(&header.name)));
        }
    }
    text
}

/// A value with a blank or a quote in it is one value all the same.
fn quoted(value: &str) -> String {
    let value = clean(value);
    if value.contains([' ', '"']) {
        format!("\"{}\"", value.replace('"', "\\\""))
    } else {
        value
    }
}

/// The pod and its port where it is one, else the address.
fn end(end: Option<&End>, output: List) -> String {
    let Some(end) = end else {
        return String::new();
    };
    let port = end.address.rsplit(':').next().unwrap_or_default();
    match &end.pod {
        Some(pod) if output == List::Wide => {
            format!("{}/{}({})", pod.namespace, pod.name, end.address)
        }
        Some(pod) => format!("{}/{}:{port}", pod.namespace, pod.name),
        None => end.address.clone(),
    }
}

fn micros(value: Option<u64>) -> String {
    match value {
        None => String::new(),
        Some(value @ ..10_000) => format!("{value}µs"),
        Some(value @ ..10_000_000) => format!("{}ms", value / 1_000),
        Some(value) => format!("{}s", value / 1_000_000),
    }
}

fn bytes(number: &str) -> String {
    if number.is_empty() {
        String::new()
    } else {
        format!("{number}B")
    }
}

/// The words of gRPC's codes.
pub(crate) fn grpc(code: u32) -> String {
    const WORDS: [&str; 17] = [
        "OK",
        "Canceled",
        "Unknown",
        "InvalidArgument",
        "DeadlineExceeded",
        "NotFound",
        "AlreadyExists",
        "PermissionDenied",
        "ResourceExhausted",
        "FailedPrecondition",
        "Aborted",
        "OutOfRange",
        "Unimplemented",
        "Internal",
        "Unavailable",
        "DataLoss",
        "Unauthenticated",
    ];
    let word = usize::try_from(code).ok().and_then(|code| WORDS.get(code));
    word.map_or_else(|| code.to_string(), |word| (*word).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(json: &str) -> Line {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn lines_are_those_that_people_know() {
        let request = line(
            r#"{"type":"request","id":"a:1","proxy":"out","src":{"address":"10.0.0.1:5","pod":{"namespace":"shop","name":"web-1"}},
                "dst":{"address":"10.0.0.2:80"},"tls":true,"protocol":"http/1","method":"GET","authority":"api","path":"/x y"}"#,
        );
        assert_eq!(
            show(&request, List::Table),
            "req id=a:1 proxy=out src=shop/web-1:5 dst=10.0.0.2:80 tls=true protocol=http/1 :method=GET :authority=api :path=\"/x y\""
        );
        let end = line(
            r#"{"type":"end","id":"a:1","proxy":"out","tls":false,"status":200,"grpc_status":14,"duration_us":12000,
                "request_bytes":7,"response_bytes":8,"failure":"no-endpoint"}"#,
        );
        assert_eq!(
            show(&end, List::Table),
            "end id=a:1 proxy=out tls=no :status=200 grpc-status=Unavailable failure=no-endpoint duration=12ms request-length=7B response-length=8B"
        );
    }

    #[test]
    fn hostile_text_stays_on_its_line() {
        let hostile = line(
            r#"{"type":"request","id":"a:1","proxy":"in","method":"G\u001b[31mET","path":"/\n\u202erm -rf","authority":"<b>\"x\"</b>",
                "request_headers":[{"name":"x\r\nfake: 1","value":"\u0007"},{"name":"cookie","value":null}]}"#,
        );
        for output in [List::Table, List::Wide] {
            let shown = show(&hostile, output);
            let harmless = |c: char| !c.is_control() || c == '\n';
            assert!(shown.chars().all(harmless), "{shown:?}");
            let lines = if output == List::Wide { 3 } else { 1 };
            assert_eq!(shown.lines().count(), lines, "{shown}");
        }
        assert!(show(&hostile, List::Wide).ends_with("cookie: (redacted)"));
    }
}
