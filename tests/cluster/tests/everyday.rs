// SPDX-License-Identifier: Apache-2.0
//! What people do every day with pods that have a sidecar: they look into them, read their logs, reach their ports; things that are done
//! every minute are done; who tapped is found in the audit log. And the experiment that every article about a mesh shows: the cluster's
//! own DNS, injected as it runs.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use maille_cluster::meshed::{Meshed, text};
use maille_cluster::twins::Load;
use serde_json::Value;

const MANIFESTS: &str = include_str!("everyday.yaml");
/// Deployments, and where their proxies are among a pod's containers.
const KINDS: [(&str, &str); 2] = [("web", "initContainers"), ("older", "containers")];
const SAID: &str = "this is the application";
/// A question for the addresses of `kubernetes.default.svc.cluster.local` over TCP, in octal for a shell, and how its answer ends: 10.96.0.1.
const QUESTION: &str = r"\000\066\021\042\001\000\000\001\000\000\000\000\000\000\012kubernetes\007default\003svc\007cluster\005local\000\000\001\000\001";
const ANSWER: &str = "0a600001";
/// How often DNS is asked before, while and after it is injected.
const ASKED: usize = 20;

/// A process that ends with the test.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Its next line.
    fn line(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A mesh, and the image of the application.
fn start() -> Meshed {
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    let up = Meshed::start(program, Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    up.install().unwrap();
    Load::image(&up).unwrap();
    up
}

/// What a shell in the application of a deployment says.
fn shell(up: &Meshed, deployment: &str, script: &str) -> anyhow::Result<String> {
    let target = format!("deployment/{deployment}");
    let exec = [
        "-n", "daily", "exec", &target, "--", "/bin/sh", "-c", script,
    ];
    up.cluster().kubectl(&exec)
}

/// Where a service is.
fn address(up: &Meshed, service: &str) -> anyhow::Result<String> {
    up.kubectl(&format!(
        "-n daily get service {service} -o jsonpath={{.spec.clusterIP}}"
    ))
}

/// Whoever names no container means the application's.
fn exec_and_logs_mean_the_application(up: &Meshed) {
    for (name, list) in KINDS {
        let pod = up.pods("daily", &format!("app={name}")).unwrap().remove(0);
        let all = pod["spec"][list].as_array().unwrap();
        assert!(
            all.iter().any(|one| one["name"] == "maille-proxy"),
            "{name}: {pod:#}"
        );
        let runs = shell(up, name, "tr '\\0' ' ' </proc/1/cmdline").unwrap();
        assert_eq!(runs, "maille-steady serve 0 ", "{name}");
        let log = up.kubectl(&format!("-n daily logs deployment/{name}"));
        assert!(log.unwrap().starts_with(SAID), "{name}");
        let proxy = up.kubectl(&format!("-n daily logs deployment/{name} -c maille-proxy"));
        let proxy = proxy.unwrap();
        assert!(
            !proxy.contains(SAID) && !proxy.is_empty(),
            "{name}: {proxy}"
        );
    }
}

/// A port of the application is reached through the kubelet, in both kinds of pods, and by the name of a service.
fn port_forward_reaches_the_application(up: &Meshed) {
    for target in ["deployment/web", "deployment/older", "service/web"] {
        let mut forward = up.cluster().kubectl_command().unwrap();
        let port = if target.starts_with("service") {
            ":80"
        } else {
            ":8080"
        };
        forward.args(["-n", "daily", "port-forward", target, port]);
        let mut forward = Running::start(forward);
        // Forwarding from 127.0.0.1:PORT -> 8080
        let line = forward.line();
        let here = line.split(' ').find(|word| word.starts_with("127.0.0.1:"));
        let here = here.with_context(|| line.clone()).unwrap();
        let control_plane = up.cluster().control_plane();
        let mut ask = control_plane.on_network("busybox").unwrap();
        ask.args(["wget", "-qO-", &format!("http://{here}/ready")]);
        let told = ask.output().unwrap();
        assert!(told.status.success(), "{target}: {told:?}");
    }
}

/// Both are in the mesh, and neither of them lost anything.
fn both_are_counted(up: &Meshed) {
    up.until("what is counted", || {
        for (name, _) in KINDS {
            let host = address(up, name)?;
            for client in ["web", "older"] {
                shell(up, client, &format!("wget -qO- http://{host}/ready"))?;
            }
        }
        let stat: Value = serde_json::from_str(&up.maille("stat deploy -n daily -o json")?)?;
        for (name, _) in KINDS {
            let rows = stat["rows"].as_array().context("rows")?;
            let row = rows.iter().find(|row| row["name"] == name);
            let row = row.with_context(|| format!("{name}: {stat:#}"))?;
            ensure!(row["pods"]["meshed"] == row["pods"]["total"], "{row:#}");
            let count = row["window"]["requests"].as_u64().unwrap_or_default();
            ensure!(count > 0 && row["window"]["failures"] == 0, "{row:#}");
        }
        Ok(())
    })
    .unwrap();
}

/// Who taps sees requests as they pass, and is written down by the API server with what was tapped.
fn a_tap_is_audited(up: &Meshed) {
    assert!(!up.cluster().audited().unwrap().contains("\"tap\""));
    let maille = up.program("maille").unwrap();
    let mut tap = up.cluster().control_plane().on_network(maille).unwrap();
    tap.args(["tap", "deploy/web", "-n", "daily", "-o", "json"]);
    tap.env("KUBECONFIG", up.cluster().pki().join("admin.conf"));
    let mut tap = Running::start(tap);
    let asking =
        "for i in 1 2 3 4 5 6 7 8 9; do wget -qO- http://$WEB_SERVICE_HOST/ready; sleep 1; done";
    let mut asks = up.cluster().kubectl_command().unwrap();
    asks.args([
        "-n",
        "daily",
        "exec",
        "deployment/older",
        "--",
        "/bin/sh",
        "-c",
        asking,
    ]);
    let asks = Running::start(asks);
    let seen = tap.line();
    assert!(seen.contains("/ready"), "{seen}");
    drop((tap, asks));
    let entry = up.until("an entry of the audit log", || {
        let all = up.cluster().audited()?;
        let mut entries = all
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let tapped = entries.find(|entry| text(entry, "/objectRef/resource") == "tap");
        tapped.context("nobody tapped")
    });
    let entry = entry.unwrap();
    eprintln!(
        "{} tapped {}: {}",
        entry["user"]["username"], entry["objectRef"]["namespace"], entry["requestURI"]
    );
    assert_eq!(text(&entry, "/objectRef/namespace"), "daily");
    assert_eq!(text(&entry, "/objectRef/apiGroup"), "api.maille.io");
    assert!(!text(&entry, "/user/username").is_empty());
}

/// What is begun every minute ends, its sidecar with it.
fn what_is_done_every_minute_is_done(up: &Meshed) {
    up.until("a job of the minute", || {
        let jobs: Value = serde_json::from_str(&up.kubectl("-n daily get jobs -o json")?)?;
        let jobs = jobs["items"].as_array().context("jobs")?;
        let done = jobs.iter().any(|job| job["status"]["succeeded"] == 1);
        ensure!(done, "{jobs:#?}");
        Ok(())
    })
    .unwrap();
    let pods = up.pods("daily", "batch.kubernetes.io/job-name").unwrap();
    let done = pods
        .iter()
        .find(|pod| pod["status"]["phase"] == "Succeeded");
    let done = done.with_context(|| format!("{pods:#?}")).unwrap();
    assert!(!text(done, "/metadata/annotations/maille.io~1injected").is_empty());
    let first = &done["spec"]["initContainers"][2]["name"];
    assert_eq!(first, "first", "after the sidecar: {done:#}");
}

#[test]
fn exec_logs_ports_and_jobs_are_as_ever_and_taps_are_audited() {
    let up = start();
    up.until("the webhook", || up.cluster().apply(MANIFESTS))
        .unwrap();
    for (name, _) in KINDS {
        up.settled("daily", &format!("app={name}"), 1).unwrap();
    }
    exec_and_logs_mean_the_application(&up);
    port_forward_reaches_the_application(&up);
    both_are_counted(&up);
    a_tap_is_audited(&up);
    what_is_done_every_minute_is_done(&up);
}

/// Asks DNS for a name as most do, and for an address over TCP, which passes the proxies.
fn dns_answers(up: &Meshed) -> anyhow::Result<()> {
    let name = shell(up, "web", "nslookup kubernetes.default.svc.cluster.local")?;
    ensure!(name.contains("10.96.0.1"), "{name}");
    let asking =
        format!("printf '{QUESTION}' | nc -w 2 10.96.0.10 53 | od -An -v -tx1 | tr -d ' \\n'");
    let told = shell(up, "web", &asking)?;
    ensure!(told.contains(ANSWER), "over TCP: {told:?}");
    Ok(())
}

#[test]
fn the_cluster_s_dns_is_injected_as_it_runs_and_goes_on_answering() {
    let up = start();
    up.until("the webhook", || up.cluster().apply(MANIFESTS))
        .unwrap();
    up.settled("daily", "app=web", 1).unwrap();
    up.until("DNS", || dns_answers(&up)).unwrap();
    let before = up
        .kubectl("get deploy coredns -n kube-system -o json")
        .unwrap();

    let dns = up
        .kubectl("get deploy coredns -n kube-system -o yaml")
        .unwrap();
    let meshed = up.maille_of("inject -", &dns).unwrap();
    up.cluster().apply(&meshed).unwrap();
    // One of them answers all the time: those who ask try again, as resolvers do.
    for _ in 0..ASKED {
        dns_answers(&up).unwrap();
    }
    up.kubectl("-n kube-system rollout status deployment/coredns --timeout 120s")
        .unwrap();
    up.settled("kube-system", "k8s-app=kube-dns", 1).unwrap();
    for _ in 0..ASKED {
        dns_answers(&up).unwrap();
    }
    is_seen(&up);

    let live = up
        .kubectl("get deploy coredns -n kube-system -o yaml")
        .unwrap();
    let bare = up.maille_of("uninject -", &live).unwrap();
    up.cluster().apply(&bare).unwrap();
    up.kubectl("-n kube-system rollout status deployment/coredns --timeout 120s")
        .unwrap();
    let after = up
        .kubectl("get deploy coredns -n kube-system -o json")
        .unwrap();
    let spec = |text: &str| serde_json::from_str::<Value>(text).unwrap()["spec"].take();
    assert_eq!(spec(&after), spec(&before));
    up.until("DNS", || dns_answers(&up)).unwrap();
}

/// DNS is in the mesh, and what is asked of it over TCP is counted and can be watched.
fn is_seen(up: &Meshed) {
    let pods = up.pods("kube-system", "k8s-app=kube-dns").unwrap();
    assert!(!text(&pods[0], "/metadata/annotations/maille.io~1injected").is_empty());
    up.until("stat of DNS", || {
        dns_answers(up)?;
        let stat = up.maille("stat deploy -n kube-system -o json")?;
        let stat: Value = serde_json::from_str(&stat)?;
        let rows = stat["rows"].as_array().context("rows")?;
        let row = rows.iter().find(|row| row["name"] == "coredns");
        let row = row.with_context(|| format!("{stat:#}"))?;
        ensure!(row["pods"]["meshed"] == 1, "{row:#}");
        let protected = row["window"]["bytes_protected"].as_u64();
        ensure!(protected.is_some_and(|bytes| bytes > 0), "{row:#}");
        Ok(())
    })
    .unwrap();
    let maille = up.program("maille").unwrap();
    let mut tap = up.cluster().control_plane().on_network(maille).unwrap();
    tap.args(["tap", "deploy/coredns", "-n", "kube-system", "-o", "json"]);
    tap.env("KUBECONFIG", up.cluster().pki().join("admin.conf"));
    let mut tap = Running::start(tap);
    let seen = up.until("a tap of DNS", || {
        dns_answers(up)?;
        let line = tap.line();
        let seen: Value = serde_json::from_str(&line)?;
        if seen.to_string().contains("daily") {
            return Ok(line);
        }
        bail!("{line}")
    });
    eprintln!("tap of DNS: {}", seen.unwrap());
}
