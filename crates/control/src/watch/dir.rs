// SPDX-License-Identifier: Apache-2.0
//! A state directory as a source: `manifests/*` for services, `pods/UID/pod.json` for pods.
//!
//! [`Tree`] compares files with what was told before and is driven by hand in tests; [`DirSource`] adds inotify: any event
//! means "look there again", an overflow means "look everywhere". Files are never written. Read [`crate::run`] next.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::path::{Path, PathBuf};

use maille_manifest::{Object, Pod, from_json, load_text};
use maille_model::{ServiceId, WorkloadUid};
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::io::unix::AsyncFd;

use super::{Event, ObjectKey, Origin};
use crate::causes::with_causes;

/// The largest file that is read.
const FILE_BYTES: u64 = 4 << 20;
/// The name of a pod's object in its directory.
const POD_FILE: &str = "pod.json";

/// What the files said when they were read last.
#[derive(Debug)]
pub struct Tree {
    root: PathBuf,
    pods: BTreeSet<WorkloadUid>,
    objects: BTreeMap<ObjectKey, Object>,
    /// Text of each manifest when it made sense last.
    good: BTreeMap<String, String>,
    broken: BTreeSet<Origin>,
}

/// A [`Tree`] that hears of changes.
#[derive(Debug)]
pub struct DirSource {
    tree: Tree,
    inotify: AsyncFd<Kernel>,
    watches: HashMap<WatchDescriptor, Watched>,
}

/// nix's type, with the trait that tokio asks for.
#[derive(Debug)]
struct Kernel(Inotify);

/// What a watch is on.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Watched {
    Manifests,
    Pods,
    Pod(WorkloadUid),
}

/// Why a directory cannot be a source.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// Making or reading it failed.
    #[error("directory {} cannot be used", .path.display())]
    Directory {
        /// Which one.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel refused to watch it.
    #[error("directory {} cannot be watched (see fs.inotify.max_user_watches)", .path.display())]
    Watch {
        /// Which one.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: Errno,
    },
}

// === impl Tree ===

