// SPDX-License-Identifier: Apache-2.0
//! The rules into force, in the network namespace of whoever calls: the same for an init container of the pod and for its node's agent.
//!
//! Must never tell that a pod is captured which is not. Read `../inboard.rs` for the rules.

use std::str::FromStr;

use maille_sys::nft::{self, NftError};
use maille_sys::xtables::{self, XtablesError};

use super::{Closed, Inboard};

/// Why the rules are not in force. Nothing of them is then.
#[derive(Debug, thiserror::Error)]
pub enum InsideError {
    /// nft, or the kernel, and nothing else was to be tried.
    #[error(
        "this pod cannot be captured by nftables: that takes CAP_NET_ADMIN in its network, and in its kernel nf_tables with NAT"
    )]
    Nftables(#[source] NftError),
    /// The kernel has neither, or does not let us.
    #[error(
        "this pod cannot be captured from inside: that takes CAP_NET_ADMIN in its network, and in its kernel nf_tables or ip_tables with NAT \
         (sandboxes without them are captured with maille.io/capture: outboard); nftables: {nftables}; legacy"
    )]
    Neither {
        /// What nftables said.
        nftables: NftError,
        /// What the legacy tables said.
        #[source]
        legacy: XtablesError,
    },
    /// The legacy tables, and nothing else was to be tried.
    #[error("this pod cannot be captured by the kernel's legacy packet filter")]
    Legacy(#[source] XtablesError),
}

/// What redirects connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// nftables, and who answers for closed ports.
    Nftables(Closed),
    /// The legacy packet filter.
    Legacy,
}

/// What may be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kinds {
    /// nftables, and legacy tables where the kernel has none.
    Auto,
    /// nftables alone.
    Nftables,
    /// Legacy tables alone.
    Legacy,
}

// === impl Inboard ===

impl Inboard {
    /// Brings the rules into force in the network namespace that the caller is in, and tells by what.
    pub fn apply_here(&self, kinds: Kinds) -> Result<By, InsideError> {
        match kinds {
            Kinds::Nftables => self.nftables().map_err(InsideError::Nftables),
            Kinds::Legacy => self.xtables().map_err(InsideError::Legacy),
            Kinds::Auto => self.nftables().or_else(|nftables| {
                let legacy = self.xtables();
                legacy.map_err(|legacy| InsideError::Neither { nftables, legacy })
            }),
        }
    }

    /// Kernels before 4.18, and small ones, lack what [`Closed::Kernel`] needs. The first error is told: it is of the richer rules, but
    /// where both fail it is for the same reason.
    fn nftables(&self) -> Result<By, NftError> {
        let apply = |closed| nft::apply_here(&self.render(closed)).map(|()| By::Nftables(closed));
        apply(Closed::Kernel).or_else(|error| match error {
            NftError::Refused(_) => apply(Closed::Proxy).map_err(|_| error),
            // It would not do, or be done with, others.
            NftError::Run(_) | NftError::Late(_) => Err(error),
        })
    }

    fn xtables(&self) -> Result<By, XtablesError> {
        xtables::apply_here(&self.legacy()).map(|()| By::Legacy)
    }
}

impl FromStr for Kinds {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "nftables" => Ok(Self::Nftables),
            "legacy" => Ok(Self::Legacy),
            _ => Err("one of auto, nftables and legacy"),
        }
    }
}

impl std::fmt::Display for By {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nftables(Closed::Kernel) => "nftables",
            Self::Nftables(Closed::Proxy) => {
                "nftables, without its `socket`: the proxy takes connections to closed ports too, so that TCP probes always succeed"
            }
            Self::Legacy => {
                "the legacy packet filter: the proxy takes connections to closed ports too, so that TCP probes always succeed"
            }
        })
    }
}
