// SPDX-License-Identifier: Apache-2.0
//! Control itself at the other end, over TLS: how a pod in the inboard mode reaches it, and a node agent.
//!
//! The first certificate is asked for with the pod's token, everything else by that certificate. Files are read anew for each
//! use: the kubelet replaces them. Must never send the token to anybody who has not proved to be control.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use maille_chassis::grpc;
use maille_identity::current::Current;
use maille_identity::tls::{Connector, Stream, TlsError};
use maille_identity::{AnchorsError, Credentials, trust};
use maille_model::Identity;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;

/// How long control may take to answer a connection and its handshake, and how long the own first certificate is waited for.
const DIAL: Duration = Duration::from_secs(5);
/// Tokens have about a thousand bytes, anchors a few thousand.
const LONGEST: u64 = 64 * 1024;

/// The own certificate, whenever it changes.
type Own = watch::Receiver<Option<Credentials>>;

/// Where control is, whom its certificate must be for, and the files by which both sides believe each other at first.
#[derive(Clone, Debug)]
pub struct Direct {
    /// An address, no name: the cluster's DNS may be behind this very proxy.
    pub address: SocketAddr,
    /// Whom control's certificate is for.
    pub identity: Identity,
    /// The mesh's anchors, in PEM, for as long as there is no certificate.
    pub trust: PathBuf,
    /// The pod's token for control.
    pub token: PathBuf,
}

/// Why control is not reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nothing to prove oneself with.
    #[error("there is no valid certificate of our own yet")]
    NoCertificate,
    /// Nobody answers there.
    #[error("control at {address} cannot be reached")]
    Unreachable {
        /// Where it should be.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// No answer in five seconds.
    #[error("control at {address} does not answer")]
    Late {
        /// Where it should be.
        address: SocketAddr,
    },
    /// Somebody answers, and one of both does not believe the other.
    #[error("no TLS with control at {address}")]
    Tls {
        /// Where it should be.
        address: SocketAddr,
        /// Why.
        #[source]
        source: Box<TlsError>,
    },
    /// The file of the anchors.
    #[error("trust anchors in {}", .path.display())]
    Trust {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: FileError,
    },
}

/// Why a mounted file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("the file cannot be read: is the volume mounted?")]
    Read(#[from] io::Error),
    /// Much more than belongs there.
    #[error("the file has more than {LONGEST} bytes")]
    TooLong,
    /// It holds no certificates.
    #[error("the file is unusable")]
    Anchors(#[from] AnchorsError),
    /// It holds no token.
    #[error("the file holds no token: it must be one line of visible ASCII")]
    Token,
}

/// Why the pod's token cannot be sent.
#[derive(Debug, thiserror::Error)]
#[error("token in {}", .path.display())]
pub struct TokenError {
    path: PathBuf,
    #[source]
    source: FileError,
}

// === impl Direct ===

impl Direct {
    /// A channel on which the own certificate says who asks. Before the first it waits; with each further one it dials anew, for
    /// control believes a connection no longer than the certificate by which it was opened.
    pub fn channel(&self, credentials: Own) -> Channel {
        let direct = self.clone();
        grpc::channel_over(move || {
            let (direct, mut credentials) = (direct.clone(), credentials.clone());
            async move {
                let own = valid(&mut credentials).await.map_err(wire)?;
                let connector = Connector::proved(&own, &direct.identity);
                let stream = direct.dial(&connector).await.map_err(wire)?;
                Ok(Current::new(stream, &own, credentials))
            }
        })
    }

    /// A channel for who has no certificate. It is dialled once.
    pub fn first(&self) -> Channel {
        let direct = self.clone();
        grpc::channel_over(move || {
            let direct = direct.clone();
            async move {
                let connector = direct.unproved().map_err(wire)?;
                direct.dial(&connector).await.map_err(wire)
            }
        })
    }

    /// The token as a call carries it.
    pub fn bearer(&self) -> Result<MetadataValue<Ascii>, TokenError> {
        let token = || {
            let text = read(&self.token)?;
            let token = text.trim();
            if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(FileError::Token);
            }
            let mut value: MetadataValue<Ascii> = format!("Bearer {token}")
                .parse()
                .map_err(|_| FileError::Token)?;
            value.set_sensitive(true);
            Ok(value)
        };
        token().map_err(|source| TokenError {
            path: self.token.clone(),
            source,
        })
    }

    fn unproved(&self) -> Result<Connector, DialError> {
        let failed = |source| DialError::Trust {
            path: self.trust.clone(),
            source,
        };
        let text = read(&self.trust).map_err(failed)?;
        let anchors = trust::of_pem(&text).map_err(|error| failed(error.into()))?;
        Connector::unproved(&anchors, &self.identity).map_err(|error| match error {
            TlsError::Anchors(error) => failed(error.into()),
            other => DialError::Tls {
                address: self.address,
                source: Box::new(other),
            },
        })
    }

    async fn dial(&self, connector: &Connector) -> Result<Stream<TcpStream>, DialError> {
        let address = self.address;
        let dial = async {
            let unreachable = |source| DialError::Unreachable { address, source };
            let stream = TcpStream::connect(address).await.map_err(unreachable)?;
            stream.set_nodelay(true).map_err(unreachable)?;
            maille_sys::socket::set_keep_alive(&stream).map_err(unreachable)?;
            let tls = connector.connect(stream).await;
            tls.map_err(|error| DialError::Tls {
                address,
                source: Box::new(error),
            })
        };
        timeout(DIAL, dial)
            .await
            .unwrap_or(Err(DialError::Late { address }))
    }
}

