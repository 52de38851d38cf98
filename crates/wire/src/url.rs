// SPDX-License-Identifier: Apache-2.0
//! Kinds of resources and their type URLs, as they stand in discovery messages.

/// The kinds of resources of `proto/maille/v1/resources.proto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Trust domain, anchors, cluster ranges.
    Mesh,
    /// What the asking proxy serves.
    Own,
    /// Whose an address is.
    Address,
    /// A service's addresses and ports.
    Service,
    /// The workloads behind a service.
    Endpoints,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::Mesh,
        Self::Own,
        Self::Address,
        Self::Service,
        Self::Endpoints,
    ];

    /// The type URL of the kind's message.
    pub const fn type_url(self) -> &'static str {
        match self {
            Self::Mesh => "type.googleapis.com/maille.v1.Mesh",
            Self::Own => "type.googleapis.com/maille.v1.Own",
            Self::Address => "type.googleapis.com/maille.v1.Address",
            Self::Service => "type.googleapis.com/maille.v1.Service",
            Self::Endpoints => "type.googleapis.com/maille.v1.Endpoints",
        }
    }

    /// The kind that a type URL names. `None` for any other text.
    pub fn of_type_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_kinds() {
        for kind in Kind::ALL {
            assert_eq!(Kind::of_type_url(kind.type_url()), Some(kind));
            assert_eq!(
                kind.type_url(),
                format!("type.googleapis.com/maille.v1.{kind:?}")
            );
        }
        assert_eq!(
            Kind::of_type_url("type.googleapis.com/maille.v1.Mesh2"),
            None
        );
        assert_eq!(Kind::of_type_url(""), None);
    }
}
