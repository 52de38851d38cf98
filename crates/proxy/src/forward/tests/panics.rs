// SPDX-License-Identifier: Apache-2.0
//! Panics, brought about by breaking what the core relies on: they end whom they are about, and nobody else.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use maille_engine::snapshot::Snapshot;
use parking_lot::Mutex;

use super::super::recover::{Doubt, Work};
use super::super::{Core, Exchange, Id};
use super::sim::{App, Sim, answer, post};

/// The hook is one for the whole process.
static HOOK: Mutex<()> = Mutex::new(());

/// Runs `work`, which may change what is done at a panic: afterwards that is as it was.
pub(crate) fn hooked<T>(work: impl FnOnce() -> T) -> T {
    let _only = HOOK.lock();
    let usual = std::panic::take_hook();
    let done = catch_unwind(AssertUnwindSafe(work));
    std::panic::set_hook(usual);
    done.unwrap_or_else(|why| resume_unwind(why))
}

/// Has `call` panic, and the core recover from it.
fn panics(core: &mut Core, call: impl FnOnce(&mut Core)) -> Result<(), Doubt> {
    let panicked = hooked(|| {
        std::panic::set_hook(Box::new(|_| {}));
        catch_unwind(AssertUnwindSafe(|| call(core))).is_err()
    });
    assert!(panicked, "it was to panic");
    core.recover()
}

impl Core {
    /// How many exchanges are under way.
    pub(crate) fn exchanges(&self) -> usize {
        self.exchanges.len()
    }

    /// Breaks the exchange whose request begins like this: its head is longer than what there is of it, so that whoever reads it panics.
    pub(crate) fn break_exchange(&mut self, begins: &[u8]) {
        let ids = self.exchanges.ids().collect::<Vec<_>>();
        let of = |id: &Id<Exchange>| {
            let exchange = self.exchanges.get(*id);
            exchange.is_some_and(|exchange| exchange.replay.starts_with(begins))
        };
        let id = ids.into_iter().find(of).unwrap();
        self.exchanges.get_mut(id).unwrap().request_head.length = usize::MAX;
    }
}

/// A core that knows the mesh and itself, but no service.
fn forgetful(full: &Snapshot) -> Arc<Snapshot> {
    let mut snapshot = Snapshot::new();
    snapshot.set_mesh((**full.mesh().unwrap()).clone());
    snapshot.set_own((**full.own().unwrap()).clone());
    Arc::new(snapshot)
}

fn exchanges(core: &Core) -> Vec<Id<Exchange>> {
    core.exchanges.ids().collect()
}

/// Three clients: one whose connection idles, one whose request is broken, one whose request waits beside it, over one link.
#[test]
fn a_panic_ends_whom_it_is_about_and_nobody_else() {
    let mut sim = Sim::http(1);
    sim.request(App::new(post(10), false), answer(&body(10)));
    sim.run(1);
    let links: Vec<_> = sim.core(0).links.table.ids().collect();
    assert_eq!(links.len(), 1);
    let full = Arc::clone(&sim.core(0).snapshot);
    let none = forgetful(&full);
    sim.core(0).learn(none);
    sim.request(App::new(post(30), false), Vec::new());
    sim.request(App::new(post(40), false), answer(&body(40)));
    for _ in 0..2_000 {
        sim.step();
    }
    let core = sim.core(0);
    let parked = exchanges(core);
    assert_eq!(parked.len(), 2, "both wait for control");
    // The head is longer than what there is of it: whoever reads it panics.
    let broken = parked
        .into_iter()
        .find(|id| core.exchanges.get(*id).unwrap().replay.ends_with(&body(30)))
        .unwrap();
    core.exchanges.get_mut(broken).unwrap().request_head.length = usize::MAX;
    core.learn(full);
    assert_eq!(panics(core, Core::finish_turn), Ok(()));
    assert!(core.exchanges.get(broken).is_none());
    sim.run(1);
    let received: Vec<_> = sim.clients().map(|client| client.received.len()).collect();
    assert_eq!(
        received,
        [answer(&body(10)).len(), 0, answer(&body(40)).len()]
    );
    let after: Vec<_> = sim.core(0).links.table.ids().collect();
    assert_eq!(after, links, "the link that carried the others goes on");
    let clients: Vec<_> = sim.ended().collect();
    assert_eq!(clients, [false, true, false], "only its own client is gone");
    assert_eq!(exchanges(sim.core(0)), []);
}

/// A codec that was interrupted in the middle of a word is not spoken to any more: its link ends, and with it what it carried.
#[test]
fn a_link_in_doubt_ends() {
    let mut sim = Sim::http(2);
    sim.request(App::new(post(10), false), answer(&body(10)));
    sim.run(2);
    let core = sim.core(0);
    let link = core.links.table.ids().next().unwrap();
    core.links.get_mut(link).unwrap().speaking = true;
    let conn = core.links.get(link).unwrap().conn;
    let on_behalf = |core: &mut Core| {
        core.work = Work::Conn(conn);
        panic!("on purpose");
    };
    assert_eq!(panics(core, on_behalf), Ok(()));
    assert_eq!(core.links.table.len(), 0);
    sim.request(App::new(post(40), false), answer(&body(40)));
    sim.run(2);
    assert_eq!(
        sim.core(0).links.table.len(),
        1,
        "the next request has a link of its own"
    );
}

#[test]
fn a_panic_for_nobody_in_particular_is_the_end() {
    let mut sim = Sim::http(3);
    let core = sim.core(0);
    core.begin_turn(core.now);
    assert_eq!(panics(core, |_| panic!("on purpose")), Err(Doubt));
}

fn body(length: usize) -> Vec<u8> {
    super::patterned(length)
}
