// SPDX-License-Identifier: Apache-2.0
//! What is supported, field by field: one table a Kubernetes type, one line a field.
//!
//! A field that is in no table is an error. `Warn` is for what changes nothing on one machine; `Refuse` for what would change the
//! meaning if it were ignored. `kinds.rs` holds the same for whole kinds. `walk.rs` reads the tables.

mod claim;
mod container;
mod data;
mod kinds;
mod meta;
mod pod;
mod refs;
mod rollout;
mod service;
mod texts;
mod volume;
mod workloads;

pub(crate) use kinds::{KINDS, KindRule};
pub(crate) use texts::{Check, is_port_name};

/// One field of a type.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) rule: Rule,
    /// What to say when it is absent, where it must not be.
    pub(crate) required: Option<&'static str>,
    /// What is worth knowing of one that is taken; it stands in the reference.
    pub(crate) note: &'static str,
}

/// What becomes of a field.
#[derive(Debug)]
pub(crate) enum Rule {
    /// Supported.
    Take(Type),
    /// Harmless to ignore, because of this.
    Warn(&'static str),
    /// Not harmless to ignore, because of this.
    Refuse(&'static str),
    /// Nothing to do for these values; others are refused, because of this.
    Only(&'static [&'static str], &'static str),
}

/// What a supported field holds.
#[derive(Debug)]
pub(crate) enum Type {
    Text(&'static Check),
    Bool,
    /// From, to.
    Int(u32, u32),
    PortOrName,
    /// A number or a percentage.
    Amount,
    /// An amount, as a number or a text; it becomes text.
    Quantity,
    Object(&'static [Field]),
    List(&'static Self),
    /// Keys, values.
    Map(&'static Check, &'static Self),
}

const fn f(name: &'static str, rule: Rule) -> Field {
    Field {
        name,
        rule,
        required: None,
        note: "",
    }
}

const fn must(name: &'static str, rule: Rule, what: &'static str) -> Field {
    Field {
        name,
        rule,
        required: Some(what),
        note: "",
    }
}

impl Field {
    /// With something worth knowing.
    const fn note(mut self, note: &'static str) -> Self {
        self.note = note;
        self
    }
}

/// Every type that has a table of its own in the reference, with what it is called there.
pub(crate) const TYPES: &[(&str, &[Field])] = &[
    ("Metadata", meta::META),
    ("Template metadata", meta::TEMPLATE_META),
    ("Label selector", meta::LABEL_SELECTOR),
    ("Pod template", pod::POD_TEMPLATE),
    ("Pod spec", pod::POD_SPEC),
    ("Pod security context", pod::POD_SECURITY),
    ("DNS config", pod::DNS_CONFIG),
    ("Container", container::CONTAINER),
    ("Container port", container::CONTAINER_PORT),
    ("Variable", container::ENV_VAR),
    ("Variable source", container::ENV_SOURCE),
    ("Variables from", container::ENV_FROM),
    ("Key reference", refs::KEY_REF),
    ("Object reference", refs::SOURCE_REF),
    ("Field reference", refs::FIELD_REF),
    ("Resource field reference", refs::RESOURCE_FIELD_REF),
    ("Resources", container::RESOURCES),
    ("Security context", container::SECURITY),
    ("Probe", container::PROBE),
    ("HTTP action", container::HTTP_GET),
    ("Lifecycle", container::LIFECYCLE),
    ("Hook", container::HOOK),
    ("Volume mount", volume::VOLUME_MOUNT),
    ("Volume", volume::VOLUME),
    ("ConfigMap volume", volume::CONFIG_MAP_VOLUME),
    ("Secret volume", volume::SECRET_VOLUME),
    ("Downward API volume", volume::DOWNWARD_VOLUME),
    ("Projected volume", volume::PROJECTED_VOLUME),
    ("Key to path", volume::KEY_TO_PATH),
    ("Job spec", workloads::JOB_SPEC),
    ("Service port", service::SERVICE_PORT),
];

#[cfg(test)]
mod tests;
