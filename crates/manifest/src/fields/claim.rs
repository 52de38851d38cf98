// SPDX-License-Identifier: Apache-2.0
//! Claims of storage. Read [`super`] for what a line means.

use super::Rule::{Only, Refuse, Take, Warn};
use super::Type::{List, Map, Object, Quantity, Text};
use super::meta::{ANY_TEXT, API_VERSION, KIND, METADATA, STATUS};
use super::texts::{ACCESS_MODE, LABEL_KEY};
use super::{Field, Rule, f};

const EMPTY: Rule = Refuse("a claim is a directory of its own, which begins empty: leave it out");

/// The same in a StatefulSet's `volumeClaimTemplates`.
pub(crate) const CLAIM: &[Field] = &[
    API_VERSION,
    KIND,
    METADATA,
    STATUS,
    f("spec", Take(Object(CLAIM_SPEC))),
];

const CLAIM_SPEC: &[Field] = &[
    f("accessModes", Take(List(&Text(&ACCESS_MODE))))
        .note("told by `maille get`: on one machine every pod can mount it"),
    f("resources", Take(Object(CLAIM_RESOURCES))),
    f("storageClassName", Take(ANY_TEXT)).note("told by `maille get`: a directory in any case"),
    f(
        "volumeMode",
        Only(&["Filesystem"], "there are no block devices to give"),
    ),
    f("selector", EMPTY),
    f("volumeName", EMPTY),
    f("dataSource", EMPTY),
    f("dataSourceRef", EMPTY),
    f(
        "volumeAttributesClassName",
        Warn("directories have no class"),
    ),
];

const CLAIM_RESOURCES: &[Field] = &[
    f("requests", Take(Map(&LABEL_KEY, &Quantity)))
        .note("told by `maille get`; the directory may become larger"),
    f("limits", Warn("directories are not limited")),
];
