// SPDX-License-Identifier: Apache-2.0
//! `Nodes`: what a node's agent tells of a pod that it has captured, for the pod's events, and what it asks of one that nobody told it about.
//!
//! An agent is believed and answered of pods on its own node and of nobody else; its words are cut and cleaned, and of one pod few are
//! taken. Read `cluster/events.rs` for who writes them down.

use maille_model::WorkloadUid;
use maille_wire::v1::nodes_server::Nodes;
use maille_wire::v1::{Happening, MeantRequest, MeantResponse, TellRequest, TellResponse};
use tonic::{Request, Response, Status};

use super::Desk;
use super::caller::Caller;
use crate::cluster::events::{Event, Weight};
use crate::hub::Hub;

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
        by_agent(&caller)?;
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

    async fn meant(
        &self,
        request: Request<MeantRequest>,
    ) -> Result<Response<MeantResponse>, Status> {
        let caller = self.desk.callers.caller(&request)?;
        by_agent(&caller)?;
        caller.knows(&self.desk.hub).await?;
        let said = meant(&self.desk.hub, &caller.uid);
        said.map(Response::new)
            .ok_or_else(|| Status::unavailable("the pod is gone"))
    }
}

/// What admission wrote on a pod that is there.
fn meant(hub: &Hub, uid: &WorkloadUid) -> Option<MeantResponse> {
    let world = hub.world();
    let pod = world.index.pod(uid)?;
    Some(MeantResponse {
        capture: pod.capture.as_str().to_owned(),
        annotations: pod.marks.clone(),
    })
}

/// Nobody else speaks of pods.
fn by_agent(caller: &Caller) -> Result<(), Status> {
    if caller.is_for_another() {
        return Ok(());
    }
    Err(Status::permission_denied(
        "only the agent of a node speaks of pods here",
    ))
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
    use maille_manifest::{Object, from_json};

    use super::*;
    use crate::watch::Event as Seen;

    #[tokio::test]
    async fn what_a_pod_is_meant_for_is_what_admission_wrote() {
        let hub = Hub::of_pods();
        let ours = r#""maille.io/injected":"1","maille.io/skip-inbound-ports":"22","other":"x""#;
        let pod = |name: &str, annotations: String| {
            let text = format!(
                r#"{{"metadata":{{"name":"{name}","namespace":"shop","uid":"{name}","annotations":{{{annotations}}}}},
                    "spec":{{"containers":[{{"name":"c"}}]}}}}"#
            );
            let object = Object::Pod(Box::new(from_json(text.as_bytes()).unwrap()));
            Seen::Apply {
                origin: name.into(),
                object: Box::new(object),
            }
        };
        let captured = |how: &str| format!(r#""maille.io/capture":"{how}",{ours}"#);
        hub.apply(vec![
            pod("inside", captured("inboard-cni")),
            pod("outside", captured("outboard")),
            pod("itself", ours.to_owned()),
            pod(
                "unmeshed",
                r#""maille.io/capture":"inboard-cni""#.to_owned(),
            ),
            Seen::InitDone,
        ]);
        let said = |name: &str| meant(&hub, &WorkloadUid::new(name).unwrap());
        let inside = said("inside").unwrap();
        assert_eq!(inside.capture, "inboard-cni");
        let keys: Vec<_> = inside.annotations.keys().collect();
        let known = ["capture", "injected", "skip-inbound-ports"];
        assert_eq!(keys, known.map(|key| format!("maille.io/{key}")).each_ref());
        for (name, capture) in [
            ("outside", "outboard"),
            ("itself", "inboard"),
            ("unmeshed", "none"),
        ] {
            let said = said(name).unwrap();
            assert_eq!(
                (said.capture.as_str(), said.annotations.len()),
                (capture, 0)
            );
        }
        assert_eq!(said("nobody"), None);
    }

    #[test]
    fn a_text_is_one_line_and_bounded() {
        assert_eq!(cleaned("a\nb\u{1b}[2J"), "a b [2J");
        assert_eq!(cleaned(&"ü".repeat(400)).len(), LONGEST);
    }
}
