// SPDX-License-Identifier: Apache-2.0
//! Follows every other replica, from when its pod appears until it has gone. Read [`super::find`] for who they are, [`super::peer`]
//! for one of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::future::{AbortHandle, abortable};
use futures_util::stream::FuturesUnordered;
use maille_chassis::clock::Clock;
use maille_identity::Credentials;
use maille_model::{Identity, ServiceId};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use super::peer::{self, Peer};
use super::{Replicas, find};
use crate::hub::Hub;
use crate::key::Key;

/// Who we are to the others.
#[derive(Clone, Debug)]
pub struct Own {
    /// This replica's pod.
    pub me: String,
    /// What each of us proves to be.
    pub control: Identity,
    /// By what we prove it.
    pub credentials: watch::Receiver<Option<Credentials>>,
}

/// Keeps a stream to each of `replicas` as long as it exists; until the process ends.
pub async fn keep(own: Own, hub: Arc<Hub>, replicas: Replicas, clock: Clock) {
    let service = ServiceId {
        namespace: own.control.namespace.clone(),
        name: own.control.service_account.clone(),
    };
    let ours = Key::Endpoints(service.clone());
    let mut changes = hub.changes();
    let mut followed: BTreeMap<String, (SocketAddr, AbortHandle)> = BTreeMap::new();
    let mut following = FuturesUnordered::new();
    loop {
        let wanted = find::others(&hub.world().index, &service, &own.me);
        followed.retain(|name, (address, handle)| {
            let stays = wanted.get(name) == Some(address);
            if !stays {
                handle.abort();
                replicas.forget(name);
            }
            stays
        });
        for (name, address) in wanted {
            if followed.contains_key(&name) {
                continue;
            }
            let channel = peer::channel(address, own.control.clone(), own.credentials.clone());
            replicas.put(&name, channel.clone());
            let peer = Peer {
                name: name.clone(),
                channel,
                questions: hub.questions().clone(),
                replicas: replicas.clone(),
                clock,
            };
            let (future, handle) = abortable(peer.follow());
            following.push(Box::pin(future));
            followed.insert(name, (address, handle));
        }
        // Only a change of control's own pods or Service moves anybody.
        loop {
            tokio::select! {
                heard = changes.recv() => match heard {
                    Ok(dirty) if !dirty.contains(&ours) => {}
                    Ok(_) | Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return,
                },
                // One that was aborted.
                Some(_) = following.next() => {}
            }
        }
    }
}
