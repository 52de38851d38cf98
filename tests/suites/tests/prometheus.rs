// SPDX-License-Identifier: Apache-2.0
//! Prometheus from the distribution asks every meshed pod, from outside and from inside of the mesh: what it then knows is what was sent.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use maille_testkit::until_async;
use maille_tests_suites::{Server, Side, Stage, judge};
use serde_json::{Value, json};

/// What a proxy says that it tells, a line of a table for each family.
const REFERENCE: &str = include_str!("../../../docs/reference/metrics.md");

/// How long it may take until something that happened was asked for.
const SCRAPED: Duration = Duration::from_secs(30);

/// Requests that are answered with 200, and with 503.
const GOOD: f64 = 20.0;
const BAD: f64 = 3.0;
/// Bytes of one connection that is no HTTP.
const BYTES: f64 = 100_000.0;

/// A sum that must grow by so much, on each side of an edge.
const GROWTH: &[(&str, f64)] = &[
    (
        r#"response_total{pod=~"client-.*",direction="outbound",dst_service="odd",classification="success",status_code="200",tls="true"}"#,
        GOOD,
    ),
    (
        r#"response_total{pod=~"client-.*",direction="outbound",dst_service="odd",classification="failure",status_code="503",tls="true"}"#,
        BAD,
    ),
    (
        r#"response_total{pod=~"odd-.*",direction="inbound",tls="true",classification="success",client_id=~"spiffe://.*/ns/meshed/sa/default"}"#,
        GOOD,
    ),
    (
        r#"request_total{pod=~"odd-.*",direction="inbound",tls="true"}"#,
        GOOD + BAD,
    ),
    (
        r#"response_latency_ms_count{pod=~"client-.*",direction="outbound",dst_service="odd",dst_port="8080"}"#,
        GOOD + BAD,
    ),
    (
        r#"response_latency_ms_bucket{pod=~"client-.*",direction="outbound",dst_service="odd",dst_port="8080",le="+Inf"}"#,
        GOOD + BAD,
    ),
    (
        r#"tcp_open_total{pod=~"client-.*",direction="outbound",dst_service="sink",peer="dst"}"#,
        1.0,
    ),
    (
        r#"tcp_close_total{pod=~"sink-.*",direction="inbound",tls="true",peer="src",classification="success"}"#,
        1.0,
    ),
    (
        r#"tcp_connection_duration_ms_count{pod=~"sink-.*",direction="inbound",tls="true"}"#,
        1.0,
    ),
    (
        r#"tcp_write_bytes_total{pod=~"client-.*",direction="outbound",dst_service="sink"}"#,
        BYTES,
    ),
    (
        r#"tcp_read_bytes_total{pod=~"sink-.*",direction="inbound",tls="true"}"#,
        BYTES,
    ),
    // A port that the service does not have.
    (
        r#"maille_failure_total{pod=~"client-.*",direction="outbound",dst_port="9"}"#,
        1.0,
    ),
];

/// Prometheus's API, asked by the client of `side`.
async fn ask(stage: &Stage, side: Side, what: &str) -> Value {
    let line = format!("curl -sS -G http://prometheus:9090/api/v1/{what}");
    let said = stage.run(side, &line).await.unwrap();
    let answer: Value = serde_json::from_str(&said.good().unwrap()).unwrap();
    assert_eq!(answer["status"], "success", "{what}: {answer}");
    answer["data"].clone()
}

/// The sum of all series of a selector, 0 where there is none.
async fn sum(stage: &Stage, side: Side, selector: &str) -> f64 {
    let what = format!("query --data-urlencode 'query=sum({selector})'");
    let data = ask(stage, side, &what).await;
    let value = data["result"][0]["value"][1].as_str();
    value.map_or(0.0, |value| value.parse().unwrap())
}

async fn sums(stage: &Stage, side: Side) -> BTreeMap<&'static str, f64> {
    let mut sums = BTreeMap::new();
    for (selector, _) in GROWTH {
        sums.insert(*selector, sum(stage, side, selector).await);
    }
    sums
}

/// Name and kind of every family, from the reference.
fn families() -> Vec<(&'static str, &'static str)> {
    let rows = REFERENCE.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let name = cells.next()?.strip_suffix('`')?;
        Some((name, cells.next()?))
    });
    let rows: Vec<_> = rows.collect();
    assert!(rows.len() > 30, "{rows:?}");
    rows
}

