// SPDX-License-Identifier: Apache-2.0
//! Frames of a pod as they pass, from both sides of its proxy at once, for people: `frames.sock`.
//!
//! | request | answers |
//! |---|---|
//! | `GET /v1/frames/UID?filter=TEXT&snaplen=N` | pcapng without end: one interface for each side |
//! | `GET /v1/checks` | what is well with the machine and with captures, and what is not |
//! | `GET /v1/state/UID` | what both sides' kernels hold: sockets, addresses, routes, neighbours, rules |
//!
//! A socket of its own, because it is the one thing here that shows what tenants say; nothing is needed in the pod. Few at a time, and a
//! reader who is slow loses frames, which are counted in the file's last block. Must never change anything. Next: `frames/filter.rs`,
//! `frames/pcapng.rs`, `frames/state.rs`.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use maille_chassis::tasks::Tasks;
use maille_openapi::Refusal;
use maille_sys::NetNs;
use maille_sys::packet::{Direction, Ring, RingSize};
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use crate::capture::{POD, WIRE};
use crate::processes::{Processes, Role};

/// Which frames.
pub(crate) mod filter;
/// How they are written.
pub(crate) mod pcapng;
/// What the kernels hold.
pub(crate) mod state;

use filter::Filter;
use pcapng::{Interface, Writer};

/// Connections at a time, and captures among them.
const CONNECTIONS: usize = 8;
/// For a request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Pieces on their way to the reader.
const PIECES: usize = 64;
/// A piece is given on when it is so long, or when nothing came for a moment.
const PIECE: usize = 64 * 1024;
/// That moment.
const MOMENT: Duration = Duration::from_millis(100);
/// 8 MiB of memory shared with the kernel.
const RING: RingSize = RingSize {
    block: 256 * 1024,
    blocks: 32,
};
/// Bytes of a frame that are kept where nobody says how many.
pub(crate) const SNAPLEN: usize = 262_144;

type Body = BoxBody<Bytes, Infallible>;

/// Binds `path` and serves until the process ends.
pub(crate) fn serve(path: &Path, processes: Arc<Processes>, tasks: &Tasks) -> io::Result<()> {
    let listener = maille_chassis::admin::bind(path)?;
    let own = tasks.clone();
    tasks.spawn("frames", async move {
        accept(listener, processes, own).await;
    });
    Ok(())
}

async fn accept(listener: UnixListener, processes: Arc<Processes>, tasks: Tasks) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let processes = processes.clone();
        tasks.spawn("frames connection", async move {
            let service = service_fn(move |request| {
                let processes = processes.clone();
                async move { Ok::<_, Infallible>(respond(&request, &processes).await) }
            });
            let mut server = hyper::server::conn::http1::Builder::new();
            server
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT);
            if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "frames connection ended");
            }
            drop(place);
        });
    }
}

async fn respond<B>(request: &Request<B>, processes: &Arc<Processes>) -> Response<Body> {
    let path = request.uri().path();
    let query = request.uri().query().unwrap_or_default();
    let steps: Vec<&str> = path.split('/').skip(1).collect();
    if steps[..] == ["v1", "checks"] {
        let processes = processes.clone();
        let read = tokio::task::spawn_blocking(move || crate::checks::checks(&processes)).await;
        let checks = read.unwrap_or_default();
        let text = serde_json::json!({"checks": checks}).to_string();
        return answer("application/json", full(text));
    }
    let (frames, uid) = match steps[..] {
        ["v1", "frames", uid] => (true, uid),
        ["v1", "state", uid] => (false, uid),
        _ => return refuse(StatusCode::NOT_FOUND, "there is no such path", ""),
    };
    let sides = match sides(uid, processes) {
        Ok(sides) => sides,
        Err(why) => {
            return refuse(
                StatusCode::NOT_FOUND,
                &why,
                "maille get pods shows what runs",
            );
        }
    };
    if !frames {
        // Reads that block: netlink, /proc and nft.
        let read = tokio::task::spawn_blocking(move || state::read(&sides)).await;
        let text = read.unwrap_or_else(|_| "it could not be read\n".to_owned());
        return answer("text/plain; charset=utf-8", full(text));
    }
    let filter = match Filter::parse(&value(query, "filter").unwrap_or_default()) {
        Ok(filter) => filter,
        Err(error) => {
            return refuse(
                StatusCode::BAD_REQUEST,
                &error.to_string(),
                "maille capture --help lists the words",
            );
        }
    };
    let snaplen = value(query, "snaplen").and_then(|text| text.parse().ok());
    let snaplen = snaplen.unwrap_or(SNAPLEN).clamp(64, SNAPLEN);
    match record(&sides, &filter, snaplen) {
        Ok(pieces) => answer("application/x-pcapng", streamed(pieces)),
        Err(error) => refuse(
            StatusCode::CONFLICT,
            &format!("its frames cannot be seen: {error}"),
            "was its proxy just replaced? say it again",
        ),
    }
}

/// One side of a pod: a namespace, and the interfaces of it that are recorded, with what they are.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) namespace: NetNs,
    pub(crate) interfaces: Vec<(String, &'static str)>,
    pub(crate) what: &'static str,
}

