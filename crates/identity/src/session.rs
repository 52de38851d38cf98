// SPDX-License-Identifier: Apache-2.0
//! One TLS session as a value: bytes in, bytes out, no I/O. What `docs/wire.md` section 1 demands holds here or nowhere.
//!
//! Ciphertext is decrypted where it was read; only what a read left incomplete is copied. No plain byte is given out before
//! the other side has proved its identity and agreed on the protocol. Next: `session/error.rs`, `peer.rs`.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::SystemTime;

use maille_model::Identity;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
};

use crate::clock::unix;
use crate::credentials::{ALPN, Credentials};
use crate::peer::{Side, identity_of};
use crate::trust::Anchors;

mod error;

pub use error::SessionError;

/// Bytes of incomplete records that are kept at most. rustls itself takes handshake messages of up to 64 KiB.
const PENDING: usize = 256 * 1024;
/// What stands before each record: its type, a version, its length (RFC 8446, 5.1).
const HEADER: usize = 5;
/// What a record adds to its plain text at most, and how much plain text one record carries (RFC 8446, 5.2).
const RECORD_OVERHEAD: usize = HEADER + 1 + 16;
const RECORD_PLAIN: usize = 16 * 1024;

/// Where a session stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Both sides have proved who they are; plain bytes flow. (Who dialled gets here one flight before the other side has
    /// judged it: a refusal still comes, as an error of a later [`Session::feed`].)
    pub established: bool,
    /// The other side has said that it sends no more.
    pub closed: bool,
}

/// One side of one TLS connection.
pub struct Session {
    side: Connection,
    own: Credentials,
    /// The incomplete record, or handshake message, at the end of what was fed.
    pending: Vec<u8>,
    /// Plain bytes that came up while something was sealed.
    held: Vec<u8>,
    peer: Option<Identity>,
    /// When the peer was judged.
    judged: Option<SystemTime>,
    progress: Progress,
    /// The first two bytes looked like TLS, or how many of them did.
    looked: usize,
    failed: bool,
    /// We said that we send no more.
    ended: bool,
}

enum Connection {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// What to do once nothing else is left to do.
#[derive(Clone, Copy)]
enum Then<'a> {
    Wait,
    Seal(&'a [u8]),
    Close,
}

enum Step {
    /// Something was done; there may be more.
    Again,
    /// The other side sends no more.
    Closed,
    /// More bytes are needed, or [`Then`] was done.
    Idle,
    /// [`Then`] cannot be done (yet).
    Blocked,
}

// === impl Session ===

impl Session {
    /// The dialling side, which accepts `expected` and nobody else. Feed it nothing to get its first message.
    pub fn client(own: &Credentials, expected: &Identity) -> Result<Self, SessionError> {
        // Never sent and never compared: the identity is.
        let name = ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into());
        let connection = UnbufferedClientConnection::new(Arc::new(own.dial(expected)), name);
        let side = Connection::Client(connection.map_err(SessionError::of)?);
        Ok(Self::new(side, own))
    }

    /// The listening side, which accepts every identity of its own trust domain.
    pub fn server(own: &Credentials) -> Result<Self, SessionError> {
        let connection = UnbufferedServerConnection::new(own.accept());
        let side = Connection::Server(connection.map_err(SessionError::of)?);
        Ok(Self::new(side, own))
    }

    fn new(side: Connection, own: &Credentials) -> Self {
        Self {
            side,
            own: own.clone(),
            pending: Vec::new(),
            held: Vec::new(),
            peer: None,
            judged: None,
            progress: Progress::default(),
            looked: 0,
            failed: false,
            ended: false,
        }
    }

