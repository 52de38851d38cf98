// SPDX-License-Identifier: Apache-2.0
//! `GET /v1/inside`: what goes through the mesh connections of one pod, in plain text, a line of JSON for each piece.
//!
//! The pod's own proxy decides whether it tells (its owner says so with an annotation), and must say so: whoever says nothing has not agreed. Control passes
//! on what it says, and keeps nothing. Must never show it to anybody who did not ask for just that. Read [`crate::ask`] next, `frames.rs` for what passes outside.

use std::fmt::Write as _;
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
use maille_wire::v1::answer::What as Said;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, watch};
use tokio::time::timeout;

use super::tap::line::Name;
use super::{Api, ApiError, frames};
use crate::ask::Asked;
use crate::hub::{Hub, Phase};
use crate::index::Dirty;

/// Answers that wait for the reader: 64 KiB each.
const ROOM: usize = 32;
/// How long a proxy may take to say yes or no.
const PATIENCE: Duration = Duration::from_secs(5);
/// What else there is.
const HINT: &str = "the pod's owner allows it with the annotation maille.io/capture-inside: allowed, from the pod's next start on; without --plain both \
                    sides of the proxy are recorded, the wire's as it is encrypted";

/// The parameters.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InsideQuery {
    /// `KIND/NAME`: one of its pods. The first line says which.
    pod: String,
    /// Where.
    namespace: Option<String>,
}

/// One line. Fields that say nothing are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "InsideLine")]
pub struct Line {
    /// `agreed`: the proxy tells what goes through it from now on, and did not before; `piece`: bytes of one mesh connection; `dropped`: pieces that were not
    /// told; `error`: the proxy cannot be asked any more.
    #[serde(rename = "type")]
    pub what: &'static str,
    /// Whose proxy tells it, in `agreed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Name>,
    /// What it tells.
    #[serde(flatten)]
    pub piece: Option<Piece>,
    /// Pieces that were not told because somebody on the way was too slow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_room: Option<u64>,
    /// What is wrong with the proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Bytes of one mesh connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "InsidePiece")]
pub struct Piece {
    /// Tells connections of this proxy apart.
    pub connection: u64,
    /// `IP:PORT` of the other proxy.
    pub remote: String,
    /// This proxy made the connection.
    pub dialled: bool,
    /// This proxy says it.
    pub outward: bool,
    /// Microseconds since the Unix epoch.
    pub at_us: u64,
    /// How many bytes of this direction passed before while somebody looked: a gap is what was not told.
    pub offset: u64,
    /// The bytes, in hexadecimal.
    pub bytes: String,
}

/// What a reader waits for.
enum Wake {
    Said(Box<Said>),
    Changed,
    End,
}

/// One reader.
struct Session {
    hub: Arc<Hub>,
    uid: WorkloadUid,
    asked: Asked,
    lines: watch::Receiver<u64>,
    changes: broadcast::Receiver<Arc<Dirty>>,
    phase: watch::Receiver<Phase>,
    /// What is said before anything else.
    first: Option<Line>,
    over: bool,
}

pub(super) async fn inside(
    State(api): State<Arc<Api>>,
    query: Result<Query<InsideQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|rejection| {
        ApiError::bad(
            rejection.body_text(),
            "for example /v1/inside?pod=deploy/web",
        )
    })?;
    let uid = frames::pod(&query.pod, query.namespace.as_deref(), &api)?;
    let session = Session::open(&api.hub, uid).await?;
    let lines = unfold(session, |mut session| async move {
        let bytes = session.next().await?;
        Some((Ok::<_, std::convert::Infallible>(bytes), session))
    });
    let head = [(CONTENT_TYPE, "application/x-ndjson")];
    Ok((head, Body::from_stream(lines)).into_response())
}

// === impl Session ===

