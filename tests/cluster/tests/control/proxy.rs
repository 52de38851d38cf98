// SPDX-License-Identifier: Apache-2.0
//! What a proxy does with control: TLS, a certificate for a token, discovery with that certificate.

use std::net::SocketAddr;

use hyper_util::rt::TokioIo;
use maille_identity::tls::Connector;
use maille_identity::{Credentials, PrivateKey};
use maille_model::Identity;
use maille_wire::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use maille_wire::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use maille_wire::v1::SignRequest;
use maille_wire::v1::certificates_client::CertificatesClient;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Status, Streaming};

use crate::DEADLINE;

/// Who control must be.
pub(crate) fn control() -> Identity {
    "spiffe://cluster.local/ns/maille-system/sa/maille-control"
        .parse()
        .unwrap()
}

/// A channel to control at `address`.
pub(crate) async fn channel(address: SocketAddr, connector: Connector) -> Channel {
    tries(address, connector).await.unwrap()
}

/// The same, if control is who it should be.
pub(crate) async fn tries(
    address: SocketAddr,
    connector: Connector,
) -> Result<Channel, tonic::transport::Error> {
    let connect = tower::service_fn(move |_: Uri| {
        let connector = connector.clone();
        async move {
            let stream = TcpStream::connect(address).await?;
            let stream = connector.connect(stream).await;
            stream.map(TokioIo::new).map_err(std::io::Error::other)
        }
    });
    let endpoint = Endpoint::from_static("http://control");
    endpoint.connect_with_connector(connect).await
}

/// Asks for a certificate, with a token or by the channel's own.
pub(crate) async fn sign(channel: &Channel, token: Option<&str>) -> Result<Credentials, Status> {
    let key = PrivateKey::generate().unwrap();
    let mut request = Request::new(SignRequest { csr: key.csr() });
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    let mut client = CertificatesClient::new(channel.clone());
    let answer = timeout(DEADLINE, client.sign(request)).await.unwrap()?;
    let answer = answer.into_inner();
    Ok(Credentials::new(key, answer.chain, &answer.trust_anchors).unwrap())
}

/// A discovery stream.
pub(crate) struct Discovery {
    said: mpsc::Sender<DeltaDiscoveryRequest>,
    heard: Streaming<DeltaDiscoveryResponse>,
}

impl Discovery {
    pub(crate) async fn open(channel: &Channel) -> Result<Self, Status> {
        let (said, queue) = mpsc::channel(16);
        let mut client = AggregatedDiscoveryServiceClient::new(channel.clone());
        let queue = ReceiverStream::new(queue);
        let heard = client.delta_aggregated_resources(queue).await?.into_inner();
        Ok(Self { said, heard })
    }

    pub(crate) async fn subscribe(&self, message: &str, name: &str) {
        let request = DeltaDiscoveryRequest {
            type_url: format!("type.googleapis.com/maille.v1.{message}"),
            resource_names_subscribe: vec![name.to_owned()],
            ..DeltaDiscoveryRequest::default()
        };
        self.said.send(request).await.unwrap();
    }

    /// The next answer's only resource.
    pub(crate) async fn next<T: prost::Message + Default>(&mut self) -> Result<T, Status> {
        let answer = timeout(DEADLINE, self.heard.message()).await.unwrap()?;
        let answer = answer.unwrap();
        let acknowledged = DeltaDiscoveryRequest {
            type_url: answer.type_url.clone(),
            response_nonce: answer.nonce.clone(),
            ..DeltaDiscoveryRequest::default()
        };
        self.said.send(acknowledged).await.unwrap();
        let any = answer.resources[0].resource.as_ref().unwrap();
        Ok(T::decode(any.value.as_slice()).unwrap())
    }

    /// Whether something was said that is not read yet.
    pub(crate) fn is_quiet(&mut self) -> bool {
        use futures_util::FutureExt as _;
        self.heard.message().now_or_never().is_none()
    }
}
