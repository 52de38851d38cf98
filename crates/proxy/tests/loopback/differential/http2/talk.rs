// SPDX-License-Identifier: Apache-2.0
//! Client and server of the generated calls, by an implementation that is not ours (`h2`), and what each of them has seen.
//!
//! Who resets a stream waits until the other side has what came before, which it is told beside the connection: a reset may overtake the rest.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::calls::{Call, Content, Conversation, Ending, Fields};

/// Heads of these tests are shorter.
const HEAD: u32 = 90 * 1024;
/// So many streams that it has reset the server remembers. Of one that it has forgotten it ends the whole connection when trailers come that crossed
/// the reset, which RFC 9113 (5.1) has it bear. It forgets all but 50 of a second, and all clients share a connection where there is a mesh.
const RESETS: usize = 100_000;

/// By name, and values in their order.
type Sorted = Vec<(String, Vec<u8>)>;

/// Content and what ended it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rest {
    pub(super) content: Vec<u8>,
    pub(super) trailers: Option<Sorted>,
    /// The code of a reset.
    pub(super) reset: Option<u32>,
}

impl Rest {
    /// Whether it is what was to be sent, from the first byte to the last field.
    pub(super) fn is_all_of(&self, content: &Content) -> bool {
        let trailers = content.trailers.as_ref();
        self.reset.is_none()
            && self.content == content.pieces.concat()
            && self.trailers == trailers.map(|fields| sorted(&map(fields)))
    }
}

/// What a client was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ClientSeen {
    pub(super) interims: Vec<(u16, Sorted)>,
    pub(super) head: Option<(u16, Sorted)>,
    pub(super) rest: Rest,
}

/// What the server was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerSeen {
    pub(super) line: String,
    pub(super) fields: Sorted,
    pub(super) rest: Rest,
}

/// What both sides know of each other beside the connection.
#[derive(Default)]
pub(super) struct Origin {
    plan: RefCell<HashMap<u64, Rc<Call>>>,
    pub(super) seen: RefCell<HashMap<u64, Vec<ServerSeen>>>,
    /// So many bytes of a call's content are there, of its request and of its answer; an entry means that there is a head.
    requests: RefCell<HashMap<u64, usize>>,
    answers: RefCell<HashMap<u64, usize>>,
    changed: Notify,
}

impl Origin {
    /// Begins a new batch.
    pub(super) fn plan(&self, calls: impl Iterator<Item = Rc<Call>>) {
        self.requests.take();
        self.answers.take();
        let plan = calls.map(|call| (call.id, call)).collect();
        self.plan.replace(plan);
    }

    /// Waits until `is` is true.
    pub(super) async fn until(&self, is: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.changed.notified();
            if is(self) {
                return;
            }
            changed.await;
        }
    }

    fn tell(&self) {
        self.changed.notify_waiters();
    }
}

fn sorted(fields: &HeaderMap) -> Sorted {
    let all = fields.iter();
    let mut all: Vec<_> = all
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect();
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    all
}

fn map(fields: &Fields) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        map.append(name, HeaderValue::from_bytes(value).unwrap());
    }
    map
}

fn head(fields: &Fields, content: &Content) -> HeaderMap {
    let mut map = map(fields);
    if content.declared {
        map.insert(
            "content-length",
            content.length(content.pieces.len()).into(),
        );
    }
    map
}

/// Sends what follows a head, or the first `pieces` of it. An error is a stream that is gone, which its reader notes.
async fn send(
    to: &mut SendStream<Bytes>,
    content: &Content,
    pieces: Option<usize>,
) -> Result<(), h2::Error> {
    let count = pieces.unwrap_or(content.pieces.len());
    let ends = pieces.is_none() && content.trailers.is_none() && !content.apart;
    for (at, piece) in content.pieces[..count].iter().enumerate() {
        let mut left = Bytes::copy_from_slice(piece);
        let last = ends && at + 1 == count;
        loop {
            let mut room = 0;
            if !left.is_empty() {
                to.reserve_capacity(left.len());
                let Some(granted) = poll_fn(|cx| to.poll_capacity(cx)).await else {
                    return Ok(());
                };
                room = granted?.min(left.len());
            }
            let now = left.split_to(room);
            to.send_data(now, last && left.is_empty())?;
            if left.is_empty() {
                break;
            }
        }
    }
    match &content.trailers {
        _ if pieces.is_some() => Ok(()),
        Some(trailers) => to.send_trailers(map(trailers)),
        None if content.apart => to.send_data(Bytes::new(), true),
        None => Ok(()),
    }
}

/// Reads what follows a head, and tells how far it has come.
async fn read(mut body: RecvStream, tell: impl Fn(usize)) -> Rest {
    let mut rest = Rest::default();
    tell(0);
    let end = loop {
        match body.data().await {
            Some(Ok(data)) => {
                // Of a stream that is gone nobody wants its window back.
                let _ = body.flow_control().release_capacity(data.len());
                rest.content.extend_from_slice(&data);
                tell(rest.content.len());
            }
            Some(Err(error)) => break Err(error),
            None => break body.trailers().await,
        }
    };
    match end {
        Ok(trailers) => rest.trailers = trailers.as_ref().map(sorted),
        Err(error) => rest.reset = code(&error),
    }
    rest
}

fn code(error: &h2::Error) -> Option<u32> {
    error.reason().map(u32::from)
}

