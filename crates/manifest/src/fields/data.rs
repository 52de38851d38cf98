// SPDX-License-Identifier: Apache-2.0
//! Namespaces, ServiceAccounts, ConfigMaps and Secrets. Read [`super`] for what a line means.

use super::Rule::{Take, Warn};
use super::Type::{self, Text};
use super::meta::{ANY_TEXT, API_VERSION, KIND, METADATA, NO_IMAGES, NO_TOKEN, STATUS};
use super::texts::{BASE64, CONFIG_KEY};
use super::{Field, Rule, f};

const READ_ONCE: Rule = Warn("nothing here changes an object but its file");

pub(crate) const NAMESPACE: &[Field] = &[
    API_VERSION,
    KIND,
    METADATA,
    STATUS,
    f("spec", Warn("only the API server reads it")),
];

pub(crate) const SERVICE_ACCOUNT: &[Field] = &[
    API_VERSION,
    KIND,
    METADATA,
    f("automountServiceAccountToken", NO_TOKEN),
    f("imagePullSecrets", NO_IMAGES),
    f("secrets", NO_TOKEN),
];

pub(crate) const CONFIG_MAP: &[Field] = &[
    API_VERSION,
    KIND,
    METADATA,
    f("data", Take(Type::Map(&CONFIG_KEY, &ANY_TEXT))),
    f("binaryData", Take(Type::Map(&CONFIG_KEY, &Text(&BASE64)))),
    f("immutable", READ_ONCE),
];

pub(crate) const SECRET: &[Field] = &[
    API_VERSION,
    KIND,
    METADATA,
    f("data", Take(Type::Map(&CONFIG_KEY, &Text(&BASE64)))),
    f("stringData", Take(Type::Map(&CONFIG_KEY, &ANY_TEXT))).note("wins over `data`"),
    f("type", Take(ANY_TEXT)).note("nothing depends on it"),
    f("immutable", READ_ONCE),
];
