// SPDX-License-Identifier: Apache-2.0
//! Why a session failed: what an operator wants to tell apart, and nothing finer.

use rustls::{AlertDescription, Error, InvalidMessage, PeerIncompatible};

use crate::peer::PeerError;

/// Why a session failed, or why nothing can be done with it any more.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SessionError {
    /// Its certificate proves nothing to us.
    #[error("the peer's certificate was refused")]
    Certificate(#[from] PeerError),
    /// It sent no certificate.
    #[error("the peer sent no certificate")]
    NoCertificate,
    /// It does not speak TLS 1.3.
    #[error("the peer does not speak TLS 1.3")]
    OldVersion,
    /// It does not speak `maille/1`.
    #[error("the peer does not speak maille/1")]
    NoCommonProtocol,
    /// Its bytes are not TLS at all: plain text, say. They are not answered.
    #[error("the peer's bytes are not TLS")]
    NotTls,
    /// No key exchange, cipher suite or signature scheme in common.
    #[error("the peer has no algorithm in common with us")]
    Incompatible(#[source] Error),
    /// Its bytes break the protocol, or were changed under way.
    #[error("the peer's bytes break the TLS protocol")]
    Malformed(#[source] Error),
    /// An incomplete record or message above the bound.
    #[error("the peer's TLS message is too long")]
    TooLong,
    /// It refused us by an alert; the reason is in its log.
    #[error("the peer refused us with the TLS alert {0:?}")]
    Refused(AlertDescription),
    /// Sealing before the session is established.
    #[error("the session is not established yet")]
    NotEstablished,
    /// The session ended or failed before.
    #[error("the session is over")]
    Over,
    /// Not the peer's doing.
    #[error("TLS failed on our side")]
    Own(#[source] Error),
}

// === impl SessionError ===

impl SessionError {
    /// A stable label for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Certificate(error) => error.reason(),
            Self::NoCertificate => "no-certificate",
            Self::OldVersion => "old-tls-version",
            Self::NoCommonProtocol => "no-common-protocol",
            Self::NotTls => "not-tls",
            Self::Incompatible(_) => "no-common-algorithm",
            Self::Malformed(_) => "tls-malformed",
            Self::TooLong => "tls-too-long",
            Self::Refused(_) => "refused-by-peer",
            Self::NotEstablished => "not-established",
            Self::Over => "session-over",
            Self::Own(_) => "tls-own-failure",
        }
    }

    /// What rustls found, in our words.
    pub(crate) fn of(error: Error) -> Self {
        match error {
            Error::InvalidCertificate(refusal) => match PeerError::from_rustls(&refusal) {
                Some(refusal) => Self::Certificate(refusal),
                None => Self::Malformed(Error::InvalidCertificate(refusal)),
            },
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::NoApplicationProtocol => Self::NoCommonProtocol,
            Error::AlertReceived(alert) => Self::Refused(alert),
            Error::PeerIncompatible(why) => Self::incompatible(why),
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::NotTls,
            Error::InvalidMessage(_)
            | Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. }
            | Error::DecryptError
            | Error::PeerMisbehaved(_)
            | Error::PeerSentOversizedRecord => Self::Malformed(error),
            _ => Self::Own(error),
        }
    }

    fn incompatible(why: PeerIncompatible) -> Self {
        match why {
            PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled => Self::OldVersion,
            why => Self::Incompatible(Error::PeerIncompatible(why)),
        }
    }
}
