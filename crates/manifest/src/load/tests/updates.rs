// SPDX-License-Identifier: Apache-2.0
//! How Deployments, StatefulSets and DaemonSets say that they are to be updated.

use super::*;

#[test]
fn rollouts_are_read_and_their_nonsense_is_named() {
    let with = |lines: &str| {
        deployment("").replace("spec:\n  selector", &format!("spec:\n{lines}  selector"))
    };
    let loaded = |lines: &str| load_text(&[("app.yaml".to_owned(), with(lines))]);
    let good = "  minReadySeconds: 3\n  strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: \"50%\", maxUnavailable: 0}}\n";
    let taken = loaded(good).unwrap();
    let Object::Deployment(taken) = &taken.objects[0] else {
        panic!("{taken:?}");
    };
    assert_eq!(taken.spec.min_ready_seconds, 3);
    let bounds = taken.spec.strategy.bounds(4);
    assert_eq!((bounds.surge, bounds.unavailable), (2, 0));
    for (lines, said) in [
        ("  strategy: {type: Rolling}\n", "RollingUpdate or Recreate"),
        (
            "  strategy: {type: Recreate, rollingUpdate: {maxSurge: 1}}\n",
            "take out one of the two",
        ),
        (
            "  strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 0}}\n",
            "could ever be replaced",
        ),
        (
            "  strategy: {rollingUpdate: {maxSurge: \"5\"}}\n",
            "percentage",
        ),
        (
            "  strategy: {rollingUpdate: {maxSurge: -1}}\n",
            "from 0 to 200",
        ),
        ("  strategy: {rollingUpdate: {maxsurge: 1}}\n", "maxSurge"),
    ] {
        let errors = errors(&with(lines));
        assert!(errors.len() == 1 && errors[0].contains(said), "{errors:?}");
    }
}

#[test]
fn updates_of_sets_are_read_and_their_nonsense_is_named() {
    let with = |kind: &str, lines: &str| {
        deployment("")
            .replace("kind: Deployment", &format!("kind: {kind}"))
            .replace("spec:\n  selector", &format!("spec:\n{lines}  selector"))
    };
    let loaded =
        |kind: &str, lines: &str| load_text(&[("app.yaml".to_owned(), with(kind, lines))]).unwrap();
    let good = "  minReadySeconds: 3\n  updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: 2, maxUnavailable: 2}}\n";
    let taken = loaded("StatefulSet", good);
    let Object::StatefulSet(set) = &taken.objects[0] else {
        panic!("{taken:?}");
    };
    let strategy = &set.spec.update_strategy;
    assert_eq!(
        (
            set.spec.min_ready_seconds,
            strategy.partition(),
            strategy.unavailable(9)
        ),
        (3, 2, 2)
    );
    let good = "  minReadySeconds: 3\n  updateStrategy: {type: OnDelete}\n";
    let taken = loaded("DaemonSet", good);
    let Object::DaemonSet(set) = &taken.objects[0] else {
        panic!("{taken:?}");
    };
    assert_eq!(
        set.spec.update_strategy.kind,
        crate::objects::UpdateType::OnDelete
    );
    for (kind, strategy, said) in [
        (
            "StatefulSet",
            "{type: Recreate}",
            "RollingUpdate or OnDelete",
        ),
        (
            "StatefulSet",
            "{type: OnDelete, rollingUpdate: {partition: 1}}",
            "take out one of the two",
        ),
        (
            "StatefulSet",
            "{rollingUpdate: {maxUnavailable: \"0%\"}}",
            "could ever be replaced",
        ),
        ("StatefulSet", "{rollingUpdate: {maxSurge: 1}}", "maxSurge"),
        (
            "DaemonSet",
            "{rollingUpdate: {maxSurge: 0, maxUnavailable: 0}}",
            "could ever be replaced",
        ),
        (
            "DaemonSet",
            "{rollingUpdate: {maxSurge: 1}}",
            "as on Kubernetes",
        ),
        (
            "DaemonSet",
            "{type: OnDelete, rollingUpdate: {}}",
            "take out one of the two",
        ),
    ] {
        let errors = errors(&with(kind, &format!("  updateStrategy: {strategy}\n")));
        assert!(
            errors.len() == 1 && errors[0].contains(said),
            "{strategy}: {errors:?}"
        );
    }
}
