// SPDX-License-Identifier: Apache-2.0
//! Stage 1: a listening socket becomes [`Accepted`] connections.
//!
//! Must never spin: where descriptors run out, the listener rests until a connection ended or a moment has passed. Next: `original_dst.rs`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use maille_engine::route::Direction;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::original_dst::{NoDestination, OriginalDst};

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
/// Each goes to `take`. Either of `room` tells that there may be room again: a connection ended somewhere, or a second has passed.
pub(crate) async fn run(
    listener: TcpListener,
    door: Door,
    original: OriginalDst,
    room: [Rc<Notify>; 2],
    take: impl Fn(TcpStream, Accepted),
) {
    loop {
        let [ended, second] = room.each_ref().map(|room| room.notified());
        match listener.accept().await {
            Ok((stream, client)) => {
                let destination = match original.recover(&stream) {
                    Ok(destination) => destination,
                    Err(why) => {
                        refuse(&stream, client, &why);
                        continue;
                    }
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
                tokio::select! {
                    () = ended => {}
                    () = second => {}
                }
            }
        }
    }
}

/// Has the client see a reset, and the log why.
fn refuse(stream: &TcpStream, client: SocketAddr, why: &NoDestination) {
    match why {
        NoDestination::Unknown(_) => {
            tracing::debug!(%client, error = why as &dyn std::error::Error, "closed")
        }
        NoDestination::Own(_) => {
            maille_chassis::limited!(warn, %client, reason = %why, "connection refused")
        }
    }
    // It is closed in any case.
    let _ = maille_sys::socket::set_linger_zero(stream);
}

/// `::ffff:10.0.0.1` is `10.0.0.1`. A link-local address keeps its link, without which it is nobody's.
fn plain(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V6(_) => address,
        v4 @ IpAddr::V4(_) => SocketAddr::new(v4, address.port()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_address_is_plain_and_a_link_stays() {
        for (said, meant) in [
            ("[::ffff:10.0.0.1]:80", "10.0.0.1:80"),
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("[fd00::1]:80", "[fd00::1]:80"),
            ("[fe80::1%3]:80", "[fe80::1%3]:80"),
        ] {
            let said: SocketAddr = said.parse().unwrap();
            assert_eq!(plain(said).to_string(), meant);
        }
    }
}
