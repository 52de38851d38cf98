// SPDX-License-Identifier: Apache-2.0
//! Stage 1: a listening socket becomes [`Accepted`] connections.
//!
//! Must never spin: where descriptors run out, the listener rests until a connection ended or a moment has passed. Next: `original_dst.rs`.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use maille_engine::route::Direction;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::original_dst::OriginalDst;

/// How long a listener without descriptors rests when no connection ends meanwhile.
const REST: Duration = Duration::from_millis(100);

/// Which door a connection came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The own application dials out, or somebody without a proxy dials in: plain bytes.
    Plain(Direction),
    /// Another proxy.
    Mesh,
}

/// A connection as it was accepted, with the address its client meant.
#[derive(Clone, Copy, Debug)]
pub struct Accepted {
    /// Which door.
    pub door: Door,
    /// The client.
    pub client: SocketAddr,
    /// What the client dialled.
    pub destination: SocketAddr,
}

/// Accepts until the future is dropped; on Linux a listener that is not polled leaves new connections in its queue.
/// Each goes to `take`; `ended` tells that a connection ended somewhere, so that there may be room again.
pub(crate) async fn run(
    listener: TcpListener,
    door: Door,
    original: OriginalDst,
    ended: Rc<Notify>,
    take: impl Fn(TcpStream, Accepted),
) {
    loop {
        let ended = ended.notified();
        match listener.accept().await {
            Ok((stream, client)) => {
                let Some(destination) = original.recover(&stream) else {
                    tracing::debug!(%client, "no original destination: closed");
                    continue;
                };
                // A socket that cannot be set is about to fail by itself.
                let _ = stream.set_nodelay(true);
                let _ = maille_sys::socket::set_keep_alive(&stream);
                let accepted = Accepted {
                    door,
                    client: plain(client),
                    destination: plain(destination),
                };
                take(stream, accepted);
            }
            // That client has left already; the next one may be there.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            // No descriptors or no memory, mostly: a condition of the process, not of one connection.
            Err(error) => {
                maille_chassis::limited!(warn, %error, "no connections are accepted for a moment");
                // Either outcome means: try again.
                let _ = timeout(REST, ended).await;
            }
        }
    }
}

/// `::ffff:10.0.0.1` is `10.0.0.1`.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
