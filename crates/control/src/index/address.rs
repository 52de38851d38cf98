// SPDX-License-Identifier: Apache-2.0
//! Who claims which address. Pure. Who wins is decided by the reader ([`super::Index::owner_of`]), from the facts of
//! the claimants, so that nothing about them is kept twice.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use maille_model::{ServiceId, WorkloadUid};

/// Somebody who says that an address is theirs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claimant {
    /// A Service's cluster address.
    Service(ServiceId),
    /// A pod's own.
    Pod(WorkloadUid),
}

/// Every claim.
#[derive(Debug, Default)]
pub struct Claims(HashMap<IpAddr, BTreeSet<Claimant>>);

// === impl Claims ===

impl Claims {
    /// Notes that `claimant` has exactly `after`, and no longer the rest of `before`.
    pub fn replace(&mut self, claimant: &Claimant, before: &[IpAddr], after: &[IpAddr]) {
        for address in before {
            if let Some(claimants) = self.0.get_mut(address) {
                claimants.remove(claimant);
                if claimants.is_empty() {
                    self.0.remove(address);
                }
            }
        }
        for address in after {
            self.0.entry(*address).or_default().insert(claimant.clone());
        }
    }

    /// Everybody who claims `address`, in a fixed order.
    pub fn of(&self, address: IpAddr) -> impl Iterator<Item = &Claimant> {
        self.0.get(&address).into_iter().flatten()
    }

    /// Addresses that more than one claims.
    pub fn disputed(&self) -> impl Iterator<Item = (IpAddr, &BTreeSet<Claimant>)> {
        self.0
            .iter()
            .filter(|(_, claimants)| claimants.len() > 1)
            .map(|(address, claimants)| (*address, claimants))
    }
}
