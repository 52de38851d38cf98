// SPDX-License-Identifier: Apache-2.0
//! TLS to whoever answers, as a kubelet's probe speaks it: an application's certificate is its own affair, and nobody is believed.
//!
//! Must never carry anything that is secret, and never be used between proxies: [`crate::session`] is for those.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Opens TLS (1.2 or 1.3, no ALPN) over `stream`, whatever certificate the server at `address` shows. Like a URL with an address
/// it names no server (SNI).
pub async fn dial<S>(stream: S, address: IpAddr) -> io::Result<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    let name = ServerName::IpAddress(address.into());
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

/// Takes every certificate; a proof that it is the server's own would prove nothing to somebody who believes any.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _above: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rustls::ServerConfig;
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use rustls::version::{TLS12, TLS13};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// A certificate that nobody signed, for somebody else, of both versions.
    #[tokio::test]
    async fn anybody_is_taken() {
        for version in [&TLS12, &TLS13] {
            let made =
                rcgen::generate_simple_self_signed(["elsewhere.example".to_owned()]).unwrap();
            let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
            let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
                .with_protocol_versions(&[version])
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![made.cert.der().clone()], key.into())
                .unwrap();
            let (near, far) = tokio::io::duplex(1 << 16);
            let server = async move {
                let mut stream = TlsAcceptor::from(Arc::new(config))
                    .accept(far)
                    .await
                    .unwrap();
                assert!(stream.get_ref().1.server_name().is_none());
                stream.write_all(b"hello").await.unwrap();
                stream.shutdown().await.unwrap();
            };
            let client = async move {
                let mut stream = dial(near, IpAddr::from([10, 0, 0, 1])).await.unwrap();
                let mut text = String::new();
                stream.read_to_string(&mut text).await.unwrap();
                text
            };
            let ((), text) = tokio::join!(server, client);
            assert_eq!(text, "hello");
        }
    }

    #[tokio::test]
    async fn what_is_no_tls_is_an_error() {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        far.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        assert!(dial(near, IpAddr::from([10, 0, 0, 1])).await.is_err());
    }
}
