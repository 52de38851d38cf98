// SPDX-License-Identifier: Apache-2.0
//! `maille stat`: the traffic, as the proxies report it. Must never compute what control did not say. Read `api.rs` next.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::{MissedTickBehavior, interval};

use crate::api::{self, Edge, Ref, Row, Rows, Workload};
use crate::args;
use crate::args::ask::List;
use crate::failure::Expected;
use crate::query::Query;
use crate::reach::Reach;
use crate::screen::{Screen, print, print_json, table};
use crate::state::Base;
use crate::text::clean;

pub(crate) async fn run(
    args: &args::Stat,
    base: &Base,
    screen: Screen,
) -> anyhow::Result<ExitCode> {
    let reach = Reach::find(&args.which, base).await?;
    if !args.watch {
        show(args, &reach, screen).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut tick = interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {
                if args.output != List::Json {
                    screen.wipe();
                }
                if !show(args, &reach, screen).await? {
                    return Ok(ExitCode::SUCCESS);
                }
            }
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
        }
    }
}

/// The namespace of what belongs to the cluster itself.
const SYSTEM: &str = "kube-system";
/// Seconds that the mesh keeps.
const KEPT: u64 = 600;
/// What is no resource, and shown all the same.
const EDGES: &str = "edges";
/// Words that are kinds, so that `deploy pods` is not a deployment of that name.
const KINDS: [&str; 29] = [
    "all",
    "deploy",
    "deployment",
    "deployments",
    "workloads",
    "sts",
    "statefulset",
    "statefulsets",
    "ds",
    "daemonset",
    "daemonsets",
    "rs",
    "replicaset",
    "replicasets",
    "job",
    "jobs",
    "cj",
    "cronjob",
    "cronjobs",
    "po",
    "pod",
    "pods",
    "svc",
    "service",
    "services",
    "ns",
    "namespace",
    "namespaces",
    "edges",
];

async fn show(args: &args::Stat, reach: &Reach, screen: Screen) -> anyhow::Result<bool> {
    let wanted = wanted(&args.resources);
    let overview = wanted.is_empty();
    let window = args.time_window.as_secs().min(KEPT);
    let mut said = Map::new();
    let mut text = Vec::new();
    let mut rows = Vec::new();
    for resource in wanted.iter().filter(|resource| *resource != EDGES) {
        let query = Query::of("/v1/stat")
            .with("window", window)
            .with("resource", resource)
            .maybe("namespace", args.namespace.as_deref())
            .maybe("from", args.from.as_deref())
            .maybe("from_namespace", args.from_namespace.as_deref())
            .maybe("to", args.to.as_deref())
            .maybe("to_namespace", args.to_namespace.as_deref());
        let mut some: Value = reach.get(query.path()).await?;
        if args.namespace.is_none() && !args.all_namespaces {
            retain(&mut some["rows"], |row| row["namespace"] != SYSTEM);
        }
        said.insert("window_s".into(), some["window_s"].clone());
        text.extend(tables(&reach.read::<Rows>(&some)?.rows, args));
        if let Value::Array(some) = some["rows"].take() {
            rows.extend(some);
        }
    }
    if !wanted.is_empty() && wanted.iter().any(|resource| resource != EDGES) {
        said.insert("rows".into(), rows.into());
    }
    if overview || wanted.iter().any(|resource| resource == EDGES) {
        let mut json = overall(args, reach, window).await?;
        let stat: api::Stat = reach.read(&json)?;
        said.insert("window_s".into(), json["window_s"].take());
        if overview {
            text.push(workloads(&stat.workloads));
            said.insert("workloads".into(), json["workloads"].take());
        }
        text.push(edges(&stat.edges, screen));
        said.insert("edges".into(), json["edges"].take());
    }
    if args.output == List::Json {
        return print_json(&Value::Object(said));
    }
    if text.is_empty() {
        // As everybody else says it, and no failure.
        screen.say("No traffic found.");
        return Ok(true);
    }
    print(&text.join("\n"))
}

