// SPDX-License-Identifier: Apache-2.0
//! Plays cases: a client, a server, and what is between them. Must never wait for a clock but to give up. Next: `../lab.rs`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use maille_model::{Membership, Protocol};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::script::{Case, End, Expected, On, Step, What, Who};
use crate::lab::{Lab, Proxy};

/// Nothing takes longer that comes at all.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Between {
    Nothing,
    /// The client's, to a server outside of the mesh.
    Proxy,
    /// The client's and the server's.
    Mesh,
}

/// How texts are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pieces {
    Whole,
    Small,
}

/// A server's listener, and what is in front of it.
pub(super) struct Stage {
    between: Between,
    listener: TcpListener,
    dial: SocketAddr,
    _proxies: Option<(Lab, Proxy, Option<Proxy>)>,
}

/// One connection, at either end.
struct Wire {
    /// `None` when it was reset.
    stream: Option<Arc<TcpStream>>,
    write: mpsc::UnboundedSender<Write>,
    writer: JoinHandle<()>,
    buffer: Vec<u8>,
    ended: Option<End>,
}

enum Write {
    Bytes(Vec<u8>),
    Fin,
}

/// A case that is being played.
struct Play<'s> {
    stage: &'s Stage,
    pieces: Pieces,
    client: Wire,
    /// All connections that the server has accepted; the last one is spoken on.
    servers: Vec<Wire>,
    /// Sent by the client, by the server, and not yet asked for.
    sent: [Vec<u8>; 2],
}

