// SPDX-License-Identifier: Apache-2.0
//! References to other objects and to facts. Read [`super`] for what a line means.

use super::Rule::{Only, Take};
use super::Type::{Bool, Quantity, Text};
use super::meta::ANY_TEXT;
use super::texts::{CONFIG_KEY, LABEL, NAME};
use super::{Field, f, must};

pub(super) const KEY_REF: &[Field] = &[
    must("name", Take(Text(&NAME)), "say which object"),
    must("key", Take(Text(&CONFIG_KEY)), "say which key"),
    f("optional", Take(Bool)),
];

pub(super) const FIELD_REF: &[Field] = &[
    must("fieldPath", Take(ANY_TEXT), "say which field"),
    f("apiVersion", Only(&["v1"], "the pod's version is v1")),
];

pub(super) const RESOURCE_FIELD_REF: &[Field] = &[
    f("containerName", Take(Text(&LABEL))),
    must("resource", Take(ANY_TEXT), "say which, as in limits.memory"),
    f("divisor", Take(Quantity)),
];

pub(super) const SOURCE_REF: &[Field] = &[
    must("name", Take(Text(&NAME)), "say which object"),
    f("optional", Take(Bool)),
];
