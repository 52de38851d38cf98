// SPDX-License-Identifier: Apache-2.0
//! Questions and answers between the wire's words and this crate's. What makes no sense is refused with a sentence. Next: `explain.rs`.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use maille_engine::route::{self, Direction};
use maille_identity::{Credentials, rotation};
use maille_model::{ServiceId, WorkloadUid};
use maille_wire::v1;
use tokio::time::Instant;

use crate::inside::Piece;
use crate::tap::filter::Others;
use crate::tap::{Filter, HeaderLine, Headers, Moment, Seen, Tap};

/// Names in one list of a question.
const NAMES: usize = 10_000;
/// A text in a question.
const TEXT: usize = 4_096;

/// Which connection is asked about.
pub(super) fn facts(asked: &v1::Explain) -> Result<route::Facts, String> {
    let Some(direction) = direction(asked.direction)? else {
        return Err("a direction must be named".into());
    };
    let destination = asked.destination.parse();
    Ok(route::Facts {
        direction,
        destination: destination
            .map_err(|_| format!("{:?} is no address and port", asked.destination))?,
    })
}

fn direction(asked: i32) -> Result<Option<Direction>, String> {
    match v1::Direction::try_from(asked) {
        Ok(v1::Direction::Unspecified) => Ok(None),
        Ok(v1::Direction::Outbound) => Ok(Some(Direction::Outbound)),
        Ok(v1::Direction::Inbound) => Ok(Some(Direction::Inbound)),
        Err(_) => Err(format!("direction {asked} is not known")),
    }
}

