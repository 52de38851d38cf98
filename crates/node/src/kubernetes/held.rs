// SPDX-License-Identifier: Apache-2.0
//! One captured pod, from outside or inside: whether it is captured as it was, and how that is mended.
//!
//! Must never believe a look that failed. Read `sandboxes.rs` for all of them, `inside.rs` and `network.rs` for what is compared.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use maille_cni::protocol::{CAPTURE, Sandbox};
use maille_sys::nft::Generation;
use parking_lot::Mutex;

use super::failure::{SandboxError, blocking};
use super::inside::Inside;
use super::network::Network;
use crate::agent::Proxy;
use crate::capture::Captured;
use crate::drift::{drift, mend, switched};
use crate::processes::Processes;

/// How a pod is to be captured, as admission wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Outboard,
    InboardCni,
}

/// One that is captured.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) sandbox: Sandbox,
    /// Its own network namespace, by its number.
    pub(super) network: u64,
    pub(super) way: Way,
    /// How often its rules were changed, and the count at which they were seen to be as they were.
    generation: Generation,
    seen: Mutex<Option<u32>>,
    /// Interfaces that stay as they are, as far as its events name them.
    pub(super) others: Mutex<Vec<String>>,
    pub(super) history: Mutex<History>,
}

/// How it is captured.
#[derive(Debug)]
pub(super) enum Way {
    /// From outside, and its proxy is this agent's.
    Outboard {
        captured: Arc<Captured>,
        mesh: Arc<Network>,
        proxy: Proxy,
    },
    /// From inside, and its proxy is its own.
    Inside(Arc<Inside>),
}

/// What somebody changed of one.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    /// What is not as it was and could not be mended.
    pub(super) drift: String,
    pub(super) repairs: u64,
    /// What was mended last.
    pub(super) repaired: String,
}

// === impl Mode ===

impl Mode {
    /// Reads it from the pod's annotations.
    pub(super) fn of(annotations: &BTreeMap<String, String>) -> Result<Self, SandboxError> {
        match annotations.get(CAPTURE).map(String::as_str) {
            Some("outboard") => Ok(Self::Outboard),
            Some("inboard-cni") => Ok(Self::InboardCni),
            other => Err(SandboxError::Mode(other.unwrap_or_default().to_owned())),
        }
    }

    /// As annotations say it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Outboard => "outboard",
            Self::InboardCni => "inboard-cni",
        }
    }
}

// === impl Held ===

impl Held {
    pub(super) fn new(
        (sandbox, network): (Sandbox, u64),
        way: Way,
        generation: Generation,
    ) -> Self {
        Self {
            sandbox,
            network,
            way,
            generation,
            seen: Mutex::new(None),
            others: Mutex::default(),
            history: Mutex::default(),
        }
    }

    /// Its rules were listed, as they were made, when they had been changed `seen` times.
    pub(super) fn with_rules_seen(self, seen: Option<u32>) -> Self {
        *self.seen.lock() = seen;
        self
    }

    /// How it is captured.
    pub(super) const fn mode(&self) -> Mode {
        match self.way {
            Way::Outboard { .. } => Mode::Outboard,
            Way::Inside(_) => Mode::InboardCni,
        }
    }

    /// The same as [`Self::differs`], for whoever asks every few seconds: what nobody touched is not listed.
    pub(super) async fn looked(&self, all: &Processes) -> Result<Option<String>, SandboxError> {
        // Asked before anything is read: what is changed after is found next time.
        let now = self.generation.now().ok();
        let is_known = now.is_some() && *self.seen.lock() == now;
        let (rules, network) = match &self.way {
            Way::Outboard { mesh, .. } => (!is_known, mesh.is_touched()),
            Way::Inside(_) => (!is_known, false),
        };
        // Where this look fails, the next one finds nothing touched and must not believe it.
        *self.seen.lock() = None;
        let what = self.found(all, rules, network).await?;
        *self.seen.lock() = now.filter(|_| what.is_none());
        Ok(what)
    }

    /// How it differs from what it was, if it does.
    pub(super) async fn differs(&self, all: &Processes) -> Result<Option<String>, SandboxError> {
        self.found(all, true, true).await
    }

    /// The same of its rules and of its network, where these are to be looked at.
    async fn found(
        &self,
        all: &Processes,
        rules: bool,
        network: bool,
    ) -> Result<Option<String>, SandboxError> {
        match &self.way {
            Way::Inside(_) if !rules => Ok(None),
            Way::Inside(inside) => {
                let inside = inside.clone();
                blocking(move || Ok(inside.differs())).await
            }
            Way::Outboard { captured, mesh, .. } => {
                let Some(before) = all.rules().of(&self.sandbox.uid) else {
                    return Ok(None);
                };
                let (of, mesh) = (mesh.clone(), captured.mesh.clone());
                blocking(move || {
                    let what = match rules {
                        true => drift(&mesh, &before),
                        false => switched(&mesh),
                    };
                    match what {
                        None if network => Ok(of.differs(&mesh)?),
                        what => Ok(what),
                    }
                })
                .await
            }
        }
    }

    /// Makes it as it was.
    pub(super) async fn mend(&self, all: &Processes) -> Result<(), SandboxError> {
        match &self.way {
            Way::Inside(inside) => {
                let inside = inside.clone();
                blocking(move || Ok(inside.mend()?)).await
            }
            Way::Outboard { captured, mesh, .. } => {
                let uid = &self.sandbox.uid;
                let before = all.rules().of(uid).unwrap_or_default();
                let (network, mesh) = (mesh.clone(), captured.mesh.clone());
                let now = blocking(move || {
                    // Rules first: they hold whatever the routes are.
                    mend(&mesh, &before)?;
                    network.mend(&mesh)?;
                    maille_sys::nft::stateless(&mesh)
                        .map_err(|error| io::Error::other(error).into())
                });
                // The same rules, but the kernel does not list them to the letter as before.
                all.rules().recall(uid, now.await?);
                Ok(())
            }
        }
    }
}

// === impl History ===

impl History {
    /// Whether somebody should hear of it: what cannot be mended is told once.
    pub(super) fn found(&mut self, what: &str, mended: bool) -> bool {
        if mended {
            self.repairs += 1;
            self.drift.clear();
            what.clone_into(&mut self.repaired);
            return true;
        }
        let is_news = self.drift != what;
        what.clone_into(&mut self.drift);
        is_news
    }
}
