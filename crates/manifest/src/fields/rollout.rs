// SPDX-License-Identifier: Apache-2.0
//! What is supported of the rollouts of Deployments and sets.

use super::Rule::Take;
use super::Type::{Amount, Int, Object, Text};
use super::texts::{STRATEGY_TYPE, UPDATE_TYPE};
use super::{Field, f};

pub(super) const STRATEGY: &[Field] = &[
    f("type", Take(Text(&STRATEGY_TYPE))),
    f("rollingUpdate", Take(Object(ROLLING_UPDATE))),
];

const ROLLING_UPDATE: &[Field] = &[
    f("maxSurge", Take(Amount)),
    f("maxUnavailable", Take(Amount)),
];

pub(super) const NUMBERED_UPDATE: &[Field] = &[
    f("type", Take(Text(&UPDATE_TYPE))),
    f("rollingUpdate", Take(Object(NUMBERED_ROLLING))),
];

const NUMBERED_ROLLING: &[Field] = &[
    f("partition", Take(Int(0, 1_000_000)))
        .note("a pod before it that is made anew is of the template that all had last"),
    f("maxUnavailable", Take(Amount)),
];

pub(super) const DAEMON_UPDATE: &[Field] = &[
    f("type", Take(Text(&UPDATE_TYPE))),
    f("rollingUpdate", Take(Object(ROLLING_UPDATE))),
];
