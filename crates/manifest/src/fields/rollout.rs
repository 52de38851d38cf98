// SPDX-License-Identifier: Apache-2.0
//! What is supported of a Deployment's rollout.

use super::Rule::Take;
use super::Type::{Amount, Object, Text};
use super::texts::STRATEGY_TYPE;
use super::{Field, f};

pub(super) const STRATEGY: &[Field] = &[
    f("type", Take(Text(&STRATEGY_TYPE))),
    f("rollingUpdate", Take(Object(ROLLING_UPDATE))),
];

const ROLLING_UPDATE: &[Field] = &[
    f("maxSurge", Take(Amount)),
    f("maxUnavailable", Take(Amount)),
];
