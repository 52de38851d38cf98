// SPDX-License-Identifier: Apache-2.0
//! Who signs the own certificate, and how it is asked: the node agent, which knows who asks; or control itself, by the
//! certificate in force, and with the pod's token where that does not do.
//!
//! Must never make anything of an answer: `identity_feed.rs` judges it. Next: `maille_reach::direct`.

use std::time::Duration;

use maille_identity::Credentials;
use maille_wire::v1::certificates_client::CertificatesClient;
use maille_wire::v1::{SignRequest, SignResponse};
use tokio::time::timeout;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use crate::control::Caller;
use crate::control::direct::{Direct, TokenError, is_valid};

/// How long control may take to sign.
const SIGN: Duration = Duration::from_secs(10);

/// Who signs.
#[derive(Clone, Debug)]
pub struct Signer(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Agent(CertificatesClient<InterceptedService<Channel, Caller>>),
    Direct {
        direct: Direct,
        /// On which the certificate in force says who asks.
        proved: CertificatesClient<Channel>,
    },
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// No answer.
    #[error("control did not sign in time")]
    Late,
    /// An answer, or none because there is no way to control.
    #[error("control did not sign: {code:?}, {message:?}")]
    Refused {
        /// What kind of refusal.
        code: Code,
        /// In control's words, or those of who dialled it.
        message: String,
    },
    /// Nothing to ask with.
    #[error("the pod's token cannot be sent")]
    Token(#[from] TokenError),
}

// === impl Signer ===

impl Signer {
    /// The node agent behind `channel`.
    pub fn agent(channel: Channel, caller: Caller) -> Self {
        Self(Kind::Agent(CertificatesClient::with_interceptor(
            channel, caller,
        )))
    }

    /// Control itself; `proved` is [`Direct::channel`].
    pub fn direct(direct: Direct, proved: Channel) -> Self {
        let proved = CertificatesClient::new(proved);
        Self(Kind::Direct { direct, proved })
    }

    /// Asks for a certificate for the key of `csr`; `held` is the one in force.
    pub(super) async fn sign(
        &self,
        csr: Vec<u8>,
        held: Option<&Credentials>,
    ) -> Result<SignResponse, SignerError> {
        let (direct, mut proved) = match self.0.clone() {
            Kind::Agent(mut client) => {
                return answer(client.sign(Request::new(SignRequest { csr }))).await;
            }
            Kind::Direct { direct, proved } => (direct, proved),
        };
        if held.is_some_and(is_valid) {
            let request = Request::new(SignRequest { csr: csr.clone() });
            match answer(proved.sign(request)).await {
                Ok(signed) => return Ok(signed),
                // A token says the same of the same pod, and helps where the mesh's anchors are others by now.
                Err(error) => maille_chassis::limited!(
                    warn,
                    error = &error as &dyn std::error::Error,
                    "no renewal by the certificate: asking with the token"
                ),
            }
        }
        let mut request = Request::new(SignRequest { csr });
        let metadata = request.metadata_mut();
        metadata.insert("authorization", direct.bearer()?);
        let mut first = CertificatesClient::new(direct.first());
        answer(first.sign(request)).await
    }
}

async fn answer(
    call: impl Future<Output = Result<Response<SignResponse>, Status>>,
) -> Result<SignResponse, SignerError> {
    let answered = timeout(SIGN, call).await.map_err(|_| SignerError::Late)?;
    let answered = answered.map_err(|status| SignerError::Refused {
        code: status.code(),
        message: status.message().chars().take(400).collect(),
    })?;
    Ok(answered.into_inner())
}
