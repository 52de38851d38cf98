// SPDX-License-Identifier: Apache-2.0
//! Clients of the first core's application whose every word the test itself says.

use std::time::Duration;

use maille_engine::route::Direction;

use super::{SERVICE, Sim};
use crate::accept::{Accepted, Door};
use crate::forward::ConnId;

impl Sim {
    /// A client that has connected, and said nothing yet.
    pub(in super::super) fn client(&mut self) -> ConnId {
        self.cores[0].begin_turn(self.now);
        let accepted = Accepted {
            door: Door::Plain(Direction::Outbound),
            client: "10.244.0.1:40000".parse().unwrap(),
            destination: SERVICE.parse().unwrap(),
        };
        self.cores[0].accept(accepted).unwrap()
    }

    /// The client says this, and it takes the core so long to work it off.
    pub(in super::super) fn say(&mut self, client: ConnId, mut bytes: Vec<u8>, took: Duration) {
        let core = &mut self.cores[0];
        core.begin_turn(self.now);
        core.input(client, &mut bytes);
        core.rest(client, took);
        core.finish_turn();
    }

    /// Whether the client would be read after so long.
    pub(in super::super) fn is_read_after(&mut self, client: ConnId, time: Duration) -> bool {
        self.now += time;
        self.cores[0].begin_turn(self.now);
        self.cores[0].finish_turn();
        self.cores[0].wants_read(client)
    }
}
