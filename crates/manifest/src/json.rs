// SPDX-License-Identifier: Apache-2.0
//! Single objects as JSON, between processes and from a real API server. Lenient: fields nobody knows are skipped.

use std::fmt::Write as _;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::objects::{
    ConfigMap, CronJob, DaemonSet, Deployment, EndpointSlice, Job, Namespace, Object,
    PersistentVolumeClaim, Pod, ReplicaSet, Secret, Service, ServiceAccount, StatefulSet, each,
};

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
    let text = join().expect("objects are always serialisable");
    printable(text)
}

/// JSON may hold characters as they are that YAML wants escaped (1.2.2, section 5.1), and manifests are read as YAML.
fn printable(json: Vec<u8>) -> Vec<u8> {
    let is_plain = |c: char| {
        c == '\n' || !c.is_control() && !matches!(c, '\u{feff}' | '\u{fffe}' | '\u{ffff}')
    };
    let Ok(text) = str::from_utf8(&json) else {
        return json;
    };
    if text.chars().all(is_plain) {
        return json;
    }
    let mut out = String::with_capacity(json.len());
    for character in text.chars() {
        if is_plain(character) {
            out.push(character);
        } else {
            // All of them are of the basic plane; writing to a String cannot fail.
            let _ = write!(out, "\\u{:04x}", u32::from(character));
        }
    }
    out.into_bytes()
}

/// Any object, as [`to_json`] writes its kind.
pub fn object_json(object: &Object) -> Vec<u8> {
    each!(object, object => to_json(object))
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
    Secret "v1",
    ReplicaSet "apps/v1",
    StatefulSet "apps/v1",
    DaemonSet "apps/v1",
    Job "batch/v1",
    CronJob "batch/v1",
    EndpointSlice "discovery.k8s.io/v1",
    PersistentVolumeClaim "v1",
}

impl<T: Resource> Resource for Box<T> {
    const API_VERSION: &'static str = T::API_VERSION;
    const KIND: &'static str = T::KIND;
}

// === impl Object ===

impl Object {
    /// The Kubernetes kind.
    pub fn kind(&self) -> &'static str {
        each!(self, object => kind_of(object))
    }

    /// The version of the API that it is written for.
    pub fn api_version(&self) -> &'static str {
        each!(self, object => version_of(object))
    }
}

fn kind_of<T: Resource>(_: &T) -> &'static str {
    T::KIND
}

fn version_of<T: Resource>(_: &T) -> &'static str {
    T::API_VERSION
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::{PodIp, PodSpec, PodStatus};
    use crate::{ObjectMeta, Pod};

    #[test]
    fn a_pod_of_an_api_server_is_read_and_goes_back() {
        let text = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web-1","namespace":"shop","uid":"u","creationTimestamp":"2026-01-01T00:00:00Z",
            "labels":{"app":"web"},"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web","uid":"r","controller":true}],"managedFields":[{}]},
            "spec":{"containers":[{"name":"c","image":"x","resources":{},"ports":[{"containerPort":80,"protocol":"TCP"}]}],"nodeName":"n","tolerations":[]},
            "status":{"phase":"Running","hostIP":"10.0.0.1","podIP":"10.244.0.2","podIPs":[{"ip":"10.244.0.2"},{"ip":"fd00::2"}],
            "conditions":[{"type":"Ready","status":"True","lastTransitionTime":null}]}}"#;
        let pod: Pod = from_json(text.as_bytes()).unwrap();
        assert!(pod.is_ready());
        assert_eq!(pod.addresses().count(), 2);
        assert_eq!(from_json::<Pod>(&to_json(&pod)).unwrap(), pod);
    }

    #[test]
    fn what_is_written_says_what_it_is() {
        let pod = Pod {
            metadata: ObjectMeta::new(Some("shop".parse().unwrap()), "a".parse().unwrap()),
            spec: PodSpec::default(),
            status: PodStatus {
                pod_ips: vec![PodIp {
                    ip: "::1".parse().unwrap(),
                }],
                ..PodStatus::default()
            },
        };
        let text = String::from_utf8(to_json(&pod)).unwrap();
        assert_eq!(
            text,
            "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"a\",\"namespace\":\"shop\"},\"spec\":{\"containers\":[]},\"status\":{\"podIPs\":[{\"ip\":\"::1\"}]}}\n"
        );
    }

    #[test]
    fn what_is_written_is_yaml_as_well() {
        let text = "\u{1b}\u{7f}\u{80}\u{85}\u{9b}\u{2028}\u{202e}\u{feff}\u{ffff}\u{e0041}\r\n\"";
        let json = serde_json::json!({"metadata": {"name": "m"}, "data": {"a": text}}).to_string();
        let map: ConfigMap = from_json(json.as_bytes()).unwrap();
        let written = String::from_utf8(to_json(&map)).unwrap();
        let files = [("m.json".to_owned(), written)];
        let loaded = crate::load_text(&files).unwrap();
        let [Object::ConfigMap(read)] = &loaded.objects[..] else {
            panic!("{loaded:?}");
        };
        assert_eq!(read.data, map.data);
    }

    #[test]
    fn another_kind_is_refused() {
        let error = from_json::<Pod>(br#"{"kind":"Service","metadata":{"name":"a"}}"#).unwrap_err();
        assert_eq!(error.to_string(), "a Service where a Pod is expected");
        assert!(from_json::<Pod>(b"[]").is_err());
        assert!(
            from_json::<Pod>(br#"{"metadata":{"name":"../x"},"spec":{"containers":[]}}"#).is_err()
        );
    }
}
