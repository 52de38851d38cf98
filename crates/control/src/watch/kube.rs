// SPDX-License-Identifier: Apache-2.0
//! The API server as a source: pods, services, slices that people wrote, and the ranges of nodes and services.
//!
//! Each kind is listed once, then watched; a watch that ends is taken up where it was, and one that cannot be is begun again by
//! a list, of which only the differences are told ([`book`]). While the server is away nothing is told: what was known
//! holds. Nothing of an object is kept but its key. Slices that Kubernetes makes of pods are not asked for: the index
//! selects pods itself, and knows of their readiness sooner. Read [`book`], then [`crate::index`].

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use futures_util::stream::{self, BoxStream, StreamExt as _};
use ipnet::IpNet;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Config, watcher};
use kube::{Api, Client, Resource as _};
use maille_manifest::objects::EndpointSlice;
use maille_manifest::{Object, Pod, Service};
use maille_model::{ClusterRanges, ServiceId, WorkloadUid};

use super::{Event, ObjectKey, Origin};
use crate::pauses::{Pauses, counting};

mod book;
mod narrow;
mod seen;

use book::{Book, RangeBook, Told};
use narrow::{Node, Ranges as _, ServiceCidr};
use seen::{Seen, Watched};

/// Objects that the server sends at a time when it lists: what is held of them at once while they are narrowed.
const PAGE: u32 = 100;
/// Steps that are taken as one change.
const STEPS: usize = 256;
/// Slices of services that select pods; the label is Kubernetes' own.
const WRITTEN: &str = "endpointslice.kubernetes.io/managed-by!=endpointslice-controller.k8s.io";

/// A step of one of the watches.
enum Step {
    Pod(Box<Watching<Pod>>),
    Service(Watching<Service>),
    Slice(Watching<EndpointSlice>),
    Node(Watching<Node>),
    ServiceCidr(Watching<ServiceCidr>),
}

type Watching<T> = Result<watcher::Event<Seen<T>>, watcher::Error>;

/// An object's key, and where it is, for reports.
type Known = (ObjectKey, Origin);

/// An API server that tells what there is.
pub struct KubeSource {
    steps: BoxStream<'static, Vec<Step>>,
    pods: Book<Known>,
    services: Book<Known>,
    slices: Book<Known>,
    nodes: Book<String>,
    cidrs: Book<String>,
    node_ranges: RangeBook<Node>,
    service_ranges: RangeBook<ServiceCidr>,
    /// Ranges that people gave.
    given: Vec<IpNet>,
    /// What was told of ranges, and whether that may have changed.
    ranges: Option<ClusterRanges>,
    ranges_due: bool,
    broken: BTreeSet<Origin>,
    complete: bool,
}

// === impl KubeSource ===

impl KubeSource {
    /// A source on the server of `client` that has told nothing yet. `given`: ranges that people gave, beside those that nodes
    /// and services have.
    pub fn new(client: &Client, restarts: &Arc<AtomicU64>, given: &[IpNet]) -> Self {
        let server = (client, restarts);
        let all = [
            watch(server, Config::default())
                .map(|step| Step::Pod(Box::new(step)))
                .boxed(),
            watch(server, Config::default()).map(Step::Service).boxed(),
            watch(server, Config::default().labels(WRITTEN))
                .map(Step::Slice)
                .boxed(),
            watch(server, Config::default()).map(Step::Node).boxed(),
            watch(server, Config::default())
                .map(Step::ServiceCidr)
                .boxed(),
        ];
        Self {
            steps: stream::select_all(all).ready_chunks(STEPS).boxed(),
            pods: Book::new(),
            services: Book::new(),
            slices: Book::new(),
            nodes: Book::new(),
            cidrs: Book::new(),
            node_ranges: RangeBook::new(),
            service_ranges: RangeBook::new(),
            given: given.to_vec(),
            ranges: None,
            ranges_due: true,
            broken: BTreeSet::new(),
            complete: false,
        }
    }

    /// Waits until the server says something and tells what follows; may tell nothing. Cancel-safe.
    pub async fn next(&mut self) -> Vec<Event> {
        let Some(steps) = self.steps.next().await else {
            // A watch never ends: it is begun again.
            return std::future::pending().await;
        };
        let mut events = Vec::new();
        for step in steps {
            self.take(step, &mut events);
        }
        if std::mem::take(&mut self.ranges_due) {
            let ranges = self.all_ranges();
            if self.ranges.as_ref() != Some(&ranges) {
                self.ranges = Some(ranges.clone());
                events.push(Event::Ranges(ranges));
            }
        }
        let complete = self.pods.is_complete()
            && self.services.is_complete()
            && self.slices.is_complete()
            && self.nodes.is_complete()
            && self.cidrs.is_complete();
        if complete && !self.complete {
            self.complete = true;
            events.push(Event::InitDone);
        }
        events
    }

