// SPDX-License-Identifier: Apache-2.0
//! Doing a plan, whole or undone. The kernel is behind a trait, so that a failure of each step can be tried.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use maille_sys::link::{Inside, LinkError, Net, Veth};
use maille_sys::nft::{self, NftError};
use maille_sys::{NetNs, netns, socket};

use super::plan::{Listener, Need, Place, Plan, Step};
use super::{Captured, Listeners, POD};

/// How long a link may take until it sends; mostly it is milliseconds, and a second where the kernel batches.
const READY: Duration = Duration::from_secs(10);

/// What does a step: the machine's kernel, or a test's.
pub trait Kernel {
    /// Does one step, or refuses and changes nothing.
    fn run(&mut self, step: &Step) -> Result<(), StepError>;
}

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// Netlink.
    #[error("netlink refused")]
    Link(#[from] LinkError),
    /// nftables.
    #[error("the rules cannot be applied")]
    Rules(#[from] NftError),
    /// A file or socket.
    #[error("the kernel refused")]
    Io(#[from] io::Error),
    /// A sysctl took a value and has another.
    #[error("{name} stayed {value}")]
    Unset {
        /// Which.
        name: String,
        /// What it is.
        value: String,
    },
}

/// Why a plan was not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A step failed; everything before it was undone.
    #[error("step {number} of the capture failed: {step}")]
    Undone {
        /// Which, counted from 1.
        number: usize,
        /// What was to be done.
        step: String,
        /// Why it was not.
        #[source]
        source: Box<StepError>,
    },
    /// A step failed, and then undoing did. The pod's wire may be cut; nothing of it is open.
    #[error("step {number} of the capture failed: {step}; and undoing it failed: {undo}: {reason}")]
    Stuck {
        /// Which, counted from 1.
        number: usize,
        /// What was to be done.
        step: String,
        /// Why it was not.
        #[source]
        source: Box<StepError>,
        /// The first undoing that failed.
        undo: String,
        /// Why.
        reason: String,
    },
    /// The plan did not open every listener.
    #[error("the plan opened no listener {0:?}")]
    NoListener(Listener),
}

/// Does every step of `plan`; after a failure undoes what was done, as far as it can be.
pub fn apply(plan: &Plan, kernel: &mut impl Kernel) -> Result<(), ApplyError> {
    for (done, step) in plan.steps.iter().enumerate() {
        let Err(source) = kernel.run(step).map_err(Box::new) else {
            continue;
        };
        // Every part is tried, also after a failure: a wire that is back without a route is better than no wire.
        let mut stuck = None;
        for undo in plan.undo(done) {
            if let Err(error) = kernel.run(&undo) {
                stuck.get_or_insert_with(|| (undo.to_string(), error.to_string()));
            }
        }
        let (number, step) = (done + 1, step.to_string());
        return Err(match stuck {
            None => ApplyError::Undone {
                number,
                step,
                source,
            },
            Some((undo, reason)) => ApplyError::Stuck {
                number,
                step,
                source,
                undo,
                reason,
            },
        });
    }
    Ok(())
}

/// The machine's kernel.
#[derive(Debug)]
pub struct Linux {
    pod: Side,
    mesh: Side,
    listeners: [Option<OwnedFd>; 4],
}

/// One of the two namespaces, entered once it is needed, and then for all steps.
#[derive(Debug)]
struct Side {
    namespace: NetNs,
    inside: Option<Inside>,
}

impl Side {
    const fn of(namespace: NetNs) -> Self {
        Self {
            namespace,
            inside: None,
        }
    }

    fn inside(&mut self) -> Result<&Inside, LinkError> {
        let inside = match self.inside.take() {
            Some(inside) => inside,
            None => Inside::enter(&self.namespace)?,
        };
        Ok(self.inside.insert(inside))
    }
}

impl Linux {
    /// For one pod; `mesh` is new and empty.
    pub const fn new(pod: NetNs, mesh: NetNs) -> Self {
        Self {
            pod: Side::of(pod),
            mesh: Side::of(mesh),
            listeners: [None, None, None, None],
        }
    }

    /// What was made.
    pub fn finish(self) -> Result<Captured, ApplyError> {
        let [outbound, inbound, mesh, metrics] = self.listeners;
        let listeners = Listeners {
            outbound: outbound.ok_or(ApplyError::NoListener(Listener::Outbound))?,
            inbound: inbound.ok_or(ApplyError::NoListener(Listener::Inbound))?,
            mesh: mesh.ok_or(ApplyError::NoListener(Listener::Mesh))?,
            metrics: metrics.ok_or(ApplyError::NoListener(Listener::Metrics))?,
        };
        Ok(Captured {
            mesh: self.mesh.namespace,
            listeners,
        })
    }

    const fn side(&mut self, place: Place) -> &mut Side {
        match place {
            Place::Pod => &mut self.pod,
            Place::Mesh => &mut self.mesh,
        }
    }

    fn net<F>(&mut self, place: Place, work: F) -> Result<(), StepError>
    where
        F: AsyncFnOnce(Net) -> Result<(), LinkError> + Send + 'static,
    {
        Ok(self.side(place).inside()?.net(work)?)
    }

    fn run<T, F>(&mut self, place: Place, work: F) -> Result<T, StepError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        Ok(self.side(place).inside()?.run(work)?)
    }

    fn sysctl(
        &mut self,
        place: Place,
        name: &str,
        value: &'static str,
        need: Need,
    ) -> Result<(), StepError> {
        let of = name.to_owned();
        let set = self.run(place, move || netns::sysctl_here(&of, value))?;
        let is = match set {
            Err(_) if need == Need::May => return Ok(()),
            done => done?,
        };
        if is == value || need == Need::May {
            Ok(())
        } else {
            Err(StepError::Unset {
                name: name.to_owned(),
                value: is,
            })
        }
    }

    fn listen(
        &mut self,
        listener: Listener,
        port: u16,
        mark: Option<u32>,
        backlog: u32,
    ) -> Result<(), StepError> {
        let at = SocketAddr::new(IpAddr::from(Ipv6Addr::UNSPECIFIED), port);
        let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
        let listen = move || socket::listen_transparent(at, backlog, mark);
        let made = self.run(Place::Mesh, listen)??;
        self.listeners[listener as usize] = Some(made.into());
        Ok(())
    }
}

