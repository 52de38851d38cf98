// SPDX-License-Identifier: Apache-2.0
//! Clients and servers that tell what they see: whether both ends of a connection are the same one is what tells a connection
//! that passes from one that goes through a proxy.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use maille_sys::NetNs;

/// How long one exchange may take.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// One exchange, as both ends saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What the client's socket is called.
    pub client: SocketAddr,
    /// Who connected, as the server was told.
    pub peer: SocketAddr,
    /// What came back of what was said.
    pub text: String,
}

impl Seen {
    /// Nobody stands between.
    pub fn is_direct(&self) -> bool {
        self.client == self.peer
    }
}

/// Answers each connection to `port` with who it is from and, line by line, with what it says.
pub fn serve(namespace: &NetNs, port: u16) {
    serve_at(namespace, (Ipv6Addr::UNSPECIFIED, port).into());
}

/// [`serve`] at one address.
pub fn serve_at(namespace: &NetNs, at: SocketAddr) {
    let listener = namespace.run(|| TcpListener::bind(at).unwrap()).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away early is a test's affair.
            thread::spawn(move || answer(stream));
        }
    });
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    writeln!(stream, "{}", plain(stream.peer_addr()?))?;
    let mut bytes = [0; 256];
    loop {
        match stream.read(&mut bytes)? {
            0 => return Ok(()),
            n => stream.write_all(&bytes[..n])?,
        }
    }
}

/// A connection to a server of [`serve`].
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    peer: SocketAddr,
}

impl Client {
    /// Connects from `namespace`, and hears who it is.
    ///
    /// # Errors
    ///
    /// Nobody answers.
    pub fn connect(namespace: &NetNs, to: SocketAddr) -> io::Result<Self> {
        let mut stream = namespace.run(|| TcpStream::connect_timeout(&to, PATIENCE))??;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            line.extend(byte);
        }
        let line = String::from_utf8_lossy(&line);
        let peer = line.trim().parse().map_err(io::Error::other)?;
        Ok(Self { stream, peer })
    }

    /// Says `text`, and hears it.
    ///
    /// # Errors
    ///
    /// The connection has gone.
    pub fn say(&mut self, text: &str) -> io::Result<Seen> {
        self.stream.write_all(text.as_bytes())?;
        let mut heard = vec![0; text.len()];
        self.stream.read_exact(&mut heard)?;
        Ok(Seen {
            client: plain(self.stream.local_addr()?),
            peer: self.peer,
            text: String::from_utf8_lossy(&heard).into_owned(),
        })
    }
}

/// One exchange.
///
/// # Errors
///
/// Nobody answers.
pub fn ask(namespace: &NetNs, to: SocketAddr, text: &str) -> io::Result<Seen> {
    Client::connect(namespace, to)?.say(text)
}

/// One datagram from one namespace to the other: who it was from, as both ends say.
///
/// # Errors
///
/// It did not arrive.
pub fn datagram(from: &NetNs, (to, at): (&NetNs, IpAddr)) -> io::Result<Seen> {
    let server = to.run(|| UdpSocket::bind((at, 0)))??;
    server.set_read_timeout(Some(PATIENCE))?;
    let unspecified = if at.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let client = from.run(|| UdpSocket::bind(unspecified))??;
    client.connect(server.local_addr()?)?;
    client.send(b"hello")?;
    let mut text = [0; 16];
    let (length, peer) = server.recv_from(&mut text)?;
    Ok(Seen {
        client: client.local_addr()?,
        peer,
        text: String::from_utf8_lossy(&text[..length]).into_owned(),
    })
}

fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
