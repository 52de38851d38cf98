// SPDX-License-Identifier: Apache-2.0
//! A failure at every step leaves what was there before. The double keeps the state of both namespaces as the kernel would;
//! the same is tried with the real one in `tests/netns`.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::capture::testing::pod;
use crate::capture::{Options, plan};

/// Links by namespace and name, with everything on them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct World {
    links: BTreeMap<(bool, String), Link>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Link {
    up: bool,
    wire: bool,
    dress: BTreeSet<String>,
}

struct Double {
    world: World,
    /// Steps until one fails.
    patience: Option<usize>,
}

fn key(place: Place, name: &str) -> (bool, String) {
    (place == Place::Mesh, name.to_owned())
}

impl Double {
    fn new(patience: Option<usize>) -> Self {
        let pod = pod();
        let mut link = Link {
            up: true,
            wire: true,
            dress: BTreeSet::new(),
        };
        link.dress
            .extend(pod.addresses.iter().map(|a| format!("{a:?}")));
        link.dress
            .extend(pod.routes.iter().map(|r| format!("{r:?}")));
        link.dress
            .extend(pod.neighbours.iter().map(|n| format!("{n:?}")));
        let links = [
            (key(Place::Pod, "eth0"), link),
            (key(Place::Mesh, "lo"), Link::default()),
        ];
        Self {
            world: World {
                links: BTreeMap::from(links),
            },
            patience,
        }
    }

    fn link(&mut self, place: Place, name: &str) -> Result<&mut Link, StepError> {
        self.world
            .links
            .get_mut(&key(place, name))
            .ok_or_else(|| LinkError::Absent(name.into()).into())
    }

    /// Everything on a link that is down is refused or lost, as in the kernel.
    fn put(&mut self, place: Place, name: &str, what: String) -> Result<(), StepError> {
        let link = self.link(place, name)?;
        if !link.up {
            return Err(io::Error::from(io::ErrorKind::NetworkDown).into());
        }
        link.dress.insert(what);
        Ok(())
    }
}

impl Kernel for Double {
    fn run(&mut self, step: &Step) -> Result<(), StepError> {
        match &mut self.patience {
            Some(0) => {
                self.patience = None;
                return Err(io::Error::other("injected").into());
            }
            Some(left) => *left -= 1,
            None => {}
        }
        match step {
            Step::Up(place, name) => self.link(*place, name)?.up = true,
            Step::Down(place, name) => {
                let link = self.link(*place, name)?;
                link.up = false;
                link.dress.clear();
            }
            Step::Move { from, to } => {
                let mut link = self.link(from.0, &from.1)?.clone();
                if self.world.links.contains_key(&key(to.0, &to.1)) {
                    return Err(io::Error::from(io::ErrorKind::AlreadyExists).into());
                }
                self.world.links.remove(&key(from.0, &from.1));
                link.up = false;
                link.dress.clear();
                self.world.links.insert(key(to.0, &to.1), link);
            }
            Step::Pair { interface, .. } => {
                for at in [key(Place::Mesh, POD), key(Place::Pod, interface)] {
                    if self.world.links.insert(at, Link::default()).is_some() {
                        return Err(io::Error::from(io::ErrorKind::AlreadyExists).into());
                    }
                }
            }
            Step::Remove(place, name) => {
                self.world.links.remove(&key(*place, name));
                self.world.links.retain(|at, link| link.wire || at.0);
            }
            Step::Address(place, name, net) => self.put(*place, name, format!("{net:?}"))?,
            Step::Route(place, name, route) => self.put(*place, name, format!("{route:?}"))?,
            Step::Neighbour(place, name, ip, mac) => {
                self.put(*place, name, format!("{:?}", (ip, mac)))?
            }
            Step::Ready(place, name) => assert!(self.link(*place, name)?.up),
            Step::Sysctl { .. }
            | Step::Listen { .. }
            | Step::Rules(_)
            | Step::LocalDefault(_)
            | Step::LocalLink(..)
            | Step::UnreachableDefault(_)
            | Step::Rule(_)
            | Step::LocalRule(_) => {}
        }
        Ok(())
    }
}

#[test]
fn a_failure_at_any_step_leaves_what_was_there() {
    let plan = plan(&pod(), &Options::default());
    for step in 0..plan.steps.len() {
        let mut double = Double::new(Some(step));
        let before = double.world.clone();
        let error = apply(&plan, &mut double).unwrap_err();
        assert!(
            matches!(&error, ApplyError::Undone { number, .. } if *number == step + 1),
            "{error}"
        );
        let mut after = double.world;
        // The mesh namespace goes as a whole.
        after.links.retain(|at, _| !at.0 || at.1 == "lo");
        after.links.get_mut(&key(Place::Mesh, "lo")).unwrap().up = false;
        assert_eq!(after, before, "step {step}: {:?}", plan.steps[step]);
    }
}

#[test]
fn the_whole_plan_dresses_both_links() {
    let mut double = Double::new(None);
    let before = double.world.clone();
    apply(&plan(&pod(), &Options::default()), &mut double).unwrap();
    let wire = double.link(Place::Mesh, "up0").unwrap().clone();
    assert!(wire.up && wire.wire);
    let eth = double.link(Place::Pod, "eth0").unwrap().clone();
    assert!(eth.up && !eth.wire);
    let original = &before.links[&key(Place::Pod, "eth0")].dress;
    assert_eq!(&eth.dress, original);
    // Each kernel makes the link-local address by itself, but for that of the mesh namespace, which is told not to.
    let link_local = format!("{}/64", pod().link_local());
    let own: Vec<_> = wire.dress.difference(original).collect();
    assert_eq!(own, [&link_local]);
    assert!(wire.dress.is_superset(original));
}