/// Says everything of a conversation, some at a time.
pub(super) async fn converse(
    to: SocketAddr,
    conversation: &Conversation,
    origin: &Origin,
) -> Vec<ClientSeen> {
    let stream = TcpStream::connect(to).await.unwrap();
    let mut client = h2::client::Builder::new();
    client.max_header_list_size(HEAD);
    let (send, connection) = client.handshake::<_, Bytes>(stream).await.unwrap();
    let connection = tokio::task::spawn_local(connection);
    let open = &send;
    let seen = stream::iter(&conversation.calls)
        .map(|call| async move {
            let mut send = open.clone().ready().await.unwrap();
            let mut request = Request::builder()
                .method(call.method)
                .uri(format!("http://web.shop{}", call.path))
                .body(())
                .unwrap();
            *request.headers_mut() = head(&call.fields, &call.content);
            let nothing = call.content.is_nothing();
            let (answer, body) = send.send_request(request, nothing).unwrap();
            let ask = async move {
                if !nothing {
                    ask(body, call, origin).await;
                }
            };
            let (_, seen) = tokio::join!(ask, hear(answer, call.id, origin));
            seen
        })
        .buffered(conversation.depth)
        .collect()
        .await;
    drop(send);
    // All is said, and how it ended does not matter.
    let _ = connection.await.unwrap();
    seen
}

async fn ask(mut body: SendStream<Bytes>, call: &Call, origin: &Origin) {
    let Ending::ClientResets(pieces, code) = call.ending else {
        // A server that resets it tells its reader why.
        let _ = send(&mut body, &call.content, None).await;
        return;
    };
    send(&mut body, &call.content, Some(pieces)).await.unwrap();
    let sent = call.content.length(pieces);
    let has = |origin: &Origin| origin.requests.borrow().get(&call.id) == Some(&sent);
    origin.until(has).await;
    body.send_reset(Reason::from(code));
}

async fn hear(mut answer: h2::client::ResponseFuture, id: u64, origin: &Origin) -> ClientSeen {
    let mut seen = ClientSeen::default();
    let interims = &mut seen.interims;
    let answered = poll_fn(|cx| {
        while let std::task::Poll::Ready(Some(Ok(interim))) = answer.poll_informational(cx) {
            interims.push((interim.status().as_u16(), sorted(interim.headers())));
        }
        Future::poll(Pin::new(&mut answer), cx)
    });
    match answered.await {
        Err(error) => seen.rest.reset = code(&error),
        Ok(answer) => {
            let (head, body) = answer.into_parts();
            seen.head = Some((head.status.as_u16(), sorted(&head.headers)));
            let tell = |length| {
                origin.answers.borrow_mut().insert(id, length);
                origin.tell();
            };
            seen.rest = read(body, tell).await;
        }
    }
    seen
}

/// Serves every connection that comes.
pub(super) async fn serve(listener: TcpListener, origin: Rc<Origin>) {
    while let Ok((stream, _)) = listener.accept().await {
        let origin = Rc::clone(&origin);
        tokio::task::spawn_local(async move {
            let mut server = h2::server::Builder::new();
            server.max_header_list_size(HEAD);
            server.max_concurrent_reset_streams(RESETS);
            let Ok(mut server) = server.handshake::<_, Bytes>(stream).await else {
                return;
            };
            while let Some(asked) = server.accept().await {
                match asked {
                    Ok((request, respond)) => {
                        tokio::task::spawn_local(answer(request, respond, Rc::clone(&origin)));
                    }
                    Err(error) => return eprintln!("the server ended a connection: {error}"),
                }
            }
        });
    }
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    origin: Rc<Origin>,
) {
    let (asked, body) = request.into_parts();
    let digits = asked.uri.path()[1..].split('/').next().unwrap();
    let id: u64 = digits.parse().unwrap();
    let call = origin.plan.borrow().get(&id).map(Rc::clone);
    // One that was refused may be asked again when all is over.
    let Some(call) = call else { return };
    let mut seen = ServerSeen {
        line: format!("{} {}", asked.method, asked.uri),
        fields: sorted(&asked.headers),
        rest: Rest::default(),
    };
    let note = |seen| {
        origin.seen.borrow_mut().entry(id).or_default().push(seen);
        origin.tell();
    };
    if call.ending == Ending::Refused {
        respond.send_reset(Reason::REFUSED_STREAM);
        return note(seen);
    }
    for (status, fields) in &call.reply.interims {
        let mut interim = Response::builder().status(*status).body(()).unwrap();
        *interim.headers_mut() = map(fields);
        if respond.send_informational(interim).is_err() {
            break;
        }
    }
    let tell = |length| {
        origin.requests.borrow_mut().insert(id, length);
        origin.tell();
    };
    if call.reply.early {
        let (rest, ()) = tokio::join!(read(body, tell), reply(respond, &call, &origin));
        seen.rest = rest;
        return note(seen);
    }
    seen.rest = read(body, tell).await;
    let whole = seen.rest.reset.is_none();
    note(seen);
    if whole {
        reply(respond, &call, &origin).await;
    }
}

async fn reply(mut respond: SendResponse<Bytes>, call: &Call, origin: &Origin) {
    let Call { reply, ending, .. } = call;
    if let Ending::Unanswered(code) = *ending {
        return respond.send_reset(Reason::from(code));
    }
    let mut answer = Response::builder().status(reply.status).body(()).unwrap();
    *answer.headers_mut() = head(&reply.fields, &reply.content);
    let nothing = reply.content.is_nothing();
    // A client that has gone is found by its reader.
    let Ok(mut body) = respond.send_response(answer, nothing) else {
        return;
    };
    if nothing {
        return;
    }
    let Ending::ServerResets(pieces, code) = *ending else {
        let _ = send(&mut body, &reply.content, None).await;
        return;
    };
    send(&mut body, &reply.content, Some(pieces)).await.unwrap();
    let sent = reply.content.length(pieces);
    let has = |origin: &Origin| origin.answers.borrow().get(&call.id) == Some(&sent);
    origin.until(has).await;
    body.send_reset(Reason::from(code));
}
