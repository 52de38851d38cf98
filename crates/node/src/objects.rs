// SPDX-License-Identifier: Apache-2.0
//! The objects that there are: as the manifests said last, and as they run, which differs where somebody scaled or restarted.
//!
//! An object whose manifest did not change is never touched, as with `kubectl apply`; one whose manifest did is as that says, with
//! the time of its last restart kept. What runs is also in `manifests/`, one file each, for control. Read `runner.rs` for what
//! becomes of it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use maille_chassis::clock::Clock;
use maille_manifest::changes::{Change, ObjectKey, changes};
use maille_manifest::marks::RESTARTED;
use maille_manifest::objects::{Object, PodTemplate};
use maille_manifest::{load_text, object_json};
use parking_lot::Mutex;

use crate::cluster::{Cluster, replace};
use crate::kube_dns;
use crate::runner::{Pods, timestamp};

/// The most replicas that somebody may ask for, as in a manifest.
pub(crate) const MOST_REPLICAS: u32 = 200;

/// Shared by everybody who changes something.
#[derive(Debug)]
pub(crate) struct Objects {
    dir: PathBuf,
    cluster: Arc<Cluster>,
    pods: Arc<Pods>,
    clock: Clock,
    /// Locked while something is changed, so that two changes never mix.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// As the manifests said.
    said: BTreeMap<ObjectKey, Object>,
    /// As they run.
    live: BTreeMap<ObjectKey, Object>,
    /// Since when, RFC 3339.
    since: BTreeMap<ObjectKey, String>,
}

/// What became of an object, or would.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Changed {
    pub(crate) key: ObjectKey,
    pub(crate) before: Option<Object>,
    pub(crate) after: Option<Object>,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    #[error("{0}")]
    Manifests(String),
    #[error("no {kind} {namespace}/{name}")]
    Absent {
        kind: &'static str,
        namespace: String,
        name: String,
    },
    #[error("a {kind} cannot be {done}")]
    Fixed {
        kind: &'static str,
        done: &'static str,
    },
    #[error("{0} replicas are more than {MOST_REPLICAS}")]
    Replicas(u32),
    #[error("failed to write manifests/{file}")]
    Write {
        file: String,
        #[source]
        source: io::Error,
    },
}

// === impl Objects ===

impl Objects {
    /// Begins with `objects`, which are in `state_dir` already, and starts their pods.
    pub(crate) fn begin(
        state_dir: &Path,
        objects: Vec<Object>,
        cluster: Arc<Cluster>,
        pods: Arc<Pods>,
        clock: Clock,
    ) -> Self {
        let said: BTreeMap<ObjectKey, Object> = keyed(objects);
        let own = Self {
            dir: state_dir.join("manifests"),
            cluster,
            pods,
            state: Mutex::new(State {
                since: said
                    .keys()
                    .map(|key| (key.clone(), timestamp(clock.wall())))
                    .collect(),
                live: said.clone(),
                said,
            }),
            clock,
        };
        {
            let state = own.state.lock();
            own.cluster.declare(state.live.values());
            own.pods.apply(&changes(&[], state.live.values()));
        }
        own
    }

    /// Every object as it runs, with the time since when there is one of its kind and name.
    pub(crate) fn live(&self) -> Vec<Object> {
        let state = self.state.lock();
        let dated = |(key, object): (&ObjectKey, &Object)| {
            let mut object = object.clone();
            object.metadata_mut().creation_timestamp = state.since.get(key).cloned();
            object
        };
        state.live.iter().map(dated).collect()
    }

    /// Takes new manifests, files with name and text, in place of all earlier ones. Whole, or not at all and an error.
    pub(crate) fn apply(&self, files: &[(String, String)]) -> Result<Vec<Changed>, ApplyError> {
        let said = read(files)?;
        let mut state = self.state.lock();
        let live = followed(&state.said, &said, &state.live);
        let done = self.turn(&mut state, live)?;
        state.said = said;
        Ok(done)
    }

