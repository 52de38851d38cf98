// SPDX-License-Identifier: Apache-2.0
//! What each side announces (RFC 9113, section 6.5; `docs/wire.md`, limits and windows), for each dialect. Read `connection.rs` next.

use super::Dialect;
use super::frame;
use crate::hpack::{INITIAL_TABLE, Limits};

/// Windows before anybody has said anything (RFC 9113, section 6.9.2).
pub(super) const INITIAL_WINDOW: u32 = 65_535;
/// Streams that are opened before the peer has said how many it takes (RFC 9113, section 6.5.2, advises servers to take no fewer).
const BEFORE_SETTINGS: u32 = 100;

/// What a side announces and holds its peer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whose rules hold.
    pub dialect: Dialect,
    /// SETTINGS_HEADER_TABLE_SIZE, and the most that the own encoder uses.
    pub header_table: usize,
    /// SETTINGS_MAX_FRAME_SIZE: 16,384 to 16,777,215.
    pub max_frame: u32,
    /// SETTINGS_MAX_CONCURRENT_STREAMS, and the most that this side opens.
    pub max_streams: u32,
    /// SETTINGS_INITIAL_WINDOW_SIZE, below 2^31.
    pub stream_window: u32,
    /// The connection's window: 65,535 to 2^31 - 1.
    pub connection_window: u32,
    /// Of a decoded field list.
    pub list: Limits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Client,
    Server,
}

/// What the peer announced.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub(super) initial_window: u32,
    pub(super) max_frame: usize,
    pub(super) max_streams: u32,
    pub(super) max_list: usize,
    /// SETTINGS_ENABLE_CONNECT_PROTOCOL
    pub(super) protocols: bool,
    /// It has announced something.
    pub(super) settled: bool,
}

// === impl Settings ===

impl Settings {
    /// Between proxies: `docs/wire.md`, limits and windows.
    pub fn mesh() -> Self {
        Self {
            dialect: Dialect::Mesh,
            header_table: 16 * 1024,
            max_frame: 128 * 1024,
            max_streams: 16 * 1024,
            stream_window: 256 * 1024,
            connection_window: 16 * 1024 * 1024,
            list: Limits::default(),
        }
    }

    /// With an application.
    pub fn rfc9113() -> Self {
        Self {
            dialect: Dialect::Rfc9113,
            header_table: INITIAL_TABLE,
            max_frame: 16 * 1024,
            max_streams: 1024,
            ..Self::mesh()
        }
    }

    /// Appends them as SETTINGS.
    pub(super) fn announce(&self, role: Role, out: &mut Vec<u8>) {
        let number = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
        let mesh = self.dialect == Dialect::Mesh;
        let server = role == Role::Server;
        let values = [
            (true, frame::HEADER_TABLE_SIZE, number(self.header_table)),
            (mesh || !server, frame::ENABLE_PUSH, 0),
            (
                mesh || server,
                frame::MAX_CONCURRENT_STREAMS,
                self.max_streams,
            ),
            (true, frame::INITIAL_WINDOW_SIZE, self.stream_window),
            (true, frame::MAX_FRAME_SIZE, self.max_frame),
            (!mesh, frame::MAX_HEADER_LIST_SIZE, number(self.list.size)),
            (!mesh && server, frame::ENABLE_CONNECT_PROTOCOL, 1),
        ];
        let said = values.into_iter().filter(|(said, ..)| *said);
        let said: Vec<_> = said.map(|(_, id, value)| (id, value)).collect();
        frame::settings(out, &said);
    }
}

// === impl Peer ===

impl Peer {
    /// What holds until it has spoken.
    pub(super) fn before(dialect: Dialect) -> Self {
        Self {
            initial_window: INITIAL_WINDOW,
            max_frame: frame::DATA_SIZE,
            max_streams: match dialect {
                Dialect::Mesh => u32::MAX,
                Dialect::Rfc9113 => BEFORE_SETTINGS,
            },
            max_list: usize::MAX,
            protocols: false,
            settled: false,
        }
    }
}