impl Kernel for Linux {
    fn run(&mut self, step: &Step) -> Result<(), StepError> {
        let mesh = Place::Mesh;
        match step.clone() {
            Step::Sysctl {
                place,
                name,
                value,
                need,
            } => self.sysctl(place, &name, value, need),
            Step::Listen {
                listener,
                port,
                mark,
                backlog,
            } => self.listen(listener, port, mark, backlog),
            Step::Up(place, name) => self.net(place, async move |net| net.up(&name).await),
            Step::Ready(place, name) => {
                self.net(place, async move |net| net.ready(&name, READY).await)
            }
            Step::Down(place, name) => self.net(place, async move |net| net.down(&name).await),
            Step::Move { from, to } => {
                let target = self.side(to.0).namespace.clone();
                self.net(from.0, async move |net| {
                    net.move_link(&from.1, &to.1, &target).await
                })
            }
            Step::Pair {
                interface,
                mac,
                mtu,
            } => {
                let pod = self.pod.namespace.clone();
                self.net(mesh, async move |net| {
                    let pair = Veth {
                        name: POD,
                        peer: &interface,
                        peer_mac: Some(mac),
                        mtu,
                    };
                    net.add_pair(&pair, &pod).await
                })
            }
            Step::Remove(place, name) => self.net(place, async move |net| net.delete(&name).await),
            Step::Rules(text) => Ok(self.run(mesh, move || nft::apply_here(&text))??),
            Step::Address(place, name, address) => self.net(place, async move |net| {
                net.add_address(&name, address).await
            }),
            Step::Neighbour(place, name, ip, mac) => self.net(place, async move |net| {
                net.add_neighbour(&name, ip, mac).await
            }),
            Step::Route(place, name, route) => {
                self.net(place, async move |net| net.add_route(&name, &route).await)
            }
            Step::LocalDefault(table) => {
                self.net(mesh, async move |net| net.add_local_default(table).await)
            }
            Step::LocalLink(link, table) => self.net(mesh, async move |net| {
                net.add_local_link(&link, table).await
            }),
            Step::UnreachableDefault(table) => self.net(mesh, async move |net| {
                net.add_unreachable_default(table).await
            }),
            Step::Rule(rule) => self.net(mesh, async move |net| net.add_mark_rule(&rule).await),
            Step::LocalRule(preference) => {
                self.net(mesh, async move |net| net.move_local_rule(preference).await)
            }
        }
    }
}

#[cfg(test)]
mod tests;