    fn take(&mut self, step: Step, events: &mut Vec<Event>) {
        match step {
            Step::Pod(step) => {
                let Some(step) = said(*step, &mut self.pods) else {
                    return;
                };
                let told = self.pods.take(step, |seen| {
                    let uid = WorkloadUid::new(seen.meta().uid.as_deref()?)?;
                    Some((ObjectKey::Pod(uid), origin(&id(seen)?, "pods")))
                });
                self.tell(told, |pod| Object::Pod(Box::new(pod)), events);
            }
            Step::Service(step) => {
                let Some(step) = said(step, &mut self.services) else {
                    return;
                };
                let told = self.services.take(step, |seen| {
                    let id = id(seen)?;
                    let origin = origin(&id, "services");
                    Some((ObjectKey::Service(id), origin))
                });
                self.tell(told, Object::Service, events);
            }
            Step::Slice(step) => {
                let Some(step) = said(step, &mut self.slices) else {
                    return;
                };
                let told = self.slices.take(step, |seen| {
                    let id = id(seen)?;
                    let origin = origin(&id, "endpointslices");
                    Some((ObjectKey::Slice(id), origin))
                });
                self.tell(told, Object::EndpointSlice, events);
            }
            Step::Node(step) => {
                self.ranges_due = true;
                if let Some(step) = said(step, &mut self.nodes) {
                    self.node_ranges.take(self.nodes.take(step, name));
                }
            }
            Step::ServiceCidr(step) => {
                self.ranges_due = true;
                if let Some(step) = said(step, &mut self.cidrs) {
                    self.service_ranges.take(self.cidrs.take(step, name));
                }
            }
        }
    }

    fn tell<T>(
        &mut self,
        told: Vec<Told<Known, T>>,
        object: impl Fn(T) -> Object,
        events: &mut Vec<Event>,
    ) {
        for told in told {
            let ((key, origin), what) = match told {
                Told::Is(known, read) => (known, Ok(Some(object(read)))),
                Told::Gone(known) => (known, Ok(None)),
                Told::Broken(known, reason) => (known, Err(reason)),
            };
            if what.is_ok() && self.broken.remove(&origin) {
                events.push(Event::Mended(origin.clone()));
            }
            events.push(match what {
                Ok(Some(object)) => Event::Apply {
                    origin,
                    object: Box::new(object),
                },
                Ok(None) => Event::Delete { origin, key },
                Err(reason) => {
                    self.broken.insert(origin.clone());
                    Event::Broken { origin, reason }
                }
            });
        }
    }

    fn all_ranges(&self) -> ClusterRanges {
        let mut all: BTreeSet<IpNet> = self.given.iter().map(IpNet::trunc).collect();
        all.extend(self.node_ranges.all(Node::ranges));
        all.extend(self.service_ranges.all(ServiceCidr::ranges));
        ClusterRanges(all.into_iter().collect())
    }
}

impl fmt::Debug for KubeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubeSource")
            .field("complete", &self.complete)
            .finish_non_exhaustive()
    }
}

fn watch<T: Watched>(
    (client, restarts): (&Client, &Arc<AtomicU64>),
    config: Config,
) -> BoxStream<'static, Watching<T>> {
    let api = Api::<Seen<T>>::all_with(client.clone(), &());
    watcher(api, config.page_size(PAGE))
        .backoff(Pauses::default())
        .inspect(counting(restarts))
        .boxed()
}

/// The step, unless the watch had to be begun again: then why is logged. A server that knows no such kind has none of it.
fn said<T: Watched, K: Clone + Eq + std::hash::Hash>(
    step: Watching<T>,
    book: &mut Book<K>,
) -> Option<watcher::Event<Seen<T>>> {
    let error = match step {
        Ok(step) => return Some(step),
        Err(error) => error,
    };
    if let watcher::Error::InitialListFailed(kube::Error::Api(status)) = &error
        && status.code == 404
    {
        if !book.is_complete() {
            tracing::warn!(kind = T::KIND, "the API server knows no such kind");
        }
        book.absent();
        return None;
    }
    maille_chassis::limited!(warn, kind = T::KIND, error = %crate::causes::with_causes(&error), "watch began again, what was known holds");
    None
}

fn id<T: Watched>(seen: &Seen<T>) -> Option<ServiceId> {
    let meta = seen.meta();
    Some(ServiceId {
        namespace: meta.namespace.as_deref()?.parse().ok()?,
        name: meta.name.as_deref()?.parse().ok()?,
    })
}

fn name<T: Watched>(seen: &Seen<T>) -> Option<String> {
    seen.meta().name.clone()
}

fn origin(id: &ServiceId, plural: &str) -> Origin {
    Origin::from(format!("{plural}/{id}"))
}
