// SPDX-License-Identifier: Apache-2.0
//! The traffic as HTTP/1: its bytes, a client, a server, and what each of them saw. Messages are read by a parser of its own,
//! that knows as little as it needs. Next: `../differential.rs`.

mod reader;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};

use reader::Reader;

use super::traffic::{Body, Conversation, Ending, Exchange, Field, Leaves, Reason, When};

/// An exchange as it is told to people: all that was said, long texts cut.
pub(super) fn shown(exchange: &Exchange) -> String {
    let (interims, answer) = answer(exchange);
    let request = Text(&request(exchange)).to_string();
    let (interims, answer) = (Text(&interims), Text(&answer));
    let when = exchange.reply.when;
    let ending = match &exchange.ending {
        Ending::Tunnel { up, down } => format!("tunnel of {} up, {} down", up.len(), down.len()),
        other => format!("{other:?}"),
    };
    format!("  said: {request}\n  answered: {interims} {answer}\n  {when:?}, {ending}")
}

/// Bytes for people.
struct Text<'b>(&'b [u8]);

/// A head as its reader understands it: white space around values is none of it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) line: Vec<u8>,
    pub(super) fields: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What a client saw of one exchange.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct ClientSeen {
    /// Interim ones, then the final one, if it came.
    pub(super) heads: Vec<Head>,
    /// As it is on the wire, and bytes of a tunnel.
    pub(super) body: Vec<u8>,
    pub(super) end: End,
}

/// What the server saw of one request.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct ServerSeen {
    pub(super) head: Head,
    pub(super) body: Vec<u8>,
    pub(super) whole: bool,
}

/// How the connection stood afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It went on, or nobody looked.
    Open,
    Fin,
    Reset,
}

/// What the server knows and learns.
#[derive(Default)]
pub(super) struct Origin {
    /// Each exchange, and whether it is written in pieces.
    pub(super) plan: RefCell<HashMap<u64, (Rc<Exchange>, bool)>>,
    pub(super) seen: RefCell<HashMap<u64, Vec<ServerSeen>>>,
    /// Told of everything that is seen.
    pub(super) changed: Notify,
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = &self.0[..self.0.len().min(200)];
        write!(f, "`{}` ({} bytes)", start.escape_ascii(), self.0.len())
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} and {} fields", Text(&self.line), self.fields.len())
    }
}

impl fmt::Debug for ClientSeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?}, body {}, then {:?}",
            self.heads,
            Text(&self.body),
            self.end
        )
    }
}

impl fmt::Debug for ServerSeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = if self.whole { "whole" } else { "cut" };
        write!(f, "{:?}, body {} {whole}", self.head, Text(&self.body))
    }
}

// === Bytes ===

fn line_of(field: &Field) -> String {
    let Field { name, value, style } = field;
    match style {
        0 => format!("{name}:{value}\r\n"),
        1 => format!("{name}:\t {value} \t\r\n"),
        2 => format!("{name}: {value}  \r\n"),
        _ => format!("{name}: {value}\r\n"),
    }
}

fn put_fields(out: &mut Vec<u8>, fields: &[Field]) {
    for field in fields {
        out.extend_from_slice(line_of(field).as_bytes());
    }
}

fn put_body(out: &mut Vec<u8>, body: &Body) {
    match body {
        Body::None => out.extend_from_slice(b"\r\n"),
        Body::Length(bytes) => {
            out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", bytes.len()).as_bytes());
            out.extend_from_slice(bytes);
        }
        Body::Chunks(chunks, trailers) => {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            for (extension, bytes) in chunks {
                out.extend_from_slice(format!("{:x}{extension}\r\n", bytes.len()).as_bytes());
                out.extend_from_slice(bytes);
                out.extend_from_slice(b"\r\n");
            }
            out.extend_from_slice(b"0\r\n");
            // Trailers travel as bytes of the body: nothing of them changes.
            put_fields(out, trailers);
            out.extend_from_slice(b"\r\n");
        }
    }
}

