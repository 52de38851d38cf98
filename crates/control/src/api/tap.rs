// SPDX-License-Identifier: Apache-2.0
//! `GET /v1/tap`: exchanges as they pass, a line of JSON each, until the reader goes away.
//!
//! The proxies of the resource are asked, those that come later too; who is no longer of it is asked no more. What was not told, and why,
//! is a line as well. Must never wait for a reader: what he does not take is lost and counted. Read [`crate::ask`] next, `line.rs` for the lines.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use maille_model::WorkloadUid;
use maille_wire::v1;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::{Api, ApiError};
use crate::ask::{Answer, Asked};
use crate::hub::{Hub, Phase};
use crate::index::{Dirty, Index};
use crate::replicas::Replicas;
use crate::resource::{Kind, Resource};

/// Lines as they are told.
pub mod line;

use line::Line;

/// Batches of lines that wait for the reader.
const ROOM: usize = 256;
/// Exchanges a second that are told where nobody says how many.
const MAX_RPS: u32 = 100;
/// How often losses are told, and targets are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The parameters.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TapQuery {
    /// `KIND` or `KIND/NAME`.
    pub resource: String,
    /// Only in this namespace.
    pub namespace: Option<String>,
    /// Only what goes to this resource, or address.
    pub to: Option<String>,
    /// Where that is.
    pub to_namespace: Option<String>,
    /// Only this method.
    pub method: Option<String>,
    /// Only paths that begin so.
    pub path: Option<String>,
    /// Only this authority.
    pub authority: Option<String>,
    /// `503`, `5xx` or `500-599`.
    pub status: Option<String>,
    /// Only this gRPC status, by number.
    pub grpc_status: Option<u8>,
    /// Only answers that took so many milliseconds or more.
    pub min_latency_ms: Option<u64>,
    /// `in` or `out`.
    pub direction: Option<String>,
    /// Exchanges a second, in all.
    pub max_rps: Option<u32>,
    /// `none`, `redacted` or `all`.
    pub headers: Option<String>,
    /// Only ends.
    #[serde(default)]
    pub ends: bool,
}

/// One reader.
struct Session {
    hub: Arc<Hub>,
    replicas: Replicas,
    /// Those whose absence was told.
    away: Vec<String>,
    target: Resource,
    to: Option<To>,
    tap: v1::Tap,
    asked: Asked,
    sent: HashMap<WorkloadUid, v1::Tap>,
    lines: watch::Receiver<u64>,
    changes: broadcast::Receiver<Arc<Dirty>>,
    phase: watch::Receiver<Phase>,
    look: Interval,
    allowance: Allowance,
    over_rate: u64,
    no_room: u64,
}

/// What a reader waits for.
enum Wake {
    Said(Box<Answer>),
    Changed,
    Look,
    End,
}

/// Whom it goes to.
#[derive(Clone, Debug)]
enum To {
    Resource(Resource),
    Address(IpAddr),
}

/// Spends `max_rps` over all proxies. An exchange that was told once is told to its end.
struct Allowance {
    rate: f64,
    tokens: f64,
    at: Instant,
    told: HashMap<(WorkloadUid, u64), ()>,
}

pub(super) async fn tap(
    State(api): State<Arc<Api>>,
    query: Result<Query<TapQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|rejection| {
        ApiError::bad(
            rejection.body_text(),
            "for example /v1/tap?resource=deploy/web",
        )
    })?;
    let session = Session::open(&api, &query)?;
    let lines = unfold(session, |mut session| async move {
        let bytes = session.next().await?;
        Some((Ok::<_, std::convert::Infallible>(bytes), session))
    });
    let head = [(CONTENT_TYPE, "application/x-ndjson")];
    Ok((head, Body::from_stream(lines)).into_response())
}

// === impl Session ===

impl Session {
    fn open(api: &Api, query: &TapQuery) -> Result<Self, ApiError> {
        let hub = &api.hub;
        let target = ApiError::resource(&query.resource, query.namespace.as_deref())?;
        let to = query.to.as_deref().map(|to| match to.parse() {
            Ok(address) => Ok(To::Address(address)),
            Err(_) => ApiError::resource(to, query.to_namespace.as_deref()).map(To::Resource),
        });
        let to = to.transpose()?;
        {
            let world = hub.world();
            ApiError::exists(&target, &world.index)?;
            if let Some(To::Resource(to)) = &to {
                ApiError::exists(to, &world.index)?;
            }
            let pods = clients(&target, &world.index);
            if !pods.iter().any(|pod| pod.is_served()) {
                return Err(ApiError::conflict(
                    format!("no pod of {target} is in the mesh: there is no proxy to ask"),
                    "maille stat pods says who is in the mesh",
                ));
            }
        }
        let tap = asked(query, &target, to.is_some())?;
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut session = Self {
            allowance: Allowance::new(tap.max_rps),
            asked: hub.questions().open(ROOM),
            lines: hub.questions().lines(),
            changes: hub.changes(),
            phase: hub.phase(),
            sent: HashMap::new(),
            hub: hub.clone(),
            replicas: api.replicas.clone(),
            away: Vec::new(),
            target,
            to,
            tap,
            look,
            over_rate: 0,
            no_room: 0,
        };
        session.aim();
        Ok(session)
    }

