// SPDX-License-Identifier: Apache-2.0
//! How the pods of an object are, in the words of its `status` on Kubernetes. Read `set.rs` and `numbered.rs` for what makes it so.

use serde_json::{Value, json};

use super::status::Outcome;
use super::{Handle, Keeper, OwnerKey, Pods, Stop};

impl Pods {
    /// The `status` of the object that `key` names; `None` for what makes no pods.
    pub(crate) fn status(&self, key: &OwnerKey) -> Option<Value> {
        let handles = self.owned(key);
        let known = self.handles.lock();
        match known.keepers.get(key)? {
            Keeper::Set(goal) => {
                let set = goal.borrow().clone()?;
                Some(set.status(&handles, self.around.clock.elapsed()))
            }
            Keeper::Numbered(goal) => {
                let set = goal.borrow().clone()?;
                let now = self.around.clock.elapsed();
                Some(super::numbered::status(&set, &handles, now))
            }
            Keeper::Job(_) => Some(job(&handles)),
            Keeper::Cron(_) | Keeper::Single(_) => None,
        }
    }
}

fn job(handles: &[Handle]) -> Value {
    let ended = |how: Outcome| {
        let ended = handles
            .iter()
            .filter(|handle| *handle.outcome.borrow() == Some(how));
        ended.count()
    };
    let runs = |handle: &&Handle| handle.outcome.borrow().is_none();
    json!({
        "active": handles.iter().filter(runs).count(),
        "ready": handles.iter().filter(|handle| handle.is_ready()).count(),
        "succeeded": ended(Outcome::Succeeded),
        "failed": ended(Outcome::Failed),
    })
}

impl Handle {
    /// It serves, and is not to end.
    pub(super) fn is_ready(&self) -> bool {
        *self.stop.borrow() == Stop::No && self.ready.borrow().is_some()
    }
}
