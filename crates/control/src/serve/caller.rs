// SPDX-License-Identifier: Apache-2.0
//! Who calls: on the agent's socket whom the agent names, from a network who proves it.
//!
//! A certificate proves a pod and is good for everything; a token proves a pod once, for its first certificate. A node agent proves
//! its own pod like any other, and then speaks for the pods that control sees on the same node, and for nobody else. What a call
//! says of itself in its metadata is believed from agents alone. Read [`super`] next.

use std::fmt;
use std::time::SystemTime;

use maille_identity::tls::Peer;
use maille_model::{Identity, Name, Workload, WorkloadUid};
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

use super::{PATIENCE, WORKLOAD, admitted_uid, status};
use crate::causes::with_causes;
use crate::cluster::review::{ReviewError, Reviewer};
use crate::hub::{Hub, Refusal};

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
        self.is_on_its_node(
            hub,
            format_args!("{}/{}", workload.namespace, workload.name),
        )?;
        self.holds(&workload, hub.now())?;
        Ok(workload)
    }

    /// Succeeds once control knows the pod that a node's agent speaks for, whether or not it is in the mesh.
    pub(super) async fn knows(&self, hub: &Hub) -> Result<(), Status> {
        match hub.await_admission(&self.uid, PATIENCE).await {
            Ok(_) | Err(Refusal::Unmeshed(_)) => {}
            Err(refusal) => return Err(status(&refusal)),
        }
        self.is_on_its_node(hub, format_args!("{}", self.uid))?;
        self.is_current(hub.now())
    }

    /// An agent speaks for pods on its own node.
    fn is_on_its_node(&self, hub: &Hub, name: fmt::Arguments<'_>) -> Result<(), Status> {
        let of = self.proof.as_ref().map(|proof| &proof.of);
        if let Some(Proved::For(agent)) = of
            && !hub.is_on_node_of(&self.uid, agent)
        {
            maille_chassis::limited!(warn, agent = %agent, workload = %self.uid, "agent refused: the pod is not on its node");
            return Err(Status::permission_denied(format!(
                "pod {name} is not on the node of agent {agent}"
            )));
        }
        Ok(())
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
mod tests;