    /// Takes all of `input` (it is empty afterwards), appends what was said to `plain` and what must be sent to `out`.
    ///
    /// After an error the session is over: send `out`, which ends with the alert where one is due, and close the transport.
    /// Bytes that are no TLS are not answered. Nothing is appended to `plain` before the session is established.
    pub fn feed(
        &mut self,
        input: &mut Vec<u8>,
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Progress, SessionError> {
        let result = self.feed_slice(input, plain, out);
        input.clear();
        result
    }

    /// [`Session::feed`] from a buffer that somebody else owns. All of `input` is taken; its content is destroyed.
    pub fn feed_slice(
        &mut self,
        input: &mut [u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Progress, SessionError> {
        if self.failed {
            return Err(SessionError::Over);
        }
        let (mark, was) = (plain.len(), self.progress.established);
        let result = self.take(input, plain, out);
        if result.is_err() {
            self.failed = true;
            self.pending = Vec::new();
            if !was {
                plain.truncate(mark);
            }
        }
        result.map(|()| self.progress)
    }

    /// Encrypts `plain` into `out`. An error, and nothing appended, before the session is established or after its end.
    pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), SessionError> {
        if !self.progress.established {
            return Err(SessionError::NotEstablished);
        }
        if self.ended {
            return Err(SessionError::Over);
        }
        if plain.is_empty() {
            return Ok(());
        }
        self.then(Then::Seal(plain), out)
    }

    /// Says that we send no more. Does nothing before the session is established, after an error, or twice.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        if self.progress.established && !self.ended && !self.failed {
            self.ended = true;
            // A session that fails at its farewell is over all the same.
            drop(self.then(Then::Close, out));
        }
    }

    /// Who the other side proved to be.
    pub fn peer(&self) -> Option<&Identity> {
        self.peer.as_ref()
    }

    /// Whether what the other side proved itself with would do if `anchors` were all that we believe. Its age is no reason: a
    /// certificate that was good when it was judged stays so. `false` before the session is established.
    pub fn rests_on(&self, anchors: &Anchors) -> bool {
        let (Some(judged), Some((leaf, above))) = (self.judged, self.side.chain()) else {
            return false;
        };
        let trust = self.own.trust_in(anchors);
        trust
            .judge(leaf, above, self.side.other(), unix(judged))
            .is_ok()
    }

    /// Whether both sides have proved who they are, as far as this one knows.
    pub fn is_established(&self) -> bool {
        self.progress.established
    }

