// SPDX-License-Identifier: Apache-2.0
use super::*;

fn part(name: &str, role: Role, phase: ContainerPhase, ready: bool) -> Part {
    let message = if ready { "" } else { "no answer" }.to_owned();
    Part {
        name: name.to_owned(),
        role,
        state: ContainerState {
            phase,
            ready,
            message,
            restarts: 0,
        },
    }
}

fn running(started: bool) -> ContainerPhase {
    let since = SystemTime::UNIX_EPOCH;
    ContainerPhase::Running { since, started }
}

fn ended(code: i32) -> ContainerPhase {
    let at = SystemTime::UNIX_EPOCH;
    ContainerPhase::Ended {
        code,
        at,
        reason: None,
    }
}

/// Phase, readiness, message.
fn told(parts: &Parts) -> (String, String, String) {
    let status = of(parts);
    let ready = status.conditions[0].status.clone();
    (status.phase, ready, status.message)
}

fn tell(phase: &str, ready: &str, message: &str) -> (String, String, String) {
    (phase.to_owned(), ready.to_owned(), message.to_owned())
}

#[test]
fn ready_when_every_part_is() {
    let mut parts = Parts {
        proxy_ready: Some(false),
        proxy_message: "starting".to_owned(),
        ..Parts::default()
    };
    assert_eq!(told(&parts), tell("Pending", "False", "proxy: starting"));
    parts.proxy_ready = Some(true);
    assert_eq!(
        told(&parts),
        tell("Pending", "False", "containers have not been started")
    );
    let web = |ready| part("web", Role::Main, running(true), ready);
    parts.containers = vec![web(true), web(false)];
    assert_eq!(
        told(&parts),
        tell("Running", "False", "container web: no answer")
    );
    parts.containers = vec![web(true), web(true)];
    assert_eq!(told(&parts), tell("Running", "True", ""));
    parts.stopping = true;
    assert_eq!(told(&parts), tell("Running", "False", "stopping"));
    let parts = Parts {
        failed: "no room".to_owned(),
        ..Parts::default()
    };
    assert_eq!(told(&parts), tell("Pending", "False", "no room"));
}

#[test]
fn init_containers_come_first_and_sidecars_stay() {
    let waits = || ContainerPhase::Waiting("PodInitializing");
    let mut parts = Parts {
        containers: vec![
            part("a", Role::Init, running(true), true),
            part("b", Role::Sidecar, waits(), false),
            part("web", Role::Main, waits(), false),
        ],
        ..Parts::default()
    };
    assert!(!parts.containers[0].lets_next() && !parts.containers[1].lets_next());
    assert_eq!(told(&parts), tell("Pending", "False", "init container a: "));
    parts.containers[0].state.phase = ended(0);
    parts.containers[1].state.phase = running(false);
    assert!(parts.containers[0].lets_next() && !parts.containers[1].lets_next());
    parts.containers[1].state.phase = running(true);
    assert!(parts.containers[1].lets_next());
    // A sidecar that is not ready keeps the pod from being ready, but not the others from starting.
    parts.containers[2] = part("web", Role::Main, running(true), true);
    assert_eq!(
        told(&parts),
        tell("Running", "False", "sidecar b: no answer")
    );
    parts.containers[1].state.ready = true;
    assert_eq!(told(&parts), tell("Running", "True", ""));
    let status = of(&parts);
    assert_eq!(status.init_container_statuses.len(), 2);
    assert!(status.init_container_statuses[0].ready);
    assert_eq!(parts.outcome(), None);
}

#[test]
fn a_pod_ends_when_its_main_containers_have() {
    let with = |containers| Parts {
        containers,
        proxy_ready: Some(false),
        ..Parts::default()
    };
    let side = || part("s", Role::Sidecar, running(true), true);
    let main = |phase| part("m", Role::Main, phase, false);
    assert_eq!(with(vec![side(), main(running(true))]).outcome(), None);
    let parts = with(vec![side(), main(ended(0))]);
    assert_eq!(told(&parts), tell("Succeeded", "False", ""));
    let parts = with(vec![side(), main(ended(0)), main(running(true))]);
    assert_eq!(parts.outcome(), None);
    let parts = with(vec![side(), main(ended(3)), main(ended(0))]);
    assert_eq!(
        told(&parts),
        tell("Failed", "False", "container m: no answer")
    );
    let parts = with(vec![
        part("i", Role::Init, ended(1), false),
        main(ContainerPhase::Waiting("PodInitializing")),
    ]);
    assert_eq!(
        told(&parts),
        tell("Failed", "False", "init container i: no answer")
    );
    let mut parts = with(vec![main(running(true))]);
    parts.cut = Some(Cut::Deadline(7));
    assert_eq!(
        told(&parts),
        tell(
            "Failed",
            "False",
            "DeadlineExceeded: it ran for longer than 7 s"
        )
    );
}

#[test]
fn timestamps() {
    for (seconds, text) in [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_399, "2000-02-28T23:59:59Z"),
        (951_782_400, "2000-02-29T00:00:00Z"),
        (1_795_248_300, "2026-11-21T08:05:00Z"),
        (4_107_542_400, "2100-03-01T00:00:00Z"),
    ] {
        assert_eq!(
            timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)),
            text
        );
    }
}
