// SPDX-License-Identifier: Apache-2.0
//! Filters against exchanges: each part alone, what has to wait, and what nobody asked for.

use std::sync::Arc;

use super::super::heads::Cut;
use super::super::{Spoken, heads};
use super::*;

fn facts() -> Facts {
    Facts {
        direction: Direction::Outbound,
        client: "10.0.0.1:4000".parse().unwrap(),
        dialled: "10.96.0.2:80".parse().unwrap(),
        endpoint: Some("10.0.0.2:8080".parse().unwrap()),
        peer_uid: WorkloadUid::new("uid-b"),
        peer: None,
        claimed: None,
        service: Some("shop/web".parse().unwrap()),
        protected: true,
        spoken: Spoken::Http1,
        server_name: None,
        status: 0,
        grpc_status: None,
        latency: Duration::from_millis(5),
        lasted: Duration::from_millis(6),
        bytes: (1, 2),
        flag: None,
    }
}

fn request() -> Arc<Request> {
    Arc::new(Request {
        method: Cut::of(b"GET", heads::WORD),
        authority: Cut::of(b"Web.Shop:80", heads::WORD),
        path: Cut::of(b"/cart/7?x=1", heads::PATH),
        head: heads::Head::default(),
    })
}

#[test]
fn each_part_alone() {
    let all = Filter::default;
    let table = [
        (all(), true),
        (
            Filter {
                direction: Some(Direction::Outbound),
                ..all()
            },
            true,
        ),
        (
            Filter {
                direction: Some(Direction::Inbound),
                ..all()
            },
            false,
        ),
        (
            Filter {
                method: Some("get".into()),
                ..all()
            },
            true,
        ),
        (
            Filter {
                method: Some("POST".into()),
                ..all()
            },
            false,
        ),
        (
            Filter {
                path: Some("/cart".into()),
                ..all()
            },
            true,
        ),
        (
            Filter {
                path: Some("/Cart".into()),
                ..all()
            },
            false,
        ),
        (
            Filter {
                authority: Some("web.shop".into()),
                ..all()
            },
            true,
        ),
        (
            Filter {
                authority: Some("web.shop:80".into()),
                ..all()
            },
            true,
        ),
        (
            Filter {
                authority: Some("web.shop:81".into()),
                ..all()
            },
            false,
        ),
    ];
    for (filter, wanted) in table {
        assert_eq!(
            filter.asks_for(&facts(), &request()),
            wanted,
            "{filter:?} of a GET to web.shop/cart/7"
        );
    }
}

#[test]
fn the_other_side_is_known_in_several_ways() {
    let with = |others: Others| Filter {
        others: Some(others),
        ..Filter::default()
    };
    let nobody = with(Others::default());
    assert!(
        !nobody.asks_for(&facts(), &request()),
        "an empty list is a list"
    );
    let uid = with(Others {
        uids: WorkloadUid::new("uid-b").into_iter().collect(),
        ..Others::default()
    });
    let service = with(Others {
        services: ["shop/web".parse().unwrap()].into(),
        ..Others::default()
    });
    let address = with(Others {
        addresses: ["10.0.0.2".parse().unwrap()].into(),
        ..Others::default()
    });
    for filter in [&uid, &service, &address] {
        assert!(filter.asks_for(&facts(), &request()), "{filter:?}");
        let other = Facts {
            peer_uid: None,
            service: None,
            dialled: "10.9.9.9:1".parse().unwrap(),
            endpoint: None,
            ..facts()
        };
        assert!(!filter.asks_for(&other, &request()), "{filter:?}");
    }
    let inbound = Facts {
        direction: Direction::Inbound,
        client: "10.0.0.2:1".parse().unwrap(),
        ..facts()
    };
    assert!(address.asks_for(&inbound, &request()), "the client is it");
}

#[test]
fn answers_are_waited_for_where_they_matter() {
    let answered = |status, grpc_status| Facts {
        status,
        grpc_status,
        ..facts()
    };
    let errors = Filter {
        status: Some(500..=599),
        ..Filter::default()
    };
    assert!(errors.waits() && !Filter::default().waits());
    assert_eq!(errors.answered(&answered(503, None), false), Some(true));
    assert_eq!(errors.answered(&answered(200, None), false), Some(false));
    let slow = Filter {
        latency: Some(Duration::from_millis(6)),
        ..Filter::default()
    };
    assert_eq!(slow.answered(&answered(200, None), true), Some(false));
    let unavailable = Filter {
        grpc_status: Some(14),
        ..Filter::default()
    };
    assert_eq!(unavailable.answered(&answered(200, None), false), None);
    assert_eq!(
        unavailable.answered(&answered(200, Some(14)), true),
        Some(true)
    );
    assert_eq!(
        unavailable.answered(&answered(200, Some(0)), true),
        Some(false)
    );
    assert_eq!(
        unavailable.answered(&answered(200, None), true),
        Some(false)
    );
}