/// A mesh namespace, where both links of a captured pod end.
pub(crate) fn mesh_side(namespace: NetNs) -> Side {
    let wire = "wire: between this pod's proxy and everybody else";
    let pod = "pod: between this pod's application and its proxy";
    Side {
        namespace,
        interfaces: vec![(WIRE.to_owned(), wire), (POD.to_owned(), pod)],
        what: "mesh namespace",
    }
}

/// A captured pod is seen from its mesh namespace; another one from its own.
fn sides(uid: &str, processes: &Processes) -> Result<Vec<Side>, String> {
    let container = processes.containers(uid).into_values().next();
    let proxy = processes.pid(&Role::Proxy(uid.to_owned()));
    let open = |pid: i32| {
        NetNs::of_pid(pid).map_err(|error| format!("its namespace cannot be opened: {error}"))
    };
    let mut sides = Vec::new();
    if let Some(pid) = proxy {
        sides.push(mesh_side(open(pid)?));
    }
    if let Some(pid) = container {
        let own = "pod: this pod's own interface";
        let interfaces = vec![("eth0".to_owned(), own)];
        sides.push(Side {
            namespace: open(pid)?,
            // What passes there passes the mesh namespace too.
            interfaces: if proxy.is_some() {
                Vec::new()
            } else {
                interfaces
            },
            what: "pod",
        });
    }
    if sides.is_empty() {
        return Err("no process of that pod runs here".to_owned());
    }
    Ok(sides)
}

/// Begins to record every side; the recording ends when nobody reads any more.
pub(crate) fn record(
    sides: &[Side],
    filter: &Filter,
    snaplen: usize,
) -> io::Result<mpsc::Receiver<Bytes>> {
    let mut found = Vec::new();
    for (at, side) in sides.iter().enumerate() {
        let links = maille_sys::link::inside(&side.namespace, async |net| net.links().await);
        let links = links.map_err(io::Error::other)?;
        for (name, what) in &side.interfaces {
            let link = links.iter().find(|link| link.name == *name);
            let link = link.ok_or_else(|| io::Error::other(format!("there is no {name}")))?;
            let interface = Interface {
                number: Some(link.index),
                name: name.clone(),
                description: (*what).to_owned(),
            };
            found.push((at, interface));
        }
    }
    let (give, pieces) = mpsc::channel(PIECES);
    for (at, side) in sides.iter().enumerate() {
        let own = |(of, interface): &(usize, Interface)| Interface {
            number: interface.number.filter(|_| *of == at),
            ..interface.clone()
        };
        let interfaces: Vec<_> = found.iter().map(own).collect();
        if interfaces
            .iter()
            .all(|interface| interface.number.is_none())
        {
            continue;
        }
        let ring = Ring::open(&side.namespace, RING)?;
        let (writer, filter) = (Writer::new(interfaces, snaplen), filter.clone());
        // The file begins with what all of them know.
        if give.capacity() == PIECES {
            drop(give.try_send(writer.head().into()));
        }
        let give = give.clone();
        std::thread::Builder::new()
            .name("frames".into())
            .spawn(move || run(ring, &filter, writer, &give))?;
    }
    Ok(pieces)
}

/// Until nobody reads any more.
fn run(mut ring: Ring, filter: &Filter, mut writer: Writer, give: &mpsc::Sender<Bytes>) {
    let mut piece = Vec::new();
    loop {
        let read = ring.read(MOMENT, |frame| {
            if filter.takes(frame.bytes) {
                let out = frame.direction == Direction::Out;
                let place = (frame.interface, out, frame.at);
                writer.frame(&mut piece, place, frame.bytes, frame.wire_len);
            }
        });
        let quiet = match read {
            Ok(frames) => frames == 0,
            Err(error) => {
                tracing::warn!(%error, "frames are no longer seen");
                return;
            }
        };
        if give.is_closed() {
            return;
        }
        if !piece.is_empty() && (quiet || piece.len() >= PIECE) {
            let dropped = ring.dropped().unwrap_or_default();
            writer.dropped(&mut piece, dropped);
            // Blocks while the reader is slow: then the ring fills, and the kernel counts what it drops.
            if give
                .blocking_send(std::mem::take(&mut piece).into())
                .is_err()
            {
                return;
            }
        }
    }
}

/// A parameter, with its escapes undone.
fn value(query: &str, name: &str) -> Option<String> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, text) = pairs.find(|(key, _)| *key == name)?;
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                let digits = std::str::from_utf8(&digits).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
            }
            b'+' => bytes.push(b' '),
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

/// Pieces as they come.
fn streamed(pieces: mpsc::Receiver<Bytes>) -> Body {
    let frames = ReceiverStream::new(pieces).map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
    BodyExt::boxed(StreamBody::new(Pin::from(Box::new(frames))))
}

fn full(text: String) -> Body {
    BodyExt::boxed(Full::new(Bytes::from(text)))
}

fn answer(kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn refuse(status: StatusCode, why: &str, hint: &str) -> Response<Body> {
    let text = serde_json::json!(Refusal::new(why, hint)).to_string();
    let mut response = answer("application/json", full(text));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_unescaped() {
        let query = "filter=port%2080+and+host%2010.0.0.1&snaplen=96";
        assert_eq!(
            value(query, "filter").as_deref(),
            Some("port 80 and host 10.0.0.1")
        );
        assert_eq!(value(query, "snaplen").as_deref(), Some("96"));
        assert_eq!(value("filter=%2", "filter"), None);
        assert_eq!(value("filter=%ff", "filter"), None);
    }
}
