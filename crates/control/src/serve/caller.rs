// SPDX-License-Identifier: Apache-2.0
//! Who calls: on the agent's socket whom the agent names, from a network who proves it.
//!
//! A certificate proves a pod and is good for everything; a token proves a pod once, for its first certificate. What a call
//! says of itself in its metadata is believed from the agent alone. Read [`super`] next.

use std::time::SystemTime;

use maille_identity::tls::Peer;
use maille_model::{Name, Workload, WorkloadUid};
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

use super::{WORKLOAD, admitted_uid};
use crate::causes::with_causes;
use crate::cluster::review::{ReviewError, Reviewer};
use crate::hub::Hub;

/// Longest token that is passed on.
const TOKEN_BYTES: usize = 16 * 1024;

/// How callers are told apart, on one listener.
#[derive(Clone, Debug)]
pub enum Callers {
    /// The agent attests them; nobody else can open its socket.
    Attested,
    /// They prove themselves.
    Proved(Reviewer),
}

/// What a connection from a network showed.
#[derive(Clone, Debug)]
pub struct Shown(pub Option<Peer>);

/// The workload that a call is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its uid.
    pub uid: WorkloadUid,
    /// What was proved beside it.
    proof: Option<Proof>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Proof {
    namespace: Name,
    service_account: Name,
    /// Until when it counts; a token is looked at once.
    until: Option<SystemTime>,
}

// === impl Callers ===

impl Callers {
    /// Who makes this call.
    pub(super) fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        match self {
            Self::Attested => attested(request.metadata()),
            Self::Proved(_) => match shown(request) {
                Some(peer) => by_certificate(peer),
                None => Err(Status::unauthenticated(
                    "a certificate is needed here: ask for one with a token first",
                )),
            },
        }
    }

    /// The same for a call that asks for a certificate: its first one is asked for with a token.
    pub(super) async fn applicant<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        let reviewer = match self {
            Self::Attested => return attested(request.metadata()),
            Self::Proved(reviewer) => reviewer,
        };
        if let Some(peer) = shown(request) {
            return by_certificate(peer);
        }
        let bearer = reviewer.bearer(token(request.metadata())?).await;
        let bearer = bearer.map_err(|error| {
            let reason = with_causes(&error);
            maille_chassis::limited!(warn, reason, "token refused");
            match error {
                ReviewError::Call(_) => Status::unavailable(reason),
                ReviewError::Token(_) | ReviewError::NoPod(_) => Status::unauthenticated(reason),
            }
        })?;
        Ok(Caller {
            uid: bearer.uid,
            proof: Some(Proof {
                namespace: bearer.namespace,
                service_account: bearer.service_account,
                until: None,
            }),
        })
    }
}

// === impl Caller ===

impl Caller {
    /// The workload, once control knows it; refused when it is not to be served, or is another one than was proved.
    pub(super) async fn admitted(&self, hub: &Hub) -> Result<Workload, Status> {
        let workload = admitted_uid(hub, &self.uid).await?;
        self.holds(&workload, hub.now())?;
        Ok(workload)
    }

    /// Whether what was proved still counts.
    pub(super) fn is_current(&self, now: SystemTime) -> Result<(), Status> {
        let until = self.proof.as_ref().and_then(|proof| proof.until);
        if until.is_some_and(|until| until <= now) {
            return Err(Status::unauthenticated("the certificate has expired"));
        }
        Ok(())
    }

    fn holds(&self, workload: &Workload, now: SystemTime) -> Result<(), Status> {
        self.is_current(now)?;
        let Some(proof) = &self.proof else {
            return Ok(());
        };
        if workload.namespace == proof.namespace
            && workload.service_account == proof.service_account
        {
            return Ok(());
        }
        Err(Status::permission_denied(format!(
            "pod {}/{} runs as {}, but {}/{} was proved",
            workload.namespace,
            workload.name,
            workload.service_account,
            proof.namespace,
            proof.service_account
        )))
    }
}

fn attested(metadata: &MetadataMap) -> Result<Caller, Status> {
    let text = metadata.get(WORKLOAD).and_then(|value| value.to_str().ok());
    let uid = text.and_then(WorkloadUid::new).ok_or_else(|| {
        Status::invalid_argument(format!("metadata {WORKLOAD} must be the uid of a workload"))
    })?;
    Ok(Caller { uid, proof: None })
}

fn shown<T>(request: &Request<T>) -> Option<&Peer> {
    request.extensions().get::<Shown>()?.0.as_ref()
}

fn by_certificate(peer: &Peer) -> Result<Caller, Status> {
    let uid = peer.uid.clone().ok_or_else(|| {
        Status::unauthenticated("the certificate does not say for which pod it was made")
    })?;
    Ok(Caller {
        uid,
        proof: Some(Proof {
            namespace: peer.identity.namespace.clone(),
            service_account: peer.identity.service_account.clone(),
            until: Some(peer.not_after),
        }),
    })
}

fn token(metadata: &MetadataMap) -> Result<&str, Status> {
    let text = metadata.get("authorization");
    let text = text.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let text = text.filter(|token| !token.is_empty() && token.len() <= TOKEN_BYTES);
    text.ok_or_else(|| {
        Status::unauthenticated(
            "neither a certificate nor a token: metadata authorization must be \"Bearer TOKEN\"",
        )
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use maille_model::Membership;
    use tonic::Code;

    use super::*;

    fn peer(uid: Option<&str>) -> Peer {
        Peer {
            identity: "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap(),
            uid: uid.and_then(WorkloadUid::new),
            not_after: UNIX_EPOCH + Duration::from_secs(100),
        }
    }

    fn workload(account: &str) -> Workload {
        Workload {
            uid: WorkloadUid::new("u").unwrap(),
            namespace: "shop".parse().unwrap(),
            name: "web-1".parse().unwrap(),
            service_account: account.parse().unwrap(),
            addresses: Vec::new(),
            owner: None,
            membership: Membership::Meshed,
            zone: None,
        }
    }

    #[test]
    fn a_certificate_is_good_for_its_pod_and_as_long_as_it_lasts() {
        let caller = by_certificate(&peer(Some("u"))).unwrap();
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert!(caller.holds(&workload("web"), at(99)).is_ok());
        let code = |held: Result<(), Status>| held.unwrap_err().code();
        assert_eq!(
            code(caller.holds(&workload("web"), at(100))),
            Code::Unauthenticated
        );
        assert_eq!(
            code(caller.holds(&workload("other"), at(1))),
            Code::PermissionDenied
        );
        assert_eq!(
            by_certificate(&peer(None)).unwrap_err().code(),
            Code::Unauthenticated
        );
    }

    #[test]
    fn tokens_are_where_they_belong() {
        let mut metadata = MetadataMap::new();
        assert!(token(&metadata).is_err());
        for (text, found) in [
            ("Bearer abc", Some("abc")),
            ("Bearer ", None),
            ("abc", None),
        ] {
            metadata.insert("authorization", text.parse().unwrap());
            assert_eq!(token(&metadata).ok(), found, "{text}");
        }
    }

    #[test]
    fn the_agents_word_is_the_metadata() {
        let mut metadata = MetadataMap::new();
        assert_eq!(
            attested(&metadata).unwrap_err().code(),
            Code::InvalidArgument
        );
        metadata.insert(WORKLOAD, "u".parse().unwrap());
        let caller = attested(&metadata).unwrap();
        assert!(caller.holds(&workload("anybody"), UNIX_EPOCH).is_ok());
    }
}
