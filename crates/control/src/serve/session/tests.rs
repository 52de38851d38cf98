// SPDX-License-Identifier: Apache-2.0
//! The delta rules that a server is tested on, one by one.

use std::cell::RefCell;
use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

/// A world of texts.
#[derive(Default)]
struct Texts(RefCell<BTreeMap<Key, Arc<Encoded>>>);

impl Texts {
    fn set(&self, key: &Key, text: &'static str) -> Key {
        let encoded = Arc::new(Encoded::new(Bytes::from_static(text.as_bytes())));
        self.0.borrow_mut().insert(key.clone(), encoded);
        key.clone()
    }

    fn remove(&self, key: &Key) -> Key {
        self.0.borrow_mut().remove(key);
        key.clone()
    }

    fn next(&self, session: &mut Session) -> Option<Answer> {
        session.answer(|key| self.0.borrow().get(key).cloned())
    }

    /// What the session sends now, as `name=text` and `-name`.
    fn told(&self, session: &mut Session) -> Vec<String> {
        let mut told = Vec::new();
        while let Some(answer) = self.next(session) {
            for (name, encoded) in answer.resources {
                told.push(format!(
                    "{name}={}",
                    String::from_utf8_lossy(&encoded.bytes)
                ));
            }
            told.extend(answer.removed.iter().map(|name| format!("-{name}")));
        }
        told
    }
}

fn address(text: &str) -> Key {
    Key::parse(Kind::Address, text).unwrap()
}

fn subscribe(names: &[&str]) -> Ask {
    Ask {
        subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Ask::default()
    }
}

fn unsubscribe(names: &[&str]) -> Ask {
    Ask {
        unsubscribe: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Ask::default()
    }
}

const A: &str = "10.0.0.1";
const B: &str = "10.0.0.2";

#[test]
fn what_exists_is_sent_and_what_does_not_is_removed_at_once() {
    let (texts, mut session) = (Texts::default(), Session::new(10));
    texts.set(&address(A), "one");
    session
        .ask(Kind::Address, subscribe(&[A, B, "not an address"]))
        .unwrap();
    assert_eq!(
        texts.told(&mut session),
        ["10.0.0.1=one", "-not an address", "-10.0.0.2"]
    );
    assert_eq!(texts.told(&mut session), [""; 0]);
}

#[test]
fn only_differences_are_sent() {
    let (texts, mut session) = (Texts::default(), Session::new(10));
    let a = texts.set(&address(A), "one");
    session.ask(Kind::Address, subscribe(&[A])).unwrap();
    assert_eq!(texts.told(&mut session), ["10.0.0.1=one"]);
    session.changed([&a]);
    assert_eq!(
        texts.told(&mut session),
        [""; 0],
        "equal bytes are not sent again"
    );
    texts.set(&a, "two");
    session.changed([&a, &address(B)]);
    assert_eq!(texts.told(&mut session), ["10.0.0.1=two"]);
    texts.remove(&a);
    session.changed([&a]);
    session.changed([&a]);
    assert_eq!(texts.told(&mut session), ["-10.0.0.1"]);
    session.changed([&a]);
    assert_eq!(
        texts.told(&mut session),
        [""; 0],
        "its absence is told once"
    );
    texts.set(&a, "two");
    session.changed([&a]);
    assert_eq!(
        texts.told(&mut session),
        ["10.0.0.1=two"],
        "a name outlives its resource"
    );
}

#[test]
fn a_slow_consumer_gets_the_newest_version_only() {
    let (texts, mut session) = (Texts::default(), Session::new(10));
    let a = texts.set(&address(A), "one");
    session.ask(Kind::Address, subscribe(&[A])).unwrap();
    for text in ["two", "three", "four"] {
        texts.set(&a, text);
        session.changed([&a]);
    }
    assert_eq!(texts.told(&mut session), ["10.0.0.1=four"]);
}