impl Tree {
    /// A view on `root` (a state directory) that has told nothing yet.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            pods: BTreeSet::new(),
            objects: BTreeMap::new(),
            good: BTreeMap::new(),
            broken: BTreeSet::new(),
        }
    }

    fn manifests_dir(&self) -> PathBuf {
        self.root.join("manifests")
    }

    fn pods_dir(&self) -> PathBuf {
        self.root.join("pods")
    }

    /// Reads the manifests again. They are one whole, because service addresses are chosen over all of them: a file that
    /// makes no sense is replaced by what it said when it did.
    pub fn read_manifests(&mut self, events: &mut Vec<Event>) {
        let texts = match self.manifest_texts() {
            Ok(texts) => texts,
            Err(error) => {
                let origin = Origin::from("manifests");
                return self.report_broken(origin, error.to_string(), events);
            }
        };
        let mut reasons: BTreeMap<String, String> = BTreeMap::new();
        let mut current: BTreeMap<String, String> = BTreeMap::new();
        for (file, text) in texts {
            match text {
                Ok(text) => {
                    current.insert(file, text);
                }
                Err(error) => {
                    current.extend(
                        self.good
                            .get(&file)
                            .map(|text| (file.clone(), text.clone())),
                    );
                    reasons.insert(file, error.to_string());
                }
            }
        }
        let mut loaded = load(&current);
        if let Err(errors) = &loaded {
            for (file, reason) in errors {
                match self.good.get(file) {
                    Some(text) => current.insert(file.clone(), text.clone()),
                    None => current.remove(file),
                };
                reasons.insert(file.clone(), reason.clone());
            }
            loaded = load(&current);
        }
        match loaded {
            Ok(objects) => {
                self.good = current;
                self.tell_objects(objects, events);
            }
            Err(errors) => reasons.extend(errors),
        }
        let origin = |file: &String| Origin::from(format!("manifests/{file}"));
        let broken: BTreeSet<Origin> = reasons.keys().map(origin).collect();
        let mended = |o: &&Origin| o.starts_with("manifests") && !broken.contains(*o);
        let mended: Vec<Origin> = self.broken.iter().filter(mended).cloned().collect();
        for origin in mended {
            self.report_mended(&origin, events);
        }
        for (file, reason) in &reasons {
            self.report_broken(origin(file), reason.clone(), events);
        }
    }

    fn manifest_texts(&self) -> io::Result<Vec<(String, io::Result<String>)>> {
        let mut texts = Vec::new();
        for entry in fs::read_dir(self.manifests_dir())? {
            let path = entry?.path();
            let known = ["yaml", "yml", "json"].map(|known| Some(OsStr::new(known)));
            let name = path.file_name().and_then(OsStr::to_str);
            if let Some(name) = name
                && known.contains(&path.extension())
                && !name.starts_with('.')
            {
                texts.push((name.to_owned(), read_text(&path)));
            }
        }
        Ok(texts)
    }

    fn tell_objects(&mut self, objects: Vec<Object>, events: &mut Vec<Event>) {
        let mut now = BTreeMap::new();
        for object in objects {
            if let Some(key) = key(&object) {
                now.insert(key, object);
            }
        }
        for key in self.objects.keys().filter(|key| !now.contains_key(key)) {
            events.push(Event::Delete {
                origin: Origin::from("manifests"),
                key: key.clone(),
            });
        }
        for (key, object) in &now {
            if self.objects.get(key) != Some(object) {
                events.push(Event::Apply {
                    origin: Origin::from("manifests"),
                    object: Box::new(object.clone()),
                });
            }
        }
        self.objects = now;
    }

    /// The pods that have a directory. Tells of those that are gone, not of those that are there.
    pub fn list_pods(&mut self, events: &mut Vec<Event>) -> BTreeSet<WorkloadUid> {
        let entries = match fs::read_dir(self.pods_dir()) {
            Ok(entries) => entries,
            Err(error) => {
                self.report_broken(Origin::from("pods"), error.to_string(), events);
                return self.pods.clone();
            }
        };
        self.report_mended(&Origin::from("pods"), events);
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let present: BTreeSet<WorkloadUid> =
            names.filter_map(|name| WorkloadUid::new(&name)).collect();
        let gone: Vec<WorkloadUid> = self.pods.difference(&present).cloned().collect();
        for uid in gone {
            self.drop_pod(&uid, events);
        }
        present
    }

    /// Reads one pod again.
    pub fn read_pod(&mut self, uid: &WorkloadUid, events: &mut Vec<Event>) {
        let path = self.pods_dir().join(uid.as_str()).join(POD_FILE);
        let bytes = match read_bytes(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.drop_pod(uid, events);
            }
            read => read,
        };
        let origin = pod_origin(uid);
        let pod = bytes.map_err(|error| error.to_string()).and_then(|bytes| {
            let pod = from_json::<Pod>(&bytes).map_err(|error| with_causes(&error))?;
            if pod.metadata.uid == uid.as_str() {
                Ok(pod)
            } else {
                Err("metadata.uid is not the directory's name".to_owned())
            }
        });
        match pod {
            Ok(pod) => {
                self.report_mended(&origin, events);
                self.pods.insert(uid.clone());
                events.push(Event::Apply {
                    origin,
                    object: Box::new(Object::Pod(Box::new(pod))),
                });
            }
            Err(reason) => self.report_broken(origin, reason, events),
        }
    }

    fn drop_pod(&mut self, uid: &WorkloadUid, events: &mut Vec<Event>) {
        self.report_mended(&pod_origin(uid), events);
        if self.pods.remove(uid) {
            events.push(Event::Delete {
                origin: pod_origin(uid),
                key: ObjectKey::Pod(uid.clone()),
            });
        }
    }

    fn report_broken(&mut self, origin: Origin, reason: String, events: &mut Vec<Event>) {
        self.broken.insert(origin.clone());
        events.push(Event::Broken { origin, reason });
    }

    fn report_mended(&mut self, origin: &Origin, events: &mut Vec<Event>) {
        if self.broken.remove(origin) {
            events.push(Event::Mended(origin.clone()));
        }
    }
}

// === impl Kernel ===

