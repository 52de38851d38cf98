// SPDX-License-Identifier: Apache-2.0
//! `Certificates.Sign`: a certificate for the workload that the agent attested or that proved itself, and for nobody else.
//!
//! The identity is made of what control knows about the workload, never of what the request says; of the request only the
//! public key is taken, after proof of possession (`maille_identity::ca`). Every certificate is logged.

use std::time::{SystemTime, UNIX_EPOCH};

use maille_chassis::limited;
use maille_identity::{SignError, Subject};
use maille_model::WorkloadUid;
use maille_wire::v1::certificates_server::Certificates;
use maille_wire::v1::{SignRequest, SignResponse};
use tonic::{Code, Request, Response, Status};

use super::Desk;
use crate::causes::with_causes;

/// Certificates that one workload gets in [`SPELL_SECONDS`].
const SIGNED: u32 = 30;
/// See [`SIGNED`].
const SPELL_SECONDS: u64 = 10;

/// The service.
#[derive(Clone, Debug)]
pub struct Signer {
    desk: Desk,
}

// === impl Signer ===

impl Signer {
    /// A service on `desk`.
    pub fn new(desk: Desk) -> Self {
        Self { desk }
    }

    /// One workload in a loop must not keep the one thread busy.
    fn within_rate(&self, uid: &WorkloadUid) -> Result<(), Status> {
        let spell = self.desk.hub.second() / SPELL_SECONDS;
        let signed = self.desk.hub.note(uid, |proxy| {
            if proxy.signed.0 != spell {
                proxy.signed = (spell, 0);
            }
            proxy.signed.1 = proxy.signed.1.saturating_add(1);
            proxy.signed.1
        });
        if signed > SIGNED {
            return Err(Status::resource_exhausted(format!(
                "workload {uid} had {SIGNED} certificates in {SPELL_SECONDS} s"
            )));
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl Certificates for Signer {
    async fn sign(&self, request: Request<SignRequest>) -> Result<Response<SignResponse>, Status> {
        let signed = self.sign_for(request).await;
        self.desk.hub.count(|counted| match &signed {
            Ok(_) => counted.signed += 1,
            Err(_) => counted.refused += 1,
        });
        signed
    }
}

impl Signer {
    async fn sign_for(
        &self,
        request: Request<SignRequest>,
    ) -> Result<Response<SignResponse>, Status> {
        let caller = self.desk.callers.applicant(&request).await?;
        let workload = caller.admitted(&self.desk.hub).await?;
        let uid = caller.uid;
        self.within_rate(&uid)?;
        let authority = self.desk.keyring.current();
        let authority =
            authority.ok_or_else(|| Status::unavailable("control has no authority yet"))?;
        let identity = workload.identity(authority.trust_domain());
        let csr = request.into_inner().csr;
        let now = self.desk.hub.now();
        let subject = Subject {
            identity: &identity,
            uid: Some(&uid),
        };
        let signed = authority.sign(&csr, subject, self.desk.leaf_lifetime, now);
        let signed = signed.map_err(|error| {
            let reason = with_causes(&error);
            limited!(warn, workload = %uid, %identity, reason, "certificate not signed");
            Status::new(code(&error), reason)
        })?;
        limited!(info, workload = %uid, %identity, until = unix(signed.not_after), "certificate signed");
        self.desk
            .hub
            .note(&uid, |proxy| proxy.certified_until = Some(signed.not_after));
        Ok(Response::new(SignResponse {
            not_before: unix(signed.not_before),
            not_after: unix(signed.not_after),
            chain: signed.chain,
            trust_anchors: authority.trust_anchors(),
        }))
    }
}

fn code(error: &SignError) -> Code {
    match error {
        SignError::Request(_) => Code::InvalidArgument,
        SignError::Issuer | SignError::Random => Code::Unavailable,
        SignError::TrustDomain { .. } | SignError::Lifetime { .. } | SignError::Make(_) => {
            Code::Internal
        }
    }
}

fn unix(time: SystemTime) -> i64 {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(seconds.as_secs()).unwrap_or(i64::MAX)
}
