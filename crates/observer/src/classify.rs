// SPDX-License-Identifier: Apache-2.0
//! What the bytes of one stream are: TLS 1.3, older TLS, or plain; and whether a marker stands in them. Judges record
//! headers and hellos (RFC 8446), which are never encrypted; it cannot know whether application data is, which is what
//! markers are for. Read `markers.rs` next.

/// Bytes of a stream by what they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) tls: u64,
    pub(crate) plain: u64,
    /// How often a marker stood in them.
    pub(crate) markers: u64,
}

/// Judges a stream's bytes as they come.
#[derive(Debug, Default)]
pub(crate) struct Classifier {
    state: State,
    hellos: Hellos,
    counts: Counts,
    /// Why this is TLS, but not TLS 1.3.
    flaw: Option<&'static str>,
}

#[derive(Debug)]
enum State {
    /// Inside a record's header.
    Header { bytes: [u8; 5], have: usize },
    /// Inside a record's body.
    Body { handshake: bool, left: usize },
    /// For good.
    Plain,
}

impl Default for State {
    fn default() -> Self {
        Self::Header {
            bytes: [0; 5],
            have: 0,
        }
    }
}

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const HEARTBEAT: u8 = 24;

/// 2^14 of content and 256 of expansion.
const LONGEST_RECORD: u16 = 16_640;

impl Classifier {
    /// For a stream whose beginning nobody saw: it may begin with any record.
    pub(crate) fn midway() -> Self {
        Self {
            hellos: Hellos {
                step: Step::Missed,
                ..Hellos::default()
            },
            ..Self::default()
        }
    }

    /// Takes the stream's next bytes.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let used = match &mut self.state {
                State::Plain => {
                    self.counts.plain += bytes.len() as u64;
                    return;
                }
                State::Header { .. } => {
                    self.header(bytes[0]);
                    1
                }
                State::Body { handshake, left } => {
                    let used = bytes.len().min(*left);
                    *left -= used;
                    self.counts.tls += used as u64;
                    if *handshake && self.flaw.is_none() {
                        self.flaw = self.hellos.feed(&bytes[..used]).err();
                    }
                    if *left == 0 {
                        self.state = State::default();
                    }
                    used
                }
            };
            bytes = &bytes[used..];
        }
    }

    /// The stream is over: what is undecided is plain.
    pub(crate) fn finish(&mut self) {
        if let State::Header { have, .. } = self.state {
            self.counts.plain += have as u64;
            self.state = State::Plain;
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Why this is TLS, but not TLS 1.3.
    pub(crate) fn flaw(&self) -> Option<&'static str> {
        self.flaw
    }

    fn header(&mut self, byte: u8) {
        let State::Header { bytes, have } = &mut self.state else {
            return;
        };
        bytes[*have] = byte;
        *have += 1;
        let first = self.counts.tls == 0 && self.hellos.step == Step::Nothing;
        if !plausible(&bytes[..*have], first) {
            self.counts.plain += *have as u64;
            self.state = State::Plain;
            return;
        }
        if *have < bytes.len() {
            return;
        }
        let (kind, left) = (bytes[0], u16::from_be_bytes([bytes[3], bytes[4]]));
        self.counts.tls += bytes.len() as u64;
        self.state = State::Body {
            handshake: kind == HANDSHAKE,
            left: usize::from(left),
        };
        if self.flaw.is_none() {
            self.flaw = self.hellos.allow(kind, left).err();
        }
    }
}

/// Whether a record's header can begin like this.
fn plausible(header: &[u8], first: bool) -> bool {
    header.iter().enumerate().all(|(at, &byte)| match at {
        0 if first => byte == HANDSHAKE,
        0 => (CHANGE_CIPHER_SPEC..=HEARTBEAT).contains(&byte),
        1 => byte == 3,
        2 => matches!(byte, 1 | 3),
        4 => (1..=LONGEST_RECORD).contains(&u16::from_be_bytes([header[3], byte])),
        _ => true,
    })
}

