// SPDX-License-Identifier: Apache-2.0
//! The corpus of odd HTTP/1 messages: each case of `corpus/*.txt` is played by a real client and a real server with one proxy
//! between them, with a meshed pair between them, and, if it should make no difference, with nothing between them.
//!
//! Pauses are events: a step waits for what the step before caused, never for a clock. After each case every connection of
//! the server is read to its end, and a last request shows that nothing else was on its way. Read `corpus/script.rs` for how
//! cases are written, `corpus/play.rs` for how they are played.

mod play;
mod script;

use play::{Between, Pieces, Stage};
use script::Case;

const FILES: [(&str, &str); 8] = [
    ("connections", include_str!("corpus/connections.txt")),
    ("bodies", include_str!("corpus/bodies.txt")),
    ("interim", include_str!("corpus/interim.txt")),
    ("tunnels", include_str!("corpus/tunnels.txt")),
    ("heads", include_str!("corpus/heads.txt")),
    ("refused", include_str!("corpus/refused.txt")),
    ("framing", include_str!("corpus/framing.txt")),
    ("servers", include_str!("corpus/servers.txt")),
];

fn cases() -> Vec<Case> {
    FILES
        .iter()
        .flat_map(|(file, text)| script::parse(file, text))
        .collect()
}

/// Plays every case that is meant for what is `between`, and says all that went wrong.
fn play(between: Between, pieces: Pieces) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut stage = Stage::new(between);
        let mut wrong = Vec::new();
        let mut played = 0;
        for case in cases().iter().filter(|case| case.is_for(between)) {
            played += 1;
            if let Err(why) = stage.play(case, pieces).await {
                wrong.push(format!("{}/{} ({})\n{why}", case.file, case.name, case.rfc));
                // What is left of it shall not disturb the next.
                stage = Stage::new(between);
            }
        }
        assert!(
            wrong.is_empty(),
            "{} of {played} cases\n\n{}",
            wrong.len(),
            wrong.join("\n\n")
        );
        eprintln!("{played} cases with {between:?} between, in {pieces:?}");
    });
}

#[test]
fn the_corpus_is_as_large_as_promised() {
    let cases = cases();
    let mut names: Vec<_> = cases.iter().map(|case| (case.file, &case.name)).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), cases.len(), "a name is used twice");
    for case in &cases {
        assert!(case.rfc.contains("RFC "), "{} names no section", case.name);
    }
    let refused = cases.iter().filter(|case| case.refuses()).count();
    let passed = cases.len() - refused;
    eprintln!(
        "{} cases: {passed} pass, {refused} are refused",
        cases.len()
    );
    assert!(cases.len() >= 250 && refused >= 100 && passed >= 100);
}

#[test]
fn with_nothing_between() {
    play(Between::Nothing, Pieces::Whole);
}

#[test]
fn with_one_proxy_between() {
    play(Between::Proxy, Pieces::Whole);
}

#[test]
fn with_one_proxy_between_in_small_pieces() {
    play(Between::Proxy, Pieces::Small);
}

#[test]
fn with_a_meshed_pair_between() {
    play(Between::Mesh, Pieces::Whole);
}

#[test]
fn with_a_meshed_pair_between_in_small_pieces() {
    play(Between::Mesh, Pieces::Small);
}
