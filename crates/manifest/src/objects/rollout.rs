// SPDX-License-Identifier: Apache-2.0
//! How a Deployment, a StatefulSet or a DaemonSet replaces its pods. Only numbers here: whoever runs pods decides with them. Read [`super`] for the
//! Deployment, `workloads.rs` for the sets.

use serde::{Deserialize, Serialize};

/// The default of both bounds, as Kubernetes has it.
const QUARTER: Amount = Amount::Percent(25);

/// How old pods give way to new ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Strategy {
    /// Step by step, or all at once.
    #[serde(default, rename = "type")]
    pub kind: StrategyType,
    /// The size of a step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolling_update: Option<RollingUpdate>,
}

/// Step by step, or all at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum StrategyType {
    /// New ones come as old ones go.
    #[default]
    RollingUpdate,
    /// The old ones are gone before the first new one starts.
    Recreate,
}

/// The size of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RollingUpdate {
    /// Pods beyond the wanted number. Absent: 25 %, rounded up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_surge: Option<Amount>,
    /// Pods of the wanted number that may be missing. Absent: 25 %, rounded down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<Amount>,
}

/// How the pods of a set give way to new ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateStrategy<R> {
    /// By themselves, or only where somebody deletes them.
    #[serde(default, rename = "type")]
    pub kind: UpdateType,
    /// The size of a step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolling_update: Option<R>,
}

/// By themselves, or only where somebody deletes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpdateType {
    /// Step by step.
    #[default]
    RollingUpdate,
    /// An old one stays until somebody deletes it.
    OnDelete,
}

/// How far a StatefulSet is updated, and in which steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NumberedUpdate {
    /// Pods before this one, counted from the first, stay as they are.
    #[serde(default)]
    pub partition: u32,
    /// Pods that may be missing at a time. Absent: one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<Amount>,
}

/// A number of pods, or a share of the wanted number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// So many.
    Count(u32),
    /// So many of a hundred.
    Percent(u32),
}

/// A rollout's bounds in pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Pods beyond the wanted number.
    pub surge: u32,
    /// Pods of the wanted number that may be missing.
    pub unavailable: u32,
}

// === impl Strategy ===

impl Strategy {
    /// The bounds for `replicas` pods. Never both zero, or nothing could ever be replaced.
    pub fn bounds(&self, replicas: u32) -> Bounds {
        let said = self.rolling_update.unwrap_or_default();
        let surge = said
            .max_surge
            .unwrap_or(QUARTER)
            .of(replicas, u32::div_ceil);
        let unavailable = said.max_unavailable.unwrap_or(QUARTER);
        let unavailable = unavailable.of(replicas, |a, b| a / b).min(replicas);
        Bounds {
            surge,
            unavailable: if surge == 0 {
                unavailable.max(1)
            } else {
                unavailable
            },
        }
    }

    /// Whether it says no more than its absence would.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

// === impl UpdateStrategy ===

impl<R: Default + PartialEq> UpdateStrategy<R> {
    /// Whether it says no more than its absence would.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl UpdateStrategy<NumberedUpdate> {
    /// Pods before this one, counted from the first, stay as they are.
    pub fn partition(&self) -> u32 {
        self.rolling_update.map_or(0, |update| update.partition)
    }

    /// How many of `replicas` pods may be missing at a time: one at least.
    pub fn unavailable(&self, replicas: u32) -> u32 {
        let said = self
            .rolling_update
            .and_then(|update| update.max_unavailable);
        said.map_or(1, |amount| amount.of(replicas, u32::div_ceil).max(1))
    }
}

impl UpdateStrategy<RollingUpdate> {
    /// The bounds for the one pod of a DaemonSet: the old one goes first, unless it is said otherwise.
    pub fn bounds(&self) -> Bounds {
        let said = self.rolling_update.unwrap_or_default();
        let of = |amount: Option<Amount>, usual| {
            amount.map_or(usual, |amount| amount.of(1, u32::div_ceil).min(1))
        };
        Bounds {
            surge: of(said.max_surge, 0),
            unavailable: of(said.max_unavailable, 1),
        }
    }
}

// === impl Amount ===

impl Amount {
    fn of(self, replicas: u32, divide: fn(u32, u32) -> u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => divide(replicas.saturating_mul(percent), 100),
        }
    }

