// SPDX-License-Identifier: Apache-2.0
//! The certificate authority in force. It may be replaced while everything else goes on: by a file once, in a cluster by
//! whoever writes its Secret. Never held across an `await`.

use std::sync::Arc;
use std::time::SystemTime;

use maille_identity::Authority;
use tokio::sync::watch;

/// Where the authority in force is looked up. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Keyring(watch::Receiver<Option<Arc<Authority>>>);

/// Where it is replaced.
#[derive(Debug)]
pub struct KeyringWriter(watch::Sender<Option<Arc<Authority>>>);

// === impl Keyring ===

impl Keyring {
    /// A keyring that has nothing yet, and who puts something there.
    pub fn empty() -> (KeyringWriter, Self) {
        let (writer, reader) = watch::channel(None);
        (KeyringWriter(writer), Self(reader))
    }

    /// One that stays as it is.
    pub fn fixed(authority: impl Into<Arc<Authority>>) -> Self {
        Self(watch::channel(Some(authority.into())).1)
    }

    /// The authority in force; `None` until there is one.
    pub fn current(&self) -> Option<Arc<Authority>> {
        self.0.borrow().clone()
    }

    /// From when to when it is valid.
    pub fn validity(&self) -> Option<(SystemTime, SystemTime)> {
        Some(self.current()?.validity())
    }

    /// The next one that is put in force, or the first that this reader sees.
    pub async fn next(&mut self) -> Arc<Authority> {
        loop {
            if self.0.changed().await.is_err() {
                // It stays as it is.
                std::future::pending::<()>().await;
            }
            if let Some(authority) = self.0.borrow_and_update().clone() {
                return authority;
            }
        }
    }

    /// A reader for which [`Keyring::next`] begins with the authority in force.
    #[must_use]
    pub fn from_now(&self) -> Self {
        let mut reader = self.clone();
        reader.0.mark_changed();
        reader
    }
}

// === impl KeyringWriter ===

impl KeyringWriter {
    /// From now on, `authority` signs.
    pub fn put(&self, authority: Authority) {
        self.0.send_replace(Some(Arc::new(authority)));
    }

    /// What was put last.
    pub fn current(&self) -> Option<Arc<Authority>> {
        self.0.borrow().clone()
    }
}
