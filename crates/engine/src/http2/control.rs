// SPDX-License-Identifier: Apache-2.0
//! SETTINGS, PING, GOAWAY, WINDOW_UPDATE and RST_STREAM as they come in. Read `send.rs` for the other way.
//!
//! Whatever makes a window larger must wake who waits for it, SETTINGS too.

use super::closed::By;
use super::connection::Connection;
use super::frame::{self, Header, Kind};
use super::receive::{Found, Step, broken};
use super::settings::Role;
use super::streams::Blocked;
use super::{Code, ConnectionError, Event};

/// The largest window (RFC 9113, section 6.9.1).
const MAX_WINDOW: i64 = 0x7fff_ffff;

impl Connection {
    pub(super) fn rst_stream(&mut self, stream: u32, code: Code, out: &mut Vec<u8>) -> Step {
        if self.is_idle(stream) {
            return broken(Code::PROTOCOL_ERROR, "reset of a stream that is not open");
        }
        // Where the stream is gone its last word and the reset may have crossed: whose client leaves with a thousand requests says so a thousand times.
        if self.resets.charge(self.now) {
            return broken(Code::ENHANCE_YOUR_CALM, "too many streams were reset");
        }
        if self.streams.get(stream).is_none() {
            self.closed.heard(stream);
        }
        let gone = self.remove(stream, By::Peer, out);
        Ok(gone.map(|gone| {
            Found::Plain(Event::Reset {
                stream,
                token: gone.token,
                code,
            })
        }))
    }