impl Stage {
    /// Must be called in a runtime, in a `LocalSet`.
    pub(super) fn new(between: Between) -> Self {
        let lab = Lab::new();
        let membership = match between {
            Between::Mesh => Membership::Meshed,
            Between::Nothing | Between::Proxy => Membership::Unmeshed,
        };
        let web = lab.pod(2, membership);
        let listener = std::net::TcpListener::bind((web.ip, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        if between == Between::Nothing {
            return Self {
                between,
                listener,
                dial: address,
                _proxies: None,
            };
        }
        let server = (between == Between::Mesh).then(|| {
            let own = lab.own(&web, address.port(), Protocol::Http1);
            lab.start(&web, own, lab.service(), address)
        });
        let app = lab.pod(1, Membership::Meshed);
        let mut snapshot = lab.own(&app, 9, Protocol::Undeclared);
        lab.add_service(&mut snapshot, Protocol::Http1, &[(&web, address.port())]);
        let client = lab.start(&app, snapshot, lab.service(), SocketAddr::new(app.ip, 9));
        Self {
            between,
            listener,
            dial: client.outbound,
            _proxies: Some((lab, client, server)),
        }
    }

    pub(super) async fn play(&mut self, case: &Case, pieces: Pieces) -> Result<(), String> {
        let mut play = Play {
            pieces,
            client: Wire::new(TcpStream::connect(self.dial).await.unwrap(), pieces),
            servers: Vec::new(),
            sent: [Vec::new(), Vec::new()],
            stage: self,
        };
        for step in &case.steps {
            if !step.is_for(play.stage.between) {
                continue;
            }
            let done = timeout(PATIENCE, play.step(step)).await;
            done.unwrap_or_else(|_| Err("it never came".to_owned()))
                .map_err(|why| format!("  line {}: {why}", step.line))?;
        }
        let over = timeout(PATIENCE, play.over()).await;
        over.unwrap_or_else(|_| Err("it never was over".to_owned()))
            .map_err(|why| format!("  afterwards: {why}"))
    }

    async fn accept(&self, pieces: Pieces) -> Wire {
        Wire::new(self.listener.accept().await.unwrap().0, pieces)
    }
}

impl Play<'_> {
    async fn step(&mut self, step: &Step) -> Result<(), String> {
        match (&step.what, step.who) {
            (What::Sends(bytes), who) | (What::SendsAside(bytes), who) => {
                if matches!(step.what, What::Sends(_)) {
                    self.sent[who as usize].extend_from_slice(bytes);
                }
                self.wire(who)?.send(Write::Bytes(bytes.clone()));
                Ok(())
            }
            (What::Receives(expected, on), who) => {
                let sent = std::mem::take(&mut self.sent[1 - who as usize]);
                let expected = match expected {
                    Expected::Same => sent,
                    Expected::Bytes(bytes) => bytes.clone(),
                };
                if who == Who::Server {
                    self.server_speaks(*on).await?;
                }
                self.wire(who)?.expect(&expected).await
            }
            (What::Fin, who) => {
                self.wire(who)?.send(Write::Fin);
                Ok(())
            }
            (What::Rst, Who::Client) => self.client.rst().await,
            (What::Rst, Who::Server) => self.wire(Who::Server)?.rst().await,
            (What::Sees(end), who) => {
                let sent = std::mem::take(&mut self.sent[1 - who as usize]);
                self.wire(who)?.expect_end(*end, &sent).await
            }
            (
                What::Answered {
                    status,
                    flag,
                    closes,
                },
                _,
            ) => self.answered(*status, flag, *closes).await,
            (What::IsOpen, _) => self.open().await,
        }
    }

    fn wire(&mut self, who: Who) -> Result<&mut Wire, String> {
        match who {
            Who::Client => Ok(&mut self.client),
            Who::Server => self
                .servers
                .last_mut()
                .ok_or_else(|| "nobody dialled".to_owned()),
        }
    }

    /// Waits for bytes on the connection that was used last, or for a new one.
    async fn server_speaks(&mut self, on: On) -> Result<(), String> {
        let before = self.servers.len();
        match self.servers.last_mut() {
            Some(wire) if wire.buffer.is_empty() && wire.ended.is_none() => {
                let accepted = tokio::select! {
                    // What was said on the old one was said before.
                    biased;
                    () = wire.fill() => None,
                    accepted = self.stage.accept(self.pieces) => Some(accepted),
                };
                // An old one that only ended is no longer spoken on.
                let over = wire.buffer.is_empty();
                match accepted {
                    Some(accepted) => self.servers.push(accepted),
                    None if over => self.servers.push(self.stage.accept(self.pieces).await),
                    None => {}
                }
            }
            Some(wire) if wire.ended.is_none() => {}
            _ => self.servers.push(self.stage.accept(self.pieces).await),
        }
        let new = self.servers.len() > before;
        match on {
            On::New if !new => Err("the connection was used again".to_owned()),
            On::Same if new => Err("the connection was not used again".to_owned()),
            On::New | On::Same | On::Any => Ok(()),
        }
    }

    /// An answer that the mesh makes, to the byte but for the words of the reason; `-` in place of a flag stands for one without its body, as HEAD gets it.
    async fn answered(&mut self, status: u16, flag: &str, closes: bool) -> Result<(), String> {
        let close = if closes { "connection: close\r\n" } else { "" };
        let line = self.client.line().await?;
        let reason = maille_engine::http1::canonical_reason(status);
        let expected = format!("HTTP/1.1 {status} {reason}\r\n");
        if line != expected.as_bytes() {
            return Err(format!("{:?}, not {expected:?}", Shown(&line)));
        }
        self.client.expect(b"content-type: text/plain\r\n").await?;
        let length = String::from_utf8_lossy(&self.client.line().await?).into_owned();
        let length = length.strip_prefix("content-length: ");
        let length = length.and_then(|length| length.trim_end().parse().ok());
        let length: usize = length.ok_or("no content-length")?;
        self.client
            .expect(format!("{close}\r\n").as_bytes())
            .await?;
        if flag == "-" {
            return Ok(());
        }
        let body = self.client.line_or(length).await?;
        let named = body.starts_with(format!("maille: {flag}: ").as_bytes());
        if !named || body.len() != length || !body.ends_with(b"\n") {
            return Err(format!("{:?} instead of {flag}", Shown(&body)));
        }
        if closes {
            return self.client.expect_end(End::Fin, &[]).await;
        }
        Ok(())
    }

    /// The client's connection takes another request.
    async fn open(&mut self) -> Result<(), String> {
        let request = b"GET /open HTTP/1.1\r\nHost: open\r\n\r\n";
        self.client.send(Write::Bytes(request.to_vec()));
        self.server_speaks(On::Any).await?;
        let server = self.wire(Who::Server)?;
        server.expect(request).await?;
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nopen";
        server.send(Write::Bytes(answer.to_vec()));
        self.client.expect(answer).await
    }

    /// Nothing else was said, and nothing else is on its way.
    async fn over(mut self) -> Result<(), String> {
        if !self.client.buffer.is_empty() {
            return Err(format!(
                "the client got more: {:?}",
                Shown(&self.client.buffer)
            ));
        }
        drop(self.client);
        for server in &mut self.servers {
            server.nothing_more().await?;
        }
        if self.stage.between == Between::Nothing {
            return Ok(());
        }
        let mut last = Wire::new(
            TcpStream::connect(self.stage.dial).await.unwrap(),
            Pieces::Whole,
        );
        let probe = b"GET /probe HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n";
        last.send(Write::Bytes(probe.to_vec()));
        let mut server = self.stage.accept(Pieces::Whole).await;
        server
            .expect(probe)
            .await
            .map_err(|why| format!("the server got more: {why}"))?;
        let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        server.send(Write::Bytes(answer.to_vec()));
        last.expect(answer).await?;
        server.nothing_more().await
    }
}

impl Wire {
    fn new(stream: TcpStream, pieces: Pieces) -> Self {
        stream.set_nodelay(true).unwrap();
        let stream = Arc::new(stream);
        let (write, mut writes) = mpsc::unbounded_channel();
        let socket = Arc::clone(&stream);
        let writer = tokio::task::spawn_local(async move {
            while let Some(what) = writes.recv().await {
                let done = match what {
                    Write::Bytes(bytes) => write_all(&socket, &bytes, pieces).await,
                    Write::Fin => {
                        socket2::SockRef::from(&*socket).shutdown(std::net::Shutdown::Write)
                    }
                };
                if done.is_err() {
                    // The peer is gone, which its reader notices.
                    return;
                }
            }
        });
        Self {
            stream: Some(stream),
            write,
            writer,
            buffer: Vec::new(),
            ended: None,
        }
    }