    /// The next bytes for the reader: one or more lines. `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let text = match self.wake().await {
                Wake::Said(answer) => self.take(*answer),
                Wake::Changed => {
                    self.aim();
                    Vec::new()
                }
                Wake::Look => {
                    self.aim();
                    self.losses()
                }
                Wake::End => return None,
            };
            if !text.is_empty() {
                return Some(text.into());
            }
        }
    }

    async fn wake(&mut self) -> Wake {
        tokio::select! {
            answer = self.asked.next() => answer.map_or(Wake::End, |answer| Wake::Said(Box::new(answer))),
            _ = self.look.tick() => Wake::Look,
            changed = self.lines.changed() => match changed {
                Ok(()) => Wake::Changed,
                Err(_) => Wake::End,
            },
            heard = self.changes.recv() => match heard {
                Err(broadcast::error::RecvError::Closed) => Wake::End,
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => Wake::Changed,
            },
            _ = self.phase.wait_for(|phase| *phase == Phase::Draining) => Wake::End,
        }
    }

    /// Asks those who are of the resource now, and nobody else.
    fn aim(&mut self) {
        let mut wanted: HashMap<WorkloadUid, v1::Tap> = HashMap::new();
        {
            let world = self.hub.world();
            let mut tap = self.tap.clone();
            if let Some(to) = &self.to {
                others(&mut tap, to, &world.index);
            } else if self.target.kind == Kind::Service {
                others(&mut tap, &To::Resource(self.target.clone()), &world.index);
            }
            let pods = clients(&self.target, &world.index).into_iter();
            for pod in pods.filter(|pod| pod.is_served()) {
                wanted.insert(pod.workload.uid.clone(), tap.clone());
            }
        }
        for uid in self.asked.all().cloned().collect::<Vec<_>>() {
            if !wanted.contains_key(&uid) {
                self.asked.cancel(&uid);
                self.sent.remove(&uid);
            }
        }
        for (uid, tap) in wanted {
            let current = self.asked.is_asked(&uid) && self.sent.get(&uid) == Some(&tap);
            if !current && self.asked.ask(&uid, v1::question::What::Tap(tap.clone())) {
                self.sent.insert(uid, tap);
            }
        }
    }

    fn take(&mut self, answer: Answer) -> Vec<u8> {
        let from = answer.from;
        match answer.what {
            v1::answer::What::Events(events) => {
                self.over_rate += events.over_rate;
                self.no_room += events.no_room;
                let mut text = Vec::new();
                let world = self.hub.world();
                for event in events.events {
                    if self.allowance.spend(&from, &event) {
                        Line::of(&from, &event, &world.index).write(&mut text);
                    } else if event.moment() == v1::Moment::Begin
                        || self.tap.ends_only && event.moment() == v1::Moment::End
                    {
                        self.over_rate += 1;
                    }
                }
                text
            }
            v1::answer::What::Refused(why) => {
                let mut text = Vec::new();
                let world = self.hub.world();
                Line::refused(&from, why, &world.index).write(&mut text);
                text
            }
            _ => Vec::new(),
        }
    }

    fn losses(&mut self) -> Vec<u8> {
        self.no_room += self.asked.take_lost();
        let (over_rate, no_room) = (
            std::mem::take(&mut self.over_rate),
            std::mem::take(&mut self.no_room),
        );
        let mut text = Vec::new();
        if over_rate + no_room > 0 {
            Line::dropped(over_rate, no_room).write(&mut text);
        }
        let away = self.replicas.away();
        for name in away.iter().filter(|name| !self.away.contains(name)) {
            Line::missing(name).write(&mut text);
        }
        self.away = away;
        text
    }
}

/// Whose proxies see what is asked for: a service's clients may be anybody.
fn clients<'a>(target: &Resource, index: &'a Index) -> Vec<&'a crate::index::Pod> {
    if target.kind == Kind::Service {
        index.pods().collect()
    } else {
        target.pods(index)
    }
}

fn others(tap: &mut v1::Tap, to: &To, index: &Index) {
    tap.only_these = true;
    let bytes = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    match to {
        To::Address(address) => tap.addresses = vec![bytes(*address)],
        To::Resource(to) => {
            let services = to.services(index);
            tap.services = services.iter().map(ToString::to_string).collect();
            if to.kind == Kind::Service {
                return;
            }
            for pod in to.pods(index) {
                tap.peers.push(pod.workload.uid.to_string());
                // The node's addresses are everybody's there.
                if !pod.host_network {
                    let addresses = pod.workload.addresses.iter();
                    tap.addresses.extend(addresses.map(|one| bytes(*one)));
                }
            }
        }
    }
}