    pub(super) fn peer_settings(
        &mut self,
        header: Header,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Step {
        if header.has(frame::ACK) {
            return match payload {
                [] => Ok(None),
                _ => broken(Code::FRAME_SIZE_ERROR, "SETTINGS of a wrong length"),
            };
        }
        let (values, []) = payload.as_chunks::<6>() else {
            return broken(Code::FRAME_SIZE_ERROR, "SETTINGS of a wrong length");
        };
        self.charge()?;
        if !std::mem::replace(&mut self.peer.settled, true) {
            self.peer.max_streams = u32::MAX;
        }
        for &[a, b, value @ ..] in values {
            self.peer_setting(u16::from_be_bytes([a, b]), u32::from_be_bytes(value))?;
        }
        frame::header(out, 0, Kind::SETTINGS, frame::ACK, 0);
        Ok(Some(Found::Plain(Event::Settings)))
    }

    fn peer_setting(&mut self, id: u16, value: u32) -> Result<(), ConnectionError> {
        let size = usize::try_from(value).unwrap_or(usize::MAX);
        match id {
            frame::HEADER_TABLE_SIZE => {
                self.encoder.set_table(size.min(self.settings.header_table));
            }
            frame::ENABLE_PUSH if value > 1 || value == 1 && self.role == Role::Client => {
                return broken(Code::PROTOCOL_ERROR, "unacceptable ENABLE_PUSH");
            }
            frame::MAX_CONCURRENT_STREAMS => self.peer.max_streams = value,
            frame::INITIAL_WINDOW_SIZE => return self.initial_window(value),
            frame::MAX_FRAME_SIZE => {
                if !(frame::DATA_SIZE..1 << 24).contains(&size) {
                    return broken(Code::PROTOCOL_ERROR, "unacceptable MAX_FRAME_SIZE");
                }
                self.peer.max_frame = size;
            }
            frame::MAX_HEADER_LIST_SIZE => self.peer.max_list = size,
            frame::ENABLE_CONNECT_PROTOCOL if value > 1 => {
                return broken(Code::PROTOCOL_ERROR, "unacceptable ENABLE_CONNECT_PROTOCOL");
            }
            frame::ENABLE_CONNECT_PROTOCOL => self.peer.protocols = value == 1,
            _ => {}
        }
        Ok(())
    }

    /// Changes the windows of all open streams by the difference (RFC 9113, section 6.9.2), and wakes those it opens.
    fn initial_window(&mut self, value: u32) -> Result<(), ConnectionError> {
        if i64::from(value) > MAX_WINDOW {
            return broken(Code::FLOW_CONTROL_ERROR, "unacceptable INITIAL_WINDOW_SIZE");
        }
        let change = i64::from(value) - i64::from(self.peer.initial_window);
        self.peer.initial_window = value;
        let mut woken = Vec::new();
        for (id, open) in self.streams.iter_mut() {
            open.send += change;
            if open.send > MAX_WINDOW {
                return broken(Code::FLOW_CONTROL_ERROR, "window overflow");
            }
            if open.blocked == Blocked::Stream && open.send > 0 {
                open.blocked = Blocked::Connection;
                woken.push(id);
            }
        }
        // In the order in which they were opened, not in that of a hash.
        woken.sort_unstable();
        self.blocked.extend(woken);
        Ok(())
    }

    /// Of no meaning (RFC 9113, section 5.3), but for its shape.
    pub(super) fn peer_priority(
        &mut self,
        header: Header,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Step {
        self.charge()?;
        let stream = header.stream;
        if payload.len() != 5 {
            return self.refuse(stream, Code::FRAME_SIZE_ERROR, out);
        }
        if frame::word(payload) & 0x7fff_ffff == stream {
            return self.refuse(stream, Code::PROTOCOL_ERROR, out);
        }
        Ok(None)
    }

    pub(super) fn peer_ping(&mut self, header: Header, payload: &[u8], out: &mut Vec<u8>) -> Step {
        self.charge()?;
        if header.has(frame::ACK) {
            let payload = payload.first_chunk().copied().unwrap_or_default();
            return Ok(Some(Found::Plain(Event::Pong { payload })));
        }
        frame::header(out, payload.len(), Kind::PING, frame::ACK, 0);
        out.extend_from_slice(payload);
        Ok(None)
    }

    pub(super) fn peer_goaway(&mut self, payload: &[u8]) -> Step {
        let Some((_, rest)) = payload
            .split_first_chunk::<4>()
            .filter(|(_, rest)| rest.len() >= 4)
        else {
            return broken(Code::FRAME_SIZE_ERROR, "GOAWAY of a wrong length");
        };
        self.charge()?;
        let last = frame::word(payload) & 0x7fff_ffff;
        let code = Code(frame::word(rest));
        self.goaway_received = true;
        if self.role == Role::Client {
            let mut above: Vec<u32> = self
                .streams
                .iter_mut()
                .map(|(id, _)| id)
                .filter(|&id| id > last)
                .collect();
            above.sort_unstable();
            self.unprocessed = above.into();
        }
        Ok(Some(Found::Plain(Event::Goaway { last, code })))
    }

    pub(super) fn window_update(&mut self, stream: u32, payload: &[u8], out: &mut Vec<u8>) -> Step {
        if self.windows.charge(self.now) {
            return broken(
                Code::ENHANCE_YOUR_CALM,
                "too many windows were opened for nothing",
            );
        }
        let increment = i64::from(frame::word(payload) & 0x7fff_ffff);
        if stream == 0 {
            self.send_window += increment;
            return match increment {
                0 => broken(Code::PROTOCOL_ERROR, "WINDOW_UPDATE of nothing"),
                _ if self.send_window > MAX_WINDOW => {
                    broken(Code::FLOW_CONTROL_ERROR, "window overflow")
                }
                _ => Ok(None),
            };
        }
        if self.is_idle(stream) {
            return broken(
                Code::PROTOCOL_ERROR,
                "WINDOW_UPDATE on a stream that is not open",
            );
        }
        let Some(open) = self.streams.get_mut(stream) else {
            return Ok(None);
        };
        if increment == 0 {
            return self.refuse(stream, Code::PROTOCOL_ERROR, out);
        }
        open.send += increment;
        if open.send > MAX_WINDOW {
            return self.refuse(stream, Code::FLOW_CONTROL_ERROR, out);
        }
        if open.blocked == Blocked::Stream && open.send > 0 {
            open.blocked = Blocked::Connection;
            self.blocked.push_back(stream);
        }
        Ok(None)
    }
}
