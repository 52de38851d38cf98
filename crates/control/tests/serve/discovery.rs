// SPDX-License-Identifier: Apache-2.0
//! A proxy's discovery stream, as a test holds it.

use std::path::Path;

use maille_chassis::grpc::channel;
use maille_wire::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use maille_wire::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use crate::{DEADLINE, named};

/// A proxy's discovery stream.
pub(crate) struct Discovery {
    pub(crate) said: mpsc::Sender<DeltaDiscoveryRequest>,
    pub(crate) heard: Streaming<DeltaDiscoveryResponse>,
}

impl Discovery {
    pub(crate) async fn open(socket: &Path, uid: &str) -> Self {
        let (said, queue) = mpsc::channel(16);
        let mut client = AggregatedDiscoveryServiceClient::new(channel(socket))
            .max_decoding_message_size(maille_chassis::grpc::MESSAGE_LIMIT);
        let request = named(ReceiverStream::new(queue), uid);
        let heard = client
            .delta_aggregated_resources(request)
            .await
            .unwrap()
            .into_inner();
        Self { said, heard }
    }

    pub(crate) async fn subscribe(&self, message: &str, names: &[&str], held: &[(&str, &str)]) {
        let owned = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
        let request = DeltaDiscoveryRequest {
            type_url: format!("type.googleapis.com/maille.v1.{message}"),
            resource_names_subscribe: names.iter().map(|n| (*n).to_owned()).collect(),
            initial_resource_versions: held.iter().map(owned).collect(),
            ..DeltaDiscoveryRequest::default()
        };
        // A stream that was refused takes no more; what is read from it says why.
        drop(self.said.send(request).await);
    }

    pub(crate) async fn next(&mut self) -> DeltaDiscoveryResponse {
        timeout(DEADLINE, self.heard.message())
            .await
            .unwrap()
            .unwrap()
            .unwrap()
    }

    pub(crate) async fn end(&mut self) -> Option<Code> {
        timeout(DEADLINE, async {
            loop {
                match self.heard.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => return None,
                    Err(status) => return Some(status.code()),
                }
            }
        })
        .await
        .unwrap()
    }
}

pub(crate) fn decode<T: prost::Message + Default>(answer: &DeltaDiscoveryResponse) -> T {
    let any = answer.resources[0].resource.as_ref().unwrap();
    assert_eq!(any.type_url, answer.type_url);
    T::decode(any.value.as_slice()).unwrap()
}
