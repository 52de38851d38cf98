// SPDX-License-Identifier: Apache-2.0
//! What the proxy in our own pod trusts: the anchors, in a file that both of us see.
//!
//! It asks us for everything else, over loopback, so that it needs nothing from outside the pod to begin. Replaced whole, whenever
//! the authority is. Read [`super::trust`] for everybody else's.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use maille_chassis::clock::Clock;
use maille_chassis::limited;
use maille_identity::{Authority, describe};

use crate::keyring::Keyring;

/// Until what could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Keeps `path` as the authority is, until the process ends.
pub async fn keep(path: PathBuf, keyring: Keyring, clock: Clock) {
    let mut authorities = keyring.from_now();
    let mut authority = authorities.next().await;
    loop {
        match write(&path, &authority) {
            Ok(()) => authority = authorities.next().await,
            Err(error) => {
                limited!(error, %error, path = %path.display(), "trust anchors are not written: the proxy beside control cannot begin");
                tokio::select! {
                    () = clock.wait(AGAIN) => {}
                    next = authorities.next() => authority = next,
                }
            }
        }
    }
}

/// Whoever reads meanwhile sees the one or the other.
fn write(path: &Path, authority: &Authority) -> io::Result<()> {
    let anchors = authority.trust_anchors();
    let text: String = anchors.iter().map(|anchor| describe::pem(anchor)).collect();
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use maille_identity::trust;

    use super::*;

    #[test]
    fn what_is_written_is_what_the_proxy_reads() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.crt");
        let domain = "cluster.local".parse().unwrap();
        for _ in 0..2 {
            let authority = Authority::create(&domain, SystemTime::now()).unwrap();
            write(&path, &authority).unwrap();
            let read = trust::of_pem(&fs::read_to_string(&path).unwrap()).unwrap();
            assert_eq!(read, authority.trust_anchors());
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
