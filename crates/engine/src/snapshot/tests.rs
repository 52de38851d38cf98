// SPDX-License-Identifier: Apache-2.0
//! A snapshot is a function of the last word on each name: shown by applying words in any order.

use std::net::IpAddr;

use maille_model::{AddressOwner, ServiceId};
use proptest::prelude::*;

use super::*;
use crate::testing::{endpoint, mesh, own, service, workload};

/// One word of control.
#[derive(Clone, Debug)]
enum Word {
    Mesh,
    Own,
    Address(u8, Known<u8>),
    Service(u8, Known<u8>),
    Endpoints(u8, Known<u8>),
}

impl Word {
    fn key(&self) -> Key {
        match self {
            Self::Mesh => Key::Mesh,
            Self::Own => Key::Own,
            Self::Address(n, _) => Key::Address(address(*n)),
            Self::Service(n, _) => Key::Service(id(*n)),
            Self::Endpoints(n, _) => Key::Endpoints(id(*n)),
        }
    }

    fn apply(&self, to: &mut Snapshot) {
        match self.clone() {
            Self::Mesh => to.set_mesh(mesh()),
            Self::Own => to.set_own(own()),
            Self::Address(n, said) => {
                to.set_address(
                    address(n),
                    said.map(|n| AddressOwner::Workload(workload(n))),
                );
            }
            Self::Service(n, said) => to.set_service(id(n), said.map(service)),
            Self::Endpoints(n, said) => {
                to.set_endpoints(id(n), said.map(|n| Endpoints(vec![endpoint(n, true)])));
            }
        }
    }
}

fn address(n: u8) -> IpAddr {
    IpAddr::from([10, 244, 0, n])
}

fn id(n: u8) -> ServiceId {
    service(n).id
}

fn words() -> impl Strategy<Value = Vec<Word>> {
    let said = || {
        prop_oneof![
            Just(Known::Unknown),
            Just(Known::Absent),
            (0u8..4).prop_map(Known::Present)
        ]
    };
    let word = prop_oneof![
        Just(Word::Mesh),
        Just(Word::Own),
        (0u8..4, said()).prop_map(|(n, said)| Word::Address(n, said)),
        (0u8..4, said()).prop_map(|(n, said)| Word::Service(n, said)),
        (0u8..4, said()).prop_map(|(n, said)| Word::Endpoints(n, said)),
    ];
    proptest::collection::vec(word, 0..40)
}

proptest! {
    #[test]
    fn the_last_word_on_each_name_is_all_that_counts((words, order) in words().prop_flat_map(|words| {
        let order = Just((0..words.len()).collect::<Vec<_>>()).prop_shuffle();
        (Just(words), order)
    })) {
        let mut straight = Snapshot::new();
        words.iter().for_each(|word| word.apply(&mut straight));
        // Names in another order, the words on one name in theirs.
        let mut shuffled = Snapshot::new();
        for first in order {
            let key = words[first].key();
            for word in words.iter().filter(|word| word.key() == key) {
                word.apply(&mut shuffled);
            }
        }
        prop_assert_eq!(straight, shuffled);
    }
}

#[test]
fn unknown_absent_and_present_are_three_things() {
    let mut snapshot = Snapshot::new();
    assert_eq!(snapshot.address(address(1)), Known::Unknown);
    snapshot.set_address(address(1), Known::Absent);
    assert_eq!(snapshot.address(address(1)), Known::Absent);
    snapshot.set_address(address(1), Known::Present(AddressOwner::Service(id(1))));
    let said = snapshot.address(address(1)).present().map(|owner| &**owner);
    assert_eq!(said, Some(&AddressOwner::Service(id(1))));
    snapshot.forget(&Key::Address(address(1)));
    assert_eq!(snapshot.address(address(1)), Known::Unknown);
    assert_eq!(snapshot, Snapshot::new());
}

#[test]
fn what_is_in_force_is_never_forgotten_for_mesh_and_own() {
    let mut snapshot = Snapshot::new();
    snapshot.set_mesh(mesh());
    snapshot.set_own(own());
    snapshot.forget(&Key::Mesh);
    snapshot.forget(&Key::Own);
    assert!(snapshot.is_complete());
}

#[test]
fn groups_hold_the_ready_by_port() {
    let mut snapshot = Snapshot::new();
    let mut two = endpoint(2, true);
    two.targets = vec![(80, 8080), (443, 8443)];
    let all = vec![endpoint(1, true), two, endpoint(3, false)];
    snapshot.set_endpoints(id(1), Known::Present(Endpoints(all)));
    let group = snapshot.endpoints(&id(1)).present().unwrap();
    let found = |port| -> Vec<_> {
        group
            .candidates(port)
            .iter()
            .map(|c| (c.uid().to_string(), c.port()))
            .collect()
    };
    assert_eq!(
        found(80),
        [("uid-1".to_owned(), 8080), ("uid-2".to_owned(), 8080)]
    );
    assert_eq!(found(443), [("uid-2".to_owned(), 8443)]);
    assert_eq!(found(81), []);
}

#[test]
fn marks_of_use_are_shared_by_clones_and_taken_once() {
    let mut snapshot = Snapshot::new();
    snapshot.set_address(address(1), Known::Absent);
    let key = Key::Address(address(1));
    let published = snapshot.clone();
    assert!(!snapshot.take_used(&key));
    assert_eq!(published.addresses().count(), 1);
    assert!(!snapshot.take_used(&key), "looking at everything is no use");
    assert_eq!(published.address(address(1)), Known::Absent);
    // A later word on the same name keeps the mark.
    snapshot.set_address(address(1), Known::Present(AddressOwner::Service(id(1))));
    assert!(snapshot.take_used(&key));
    assert!(!snapshot.take_used(&key));
    assert!(snapshot.take_used(&Key::Mesh), "always needed");
}
