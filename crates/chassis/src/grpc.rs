// SPDX-License-Identifier: Apache-2.0
//! gRPC: channels over unix sockets and over whatever somebody else opens, and the server's settings.
//!
//! Windows are wide because the HTTP/2 stack charges many small messages against half the connection window and would
//! otherwise take a chatty stream for an attack.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tonic::transport::server::Server;
use tonic::transport::{Channel, Endpoint, Uri};

/// Connection window of both sides, in bytes.
pub const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// Stream window of both sides, in bytes.
pub const STREAM_WINDOW: u32 = 1024 * 1024;
/// The largest message taken or sent, in bytes.
pub const MESSAGE_LIMIT: usize = 16 * 1024 * 1024;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const KEEPALIVE: Duration = Duration::from_secs(20);

/// A channel to the unix socket at `path`. It connects with the first call and again after each loss.
pub fn channel(path: &Path) -> Channel {
    let path = PathBuf::from(path);
    endpoint()
        .connect_timeout(CONNECT_TIMEOUT)
        .connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        }))
}

/// A channel over what `dial` opens, which sets itself a deadline. It dials with the first call and again after each loss; a
/// call that found no connection fails with the text of `dial`'s error.
pub fn channel_over<D, F, S>(mut dial: D) -> Channel
where
    D: FnMut() -> F + Send + 'static,
    F: Future<Output = io::Result<S>> + Send + 'static,
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let dial = move |_: Uri| {
        let dialling = dial();
        async move { dialling.await.map(TokioIo::new) }
    };
    endpoint().connect_with_connector_lazy(tower::service_fn(dial))
}

/// The name in it is nobody's: who is meant is who is dialled.
fn endpoint() -> Endpoint {
    Endpoint::from_static("http://local")
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_stream_window_size(STREAM_WINDOW)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
}

/// A server with our windows; routes are added by the caller.
pub fn server() -> Server {
    Server::builder()
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_stream_window_size(STREAM_WINDOW)
        .max_concurrent_streams(1024)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
}

/// Binds the socket a gRPC server listens on, mode 0600. Wrap it in `tokio_stream::wrappers::UnixListenerStream`; handlers
/// find the caller's pid and uid as `tonic::transport::server::UdsConnectInfo` in the request's extensions.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    crate::admin::bind(path)
}
