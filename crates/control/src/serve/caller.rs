// SPDX-License-Identifier: Apache-2.0
//! Who calls: on the agent's socket whom the agent names, from a network who proves it.
//!
//! A certificate proves a pod and is good for everything; a token proves a pod once, for its first certificate. A node agent proves
//! its own pod like any other, and then speaks for the pods that control sees on the same node, and for nobody else. What a call
//! says of itself in its metadata is believed from agents alone. Read [`super`] next.

use std::time::SystemTime;

use maille_identity::tls::Peer;
use maille_model::{Identity, Name, Workload, WorkloadUid};
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

use super::{WORKLOAD, admitted_uid, status};
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
    Proved {
        /// Who judges tokens.
        reviewer: Reviewer,
        /// Who node agents are.
        agents: Identity,
    },
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
    of: Proved,
    /// Until when it counts; a token is looked at once.
    until: Option<SystemTime>,
}

/// Whose proof it is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Proved {
    /// The caller's own.
    Pod {
        namespace: Name,
        service_account: Name,
    },
    /// A node agent's, for itself.
    Agent,
    /// A node agent's, which speaks for a pod: its own uid.
    For(WorkloadUid),
}

// === impl Callers ===

impl Callers {
    /// Who makes this call.
    pub(super) fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        match self {
            Self::Attested => attested(request.metadata()),
            Self::Proved { agents, .. } => match shown(request) {
                Some(peer) => by_certificate(peer, agents, request.metadata()),
                None => Err(Status::unauthenticated(
                    "a certificate is needed here: ask for one with a token first",
                )),
            },
        }
    }

    /// The same for a call that asks for a certificate: its first one is asked for with a token.
    pub(super) async fn applicant<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        let (reviewer, agents) = match self {
            Self::Attested => return attested(request.metadata()),
            Self::Proved { reviewer, agents } => (reviewer, agents),
        };
        if let Some(peer) = shown(request) {
            return by_certificate(peer, agents, request.metadata());
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
        let is_agent = bearer.namespace == agents.namespace
            && bearer.service_account == agents.service_account;
        Ok(Caller {
            uid: bearer.uid,
            proof: Some(Proof {
                of: if is_agent {
                    Proved::Agent
                } else {
                    Proved::Pod {
                        namespace: bearer.namespace,
                        service_account: bearer.service_account,
                    }
                },
                until: None,
            }),
        })
    }
}

// === impl Caller ===

impl Caller {
    /// The workload, once control knows it; refused when it is not to be served, or is another one than was proved.
    pub(super) async fn admitted(&self, hub: &Hub) -> Result<Workload, Status> {
        let of = self.proof.as_ref().map(|proof| &proof.of);
        let workload = match of {
            Some(Proved::Agent) => hub.agent(&self.uid).map_err(|refusal| status(&refusal))?,
            _ => admitted_uid(hub, &self.uid).await?,
        };
        if let Some(Proved::For(agent)) = of
            && !hub.is_on_node_of(&self.uid, agent)
        {
            let (namespace, name) = (&workload.namespace, &workload.name);
            maille_chassis::limited!(warn, agent = %agent, workload = %self.uid, "agent refused: the pod is not on its node");
            return Err(Status::permission_denied(format!(
                "pod {namespace}/{name} is not on the node of agent {agent}"
            )));
        }
        self.holds(&workload, hub.now())?;
        Ok(workload)
    }

    /// Whether a node's agent speaks here, for a pod.
    pub(super) const fn is_for_another(&self) -> bool {
        matches!(
            &self.proof,
            Some(Proof {
                of: Proved::For(_),
                ..
            })
        )
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
        let Some(Proof {
            of:
                Proved::Pod {
                    namespace,
                    service_account,
                },
            ..
        }) = &self.proof
        else {
            return Ok(());
        };
        if workload.namespace == *namespace && workload.service_account == *service_account {
            return Ok(());
        }
        Err(Status::permission_denied(format!(
            "pod {}/{} runs as {}, but {namespace}/{service_account} was proved",
            workload.namespace, workload.name, workload.service_account,
        )))
    }
}

fn attested(metadata: &MetadataMap) -> Result<Caller, Status> {
    let uid = named(metadata)?;
    Ok(Caller { uid, proof: None })
}

/// The workload that an agent speaks for.
fn named(metadata: &MetadataMap) -> Result<WorkloadUid, Status> {
    let text = metadata.get(WORKLOAD).and_then(|value| value.to_str().ok());
    text.and_then(WorkloadUid::new).ok_or_else(|| {
        Status::invalid_argument(format!("metadata {WORKLOAD} must be the uid of a workload"))
    })
}

fn shown<T>(request: &Request<T>) -> Option<&Peer> {
    request.extensions().get::<Shown>()?.0.as_ref()
}

fn by_certificate(
    peer: &Peer,
    agents: &Identity,
    metadata: &MetadataMap,
) -> Result<Caller, Status> {
    let own = peer.uid.clone().ok_or_else(|| {
        Status::unauthenticated("the certificate does not say for which pod it was made")
    })?;
    let (uid, of) = if peer.identity != *agents {
        let of = Proved::Pod {
            namespace: peer.identity.namespace.clone(),
            service_account: peer.identity.service_account.clone(),
        };
        (own, of)
    } else if metadata.contains_key(WORKLOAD) {
        (named(metadata)?, Proved::For(own))
    } else {
        (own, Proved::Agent)
    };
    Ok(Caller {
        uid,
        proof: Some(Proof {
            of,
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
        let nothing = MetadataMap::new();
        let caller = by_certificate(&peer(Some("u")), &agents(), &nothing).unwrap();
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
            by_certificate(&peer(None), &agents(), &nothing)
                .unwrap_err()
                .code(),
            Code::Unauthenticated
        );
    }

    #[test]
    fn an_agent_speaks_for_whom_it_names_and_nobody_else_does() {
        let mut metadata = MetadataMap::new();
        let mut agent = peer(Some("agent"));
        agent.identity = agents();
        let own = by_certificate(&agent, &agents(), &metadata).unwrap();
        assert_eq!(
            (own.uid.as_str(), own.proof.unwrap().of),
            ("agent", Proved::Agent)
        );
        metadata.insert(WORKLOAD, "u".parse().unwrap());
        let other = by_certificate(&agent, &agents(), &metadata).unwrap();
        let of = other.proof.unwrap().of;
        assert_eq!(other.uid.as_str(), "u");
        assert_eq!(of, Proved::For(WorkloadUid::new("agent").unwrap()));
        let pod = by_certificate(&peer(Some("own")), &agents(), &metadata).unwrap();
        assert_eq!(
            pod.uid.as_str(),
            "own",
            "what a pod says of itself is not looked at"
        );
    }

    fn agents() -> Identity {
        "spiffe://cluster.local/ns/mesh/sa/maille-node"
            .parse()
            .unwrap()
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
