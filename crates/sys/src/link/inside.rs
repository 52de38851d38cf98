// SPDX-License-Identifier: Apache-2.0
//! A thread that stays in one namespace with its network open, for many pieces of work after one another: entering costs a thread each
//! time, and opening netlink a socket and a runtime, which together are more than most changes.
//!
//! Read `link.rs` for work of one piece.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use nix::sched::{CloneFlags, setns};
use tokio::runtime::Runtime;

use super::{LinkError, Net, open};
use crate::netns::NetNs;

type Work = Box<dyn FnOnce(&Runtime, &Net) + Send>;

/// One that is in a namespace. It is held until this is dropped, and not longer.
#[derive(Debug)]
pub struct Inside {
    /// `None` only while it is dropped.
    work: Option<SyncSender<Work>>,
    thread: Option<JoinHandle<()>>,
}

// === impl Inside ===

impl Inside {
    /// Enters `namespace`. Needs CAP_SYS_ADMIN in the user namespace that owns it.
    pub fn enter(namespace: &NetNs) -> Result<Self, LinkError> {
        let (work, orders) = sync_channel(1);
        let (entered, told) = sync_channel(1);
        let namespace = namespace.clone();
        let stay = move || {
            let opened = setns(&namespace, CloneFlags::CLONE_NEWNET)
                .map_err(|error| LinkError::Open(error.into()))
                .and_then(|()| open());
            // The thread's own place in it holds it.
            drop(namespace);
            match opened {
                // Whoever waits for the word is there: nobody else has the other end.
                Err(error) => drop(entered.send(Err(error))),
                Ok((runtime, net)) => {
                    drop(entered.send(Ok(())));
                    serve(&orders, &runtime, &net);
                }
            }
        };
        let thread = thread::Builder::new()
            .name("netns".into())
            .spawn(stay)
            .map_err(LinkError::Open)?;
        let inside = Self {
            work: Some(work),
            thread: Some(thread),
        };
        told.recv().map_err(|_| LinkError::Open(lost()))??;
        Ok(inside)
    }

    /// Runs `work` with the namespace's network. Blocks the caller.
    pub fn net<T, F>(&self, work: F) -> Result<T, LinkError>
    where
        T: Send + 'static,
        F: AsyncFnOnce(Net) -> Result<T, LinkError> + Send + 'static,
    {
        self.hand(|runtime, net| runtime.block_on(work(net.clone())))
            .map_err(LinkError::Open)?
    }

    /// Runs `work` inside the namespace. Blocks the caller.
    pub fn run<T, F>(&self, work: F) -> io::Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.hand(|_, _| work())
    }

    fn hand<T, F>(&self, work: F) -> io::Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Runtime, &Net) -> T + Send + 'static,
    {
        let (done, told) = sync_channel(1);
        let work: Work = Box::new(move |runtime, net| drop(done.send(work(runtime, net))));
        let hands = self.work.as_ref().ok_or_else(lost)?;
        hands.send(work).map_err(|_| lost())?;
        told.recv().map_err(|_| lost())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        drop(self.work.take());
        if let Some(thread) = self.thread.take() {
            // One that panicked has been told already, by whatever it did not answer.
            drop(thread.join());
        }
    }
}

fn serve(orders: &Receiver<Work>, runtime: &Runtime, net: &Net) {
    while let Ok(work) = orders.recv() {
        work(runtime, net);
    }
}

fn lost() -> io::Error {
    io::Error::other("the thread inside the namespace panicked")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_done_inside_and_the_namespace_is_let_go() {
        let namespace = NetNs::create().unwrap();
        let inside = Inside::enter(&namespace).unwrap();
        let up = inside.net(async |net| {
            net.up("lo").await?;
            net.link("lo").await
        });
        assert!(up.unwrap().up);
        let absent = inside.net(async |net| net.up("none").await);
        assert!(matches!(absent, Err(LinkError::Absent(_))), "{absent:?}");
        let current = inside.run(NetNs::current).unwrap().unwrap();
        assert_eq!(current, namespace);
        let lost = inside.run(|| panic!("as a test wants it"));
        assert!(lost.is_err());
        assert!(inside.run(|| ()).is_err(), "whoever panicked is gone");
    }
}
