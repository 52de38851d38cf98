// SPDX-License-Identifier: Apache-2.0
//! Who is refused, by a real `maille-proxy` under a real control: as a peer that dials it, and as one that it dials.
//!
//! Every table ends with the same peer made right, which is served: what was refused before was refused for its fault alone.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set up its world fails"
)]

#[path = "refusals/dialled.rs"]
mod dialled;
#[path = "refusals/dialling.rs"]
mod dialling;
#[path = "refusals/pki.rs"]
mod pki;
#[path = "refusals/talk.rs"]
mod talk;
#[path = "refusals/world.rs"]
mod world;

/// Waits until the proxy has said why it refused `remote`.
fn refused_for(proxy: &world::Proxy, remote: std::net::SocketAddr, since: usize) -> String {
    let remote = remote.to_string();
    let look = || {
        let lines = proxy.said("mesh connection refused");
        let line = lines
            .iter()
            .skip(since)
            .find(|line| line["remote"] == remote.as_str());
        line.map(|line| line["reason"].as_str().unwrap().to_owned())
    };
    wait_for("the reason in the log", look)
}

/// Waits until there is something to see.
fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(maille_testkit::until(what, world::PATIENCE, look))
        .unwrap()
}