pub(super) fn request(exchange: &Exchange) -> Vec<u8> {
    let mut out = Vec::new();
    let version = match exchange.ending {
        Ending::Old => "HTTP/1.0",
        _ => "HTTP/1.1",
    };
    let Exchange {
        method, target, id, ..
    } = exchange;
    let start = format!("{method} {target} {version}\r\nHost: web\r\nx-id: {id}\r\n");
    out.extend_from_slice(start.as_bytes());
    match exchange.ending {
        Ending::ClientCloses => out.extend_from_slice(b"Connection: close\r\n"),
        Ending::Tunnel { .. } => {
            out.extend_from_slice(b"connection: x, Upgrade\r\nUpgrade: bytes/1\r\n");
        }
        _ => {}
    }
    put_fields(&mut out, &exchange.fields);
    put_body(&mut out, &exchange.body);
    out
}

/// The interim answers, and the final one.
pub(super) fn answer(exchange: &Exchange) -> (Vec<u8>, Vec<u8>) {
    let (mut interims, mut out) = (Vec::new(), Vec::new());
    let reply = &exchange.reply;
    for (status, fields) in &reply.interims {
        interims.extend_from_slice(format!("HTTP/1.1 {status} Not Yet\r\n").as_bytes());
        put_fields(&mut interims, fields);
        interims.extend_from_slice(b"\r\n");
    }
    let canonical = maille_engine::http1::canonical_reason(reply.status);
    let status = match reply.reason {
        Reason::Canonical => format!("HTTP/1.1 {} {canonical}\r\n", reply.status),
        Reason::Own => format!("HTTP/1.1 {} Well, {}\r\n", reply.status, exchange.id),
        Reason::Empty => format!("HTTP/1.1 {} \r\n", reply.status),
        Reason::Missing => format!("HTTP/1.1 {}\r\n", reply.status),
    };
    out.extend_from_slice(status.as_bytes());
    match exchange.ending {
        Ending::ServerCloses => out.extend_from_slice(b"connection: Close\r\n"),
        Ending::Tunnel { .. } => {
            out.extend_from_slice(b"Connection: upgrade\r\nUpgrade: bytes/1\r\n");
        }
        _ => {}
    }
    put_fields(&mut out, &reply.fields);
    let bare = exchange.method == "HEAD" || matches!(reply.status, 204 | 304);
    match (&exchange.ending, &reply.body) {
        // What 204 may not say.
        (_, Body::Chunks(..)) if reply.status == 204 => out.extend_from_slice(b"\r\n"),
        (_, body) if bare => {
            put_body(&mut out, body);
            let end = out.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            out.truncate(end.expect("a head has an end") + 4);
        }
        (Ending::UntilClose, Body::Length(bytes)) => {
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(bytes);
        }
        (_, body) => put_body(&mut out, body),
    }
    if let Ending::Tunnel { down, .. } = &exchange.ending {
        out.extend_from_slice(down);
    }
    (interims, out)
}

/// A message's head, and what is behind it.
pub(super) fn split(message: &[u8]) -> (Head, Vec<u8>) {
    let end = message.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let end = end.expect("a head has an end") + 4;
    (Head::of(&message[..end]), message[end..].to_vec())
}

/// What the client of a server that leaves can have seen at most: whole heads, and what is behind the final one.
pub(super) fn sent(exchange: &Exchange, until: usize) -> (Vec<Head>, Vec<u8>) {
    let (mut all, answer) = answer(exchange);
    all.extend_from_slice(&answer);
    let mut rest = &all[..until];
    let mut heads: Vec<Head> = Vec::new();
    while heads.len() <= exchange.reply.interims.len() {
        let Some(end) = rest.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            return (heads, Vec::new());
        };
        heads.push(Head::of(&rest[..end + 4]));
        rest = &rest[end + 4..];
    }
    (heads, rest.to_vec())
}

