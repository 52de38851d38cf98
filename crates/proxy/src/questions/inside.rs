// SPDX-License-Identifier: Apache-2.0
//! Whether somebody may see what goes through mesh connections, and what he is told of it.
//!
//! The pod's owner decides, by this process's own setting: control's word is not enough. Must never tell a piece before it was said that the owner agrees.

use maille_wire::v1;
use maille_wire::v1::answer::What as Said;

use super::Session;
use crate::config::Inside;
use crate::tap::{TAPS, Untold};

/// Why it is not shown.
const CLOSED: &str = "its owner does not let it show what goes through it";
/// Pieces in one answer: 64 KiB.
const PIECES: usize = 16;

impl Session<'_> {
    /// Says yes or no. A yes that finds no room was not said, and nothing is told.
    pub(super) fn look_inside(&mut self, id: u64) {
        self.inside.retain(|known| *known != id);
        let said = match self.may_look() {
            Ok(()) => self.say(id, Said::Agreed(v1::Agreed {})),
            Err(why) => {
                self.say(id, Said::Refused(why));
                false
            }
        };
        if said {
            self.inside.push(id);
        }
        self.publish();
    }

    fn may_look(&self) -> Result<(), String> {
        match self.sources.inside {
            Inside::Refused => Err(CLOSED.to_owned()),
            Inside::Allowed if self.taps.len() + self.inside.len() >= TAPS => {
                Err(format!("{TAPS} taps watch this proxy already"))
            }
            Inside::Allowed => Ok(()),
        }
    }

    /// Tells everybody who looks, and counts for each what finds no room.
    pub(super) fn tell_pieces(&mut self, pieces: &[v1::Piece]) {
        for id in self.inside.clone() {
            for some in pieces.chunks(PIECES) {
                let events = v1::TapEvents {
                    pieces: some.to_vec(),
                    ..v1::TapEvents::default()
                };
                if !self.say(id, Said::Events(events)) {
                    self.lose_pieces(id, some.len() as u64);
                }
            }
        }
    }

    /// So many pieces were not told.
    pub(super) fn lose_pieces(&mut self, id: u64, no_room: u64) {
        let untold = Untold {
            no_room,
            ..Untold::default()
        };
        self.untold.entry(id).or_default().add(untold);
    }
}

#[cfg(test)]
mod tests;
