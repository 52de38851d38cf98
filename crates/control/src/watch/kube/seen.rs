// SPDX-License-Identifier: Apache-2.0
//! One object as the API server gives it, narrowed to what is read here before it is parsed.
//!
//! An object that makes no sense is a value: one of them must not end the watch on all the others. Read [`super::narrow`] next.

use std::borrow::Cow;
use std::marker::PhantomData;

use kube::Resource;
use kube::api::ObjectMeta;
use kube::core::DynamicResourceScope;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A kind that is watched.
pub(super) trait Watched:
    DeserializeOwned + Clone + std::fmt::Debug + Send + 'static
{
    /// Empty for the core group.
    const GROUP: &'static str;
    /// `v1`, say.
    const VERSION: &'static str;
    /// `Pod`, say.
    const KIND: &'static str;
    /// `pods`, say.
    const PLURAL: &'static str;

    /// Leaves in an object only what is read, so that nothing else can make it unreadable.
    fn narrow(object: &mut Value);
}

/// An object, or why it is none.
#[derive(Clone, Debug)]
pub(super) struct Seen<T> {
    meta: ObjectMeta,
    /// What it says.
    pub(super) object: Result<T, String>,
    kind: PhantomData<T>,
}

// === impl Seen ===

impl<'de, T: Watched> Deserialize<'de> for Seen<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        let meta = meta(&value);
        T::narrow(&mut value);
        Ok(Self {
            meta,
            object: serde_json::from_value(value).map_err(|error| error.to_string()),
            kind: PhantomData,
        })
    }
}

/// What tells objects and their versions apart; nothing else of their metadata is kept.
fn meta(value: &Value) -> ObjectMeta {
    let text = |name: &str| Some(value.get("metadata")?.get(name)?.as_str()?.to_owned());
    ObjectMeta {
        name: text("name"),
        namespace: text("namespace"),
        uid: text("uid"),
        resource_version: text("resourceVersion"),
        ..ObjectMeta::default()
    }
}

impl<T: Watched> Resource for Seen<T> {
    type DynamicType = ();
    type Scope = DynamicResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        T::KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        T::GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        T::VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        T::PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}