#[test]
fn a_name_subscribed_again_is_sent_again() {
    let (texts, mut session) = (Texts::default(), Session::new(10));
    texts.set(&address(A), "one");
    session.ask(Kind::Address, subscribe(&[A, B])).unwrap();
    texts.told(&mut session);
    session.ask(Kind::Address, subscribe(&[B, A])).unwrap();
    assert_eq!(
        texts.told(&mut session),
        ["10.0.0.1=one", "-10.0.0.2"].map(str::to_owned)
    );
}

#[test]
fn unsubscribed_names_are_silent() {
    let (texts, mut session) = (Texts::default(), Session::new(10));
    let a = texts.set(&address(A), "one");
    session.ask(Kind::Address, subscribe(&[A])).unwrap();
    session.ask(Kind::Address, unsubscribe(&[A, B])).unwrap();
    texts.set(&a, "two");
    session.changed([&a]);
    session.changed_all();
    assert_eq!(texts.told(&mut session), [""; 0]);
    session.ask(Kind::Address, subscribe(&[A])).unwrap();
    assert_eq!(texts.told(&mut session), ["10.0.0.1=two"]);
}

#[test]
fn a_resumed_stream_is_told_differences_and_what_is_gone() {
    let texts = Texts::default();
    texts.set(&address(A), "same");
    texts.set(&address(B), "new");
    let held = |key: &str, text: &'static str| {
        let version = Encoded::new(Bytes::from_static(text.as_bytes())).version;
        (key.to_owned(), version.to_string())
    };
    let resume = || Ask {
        versions: HashMap::from([
            held(A, "same"),
            held(B, "old"),
            held("10.0.0.3", "gone"),
            ("10.0.0.4".to_owned(), "of another server".to_owned()),
        ]),
        ..subscribe(&[A, B, "10.0.0.3", "10.0.0.4"])
    };
    let mut session = Session::new(10);
    session.ask(Kind::Address, resume()).unwrap();
    assert_eq!(
        texts.told(&mut session),
        ["10.0.0.2=new", "-10.0.0.3", "-10.0.0.4"]
    );
    let mut session = Session::new(10);
    session.ask(Kind::Address, Ask::default()).unwrap();
    session.ask(Kind::Address, resume()).unwrap();
    assert_eq!(
        texts.told(&mut session).len(),
        4,
        "versions count in the first message only"
    );
}

#[test]
fn nonces_tell_acknowledgements_from_rejections() {
    let (texts, mut session) = (Texts::default(), Session::new(10));
    let a = texts.set(&address(A), "one");
    assert_eq!(
        session.ask(Kind::Address, subscribe(&[A])).unwrap(),
        Verdict::Spontaneous
    );
    let first = texts.next(&mut session).unwrap();
    let reply = |nonce: &str, error: Option<&str>| Ask {
        nonce: nonce.to_owned(),
        error: error.map(str::to_owned),
        ..Ask::default()
    };
    let rejection = Rejection {
        kind: Kind::Address,
        message: "bad  thing".to_owned(),
    };
    assert_eq!(
        session
            .ask(Kind::Address, reply(&first.nonce, Some("bad\r\nthing")))
            .unwrap(),
        Verdict::Rejected(rejection.clone())
    );
    assert_eq!(session.rejections().collect::<Vec<_>>(), [&rejection]);
    assert!(
        texts.next(&mut session).is_none(),
        "a rejected version is not repeated"
    );
    texts.set(&a, "two");
    session.changed([&a]);
    let second = texts.next(&mut session).unwrap();
    assert_ne!(first.nonce, second.nonce);
    for foreign in ["", "0", "99", "-1", "x"] {
        assert_eq!(
            session
                .ask(Kind::Address, reply(foreign, Some("no")))
                .unwrap(),
            Verdict::Spontaneous,
            "{foreign:?}"
        );
    }
    assert_eq!(
        session
            .ask(Kind::Address, reply(&second.nonce, None))
            .unwrap(),
        Verdict::Accepted
    );
    assert_eq!(session.rejections().count(), 0);
}

#[test]
fn a_stale_nonce_does_not_void_subscription_changes() {
    let (texts, mut session) = (Texts::default(), Session::new(10));
    texts.set(&address(A), "one");
    texts.set(&address(B), "two");
    session.ask(Kind::Address, subscribe(&[A])).unwrap();
    texts.told(&mut session);
    let stale = Ask {
        nonce: "of an earlier stream".to_owned(),
        ..subscribe(&[B])
    };
    session.ask(Kind::Address, stale).unwrap();
    assert_eq!(texts.told(&mut session), ["10.0.0.2=two"]);
}

