// SPDX-License-Identifier: Apache-2.0
//! What is said to control and what becomes of its answers, without I/O.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::discovery::samples::{
    address_of_pod, address_of_service, answer, cluster_ip, endpoints, mesh, own, pod, service,
    service_id, uid, workload,
};

const NOW: Duration = Duration::from_secs(1_000);

fn connected() -> Book {
    let mut book = Book::new(uid(1));
    book.connected();
    drop(said(&mut book));
    book
}

/// Everything that the book says now.
fn said(book: &mut Book) -> Vec<DeltaDiscoveryRequest> {
    std::iter::from_fn(|| book.next_request()).collect()
}

fn short(request: &DeltaDiscoveryRequest) -> (Kind, Vec<&str>, Vec<&str>) {
    (
        Kind::of_type_url(&request.type_url).unwrap(),
        request
            .resource_names_subscribe
            .iter()
            .map(String::as_str)
            .collect(),
        request
            .resource_names_unsubscribe
            .iter()
            .map(String::as_str)
            .collect(),
    )
}

/// Gives an answer and returns what is said back.
fn give(book: &mut Book, answer: &DeltaDiscoveryResponse) -> Vec<DeltaDiscoveryRequest> {
    book.answer(answer, NOW).unwrap();
    said(book)
}

fn ask(book: &mut Book, address: IpAddr) {
    book.ask(Key::Address(address), NOW);
    assert_eq!(said(book).len(), 1);
}

#[test]
fn the_mesh_and_the_own_workload_are_asked_for_at_once() {
    let mut book = Book::new(uid(1));
    assert!(!book.has_requests(), "nothing is said without a stream");
    book.connected();
    let said = said(&mut book);
    assert_eq!(
        said.iter().map(short).collect::<Vec<_>>(),
        [
            (Kind::Mesh, vec!["mesh"], vec![]),
            (Kind::Own, vec!["uid-1"], vec![]),
        ]
    );
    assert_eq!(said[0].node.as_ref().unwrap().id, "uid-1");
    assert!(said[0].response_nonce.is_empty() && said[0].initial_resource_versions.is_empty());
}

#[test]
fn an_answer_is_taken_and_acknowledged() {
    let mut book = connected();
    let said = give(
        &mut book,
        &answer("7", Kind::Mesh, &[("mesh", mesh())], &[]),
    );
    assert_eq!(said.len(), 1);
    assert_eq!(said[0].response_nonce, "7");
    assert_eq!(said[0].error_detail, None);
    assert_eq!(short(&said[0]), (Kind::Mesh, vec![], vec![]));
    assert!(book.take_changed() && !book.take_changed());
    give(
        &mut book,
        &answer("8", Kind::Own, &[("uid-1", own(1))], &[]),
    );
    assert!(book.snapshot().is_complete());
}

#[test]
fn a_service_address_is_followed_to_service_and_endpoints() {
    let mut book = connected();
    ask(&mut book, cluster_ip(1));
    let said = give(
        &mut book,
        &answer(
            "1",
            Kind::Address,
            &[("10.96.0.1", address_of_service(1))],
            &[],
        ),
    );
    assert_eq!(
        said.iter().map(short).collect::<Vec<_>>(),
        [
            (Kind::Address, vec![], vec![]),
            (Kind::Service, vec!["shop/svc-1"], vec![]),
            (Kind::Endpoints, vec!["shop/svc-1"], vec![]),
        ]
    );
}