/// Everything, without what is the cluster's own unless it was asked for.
async fn overall(args: &args::Stat, reach: &Reach, window: u64) -> Result<Value, Expected> {
    let query = Query::of("/v1/stat").with("window", window);
    let mut stat: Value = reach.get(query.path()).await?;
    if let Some(only) = &args.namespace {
        retain(&mut stat["workloads"], |workload| {
            workload["namespace"] == *only.as_str()
        });
        retain(&mut stat["edges"], |edge| touches(edge, only));
    } else if !args.all_namespaces {
        retain(&mut stat["workloads"], |workload| {
            workload["namespace"] != SYSTEM
        });
        retain(&mut stat["edges"], |edge| !touches(edge, SYSTEM));
    }
    Ok(stat)
}

fn retain(list: &mut Value, keep: impl Fn(&Value) -> bool) {
    if let Some(list) = list.as_array_mut() {
        list.retain(keep);
    }
}

fn touches(edge: &Value, namespace: &str) -> bool {
    ["from", "to"]
        .iter()
        .any(|end| edge[end]["namespace"] == namespace)
}

/// Resources as they were typed: `deploy web` is one, `deploy pods` are two.
fn wanted(words: &[String]) -> Vec<String> {
    let mut wanted: Vec<String> = Vec::new();
    for word in words {
        let kind = KINDS.contains(&word.to_ascii_lowercase().as_str());
        match wanted.last_mut() {
            Some(last) if !kind && !word.contains('/') && !last.contains('/') => {
                last.push('/');
                last.push_str(word);
            }
            _ if word.eq_ignore_ascii_case("edge") => wanted.push(EDGES.to_owned()),
            _ => wanted.push(word.clone()),
        }
    }
    wanted
}

/// One table for each kind.
fn tables(rows: &[Row], args: &args::Stat) -> Vec<String> {
    let mut kinds: Vec<&str> = Vec::new();
    for row in rows {
        if !kinds.contains(&row.kind.as_str()) {
            kinds.push(&row.kind);
        }
    }
    let several = kinds.len() > 1;
    let of = |kind: &&str| {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.kind == **kind).collect();
        rows_table(&rows, several, args)
    };
    kinds.iter().map(of).collect()
}

fn rows_table(rows: &[&Row], prefixed: bool, args: &args::Stat) -> String {
    let namespaced = args.namespace.is_none() && rows.iter().all(|row| row.kind != "ns");
    let pods = rows.iter().any(|row| row.kind == "po");
    let wide = args.output == List::Wide;
    let mut head = vec!["NAME"];
    if namespaced {
        head.insert(0, "NAMESPACE");
    }
    if pods {
        head.push("STATUS");
    }
    let numbers = head.len();
    head.extend([
        "MESHED",
        "SUCCESS",
        "RPS",
        "LATENCY_P50",
        "LATENCY_P95",
        "LATENCY_P99",
        "TCP_CONN",
        "SECURED",
    ]);
    if wide {
        head.extend(["REQUESTS", "FAILURES", "BYTES/SEC", "TCP_BYTES/SEC"]);
    }
    let line = |row: &&Row| {
        let window = &row.window;
        let name = clean(&row.name);
        let mut line = vec![if prefixed {
            format!("{}/{name}", clean(&row.kind))
        } else {
            name
        }];
        if namespaced {
            line.insert(0, clean(&row.namespace));
        }
        if pods {
            line.push(clean(&row.status));
        }
        line.extend([
            format!("{}/{}", row.pods.meshed, row.pods.total),
            percent(window.success_rate),
            rate(window.requests, window.rps),
            millis(window.p50_ms),
            millis(window.p95_ms),
            millis(window.p99_ms),
            row.tcp_open.to_string(),
            share(row.mtls_share),
        ]);
        if wide {
            let seconds = args.time_window.as_secs_f64().max(1.0);
            line.extend([
                window.requests.to_string(),
                window.failures.to_string(),
                format!("{:.0}B/s", window.bytes as f64 / seconds),
                format!("{:.0}B/s", row.tcp_bytes_per_second),
            ]);
        }
        line
    };
    let lines: Vec<_> = rows.iter().map(line).collect();
    let right: Vec<usize> = (numbers..head.len()).collect();
    table(&head, &lines, &right)
}

