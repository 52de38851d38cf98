// SPDX-License-Identifier: Apache-2.0
//! The mesh on a real cluster, by what people type: installed, a namespace labelled, the example application as it is, on two
//! nodes. A witness on the switch between them says what it saw.
//!
//! `cargo xtask test cluster` builds the programs and images that this takes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Child;

use maille_cluster::Cluster;
use maille_cluster::demo::{self, MARKER};
use maille_cluster::parts::Parts;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A cluster that ends with the test, however it ends.
struct Up {
    cluster: Cluster,
    dir: TempDir,
}

impl Drop for Up {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell();
        }
        if let Err(error) = self.cluster.down() {
            eprintln!("{error:#}");
        }
    }
}

impl Up {
    fn new() -> Self {
        // Layers of images need a real file system: target/ has one.
        let dir = tempfile::Builder::new()
            .prefix("m")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
        let root = dir.path().join("maille-of-mesh");
        let cluster = Cluster::at(&root, program, Parts::ready().unwrap()).unwrap();
        let up = Self { cluster, dir };
        up.cluster.up(2).unwrap();
        up
    }

    fn kubectl(&self, line: &str) -> String {
        let args: Vec<_> = line.split(' ').collect();
        self.cluster.kubectl(&args).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `maille` where the API server is, as its administrator.
    fn maille(&self, line: &str) -> String {
        let mut maille = self
            .cluster
            .control_plane()
            .on_network(program("maille"))
            .unwrap();
        maille
            .args(line.split(' '))
            .env("KUBECONFIG", self.cluster.pki().join("admin.conf"));
        let output = maille.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "maille {line}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What somebody would look at first.
    fn tell(&self) {
        for line in [
            "get pods -A -o wide",
            "get events -A --field-selector type!=Normal",
            "-n maille-system logs deployment/maille-control --tail 40",
            "-n loom logs deployment/front -c maille-proxy --tail 40",
            "-n loom logs deployment/front -c maille-init --tail 40",
        ] {
            let args: Vec<_> = line.split(' ').collect();
            match self.cluster.kubectl(&args) {
                Ok(text) => eprintln!("-- {line}\n{text}"),
                Err(error) => eprintln!("-- {line}\n{error:#}"),
            }
        }
    }
}

/// A release program.
fn program(name: &str) -> PathBuf {
    let path = target().join("release").join(name);
    assert!(
        path.is_file(),
        "{} is missing: `cargo xtask test cluster` builds it",
        path.display()
    );
    path
}

fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap()
}

/// On the switch that joins the nodes.
struct Observer {
    child: Child,
    report: PathBuf,
    expect: PathBuf,
}

impl Observer {
    fn start(up: &Up) -> Self {
        let (report, expect) = (up.path("observed.json"), up.path("expect.json"));
        fs::write(&expect, r#"{"pods":[]}"#).unwrap();
        let observer = program("maille-observer");
        let mut observer = up.cluster.control_plane().on_network(observer).unwrap();
        observer
            .args(["--marker", MARKER, "--report"])
            .arg(&report)
            .arg("--expect")
            .arg(&expect);
        let child = observer.spawn().unwrap();
        Self {
            child,
            report,
            expect,
        }
    }

    /// Whom it should find protected, by what the API server says.
    fn expect(&self, pods: &[Value]) {
        let told = pods.iter().flat_map(|pod| {
            let meta = &pod["metadata"];
            let name = format!("{}/{}", meta["namespace"].as_str().unwrap(), meta["name"].as_str().unwrap());
            let ips = pod["status"]["podIPs"].as_array().cloned().unwrap_or_default();
            let one = move |ip: Value| json!({"address": ip["ip"], "meshed": is_meshed(pod), "name": name});
            ips.into_iter().map(one)
        });
        let text = json!({"pods": told.collect::<Vec<_>>()}).to_string();
        let new = self.expect.with_extension("new");
        fs::File::create(&new)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        fs::rename(new, &self.expect).unwrap();
    }

    /// Ends it: its report.
    fn end(mut self) -> Value {
        kill(
            Pid::from_raw(i32::try_from(self.child.id()).unwrap()),
            Signal::SIGTERM,
        )
        .unwrap();
        let status = self.child.wait().unwrap();
        let report = fs::read(&self.report).unwrap();
        let report: Value = serde_json::from_slice(&report).unwrap();
        assert!(status.success(), "{status}: {report:#}");
        report
    }
}

fn is_meshed(pod: &Value) -> bool {
    pod["metadata"]["annotations"]["maille.io/injected"].is_string()
}

/// Control has a proxy, and what passes it is seen.
fn control_is_meshed(up: &Up) {
    let stat = up.maille("stat deploy -n maille-system -o json");
    let stat: Value = serde_json::from_str(&stat).unwrap();
    let rows = stat["rows"].as_array().unwrap();
    let control = rows.iter().find(|row| row["name"] == "maille-control");
    let control = control.unwrap();
    assert_eq!(
        control["pods"]["meshed"], control["pods"]["total"],
        "{stat:#}"
    );
    let requests = control["window"]["requests"].as_u64().unwrap();
    assert!(
        requests > 0 && control["window"]["failures"] == 0,
        "{stat:#}"
    );
    let checks = up.maille("check --proxy -n maille-system");
    assert!(checks.contains("maille-system/maille-control-"), "{checks}");
    let bundle = up.path("diagnose.tar");
    up.maille(&format!("diagnose -o {}", bundle.display()));
    let bundle = fs::read(bundle).unwrap();
    let holds = |text: &str| {
        let mut windows = bundle.windows(text.len());
        windows.any(|window| window == text.as_bytes())
    };
    assert!(holds("objects/deployments.json") && holds("maille_control_serving"));
    for secret in ["PRIVATE KEY", "eyJhbGciOi", "tls.key"] {
        assert!(!holds(secret), "{secret}");
    }
}

#[test]
fn the_example_as_it_is_speaks_tls_between_two_nodes() {
    let up = Up::new();
    for name in ["control.tar", "proxy.tar"] {
        up.cluster
            .load(&target().join("images").join(name))
            .unwrap();
    }
    demo::image(program("maille-demo"), &up.path("demo.tar")).unwrap();
    up.cluster.load(&up.path("demo.tar")).unwrap();

    let install = up.maille("install");
    up.cluster.apply(&install).unwrap();
    up.kubectl("-n maille-system rollout status deployment/maille-control --timeout 90s");
    let again = up.cluster.apply(&install).unwrap();
    assert!(
        again.lines().all(|line| line.ends_with(" unchanged")),
        "{again}"
    );

    let observer = Observer::start(&up);
    let manifests = demo::manifests().unwrap();
    demo::apply(&up.cluster, &manifests, &["maille.io/inject=enabled"]).unwrap();
    let pods: Value = serde_json::from_str(&up.kubectl("-n loom get pods -o json")).unwrap();
    let pods = pods["items"].as_array().unwrap();
    observer.expect(pods);
    for pod in pods {
        let app = pod["metadata"]["labels"]["app"].as_str().unwrap();
        assert_eq!(is_meshed(pod), app != "legacy", "{app}");
    }
    let nodes: BTreeSet<_> = pods
        .iter()
        .map(|pod| pod["spec"]["nodeName"].as_str().unwrap())
        .collect();
    assert_eq!(nodes.len(), 2, "{nodes:?}");

    let summary = demo::summary(&up.cluster).unwrap();
    assert!(summary["requests"].as_u64().unwrap() >= 300, "{summary:#}");
    assert_eq!(summary["failed"], 0, "{summary:#}");
    let stat = up.maille("stat deploy -n loom");
    assert!(stat.contains("front") && stat.contains("catalog"), "{stat}");
    control_is_meshed(&up);

    let seen = observer.end();
    assert!(seen["bytes_tls"].as_u64().unwrap() > 10_000, "{seen:#}");
    assert_eq!(seen["bytes_plain_between_meshed"], 0, "{seen:#}");
    assert_eq!(seen["marker_hits_between_meshed"], 0, "{seen:#}");
}