#[test]
fn what_cannot_be_used_is_refused_by_name_and_the_rest_is_taken() {
    let mut book = connected();
    ask(&mut book, pod(2));
    ask(&mut book, pod(3));
    give(
        &mut book,
        &answer(
            "1",
            Kind::Address,
            &[("10.244.0.2", address_of_pod(2))],
            &[],
        ),
    );
    let mut bad = answer(
        "2",
        Kind::Address,
        &[
            ("10.244.0.2", address_of_pod(2)),
            ("10.244.0.3", address_of_pod(3)),
        ],
        &[],
    );
    bad.resources[0].resource.as_mut().unwrap().value = vec![0xff];
    let error = book.answer(&bad, NOW).unwrap_err();
    assert!(
        matches!(&error, AnswerError::Content { name, .. } if name == "10.244.0.2"),
        "{error}"
    );
    let reply = &said(&mut book)[0];
    assert_eq!(reply.response_nonce, "2");
    let detail = reply.error_detail.as_ref().unwrap();
    assert_eq!(
        detail.message,
        "\"10.244.0.2\" cannot be read: Address is not a protobuf message of its type"
    );
    for n in [2, 3] {
        assert!(
            book.snapshot().address(pod(n)).present().is_some(),
            "{n} is in force"
        );
    }
    book.connected();
    let again = said(&mut book)
        .into_iter()
        .find(|request| request.type_url.ends_with("Address"))
        .unwrap();
    let held: Vec<_> = again.initial_resource_versions.into_iter().collect();
    assert_eq!(
        held,
        [
            ("10.244.0.2".to_owned(), "1".to_owned()),
            ("10.244.0.3".to_owned(), "2".to_owned())
        ]
    );
}

#[test]
fn everything_that_is_not_what_it_says_is_refused() {
    let cases = [
        (
            answer("1", Kind::Own, &[("uid-1", own(2))], &[]),
            "\"uid-1\" holds something else",
        ),
        (
            answer("1", Kind::Mesh, &[("mesh", own(1))], &[]),
            "\"mesh\" holds something else",
        ),
        (
            answer(
                "1",
                Kind::Address,
                &[("10.244.0.2", address_of_pod(3))],
                &[],
            ),
            "\"10.244.0.2\" holds something else",
        ),
        (
            answer("1", Kind::Service, &[("shop/svc-1", service(2))], &[]),
            "\"shop/svc-1\" holds something else",
        ),
        (
            answer("1", Kind::Mesh, &[("*", mesh())], &[]),
            "\"*\" is no name of a Mesh",
        ),
        (
            answer("1", Kind::Address, &[], &["10.244.0.02"]),
            "\"10.244.0.02\" is no name of a Address",
        ),
        (
            answer("1", Kind::Endpoints, &[], &["svc-1"]),
            "\"svc-1\" is no name of a Endpoints",
        ),
    ];
    for (answer, expected) in cases {
        let mut book = connected();
        ask(&mut book, pod(2));
        book.ask(Key::Service(service_id(1)), NOW);
        drop(said(&mut book));
        book.take_changed();
        assert_eq!(book.answer(&answer, NOW).unwrap_err().to_string(), expected);
        assert_eq!(
            said(&mut book)[0].error_detail.as_ref().unwrap().message,
            expected
        );
        assert!(!book.take_changed());
    }
    let mut book = connected();
    let mut foreign = answer("9", Kind::Mesh, &[("mesh", mesh())], &[]);
    foreign.type_url = "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned();
    assert!(matches!(
        book.answer(&foreign, NOW),
        Err(AnswerError::UnknownType(_))
    ));
    assert_eq!(said(&mut book)[0].response_nonce, "9");
    let mut empty = answer("10", Kind::Mesh, &[("mesh", mesh())], &[]);
    empty.resources[0].resource = None;
    assert!(matches!(
        book.answer(&empty, NOW),
        Err(AnswerError::Empty { .. })
    ));
}

#[test]
fn nobodys_address_is_absent_until_it_is_somebodys() {
    let mut book = connected();
    ask(&mut book, pod(2));
    assert_eq!(book.snapshot().address(pod(2)), Known::Unknown);
    give(&mut book, &answer("1", Kind::Address, &[], &["10.244.0.2"]));
    assert_eq!(book.snapshot().address(pod(2)), Known::Absent);
    give(
        &mut book,
        &answer(
            "2",
            Kind::Address,
            &[("10.244.0.2", address_of_pod(2))],
            &[],
        ),
    );
    assert!(book.snapshot().address(pod(2)).present().is_some());
}