fn workloads(workloads: &[Workload]) -> String {
    let head = [
        "NAMESPACE",
        "NAME",
        "MESHED",
        "SUCCESS",
        "RPS",
        "LATENCY_P50",
        "LATENCY_P95",
        "LATENCY_P99",
        "TCP_CONN",
        "SECURED",
    ];
    let row = |workload: &Workload| {
        let inbound = &workload.inbound;
        vec![
            clean(&workload.namespace),
            clean(&workload.name),
            format!("{}/{}", workload.pods.meshed, workload.pods.total),
            percent(inbound.success_rate),
            rate(inbound.requests, inbound.rps),
            millis(inbound.p50_ms),
            millis(inbound.p95_ms),
            millis(inbound.p99_ms),
            workload.tcp_connections.to_string(),
            share(workload.mtls_share),
        ]
    };
    let rows: Vec<_> = workloads.iter().map(row).collect();
    if rows.is_empty() {
        return "No workloads found.\n".to_owned();
    }
    table(&head, &rows, &[2, 3, 4, 5, 6, 7, 8, 9])
}

/// The table of edges, which the demo shows too.
pub(crate) fn edges(edges: &[Edge], screen: Screen) -> String {
    let head = [
        "FROM",
        "TO",
        "PORT",
        "PROTOCOL",
        "SECURED",
        "SUCCESS",
        "RPS",
        "LATENCY_P50",
        "LATENCY_P95",
        "LATENCY_P99",
        "CONN",
    ];
    let row = |edge: &Edge| {
        let window = &edge.window;
        vec![
            end(edge.from.as_ref(), None),
            end(edge.to.as_ref(), edge.service.as_deref()),
            edge.port.to_string(),
            clean(&edge.protocol),
            protection(&edge.protection, screen),
            percent(window.success_rate),
            rate(window.requests, window.rps),
            millis(window.p50_ms),
            millis(window.p95_ms),
            millis(window.p99_ms),
            window.connections_open.to_string(),
        ]
    };
    let rows: Vec<_> = edges.iter().map(row).collect();
    if rows.is_empty() {
        return "No traffic found.\n".to_owned();
    }
    table(&head, &rows, &[2, 5, 6, 7, 8, 9, 10])
}

/// One end of an edge, `namespace/name`; an unknown one is named by the service, if there was one.
pub(crate) fn end(end: Option<&Ref>, service: Option<&str>) -> String {
    match (end, service) {
        (Some(end), _) => format!("{}/{}", clean(&end.namespace), clean(&end.name)),
        (None, Some(service)) if !service.is_empty() => format!("svc {}", clean(service)),
        (None, _) => "(unknown)".to_owned(),
    }
}

fn protection(word: &str, screen: Screen) -> String {
    match word {
        "mtls" => screen.green("mTLS"),
        other => screen.yellow(&clean(other)),
    }
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(dash, |share| format!("{:.2}%", share * 100.0))
}

fn share(share: Option<f64>) -> String {
    share.map_or_else(dash, |share| format!("{:.0}%", (share * 100.0).floor()))
}

fn rate(requests: u64, rps: f64) -> String {
    if requests == 0 {
        dash()
    } else {
        format!("{rps:.1}rps")
    }
}

fn millis(value: Option<f64>) -> String {
    value.map_or_else(dash, |value| {
        if value < 10.0 {
            format!("{value:.1}ms")
        } else {
            format!("{value:.0}ms")
        }
    })
}

fn dash() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_as_they_are_typed() {
        let words = |line: &str| wanted(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(words("deploy web"), ["deploy/web"]);
        assert_eq!(words("po edges"), ["po", "edges"]);
        assert_eq!(words("deploy/web pods"), ["deploy/web", "pods"]);
        assert_eq!(words("edge"), ["edges"]);
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!(percent(Some(0.99999)), "100.00%");
        assert_eq!(percent(None), "-");
        assert_eq!(
            share(Some(0.999)),
            "99%",
            "a share is never rounded up to all"
        );
        assert_eq!(share(Some(1.0)), "100%");
        assert_eq!(rate(0, 0.0), "-");
        assert_eq!(rate(3, 2.04), "2.0rps");
        assert_eq!(millis(Some(1.26)), "1.3ms");
        assert_eq!(millis(Some(99.6)), "100ms");
    }
}
