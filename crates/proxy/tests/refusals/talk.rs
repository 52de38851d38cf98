// SPDX-License-Identifier: Apache-2.0
//! Both ends of a conversation with a proxy: a TLS connection of a stranger or a session of our own, with the mesh's codec on it.
//! Everything that comes is kept, as it came on the wire and as it was decrypted.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use maille_engine::hpack::List;
use maille_engine::http2::{Connection, Event, Settings};
use maille_identity::{Credentials, Session};

use crate::pki::SERVER;
use crate::world::PATIENCE;

/// The client's address, as every request here claims it.
pub(crate) const CLAIM: &str = "203.0.113.9";

/// What a conversation left behind.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Every byte of the proxy's, as it came.
    pub(crate) raw: Vec<u8>,
    /// What of it was said through TLS.
    pub(crate) plain: Vec<u8>,
    /// The answer, if there was one: its status and the mesh's flag.
    pub(crate) answer: Option<(u16, String)>,
    /// The other side ended it.
    pub(crate) ended: bool,
}

/// The mesh's codec on one side, over any TLS.
pub(crate) struct Codec {
    link: Connection,
    list: List,
    out: Vec<u8>,
    answer: Option<(u16, String)>,
}

impl Codec {
    /// Asks for `/` at `authority`.
    pub(crate) fn asking(authority: SocketAddr) -> Self {
        let mut out = Vec::new();
        let mut link = Connection::client(Settings::mesh(), &mut out);
        let authority = authority.to_string();
        let fields = [
            (":method", "GET"),
            (":path", "/"),
            (":authority", authority.as_str()),
            (":m-src", CLAIM),
            ("Host", "web"),
        ];
        let fields = fields.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        link.open_stream(1, fields, true, &mut out).unwrap();
        Self::new(link, out)
    }

    /// Answers every request with 204.
    pub(crate) fn answering() -> Self {
        let mut out = Vec::new();
        let link = Connection::server(Settings::mesh(), &mut out);
        Self::new(link, out)
    }

    fn new(link: Connection, out: Vec<u8>) -> Self {
        Self {
            link,
            list: List::default(),
            out,
            answer: None,
        }
    }

    fn hear(&mut self, plain: &mut [u8]) {
        let mut at = 0;
        loop {
            let Self {
                link, list, out, ..
            } = self;
            let received = link.receive(0, &mut plain[at..], list, out).unwrap();
            at += received.taken;
            match received.event {
                None => return,
                Some(Event::Request { stream, .. }) => {
                    let fields = [(&b":status"[..], &b"204"[..])];
                    link.send_head(stream, fields, true, out).unwrap();
                }
                Some(Event::Response { fields, .. }) => {
                    let flag = String::from_utf8(fields.flag.unwrap_or_default().to_vec());
                    self.answer = Some((fields.status, flag.unwrap()));
                }
                Some(_) => {}
            }
        }
    }
}

/// Talks until the proxy ends it, or answers.
pub(crate) fn stranger(
    mut tls: rustls::Connection,
    mut stream: &TcpStream,
    mut codec: Codec,
) -> Heard {
    let mut heard = Heard::default();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // After an alert only the end is waited for.
    let mut over = false;
    while codec.answer.is_none() {
        if !over {
            let said = std::mem::take(&mut codec.out);
            tls.writer().write_all(&said).unwrap();
        }
        let mut out = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut out).unwrap();
        }
        // A proxy that has gone is seen when it is read from.
        drop(stream.write_all(&out));
        let Some(bytes) = read(stream, &mut heard) else {
            break;
        };
        let mut bytes = &bytes[..];
        while !bytes.is_empty() && !over {
            tls.read_tls(&mut bytes).unwrap();
            over = tls.process_new_packets().is_err();
            let mut plain = Vec::new();
            // Ends with WouldBlock, or with the proxy's farewell.
            drop(tls.reader().read_to_end(&mut plain));
            heard.plain.extend_from_slice(&plain);
            codec.hear(&mut plain);
        }
    }
    heard.answer = codec.answer;
    heard
}

/// A peer of the mesh asks for `/` at `authority`.
pub(crate) fn peer(own: &Credentials, at: SocketAddr, authority: SocketAddr) -> Heard {
    let mut session = Session::client(own, &SERVER.parse().unwrap()).unwrap();
    let mut codec = Codec::asking(authority);
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut heard = Heard::default();
    let (mut input, mut plain, mut out) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        let progress = session.feed(&mut input, &mut plain, &mut out).unwrap();
        heard.plain.extend_from_slice(&plain);
        codec.hear(&mut std::mem::take(&mut plain));
        if progress.established {
            let said = std::mem::take(&mut codec.out);
            session.seal(&said, &mut out).unwrap();
        }
        stream.write_all(&std::mem::take(&mut out)).unwrap();
        if codec.answer.is_some() {
            break;
        }
        match read(&stream, &mut heard) {
            Some(bytes) => input = bytes,
            None => break,
        }
    }
    heard.answer = codec.answer;
    heard
}

/// Says `text` and listens to the end.
pub(crate) fn bytes(mut stream: &TcpStream, text: &[u8]) -> Heard {
    let mut heard = Heard::default();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    drop(stream.write_all(text));
    while read(stream, &mut heard).is_some() {}
    heard
}

/// The next bytes; `None` at the end. A proxy that is silent fails the test.
fn read(mut stream: &TcpStream, heard: &mut Heard) -> Option<Vec<u8>> {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
    let mut chunk = vec![0; 65536];
    match stream.read(&mut chunk) {
        Ok(n @ 1..) => {
            chunk.truncate(n);
            heard.raw.extend_from_slice(&chunk);
            Some(chunk)
        }
        Err(error) if !matches!(error.kind(), ConnectionReset | BrokenPipe) => {
            panic!("the proxy neither answered nor closed: {error}, {heard:?}")
        }
        Ok(_) | Err(_) => {
            heard.ended = true;
            None
        }
    }
}

/// The types of the records that `raw` is made of (RFC 8446, 5.1), the last of which may be cut; panics at bytes that are none.
pub(crate) fn records(mut raw: &[u8]) -> Vec<u8> {
    let mut types = Vec::new();
    while let [kind, 3, 1 | 3, high, low, rest @ ..] = raw {
        assert!(matches!(kind, 20..=23), "{raw:?}");
        types.push(*kind);
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        raw = &rest[length.min(rest.len())..];
    }
    assert!(raw.is_empty(), "bytes that are no TLS: {raw:?}");
    types
}
