// SPDX-License-Identifier: Apache-2.0
//! What a rollout's fields say about one another.

use super::Place;
use crate::error::Problem;
use crate::objects::{
    Amount, DaemonSetSpec, DeploymentSpec, StatefulSetSpec, StrategyType, UpdateStrategy,
    UpdateType,
};

pub(super) fn check(place: &mut Place<'_>, spec: &DeploymentSpec) {
    let Some(rolling) = &spec.strategy.rolling_update else {
        return;
    };
    if spec.strategy.kind == StrategyType::Recreate {
        let reason = "with type Recreate nothing is replaced step by step: take out one of the two";
        place.fail(
            "spec.strategy.rollingUpdate",
            Problem::Unsupported { reason },
        );
    }
    if is_nothing(rolling.max_surge) && is_nothing(rolling.max_unavailable) {
        let reason = "with maxSurge 0 as well no pod could ever be replaced";
        let path = "spec.strategy.rollingUpdate.maxUnavailable";
        let value = "0".to_owned();
        place.fail(path, Problem::UnsupportedValue { value, reason });
    }
}

pub(super) fn numbered(place: &mut Place<'_>, spec: &StatefulSetSpec) {
    let strategy = &spec.update_strategy;
    by_hand(place, strategy);
    if is_nothing(
        strategy
            .rolling_update
            .and_then(|update| update.max_unavailable),
    ) {
        let reason = "no pod could ever be replaced";
        let path = "spec.updateStrategy.rollingUpdate.maxUnavailable";
        let value = "0".to_owned();
        place.fail(path, Problem::UnsupportedValue { value, reason });
    }
}

pub(super) fn daemon(place: &mut Place<'_>, spec: &DaemonSetSpec) {
    by_hand(place, &spec.update_strategy);
    let bounds = spec.update_strategy.bounds();
    let reason = match (bounds.surge, bounds.unavailable) {
        (0, 0) => "with maxSurge 0 as well no pod could ever be replaced",
        (1.., 1..) => {
            "with maxSurge it must be 0, as on Kubernetes, which takes 1 where it is absent"
        }
        _ => return,
    };
    let path = "spec.updateStrategy.rollingUpdate.maxUnavailable";
    let value = bounds.unavailable.to_string();
    place.fail(path, Problem::UnsupportedValue { value, reason });
}

/// Where old pods stay until somebody deletes them there are no steps.
fn by_hand<R>(place: &mut Place<'_>, strategy: &UpdateStrategy<R>) {
    if strategy.kind == UpdateType::OnDelete && strategy.rolling_update.is_some() {
        let reason = "with type OnDelete nothing is replaced step by step: take out one of the two";
        let path = "spec.updateStrategy.rollingUpdate";
        place.fail(path, Problem::Unsupported { reason });
    }
}

fn is_nothing(amount: Option<Amount>) -> bool {
    matches!(amount, Some(Amount::Count(0) | Amount::Percent(0)))
}
