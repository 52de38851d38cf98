// SPDX-License-Identifier: Apache-2.0
//! Pods come and go on a cluster as they do every day, and a client that never tries twice loses nothing: not a request on a kept
//! connection, not a word on a gRPC stream or a WebSocket that stays open.
//!
//! The same application under the same load meets the same fault three times at once: in the mesh, outside it, and in the mesh
//! without what protects, where something must be lost. `MAILLE_TEST_SECONDS=60` is full length.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use maille_cluster::meshed::{Meshed, text};
use maille_cluster::twins::{APP, Load, Protection, Twin};

/// Requests a second of the loads that are compared: at full length, and else.
const RATE: [u64; 2] = [500, 200];
/// Of the one that loses something.
const LITTLE: u64 = 100;
/// How often a test of full length disturbs, and a short one.
const TIMES: [usize; 2] = [5, 1];

struct Stage {
    up: Meshed,
    loads: Vec<Load>,
    seconds: u64,
    times: usize,
    /// The node that may go.
    other: String,
}

/// Whether this is for the record: how long it lasts in seconds, how often it disturbs, and at how many requests a second.
fn length() -> (u64, usize, u64) {
    let said = std::env::var_os("MAILLE_TEST_SECONDS");
    let seconds = said.and_then(|text| text.to_str()?.parse().ok());
    match seconds.unwrap_or(6) {
        full @ 60.. => (full, TIMES[0], RATE[0]),
        short => (short, TIMES[1], RATE[1]),
    }
}

impl Stage {
    /// All three applications with `replicas` pods each, under load.
    fn start(replicas: usize, without: Protection) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
        let up = Meshed::start(program, Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
        let (seconds, times, rate) = length();
        let (kept, other) = up.kept_and_other().unwrap();
        // Control is where it may go, too.
        up.kubectl(&format!("cordon {kept}")).unwrap();
        up.install().unwrap();
        up.kubectl(&format!("uncordon {kept}")).unwrap();
        Load::image(&up).unwrap();
        let twins = [
            (Twin::Meshed, rate),
            (Twin::Plain, rate),
            (Twin::Without(without), LITTLE),
        ];
        for (twin, _) in &twins {
            twin.start(&up, replicas).unwrap();
        }
        let loads = Load::start(&up, &twins, &kept).unwrap();
        Self {
            up,
            loads,
            seconds,
            times,
            other,
        }
    }

    /// Waits until every load has had its requests between two disturbances answered.
    fn share(&self) {
        let share = self.seconds.div_ceil(self.times as u64 + 1);
        for load in &self.loads {
            load.share(share).unwrap();
        }
    }

    /// `kubectl` in each namespace, at the same time.
    fn everywhere(&self, line: &str) {
        let namespaces = self.loads.iter().map(|load| load.twin.namespace());
        let lines = namespaces.map(|namespace| format!("-n {namespace} {line}"));
        self.up.kubectl_all(lines).unwrap();
    }

    /// Waits until every application has so many pods, and none beside them.
    fn settled(&self, replicas: usize) {
        for load in &self.loads {
            load.twin.settled(&self.up, replicas).unwrap();
        }
    }

    fn scale(&self, replicas: usize) {
        self.share();
        self.everywhere(&format!("scale deployment/app --replicas {replicas}"));
        self.settled(replicas);
    }

    /// How many of these the node that may go has.
    fn on_it(&self, namespace: &str, selector: &str) -> usize {
        let pods = self.up.pods(namespace, selector).unwrap();
        let there = |pod: &&_| text(pod, "/spec/nodeName") == self.other;
        pods.iter().filter(there).count()
    }

    /// The node that went is back, and some of each application go there.
    fn go_back(&self) {
        self.up
            .kubectl(&format!("uncordon {}", self.other))
            .unwrap();
        self.everywhere("rollout restart deployment/app");
        self.everywhere("rollout status deployment/app --timeout 120s");
        self.settled(4);
    }

    /// Ends the loads: in the mesh nothing was lost; without what protects something was.
    fn finish(mut self) {
        self.share();
        for load in self.loads.drain(..) {
            let twin = load.twin;
            let sum = load.finish().unwrap();
            eprintln!("{twin:?}: {}", sum.said);
            assert!(sum.words > 0, "{twin:?}: {sum:?}");
            match twin {
                Twin::Meshed => assert_eq!(sum.failed, 0, "{sum:?}"),
                Twin::Plain => {}
                Twin::Without(_) => assert!(sum.failed > 0, "nothing is lost: {sum:?}"),
            }
        }
    }
}

#[test]
fn pods_that_are_added_lose_nothing() {
    let stage = Stage::start(2, Protection::Readiness);
    for more in 1..=stage.times {
        stage.scale(2 + more);
    }
    stage.finish();
}

#[test]
fn pods_that_are_removed_lose_nothing() {
    let (_, times, _) = length();
    let stage = Stage::start(times + 1, Protection::Drain);
    for left in (1..=times).rev() {
        stage.scale(left);
    }
    stage.finish();
}

#[test]
fn a_rolling_update_loses_nothing() {
    let stage = Stage::start(2, Protection::Drain);
    for _ in 0..stage.times {
        stage.share();
        stage.everywhere("rollout restart deployment/app");
        stage.everywhere("rollout status deployment/app --timeout 120s");
        stage.settled(2);
    }
    stage.finish();
}

#[test]
fn a_deleted_pod_loses_nothing() {
    let stage = Stage::start(2, Protection::Drain);
    for _ in 0..stage.times {
        stage.share();
        let delete = |load: &Load| {
            let namespace = load.twin.namespace();
            let pods = stage.up.pods(namespace, APP).unwrap();
            let name = text(pods.first().unwrap(), "/metadata/name").to_owned();
            format!("-n {namespace} delete pod {name}")
        };
        let lines: Vec<_> = stage.loads.iter().map(delete).collect();
        stage.up.kubectl_all(lines).unwrap();
        stage.settled(2);
    }
    stage.finish();
}

/// Everything leaves a node, the first time control too: what is meant for the mesh waits for it to be back.
#[test]
fn a_drained_node_loses_nothing() {
    let stage = Stage::start(4, Protection::Drain);
    let control = "app.kubernetes.io/component=control";
    assert_eq!(stage.on_it("maille-system", control), 1);
    let drain = "drain OTHER --ignore-daemonsets --force --delete-emptydir-data --timeout 120s";
    for time in 1..=stage.times {
        for load in &stage.loads {
            let there = stage.on_it(load.twin.namespace(), APP);
            assert!(there > 0, "{:?}", load.twin);
        }
        stage.share();
        let drain = drain.replace("OTHER", &stage.other);
        stage.up.kubectl(&drain).unwrap();
        stage.settled(4);
        stage.up.control_is_there().unwrap();
        if time < stage.times {
            stage.go_back();
        }
    }
    stage.finish();
}