#[test]
fn the_address_of_a_removed_workload_is_unknown_and_asked_for_anew() {
    let mut book = connected();
    ask(&mut book, pod(2));
    give(
        &mut book,
        &answer(
            "1",
            Kind::Address,
            &[("10.244.0.2", address_of_pod(2))],
            &[],
        ),
    );
    let back = give(&mut book, &answer("2", Kind::Address, &[], &["10.244.0.2"]));
    assert_eq!(
        back.iter().map(short).collect::<Vec<_>>(),
        [
            (Kind::Address, vec![], vec![]),
            (Kind::Address, vec![], vec!["10.244.0.2"]),
        ]
    );
    assert_eq!(book.snapshot().address(pod(2)), Known::Unknown);
    // A successor that was announced to the old subscription is nothing that was asked for.
    give(
        &mut book,
        &answer(
            "3",
            Kind::Address,
            &[("10.244.0.2", address_of_pod(2))],
            &[],
        ),
    );
    assert_eq!(book.snapshot().address(pod(2)), Known::Unknown);
    book.ask(Key::Address(pod(2)), NOW);
    assert_eq!(
        said(&mut book).iter().map(short).collect::<Vec<_>>(),
        [(Kind::Address, vec!["10.244.0.2"], vec![])]
    );
}

#[test]
fn asked_for_again_before_it_was_said_a_name_is_subscribed_only() {
    let mut book = connected();
    ask(&mut book, pod(2));
    give(
        &mut book,
        &answer(
            "1",
            Kind::Address,
            &[("10.244.0.2", address_of_pod(2))],
            &[],
        ),
    );
    book.answer(&answer("2", Kind::Address, &[], &["10.244.0.2"]), NOW)
        .unwrap();
    book.ask(Key::Address(pod(2)), NOW);
    let all = said(&mut book);
    // In one message a server may take the unsubscription last.
    assert_eq!(short(&all[1]), (Kind::Address, vec!["10.244.0.2"], vec![]));
}

#[test]
fn what_is_always_wanted_stays_in_force_when_control_takes_it_back() {
    let mut book = connected();
    give(
        &mut book,
        &answer("1", Kind::Mesh, &[("mesh", mesh())], &[]),
    );
    give(
        &mut book,
        &answer("2", Kind::Own, &[("uid-1", own(1))], &[]),
    );
    give(&mut book, &answer("3", Kind::Mesh, &[], &["mesh"]));
    give(&mut book, &answer("4", Kind::Own, &[], &["uid-1"]));
    assert!(book.snapshot().is_complete());
}

#[test]
fn a_removed_service_has_nobody_behind_it() {
    let mut book = connected();
    book.ask(Key::Endpoints(service_id(1)), NOW);
    give(
        &mut book,
        &answer(
            "1",
            Kind::Endpoints,
            &[("shop/svc-1", endpoints(&[1, 2]))],
            &[],
        ),
    );
    assert!(
        book.snapshot()
            .endpoints(&service_id(1))
            .present()
            .is_some()
    );
    give(
        &mut book,
        &answer("2", Kind::Endpoints, &[], &["shop/svc-1"]),
    );
    assert_eq!(book.snapshot().endpoints(&service_id(1)), Known::Absent);
}

