// SPDX-License-Identifier: Apache-2.0
//! Certificates and the TLS sessions that rest on them. The only user of rustls; nobody else sees its types.
//!
//! It opens no connection: sessions are values that take and give bytes, and [`tls`] and [`anyone`] work on a stream that somebody
//! else opened. Time is an argument, or a [`clock::WallClock`] where rustls asks for it in the middle of a handshake. Read [`ca`]
//! for how an identity is signed, [`credentials`] for what a proxy holds, [`session`] for how two proxies prove themselves to
//! each other (`docs/wire.md`, section 1), [`tls`] for how a proxy reaches control without a node agent.
#![forbid(unsafe_code)]

/// TLS to whoever answers, for probes.
pub mod anyone;
/// The certificate authority: root and issuer.
pub mod ca;
/// The time that certificates are judged by.
pub mod clock;
/// What a proxy proves itself with, and whom it believes.
pub mod credentials;
/// A connection that lasts as long as the certificate by which it was opened is in force.
pub mod current;
/// What a certificate says.
pub mod describe;
/// TLS with an API server.
pub mod front;
/// For fuzz targets.
#[cfg(fuzzing)]
pub mod fuzzing {
    use maille_model::Identity;

    /// The identity that a certificate names.
    pub fn identity_of(der: &[u8]) -> Result<Identity, crate::PeerError> {
        crate::peer::identity_of(&der.into())
    }
}
/// Private keys and signing requests.
pub mod key;
/// What the other side's certificate must say.
pub mod peer;
/// When to renew.
pub mod rotation;
/// One TLS session as a value.
pub mod session;
/// A connection whose handshake is over.
pub mod stream;
/// TLS between a proxy and control.
pub mod tls;
/// Whom we believe.
pub mod trust;
mod verifier;

pub use ca::{Authority, AuthorityError, Kept, KeptError, Serving, SignError, Signed, Subject};
pub use clock::WallClock;
pub use credentials::{Credentials, CredentialsError};
pub use front::{Front, FrontError};
pub use key::{KeyError, PrivateKey};
pub use peer::PeerError;
pub use session::{Progress, Session, SessionError};
pub use trust::{Anchors, AnchorsError};

#[cfg(test)]
mod testing;