impl AsRawFd for Kernel {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

// === impl DirSource ===

impl DirSource {
    /// Opens `root`, making `manifests/` and `pods/` where they are missing, and reads everything: the events end with
    /// [`Event::InitDone`].
    pub fn open(root: &Path) -> Result<(Self, Vec<Event>), DirError> {
        let tree = Tree::new(root);
        for path in [tree.manifests_dir(), tree.pods_dir()] {
            fs::create_dir_all(&path).map_err(|source| DirError::Directory { path, source })?;
        }
        let failed = |source| DirError::Watch {
            path: root.to_owned(),
            source,
        };
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        let inotify = Inotify::init(flags).map_err(failed)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe; this descriptor is owned, and the same as long as it lives"
        )]
        let inotify = AsyncFd::new(Kernel(inotify)).map_err(|source| DirError::Directory {
            path: root.to_owned(),
            source,
        })?;
        let mut source = Self {
            tree,
            inotify,
            watches: HashMap::new(),
        };
        let mut events = Vec::new();
        source.look_everywhere(&mut events)?;
        events.push(Event::InitDone);
        Ok((source, events))
    }

    /// Waits until files changed and tells what follows; may tell nothing. Cancel-safe.
    pub async fn next(&mut self) -> Result<Vec<Event>, DirError> {
        let changes = loop {
            let lost = |source| DirError::Directory {
                path: self.tree.root.clone(),
                source,
            };
            let mut ready = self.inotify.readable().await.map_err(lost)?;
            match ready.get_inner().0.read_events() {
                Ok(changes) => break changes,
                Err(Errno::EAGAIN | Errno::EINTR) => ready.clear_ready(),
                Err(error) => return Err(lost(error.into())),
            }
        };
        let mut events = Vec::new();
        self.look(&changes, &mut events)?;
        Ok(events)
    }

    fn look(&mut self, changes: &[InotifyEvent], events: &mut Vec<Event>) -> Result<(), DirError> {
        let mut manifests = false;
        let mut pods: BTreeSet<WorkloadUid> = BTreeSet::new();
        for change in changes {
            if change.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                return self.look_everywhere(events);
            }
            if change.mask.contains(AddWatchFlags::IN_IGNORED) {
                self.watches.remove(&change.wd);
                continue;
            }
            let name = change.name.as_deref().and_then(OsStr::to_str);
            match self.watches.get(&change.wd) {
                Some(Watched::Manifests) => manifests = true,
                Some(Watched::Pods) => pods.extend(name.and_then(WorkloadUid::new)),
                Some(Watched::Pod(uid)) if name == Some(POD_FILE) => {
                    pods.insert(uid.clone());
                }
                Some(Watched::Pod(_)) | None => {}
            }
        }
        if manifests {
            self.tree.read_manifests(events);
        }
        for uid in pods {
            self.watch_pod(&uid)?;
            self.tree.read_pod(&uid, events);
        }
        Ok(())
    }

    fn look_everywhere(&mut self, events: &mut Vec<Event>) -> Result<(), DirError> {
        self.watch(&self.tree.manifests_dir(), Watched::Manifests)?;
        self.watch(&self.tree.pods_dir(), Watched::Pods)?;
        self.tree.read_manifests(events);
        for uid in self.tree.list_pods(events) {
            self.watch_pod(&uid)?;
            self.tree.read_pod(&uid, events);
        }
        Ok(())
    }

    /// A pod's directory may be gone again by now: then there is nothing to watch and an event about its parent to come.
    fn watch_pod(&mut self, uid: &WorkloadUid) -> Result<(), DirError> {
        let path = self.tree.pods_dir().join(uid.as_str());
        match self.watch(&path, Watched::Pod(uid.clone())) {
            Err(DirError::Watch {
                source: Errno::ENOENT | Errno::ENOTDIR,
                ..
            }) => Ok(()),
            watched => watched,
        }
    }

    fn watch(&mut self, path: &Path, watched: Watched) -> Result<(), DirError> {
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ONLYDIR;
        let added = self.inotify.get_ref().0.add_watch(path, flags);
        let descriptor = added.map_err(|source| DirError::Watch {
            path: path.to_owned(),
            source,
        })?;
        self.watches.insert(descriptor, watched);
        Ok(())
    }
}

fn pod_origin(uid: &WorkloadUid) -> Origin {
    Origin::from(format!("pods/{uid}/{POD_FILE}"))
}

/// What control reads of manifests: services and their slices.
fn key(object: &Object) -> Option<ObjectKey> {
    let metadata = object.metadata();
    let id = ServiceId {
        namespace: metadata.namespace.clone()?,
        name: metadata.name.clone(),
    };
    match object {
        Object::Service(_) => Some(ObjectKey::Service(id)),
        Object::EndpointSlice(_) => Some(ObjectKey::Slice(id)),
        _ => None,
    }
}

/// The objects of all manifests, or for each file that makes no sense the first reason.
fn load(texts: &BTreeMap<String, String>) -> Result<Vec<Object>, BTreeMap<String, String>> {
    if texts.is_empty() {
        return Ok(Vec::new());
    }
    let files: Vec<(String, String)> = texts.clone().into_iter().collect();
    match load_text(&files) {
        Ok(loaded) => Ok(loaded.objects),
        Err(errors) => {
            let mut reasons = BTreeMap::new();
            for error in errors {
                let reason = error.to_string();
                reasons.entry(error.file).or_insert(reason);
            }
            Err(reasons)
        }
    }
}

fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(FILE_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(io::Error::other(format!(
            "is larger than {FILE_BYTES} bytes"
        )));
    }
    Ok(bytes)
}

fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read_bytes(path)?).map_err(io::Error::other)
}

#[cfg(test)]
mod tests;
