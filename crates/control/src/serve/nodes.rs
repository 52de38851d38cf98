// SPDX-License-Identifier: Apache-2.0
//! `Nodes.Tell`: what a node's agent tells of a pod that it has captured, for the pod's events.
//!
//! An agent is believed of pods on its own node and of nobody else; its words are cut and cleaned, and of one pod few are taken. Read
//! `cluster/events.rs` for who writes them down.

use maille_model::WorkloadUid;
use maille_wire::v1::nodes_server::Nodes;
use maille_wire::v1::{Happening, TellRequest, TellResponse};
use tonic::{Request, Response, Status};

use super::Desk;
use crate::cluster::events::{Event, Weight};

/// Events of one pod in [`SPELL_SECONDS`].
const EVENTS: u32 = 6;
/// See [`EVENTS`].
const SPELL_SECONDS: u64 = 60;
/// The longest text, in bytes; Kubernetes takes 1,024.
const LONGEST: usize = 512;

/// The service.
#[derive(Clone, Debug)]
pub struct Told {
    desk: Desk,
}

// === impl Told ===

impl Told {
    /// A service on `desk`.
    pub fn new(desk: Desk) -> Self {
        Self { desk }
    }

    /// One agent in a loop must not fill the cluster with events.
    fn within_rate(&self, uid: &WorkloadUid) -> Result<(), Status> {
        let spell = self.desk.hub.second() / SPELL_SECONDS;
        let told = self.desk.hub.note(uid, |proxy| {
            if proxy.told.0 != spell {
                proxy.told = (spell, 0);
            }
            proxy.told.1 = proxy.told.1.saturating_add(1);
            proxy.told.1
        });
        match told {
            0..=EVENTS => Ok(()),
            _ => Err(Status::resource_exhausted(format!(
                "workload {uid} had {EVENTS} events in {SPELL_SECONDS} s"
            ))),
        }
    }
}

#[tonic::async_trait]
impl Nodes for Told {
    async fn tell(&self, request: Request<TellRequest>) -> Result<Response<TellResponse>, Status> {
        let caller = self.desk.callers.caller(&request)?;
        if !caller.is_for_another() {
            return Err(Status::permission_denied(
                "only the agent of a node tells of pods",
            ));
        }
        let workload = caller.admitted(&self.desk.hub).await?;
        self.within_rate(&caller.uid)?;
        let told = request.into_inner();
        let (reason, weight) = match told.what() {
            Happening::Captured => ("Captured", Weight::Normal),
            Happening::Mended => ("CaptureMended", Weight::Warning),
            Happening::NotMended => ("CaptureChanged", Weight::Warning),
            Happening::Unspecified => {
                return Err(Status::invalid_argument("what happened is not said"));
            }
        };
        let event = Event {
            namespace: workload.namespace.to_string(),
            name: workload.name.to_string(),
            uid: caller.uid.to_string(),
            reason,
            weight,
            message: cleaned(&told.message),
        };
        if let Some(events) = &self.desk.events
            && events.try_send(event).is_err()
        {
            return Err(Status::unavailable("more events than can be written"));
        }
        Ok(Response::new(TellResponse {}))
    }
}

/// A peer's text, of one line and bounded.
fn cleaned(text: &str) -> String {
    let mut clean: String = text
        .chars()
        .map(|one| if one.is_control() { ' ' } else { one })
        .collect();
    clean.truncate(clean.floor_char_boundary(LONGEST));
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_one_line_and_bounded() {
        assert_eq!(cleaned("a\nb\u{1b}[2J"), "a b [2J");
        assert_eq!(cleaned(&"ü".repeat(400)).len(), LONGEST);
    }
}
