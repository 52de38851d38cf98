// SPDX-License-Identifier: Apache-2.0
//! What differs between what runs and what should: object by object, known by kind, namespace and name. Pure.
//!
//! It compares and decides nothing: what a change means for pods is the runner's.

use std::collections::BTreeMap;

use crate::objects::Object;

/// Letters of a file's name before its ending; file systems take 255 bytes.
const FILE_LETTERS: usize = 200;

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// `Deployment`, say.
    pub kind: &'static str,
    /// Empty for an object of the whole cluster.
    pub namespace: String,
    /// Unique within the other two.
    pub name: String,
}

/// One difference.
#[derive(Clone, Debug, PartialEq)]
pub struct Change<'a> {
    /// Which object.
    pub key: ObjectKey,
    /// How it was; `None`: it is new.
    pub before: Option<&'a Object>,
    /// How it is to be; `None`: it goes.
    pub after: Option<&'a Object>,
}

/// The differences from `before` to `after`, ordered by key. Where a key comes twice, which [`crate::load`] refuses, the last counts.
pub fn changes<'a>(
    before: impl IntoIterator<Item = &'a Object>,
    after: impl IntoIterator<Item = &'a Object>,
) -> Vec<Change<'a>> {
    let mut pairs: BTreeMap<ObjectKey, (Option<&Object>, Option<&Object>)> = BTreeMap::new();
    for object in before {
        pairs.entry(ObjectKey::of(object)).or_default().0 = Some(object);
    }
    for object in after {
        pairs.entry(ObjectKey::of(object)).or_default().1 = Some(object);
    }
    pairs
        .into_iter()
        .filter(|(_, (before, after))| before != after)
        .map(|(key, (before, after))| Change { key, before, after })
        .collect()
}

// === impl ObjectKey ===

impl ObjectKey {
    /// The key of `object`.
    pub fn of(object: &Object) -> Self {
        let metadata = object.metadata();
        Self {
            kind: object.kind(),
            namespace: metadata.namespace().to_owned(),
            name: metadata.name.to_string(),
        }
    }

    /// A file name of its own: a namespace has no dot, so no two keys share one. What would be too long ends in a hash instead.
    pub fn file(&self) -> String {
        let kind = self.kind.to_lowercase();
        let whole = format!("{kind}.{}.{}", self.namespace, self.name);
        match whole.get(..FILE_LETTERS) {
            Some(beginning) if whole.len() > FILE_LETTERS => {
                let hash = whole.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                    (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
                });
                format!("{beginning}.{hash:016x}.json")
            }
            _ => format!("{whole}.json"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(name: &str, value: &str) -> Object {
        let text = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{a: \"{value}\"}}\n"
        );
        let loaded = crate::load_text(&[("a.yaml".to_owned(), text)]).unwrap();
        loaded.objects.into_iter().next().unwrap()
    }

    #[test]
    fn what_comes_stays_differs_and_goes() {
        let before = [map("stays", "1"), map("differs", "1"), map("goes", "1")];
        let after = [map("comes", "1"), map("differs", "2"), map("stays", "1")];
        let found = changes(&before, &after);
        let told: Vec<_> = found
            .iter()
            .map(|change| {
                let name = change.key.name.as_str();
                (name, change.before.is_some(), change.after.is_some())
            })
            .collect();
        assert_eq!(
            told,
            [
                ("comes", false, true),
                ("differs", true, true),
                ("goes", true, false)
            ]
        );
        assert_eq!(changes(&after, &after), []);
    }

    #[test]
    fn files_are_told_apart() {
        let key = |namespace: &str, name: &str| ObjectKey {
            kind: "Pod",
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        assert_eq!(key("a", "b").file(), "pod.a.b.json");
        assert_ne!(key("a", "b.c").file(), key("a-b", "c").file());
        let long = "x".repeat(252);
        let (one, other) = (format!("{long}a"), format!("{long}b"));
        assert_ne!(key("a", &one).file(), key("a", &other).file());
        assert!(key("a", &one).file().len() < 255);
    }
}
