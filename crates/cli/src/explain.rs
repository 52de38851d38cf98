// SPDX-License-Identifier: Apache-2.0
//! `maille explain`: what would become of a request, and which resource decided each part, as the proxies of both sides say it.
//!
//! Must never decide anything itself. Read `api.rs` next.

use std::process::ExitCode;

use serde::Deserialize;
use serde_json::Value;

use crate::args::Output;
use crate::args::ask::Explain;
use crate::failure::Expected;
use crate::query::Query;
use crate::reach::Reach;
use crate::screen::{Screen, print, print_json, table};
use crate::state::Base;
use crate::text::clean;

/// How a pod is captured.
pub(crate) mod capture;

/// `/v1/explain`.
#[derive(Debug, Clone, Deserialize)]
struct Explained {
    src: Party,
    dst: Asked,
    verdict: String,
    #[serde(default)]
    flag: String,
    why: String,
    steps: Vec<Step>,
    endpoints: Vec<Endpoint>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Party {
    namespace: String,
    pod: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Asked {
    address: String,
    service: String,
}

#[derive(Debug, Clone, Deserialize)]
struct Step {
    name: String,
    value: String,
    decided_by: String,
}

#[derive(Debug, Clone, Deserialize)]
struct Endpoint {
    #[serde(default)]
    party: Party,
    target: String,
    hop: String,
    #[serde(default)]
    identity: String,
    accepts: String,
    #[serde(default)]
    why: String,
}

pub(crate) async fn run(args: &Explain, base: &Base, screen: Screen) -> anyhow::Result<ExitCode> {
    let (src, dst) = match (&args.capture, &args.src, &args.dst) {
        (Some(pod), _, _) => return capture::run(args, pod, base).await,
        (None, Some(src), Some(dst)) => (src, dst),
        (None, _, _) => unreachable!("both are required where --capture is not given"),
    };
    let reach = Reach::find(&args.which, base).await?;
    let headers = (!args.header.is_empty()).then(|| args.header.join("\n"));
    let query = Query::of("/v1/explain")
        .with("src", src)
        .with("dst", dst)
        .maybe("namespace", args.namespace.as_deref())
        .maybe("port", args.port)
        .maybe("method", args.method.as_deref())
        .maybe("path", args.path.as_deref())
        .maybe("headers", headers);
    let json: Value = reach.get(query.path()).await?;
    let said: Explained = reach.read(&json)?;
    match args.output {
        Output::Json => print_json(&json)?,
        Output::Table => print(&show(&said, screen))?,
    };
    if said.verdict == "forward" {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Expected::Found {
        what: format!("it would not get through: {}", clean(&said.why)),
    }
    .into())
}

fn show(said: &Explained, screen: Screen) -> String {
    let src = format!("{}/{}", clean(&said.src.namespace), clean(&said.src.pod));
    let dst = match said.dst.service.as_str() {
        "" => clean(&said.dst.address),
        service => format!("svc {} ({})", clean(service), clean(&said.dst.address)),
    };
    let verdict = match said.verdict.as_str() {
        "forward" => screen.green("FORWARD"),
        "refuse" => screen.red("REFUSE"),
        other => screen.yellow(&clean(other).to_uppercase()),
    };
    let flag = match said.flag.as_str() {
        "" => String::new(),
        flag => format!(" [{}]", clean(flag)),
    };
    let mut text = format!("{src} -> {dst}\n{verdict}{flag}: {}\n\n", clean(&said.why));
    let step = |step: &Step| {
        vec![
            clean(&step.name),
            clean(&step.value),
            clean(&step.decided_by),
        ]
    };
    let rows: Vec<_> = said.steps.iter().map(step).collect();
    text.push_str(&table(&["PART", "DECISION", "DECIDED BY"], &rows, &[]));
    if said.endpoints.is_empty() {
        return text;
    }
    let row = |endpoint: &Endpoint| {
        let name = match endpoint.party.pod.as_str() {
            "" => "-".to_owned(),
            pod => format!("{}/{}", clean(&endpoint.party.namespace), clean(pod)),
        };
        let accepts = match (endpoint.accepts.as_str(), endpoint.why.as_str()) {
            ("forward", _) => "yes".to_owned(),
            ("none", _) => "has no proxy".to_owned(),
            (word, "") => clean(word),
            (word, why) => format!("{}: {}", clean(word), clean(why)),
        };
        vec![
            name,
            clean(&endpoint.target),
            clean(&endpoint.hop),
            accepts,
            clean(&endpoint.identity),
        ]
    };
    let rows: Vec<_> = said.endpoints.iter().map(row).collect();
    let head = ["ENDPOINT", "TARGET", "HOP", "ACCEPTS", "IDENTITY"];
    text.push('\n');
    text.push_str(&table(&head, &rows, &[]));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::screen::Screen;

    #[test]
    fn every_part_has_its_line() {
        let said: Explained = serde_json::from_str(
            r#"{"src":{"namespace":"shop","pod":"web-1","meshed":true},
                "dst":{"text":"svc/api","address":"10.96.0.1:80","service":"shop/api"},
                "verdict":"refuse","flag":"no-endpoint","why":"the service has no ready endpoint",
                "steps":[{"name":"policy","value":"allowed","decided_by":"built \u001b[31min"}],
                "endpoints":[{"target":"10.0.0.1:80","hop":"mesh","accepts":"refuse","why":"misdirected"}]}"#,
        )
        .unwrap();
        assert_eq!(
            show(&said, Screen::plain()),
            "shop/web-1 -> svc shop/api (10.96.0.1:80)\n\
             REFUSE [no-endpoint]: the service has no ready endpoint\n\n\
             PART     DECISION   DECIDED BY\n\
             policy   allowed    built \\u{1b}[31min\n\n\
             ENDPOINT   TARGET        HOP    ACCEPTS               IDENTITY\n\
             -          10.0.0.1:80   mesh   refuse: misdirected\n"
        );
    }
}
