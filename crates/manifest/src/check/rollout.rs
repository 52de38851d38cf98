// SPDX-License-Identifier: Apache-2.0
//! What a rollout's fields say about one another.

use super::Place;
use crate::error::Problem;
use crate::objects::{Amount, DeploymentSpec, StrategyType};

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
    let is_nothing = |amount| matches!(amount, Some(Amount::Count(0) | Amount::Percent(0)));
    if is_nothing(rolling.max_surge) && is_nothing(rolling.max_unavailable) {
        let reason = "with maxSurge 0 as well no pod could ever be replaced";
        let path = "spec.strategy.rollingUpdate.maxUnavailable";
        let value = "0".to_owned();
        place.fail(path, Problem::UnsupportedValue { value, reason });
    }
}
