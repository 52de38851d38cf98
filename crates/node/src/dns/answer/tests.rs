// SPDX-License-Identifier: Apache-2.0
use proptest::prelude::*;

use super::*;

fn names() -> Names {
    let web = ServiceNames {
        addresses: vec![
            "10.96.1.1".parse().unwrap(),
            "fd00:96::101".parse().unwrap(),
        ],
        ports: vec![("http".into(), "tcp", 80)],
        ..ServiceNames::default()
    };
    let four = ServiceNames {
        addresses: vec!["10.96.1.4".parse().unwrap()],
        ports: vec![("http".into(), "tcp", 80)],
        ..ServiceNames::default()
    };
    let db = ServiceNames {
        addresses: vec![
            "10.244.0.2".parse().unwrap(),
            "10.244.0.3".parse().unwrap(),
            "fd00:244::2".parse().unwrap(),
        ],
        headless: true,
        ports: vec![("sql".into(), "tcp", 5432)],
        ..ServiceNames::default()
    };
    let set = ServiceNames {
        hosts: BTreeMap::from([
            (
                "set-0".to_owned(),
                vec![
                    "10.244.0.4".parse().unwrap(),
                    "fd00:244::4".parse().unwrap(),
                ],
            ),
            ("set-1".to_owned(), vec!["10.244.0.5".parse().unwrap()]),
        ]),
        addresses: vec![
            "10.244.0.4".parse().unwrap(),
            "fd00:244::4".parse().unwrap(),
            "10.244.0.5".parse().unwrap(),
        ],
        ..db.clone()
    };
    Names {
        services: BTreeMap::from([
            (
                "shop".to_owned(),
                BTreeMap::from([
                    ("web".to_owned(), web),
                    ("four".to_owned(), four),
                    ("db".to_owned(), db),
                    ("set".to_owned(), set),
                    ("alias".to_owned(), alias("db.shop.svc.cluster.local")),
                    ("outside".to_owned(), alias("example.com.")),
                    ("round".to_owned(), alias("round.shop.svc.cluster.local")),
                ]),
            ),
            ("empty".to_owned(), BTreeMap::new()),
        ]),
        pods: BTreeMap::from([(
            "shop".to_owned(),
            vec![
                "10.244.0.2".parse().unwrap(),
                "fd00:244::2".parse().unwrap(),
            ],
        )]),
    }
}

fn alias(name: &str) -> ServiceNames {
    ServiceNames {
        alias: Some(name.to_owned()),
        ..ServiceNames::default()
    }
}

#[test]
fn names_for_other_names() {
    for (name, kind, expected) in [
        (
            "alias.shop.svc.cluster.local.",
            RecordType::AAAA,
            "NoError [db.shop.svc.cluster.local., fd00:244::2]",
        ),
        (
            "alias.shop.svc.cluster.local.",
            RecordType::CNAME,
            "NoError [db.shop.svc.cluster.local.]",
        ),
        (
            "outside.shop.svc.cluster.local.",
            RecordType::A,
            "NXDomain [example.com.]",
        ),
    ] {
        assert_eq!(summary(name, kind), expected, "{name}");
    }
    let round = ask("round.shop.svc.cluster.local.", RecordType::A);
    assert_eq!(round.answers.len(), MAX_ALIASES + 1);
}

fn ask(name: &str, kind: RecordType) -> Message {
    let mut query = Message::new(0, MessageType::Query, OpCode::Query);
    query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    let bytes = answer(&query.to_vec().unwrap(), &names(), Transport::Udp).unwrap();
    Message::from_vec(&bytes).unwrap()
}

fn summary(name: &str, kind: RecordType) -> String {
    let message = ask(name, kind);
    let answers: Vec<String> = message
        .answers
        .iter()
        .map(|record| record.data.to_string())
        .collect();
    let soa = if message.authorities.is_empty() {
        ""
    } else {
        " soa"
    };
    format!(
        "{:?} [{}]{soa}",
        message.metadata.response_code,
        answers.join(", ")
    )
}

