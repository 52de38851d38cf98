// SPDX-License-Identifier: Apache-2.0
//! Without the owner's word the data thread is not even asked to tell anything; with it, everybody who looks is told everything, or how much not.

use std::collections::VecDeque;
use std::sync::Arc;

use maille_chassis::clock::Clock;
use maille_engine::snapshot::Snapshot;
use maille_wire::v1::question::What as Asked;
use tokio::sync::{mpsc, watch};

use super::*;
use crate::questions::Sources;
use crate::tap::{Taps, Told};

struct World {
    sources: Sources,
    tapped: watch::Receiver<Taps>,
    _snapshots: watch::Sender<Arc<Snapshot>>,
}

fn world(inside: Inside) -> World {
    let (_snapshots, snapshots) = watch::channel(Arc::new(Snapshot::new()));
    let (taps, tapped) = watch::channel(Taps::default());
    let sources = Sources {
        snapshots,
        questions: mpsc::channel(1).0,
        credentials: watch::channel(None).1,
        taps,
        told: mpsc::channel(1).1,
        inside,
    };
    World {
        sources,
        tapped,
        _snapshots,
    }
}

/// A session with room for so many answers.
fn session(sources: &mut Sources, room: usize) -> (Session<'_>, mpsc::Receiver<v1::Answer>) {
    let clock = Clock::start();
    let (answers, heard) = mpsc::channel(room);
    let session = Session {
        sources,
        clock,
        wall: (clock.wall(), clock.now()),
        answers,
        taps: Vec::new(),
        inside: Vec::new(),
        waiting: VecDeque::new(),
        untold: std::collections::HashMap::new(),
    };
    (session, heard)
}

fn ask(session: &mut Session<'_>, id: u64, what: Asked) {
    let what = Some(what);
    session.hear(v1::Question { id, what });
}

fn look(session: &mut Session<'_>, id: u64) {
    ask(session, id, Asked::Inside(v1::Inside {}));
}

fn pieces(count: usize) -> Vec<v1::Piece> {
    vec![v1::Piece::default(); count]
}

#[test]
fn without_consent_nothing_is_told() {
    let mut world = world(Inside::Refused);
    let (mut session, mut heard) = session(&mut world.sources, 4);
    look(&mut session, 7);
    let said = heard.try_recv().unwrap();
    assert!(matches!(&said.what, Some(Said::Refused(why)) if why.contains("owner")));
    session.tell_pieces(&pieces(1));
    assert!(heard.try_recv().is_err());
    drop(session);
    assert!(!world.tapped.borrow().inside);
}

#[test]
fn a_yes_that_nobody_can_hear_is_none() {
    let mut world = world(Inside::Allowed);
    let (mut session, mut heard) = session(&mut world.sources, 1);
    look(&mut session, 7);
    look(&mut session, 8);
    assert_eq!(session.inside, [7]);
    assert!(matches!(
        heard.try_recv().unwrap().what,
        Some(Said::Agreed(_))
    ));
    assert!(session.sources.taps.borrow().inside);
    ask(&mut session, 7, Asked::Cancel(v1::Cancel {}));
    assert!(!session.sources.taps.borrow().inside);
}

#[test]
fn everybody_is_told_all_or_how_much_not() {
    let mut world = world(Inside::Allowed);
    let (mut session, mut heard) = session(&mut world.sources, 5);
    look(&mut session, 7);
    look(&mut session, 8);
    session.tell_pieces(&pieces(PIECES + 1));
    let mut told = Vec::new();
    while let Ok(answer) = heard.try_recv() {
        if let Some(Said::Events(events)) = answer.what {
            told.push((answer.id, events.pieces.len()));
        }
    }
    // Five answers in all: the last one had no room.
    assert_eq!(told, [(7, PIECES), (7, 1), (8, PIECES)]);
    session.tell(std::iter::once(Told::Lost(3)));
    let mut lost = Vec::new();
    while let Ok(answer) = heard.try_recv() {
        if let Some(Said::Events(events)) = answer.what {
            lost.push((answer.id, events.no_room));
        }
    }
    lost.sort_unstable();
    assert_eq!(lost, [(7, 3), (8, 4)]);
}

#[test]
fn there_are_so_many_and_no_more() {
    let mut world = world(Inside::Allowed);
    let (mut session, mut heard) = session(&mut world.sources, TAPS + 1);
    for id in 0..=TAPS as u64 {
        look(&mut session, id);
    }
    let answers = std::iter::from_fn(|| heard.try_recv().ok());
    let agreed = answers.filter(|answer| matches!(answer.what, Some(Said::Agreed(_))));
    assert_eq!(agreed.count(), TAPS);
    assert_eq!(session.inside.len(), TAPS);
}
