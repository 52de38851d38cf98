// SPDX-License-Identifier: Apache-2.0
//! The application behind the proxies: a small blocking HTTP/1.1 server whose path says how it behaves, and a TCP server that echoes.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

/// Nothing in these tests takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A running server.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    /// How many bytes of a body a client sent that left in the middle of it.
    pub(crate) reports: Receiver<usize>,
}

/// Byte `at` of every generated body.
pub(crate) fn pattern(at: usize) -> u8 {
    u8::try_from((at * 31 + at / 251) % 251).unwrap()
}

pub(crate) fn patterned(length: usize) -> Vec<u8> {
    (0..length).map(pattern).collect()
}

impl Origin {
    pub(crate) fn http(at: SocketAddr) -> Self {
        Self::start(at, serve_http)
    }

    /// Sends back what comes; FIN for FIN.
    pub(crate) fn echo(at: SocketAddr) -> Self {
        Self::start(at, |mut stream, _| {
            let mut buffer = vec![0; 65536];
            while let Ok(n) = stream.read(&mut buffer) {
                if n == 0 {
                    let _ = stream.shutdown(Shutdown::Write);
                    return;
                }
                if stream.write_all(&buffer[..n]).is_err() {
                    return;
                }
            }
        })
    }

    pub(crate) fn start(at: SocketAddr, serve: fn(TcpStream, &Sender<usize>)) -> Self {
        let listener = TcpListener::bind(at).unwrap();
        let (report, reports) = std::sync::mpsc::channel();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                count.fetch_add(1, Ordering::SeqCst);
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.set_write_timeout(Some(PATIENCE)).unwrap();
                stream.set_nodelay(true).unwrap();
                let report = report.clone();
                std::thread::spawn(move || serve(stream, &report));
            }
        });
        Self {
            address,
            accepted,
            reports,
        }
    }

    /// Connections accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// A connection read through a buffer, so that nothing after a message is lost.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    pub(crate) fn connect(to: SocketAddr) -> Self {
        Self::new(TcpStream::connect(to).unwrap())
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    fn fill(&mut self) -> std::io::Result<usize> {
        let mut chunk = vec![0; 65536];
        let n = self.stream.read(&mut chunk)?;
        self.buffer.extend_from_slice(&chunk[..n]);
        Ok(n)
    }

    /// The next head, with its empty line; `None` at the end of the stream.
    pub(crate) fn head(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..at + 4).collect();
                return Some(String::from_utf8(head).unwrap());
            }
            match self.fill() {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => panic!("no head: {error}"),
            }
        }
    }

    pub(crate) fn exactly(&mut self, n: usize) -> Vec<u8> {
        while self.buffer.len() < n {
            let got = self.fill().unwrap();
            assert_ne!(got, 0, "ended after {} of {n} bytes", self.buffer.len());
        }
        self.buffer.drain(..n).collect()
    }

    /// Everything to the end; the error, if it did not end with FIN.
    pub(crate) fn rest(&mut self) -> (Vec<u8>, std::io::Result<()>) {
        loop {
            match self.fill() {
                Ok(0) => return (std::mem::take(&mut self.buffer), Ok(())),
                Ok(_) => {}
                Err(error) => return (std::mem::take(&mut self.buffer), Err(error)),
            }
        }
    }

    /// A chunked body with its trailers, as it is on the wire.
    pub(crate) fn chunked(&mut self) -> (Vec<u8>, String) {
        let mut body = Vec::new();
        loop {
            let line = self.line();
            let size = usize::from_str_radix(line.split(';').next().unwrap().trim(), 16).unwrap();
            if size == 0 {
                let mut trailers = String::new();
                loop {
                    let line = self.line();
                    if line.is_empty() {
                        return (body, trailers);
                    }
                    trailers += &line;
                    trailers.push('\n');
                }
            }
            body.extend(self.exactly(size));
            assert_eq!(self.exactly(2), b"\r\n");
        }
    }

    pub(crate) fn line(&mut self) -> String {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|w| w == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..at + 2).collect();
                return String::from_utf8(line[..at].to_vec()).unwrap();
            }
            assert_ne!(self.fill().unwrap(), 0, "ended in a line");
        }
    }

    /// A response: head and body by its framing.
    pub(crate) fn response(&mut self) -> (String, Vec<u8>) {
        let head = self.head().expect("a response");
        let body = match field(&head, "content-length") {
            Some(length) => self.exactly(length.parse().unwrap()),
            None if field(&head, "transfer-encoding").is_some() => self.chunked().0,
            None => self.rest().0,
        };
        (head, body)
    }
}

