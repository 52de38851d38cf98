// SPDX-License-Identifier: Apache-2.0
//! Control goes, or only its webhook, under load: what runs goes on, what is meant for the mesh waits and says why, everything else
//! is made as ever, and nothing runs uncaptured. Where the webhook does not fail closed something does, and is seen.
//!
//! `MAILLE_TEST_SECONDS=60` is full length: so long control stays away. Read `faults.rs` for what else may go.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use anyhow::{Context as _, ensure};
use maille_cluster::meshed::{Meshed, text};
use maille_cluster::processes::Process;
use maille_cluster::twins::{APP, Load, Twin};
use maille_cluster::witness::Witness;
use serde_json::{Value, json};

/// Requests a second of each load.
const RATE: u64 = 200;
const SYSTEM: &str = "maille-system";
const CONTROL: &str = "app.kubernetes.io/component=control";
/// A namespace that asks for nothing: what is in the mesh there has its sidecar from its manifest.
const WRITTEN: &str = "written";
/// The webhooks of a configuration with another policy.
const POLICY: &str = r#"[{"op":"replace","path":"/webhooks/0/failurePolicy","value":"HOW"},{"op":"replace","path":"/webhooks/1/failurePolicy","value":"HOW"}]"#;
/// Nobody gets through to the webhook, nor keeps a connection to it.
const CUT: &str = "add table inet cut; add chain inet cut in { type filter hook input priority -300; }; \
    add rule inet cut in tcp dport 8443 reject with tcp reset";

/// How long a fault lasts.
fn seconds() -> u64 {
    let full = std::env::var_os("MAILLE_TEST_SECONDS");
    full.and_then(|text| text.to_str()?.parse().ok())
        .unwrap_or(6)
}

/// The mesh with an application in it and one outside, under load.
struct Stage {
    up: Meshed,
    loads: Vec<Load>,
    witness: Witness,
}

impl Stage {
    fn start() -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
        let up = Meshed::start(program, Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
        up.install().unwrap();
        Load::image(&up).unwrap();
        let witness = Witness::start(&up).unwrap();
        let twins = [(Twin::Meshed, RATE), (Twin::Plain, RATE)];
        for (twin, _) in &twins {
            twin.start(&up, 2).unwrap();
        }
        let (kept, _) = up.kept_and_other().unwrap();
        let loads = Load::start(&up, &twins, &kept).unwrap();
        let mut stage = Self { up, loads, witness };
        stage.all_captured();
        stage
    }

    fn share(&self, seconds: u64) {
        for load in &self.loads {
            load.share(seconds).unwrap();
        }
    }

    /// Whoever is there and meant for the mesh is in it.
    fn all_captured(&mut self) {
        let pods = self.up.pods("meshed", "app").unwrap();
        let bare = uncaptured(&pods);
        assert!(bare.is_empty(), "{bare:?}");
        self.witness.expect(&pods).unwrap();
    }

    /// Nobody in the mesh lost anything, and between the nodes there was nothing to read.
    fn finish(self) {
        for load in self.loads {
            let twin = load.twin;
            let sum = load.finish().unwrap();
            eprintln!("{twin:?}: {}", sum.said);
            assert!(twin != Twin::Meshed || sum.failed == 0, "{sum:?}");
        }
        let seen = self.witness.end().unwrap();
        eprintln!(
            "between the nodes: {} bytes of TLS, {} plain",
            seen["bytes_tls"], seen["bytes_plain"]
        );
    }
}

/// Those of `pods` that nothing captures.
fn uncaptured(pods: &[Value]) -> Vec<&str> {
    let bare = pods
        .iter()
        .filter(|pod| text(pod, "/metadata/annotations/maille.io~1injected").is_empty());
    bare.map(|pod| text(pod, "/metadata/name")).collect()
}

/// A pod of one server.
fn pod(name: &str, namespace: &str) -> String {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"one": name}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [
            {"name": "app", "image": "maille.test/steady:1", "args": ["serve", "0"]},
        ]},
    });
    pod.to_string()
}

/// Waits until the ReplicaSets of the meshed application have been refused a pod: what they were told.
fn refused(up: &Meshed) -> String {
    let line = "-n meshed get events --field-selector reason=FailedCreate -o json";
    up.until("a refusal", || {
        let events: Value = serde_json::from_str(&up.kubectl(line)?)?;
        let events = events["items"].as_array().context("a list")?;
        let last = events.last().context("no event yet")?;
        Ok(text(last, "/message").to_owned())
    })
    .unwrap()
}

/// What is meant for the mesh is not made, and the reason names who was asked; all others are made.
fn only_others_are_made(up: &Meshed) {
    up.kubectl("-n meshed scale deployment/app --replicas 3")
        .unwrap();
    let why = refused(up);
    assert!(why.contains("namespace.inject.maille.io"), "{why}");
    eprintln!("what waits says: {why}");
    let direct = up.cluster().apply(&pod("direct", "meshed")).unwrap_err();
    let direct = format!("{direct:#}");
    assert!(direct.contains("namespace.inject.maille.io"), "{direct}");
    up.kubectl("-n plain scale deployment/app --replicas 3")
        .unwrap();
    Twin::Plain.settled(up, 3).unwrap();
    assert_eq!(up.pods("meshed", APP).unwrap().len(), 2);
}