    /// What would differ from what runs now if `files` were all there is.
    pub(crate) fn differ(&self, files: &[(String, String)]) -> Result<Vec<Changed>, ApplyError> {
        let said = read(files)?;
        let state = self.state.lock();
        let would: BTreeMap<ObjectKey, Object> = said
            .into_iter()
            .map(|(key, object)| {
                let object = merged(state.live.get(&key), &object);
                (key, object)
            })
            .collect();
        Ok(told(&changes(state.live.values(), would.values())))
    }

    /// Sets how many pods an object has; how many it had.
    pub(crate) fn scale(&self, key: &ObjectKey, replicas: u32) -> Result<u32, ApplyError> {
        if replicas > MOST_REPLICAS {
            return Err(ApplyError::Replicas(replicas));
        }
        self.change(key, |object| {
            let known = object.replicas_mut().ok_or(ApplyError::Fixed {
                kind: key.kind,
                done: "scaled",
            })?;
            Ok(std::mem::replace(known, replicas))
        })
    }

    /// Replaces every pod of an object, as a change of its template would. `when`: RFC 3339.
    pub(crate) fn restart(&self, key: &ObjectKey, when: String) -> Result<(), ApplyError> {
        self.change(key, |object| {
            let template = lasting(object).ok_or(ApplyError::Fixed {
                kind: key.kind,
                done: "restarted",
            })?;
            let annotations = &mut template.metadata.annotations;
            annotations.insert(RESTARTED.to_owned(), when);
            Ok(())
        })
    }

    fn change<T>(
        &self,
        key: &ObjectKey,
        change: impl FnOnce(&mut Object) -> Result<T, ApplyError>,
    ) -> Result<T, ApplyError> {
        let mut state = self.state.lock();
        let mut live = state.live.clone();
        let Some(object) = live.get_mut(key) else {
            let ObjectKey {
                kind,
                namespace,
                name,
            } = key.clone();
            return Err(ApplyError::Absent {
                kind,
                namespace,
                name,
            });
        };
        let result = change(object)?;
        self.turn(&mut state, live)?;
        Ok(result)
    }

    /// From what runs to `live`: files first, so that nothing runs of which there is no record.
    fn turn(
        &self,
        state: &mut State,
        live: BTreeMap<ObjectKey, Object>,
    ) -> Result<Vec<Changed>, ApplyError> {
        let changes = changes(state.live.values(), live.values());
        for change in &changes {
            self.write(change)?;
        }
        self.cluster.declare(live.values());
        self.pods.apply(&changes);
        let done = told(&changes);
        drop(changes);
        state.since.retain(|key, _| live.contains_key(key));
        for key in live.keys() {
            let since = state.since.entry(key.clone());
            since.or_insert_with(|| timestamp(self.clock.wall()));
        }
        state.live = live;
        Ok(done)
    }

    fn write(&self, change: &Change<'_>) -> Result<(), ApplyError> {
        let file = change.key.file();
        let path = self.dir.join(&file);
        let written = match change.after {
            Some(object) => replace(&path, &object_json(object)),
            None => match std::fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            },
        };
        written.map_err(|source| ApplyError::Write { file, source })
    }
}

fn keyed(objects: Vec<Object>) -> BTreeMap<ObjectKey, Object> {
    let pairs = objects.into_iter();
    pairs
        .map(|object| (ObjectKey::of(&object), object))
        .collect()
}

/// The objects of `files`, and the cluster's own.
fn read(files: &[(String, String)]) -> Result<BTreeMap<ObjectKey, Object>, ApplyError> {
    let loaded = load_text(files).map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        ApplyError::Manifests(errors.join("\n"))
    })?;
    let mut objects = keyed(loaded.objects);
    let own = kube_dns::service().map_err(|error| ApplyError::Manifests(format!("{error:#}")))?;
    let own = Object::Service(own);
    objects.insert(ObjectKey::of(&own), own);
    Ok(objects)
}

