// SPDX-License-Identifier: Apache-2.0
//! Nothing is shown before the proxy has said that its owner agrees, nor by a successor that did not say it.

use maille_chassis::clock::Clock;
use maille_model::{ClusterRanges, Mesh};
use serde_json::{Value, json};

use super::*;
use crate::ask::Hanging;

fn hub() -> Arc<Hub> {
    let mesh = Mesh {
        trust_domain: "cluster.local".parse().unwrap(),
        trust_anchors: Vec::new(),
        cluster_ranges: ClusterRanges::default(),
    };
    Arc::new(Hub::new(mesh, 1, Clock::start()))
}

fn uid() -> WorkloadUid {
    WorkloadUid::new("a").unwrap()
}

/// Answers the next question, which must be for this.
async fn answer(line: &mut Hanging, what: Said) -> u64 {
    let asked = line.next().await.unwrap();
    assert!(matches!(asked.what, Some(v1::question::What::Inside(_))));
    let (id, what) = (asked.id, Some(what));
    line.answer(v1::Answer { id, what });
    id
}

fn events(bytes: &[u8]) -> Said {
    Said::Events(v1::TapEvents {
        pieces: vec![v1::Piece {
            connection: 3,
            remote: "10.0.0.2:15008".to_owned(),
            outward: true,
            offset: 9,
            bytes: bytes.to_vec(),
            ..v1::Piece::default()
        }],
        no_room: 2,
        ..v1::TapEvents::default()
    })
}

fn read(lines: Option<Bytes>) -> Vec<Value> {
    let text = String::from_utf8(lines.unwrap().to_vec()).unwrap();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

async fn refused(hub: &Arc<Hub>) -> String {
    let opened = Session::open(hub, uid()).await;
    opened.err().expect("it is refused").message
}

#[tokio::test(start_paused = true)]
async fn who_does_not_say_yes_shows_nothing() {
    let hub = hub();
    assert!(refused(&hub).await.contains("not connected"));
    let mut line = hub.questions().hang(&uid());
    let (said, _) = tokio::join!(
        refused(&hub),
        answer(&mut line, Said::Refused("no\u{1b}".into()))
    );
    assert!(said.contains("no\u{1b}"), "{said}");
    // Taken back, whatever was said.
    let asked = line.next().await.unwrap().what;
    assert!(matches!(asked, Some(v1::question::What::Cancel(_))));
    // Silence, and things that were not asked for, are no consent.
    let (said, _) = tokio::join!(refused(&hub), answer(&mut line, events(b"secret")));
    assert!(said.contains("did not say"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn what_was_agreed_to_is_told_until_a_successor_does_not_agree() {
    let hub = hub();
    let mut line = hub.questions().hang(&uid());
    let agreed = Said::Agreed(v1::Agreed {});
    let (session, id) = tokio::join!(
        Session::open(&hub, uid()),
        answer(&mut line, agreed.clone())
    );
    let mut session = session.unwrap();
    assert_eq!(
        read(session.next().await),
        [json!({"type": "agreed"})],
        "first of all"
    );
    let what = Some(events(b"\x00PRI"));
    line.answer(v1::Answer { id, what });
    let piece = json!({"type": "piece", "connection": 3, "remote": "10.0.0.2:15008", "dialled": false, "outward": true, "at_us": 0,
        "offset": 9, "bytes": "00505249"});
    let dropped = json!({"type": "dropped", "no_room": 2});
    assert_eq!(read(session.next().await), [piece, dropped]);
    // A successor is asked for itself.
    drop(line);
    let mut line = hub.questions().hang(&uid());
    let refuses = async {
        answer(&mut line, Said::Refused("mine does not".into())).await;
    };
    let (lines, ()) = tokio::join!(session.next(), refuses);
    let error = json!({"type": "error", "error": "mine does not"});
    assert_eq!(read(lines), [error]);
    assert_eq!(session.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_has_gone_ends_it() {
    let hub = hub();
    let mut line = hub.questions().hang(&uid());
    let agreed = Said::Agreed(v1::Agreed {});
    let (session, _) = tokio::join!(Session::open(&hub, uid()), answer(&mut line, agreed));
    let mut session = session.unwrap();
    read(session.next().await);
    drop(line);
    let error = json!({"type": "error", "error": "the pod has gone"});
    assert_eq!(read(session.next().await), [error]);
    assert_eq!(session.next().await, None);
}
