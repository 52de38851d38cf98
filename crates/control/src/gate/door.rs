// SPDX-License-Identifier: Apache-2.0
//! The port for the API server: TLS connections, each with what it showed, and none for long that asked nothing.
//!
//! Everybody in the cluster can connect here, and pods wait for what is asked here: must never let others take the room of the API
//! server ([`super::guests`]). Read [`super`] for what is answered.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use maille_chassis::drain::Watch;
use maille_chassis::limited;
use maille_chassis::tasks::Tasks;
use maille_identity::Front;
use maille_model::ServiceId;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

use super::ShownName;
use super::asked::Asked;
use super::guests::Guests;
use crate::causes::with_causes;
use crate::cluster::front::FrontProxy;
use crate::hub::Hub;
use crate::listen::{self, Place};

/// Connections at a time, those included that find no place.
const CONNECTIONS: usize = 4_096;
/// For a handshake.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the door rests on.
#[derive(Clone, Debug)]
pub struct Door {
    /// Everything that is known: who the API servers are, among it.
    pub hub: Arc<Hub>,
    /// Who we are to them.
    pub front: watch::Receiver<Option<Front>>,
    /// Whose certificate speaks for users.
    pub front_proxy: watch::Receiver<Option<FrontProxy>>,
    /// What is answered.
    pub router: Router,
}

/// Answers on `listener`, until the drain begins.
pub async fn serve(door: Door, listener: TcpListener, tasks: Tasks, drain: Watch) {
    let guests = Guests::default();
    let handle = move |stream: TcpStream, place: Place, drain: Watch| {
        let (door, guests) = (door.clone(), guests.clone());
        async move {
            door.talk(stream, &guests, drain).await;
            drop(place);
        }
    };
    listen::serve(listener, CONNECTIONS, handle, tasks, drain).await;
}

// === impl Door ===

impl Door {
    async fn talk(self, stream: TcpStream, guests: &Guests, drain: Watch) {
        let Some(front) = self.front.borrow().clone() else {
            return;
        };
        // Without an address it has gone already.
        let Ok(source) = stream.peer_addr().map(|source| source.ip().to_canonical()) else {
            return;
        };
        let Some(mut guest) = guests.admit(source, self.is_api_server(source)) else {
            limited!(info, %source, "too many connections to the API server's port");
            return;
        };
        let stream = match timeout(PATIENCE, front.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                limited!(info, error = %with_causes(&error), "TLS handshake with an API server failed");
                return;
            }
            Err(_) => {
                limited!(info, "TLS handshake with an API server took too long");
                return;
            }
        };
        let asked = Asked::default();
        let shown = stream.client().map(str::to_owned);
        if shown
            .as_deref()
            .is_some_and(|name| self.is_front_proxy(name))
        {
            guest.prove();
            asked.mark();
        }
        let router = self.router.layer(Extension(ShownName(shown)));
        let router = router.layer(Extension(asked.clone()));
        tokio::select! {
            () = listen::talk(stream, router, listen::PATIENT, drain) => {}
            () = asked.nothing() => limited!(info, %source, "connection to the API server's port asked nothing"),
            () = guest.displaced() => limited!(info, %source, "connection to the API server's port gave way"),
        }
    }

    fn is_front_proxy(&self, name: &str) -> bool {
        let front = self.front_proxy.borrow();
        front.as_ref().is_some_and(|front| front.is(name))
    }

    /// Whether the cluster lists it behind `default/kubernetes`.
    fn is_api_server(&self, source: IpAddr) -> bool {
        let (Ok(namespace), Ok(name)) = ("default".parse(), "kubernetes".parse()) else {
            return false;
        };
        let world = self.hub.world();
        let listed = world.index.endpoints(&ServiceId { namespace, name });
        let listed = listed.map(|listed| listed.0).unwrap_or_default();
        let mut addresses = listed.iter().flat_map(|one| &one.workload.addresses);
        addresses.any(|address| *address == source)
    }
}

#[cfg(test)]
mod tests;