/// After how many bytes a server leaves that does.
pub(super) fn leaves_after(exchange: &Exchange) -> Option<usize> {
    match exchange.ending {
        Ending::ServerLeaves(at, _) => {
            let (interims, answer) = answer(exchange);
            Some((interims.len() + answer.len()) * at / 1000)
        }
        _ => None,
    }
}

async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
    pieces: bool,
) -> io::Result<()> {
    if !pieces || bytes.len() > 20_000 {
        return stream.write_all(bytes).await;
    }
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, more) = rest.split_at(rest.len().min(1 + bytes.len() % 97));
        rest = more;
        stream.write_all(piece).await?;
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// What a message without a length has.
#[derive(Clone, Copy)]
enum Otherwise {
    Nothing,
    UntilClose,
}

impl Head {
    fn of(bytes: &[u8]) -> Self {
        let text = &bytes[..bytes.len() - 4];
        let mut lines = text.split(|byte| *byte == b'\n');
        let line = lines.next().unwrap_or_default();
        let fields = lines.map(|line| {
            let colon = line.iter().position(|byte| *byte == b':').expect("a colon");
            (
                line[..colon].to_vec(),
                line[colon + 1..].trim_ascii().to_vec(),
            )
        });
        Self {
            line: line.trim_ascii_end().to_vec(),
            fields: fields.collect(),
        }
    }

    pub(super) fn value(&self, name: &[u8]) -> Option<&[u8]> {
        let mut fields = self.fields.iter();
        let found = fields.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| &value[..])
    }

    pub(super) fn status(&self) -> u16 {
        let digits = self.line.get(9..12).unwrap_or_default();
        String::from_utf8_lossy(digits).parse().unwrap_or(0)
    }
}

// === The client ===

/// Says all of a conversation. What was seen of each exchange, as far as it went.
pub(super) async fn converse(to: SocketAddr, conversation: &Conversation) -> Vec<ClientSeen> {
    let mut stream = TcpStream::connect(to).await.expect("a listener");
    stream.set_nodelay(true).expect("a socket");
    let permits = Semaphore::new(conversation.depth);
    let (read, mut write_half) = stream.split();
    let writing = async {
        for exchange in &conversation.exchanges {
            if say(&mut write_half, exchange, conversation, &permits)
                .await
                .is_err()
            {
                // The reader finds out why.
                return;
            }
        }
    };
    let reading = async {
        let mut reader = Reader::new(read);
        let mut seen = Vec::new();
        for exchange in &conversation.exchanges {
            if matches!(exchange.ending, Ending::ClientLeaves(..)) {
                break;
            }
            seen.push(hear(&mut reader, exchange).await);
            permits.add_permits(1);
        }
        seen
    };
    let ((), seen) = tokio::join!(writing, reading);
    let last = conversation.exchanges.last();
    let leaves = last.map(|exchange| &exchange.ending);
    if let Some(Ending::ClientLeaves(_, Leaves::Rst)) = leaves {
        let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    }
    seen
}

async fn say(
    stream: &mut (impl AsyncWrite + Unpin),
    exchange: &Exchange,
    conversation: &Conversation,
    permits: &Semaphore,
) -> io::Result<()> {
    let bytes = request(exchange);
    let pieces = conversation.pieces;
    // Whoever leaves takes nothing along that came before: it has been answered, and read.
    let wanted = match exchange.ending {
        Ending::ClientLeaves(..) | Ending::ServerLeaves(..) => conversation.depth,
        _ => 1,
    };
    let wanted = u32::try_from(wanted).expect("a few");
    permits
        .acquire_many(wanted)
        .await
        .expect("never closed")
        .forget();
    if let Ending::ClientLeaves(at, _) = exchange.ending {
        return write(stream, &bytes[..bytes.len() * at / 1000], pieces).await;
    }
    write(stream, &bytes, pieces).await?;
    if let Ending::Tunnel { up, .. } = &exchange.ending {
        write(stream, up, pieces).await?;
        stream.shutdown().await?;
    }
    Ok(())
}