    fn take(
        &mut self,
        input: &mut [u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<(), SessionError> {
        self.look(input)?;
        plain.append(&mut self.held);
        let ahead = self.complete(input);
        let rest = &mut input[ahead..];
        if !self.pending.is_empty() {
            self.drive_pending(plain, out)?;
        }
        if self.pending.is_empty() {
            let taken = self.drive(rest, plain, out)?;
            self.pending.extend_from_slice(&rest[taken..]);
        } else {
            self.pending.extend_from_slice(rest);
            self.drive_pending(plain, out)?;
        }
        if self.pending.len() > PENDING {
            return Err(SessionError::TooLong);
        }
        Ok(())
    }

    /// Appends to the record that waits what it lacks, and no more, so that all others are decrypted where they lie. How many bytes that took.
    fn complete(&mut self, input: &[u8]) -> usize {
        if self.pending.is_empty() {
            return 0;
        }
        let mut taken = 0;
        // Its header first, which says how long it is.
        for _ in 0..2 {
            let lacks = record(&self.pending).saturating_sub(self.pending.len());
            let more = lacks.min(input.len() - taken);
            self.pending.extend_from_slice(&input[taken..taken + more]);
            taken += more;
        }
        taken
    }

    fn drive_pending(
        &mut self,
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<(), SessionError> {
        let mut pending = std::mem::take(&mut self.pending);
        let taken = self.drive(&mut pending, plain, out)?;
        pending.drain(..taken);
        // An idle connection owns no buffer.
        if !pending.is_empty() {
            self.pending = pending;
        }
        Ok(())
    }

    /// The first record must be a handshake (22) or, to who dialled, an alert (21), of major version 3.
    fn look(&mut self, input: &[u8]) -> Result<(), SessionError> {
        for byte in input.iter().take(2_usize.saturating_sub(self.looked)) {
            let fits = match (self.looked, &self.side) {
                (0, Connection::Server(_)) => *byte == 22,
                (0, Connection::Client(_)) => matches!(*byte, 21 | 22),
                _ => *byte == 3,
            };
            if !fits {
                return Err(SessionError::NotTls);
            }
            self.looked += 1;
        }
        Ok(())
    }

    /// Everything that can be done with `input`; how much of it was used.
    fn drive(
        &mut self,
        input: &mut [u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<usize, SessionError> {
        let mut taken = 0;
        loop {
            let (used, step) = self.side.step(&mut input[taken..], Then::Wait, plain, out);
            taken += used;
            let step = step.inspect_err(|_| self.side.alert(out))?;
            if !self.progress.established && !self.side.is_handshaking() {
                self.establish(&mut input[taken..], out)?;
            }
            match step {
                Step::Again => {}
                // What follows the end is nobody's.
                Step::Closed => {
                    self.progress.closed = true;
                    return Ok(input.len());
                }
                Step::Idle | Step::Blocked if self.progress.closed => return Ok(input.len()),
                Step::Idle | Step::Blocked => return Ok(taken),
            }
        }
    }

    /// The handshake is over: the protocol must be ours, and the identity is kept.
    fn establish(&mut self, input: &mut [u8], out: &mut Vec<u8>) -> Result<(), SessionError> {
        let protocol = self.side.protocol();
        if protocol != Some(ALPN) {
            // A farewell where it can be had at once; the transport is closed in any case.
            drop(self.side.step(input, Then::Close, &mut Vec::new(), out));
            return Err(SessionError::NoCommonProtocol);
        }
        let (leaf, _) = self.side.chain().ok_or(SessionError::NoCertificate)?;
        self.peer = Some(identity_of(leaf)?);
        self.judged = Some(self.own.clock().now());
        self.progress.established = true;
        Ok(())
    }

    fn then(&mut self, then: Then<'_>, out: &mut Vec<u8>) -> Result<(), SessionError> {
        if self.failed {
            return Err(SessionError::Over);
        }
        // rustls looks at the incomplete record each time, and counts on finding it again.
        let mut input = std::mem::take(&mut self.pending);
        let mut held = std::mem::take(&mut self.held);
        let result = loop {
            let (used, step) = self.side.step(&mut input, then, &mut held, out);
            input.drain(..used);
            match step {
                Ok(Step::Again) => {}
                Ok(Step::Closed) => self.progress.closed = true,
                Ok(Step::Idle) => break Ok(()),
                Ok(Step::Blocked) => break Err(SessionError::Over),
                Err(error) => {
                    self.side.alert(out);
                    self.failed = true;
                    break Err(error);
                }
            }
        };
        self.pending = input;
        self.held = held;
        result
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("peer", &self.peer)
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}

// === impl Connection ===

impl Connection {
    fn step(
        &mut self,
        input: &mut [u8],
        then: Then<'_>,
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> (usize, Result<Step, SessionError>) {
        match self {
            Self::Client(connection) => {
                step(connection.process_tls_records(input), then, plain, out)
            }
            Self::Server(connection) => {
                step(connection.process_tls_records(input), then, plain, out)
            }
        }
    }

    /// What rustls still wants to say after an error: the alert. It must not see the input again: it would judge the same
    /// bytes twice, and it takes a second alert for a bug.
    fn alert(&mut self, out: &mut Vec<u8>) {
        let mut plain = Vec::new();
        while self.wants_write() {
            // Plain text after an error is nobody's, and there is no second error while something waits to be sent.
            drop(self.step(&mut [], Then::Wait, &mut plain, out));
        }
    }

    fn wants_write(&self) -> bool {
        match self {
            Self::Client(connection) => connection.wants_write(),
            Self::Server(connection) => connection.wants_write(),
        }
    }

    fn is_handshaking(&self) -> bool {
        match self {
            Self::Client(connection) => connection.is_handshaking(),
            Self::Server(connection) => connection.is_handshaking(),
        }
    }

    /// The agreed protocol.
    fn protocol(&self) -> Option<&[u8]> {
        match self {
            Self::Client(connection) => connection.alpn_protocol(),
            Self::Server(connection) => connection.alpn_protocol(),
        }
    }

    /// What the other side sent to prove itself: leaf, and what is above it.
    fn chain(&self) -> Option<(&CertificateDer<'static>, &[CertificateDer<'static>])> {
        let chain = match self {
            Self::Client(connection) => connection.peer_certificates(),
            Self::Server(connection) => connection.peer_certificates(),
        };
        chain?.split_first()
    }

    /// On which side the other one is.
    fn other(&self) -> Side {
        match self {
            Self::Client(_) => Side::Server,
            Self::Server(_) => Side::Client,
        }
    }
}

/// Does what one status of rustls asks for; how much of the input it used.
fn step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    then: Then<'_>,
    plain: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> (usize, Result<Step, SessionError>) {
    let mut used = status.discard;
    let step = match status.state {
        Err(error) => Err(SessionError::of(error)),
        Ok(ConnectionState::ReadTraffic(mut read)) => loop {
            match read.next_record() {
                None => break Ok(Step::Again),
                Some(Err(error)) => break Err(SessionError::of(error)),
                Some(Ok(record)) => {
                    used += record.discard;
                    plain.extend_from_slice(record.payload);
                }
            }
        },
        Ok(ConnectionState::EncodeTlsData(mut encode)) => {
            write(out, 1024, |room| match encode.encode(room) {
                Ok(written) => Ok(written),
                Err(EncodeError::InsufficientSize(need)) => Err(Some(need)),
                Err(EncodeError::AlreadyEncoded) => Err(None),
            })
        }
        Ok(ConnectionState::TransmitTlsData(transmit)) => {
            transmit.done();
            Ok(Step::Again)
        }
        Ok(ConnectionState::PeerClosed) => Ok(Step::Closed),
        Ok(ConnectionState::WriteTraffic(mut traffic)) => match then {
            Then::Wait => Ok(Step::Idle),
            Then::Seal(data) => {
                let records = data.len().div_ceil(RECORD_PLAIN);
                let room = data.len() + records * RECORD_OVERHEAD;
                write(out, room, |room| encrypted(traffic.encrypt(data, room))).map(|_| Step::Idle)
            }
            Then::Close => write(out, 64, |room| encrypted(traffic.queue_close_notify(room)))
                .map(|_| Step::Idle),
        },
        // We never take early data; the session cannot be in any other state.
        Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed | _) => Ok(Step::Blocked),
    };
    (used, step)
}

/// How long the record is that `bytes` begin with, as far as they say so: its header at least.
fn record(bytes: &[u8]) -> usize {
    let length = match bytes {
        [_, _, _, high, low, ..] => u16::from_be_bytes([*high, *low]),
        _ => 0,
    };
    HEADER + usize::from(length)
}

fn encrypted(result: Result<usize, EncryptError>) -> Result<usize, Option<InsufficientSizeError>> {
    match result {
        Ok(written) => Ok(written),
        Err(EncryptError::InsufficientSize(need)) => Err(Some(need)),
        Err(EncryptError::EncryptExhausted) => Err(None),
    }
}

/// Appends what `fill` writes into room for `guess` bytes, or for as many as it then asks for.
fn write(
    out: &mut Vec<u8>,
    guess: usize,
    mut fill: impl FnMut(&mut [u8]) -> Result<usize, Option<InsufficientSizeError>>,
) -> Result<Step, SessionError> {
    let start = out.len();
    let mut room = guess;
    for _ in 0..2 {
        out.resize(start + room, 0);
        match fill(&mut out[start..]) {
            Ok(written) => {
                out.truncate(start + written);
                return Ok(Step::Again);
            }
            Err(Some(need)) => room = need.required_size,
            Err(None) => break,
        }
    }
    out.truncate(start);
    Err(SessionError::Over)
}

#[cfg(test)]
mod tests;
