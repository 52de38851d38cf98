// SPDX-License-Identifier: Apache-2.0
//! What strangers' bytes reach in this crate, for the targets in `fuzz/`. Compiled for them alone.
//!
//! Must never do what production does not. Next: `dns/answer.rs`, `frames/filter.rs`.

use std::sync::LazyLock;

use crate::dns::{Names, ServiceNames, Transport, answer};
use crate::frames::filter::Filter;

static NAMES: LazyLock<Names> = LazyLock::new(|| {
    let web = ServiceNames {
        addresses: vec![[10, 96, 0, 1].into(), [0xfd00, 0, 0, 0, 0, 0, 0, 1].into()],
        ports: vec![("http".to_owned(), "tcp", 80)],
        ..ServiceNames::default()
    };
    // More than fit into a message over UDP.
    let pods: Vec<_> = (0..200).map(|n| [10, 244, 0, n].into()).collect();
    let db = ServiceNames {
        hosts: [("db-0".to_owned(), pods[..1].to_vec())].into(),
        addresses: pods.clone(),
        headless: true,
        ..ServiceNames::default()
    };
    let round = |other: &str| ServiceNames {
        alias: Some(other.to_owned()),
        ..ServiceNames::default()
    };
    let services = [
        ("web".to_owned(), web),
        ("db".to_owned(), db),
        ("one".to_owned(), round("two.shop.svc.cluster.local")),
        ("two".to_owned(), round("one.shop.svc.cluster.local")),
        ("out".to_owned(), round("example.org")),
    ];
    Names {
        services: [("shop".to_owned(), services.into())].into(),
        pods: [("shop".to_owned(), pods)].into(),
    }
});

/// What the DNS of a small cluster answers over UDP.
pub fn dns_over_udp(question: &[u8]) -> Option<Vec<u8>> {
    answer(question, &NAMES, Transport::Udp)
}

/// The same over TCP.
pub fn dns_over_tcp(question: &[u8]) -> Option<Vec<u8>> {
    answer(question, &NAMES, Transport::Tcp)
}

/// Whether a filter takes a frame; `None` where the text is no filter.
pub fn filter_takes(filter: &str, frame: &[u8]) -> Option<bool> {
    Some(Filter::parse(filter).ok()?.takes(frame))
}
