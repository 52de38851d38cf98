// SPDX-License-Identifier: Apache-2.0
//! What an answer, or none, means for the endpoint and for the request: judged, sent again where the service's terms and the method allow it, or too late.
//!
//! A request is sent again only whole, only before a byte of an answer was passed on, and only at the cost of the service's budget.
//! Must never send again what was not idempotent, but for a call of gRPC whose service allows it by the name of its status. Next: `deadlines.rs`.

use std::fmt::Write as _;

use maille_engine::balance::Heard;
use maille_engine::route::Plan;
use maille_engine::snapshot::{Known, Snapshot};
use maille_model::{AddressOwner, Terms};

use super::Core;
use super::exchange::{Carries, End, Exchange};
use crate::failure::{self, Failure, Retry};
use crate::route::{self, Decision};
use crate::table::Id;
use crate::telemetry::Response;

impl Core {
    /// The endpoint was heard: its first word about an exchange counts.
    pub(super) fn heard(&mut self, id: Id<Exchange>, heard: Heard) {
        if let Some(exchange) = self.exchanges.get_mut(id)
            && let Some(picked) = &mut exchange.picked
        {
            self.balance.heard(picked, heard, self.now);
        }
    }

    /// What the endpoint has answered so far is its word.
    pub(super) fn answer_heard(&mut self, id: Id<Exchange>) {
        if let Some(exchange) = self.exchanges.get(id) {
            let status = match exchange.grpc_status {
                Some(code) if exchange.grpc && exchange.status == 200 => failure::http_status(code),
                _ => exchange.status,
            };
            self.heard(id, Heard::Status(status));
        }
    }

    /// A message of a call's answer came, or its end: the first of them says whether the endpoint is well. A stream of them may go on for hours.
    pub(super) fn call_answered(&mut self, id: Id<Exchange>) {
        let waits = |exchange: &Exchange| {
            let picked = exchange.picked.as_ref();
            exchange.grpc && exchange.begun() && picked.is_some_and(|picked| !picked.is_judged())
        };
        if self.exchanges.get(id).is_some_and(waits) {
            self.answer_heard(id);
        }
    }

    /// The same for a failure, as far as it is the endpoint's.
    pub(super) fn heard_failure(&mut self, id: Id<Exchange>, failure: Failure) {
        if failure.is_endpoints() {
            self.heard(id, Heard::Nothing);
        }
    }

    /// The endpoint has given no answer: another one is tried where that is allowed.
    pub(super) fn unanswered(&mut self, id: Id<Exchange>, failure: Failure) {
        self.heard_failure(id, failure);
        let again = matches!(failure.retry(), Retry::IfReused | Retry::IfAllowed)
            && self.exchanges.get(id).is_some_and(|exchange| {
                let allowed = exchange.terms().retry.on.reset && exchange.request_head.idempotent;
                allowed && exchange.may_be_sent_again()
            });
        if !again || !self.send_again(id) {
            self.drop_upstream(id);
            self.fail(id, failure);
        }
    }

    /// A final answer is there and was not passed on; of a call that ended with it, `answer.grpc` says how. Whether the request goes elsewhere,
    /// and the answer is forgotten.
    pub(super) fn answer_is_retried(&mut self, id: Id<Exchange>, answer: Response) -> bool {
        let Some(exchange) = self.exchanges.get(id) else {
            return false;
        };
        let on = &exchange.terms().retry.on;
        // Every method of gRPC is a POST: whoever names a status says that its calls may be made twice.
        let (allowed, status) = match answer.grpc.filter(|_| exchange.grpc) {
            Some(code) => (on.grpc.status(code), failure::http_status(code)),
            None => (
                on.status(answer.status) && exchange.request_head.idempotent,
                answer.status,
            ),
        };
        if !allowed || !exchange.may_be_sent_again() {
            return false;
        }
        self.heard(id, Heard::Status(status));
        self.send_again(id)
    }

    /// Sends the request to another endpoint, if there is one and the budget allows it; then the one before is left.
    fn send_again(&mut self, id: Id<Exchange>) -> bool {
        let plan = self.plan_now(id);
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return false;
        };
        let Some(plan) = plan else { return false };
        let Ok(picked) = self.balance.pick(&plan, &mut exchange.tried, self.now) else {
            return false;
        };
        exchange.retries += 1;
        exchange.plan = Some(plan);
        if let Some(mut before) = exchange.picked.replace(picked) {
            self.balance.done(&mut before, self.now);
        }
        self.drop_upstream(id);
        if let Some(exchange) = self.exchanges.get_mut(id) {
            exchange.fresh = false;
        }
        self.set_deadline(id);
        self.attach(id);
        true
    }

    /// Where the exchange may go by the snapshot of this moment.
    pub(super) fn plan_now(&self, id: Id<Exchange>) -> Option<Plan> {
        let exchange = self.exchanges.get(id)?;
        match route::decide(&self.snapshot, &exchange.facts) {
            Decision::Forward(plan) => Some(plan),
            Decision::Refuse(_) | Decision::Wait(_) => None,
        }
    }

    /// A deadline of the exchange has passed: of the whole request, or of this try.
    pub(super) fn too_late(&mut self, id: Id<Exchange>) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        exchange.deadline = None;
        let whole = exchange.terms().request_timeout;
        let whole = whole.is_some_and(|time| exchange.began + time <= self.now);
        let answered = exchange.status != 0;
        match (whole, answered) {
            (true, true) => {
                exchange.failure.get_or_insert(Failure::RequestTimeout);
                self.drop_upstream(id);
                self.broken(id, End::Up);
            }
            (true, false) => {
                self.heard_failure(id, Failure::RequestTimeout);
                self.drop_upstream(id);
                self.fail(id, Failure::RequestTimeout);
            }
            (false, true) => {}
            (false, false) => self.unanswered(id, Failure::ResponseTimeout),
        }
    }
}

impl Exchange {
    /// How its destination wants to be called.
    pub(super) fn terms(&self) -> &Terms {
        self.plan.as_ref().map_or(&Terms::DEFAULT, Plan::terms)
    }

    fn may_be_sent_again(&self) -> bool {
        self.carries != Carries::Tcp
            && !self.raw
            && self.replayable
            && !self.answered
            && self.retries < self.terms().retry.limit
    }

    /// Which dependency this is about, for people: the service and the endpoint that was tried last, as far as they are known.
    pub(super) fn about(&self, snapshot: &Snapshot) -> String {
        let dialled = self.facts.destination;
        let mut text = match self.plan.as_ref().and_then(Plan::service) {
            Some((id, port)) => format!("{id}:{port}"),
            // Refused before there was a plan.
            None => match snapshot
                .address(dialled.ip().to_canonical())
                .map(|owner| &**owner)
            {
                Known::Present(AddressOwner::Service(id)) => format!("{id}:{}", dialled.port()),
                _ => dialled.to_string(),
            },
        };
        let tried = self.picked.as_ref().map(|picked| picked.hop().target());
        if let Some(target) = tried.filter(|target| *target != dialled) {
            // Writing to a String cannot fail.
            let _ = write!(text, " at {target}");
        }
        text
    }
}
