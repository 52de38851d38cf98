// SPDX-License-Identifier: Apache-2.0
//! What pods trust: the anchors, in a ConfigMap `maille-trust` of each namespace that has pods of the mesh or is meant to.
//!
//! A pod whose namespace has none yet waits for it, so it is written as soon as a namespace or a pod asks for it. It is removed
//! where nobody does any more. Written by whoever holds the lease. Read [`super::bundle`] next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::core::PartialObjectMeta;
use maille_chassis::clock::Clock;
use maille_chassis::limited;
use maille_model::Membership;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use super::leader::Leading;
use super::mirror::Mirror;
use super::namespaces::Namespaces;
use super::{CallError, Cluster, MANAGED_BY, MANAGER, call, watch_one};
use crate::causes::with_causes;
use crate::hub::Hub;
use crate::keyring::Keyring;

/// The ConfigMap's name in each namespace.
const NAME: &str = "maille-trust";
/// Its key.
const ANCHORS: &str = "ca.crt";
/// The role that owns what control writes: when it is deleted, so is all of it.
const OWNER: &str = "maille-control";
/// Changes that come together are settled together.
const TOGETHER: Duration = Duration::from_millis(50);
/// Until what could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// A ConfigMap as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Written {
    anchors: String,
    ours: bool,
    /// The uid of what it goes away with.
    owner: Option<String>,
}

/// A ConfigMap as it should be.
#[derive(Clone, Copy, Debug)]
struct Right<'a> {
    anchors: &'a str,
    /// The uid of what it is to go away with, where that is known.
    owner: Option<&'a str>,
}

/// What is to be done in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Write,
    Remove,
}

struct Keeper {
    cluster: Cluster,
    hub: Arc<Hub>,
    keyring: Keyring,
    namespaces: watch::Receiver<Namespaces>,
    written: Mirror<Written>,
    owner: Option<OwnerReference>,
}

/// Keeps the ConfigMaps, until the process ends.
pub async fn keep(
    cluster: Cluster,
    (hub, clock): (Arc<Hub>, Clock),
    keyring: Keyring,
    mut namespaces: watch::Receiver<Namespaces>,
    mut leading: Leading,
) {
    let mut maps = watch_one(
        &cluster,
        Api::<ConfigMap>::all(cluster.client.clone()),
        NAME,
    );
    let (mut changes, mut anchors) = (hub.changes(), keyring.from_now());
    let mut keeper = Keeper {
        cluster: cluster.clone(),
        hub: hub.clone(),
        keyring,
        namespaces: namespaces.clone(),
        written: Mirror::new(),
        owner: None,
    };
    let mut due = None;
    loop {
        let wait = async {
            match due {
                Some(at) => clock.until(at).await,
                None => std::future::pending().await,
            }
        };
        let settle = tokio::select! {
            changed = namespaces.changed() => match changed {
                Ok(()) => false,
                Err(_) => return,
            },
            step = maps.next() => {
                match step {
                    None => return,
                    Some(Ok(step)) => keeper.written.take(step, written),
                    Some(Err(error)) => limited!(warn, error = %with_causes(&error), "watch on trust began again"),
                }
                false
            }
            changed = changes.recv() => match changed {
                Ok(_) | Err(RecvError::Lagged(_)) => false,
                Err(RecvError::Closed) => return,
            },
            _ = anchors.next() => false,
            () = leading.changed() => false,
            () = wait => true,
        };
        if !settle {
            due.get_or_insert_with(|| clock.now() + TOGETHER);
        } else if leading.now() && !keeper.settle().await {
            due = Some(clock.now() + AGAIN);
        } else {
            due = None;
        }
    }
}

// === impl Keeper ===

impl Keeper {
    /// Makes every namespace as it should be; `false` where something is left to do.
    async fn settle(&mut self) -> bool {
        let complete = self.namespaces.borrow().is_complete() && self.written.is_complete();
        let (true, Some(authority)) = (complete, self.keyring.current()) else {
            return true;
        };
        if !self.hub.world().is_complete() {
            return false;
        }
        let anchors = authority.kept().anchors;
        let wanted = self.wanted();
        if !self.deeds(&wanted, &anchors).is_empty() {
            // Whoever installs the mesh anew makes another: what names the one before is collected.
            self.owner = self.find_owner().await;
        }
        let mut done = true;
        for (namespace, deed) in self.deeds(&wanted, &anchors) {
            let result = match deed {
                Deed::Write => self.write(&namespace, &anchors).await,
                Deed::Remove => self.remove(&namespace).await,
            };
            if let Err(error) = result {
                done = false;
                limited!(warn, namespace, error = %with_causes(&error), "ConfigMap {NAME} not as it should be");
            }
        }
        done
    }

    fn deeds(&self, wanted: &BTreeSet<String>, anchors: &str) -> Vec<(String, Deed)> {
        let owner = self.owner.as_ref().map(|owner| owner.uid.as_str());
        deeds(wanted, self.written.now(), Right { anchors, owner })
    }

