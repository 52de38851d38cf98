// SPDX-License-Identifier: Apache-2.0
//! `maille stat`: the traffic, as the proxies report it. Must never compute what control did not say. Read `api.rs` next.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::{MissedTickBehavior, interval};

use crate::api::{self, Edge, Pod, Pods, Ref, Workload};
use crate::args::{self, Kind, Output};
use crate::screen::{Screen, print, print_json, table};
use crate::state::{Base, State};

pub(crate) async fn run(
    args: &args::Stat,
    base: &Base,
    screen: Screen,
) -> anyhow::Result<ExitCode> {
    let state = base.state(&args.which.name)?;
    if !args.watch {
        show(args, &state, screen).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut tick = interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {
                if args.output == Output::Table {
                    screen.wipe();
                }
                show(args, &state, screen).await?;
            }
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
        }
    }
}

/// The namespace of what belongs to the cluster itself.
const SYSTEM: &str = "kube-system";

async fn show(args: &args::Stat, state: &State, screen: Screen) -> anyhow::Result<()> {
    let kinds = match args.kinds.as_slice() {
        [] => &[Kind::Deploy, Kind::Edges],
        kinds => kinds,
    };
    let path = format!("/v1/stat?window={}s", args.time_window.as_secs());
    let mut stat: api::Stat = api::get(state, &path).await?;
    let mut pods = Pods { pods: Vec::new() };
    if kinds.contains(&Kind::Pods) {
        pods = api::get(state, "/v1/pods").await?;
    }
    if let Some(only) = &args.namespace {
        stat.workloads
            .retain(|workload| workload.namespace == *only);
        stat.edges.retain(|edge| touches(edge, only));
        pods.pods.retain(|pod| pod.namespace == *only);
    } else if !args.all_namespaces {
        // The cluster's own parts are nobody's workloads.
        stat.workloads
            .retain(|workload| workload.namespace != SYSTEM);
        stat.edges.retain(|edge| !touches(edge, SYSTEM));
        pods.pods.retain(|pod| pod.namespace != SYSTEM);
    }
    if args.output == Output::Json {
        let mut object = Map::new();
        object.insert("window_s".into(), stat.window_s.into());
        for kind in kinds {
            let (key, value) = match kind {
                Kind::Deploy => ("workloads", serde_json::to_value(&stat.workloads)?),
                Kind::Pods => ("pods", serde_json::to_value(&pods.pods)?),
                Kind::Edges => ("edges", serde_json::to_value(&stat.edges)?),
            };
            object.insert(key.into(), value);
        }
        return print_json(&Value::Object(object));
    }
    let mut text = Vec::new();
    for kind in kinds {
        text.push(match kind {
            Kind::Deploy => workloads(&stat.workloads),
            Kind::Pods => pod_table(&pods.pods),
            Kind::Edges => edges(&stat.edges, screen),
        });
    }
    print(&text.join("\n"))
}

fn touches(edge: &Edge, namespace: &str) -> bool {
    let within = |end: &Option<Ref>| end.as_ref().is_some_and(|end| end.namespace == namespace);
    within(&edge.from) || within(&edge.to)
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
            workload.namespace.clone(),
            workload.name.clone(),
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

fn pod_table(pods: &[Pod]) -> String {
    let head = [
        "NAMESPACE",
        "NAME",
        "READY",
        "STATUS",
        "CAPTURE",
        "REPORTING",
        "IPS",
        "MESSAGE",
    ];
    let row = |pod: &Pod| {
        vec![
            pod.namespace.clone(),
            pod.name.clone(),
            yes_no(pod.ready),
            pod.phase.clone(),
            pod.capture.clone().unwrap_or_else(dash),
            yes_no(pod.reporting),
            pod.ips.join(","),
            pod.message.clone().unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = pods.iter().map(row).collect();
    if rows.is_empty() {
        return "No pods found.\n".to_owned();
    }
    table(&head, &rows, &[])
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
            edge.protocol.clone(),
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
        (Some(end), _) => format!("{}/{}", end.namespace, end.name),
        (None, Some(service)) if !service.is_empty() => format!("svc {service}"),
        (None, _) => "(unknown)".to_owned(),
    }
}

fn protection(word: &str, screen: Screen) -> String {
    match word {
        "mtls" => screen.green("mTLS"),
        other => screen.yellow(other),
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

fn yes_no(value: bool) -> String {
    (if value { "yes" } else { "no" }).to_owned()
}

fn dash() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

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