    /// Nobody waits for it: the other side may have to read first.
    fn send(&mut self, what: Write) {
        // A writer that is gone met a peer that is gone.
        let _ = self.write.send(what);
    }

    /// Reads what is there, or waits for it.
    async fn fill(&mut self) {
        let mut chunk = vec![0; 64 * 1024];
        let Some(stream) = &self.stream else {
            self.ended = Some(End::Reset);
            return;
        };
        loop {
            stream.readable().await.unwrap();
            match stream.try_read(&mut chunk) {
                Ok(0) => self.ended = Some(End::Fin),
                Ok(n) => self.buffer.extend_from_slice(&chunk[..n]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(_) => self.ended = Some(End::Reset),
            }
            return;
        }
    }

    async fn expect(&mut self, bytes: &[u8]) -> Result<(), String> {
        while self.buffer.len() < bytes.len() && self.ended.is_none() {
            if !bytes.starts_with(&self.buffer) {
                break;
            }
            self.fill().await;
        }
        if !self.buffer.starts_with(bytes) {
            return Err(format!(
                "{:?} (ended: {:?})\n  instead of {:?}",
                Shown(&self.buffer),
                self.ended,
                Shown(bytes)
            ));
        }
        self.buffer.drain(..bytes.len());
        Ok(())
    }

    async fn line(&mut self) -> Result<Vec<u8>, String> {
        loop {
            if let Some(at) = self.buffer.iter().position(|byte| *byte == b'\n') {
                return Ok(self.buffer.drain(..=at).collect());
            }
            if let Some(end) = self.ended {
                return Err(format!("{:?} and {end:?}", Shown(&self.buffer)));
            }
            self.fill().await;
        }
    }

    async fn line_or(&mut self, length: usize) -> Result<Vec<u8>, String> {
        while self.buffer.len() < length && self.ended.is_none() {
            self.fill().await;
        }
        let length = length.min(self.buffer.len());
        Ok(self.buffer.drain(..length).collect())
    }

    /// The end, and before it at most a part of what nobody asked for yet: it came together with what was wrong.
    async fn expect_end(&mut self, end: End, unasked: &[u8]) -> Result<(), String> {
        while self.ended.is_none() {
            self.fill().await;
        }
        let seen = std::mem::take(&mut self.buffer);
        let part = seen.len() < unasked.len() && unasked.starts_with(&seen);
        if !seen.is_empty() && !part {
            return Err(format!("{:?} before the end", Shown(&seen)));
        }
        match (self.ended, end) {
            (Some(_), End::Either) => Ok(()),
            (Some(found), end) if found == end => Ok(()),
            (found, _) => Err(format!("{found:?} instead of {end:?}")),
        }
    }

    /// Everything that was to be sent has been, then the connection is reset.
    async fn rst(&mut self) -> Result<(), String> {
        let (write, _) = mpsc::unbounded_channel();
        drop(std::mem::replace(&mut self.write, write));
        (&mut self.writer)
            .await
            .map_err(|error| error.to_string())?;
        let stream = self.stream.take().ok_or("was reset before")?;
        let linger = socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
        linger.map_err(|error| error.to_string())
    }

    /// Ends it, and reads to the other side's end: there must be nothing but that.
    async fn nothing_more(&mut self) -> Result<(), String> {
        self.send(Write::Fin);
        while self.ended.is_none() {
            self.fill().await;
        }
        if self.buffer.is_empty() {
            return Ok(());
        }
        Err(format!("the server got more: {:?}", Shown(&self.buffer)))
    }
}

async fn write_all(stream: &TcpStream, bytes: &[u8], pieces: Pieces) -> io::Result<()> {
    let mut at = 0;
    let mut step = 1;
    while at < bytes.len() {
        // Small ones of several sizes, and large ones of large texts.
        step = step % 7 + 1;
        let most = match pieces {
            Pieces::Whole => bytes.len(),
            Pieces::Small => step.max(bytes.len() / 64),
        };
        stream.writable().await?;
        let end = (at + most).min(bytes.len());
        match stream.try_write(&bytes[at..end]) {
            Ok(n) => at += n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Bytes as they are written in cases, the middle of long ones left out.
struct Shown<'b>(&'b [u8]);

impl std::fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let long = self.0.len() > 600;
        let shown = if long { &self.0[..300] } else { self.0 };
        write!(f, "`{}`", shown.escape_ascii())?;
        if long {
            write!(f, " and {} more", self.0.len() - 300)?;
        }
        Ok(())
    }
}
