// SPDX-License-Identifier: Apache-2.0
//! Who somebody is (TokenReview) and what he may do (SubjectAccessReview), by the API server's word and nobody else's.
//!
//! A token is never logged, kept or sent anywhere else. Questions under way are bounded: who floods us does not flood it.
//! Read [`crate::serve::caller`] and [`crate::gate`] for who asks.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};
use maille_model::{Name, WorkloadUid};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::{CallError, PATIENCE, call};

/// Whom tokens must be meant for.
pub const AUDIENCE: &str = "maille.io";
/// Questions at a time.
const QUESTIONS: usize = 32;
/// Where a token says which pod it was made for.
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
/// What the names of service accounts begin with.
const ACCOUNT: &str = "system:serviceaccount:";

/// Asks the API server. Cheap to clone.
#[derive(Clone)]
pub struct Reviewer {
    client: Client,
    places: Arc<Semaphore>,
}

/// The pod that a token was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// Its namespace.
    pub namespace: Name,
    /// The service account it runs as.
    pub service_account: Name,
    /// Its uid.
    pub uid: WorkloadUid,
}

/// Somebody, as the API server knows him.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// His name.
    pub name: String,
    /// His groups.
    pub groups: Vec<String>,
    /// What else is known.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// What somebody wants of our API.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wish {
    /// `list`.
    pub verb: &'static str,
    /// `stat`, say.
    pub resource: &'static str,
    /// Where; everywhere if nowhere.
    pub namespace: Option<String>,
}

/// Why somebody is not believed.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// The API server was not heard.
    #[error("the API server could not be asked")]
    Call(#[from] CallError),
    /// It does not know the token, or not for us.
    #[error("the token is not valid for the audience {AUDIENCE}: {0}")]
    Token(String),
    /// The token is good, but of no pod.
    #[error(
        "the token is {0}'s, and was not made for a pod: a projected token of the pod is needed"
    )]
    NoPod(String),
}

// === impl Reviewer ===

impl Reviewer {
    /// Asks by `client`.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            places: Arc::new(Semaphore::new(QUESTIONS)),
        }
    }

    /// A place among the questions; who would wait for it too long is told to come again.
    async fn place(&self) -> Result<Option<SemaphorePermit<'_>>, CallError> {
        let place = timeout(PATIENCE, self.places.acquire()).await;
        // The places are never closed.
        place.map(Result::ok).map_err(|_| CallError::Late)
    }

    /// The pod that `token` was made for.
    pub async fn bearer(&self, token: &str) -> Result<Bearer, ReviewError> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                audiences: Some(vec![AUDIENCE.to_owned()]),
                token: Some(token.to_owned()),
            },
            ..TokenReview::default()
        };
        let _place = self.place().await?;
        let api = Api::<TokenReview>::all(self.client.clone());
        bearer(call(api.create(&PostParams::default(), &review)).await?)
    }

    /// Whether `user` may do what he wishes.
    pub async fn allows(&self, user: &User, wish: &Wish) -> Result<bool, CallError> {
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.name.clone()),
                groups: Some(user.groups.clone()),
                extra: Some(user.extra.clone()),
                resource_attributes: Some(ResourceAttributes {
                    group: Some(super::GROUP.to_owned()),
                    version: Some("v1".to_owned()),
                    resource: Some(wish.resource.to_owned()),
                    verb: Some(wish.verb.to_owned()),
                    namespace: wish.namespace.clone(),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let _place = self.place().await?;
        let api = Api::<SubjectAccessReview>::all(self.client.clone());
        let answer = call(api.create(&PostParams::default(), &review)).await?;
        let status = answer.status;
        Ok(status.is_some_and(|status| status.allowed && status.denied != Some(true)))
    }
}

impl std::fmt::Debug for Reviewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reviewer")
    }
}

fn bearer(review: TokenReview) -> Result<Bearer, ReviewError> {
    let status = review.status.unwrap_or_default();
    let audiences = status.audiences.unwrap_or_default();
    let ours = audiences.iter().any(|audience| audience == AUDIENCE);
    if status.authenticated != Some(true) || !ours {
        let why = status.error.unwrap_or_else(|| "no reason given".to_owned());
        return Err(ReviewError::Token(why));
    }
    let user = status.user.unwrap_or_default();
    pod_of(&user).ok_or_else(|| ReviewError::NoPod(user.username.unwrap_or_default()))
}

fn pod_of(user: &UserInfo) -> Option<Bearer> {
    let account = user.username.as_deref()?.strip_prefix(ACCOUNT)?;
    let (namespace, service_account) = account.split_once(':')?;
    let [uid] = user.extra.as_ref()?.get(POD_UID)?.as_slice() else {
        return None;
    };
    Some(Bearer {
        namespace: namespace.parse().ok()?,
        service_account: service_account.parse().ok()?,
        uid: WorkloadUid::new(uid)?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judged(status: serde_json::Value) -> Result<Bearer, String> {
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {}, "status": status});
        bearer(serde_json::from_value(review).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_pods_token_names_the_pod() {
        let user = json!({"username": "system:serviceaccount:shop:web",
            "extra": {"authentication.kubernetes.io/pod-uid": ["u-1"], "authentication.kubernetes.io/pod-name": ["web-1"]}});
        let found =
            judged(json!({"authenticated": true, "audiences": ["maille.io"], "user": user}));
        let expected = Bearer {
            namespace: "shop".parse().unwrap(),
            service_account: "web".parse().unwrap(),
            uid: WorkloadUid::new("u-1").unwrap(),
        };
        assert_eq!(found, Ok(expected));
        // Good for the API server itself, but not for us.
        let elsewhere =
            judged(json!({"authenticated": true, "audiences": ["other"], "user": user}));
        assert!(elsewhere.unwrap_err().contains("audience"));
        let silent = judged(json!({"authenticated": true, "user": user}));
        assert!(silent.unwrap_err().contains("audience"));
    }

    #[test]
    fn nobody_else_is_a_pod() {
        let refused = judged(json!({"error": "token has expired"})).unwrap_err();
        assert!(refused.contains("token has expired"), "{refused}");
        for user in [
            json!({"username": "admin"}),
            json!({"username": "system:serviceaccount:shop:web"}),
            json!({"username": "system:serviceaccount:shop:web", "extra": {POD_UID: []}}),
            json!({"username": "system:serviceaccount:shop:web", "extra": {POD_UID: ["a", "b"]}}),
            json!({"username": "system:serviceaccount:shop", "extra": {POD_UID: ["a"]}}),
            json!({"username": "shop:web", "extra": {POD_UID: ["a"]}}),
        ] {
            let told =
                judged(json!({"authenticated": true, "audiences": ["maille.io"], "user": user}));
            assert!(told.unwrap_err().contains("not made for a pod"), "{user}");
        }
    }
}
