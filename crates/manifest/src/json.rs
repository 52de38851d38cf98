// SPDX-License-Identifier: Apache-2.0
//! Single objects as JSON, between processes and from a real API server. Lenient: fields nobody knows are skipped.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::objects::{ConfigMap, Deployment, Namespace, Pod, Service, ServiceAccount};

/// An object with a kind of its own.
pub trait Resource: Serialize + DeserializeOwned {
    /// `apps/v1`, say.
    const API_VERSION: &'static str;
    /// `Deployment`, say.
    const KIND: &'static str;
}

/// Why bytes are not the object that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum FromJsonError {
    /// No JSON, or not in the shape of the kind.
    #[error("not a {kind} in JSON")]
    Shape {
        /// The kind that was asked for.
        kind: &'static str,
        /// What serde says.
        #[source]
        source: serde_json::Error,
    },
    /// Another kind.
    #[error("a {found} where a {expected} is expected")]
    Kind {
        /// What it is.
        found: String,
        /// What was asked for.
        expected: &'static str,
    },
}

/// The object as one line of JSON with `apiVersion` and `kind`, and a newline.
pub fn to_json<T: Resource>(object: &T) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Head {
        api_version: &'static str,
        kind: &'static str,
    }
    let head = Head {
        api_version: T::API_VERSION,
        kind: T::KIND,
    };
    let join = || -> Result<Vec<u8>, serde_json::Error> {
        let mut text = serde_json::to_vec(&head)?;
        text.pop();
        text.push(b',');
        text.extend_from_slice(serde_json::to_vec(object)?.get(1..).unwrap_or_default());
        text.push(b'\n');
        Ok(text)
    };
    #[expect(
        clippy::expect_used,
        reason = "keys are strings and no value has a fallible serialisation"
    )]
    join().expect("objects are always serialisable")
}

/// Reads one object.
pub fn from_json<T: Resource>(bytes: &[u8]) -> Result<T, FromJsonError> {
    let shape = |source| FromJsonError::Shape {
        kind: T::KIND,
        source,
    };
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(shape)?;
    if let Some(kind) = value.get("kind").and_then(|kind| kind.as_str())
        && kind != T::KIND
    {
        return Err(FromJsonError::Kind {
            found: kind.to_owned(),
            expected: T::KIND,
        });
    }
    serde_json::from_value(value).map_err(shape)
}

macro_rules! resources {
    ($($kind:ident $version:literal),* $(,)?) => {
        $(impl Resource for $kind {
            const API_VERSION: &'static str = $version;
            const KIND: &'static str = stringify!($kind);
        })*
    };
}

resources! {
    Namespace "v1",
    ServiceAccount "v1",
    Deployment "apps/v1",
    Pod "v1",
    Service "v1",
    ConfigMap "v1",
}