impl Session {
    async fn open(hub: &Arc<Hub>, uid: WorkloadUid) -> Result<Self, ApiError> {
        let questions = hub.questions();
        let mut session = Self {
            asked: questions.open(ROOM),
            lines: questions.lines(),
            changes: hub.changes(),
            phase: hub.phase(),
            first: None,
            over: false,
            hub: hub.clone(),
            uid,
        };
        session.agreement().await.map_err(|why| {
            ApiError::conflict(format!("the pod's proxy does not show it: {why}"), HINT)
        })?;
        let world = hub.world();
        let pod = world.index.pod(&session.uid).map(|pod| Name {
            namespace: pod.workload.namespace.to_string(),
            name: pod.workload.name.to_string(),
        });
        drop(world);
        session.first = Some(Line {
            pod,
            ..Line::of("agreed")
        });
        Ok(session)
    }

    /// Asks, and waits for the proxy's word. Whatever else comes before it is nothing that it agreed to.
    async fn agreement(&mut self) -> Result<(), String> {
        self.lines.mark_unchanged();
        if !self
            .asked
            .ask(&self.uid, v1::question::What::Inside(v1::Inside {}))
        {
            return Err("it is not connected, or there is none".to_owned());
        }
        let said = async {
            loop {
                match self.asked.next().await.map(|answer| answer.what) {
                    Some(Said::Agreed(_)) => return Ok(()),
                    Some(Said::Refused(why)) => return Err(why),
                    Some(_) => {}
                    None => return Err("it has gone".to_owned()),
                }
            }
        };
        timeout(PATIENCE, said)
            .await
            .unwrap_or_else(|_| Err("it did not say that its owner agrees".to_owned()))
    }

    /// The next lines. `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(text(&[first]));
        }
        loop {
            if self.over {
                return None;
            }
            let lines = match self.wake().await {
                Wake::Said(said) => match *said {
                    Said::Events(events) => lines(events, self.asked.take_lost()),
                    _ => Vec::new(),
                },
                Wake::Changed => match self.again().await {
                    Ok(()) => Vec::new(),
                    Err(why) => {
                        self.over = true;
                        let error = Some(why);
                        vec![Line {
                            error,
                            ..Line::of("error")
                        }]
                    }
                },
                Wake::End => return None,
            };
            if !lines.is_empty() {
                return Some(text(&lines));
            }
        }
    }

    async fn wake(&mut self) -> Wake {
        tokio::select! {
            answer = self.asked.next() => answer.map_or(Wake::End, |answer| Wake::Said(Box::new(answer.what))),
            changed = self.lines.changed() => changed.map_or(Wake::End, |()| Wake::Changed),
            heard = self.changes.recv() => match heard {
                Err(broadcast::error::RecvError::Closed) => Wake::End,
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => Wake::Changed,
            },
            _ = self.phase.wait_for(|phase| *phase == Phase::Draining) => Wake::End,
        }
    }

    /// Something came or went. Where it was this one, its successor is asked for itself: consent is no heirloom.
    async fn again(&mut self) -> Result<(), String> {
        if self.asked.is_asked(&self.uid) {
            return Ok(());
        }
        if self.hub.questions().is_there(&self.uid) {
            return self.agreement().await;
        }
        match self.hub.world().index.pod(&self.uid) {
            Some(_) => Ok(()),
            None => Err("the pod has gone".to_owned()),
        }
    }
}

// === impl Line ===

impl Line {
    fn of(what: &'static str) -> Self {
        Self {
            what,
            ..Self::default()
        }
    }
}

fn lines(events: v1::TapEvents, lost: u64) -> Vec<Line> {
    let piece = |piece: v1::Piece| Line {
        piece: Some(Piece {
            connection: piece.connection,
            remote: piece.remote,
            dialled: piece.dialled,
            outward: piece.outward,
            at_us: piece.at_us,
            offset: piece.offset,
            bytes: hexadecimal(&piece.bytes),
        }),
        ..Line::of("piece")
    };
    let mut lines: Vec<Line> = events.pieces.into_iter().map(piece).collect();
    let no_room = events.no_room + lost;
    if no_room > 0 {
        lines.push(Line {
            no_room: Some(no_room),
            ..Line::of("dropped")
        });
    }
    lines
}

fn text(lines: &[Line]) -> Bytes {
    let mut text = Vec::new();
    for line in lines {
        // A value of texts and numbers always has a JSON form, and a vector takes it.
        if serde_json::to_writer(&mut text, line).is_ok() {
            text.push(b'\n');
        }
    }
    text.into()
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests;
