// SPDX-License-Identifier: Apache-2.0
//! One other replica: a stream that is kept, by which its proxies are asked. Begun again whenever it ends, until it is dropped.
//!
//! Must never say anything to somebody who has not proved to be control. Read [`crate::ask`] for the lines.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use maille_chassis::clock::Clock;
use maille_chassis::{grpc, limited};
use maille_identity::Credentials;
use maille_identity::current::Current;
use maille_identity::tls::Connector;
use maille_model::{Identity, WorkloadUid};
use maille_wire::v1;
use maille_wire::v1::replicas_client::ReplicasClient;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;

use super::Replicas;
use crate::ask::Questions;
use crate::causes::with_causes;
use crate::pauses::Pauses;

/// For a connection, a handshake and the first message.
const PATIENCE: Duration = Duration::from_secs(5);
/// Questions on their way to all of its proxies.
const LINE: usize = 1_024;
/// A stream that lived so long was a good one: the next attempt comes soon again.
const GOOD: Duration = Duration::from_secs(10);

/// Why its stream ended.
#[derive(Debug, thiserror::Error)]
enum PeerError {
    #[error("it does not answer in {} s", PATIENCE.as_secs())]
    Late,
    #[error("it ended the stream")]
    Ended,
    #[error(transparent)]
    Failed(#[from] Status),
}

/// One of the others.
pub(super) struct Peer {
    pub(super) name: String,
    pub(super) channel: Channel,
    pub(super) questions: Questions,
    pub(super) replicas: Replicas,
    pub(super) clock: Clock,
}

/// A channel to the control at `address`, by what proves us; it is dialled anew whenever that is replaced, for the other side believes
/// a connection no longer than the certificate by which it was opened.
pub(super) fn channel(
    address: SocketAddr,
    control: Identity,
    own: watch::Receiver<Option<Credentials>>,
) -> Channel {
    grpc::channel_over(move || {
        let (credentials, control) = (own.clone(), control.clone());
        async move {
            let own = credentials.borrow().clone();
            let own = own.ok_or_else(|| io::Error::other("no certificate of our own yet"))?;
            let dial = async {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let tls = Connector::proved(&own, &control).connect(stream).await;
                tls.map_err(|error| io::Error::other(with_causes(&error)))
            };
            let late = |_| io::Error::from(io::ErrorKind::TimedOut);
            let stream = timeout(PATIENCE, dial).await.map_err(late)??;
            Ok(Current::new(stream, &own, credentials))
        }
    })
}

// === impl Peer ===

impl Peer {
    /// Never ends by itself.
    pub(super) async fn follow(self) {
        let mut pauses = Pauses::default();
        loop {
            let began = self.clock.now();
            let Err(error) = self.stream().await;
            self.replicas.set_there(&self.name, false);
            let reason = with_causes(&error);
            limited!(
                info,
                replica = self.name,
                reason,
                "another replica cannot be asked"
            );
            if self.clock.now().saturating_duration_since(began) >= GOOD {
                pauses = Pauses::default();
            }
            let pause = pauses.next().unwrap_or(PATIENCE);
            self.clock.wait(pause).await;
        }
    }

    async fn stream(&self) -> Result<std::convert::Infallible, PeerError> {
        let (to, forwarded) = mpsc::channel(LINE);
        let mut client = ReplicasClient::new(self.channel.clone());
        let client_stream = ReceiverStream::new(forwarded);
        let opened = async {
            let mut told = client.ask(client_stream).await?.into_inner();
            let first = told.message().await?.ok_or(PeerError::Ended)?;
            Ok::<_, PeerError>((told, first))
        };
        let (mut told, first) = timeout(PATIENCE, opened)
            .await
            .map_err(|_| PeerError::Late)??;
        let beyond = self.questions.beyond(&self.name, to);
        let mut next = Some(first);
        self.replicas.set_there(&self.name, true);
        while let Some(message) = next {
            let uids = |texts: &[String]| -> Vec<WorkloadUid> {
                texts
                    .iter()
                    .filter_map(|text| WorkloadUid::new(text))
                    .collect()
            };
            let v1::Told { came, went, .. } = &message;
            if !(came.is_empty() && went.is_empty()) {
                beyond.moved(&uids(came), &uids(went));
            }
            if let (Some(answer), Some(from)) = (message.answer, WorkloadUid::new(&message.from)) {
                beyond.answer(&from, answer, message.lost);
            }
            next = told.message().await?;
        }
        Err(PeerError::Ended)
    }
}
