// SPDX-License-Identifier: Apache-2.0
//! Certificates and the TLS sessions that rest on them. The only user of rustls; nobody else sees its types.
//!
//! It does no network I/O: sessions are values that take and give bytes. Time is an argument, or a [`clock::WallClock`]
//! where rustls asks for it in the middle of a handshake. Read [`ca`] for how an identity is signed, [`credentials`] for
//! what a proxy holds, [`session`] for how two proxies prove themselves to each other (`docs/wire.md`, section 1).
#![forbid(unsafe_code)]

/// The certificate authority: root and issuer.
pub mod ca;
/// The time that certificates are judged by.
pub mod clock;
/// What a proxy proves itself with, and whom it believes.
pub mod credentials;
/// What a certificate says.
pub mod describe;
/// Private keys and signing requests.
pub mod key;
/// What the other side's certificate must say.
pub mod peer;
/// When to renew.
pub mod rotation;
/// One TLS session as a value.
pub mod session;
/// Whom we believe.
pub mod trust;
mod verifier;

pub use ca::{Authority, AuthorityError, SignError, Signed};
pub use clock::WallClock;
pub use credentials::{Credentials, CredentialsError};
pub use key::{KeyError, PrivateKey};
pub use peer::PeerError;
pub use session::{Progress, Session, SessionError};
pub use trust::{Anchors, AnchorsError};

#[cfg(test)]
mod testing;