/// The value of a field, by its name in any case.
pub(crate) fn field(head: &str, name: &str) -> Option<String> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name)
            .then(|| value.trim().to_owned())
    })
}

pub(crate) fn serve_http(stream: TcpStream, report: &Sender<usize>) {
    let mut wire = Wire::new(stream);
    while let Some(head) = wire.head() {
        let target = head.split([' ', '?']).nth(1).unwrap().to_owned();
        let (path, argument) = target[1..]
            .split_once('/')
            .map_or((&target[1..], ""), |(path, rest)| (path, rest));
        match path {
            "echo" => {
                let body = request_body(&mut wire, &head);
                respond(&mut wire, "200 OK", &body);
            }
            "head" => {
                let body = request_body(&mut wire, &head);
                assert!(body.is_empty());
                respond(&mut wire, "200 OK", head.as_bytes());
            }
            "bytes" => respond(&mut wire, "200 OK", &patterned(argument.parse().unwrap())),
            "status" => respond(&mut wire, &format!("{argument} As Asked"), b""),
            "early" => {
                // Answers before the request has ended, then still reads all of it.
                respond(&mut wire, "413 Content Too Large", b"too much");
                request_body(&mut wire, &head);
            }
            "early-close" => {
                wire.send("HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 8\r\n\r\ntoo much");
                let _ = wire.stream.shutdown(Shutdown::Write);
                // Reads on until the client stops, as a careful server does.
                let _ = wire.rest();
                return;
            }
            "upgrade" => {
                wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
                loop {
                    let echo = std::mem::take(&mut wire.buffer);
                    wire.send(&echo);
                    if wire.fill().unwrap() == 0 {
                        let _ = wire.stream.shutdown(Shutdown::Write);
                        return;
                    }
                }
            }
            "continue" => {
                wire.send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
                let body = request_body(&mut wire, &head);
                respond(&mut wire, "200 Fine By Me", &body);
            }
            "trailers" => wire.send(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5;ext=1\r\nhello\r\n0\r\nX-Sum: 5\r\n\r\n",
            ),
            "until-close" => {
                wire.send("HTTP/1.1 200 OK\r\n\r\n");
                wire.send(patterned(100_000));
                return;
            }
            "truncated" => {
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
                return;
            }
            "count" => {
                let length = count(&mut wire, &head);
                respond(&mut wire, "200 OK", length.to_string().as_bytes());
            }
            "report" => {
                wire.send("HTTP/1.1 100 Continue\r\n\r\n");
                let (body, _) = wire.rest();
                report.send(body.len()).unwrap();
                return;
            }
            "slam" => return,
            "garbage" => {
                wire.send("this is not HTTP\r\n\r\n");
                return;
            }
            "not-modified" => wire.send("HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n"),
            other => panic!("no behaviour {other:?}"),
        }
    }
}

/// Reads a patterned body without keeping it.
fn count(wire: &mut Wire, head: &str) -> usize {
    let length: usize = field(head, "content-length").unwrap().parse().unwrap();
    let mut at = 0;
    while at < length {
        let n = (length - at).min(251 * 4096);
        let got = wire.exactly(n);
        assert!(got.iter().enumerate().all(|(i, byte)| *byte == pattern(i)));
        at += n;
    }
    length
}

fn request_body(wire: &mut Wire, head: &str) -> Vec<u8> {
    if field(head, "transfer-encoding").is_some() {
        return wire.chunked().0;
    }
    let length = field(head, "content-length").map_or(0, |length| length.parse().unwrap());
    wire.exactly(length)
}

fn respond(wire: &mut Wire, status: &str, body: &[u8]) {
    let mut message = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    message.extend_from_slice(body);
    // A client that has gone is not the server's concern.
    let _ = wire.stream.write_all(&message);
}