#[test]
fn what_nobody_used_for_five_minutes_is_given_up() {
    let mut book = connected();
    ask(&mut book, pod(2));
    ask(&mut book, cluster_ip(1));
    ask(&mut book, cluster_ip(2));
    let found = [
        ("10.96.0.1", address_of_service(1)),
        ("10.96.0.2", address_of_service(2)),
        ("10.244.0.2", address_of_pod(2)),
    ];
    give(&mut book, &answer("1", Kind::Address, &found, &[]));
    give(
        &mut book,
        &answer(
            "2",
            Kind::Endpoints,
            &[
                ("shop/svc-1", endpoints(&[1])),
                ("shop/svc-2", endpoints(&[2])),
            ],
            &[],
        ),
    );
    let workers = book.snapshot().clone();
    book.sweep(NOW + UNUSED - Duration::from_secs(1));
    assert_eq!(said(&mut book), []);
    // A decision reads the address of one service, and so keeps all that it leads to.
    assert!(workers.address(cluster_ip(1)).present().is_some());
    book.sweep(NOW + UNUSED);
    assert_eq!(
        said(&mut book).iter().map(short).collect::<Vec<_>>(),
        [
            (Kind::Address, vec![], vec!["10.244.0.2", "10.96.0.2"]),
            (Kind::Service, vec![], vec!["shop/svc-2"]),
            (Kind::Endpoints, vec![], vec!["shop/svc-2"]),
        ]
    );
    assert!(
        book.snapshot()
            .endpoints(&service_id(1))
            .present()
            .is_some()
    );
    assert_eq!(book.snapshot().address(pod(2)), Known::Unknown);
    assert!(book.entries.contains_key(&Key::Mesh));
}

#[test]
fn names_are_bounded_and_the_least_used_goes_first() {
    let mut book = connected();
    for n in 0..MOST + 500 {
        let [_, b, c, d] = u32::try_from(n).unwrap().to_be_bytes();
        book.ask(
            Key::Address(IpAddr::from([10, b, c, d])),
            NOW + Duration::from_millis(n as u64),
        );
        assert!(book.names() <= MOST);
    }
    assert!(book.entries.contains_key(&Key::Mesh) && book.entries.contains_key(&Key::Own));
    assert!(
        !book
            .entries
            .contains_key(&Key::Address([10, 0, 0, 0].into()))
    );
    let subscribed: usize = said(&mut book)
        .iter()
        .map(|request| request.resource_names_subscribe.len())
        .sum();
    assert!(subscribed <= MOST, "{subscribed}");
}

proptest! {
    /// In whatever order and in whatever pieces control answers: in the end the same is in force.
    #[test]
    fn answers_in_any_order_come_to_the_same(order in Just((0..8usize).collect::<Vec<_>>()).prop_shuffle(), again in any::<prop::sample::Index>()) {
        let words = [
            answer("1", Kind::Mesh, &[("mesh", mesh())], &[]),
            answer("1", Kind::Own, &[("uid-1", own(1))], &[]),
            answer("1", Kind::Address, &[("10.96.0.1", address_of_service(1))], &[]),
            answer("1", Kind::Address, &[("10.244.0.2", address_of_pod(2))], &["10.244.0.9"]),
            answer("1", Kind::Address, &[("10.244.0.3", address_of_pod(3))], &[]),
            answer("1", Kind::Service, &[("shop/svc-1", service(1))], &[]),
            answer("1", Kind::Endpoints, &[("shop/svc-1", endpoints(&[1, 2, 3]))], &[]),
            answer("1", Kind::Endpoints, &[], &["shop/svc-2"]),
        ];
        let wanted = || {
            let mut book = connected();
            for key in [
                Key::Address(cluster_ip(1)), Key::Address(pod(2)), Key::Address(pod(3)), Key::Address(pod(9)),
                Key::Service(service_id(1)), Key::Endpoints(service_id(1)), Key::Endpoints(service_id(2)),
            ] {
                book.ask(key, NOW);
            }
            book
        };
        let (mut straight, mut shuffled) = (wanted(), wanted());
        for word in &words {
            straight.answer(word, NOW).unwrap();
        }
        for place in &order {
            shuffled.answer(&words[*place], NOW).unwrap();
        }
        // Something that is said twice changes nothing.
        shuffled.answer(&words[again.index(words.len())], NOW).unwrap();
        prop_assert_eq!(straight.snapshot(), shuffled.snapshot());
        prop_assert_eq!(straight.snapshot().address(pod(9)), Known::Absent);
        let known = straight.snapshot().address(pod(3)).present().map(|owner| (**owner).clone());
        prop_assert_eq!(known, Some(AddressOwner::Workload(workload(3))));
    }
}