fn asked(query: &TapQuery, target: &Resource, to: bool) -> Result<v1::Tap, ApiError> {
    let (from, until) = match query.status.as_deref() {
        None => (0, 0),
        Some(text) => statuses(text).ok_or_else(|| {
            ApiError::bad(
                format!("{text:?} is no status"),
                "a number, a class or a range: 503, 5xx, 500-599",
            )
        })?,
    };
    // Who asks for what goes somewhere, or to a service, asks those who go there.
    let outbound = to || target.kind == Kind::Service;
    let direction = match (query.direction.as_deref(), outbound) {
        (None, true) | (Some("out"), _) => v1::Direction::Outbound,
        (None, false) => v1::Direction::Unspecified,
        (Some("in"), false) => v1::Direction::Inbound,
        (Some("in"), true) => {
            return Err(ApiError::bad(
                "what goes to somebody is seen on its way out".to_owned(),
                "leave out the direction, or name the server as the resource",
            ));
        }
        (Some(other), _) => {
            return Err(ApiError::bad(
                format!("{other:?} is no direction"),
                "it is in or out",
            ));
        }
    };
    let headers = match query.headers.as_deref() {
        None | Some("none") => v1::Headers::None,
        Some("redacted") => v1::Headers::Redacted,
        Some("all") => v1::Headers::All,
        Some(other) => {
            return Err(ApiError::bad(
                format!("{other:?} says nothing about headers"),
                "it is none, redacted or all",
            ));
        }
    };
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    Ok(v1::Tap {
        direction: direction.into(),
        method: text(&query.method),
        path: text(&query.path),
        authority: text(&query.authority),
        status_from: from,
        status_to: until,
        grpc_status: query.grpc_status.map_or(0, |code| u32::from(code) + 1),
        latency_us: query.min_latency_ms.unwrap_or(0).saturating_mul(1_000),
        max_rps: query.max_rps.unwrap_or(MAX_RPS).max(1),
        headers: headers.into(),
        ends_only: query.ends,
        ..v1::Tap::default()
    })
}

/// `503`, `5xx` or `500-599`: both ends of a range.
fn statuses(text: &str) -> Option<(u32, u32)> {
    let code = |text: &str| text.parse().ok().filter(|code| (100..=999).contains(code));
    if let Some(class) = text.strip_suffix("xx") {
        let class: u32 = class.parse().ok().filter(|class| (1..=9).contains(class))?;
        return Some((class * 100, class * 100 + 99));
    }
    match text.split_once('-') {
        None => code(text).map(|code| (code, code)),
        Some((from, until)) => {
            let (from, until) = (code(from)?, code(until)?);
            (from <= until).then_some((from, until))
        }
    }
}

// === impl Allowance ===

/// Exchanges that are remembered while they last.
const TOLD: usize = 16_384;

impl Allowance {
    fn new(max_rps: u32) -> Self {
        let rate = f64::from(max_rps);
        Self {
            rate,
            tokens: rate,
            at: Instant::now(),
            told: HashMap::new(),
        }
    }

    /// Whether this line is told.
    fn spend(&mut self, from: &WorkloadUid, event: &v1::TapEvent) -> bool {
        let key = (from.clone(), event.exchange);
        let end = event.moment() == v1::Moment::End;
        let known = if end {
            self.told.remove(&key).is_some()
        } else {
            self.told.contains_key(&key)
        };
        if known {
            return true;
        }
        let now = Instant::now();
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * self.rate).min(self.rate);
        self.at = now;
        let first = event.moment() == v1::Moment::Begin || end;
        if !first || self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        if !end && self.told.len() < TOLD {
            self.told.insert(key, ());
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_a_number_a_class_or_a_range() {
        assert_eq!(statuses("503"), Some((503, 503)));
        assert_eq!(statuses("5xx"), Some((500, 599)));
        assert_eq!(statuses("200-299"), Some((200, 299)));
        for bad in ["", "x", "0xx", "99", "300-200", "5x", "-", "1000"] {
            assert_eq!(statuses(bad), None, "{bad}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_exchange_that_was_told_is_told_to_its_end() {
        let mut allowance = Allowance::new(1);
        let uid = WorkloadUid::new("a").unwrap();
        let mut event = |exchange, moment: v1::Moment| {
            let moment = moment.into();
            let event = v1::TapEvent {
                exchange,
                moment,
                ..v1::TapEvent::default()
            };
            allowance.spend(&uid, &event)
        };
        assert!(event(1, v1::Moment::Begin));
        assert!(!event(2, v1::Moment::Begin), "one a second");
        assert!(event(1, v1::Moment::Answer));
        assert!(!event(2, v1::Moment::Answer));
        assert!(event(1, v1::Moment::End));
        assert!(!event(2, v1::Moment::End));
    }
}
