// SPDX-License-Identifier: Apache-2.0
//! The lines of `GET /v1/tap`: what a proxy saw, with the names that control knows for its addresses.
//!
//! Text that a peer chose is told as text, with a sign where it was none; JSON escapes the rest. Next: [`super`].

use std::net::{IpAddr, SocketAddr};

use maille_model::{AddressOwner, WorkloadUid};
use maille_wire::v1;
use schemars::JsonSchema;
use serde::Serialize;

use crate::index::{Index, Pod};
use crate::stat::Who;

/// One line. Fields that say nothing are left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "TapLine")]
pub struct Line {
    /// `request`, `response`, `end` of a request; `open`, `close` of a TCP connection; `dropped`: what was not told; `error`: a proxy
    /// that cannot be asked.
    #[serde(rename = "type")]
    pub what: &'static str,
    /// Tells exchanges apart: the lines of one have the same.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Microseconds since the Unix epoch.
    #[serde(skip_serializing_if = "is_zero")]
    pub at_us: u64,
    /// `out`: the proxy of the client tells it; `in`: the server's.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub proxy: &'static str,
    /// Whose proxy tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Name>,
    /// The client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub src: Option<End>,
    /// The server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dst: Option<End>,
    /// `namespace/name` of the service that was addressed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service: String,
    /// What the client dialled.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub dialled: String,
    /// The hop to the other side is mutual TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<bool>,
    /// The proven identity of the other side.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub peer_id: String,
    /// `http/1`, `http/2`, `grpc` or `tcp`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub protocol: String,
    /// Whom a TLS client asked for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sni: String,
    /// Of the request.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub method: String,
    /// Of the request.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub authority: String,
    /// Of the request, with its query.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Of the request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub request_headers: Vec<HeaderLine>,
    /// What the client got.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u32>,
    /// Of the answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub response_headers: Vec<HeaderLine>,
    /// Of a gRPC call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<u32>,
    /// To the first byte of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<u64>,
    /// To the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_us: Option<u64>,
    /// Towards the server, heads included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_bytes: Option<u64>,
    /// Towards the client, heads included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_bytes: Option<u64>,
    /// Why the mesh answered, or nobody did (`docs/wire.md`, section 5).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub failure: String,
    /// Exchanges that were not told because there were more than `max_rps`.
    #[serde(skip_serializing_if = "is_zero")]
    pub over_rate: u64,
    /// Lines that were not told because somebody on the way was too slow.
    #[serde(skip_serializing_if = "is_zero")]
    pub no_room: u64,
    /// What is wrong with a proxy.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
}

/// A name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "PodName")]
pub struct Name {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// One end of an exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "TapEnd")]
pub struct End {
    /// `IP:PORT`.
    pub address: String,
    /// The pod that has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Name>,
    /// What made that pod: `deploy/web`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub owner: String,
}

/// One header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "TapHeader")]
pub struct HeaderLine {
    /// Its name.
    pub name: String,
    /// Its value; `null` where it was left out.
    pub value: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

// === impl Line ===

impl Line {
    /// What a proxy saw.
    pub fn of(from: &WorkloadUid, event: &v1::TapEvent, index: &Index) -> Self {
        let own = index.pod(from);
        let tcp = event.protocol == "tcp";
        let out = event.direction() == v1::Direction::Outbound;
        let server = if event.endpoint.is_empty() {
            &event.dialled
        } else {
            &event.endpoint
        };
        let peer = WorkloadUid::new(&event.peer_uid).and_then(|uid| index.pod(&uid));
        let (src, dst) = if out {
            let known = peer.or_else(|| at(server, index));
            (end(&event.client, own), end(server, known))
        } else {
            (
                end(&event.client, at(&event.client, index)),
                end(server, own),
            )
        };
        let moment = event.moment();
        let over = moment == v1::Moment::End;
        let answered = moment != v1::Moment::Begin && !tcp;
        Self {
            what: match (moment, tcp) {
                (v1::Moment::End, false) => "end",
                (v1::Moment::End, true) => "close",
                (v1::Moment::Answer, _) => "response",
                (_, false) => "request",
                (_, true) => "open",
            },
            id: format!("{}:{}", short(from), event.exchange),
            at_us: event.at_us,
            proxy: if out { "out" } else { "in" },
            pod: own.map(named),
            src: Some(src),
            dst: Some(dst),
            service: event.service.clone(),
            dialled: event.dialled.clone(),
            tls: Some(event.protected),
            peer_id: event.peer_identity.clone(),
            protocol: event.protocol.clone(),
            sni: event.server_name.clone(),
            method: text(&event.method),
            authority: text(&event.authority),
            path: text(&event.path),
            request_headers: headers(&event.request_headers),
            status: (answered && event.status > 0).then_some(event.status),
            response_headers: headers(&event.response_headers),
            grpc_status: event.grpc_status.checked_sub(1).filter(|_| over),
            latency_us: answered.then_some(event.latency_us),
            duration_us: over.then_some(event.duration_us),
            request_bytes: over.then_some(event.request_bytes),
            response_bytes: over.then_some(event.response_bytes),
            failure: if over {
                event.flag.clone()
            } else {
                String::new()
            },
            ..Self::default()
        }
    }

    /// What was not told.
    pub fn dropped(over_rate: u64, no_room: u64) -> Self {
        Self {
            what: "dropped",
            over_rate,
            no_room,
            ..Self::default()
        }
    }

    /// A proxy that cannot be asked.
    pub fn refused(from: &WorkloadUid, why: String, index: &Index) -> Self {
        Self {
            what: "error",
            pod: index.pod(from).map(named),
            error: why,
            ..Self::default()
        }
    }

    /// A replica of control that does not answer.
    pub fn missing(replica: &str) -> Self {
        Self {
            what: "error",
            error: format!(
                "{replica}, a replica of control, does not answer: what its proxies see is not told"
            ),
            ..Self::default()
        }
    }

    /// Appends the line.
    pub fn write(&self, to: &mut Vec<u8>) {
        // A value of texts and numbers always has a JSON form, and a vector takes it.
        if serde_json::to_writer(&mut *to, self).is_ok() {
            to.push(b'\n');
        }
    }
}

/// The beginning of a uid is enough to tell a few proxies apart.
fn short(uid: &WorkloadUid) -> &str {
    let text = uid.as_str();
    &text[..text.floor_char_boundary(8)]
}

fn at<'a>(address: &str, index: &'a Index) -> Option<&'a Pod> {
    let address: SocketAddr = address.parse().ok()?;
    let ip: IpAddr = address.ip().to_canonical();
    match index.owner_of(ip)? {
        AddressOwner::Workload(workload) => index.pod(&workload.uid),
        AddressOwner::Service(_) => None,
    }
}

fn named(pod: &Pod) -> Name {
    Name {
        namespace: pod.workload.namespace.to_string(),
        name: pod.workload.name.to_string(),
    }
}

fn end(address: &str, pod: Option<&Pod>) -> End {
    let owner = pod.map(Who::of);
    End {
        address: address.to_owned(),
        pod: pod.map(named),
        owner: owner.map_or_else(String::new, |who| {
            format!("{}/{}", crate::resource::Kind::short(&who.kind), who.name)
        }),
    }
}

fn headers(headers: &[v1::Header]) -> Vec<HeaderLine> {
    let lines = headers.iter().map(|header| HeaderLine {
        name: text(&header.name),
        value: (!header.redacted).then(|| text(&header.value)),
    });
    lines.collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
