// SPDX-License-Identifier: Apache-2.0
//! A pod that the manifests name themselves. One task each: a pod that was changed is ended, and the new one of its name is started
//! when the old one is gone, because two of a name there cannot be.
//!
//! It must never bring back a pod that somebody deleted.

use std::sync::Arc;

use maille_manifest::objects::Pod;
use tokio::sync::watch;

use super::{OwnerKey, Pods, Stop, order};

/// Keeps what `goal` says until it says nothing and the pod is gone.
pub(super) async fn keep(
    pods: Arc<Pods>,
    key: OwnerKey,
    mut goal: watch::Receiver<Option<Arc<Pod>>>,
) {
    let mut changes = pods.changes();
    // What was started last: the one that is wanted is started once.
    let mut started: Option<Arc<Pod>> = None;
    loop {
        changes.mark_unchanged();
        let wanted = goal.borrow_and_update().clone();
        let handle = pods.owned(&key).into_iter().next();
        match (wanted, handle) {
            (Some(pod), None) if started.as_ref() != Some(&pod) => {
                pods.start((*pod).clone(), (key.clone(), String::new()));
                started = Some(pod);
            }
            (Some(pod), Some(handle)) if started.as_ref() != Some(&pod) => {
                order(&handle, Stop::Deleted);
            }
            (Some(_), _) => {}
            (None, Some(handle)) => order(&handle, Stop::Deleted),
            (None, None) => {
                started = None;
                if pods.release::<Pod>(&key) {
                    return;
                }
            }
        }
        tokio::select! {
            changed = goal.changed() => if changed.is_err() { return },
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}