    /// `25%`, or `None` for what is no share.
    pub fn percent(text: &str) -> Option<Self> {
        let digits = text.strip_suffix('%')?;
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        let percent = digits
            .parse()
            .ok()
            .filter(|percent| plain && *percent <= 100)?;
        Some(Self::Percent(percent))
    }
}

impl Serialize for Amount {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => serializer.serialize_u32(*count),
            Self::Percent(percent) => serializer.collect_str(&format_args!("{percent}%")),
        }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let found = match &value {
            serde_json::Value::String(text) => Self::percent(text),
            value => value
                .as_u64()
                .and_then(|count| u32::try_from(count).ok())
                .map(Self::Count),
        };
        found.ok_or_else(|| {
            serde::de::Error::custom(format_args!("{value} is neither a number nor a percentage"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strategy(json: &str) -> Strategy {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn bounds_are_rounded_as_kubernetes_rounds_them() {
        for (json, replicas, surge, unavailable) in [
            ("{}", 1, 1, 0),
            ("{}", 3, 1, 0),
            ("{}", 4, 1, 1),
            ("{}", 10, 3, 2),
            (r#"{"rollingUpdate":{"maxSurge":0}}"#, 3, 0, 1),
            (
                r#"{"rollingUpdate":{"maxSurge":0,"maxUnavailable":"50%"}}"#,
                4,
                0,
                2,
            ),
            (
                r#"{"rollingUpdate":{"maxSurge":2,"maxUnavailable":0}}"#,
                4,
                2,
                0,
            ),
            (
                r#"{"rollingUpdate":{"maxSurge":"100%","maxUnavailable":9}}"#,
                4,
                4,
                4,
            ),
            ("{}", 0, 0, 1),
        ] {
            let bounds = strategy(json).bounds(replicas);
            assert_eq!(
                (bounds.surge, bounds.unavailable),
                (surge, unavailable),
                "{json} {replicas}"
            );
        }
    }

    #[test]
    fn sets_have_bounds_of_their_own() {
        let numbered = |json: &str| -> (u32, u32) {
            let strategy: UpdateStrategy<NumberedUpdate> = serde_json::from_str(json).unwrap();
            (strategy.partition(), strategy.unavailable(5))
        };
        assert_eq!(numbered("{}"), (0, 1));
        assert_eq!(
            numbered(r#"{"type":"RollingUpdate","rollingUpdate":{"partition":3}}"#),
            (3, 1)
        );
        let half = r#"{"rollingUpdate":{"maxUnavailable":"50%"}}"#;
        assert_eq!(numbered(half), (0, 3), "rounded up");
        let daemon = |json: &str| -> (u32, u32) {
            let strategy: UpdateStrategy<RollingUpdate> = serde_json::from_str(json).unwrap();
            let bounds = strategy.bounds();
            (bounds.surge, bounds.unavailable)
        };
        assert_eq!(daemon("{}"), (0, 1));
        let beside = r#"{"rollingUpdate":{"maxSurge":"10%","maxUnavailable":0}}"#;
        assert_eq!(daemon(beside), (1, 0));
        assert_eq!(daemon(r#"{"rollingUpdate":{"maxUnavailable":7}}"#), (0, 1));
    }

    #[test]
    fn amounts_are_written_as_they_were_read() {
        for text in [r#""25%""#, "3", r#""0%""#] {
            let amount: Amount = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&amount).unwrap(), text);
        }
        for text in [
            r#""25""#,
            r#""101%""#,
            r#""-1%""#,
            r#""+1%""#,
            "-1",
            "1.5",
            "true",
            r#""%""#,
        ] {
            assert!(serde_json::from_str::<Amount>(text).is_err(), "{text}");
        }
    }
}