async fn start() -> Stage {
    let stage = Stage::start("prom", |dir, programs| {
        let targets = dir.join("targets.json");
        let config = json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [{
                "job_name": "maille",
                "file_sd_configs": [{"files": [targets], "refresh_interval": "1s"}],
            }],
        });
        // JSON is YAML.
        fs::write(dir.join("prometheus.yml"), config.to_string())?;
        let dir = dir.display();
        let server = |name, ports, serves, command| Server {
            name,
            ports,
            declared: None,
            serves,
            command,
        };
        Ok(vec![
            server(
                "prometheus",
                &[9090],
                "curl -sSf http://prometheus:9090/-/ready",
                format!(
                    "exec prometheus --config.file={dir}/prometheus.yml --storage.tsdb.path={dir}/tsdb --web.listen-address=:9090"
                ),
            ),
            server(
                "odd",
                &[8080],
                "curl -sSf http://odd:8080/",
                format!("exec {} :8080", judge(programs, "odd")),
            ),
            server(
                "sink",
                &[7000],
                "nc -z sink 7000",
                "exec nc -lk -p 7000 < /dev/null > /dev/null".to_owned(),
            ),
        ])
    });
    stage.await.unwrap()
}

/// Tells both which pods there are, and waits until each was asked. What a pod sends to its own address never leaves it, so that a Prometheus
/// in the mesh is known to the other one only.
async fn scraped(stage: &Stage) {
    let pods = stage.pods().await.unwrap();
    let meshed = pods
        .iter()
        .filter(|pod| pod["namespace"] == Side::Meshed.namespace());
    let targets: Vec<_> = meshed
        .map(|pod| {
            let ip = pod["ips"][0].as_str().unwrap();
            json!({"targets": [format!("{ip}:4191")], "labels": {"pod": pod["name"]}})
        })
        .collect();
    assert_eq!(targets.len(), 4, "{pods:?}");
    for side in Side::BOTH {
        let own = |target: &Value| {
            let pod = target["labels"]["pod"].as_str().unwrap_or_default();
            side == Side::Meshed && pod.starts_with("prometheus-")
        };
        let targets: Vec<_> = targets.iter().filter(|target| !own(target)).collect();
        let count = targets.len();
        let targets = json!(targets);
        let file = stage.dir(side).join("targets.json");
        fs::write(file, targets.to_string()).unwrap();
        let all = until_async("every pod to be asked", SCRAPED, async || {
            (sum(stage, side, "up").await >= count as f64).then_some(())
        });
        if all.await.is_err() {
            let known = ask(stage, side, "targets").await;
            panic!("{side:?}: {known:#}\n{}", stage.logs());
        }
    }
}

#[tokio::test]
async fn what_prometheus_knows_is_what_was_sent() {
    let stage = start().await;
    scraped(&stage).await;
    let mut before = Vec::new();
    for side in Side::BOTH {
        before.push(sums(&stage, side).await);
    }
    let line = format!(
        "curl -sSf -o /dev/null 'http://odd:8080/[1-{GOOD}]' && curl -sS -o /dev/null 'http://odd:8080/error?[1-{BAD}]' && \
         head -c {BYTES} /dev/zero | nc -N sink 7000 && curl -sS -o /dev/null http://odd:9/"
    );
    stage
        .run(Side::Meshed, &line)
        .await
        .unwrap()
        .good()
        .unwrap();
    for (side, before) in Side::BOTH.into_iter().zip(before) {
        let mut seen = Vec::new();
        let all = until_async("the sums to have grown", SCRAPED, async || {
            let after = sums(&stage, side).await;
            seen = GROWTH
                .iter()
                .map(|(selector, by)| (*selector, after[selector] - before[selector], *by))
                .collect();
            seen.iter().all(|(_, grew, by)| grew == by).then_some(())
        });
        let all = all.await;
        let wrong: Vec<_> = seen.iter().filter(|(_, grew, by)| grew != by).collect();
        assert!(all.is_ok(), "{side:?}: {wrong:#?}");
        let known = ask(&stage, side, "metadata").await;
        for (name, kind) in families() {
            assert_eq!(known[name][0]["type"], kind, "{side:?}: {name}");
        }
    }
    stage.end().await.unwrap();
}
