// SPDX-License-Identifier: Apache-2.0
//! Which labels are meant: by equality, and by requirements. Pure.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::TextMap;

/// Labels that match: every entry and every requirement must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelector {
    /// Label to value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: TextMap,
    /// What else must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<Requirement>,
}

/// What must hold of one label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    /// Which label.
    pub key: String,
    /// What must hold.
    pub operator: Operator,
    /// Of which values; none where the label is only to be there, or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// What must hold of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operator {
    /// It has one of the values.
    In,
    /// It has none of them, or is not there.
    NotIn,
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

// === impl LabelSelector ===

impl LabelSelector {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }

    /// Whether `labels` are meant. An empty selector means nothing, as it selects no pod by intent.
    pub fn matches(&self, labels: &TextMap) -> bool {
        let equal = self.match_labels.is_empty() || selects(&self.match_labels, labels);
        !self.is_empty() && equal && self.match_expressions.iter().all(|one| one.holds(labels))
    }
}

/// As `kubectl --selector` takes it.
impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let equal = self
            .match_labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"));
        let more = self.match_expressions.iter().map(ToString::to_string);
        f.write_str(&equal.chain(more).collect::<Vec<_>>().join(","))
    }
}

// === impl Requirement ===

impl Requirement {
    fn holds(&self, labels: &TextMap) -> bool {
        let value = labels.get(&self.key);
        let named = value.is_some_and(|value| self.values.contains(value));
        match self.operator {
            Operator::In => named,
            Operator::NotIn => !named,
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match self.operator {
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
        }
    }
}

/// Whether `selector` has entries and each is among `labels`.
pub fn selects(selector: &TextMap, labels: &TextMap) -> bool {
    !selector.is_empty()
        && selector
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_hold_as_on_kubernetes() {
        let labels: TextMap = [("app", "web"), ("tier", "front")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        for (text, expected, shown) in [
            ("{}", false, ""),
            (r#"{"matchLabels":{"app":"web"}}"#, true, "app=web"),
            (r#"{"matchLabels":{"app":"other"}}"#, false, "app=other"),
            (
                r#"{"matchExpressions":[{"key":"app","operator":"In","values":["a","web"]}]}"#,
                true,
                "app in (a,web)",
            ),
            (
                r#"{"matchExpressions":[{"key":"app","operator":"In","values":["a"]}]}"#,
                false,
                "app in (a)",
            ),
            (
                r#"{"matchExpressions":[{"key":"app","operator":"NotIn","values":["web"]}]}"#,
                false,
                "app notin (web)",
            ),
            (
                r#"{"matchExpressions":[{"key":"no","operator":"NotIn","values":["web"]}]}"#,
                true,
                "no notin (web)",
            ),
            (
                r#"{"matchExpressions":[{"key":"tier","operator":"Exists"}]}"#,
                true,
                "tier",
            ),
            (
                r#"{"matchExpressions":[{"key":"tier","operator":"DoesNotExist"}]}"#,
                false,
                "!tier",
            ),
            (
                r#"{"matchLabels":{"app":"web"},"matchExpressions":[{"key":"x","operator":"DoesNotExist"}]}"#,
                true,
                "app=web,!x",
            ),
            (
                r#"{"matchLabels":{"app":"no"},"matchExpressions":[{"key":"x","operator":"DoesNotExist"}]}"#,
                false,
                "app=no,!x",
            ),
        ] {
            let selector: LabelSelector = serde_json::from_str(text).unwrap();
            assert_eq!(selector.matches(&labels), expected, "{text}");
            assert_eq!(selector.to_string(), shown);
        }
    }
}
