// SPDX-License-Identifier: Apache-2.0
//! Who may speak for users: the API server's front proxy, as the ConfigMap `extension-apiserver-authentication` describes it.
//!
//! Only a connection whose certificate is the front proxy's has its headers believed. Read [`crate::gate`] next.

use axum::http::HeaderMap;
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::runtime::watcher::Event;
use maille_chassis::limited;
use tokio::sync::watch;

use super::review::User;
use super::{Cluster, watch_one};
use crate::causes::with_causes;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";

/// The front proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontProxy {
    /// Its authority (PEM).
    pub authority: String,
    /// Common names that its certificate may have; any where there is none.
    names: Vec<String>,
    user_headers: Vec<String>,
    group_headers: Vec<String>,
    extra_prefixes: Vec<String>,
}

/// Keeps `says` as the ConfigMap says, until the process ends.
pub async fn keep(cluster: Cluster, says: watch::Sender<Option<FrontProxy>>) {
    let api = Api::<ConfigMap>::namespaced(cluster.client.clone(), NAMESPACE);
    let mut steps = watch_one(&cluster, api, NAME);
    while let Some(step) = steps.next().await {
        match step {
            Ok(Event::InitApply(map) | Event::Apply(map)) => match read(map) {
                Some(front) => drop(says.send_replace(Some(front))),
                None => limited!(
                    warn,
                    "ConfigMap {NAMESPACE}/{NAME} names no front proxy: the aggregated API answers nobody until the API server has --requestheader-client-ca-file"
                ),
            },
            Ok(Event::Init | Event::InitDone | Event::Delete(_)) => {}
            Err(error) => {
                limited!(warn, error = %with_causes(&error), "watch on the front proxy began again");
            }
        }
    }
}

fn read(map: ConfigMap) -> Option<FrontProxy> {
    let mut data = map.data?;
    let list = |text: Option<String>| -> Vec<String> {
        text.and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default()
    };
    let mut take = |name: &str| data.remove(&format!("requestheader-{name}"));
    Some(FrontProxy {
        authority: take("client-ca-file")?,
        names: list(take("allowed-names")),
        user_headers: list(take("username-headers")),
        group_headers: list(take("group-headers")),
        extra_prefixes: list(take("extra-headers-prefix")),
    })
}

// === impl FrontProxy ===

impl FrontProxy {
    /// Whether a certificate of its authority with this common name is its own.
    pub fn is(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|known| known == name)
    }

    /// The user that it speaks for; `None` where it names nobody.
    pub fn user(&self, headers: &HeaderMap) -> Option<User> {
        let all = |names: &[String]| -> Vec<String> {
            let values = names.iter().flat_map(|name| headers.get_all(name.as_str()));
            values
                .filter_map(|value| value.to_str().ok().map(str::to_owned))
                .collect()
        };
        let mut user = User {
            name: all(&self.user_headers).into_iter().next()?,
            groups: all(&self.group_headers),
            ..User::default()
        };
        for (name, value) in headers {
            let mut prefixes = self.extra_prefixes.iter();
            let key = prefixes.find_map(|prefix| {
                let prefix = prefix.to_ascii_lowercase();
                name.as_str().strip_prefix(&prefix).map(unescaped)
            });
            if let (Some(key), Ok(value)) = (key, value.to_str()) {
                user.extra.entry(key).or_default().push(value.to_owned());
            }
        }
        Some(user).filter(|user| !user.name.is_empty())
    }
}

/// A header's name holds a key with the bytes that it must not have as `%XX`.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.bytes().next() {
        let code = rest.get(1..3).filter(|_| first == b'%');
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &rest[3..];
            }
            None => {
                bytes.push(first);
                rest = rest.get(1..).unwrap_or_default();
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn front() -> FrontProxy {
        let data = [
            ("requestheader-client-ca-file", "PEM"),
            ("requestheader-allowed-names", r#"["front-proxy-client"]"#),
            ("requestheader-username-headers", r#"["X-Remote-User"]"#),
            ("requestheader-group-headers", r#"["X-Remote-Group"]"#),
            (
                "requestheader-extra-headers-prefix",
                r#"["X-Remote-Extra-"]"#,
            ),
        ];
        let data = data.map(|(name, value)| (name.to_owned(), value.to_owned()));
        read(ConfigMap {
            data: Some(BTreeMap::from(data)),
            ..ConfigMap::default()
        })
        .unwrap()
    }

    #[test]
    fn the_user_is_in_the_headers() {
        let mut headers = HeaderMap::new();
        assert_eq!(front().user(&headers), None);
        headers.insert("x-remote-user", "ada".parse().unwrap());
        headers.append("x-remote-group", "a".parse().unwrap());
        headers.append("x-remote-group", "b".parse().unwrap());
        headers.append(
            "x-remote-extra-authentication.kubernetes.io%2fpod-uid",
            "u".parse().unwrap(),
        );
        let user = front().user(&headers).unwrap();
        assert_eq!((user.name.as_str(), user.groups.len()), ("ada", 2));
        assert_eq!(
            user.extra["authentication.kubernetes.io/pod-uid"],
            ["u".to_owned()]
        );
    }

    #[test]
    fn only_its_own_names_are_the_front_proxys() {
        assert!(front().is("front-proxy-client") && !front().is("kube-apiserver"));
        let any = FrontProxy {
            names: Vec::new(),
            ..front()
        };
        assert!(any.is("whoever"));
        assert!(read(ConfigMap::default()).is_none());
    }

    #[test]
    fn escapes_end_where_they_are_none() {
        for (text, plain) in [
            ("a%2fb", "a/b"),
            ("%", "%"),
            ("%2", "%2"),
            ("%zz", "%zz"),
            ("", ""),
        ] {
            assert_eq!(unescaped(text), plain);
        }
    }
}