/// What a tap wants to see.
pub(super) fn tap(id: u64, asked: v1::Tap) -> Result<Tap, String> {
    let lists = [&asked.peers, &asked.services].map(Vec::len);
    if lists
        .into_iter()
        .chain([asked.addresses.len()])
        .sum::<usize>()
        > NAMES
    {
        return Err(format!("it names more than {NAMES} peers"));
    }
    let text = |text: String| match text.len() {
        0 => Ok(None),
        1..=TEXT => Ok(Some(text)),
        length => Err(format!("a text of {length} bytes is too long to compare")),
    };
    let services = asked.services.iter().map(|id| id.parse());
    let services: Result<_, _> =
        services.collect::<Result<std::collections::HashSet<ServiceId>, _>>();
    let others = Others {
        uids: asked
            .peers
            .iter()
            .filter_map(|uid| WorkloadUid::new(uid))
            .collect(),
        services: services.map_err(|_| "a service's name makes no sense".to_owned())?,
        addresses: asked
            .addresses
            .iter()
            .filter_map(|bytes| address(bytes))
            .collect(),
    };
    let status = |code: u32| u16::try_from(code).map_err(|_| format!("{code} is no status"));
    let (from, to) = (status(asked.status_from)?, status(asked.status_to)?);
    Ok(Tap {
        id,
        filter: Filter {
            direction: direction(asked.direction)?,
            others: asked.only_these.then_some(others),
            method: text(asked.method)?,
            path: text(asked.path)?,
            authority: text(asked.authority)?,
            status: (to > 0).then_some(from..=to),
            grpc_status: match asked.grpc_status.checked_sub(1) {
                None => None,
                Some(code) => Some(u8::try_from(code).map_err(|_| "no gRPC status".to_owned())?),
            },
            latency: (asked.latency_us > 0).then(|| Duration::from_micros(asked.latency_us)),
        },
        max_rps: asked.max_rps,
        headers: match v1::Headers::try_from(asked.headers) {
            Ok(v1::Headers::Redacted) => Headers::Redacted,
            Ok(v1::Headers::All) => Headers::All,
            // A word of tomorrow is not a reason to tell more.
            Ok(v1::Headers::None) | Err(_) => Headers::None,
        },
        ends_only: asked.ends_only,
    })
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

/// One line. `wall` is what the clock on the wall said at some moment.
pub(super) fn event(seen: &Seen, wall: (SystemTime, Instant)) -> v1::TapEvent {
    let facts = &*seen.facts;
    let text = |value: Option<String>| value.unwrap_or_default();
    let grpc = facts.grpc_status;
    v1::TapEvent {
        exchange: seen.exchange,
        moment: match seen.moment {
            Moment::Begin => v1::Moment::Begin,
            Moment::Answer => v1::Moment::Answer,
            Moment::End => v1::Moment::End,
        }
        .into(),
        at_us: at(seen.at, wall),
        direction: match facts.direction {
            Direction::Outbound => v1::Direction::Outbound,
            Direction::Inbound => v1::Direction::Inbound,
        }
        .into(),
        client: facts.client.to_string(),
        dialled: facts.dialled.to_string(),
        endpoint: text(facts.endpoint.map(|to| to.to_string())),
        peer_uid: text(facts.peer_uid.as_ref().map(ToString::to_string)),
        peer_identity: text(facts.peer.as_ref().map(ToString::to_string)),
        service: text(facts.service.as_ref().map(ToString::to_string)),
        protected: facts.protected,
        protocol: facts.spoken.name().to_owned(),
        server_name: text(facts.server_name.as_ref().map(ToString::to_string)),
        method: seen.request.method.told(),
        authority: seen.request.authority.told(),
        path: seen.request.path.told(),
        request_headers: headers(seen.request.head.lines(seen.headers)),
        status: facts.status.into(),
        response_headers: headers(seen.answer.lines(seen.headers)),
        grpc_status: grpc.map_or(0, |code| u32::from(code) + 1),
        latency_us: micros(facts.latency),
        duration_us: micros(facts.lasted),
        request_bytes: facts.bytes.0,
        response_bytes: facts.bytes.1,
        flag: facts.flag.unwrap_or_default().to_owned(),
    }
}

/// A piece of what goes through a mesh connection. Its room is free again.
pub(super) fn piece(piece: Piece, wall: (SystemTime, Instant)) -> v1::Piece {
    v1::Piece {
        connection: piece.connection,
        remote: piece.remote.to_string(),
        dialled: piece.dialled,
        outward: piece.outward,
        at_us: at(piece.at, wall),
        offset: piece.offset,
        bytes: piece.bytes,
    }
}

fn headers(lines: Vec<HeaderLine>) -> Vec<v1::Header> {
    let lines = lines.into_iter();
    lines
        .map(|line| v1::Header {
            name: line.name,
            value: line.value,
            redacted: line.redacted,
        })
        .collect()
}

/// Microseconds since the Unix epoch.
fn at(moment: std::time::Instant, (wall, then): (SystemTime, Instant)) -> u64 {
    let then = then.into_std();
    let time = match moment.checked_duration_since(then) {
        Some(later) => wall + later,
        None => wall - then.saturating_duration_since(moment),
    };
    micros(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The own certificate, and whom this proxy believes.
pub(super) fn certificate(
    credentials: &Credentials,
    trust_anchors: Vec<Vec<u8>>,
) -> v1::CertificateAnswer {
    let unix = |time: SystemTime| {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    };
    let (from, until) = (credentials.not_before(), credentials.not_after());
    v1::CertificateAnswer {
        chain: credentials.chain(),
        trust_anchors,
        not_before: unix(from),
        not_after: unix(until),
        renews_at: unix(rotation::renew_at(from, until, 0.0)),
        generation: credentials.generation(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_that_makes_no_sense_is_refused() {
        let asked = |tap: v1::Tap| super::tap(1, tap).map(|_| ());
        assert_eq!(asked(v1::Tap::default()), Ok(()));
        let bad = [
            v1::Tap {
                direction: 7,
                ..v1::Tap::default()
            },
            v1::Tap {
                services: vec!["no slash".into()],
                ..v1::Tap::default()
            },
            v1::Tap {
                path: "/".repeat(TEXT + 1),
                ..v1::Tap::default()
            },
            v1::Tap {
                status_to: 70_000,
                ..v1::Tap::default()
            },
            v1::Tap {
                peers: vec!["uid".into(); NAMES + 1],
                ..v1::Tap::default()
            },
        ];
        for tap in bad {
            assert!(asked(tap.clone()).is_err(), "{tap:?}");
        }
        let explain = v1::Explain {
            direction: v1::Direction::Outbound.into(),
            destination: "web:80".into(),
        };
        assert!(facts(&explain).is_err());
    }

    #[test]
    fn a_moment_before_the_wall_was_looked_at_has_its_time_too() {
        let then = maille_chassis::clock::Clock::start().now().into_std();
        let wall = (
            UNIX_EPOCH + Duration::from_secs(10),
            Instant::from_std(then),
        );
        let second = Duration::from_secs(1);
        assert_eq!(at(then + second, wall), 11_000_000);
        assert_eq!(at(then - second, wall), 9_000_000);
    }
}
