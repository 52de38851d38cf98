// SPDX-License-Identifier: Apache-2.0
//! ConfigMaps and Secrets as those who use them see them: keys and bytes, by kind, namespace and name. Pure.

use std::collections::BTreeMap;

use maille_manifest::objects::{ConfigMap, Object, Secret};

use crate::machine::Machine;

/// Which of the two kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    ConfigMap,
    Secret,
}

/// Everything that containers are told but for what they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Data {
    /// By namespace and name.
    maps: BTreeMap<(String, String), ConfigMap>,
    secrets: BTreeMap<(String, String), Secret>,
    pub(crate) machine: Machine,
}

/// Something that must be there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MissingData {
    #[error("{kind} {name} does not exist")]
    Object { kind: &'static str, name: String },
    #[error("{kind} {name} has no key {key}")]
    Key {
        kind: &'static str,
        name: String,
        key: String,
    },
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }
}

impl Data {
    /// Those among `objects`.
    pub(crate) fn of<'a>(objects: impl IntoIterator<Item = &'a Object>, machine: Machine) -> Self {
        let (mut maps, mut secrets) = (BTreeMap::new(), BTreeMap::new());
        for object in objects {
            let metadata = object.metadata();
            let key = (metadata.namespace().to_owned(), metadata.name.to_string());
            match object {
                Object::ConfigMap(map) => drop(maps.insert(key, map.clone())),
                Object::Secret(secret) => drop(secrets.insert(key, secret.clone())),
                _ => {}
            }
        }
        Self {
            maps,
            secrets,
            machine,
        }
    }

    /// Every key with its bytes; nothing where the object is absent and that is allowed.
    pub(crate) fn all(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        optional: bool,
    ) -> Result<Vec<(String, Vec<u8>)>, MissingData> {
        let key = (namespace.to_owned(), name.to_owned());
        let own = |key: &str, bytes: Option<Vec<u8>>| Some((key.to_owned(), bytes?));
        let found: Option<Vec<_>> = match kind {
            Kind::ConfigMap => self.maps.get(&key).map(|map| {
                map.keys()
                    .filter_map(|key| own(key, map.bytes(key)))
                    .collect()
            }),
            Kind::Secret => self.secrets.get(&key).map(|secret| {
                let keys = secret.keys();
                keys.filter_map(|key| own(key, secret.bytes(key))).collect()
            }),
        };
        match found {
            Some(found) => Ok(found),
            None if optional => Ok(Vec::new()),
            None => Err(MissingData::Object {
                kind: kind.name(),
                name: name.to_owned(),
            }),
        }
    }

    /// The bytes of one key; `None` where it or its object is absent and that is allowed.
    pub(crate) fn one(
        &self,
        kind: Kind,
        namespace: &str,
        (name, key): (&str, &str),
        optional: bool,
    ) -> Result<Option<Vec<u8>>, MissingData> {
        let all = self.all(kind, namespace, name, optional)?;
        let found = all.into_iter().find(|(known, _)| known == key);
        match found {
            Some((_, bytes)) => Ok(Some(bytes)),
            None if optional => Ok(None),
            None => Err(MissingData::Key {
                kind: kind.name(),
                name: name.to_owned(),
                key: key.to_owned(),
            }),
        }
    }
}