/// What is to run once manifests that said `before` say `after`: what they say the same of stays as it runs.
fn followed(
    before: &BTreeMap<ObjectKey, Object>,
    after: &BTreeMap<ObjectKey, Object>,
    live: &BTreeMap<ObjectKey, Object>,
) -> BTreeMap<ObjectKey, Object> {
    let mut next = live.clone();
    for change in changes(before.values(), after.values()) {
        match change.after {
            Some(object) => {
                let object = merged(live.get(&change.key), object);
                next.insert(change.key, object);
            }
            None => drop(next.remove(&change.key)),
        }
    }
    next
}

/// `said` as it is to run in place of `live`: a restart is not undone by a manifest that does not know of it.
fn merged(live: Option<&Object>, said: &Object) -> Object {
    let mut object = said.clone();
    let when = live
        .and_then(Object::template)
        .and_then(|live| live.metadata.annotations.get(RESTARTED));
    if let (Some(when), Some(said)) = (when, lasting(&mut object)) {
        let annotations = &mut said.metadata.annotations;
        annotations
            .entry(RESTARTED.to_owned())
            .or_insert_with(|| when.clone());
    }
    object
}

/// The template of what keeps pods for ever; those of others end, and are not replaced.
fn lasting(object: &mut Object) -> Option<&mut PodTemplate> {
    match object {
        Object::Job(_) | Object::CronJob(_) => None,
        other => other.template_mut(),
    }
}

fn told(changes: &[Change<'_>]) -> Vec<Changed> {
    let one = |change: &Change<'_>| Changed {
        key: change.key.clone(),
        before: change.before.cloned(),
        after: change.after.cloned(),
    };
    changes.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use maille_manifest::objects::Deployment;

    use super::*;

    /// A Deployment of `replicas` pods with the variable COLOUR, and a ConfigMap beside it.
    fn manifests(replicas: u32, colour: &str) -> BTreeMap<ObjectKey, Object> {
        let text = format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec:\n  replicas: {replicas}\n  selector: {{matchLabels: {{app: web}}}}\n  \
             template:\n    metadata: {{labels: {{app: web}}}}\n    spec:\n      containers:\n        - name: web\n          command: [web]\n          \
             env: [{{name: COLOUR, value: {colour}}}]\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: map}}\n"
        );
        read(&[("app.yaml".to_owned(), text)]).unwrap()
    }

    fn deployment(objects: &mut BTreeMap<ObjectKey, Object>) -> &mut Deployment {
        let found = objects.values_mut().find_map(|object| match object {
            Object::Deployment(deployment) => Some(deployment),
            _ => None,
        });
        found.unwrap()
    }

    #[test]
    fn what_the_manifests_say_the_same_of_stays_as_it_runs() {
        let said = manifests(2, "red");
        let mut live = said.clone();
        let running = deployment(&mut live);
        running.spec.replicas = 5;
        let annotations = &mut running.spec.template.metadata.annotations;
        annotations.insert(RESTARTED.to_owned(), "then".to_owned());
        // Nothing new: scaled and restarted as before.
        assert_eq!(followed(&said, &said, &live), live);
        // A change is as the manifests say, with the restart kept: it must not be undone by a second rollout.
        let mut next = followed(&said, &manifests(2, "blue"), &live);
        let next = deployment(&mut next);
        assert_eq!(next.spec.replicas, 2);
        assert_eq!(next.spec.template.metadata.annotations[RESTARTED], "then");
        let colour = &next.spec.template.spec.containers[0].env[0].value;
        assert_eq!(colour.as_deref(), Some("blue"));
    }

    #[test]
    fn what_the_manifests_say_no_more_goes_but_not_what_is_the_clusters_own() {
        let said = manifests(1, "red");
        let mut less = said.clone();
        less.retain(|key, _| key.kind != "ConfigMap");
        let next = followed(&said, &less, &said);
        let kinds: Vec<_> = next.keys().map(|key| key.kind).collect();
        assert_eq!(kinds, ["Deployment", "Service"]);
    }
}