#[test]
fn the_schema_of_kubernetes() {
    use RecordType::{A, AAAA, MX, SRV};
    for (name, kind, expected) in [
        ("web.shop.svc.cluster.local.", A, "NoError [10.96.1.1]"),
        ("WEB.Shop.svc.cluster.local.", A, "NoError [10.96.1.1]"),
        (
            "web.shop.svc.cluster.local.",
            AAAA,
            "NoError [fd00:96::101]",
        ),
        ("four.shop.svc.cluster.local.", A, "NoError [10.96.1.4]"),
        // NODATA: with NXDOMAIN a resolver would take it that there is no IPv4 address either.
        ("four.shop.svc.cluster.local.", AAAA, "NoError [] soa"),
        ("web.shop.svc.cluster.local.", MX, "NoError [] soa"),
        (
            "db.shop.svc.cluster.local.",
            A,
            "NoError [10.244.0.2, 10.244.0.3]",
        ),
        (
            "10-244-0-3.db.shop.svc.cluster.local.",
            A,
            "NoError [10.244.0.3]",
        ),
        (
            "10-244-0-9.db.shop.svc.cluster.local.",
            A,
            "NXDomain [] soa",
        ),
        (
            "_http._tcp.web.shop.svc.cluster.local.",
            SRV,
            "NoError [0 100 80 web.shop.svc.cluster.local.]",
        ),
        (
            "_http._udp.web.shop.svc.cluster.local.",
            SRV,
            "NXDomain [] soa",
        ),
        (
            "_nope._tcp.web.shop.svc.cluster.local.",
            SRV,
            "NXDomain [] soa",
        ),
        ("_tcp.web.shop.svc.cluster.local.", A, "NoError [] soa"),
        (
            "10-244-0-2.shop.pod.cluster.local.",
            A,
            "NoError [10.244.0.2]",
        ),
        ("10-244-0-2.shop.pod.cluster.local.", AAAA, "NoError [] soa"),
        (
            "fd00-244--2.shop.pod.cluster.local.",
            AAAA,
            "NoError [fd00:244::2]",
        ),
        ("nope.shop.svc.cluster.local.", A, "NXDomain [] soa"),
        ("web.nope.svc.cluster.local.", A, "NXDomain [] soa"),
        ("shop.svc.cluster.local.", A, "NoError [] soa"),
        ("empty.svc.cluster.local.", A, "NoError [] soa"),
        ("svc.cluster.local.", A, "NoError [] soa"),
        ("cluster.local.", A, "NoError [] soa"),
        // What a search path makes of names that were complete already.
        (
            "web.shop.svc.cluster.local.shop.svc.cluster.local.",
            A,
            "NXDomain [] soa",
        ),
        ("web.shop.shop.svc.cluster.local.", A, "NXDomain [] soa"),
        ("example.com.", A, "NXDomain []"),
        (".", A, "NXDomain []"),
        ("web.shop.svc.cluster.local.", RecordType::ANY, "NotImp []"),
    ] {
        assert_eq!(summary(name, kind), expected, "{name} {kind}");
    }
    let srv = ask("_sql._tcp.db.shop.svc.cluster.local.", SRV);
    assert_eq!(srv.answers.len(), 3);
}

#[test]
fn pods_with_names_of_their_own_are_found_by_them() {
    use RecordType::{A, AAAA, SRV};
    let text = |name: &str, kind| {
        let mut found: Vec<String> = ask(name, kind)
            .answers
            .iter()
            .map(|record| record.data.to_string())
            .collect();
        found.sort();
        found
    };
    assert_eq!(text("set-0.set.shop.svc.cluster.local.", A), ["10.244.0.4"]);
    assert_eq!(
        text("set-0.set.shop.svc.cluster.local.", AAAA),
        ["fd00:244::4"]
    );
    assert_eq!(text("SET-1.set.shop.svc.cluster.local.", A), ["10.244.0.5"]);
    assert!(text("set-1.set.shop.svc.cluster.local.", AAAA).is_empty());
    let none = ask("set-2.set.shop.svc.cluster.local.", A);
    assert_eq!(none.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(
        text("_sql._tcp.set.shop.svc.cluster.local.", SRV),
        [
            "0 100 5432 set-0.set.shop.svc.cluster.local.",
            "0 100 5432 set-1.set.shop.svc.cluster.local."
        ]
    );
}

#[test]
fn a_large_answer_is_cut_over_udp_and_whole_over_tcp() {
    let mut names = names();
    let addresses = (0..200u8).map(|n| IpAddr::from([10, 244, 1, n])).collect();
    let many = ServiceNames {
        addresses,
        headless: true,
        ..ServiceNames::default()
    };
    names
        .services
        .get_mut("shop")
        .unwrap()
        .insert("many".into(), many);
    let mut query = Message::new(1, MessageType::Query, OpCode::Query);
    query.add_query(Query::query(
        Name::from_ascii("many.shop.svc.cluster.local.").unwrap(),
        RecordType::A,
    ));
    let bytes = query.to_vec().unwrap();
    let udp = answer(&bytes, &names, Transport::Udp).unwrap();
    assert!(udp.len() <= 512);
    assert!(Message::from_vec(&udp).unwrap().metadata.truncation);
    let tcp = Message::from_vec(&answer(&bytes, &names, Transport::Tcp).unwrap()).unwrap();
    assert_eq!((tcp.answers.len(), tcp.metadata.truncation), (200, false));
}

#[test]
fn answers_are_not_answered() {
    let response = Message::response(7, OpCode::Query).to_vec().unwrap();
    assert_eq!(answer(&response, &names(), Transport::Udp), None);
    assert_eq!(answer(b"short", &names(), Transport::Udp), None);
    let status = Message::new(3, MessageType::Query, OpCode::Status)
        .to_vec()
        .unwrap();
    let reply = Message::from_vec(&answer(&status, &names(), Transport::Udp).unwrap()).unwrap();
    assert_eq!(reply.metadata.response_code, ResponseCode::NotImp);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_answer_at_length(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        if let Some(reply) = answer(&bytes, &names(), Transport::Udp) {
            prop_assert!(reply.len() <= UDP_LIMIT);
        }
    }
}