/// How far the handshake of this direction is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Nothing,
    /// So many ClientHellos.
    Client(u8),
    /// The server asked for another ClientHello.
    Retry,
    /// A ServerHello chose TLS 1.3: everything that follows is encrypted.
    Agreed,
    /// The stream's beginning was not seen.
    Missed,
}

#[derive(Debug, Default)]
struct Hellos {
    step: Step,
    /// The message that is not whole yet.
    message: Vec<u8>,
}

/// A ClientHello has room for a post-quantum key share and more; nobody sends 16 KiB.
const LONGEST_HELLO: usize = 16 << 10;

type Verdict = Result<(), &'static str>;

impl Hellos {
    /// Whether a record of this kind and length may come now.
    fn allow(&self, kind: u8, length: u16) -> Verdict {
        let begun = !matches!(self.step, Step::Nothing);
        match kind {
            HANDSHAKE if self.step == Step::Agreed => {
                Err("a handshake record after the ServerHello")
            }
            HANDSHAKE => Ok(()),
            _ if !self.message.is_empty() => Err("another record inside a hello"),
            CHANGE_CIPHER_SPEC if length == 1 && begun => Ok(()),
            ALERT if length == 2 => Ok(()),
            APPLICATION_DATA if begun && self.step != Step::Retry => Ok(()),
            APPLICATION_DATA => Err("application data before the hello"),
            _ => Err("a record that TLS 1.3 does not have"),
        }
    }

    /// Takes bytes of handshake records, which are hellos or this is not TLS 1.3.
    fn feed(&mut self, bytes: &[u8]) -> Verdict {
        self.message.extend_from_slice(bytes);
        while let Some(&[kind, a, b, c]) = self.message.first_chunk() {
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            if length > LONGEST_HELLO {
                return Err("a hello beyond all bounds");
            }
            let Some(body) = self.message.get(4..4 + length) else {
                break;
            };
            self.step = self.step.after(kind, body)?;
            self.message.drain(..4 + length);
        }
        Ok(())
    }
}

impl Step {
    fn after(self, kind: u8, body: &[u8]) -> Result<Self, &'static str> {
        match (kind, self) {
            (1, Self::Nothing | Self::Missed) => Ok(Self::Client(1)),
            (1, Self::Client(1)) => Ok(Self::Client(2)),
            (2, Self::Nothing | Self::Missed | Self::Retry) => {
                let hello = ServerHello::parse(body).ok_or("a broken ServerHello")?;
                match (hello.is_13, hello.retry, self) {
                    (false, ..) => Err("the server chose a version before TLS 1.3"),
                    (true, true, Self::Retry) => Err("a second HelloRetryRequest"),
                    (true, true, _) => Ok(Self::Retry),
                    (true, false, _) => Ok(Self::Agreed),
                }
            }
            _ => Err("a handshake message in the clear"),
        }
    }
}

struct ServerHello {
    is_13: bool,
    retry: bool,
}

/// RFC 8446, 4.1.3: the random of a HelloRetryRequest.
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

const SUPPORTED_VERSIONS: u16 = 43;

impl ServerHello {
    fn parse(body: &[u8]) -> Option<Self> {
        let random = body.get(2..34)?;
        let session = usize::from(*body.get(34)?);
        // Cipher suite, compression method, and the length of the extensions, which hellos before 1.2 leave out.
        let mut rest = body.get(35 + session + 3..)?;
        rest = rest.get(2..).unwrap_or_default();
        let mut is_13 = false;
        while let Some((&[a, b, c, d], after)) = rest.split_first_chunk() {
            let (data, next) = after.split_at_checked(usize::from(u16::from_be_bytes([c, d])))?;
            if u16::from_be_bytes([a, b]) == SUPPORTED_VERSIONS {
                is_13 = data == [3, 4];
            }
            rest = next;
        }
        Some(Self {
            is_13,
            retry: random == RETRY,
        })
    }
}

#[cfg(test)]
mod tests;
