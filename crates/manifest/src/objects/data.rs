// SPDX-License-Identifier: Apache-2.0
//! ConfigMaps and Secrets: keys with texts or bytes. Read [`super::volume`] and [`super::container`] for who uses them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ObjectMeta, TextMap};

/// Settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMap {
    /// Name and namespace.
    pub metadata: ObjectMeta,
    /// Key to text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: TextMap,
    /// Key to bytes in base64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub binary_data: TextMap,
}

/// Settings that are nobody else's business.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Secret {
    /// Name and namespace.
    pub metadata: ObjectMeta,
    /// Key to bytes in base64. After [`crate::load`] what `stringData` said is here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: TextMap,
    /// Key to text; wins over `data`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub string_data: TextMap,
    /// `Opaque`, say.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// Bytes of base64 as in RFC 4648 section 4, over lines or not. `None`: it is no base64.
pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    let bare: Vec<u8> = text
        .bytes()
        .filter(|byte| !matches!(byte, b'\r' | b'\n'))
        .collect();
    data_encoding::BASE64.decode(&bare).ok()
}

impl ConfigMap {
    /// The bytes of `key`.
    pub fn bytes(&self, key: &str) -> Option<Vec<u8>> {
        if let Some(text) = self.data.get(key) {
            return Some(text.as_bytes().to_vec());
        }
        from_base64(self.binary_data.get(key)?)
    }

    /// Every key, those of bytes last.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let keys = self.data.keys().chain(self.binary_data.keys());
        keys.map(String::as_str)
    }
}

impl Secret {
    /// The bytes of `key`.
    pub fn bytes(&self, key: &str) -> Option<Vec<u8>> {
        if let Some(text) = self.string_data.get(key) {
            return Some(text.as_bytes().to_vec());
        }
        from_base64(self.data.get(key)?)
    }

    /// Every key.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let written = self.string_data.keys();
        let own = self
            .data
            .keys()
            .filter(|key| !self.string_data.contains_key(*key));
        written.chain(own).map(String::as_str)
    }

    /// Makes `data` the whole of it.
    pub(crate) fn fold(&mut self) {
        for (key, text) in std::mem::take(&mut self.string_data) {
            let text = data_encoding::BASE64.encode(text.as_bytes());
            self.data.insert(key, text);
        }
    }
}

/// Names its keys, never what they hold.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys: Vec<&str> = self.keys().collect();
        f.debug_struct("Secret")
            .field("metadata", &self.metadata)
            .field("keys", &keys)
            .finish_non_exhaustive()
    }
}
