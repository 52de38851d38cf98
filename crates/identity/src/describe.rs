// SPDX-License-Identifier: Apache-2.0
//! What a certificate says, for people who look at it. Decides nothing: whether it is believed is `verifier.rs`'s. Read `peer.rs` next.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use pem::{EncodeConfig, LineEnding, Pem};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// What stands in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The first URI that it names, else its subject.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// Its number, in hexadecimal.
    pub serial: String,
    /// When it begins, in seconds since the Unix epoch.
    pub not_before: i64,
    /// When it ends.
    pub not_after: i64,
}

/// Reads one. `None` where it is none.
pub fn certificate(der: &[u8]) -> Option<Description> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    let names = parsed.extensions().iter();
    let uri = names
        .filter_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => Some(names),
            _ => None,
        })
        .flat_map(|names| names.general_names.iter())
        .find_map(|name| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        });
    let validity = parsed.validity();
    Some(Description {
        subject: uri.unwrap_or_else(|| parsed.subject().to_string()),
        issuer: parsed.issuer().to_string(),
        serial: hex(parsed.raw_serial()),
        not_before: validity.not_before.timestamp(),
        not_after: validity.not_after.timestamp(),
    })
}

/// SHA-256 of it, in hexadecimal.
pub fn sha256(der: &[u8]) -> String {
    hex(digest(&SHA256, der).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The certificate as text (RFC 7468, section 5).
pub fn pem(der: &[u8]) -> String {
    let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
    pem::encode_config(&Pem::new("CERTIFICATE", der), config)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::ca::Authority;

    #[test]
    fn a_certificate_says_what_it_is() {
        let authority =
            Authority::create(&"cluster.local".parse().unwrap(), SystemTime::now()).unwrap();
        let anchor = authority.trust_anchors().remove(0);
        let said = certificate(&anchor).unwrap();
        assert!(said.not_after > said.not_before && !said.serial.is_empty());
        assert_eq!(certificate(b"no certificate"), None);
        assert_eq!(sha256(b"").len(), 64);
        let text = pem(&anchor);
        assert!(text.starts_with("-----BEGIN CERTIFICATE-----\n") && !text.contains('\r'));
    }
}
