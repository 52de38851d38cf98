// SPDX-License-Identifier: Apache-2.0
//! Lines that come and go, of our own proxies and of other replicas'; who hears what.

use super::*;
use v1::answer::What as Said;
use v1::question::What;

fn uid(name: &str) -> WorkloadUid {
    WorkloadUid::new(name).unwrap()
}

fn explain() -> What {
    What::Explain(v1::Explain::default())
}

#[tokio::test]
async fn an_answer_goes_to_whoever_asked() {
    let questions = Questions::default();
    let mut line = questions.hang(&uid("a"));
    let mut asked = questions.open(2);
    assert!(asked.ask(&uid("a"), explain()));
    assert!(!asked.ask(&uid("b"), explain()), "nobody is there");
    let question = line.next().await.unwrap();
    for id in [question.id, question.id + 7] {
        let what = Some(Said::Refused("no".into()));
        line.answer(v1::Answer { id, what });
    }
    let answer = asked.next().await.unwrap();
    assert_eq!(answer.from, uid("a"));
    assert!(asked.answers.is_empty(), "what nobody asked went nowhere");
    drop(asked);
    let cancel = line.next().await.unwrap();
    assert!(matches!(cancel.what, Some(What::Cancel(_))));
}

#[tokio::test]
async fn answers_without_room_are_counted() {
    let questions = Questions::default();
    let mut line = questions.hang(&uid("a"));
    let mut asked = questions.open(1);
    asked.ask(&uid("a"), What::Tap(v1::Tap::default()));
    let id = line.next().await.unwrap().id;
    let events = v1::TapEvents {
        events: vec![v1::TapEvent::default(); 3],
        ..v1::TapEvents::default()
    };
    for _ in 0..2 {
        let what = Some(Said::Events(events.clone()));
        line.answer(v1::Answer { id, what });
    }
    assert_eq!((asked.take_lost(), asked.take_lost()), (3, 0));
}

#[tokio::test]
async fn a_line_that_came_again_is_to_be_asked_again() {
    let questions = Questions::default();
    let mut lines = questions.lines();
    let first = questions.hang(&uid("a"));
    let mut asked = questions.open(1);
    asked.ask(&uid("a"), explain());
    assert!(asked.is_asked(&uid("a")));
    let second = questions.hang(&uid("a"));
    drop(first);
    assert!(lines.has_changed().unwrap());
    lines.mark_unchanged();
    assert!(questions.is_there(&uid("a")) && !asked.is_asked(&uid("a")));
    drop(second);
    assert!(lines.has_changed().unwrap() && !questions.is_there(&uid("a")));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever() {
    let questions = Questions::default();
    let second = Duration::from_secs(1);
    let away = questions.once(&uid("a"), explain(), second).await;
    assert_eq!(away, Err(AskError::Away));
    let _line = questions.hang(&uid("a"));
    let late = questions.once(&uid("a"), explain(), second).await;
    assert_eq!(late, Err(AskError::Late(second)));
}

#[tokio::test]
async fn a_proxy_beyond_is_asked_by_way_of_its_replica() {
    let questions = Questions::default();
    let (to, mut way) = mpsc::channel(4);
    let beyond = questions.beyond("control-2", to);
    beyond.moved(&[uid("a"), uid("b")], &[]);
    assert!(questions.own().is_empty() && questions.is_there(&uid("a")));
    let mut asked = questions.open(2);
    assert!(asked.ask(&uid("a"), explain()) && asked.is_asked(&uid("a")));
    let forwarded = way.recv().await.unwrap();
    let id = forwarded.question.unwrap().id;
    assert_eq!(forwarded.to, "a");
    let what = Some(Said::Refused("no".into()));
    beyond.answer(&uid("a"), v1::Answer { id, what }, 3);
    assert_eq!(asked.next().await.unwrap().from, uid("a"));
    assert_eq!(asked.take_lost(), 3);
    // It comes to us: it is to be asked again, here.
    let line = questions.hang(&uid("a"));
    assert!(!asked.is_asked(&uid("a")));
    beyond.moved(&[], &[uid("a")]);
    assert_eq!(questions.own(), BTreeSet::from([uid("a")]));
    drop(beyond);
    assert!(questions.is_there(&uid("a")) && !questions.is_there(&uid("b")));
    drop(line);
    assert!(!questions.is_there(&uid("a")));
}