impl fmt::Display for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} as {}", self.address, self.identity)
    }
}

/// The own certificate, once there is one that is valid still.
async fn valid(credentials: &mut Own) -> Result<Credentials, DialError> {
    let found = credentials.wait_for(|own| own.as_ref().is_some_and(is_valid));
    match timeout(DIAL, found).await {
        Ok(Ok(own)) => own.clone().ok_or(DialError::NoCertificate),
        // Not in time, or never more.
        Ok(Err(_)) | Err(_) => Err(DialError::NoCertificate),
    }
}

/// Whether control would still believe it.
pub fn is_valid(own: &Credentials) -> bool {
    own.not_after() > SystemTime::now()
}

/// A small file, which lies in memory.
fn read(path: &Path) -> Result<String, FileError> {
    let mut text = String::new();
    let mut file = File::open(path)?.take(LONGEST + 1);
    if file.read_to_string(&mut text)? as u64 > LONGEST {
        return Err(FileError::TooLong);
    }
    Ok(text)
}

/// An error as a failed call tells it: in one line, for only its text arrives.
fn wire(error: DialError) -> io::Error {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    io::Error::other(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direct(dir: &Path) -> Direct {
        Direct {
            address: "192.0.2.1:15010".parse().unwrap(),
            identity: "spiffe://cluster.local/ns/maille-system/sa/maille-control"
                .parse()
                .unwrap(),
            trust: dir.join("ca.crt"),
            token: dir.join("token"),
        }
    }

    #[test]
    fn a_token_is_read_for_each_use_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let direct = direct(dir.path());
        let said = direct.bearer().unwrap_err();
        assert!(matches!(said.source, FileError::Read(_)), "{said}");
        for token in ["one", "two\n"] {
            std::fs::write(&direct.token, token).unwrap();
            let bearer = direct.bearer().unwrap();
            assert_eq!(bearer, format!("Bearer {}", token.trim()).as_str());
            assert!(!format!("{bearer:?}").contains(token.trim()));
        }
        for token in ["", "\n", "two words", "\u{e9}"] {
            std::fs::write(&direct.token, token).unwrap();
            assert!(matches!(
                direct.bearer().unwrap_err().source,
                FileError::Token
            ));
        }
        std::fs::write(&direct.token, vec![b'x'; 70_000]).unwrap();
        assert!(matches!(
            direct.bearer().unwrap_err().source,
            FileError::TooLong
        ));
    }

    #[test]
    fn anchors_that_are_not_there_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let direct = direct(dir.path());
        for text in [
            None,
            Some(""),
            Some("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"),
        ] {
            if let Some(text) = text {
                std::fs::write(&direct.trust, text).unwrap();
            }
            let said = wire(direct.unproved().unwrap_err()).to_string();
            assert!(said.contains("ca.crt: "), "{said}");
        }
    }
}
