// SPDX-License-Identifier: Apache-2.0
//! After a panic: who was being served ends, and so does whatever was half done for them; everybody else goes on.
//!
//! The core says whom it is at work for ([`Work`]). That connection, its exchanges and the far sides of these are given up without asking
//! them anything; a link that merely carried one of the exchanges loses that stream, unless its codec was interrupted in the middle of a word
//! ([`super::links::Link::speaking`]): what a peer would read next is then in doubt, and the link ends too. Afterwards every reference is looked at: one that
//! leads nowhere is given up in the same way. What is left in doubt after that is told, and is the end of the process.
//!
//! Must never be the way anything happens in the ordinary case. Next: `../worker.rs`.

use maille_engine::http2::Code;

use super::Core;
use super::conns::Role;
use super::exchange::{End, Exchange, Side};
use super::timers::Timer;
use crate::table::{ConnId, Id, LinkId};

/// Whom the core is at work for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Work {
    /// Nobody in particular: a panic leaves everything in doubt.
    #[default]
    Nobody,
    /// A connection, with what it is a part of.
    Conn(ConnId),
    /// An exchange.
    Exchange(Id<Exchange>),
    /// A link.
    Link(LinkId),
    /// An exchange that has ended, and is being counted: nothing hangs on it any more.
    Report,
}

/// After a panic nobody knows what still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a panic left the data plane in doubt")]
pub struct Doubt;

impl Work {
    /// Whom a deadline is about.
    pub(super) fn of(timer: Timer) -> Self {
        match timer {
            Timer::Detect(conn)
            | Timer::Unknown(conn)
            | Timer::Head(conn)
            | Timer::Connect(conn)
            | Timer::Close(conn)
            | Timer::Breath(conn) => Self::Conn(conn),
            Timer::Handshake(link) => Self::Link(link),
            Timer::Wait(exchange) | Timer::Unasked(exchange) | Timer::Rest(exchange) => {
                Self::Exchange(exchange)
            }
            Timer::Sweep | Timer::Farewell | Timer::LastCall => Self::Nobody,
        }
    }
}

impl Core {
    /// A call of this core has panicked, and was caught. Whoever it was for is given up. Must be called before anything else is.
    pub fn recover(&mut self) -> Result<(), Doubt> {
        self.parsed = None;
        if let Some(half) = self.attaching.take() {
            self.give_up_exchange(half);
        }
        match std::mem::take(&mut self.work) {
            Work::Nobody => return Err(Doubt),
            Work::Conn(conn) => self.give_up_conn(conn),
            Work::Exchange(exchange) => self.give_up_exchange(exchange),
            Work::Link(link) => self.give_up_link(link),
            Work::Report => {}
        }
        // Each round gives up what leads nowhere; it ends because there is less every time.
        while self.give_up_the_lost() {}
        self.take_up_queues();
        Ok(())
    }

    fn give_up_conn(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let (role, exchange) = (conn.role, conn.exchange.take());
        if let Role::Link(link) = role {
            self.give_up_link(link);
        }
        if let Some((exchange, _)) = exchange {
            self.give_up_exchange(exchange);
        }
        self.pool_forget(id);
        self.conns.abort(id);
    }

    fn give_up_link(&mut self, id: LinkId) {
        self.link_forget(id);
        let exchanges = self.link_exchanges(id);
        let Some(link) = self.links.table.remove(id) else {
            return;
        };
        self.conns.abort(link.conn);
        for exchange in exchanges {
            self.give_up_exchange(exchange);
        }
    }

    /// Without a report: making one may be what failed.
    fn give_up_exchange(&mut self, id: Id<Exchange>) {
        let Some(mut exchange) = self.exchanges.remove(id) else {
            return;
        };
        self.clear_deadline(id, &exchange);
        if let Some(picked) = &mut exchange.picked {
            self.balance.done(picked, self.now);
        }
        self.waiting.retain(|waiting| *waiting != id);
        for side in [exchange.down, exchange.up] {
            match side {
                Side::None => {}
                Side::Plain(conn) => self.conns.abort(conn),
                Side::Stream { link, stream } => {
                    let whole = self.links.get(link).is_some_and(|link| !link.speaking);
                    if whole {
                        self.stream_release(link, stream);
                        self.stream_code(link, stream, Code::INTERNAL_ERROR);
                    } else {
                        self.give_up_link(link);
                    }
                }
            }
        }
    }

    /// Gives up what refers to something that is not there, or that does not refer back. Whether there was any.
    fn give_up_the_lost(&mut self) -> bool {
        let links: Vec<_> = self
            .links
            .table
            .ids()
            .filter(|id| {
                let link = self.links.get(*id);
                link.is_some_and(|link| {
                    link.speaking || self.role(link.conn) != Some(Role::Link(*id))
                })
            })
            .collect();
        let conns: Vec<_> = self
            .conns
            .ids()
            .into_iter()
            .filter(|id| self.conn_is_lost(*id))
            .collect();
        let exchanges: Vec<_> = self
            .exchanges
            .ids()
            .filter(|id| self.exchange_is_lost(*id))
            .collect();
        let any = !(links.is_empty() && conns.is_empty() && exchanges.is_empty());
        links.into_iter().for_each(|id| self.give_up_link(id));
        conns.into_iter().for_each(|id| self.give_up_conn(id));
        exchanges
            .into_iter()
            .for_each(|id| self.give_up_exchange(id));
        any
    }

    fn conn_is_lost(&self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get(id) else {
            return false;
        };
        match (conn.role, conn.exchange) {
            (Role::Gone, _) => false,
            (Role::Link(link), _) => self.links.get(link).is_none_or(|link| link.conn != id),
            (_, Some((exchange, end))) => {
                let exchange = self.exchanges.get(exchange);
                exchange.is_none_or(|exchange| exchange.side(end) != Side::Plain(id))
            }
            // One that waits to be closed needs nobody.
            (Role::Server | Role::Raw, None) => !conn.closing(),
            (_, None) => false,
        }
    }

    fn exchange_is_lost(&self, id: Id<Exchange>) -> bool {
        let Some(exchange) = self.exchanges.get(id) else {
            return false;
        };
        let lost = |end: End| match exchange.side(end) {
            Side::None => false,
            Side::Plain(conn) => {
                let conn = self.conns.get(conn);
                conn.is_none_or(|conn| conn.exchange != Some((id, end)))
            }
            Side::Stream { link, .. } => self.links.get(link).is_none(),
        };
        let alone = exchange.down == Side::None && exchange.up == Side::None;
        alone || lost(End::Down) || lost(End::Up)
    }

    /// Queues that were taken out and not put back: all that may have been in them.
    fn take_up_queues(&mut self) {
        for id in self.links.table.ids().collect::<Vec<_>>() {
            if let Some(link) = self.links.get_mut(id) {
                link.dirty = false;
            }
            self.link_mark(id);
        }
        let waits = |exchange: &Exchange| exchange.plan.is_none() && exchange.parked.is_some();
        let ids = self.exchanges.ids();
        self.waiting = ids
            .filter(|id| self.exchanges.get(*id).is_some_and(waits))
            .collect();
        // The panic may have come while they were being decided.
        self.news = true;
    }
}