/// A pod whose sidecar was written into its manifest needs nobody's leave to be made; without control its application does not start,
/// and its proxy says why.
fn waits_for_control(up: &Meshed) {
    let injected = up.maille_of("inject -", &pod("late", WRITTEN)).unwrap();
    up.cluster().apply(&injected).unwrap();
    let said = up.until("what its proxy says", || {
        let log = up.kubectl(&format!("-n {WRITTEN} logs late -c maille-proxy"))?;
        let line = log.lines().find(|line| line.contains("no new certificate"));
        Ok(line.context("nothing yet")?.to_owned())
    });
    eprintln!("what waits says: {}", said.unwrap());
    let late = up.pods(WRITTEN, "one=late").unwrap().remove(0);
    let app = &late["status"]["containerStatuses"][0];
    assert_eq!(app["started"], false, "{late:#}");
    assert!(app["state"]["waiting"].is_object(), "{late:#}");
}

/// The same as what is refused, where the webhook does not fail closed: it runs, and nothing captures it.
fn an_open_webhook_is_seen(up: &Meshed) {
    let policy = |how: &str| {
        let patch = POLICY.replace("HOW", how);
        for configuration in [
            "mutatingwebhookconfiguration maille-inject",
            "validatingwebhookconfiguration maille-verify",
        ] {
            up.kubectl(&format!("patch {configuration} --type json -p {patch}"))
                .unwrap();
        }
    };
    // Whoever tries again and again would get through, too.
    up.kubectl("-n meshed scale deployment/app --replicas 2")
        .unwrap();
    policy("Ignore");
    let open = up.until("a pod past an open webhook", || {
        up.cluster().apply(&pod("open", "meshed"))
    });
    open.unwrap();
    let pods = up.pods("meshed", "one=open").unwrap();
    assert_eq!(uncaptured(&pods), ["open"]);
    up.kubectl("-n meshed delete pod open --grace-period 0 --force")
        .unwrap();
    policy("Fail");
    up.until("a closed webhook", || {
        let mut create = up.cluster().kubectl_command()?;
        create.args(["create", "--dry-run=server", "-f", "-"]);
        let tried = up.output_of(&mut create, &pod("open", "meshed"));
        ensure!(tried.is_err(), "it is open");
        Ok(())
    })
    .unwrap();
    up.kubectl("-n meshed scale deployment/app --replicas 3")
        .unwrap();
}

#[test]
fn control_may_be_deleted_or_away_and_nothing_runs_uncaptured() {
    let mut stage = Stage::start();
    let up = &stage.up;
    up.kubectl(&format!("create namespace {WRITTEN}")).unwrap();
    let early = up.maille_of("inject -", &pod("early", WRITTEN)).unwrap();
    up.cluster().apply(&early).unwrap();
    up.settled(WRITTEN, "one=early", 1).unwrap();
    stage.share(1);

    let deleted = format!("-n {SYSTEM} delete pod -l {CONTROL} --grace-period 0 --force");
    up.kubectl(&deleted).unwrap();
    stage.share(2);
    up.settled(SYSTEM, CONTROL, 1).unwrap();

    up.kubectl(&format!(
        "-n {SYSTEM} scale deployment/maille-control --replicas 0"
    ))
    .unwrap();
    up.settled(SYSTEM, CONTROL, 0).unwrap();
    stage.share(seconds());
    only_others_are_made(up);
    waits_for_control(up);
    an_open_webhook_is_seen(up);
    stage.share(1);

    up.kubectl(&format!(
        "-n {SYSTEM} scale deployment/maille-control --replicas 1"
    ))
    .unwrap();
    up.control_is_there().unwrap();
    Twin::Meshed.settled(up, 3).unwrap();
    up.settled(WRITTEN, "one=late", 1).unwrap();
    stage.share(2);
    stage.all_captured();
    stage.finish();
}

#[test]
fn the_webhook_may_be_down_while_control_serves() {
    let mut stage = Stage::start();
    let up = &stage.up;
    stage.share(1);
    let control = up.pods(SYSTEM, CONTROL).unwrap().remove(0);
    let control = Process::of_pod(text(&control, "/metadata/uid"), "maille-control").unwrap();
    let nft = |script: &str| {
        let done = control.on_network("nft").arg(script).status().unwrap();
        assert!(done.success(), "nft {script}: {done}");
    };
    nft(CUT);
    stage.share(seconds());
    only_others_are_made(up);
    // Control tells proxies what happens: a pod that goes is missed by nobody.
    let kept = up.pods("meshed", APP).unwrap();
    let gone = text(&kept[0], "/metadata/name");
    up.kubectl(&format!("-n meshed delete pod {gone}")).unwrap();
    stage.share(2);
    assert_eq!(up.pods("meshed", APP).unwrap().len(), 1);

    nft("delete table inet cut");
    Twin::Meshed.settled(up, 3).unwrap();
    ensure_well(up).unwrap();
    stage.share(2);
    stage.all_captured();
    stage.finish();
}

/// Control was there all the time.
fn ensure_well(up: &Meshed) -> anyhow::Result<()> {
    let control = up.pods(SYSTEM, CONTROL)?.remove(0);
    let restarts = &control["status"]["containerStatuses"][0]["restartCount"];
    ensure!(*restarts == 0, "{control:#}");
    Ok(())
}
