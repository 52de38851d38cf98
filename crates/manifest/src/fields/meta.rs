// SPDX-License-Identifier: Apache-2.0
//! What every object has: its metadata, and selectors of labels. Read [`super`] for what a line means.

use super::Rule::{Refuse, Take, Warn};
use super::Type::{self, Int, List, Object, Text};
use super::texts::{ANY, LABEL, LABEL_KEY, LABEL_VALUE, NAME, OPERATOR};
use super::{Field, Rule, f, must};

pub(super) const PORT: Type = Int(1, 65_535);
pub(super) const SECONDS: Type = Int(0, 86_400);
pub(super) const ANY_TEXT: Type = Text(&ANY);
pub(super) const LABELS: Type = Type::Map(&LABEL_KEY, &Text(&LABEL_VALUE));
const ANNOTATIONS: Type = Type::Map(&LABEL_KEY, &ANY_TEXT);

pub(super) const SERVER_SET: Rule = Warn("the API server sets it");
pub(super) const ONE_MACHINE: Rule = Warn("there is one machine to choose");
pub(super) const NO_IMAGES: Rule =
    Warn("no image is pulled: containers are processes of this machine");
pub(super) const NO_TOKEN: Rule = Warn("no token is mounted");

pub(super) const META: &[Field] = &[
    must("name", Take(Text(&NAME)), "give the object a name"),
    f("namespace", Take(Text(&LABEL))).note("`default` where absent"),
    f("labels", Take(LABELS)),
    f("annotations", Take(ANNOTATIONS)),
    f("generateName", Refuse("give it a name")),
    f("finalizers", Refuse("nobody would run them")),
    f("ownerReferences", Refuse("objects in a file have no owner")),
    f("uid", SERVER_SET),
    f("resourceVersion", SERVER_SET),
    f("generation", SERVER_SET),
    f("creationTimestamp", SERVER_SET),
    f("deletionTimestamp", Refuse("it is being deleted")),
    f("deletionGracePeriodSeconds", SERVER_SET),
    f("managedFields", SERVER_SET),
    f("selfLink", SERVER_SET),
];

pub(super) const TEMPLATE_META: &[Field] = &[
    f("labels", Take(LABELS)),
    f("annotations", Take(ANNOTATIONS)),
    f("name", Warn("pods are named after what makes them")),
    f(
        "namespace",
        Warn("pods live in the namespace of what makes them"),
    ),
    f("creationTimestamp", SERVER_SET),
];

pub(super) const LABEL_SELECTOR: &[Field] = &[
    f("matchLabels", Take(LABELS)),
    f("matchExpressions", Take(List(&Object(REQUIREMENT)))),
];

const REQUIREMENT: &[Field] = &[
    must("key", Take(Text(&LABEL_KEY)), "say which label"),
    must("operator", Take(Text(&OPERATOR)), "say what must hold"),
    f("values", Take(List(&Text(&LABEL_VALUE)))),
];

pub(super) const API_VERSION: Field = f("apiVersion", Take(ANY_TEXT));
pub(super) const KIND: Field = f("kind", Take(ANY_TEXT));
pub(super) const METADATA: Field = must(
    "metadata",
    Take(Object(META)),
    "give it metadata with a name",
);
pub(super) const STATUS: Field = f("status", SERVER_SET);