    /// Namespaces that should have one.
    fn wanted(&self) -> BTreeSet<String> {
        let namespaces = self.namespaces.borrow().clone();
        let mut wanted: BTreeSet<String> = namespaces.asking().map(str::to_owned).collect();
        wanted.insert(self.cluster.namespace.clone());
        let world = self.hub.world();
        let meshed = world.index.pods().filter(|pod| {
            pod.workload.membership == Membership::Meshed
                && pod.phase != crate::index::Phase::Finished
        });
        for pod in meshed {
            if !wanted.contains(pod.workload.namespace.as_str()) {
                wanted.insert(pod.workload.namespace.to_string());
            }
        }
        wanted
    }

    async fn write(&self, namespace: &str, anchors: &str) -> Result<(), CallError> {
        let (label, value) = MANAGED_BY;
        let map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(NAME.to_owned()),
                namespace: Some(namespace.to_owned()),
                labels: Some(BTreeMap::from([(label.to_owned(), value.to_owned())])),
                owner_references: self.owner.clone().map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([(ANCHORS.to_owned(), anchors.to_owned())])),
            ..ConfigMap::default()
        };
        let api = Api::<ConfigMap>::namespaced(self.cluster.client.clone(), namespace);
        let params = PatchParams::apply(MANAGER).force();
        call(api.patch(NAME, &params, &Patch::Apply(&map))).await?;
        tracing::info!(namespace, "trust written");
        Ok(())
    }

    async fn remove(&self, namespace: &str) -> Result<(), CallError> {
        let api = Api::<ConfigMap>::namespaced(self.cluster.client.clone(), namespace);
        match call(api.delete(NAME, &DeleteParams::default())).await {
            Ok(_) => tracing::info!(namespace, "trust removed: nobody there is in the mesh"),
            Err(error) if error.code() == Some(404) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Without it everything works, but for what is left behind when the mesh is deleted.
    async fn find_owner(&self) -> Option<OwnerReference> {
        let roles = Api::<PartialObjectMeta<ClusterRole>>::all(self.cluster.client.clone());
        let role = call(roles.get_metadata(OWNER)).await;
        match role {
            Ok(role) => Some(OwnerReference {
                api_version: "rbac.authorization.k8s.io/v1".to_owned(),
                kind: "ClusterRole".to_owned(),
                name: OWNER.to_owned(),
                uid: role.metadata.uid?,
                ..OwnerReference::default()
            }),
            Err(error) => {
                limited!(info, error = %with_causes(&error), "ConfigMaps have no owner");
                None
            }
        }
    }
}

fn written(map: ConfigMap) -> Option<(String, Written)> {
    let (label, value) = MANAGED_BY;
    let labels = map.metadata.labels.unwrap_or_default();
    let anchors = map.data.and_then(|mut data| data.remove(ANCHORS));
    let owners = map.metadata.owner_references.into_iter().flatten();
    let owner = owners.map(|owner| owner.uid).next();
    Some((
        map.metadata.namespace?,
        Written {
            anchors: anchors.unwrap_or_default(),
            ours: labels.get(label).map(String::as_str) == Some(value),
            owner,
        },
    ))
}

fn deeds(
    wanted: &BTreeSet<String>,
    written: &BTreeMap<String, Written>,
    right: Right<'_>,
) -> Vec<(String, Deed)> {
    let is_right = |namespace: &&String| {
        written.get(*namespace).is_some_and(|written| {
            let owned = right.owner.is_none() || written.owner.as_deref() == right.owner;
            written.ours && written.anchors == right.anchors && owned
        })
    };
    let write = wanted.iter().filter(|namespace| !is_right(namespace));
    let write = write.map(|namespace| (namespace.clone(), Deed::Write));
    let unwanted = written
        .iter()
        .filter(|(namespace, written)| written.ours && !wanted.contains(*namespace));
    let remove = unwanted.map(|(namespace, _)| (namespace.clone(), Deed::Remove));
    write.chain(remove).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_right_is_touched_and_nothing_of_others_removed() {
        let wanted = BTreeSet::from(["new", "old", "orphan", "right", "taken"].map(str::to_owned));
        let is = |anchors: &str, ours, owner: &str| Written {
            anchors: anchors.to_owned(),
            ours,
            owner: Some(owner.to_owned()),
        };
        let written = BTreeMap::from([
            ("foreign".to_owned(), is("theirs", false, "x")),
            ("left".to_owned(), is("now", true, "u1")),
            ("old".to_owned(), is("before", true, "u1")),
            ("orphan".to_owned(), is("now", true, "u0")),
            ("right".to_owned(), is("now", true, "u1")),
            ("taken".to_owned(), is("now", false, "u1")),
        ]);
        let right = Right {
            anchors: "now",
            owner: Some("u1"),
        };
        let expected = [
            ("new", Deed::Write),
            ("old", Deed::Write),
            ("orphan", Deed::Write),
            ("taken", Deed::Write),
            ("left", Deed::Remove),
        ];
        let expected = expected.map(|(name, deed)| (name.to_owned(), deed));
        assert_eq!(deeds(&wanted, &written, right), expected);
        // Nobody knows the owner: what is there may stay.
        let unknown = Right {
            owner: None,
            ..right
        };
        let told = deeds(&wanted, &written, unknown);
        assert!(!told.iter().any(|(namespace, _)| namespace == "orphan"));
    }
}