async fn hear(reader: &mut Reader<impl AsyncRead + Unpin>, exchange: &Exchange) -> ClientSeen {
    let mut heads: Vec<Head> = Vec::new();
    let mut body = Vec::new();
    let mut whole = false;
    while let Some(head) = reader.head().await {
        let status = head.status();
        heads.push(head);
        if (100..200).contains(&status) && status != 101 {
            continue;
        }
        let last = heads.last().expect("one was put there");
        let bare = exchange.method == "HEAD" || matches!(status, 204 | 304);
        if status == 101 {
            reader.rest(&mut body).await;
        } else if !bare {
            whole = reader.body(last, Otherwise::UntilClose, &mut body).await;
        } else {
            whole = true;
        }
        break;
    }
    // Where the connection has to end nothing else may come.
    let closes = matches!(
        exchange.ending,
        Ending::ClientCloses | Ending::ServerCloses | Ending::UntilClose | Ending::Old
    );
    let leaves = matches!(exchange.ending, Ending::ServerLeaves(..));
    if closes || (leaves && !whole) {
        reader.rest(&mut body).await;
    }
    ClientSeen {
        heads,
        body,
        end: reader.end,
    }
}

// === The server ===

/// Serves one connection, as the plan of each request says.
pub(super) async fn serve(mut stream: TcpStream, origin: Rc<Origin>) {
    stream.set_nodelay(true).expect("a socket");
    let leaves = {
        let (read, mut write_half) = stream.split();
        let mut reader = Reader::new(read);
        let mut leaves = None;
        while let Some(head) = reader.head().await {
            match serve_one(&mut reader, &mut write_half, head, &origin).await {
                Served::Next => {}
                Served::Last => {
                    let _ = write_half.shutdown().await;
                    reader.rest(&mut Vec::new()).await;
                    break;
                }
                Served::Leaves(how) => {
                    leaves = Some(how);
                    break;
                }
            }
        }
        leaves
    };
    if leaves == Some(Leaves::Rst) {
        let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    }
}

enum Served {
    Next,
    Last,
    Leaves(Leaves),
}

async fn serve_one(
    reader: &mut Reader<impl AsyncRead + Unpin>,
    out: &mut (impl AsyncWrite + Unpin),
    head: Head,
    origin: &Origin,
) -> Served {
    let id = head.value(b"x-id").expect("an id");
    let id: u64 = std::str::from_utf8(id).unwrap().parse().unwrap();
    let (exchange, pieces) = origin.plan.borrow()[&id].clone();
    let exchange = &*exchange;
    let (interims, answer) = answer(exchange);
    let early = match exchange.reply.when {
        When::Whole => 0,
        When::Interim => interims.len(),
        When::Early => interims.len() + answer.len(),
    };
    let mut all = interims;
    all.extend_from_slice(&answer);
    let leaves = match exchange.ending {
        Ending::ServerLeaves(_, how) => Some(how),
        _ => None,
    };
    let until = leaves_after(exchange).unwrap_or(all.len());
    // A client that has gone is for the reader to notice.
    let _ = write(out, &all[..early.min(until)], pieces).await;
    let mut seen = ServerSeen {
        head,
        body: Vec::new(),
        whole: false,
    };
    let stops = leaves.is_some() && until <= early && early > 0;
    if !stops {
        seen.whole = reader
            .body(&seen.head, Otherwise::Nothing, &mut seen.body)
            .await;
    }
    let whole = seen.whole;
    if whole && until > early {
        let _ = write(out, &all[early..until], pieces).await;
    }
    if whole && matches!(exchange.ending, Ending::Tunnel { .. }) {
        let _ = out.shutdown().await;
        reader.rest(&mut seen.body).await;
    }
    origin.seen.borrow_mut().entry(id).or_default().push(seen);
    origin.changed.notify_waiters();
    match (leaves, &exchange.ending) {
        (Some(how), _) => Served::Leaves(how),
        (None, Ending::Open) if whole => Served::Next,
        (None, _) => Served::Last,
    }
}