#[test]
fn kinds_do_not_mix() {
    let (texts, mut session) = (Texts::default(), Session::new(10));
    let id = "shop/web".parse().unwrap();
    texts.set(&Key::Service(id), "service");
    session
        .ask(Kind::Service, subscribe(&["shop/web"]))
        .unwrap();
    session
        .ask(Kind::Endpoints, subscribe(&["shop/web"]))
        .unwrap();
    let first = texts.next(&mut session).unwrap();
    assert_eq!((first.kind, first.removed.len()), (Kind::Endpoints, 1));
    let second = texts.next(&mut session).unwrap();
    assert_eq!((second.kind, second.resources.len()), (Kind::Service, 1));
}

#[test]
fn subscriptions_are_bounded_over_all_kinds() {
    let mut session = Session::new(2);
    session.ask(Kind::Address, subscribe(&[A])).unwrap();
    session
        .ask(Kind::Service, subscribe(&["not a name"]))
        .unwrap();
    session.ask(Kind::Address, subscribe(&[A])).unwrap();
    assert_eq!(
        session.ask(Kind::Mesh, subscribe(&["mesh"])),
        Err(SessionError::TooManySubscriptions(2))
    );
}

#[test]
fn a_circle_of_subscriptions_does_not_grow_the_queue() {
    let mut session = Session::new(10);
    for _ in 0..10_000 {
        session.ask(Kind::Address, subscribe(&[A])).unwrap();
        session.ask(Kind::Address, unsubscribe(&[A])).unwrap();
    }
    assert!(session.interests[place(Kind::Address)].queue.len() < 100);
}

#[test]
fn large_sets_travel_in_bounded_answers() {
    let (texts, mut session) = (Texts::default(), Session::new(20_000));
    let names: Vec<String> = (0..2_500_u32)
        .map(|n| std::net::Ipv4Addr::from(0x0a00_0000 + n).to_string())
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    session.ask(Kind::Address, subscribe(&names)).unwrap();
    let sizes: Vec<usize> = std::iter::from_fn(|| texts.next(&mut session))
        .map(|answer| answer.removed.len())
        .collect();
    assert_eq!(sizes, [1_000, 1_000, 500]);
}

proptest! {
    /// Whatever a client asks and whatever changes: once it read everything, it has what there is.
    #[test]
    fn a_client_converges(steps in proptest::collection::vec((0..6u8, 0..5u8), 1..60)) {
        let (texts, mut session) = (Texts::default(), Session::new(100));
        let mut client: BTreeMap<String, Option<Vec<u8>>> = BTreeMap::new();
        let mut wanted = BTreeSet::new();
        let read = |texts: &Texts, session: &mut Session, client: &mut BTreeMap<_, _>| {
            while let Some(answer) = texts.next(session) {
                for (name, encoded) in answer.resources {
                    client.insert(name, Some(encoded.bytes.to_vec()));
                }
                client.extend(answer.removed.into_iter().map(|name| (name, None)));
            }
        };
        for (step, n) in steps {
            let name = format!("10.0.0.{n}");
            let key = address(&name);
            match step {
                0 => { session.ask(Kind::Address, subscribe(&[&name])).unwrap(); wanted.insert(name); }
                1 => { session.ask(Kind::Address, unsubscribe(&[&name])).unwrap(); wanted.remove(&name); client.remove(&name); }
                2 => session.changed([&texts.set(&key, "one")]),
                3 => session.changed([&texts.set(&key, "two")]),
                4 => session.changed([&texts.remove(&key)]),
                _ => read(&texts, &mut session, &mut client),
            }
        }
        read(&texts, &mut session, &mut client);
        for name in &wanted {
            let there = texts.0.borrow().get(&address(name)).map(|e| e.bytes.to_vec());
            prop_assert_eq!(client.get(name), Some(&there), "{}", name);
        }
    }
}
