// SPDX-License-Identifier: Apache-2.0
//! The WebSocket suite: the sections of Autobahn's, judged by a strict library at both ends.

use maille_tests_suites::{Server, Stage, judge};

#[tokio::test]
async fn every_case_passes() {
    let stage = Stage::start("ws", |_, programs| {
        Ok(vec![Server {
            name: "ws",
            ports: &[8080],
            declared: None,
            serves: "curl -sS http://ws:8080/",
            command: format!("exec {} serve :8080", judge(programs, "websocket")),
        }])
    });
    let stage = stage.await.unwrap();
    let line = format!("{} judge ws:8080", stage.judge("websocket"));
    for said in stage.both(&line).await.unwrap() {
        let out = said.good().unwrap();
        assert!(out.ends_with("99 passed, 0 failed\n"), "{}", said.text());
    }
    stage.end().await.unwrap();
}
