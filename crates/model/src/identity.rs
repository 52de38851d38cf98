// SPDX-License-Identifier: Apache-2.0
//! Who somebody is: `spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>`.
//!
//! Parsed strictly (SPIFFE-ID standard, sections 2.1 and 2.2): a string that is nearly an identity is not one.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A name that fits a Kubernetes object: RFC 1123 subdomain, 1 to 253 bytes of `a-z0-9-.`, cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

/// Why a string is not a [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No bytes at all.
    #[error("name is empty")]
    Empty,
    /// More than 253 bytes.
    #[error("name has {0} bytes, at most 253 are allowed")]
    TooLong(usize),
    /// A byte outside `a-z0-9-.`, or a label that starts or ends with `-` or is empty.
    #[error(
        "name {0:?} must be lower-case letters, digits, '-' and '.', each label starting and ending with a letter or digit"
    )]
    Malformed(String),
}

/// The SPIFFE trust domain: the authority that signs identities. Same alphabet as a name, plus `_`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

/// A workload's identity.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// Who vouches.
    pub trust_domain: TrustDomain,
    /// The namespace the workload runs in.
    pub namespace: Name,
    /// The service account it runs as.
    pub service_account: Name,
}

/// Why a string is not an [`Identity`] or a [`TrustDomain`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The trust domain has a byte outside `a-z0-9-._`, is empty or longer than 255 bytes.
    #[error("trust domain {0:?} must be 1 to 255 of lower-case letters, digits, '-', '.' and '_'")]
    TrustDomain(String),
    /// Not `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT`.
    #[error("{0:?} is not spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT")]
    Shape(String),
    /// Namespace or service account is not a name.
    #[error("identity names an impossible object")]
    Name(#[from] NameError),
}

// === impl Name ===

impl Name {
    /// The bytes of the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > 253 {
            return Err(NameError::TooLong(text.len()));
        }
        let label_ok = |label: &str| {
            let bytes = label.as_bytes();
            let edge =
                |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
            edge(bytes.first())
                && edge(bytes.last())
                && bytes
                    .iter()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
        };
        if text.split('.').all(label_ok) {
            Ok(Self(text.into()))
        } else {
            Err(NameError::Malformed(text.to_owned()))
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

// === impl TrustDomain ===

impl TrustDomain {
    /// The bytes of the trust domain.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let allowed =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'_');
        if (1..=255).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(IdentityError::TrustDomain(text.to_owned()))
        }
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

// === impl Identity ===

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let shape = || IdentityError::Shape(text.to_owned());
        let rest = text.strip_prefix("spiffe://").ok_or_else(shape)?;
        let mut parts = rest.split('/');
        let (Some(domain), Some("ns"), Some(namespace), Some("sa"), Some(account), None) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) else {
            return Err(shape());
        };
        Ok(Self {
            trust_domain: domain.parse()?,
            namespace: namespace.parse()?,
            service_account: account.parse()?,
        })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "spiffe://{}/ns/{}/sa/{}",
            self.trust_domain, self.namespace, self.service_account
        )
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_round_trips() {
        let text = "spiffe://cluster.local/ns/shop/sa/web";
        assert_eq!(text.parse::<Identity>().unwrap().to_string(), text);
    }

    #[test]
    fn near_identities_are_refused() {
        for text in [
            "",
            "spiffe://",
            "spiffe://cluster.local",
            "spiffe://cluster.local/ns/shop/sa/web/",
            "spiffe://cluster.local/ns/shop/sa/",
            "spiffe://cluster.local/ns//sa/web",
            "spiffe:///ns/shop/sa/web",
            "spiffe://Cluster.local/ns/shop/sa/web",
            "spiffe://cluster.local:80/ns/shop/sa/web",
            "spiffe://u@cluster.local/ns/shop/sa/web",
            "spiffe://cluster.local/sa/web/ns/shop",
            "spiffe://cluster.local/ns/shop/sa/web?x=1",
            "spiffe://cluster.local/ns/shop/sa/we%62",
            "https://cluster.local/ns/shop/sa/web",
            " spiffe://cluster.local/ns/shop/sa/web",
        ] {
            assert!(
                text.parse::<Identity>().is_err(),
                "{text:?} was taken for an identity"
            );
        }
    }

    #[test]
    fn names_follow_rfc_1123() {
        for good in ["a", "a-b", "a.b", "0", &"a".repeat(253)] {
            assert!(good.parse::<Name>().is_ok(), "{good:?}");
        }
        for bad in [
            "",
            "A",
            "-a",
            "a-",
            "a..b",
            ".a",
            "a_b",
            "a/b",
            "ä",
            &"a".repeat(254),
        ] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }
}
