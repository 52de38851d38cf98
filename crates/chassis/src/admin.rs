// SPDX-License-Identifier: Apache-2.0
//! A small HTTP/1.1 server for metrics and questions to one process: on a unix socket of mode 0600, or on a TCP port for whoever can reach it.
//!
//! It answers GET only, keeps few connections, of one address fewer still, waits 10 seconds for a request and ends every connection
//! after a while. What it answers must be bounded, or come in pages: it is written no faster than it is read.

use std::collections::HashMap;
use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{Either, Full, StreamBody};
use hyper::body::{Body as HttpBody, Frame};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::drain::{Phase, Watch};
use crate::tasks::Tasks;

const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);

/// How many connections are kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bounds {
    all: usize,
    /// Of one foreign address.
    each: usize,
    /// Of the own machine, on which everybody whose connection was forwarded here seems to be.
    own: usize,
    /// A connection's whole life: who does not read its answers must not keep the place for ever.
    lifetime: Duration,
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// HTTP status code.
    pub status: http::StatusCode,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// The body.
    pub body: Body,
}

/// The body of an answer.
pub enum Body {
    /// All of it.
    Whole(Vec<u8>),
    /// Made as it is read: what would be large as a whole.
    Pages(Box<dyn Iterator<Item = Vec<u8>> + Send>),
}

/// Where connections come from.
trait Door: Send + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    const BOUNDS: Bounds;

    /// The next connection, with its address where it has one.
    fn next(&self) -> impl Future<Output = io::Result<(Self::Stream, Option<IpAddr>)>> + Send;
}

impl Door for UnixListener {
    type Stream = UnixStream;

    const BOUNDS: Bounds = Bounds {
        all: 16,
        each: 16,
        own: 16,
        lifetime: Duration::from_secs(60),
    };

    async fn next(&self) -> io::Result<(UnixStream, Option<IpAddr>)> {
        Ok((self.accept().await?.0, None))
    }
}

impl Door for TcpListener {
    type Stream = TcpStream;

    const BOUNDS: Bounds = Bounds {
        all: 32,
        each: 4,
        own: 16,
        lifetime: Duration::from_secs(20),
    };

    async fn next(&self) -> io::Result<(TcpStream, Option<IpAddr>)> {
        let (stream, client) = self.accept().await?;
        Ok((stream, Some(client.ip().to_canonical())))
    }
}

/// Connections by address. Cheap to clone.
#[derive(Clone, Debug, Default)]
struct Guests(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One of them.
struct Guest {
    guests: Guests,
    address: Option<IpAddr>,
}

impl Guests {
    /// Lets one more in, unless there are enough of its address.
    fn admit(&self, address: Option<IpAddr>, bounds: &Bounds) -> Option<Guest> {
        if let Some(address) = address {
            let mut known = self.0.lock();
            let here = known.get(&address).copied().unwrap_or(0);
            let most = if address.is_loopback() {
                bounds.own
            } else {
                bounds.each
            };
            if here >= most {
                return None;
            }
            known.insert(address, here + 1);
        }
        Some(Guest {
            guests: self.clone(),
            address,
        })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut known = self.guests.0.lock();
        match known.get_mut(&address) {
            Some(here) if *here > 1 => *here -= 1,
            _ => drop(known.remove(&address)),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(bytes) => write!(f, "Whole({:?})", String::from_utf8_lossy(bytes)),
            Self::Pages(_) => f.write_str("Pages"),
        }
    }
}

impl Body {
    /// All bytes.
    pub fn read(self) -> Vec<u8> {
        match self {
            Self::Whole(bytes) => bytes,
            Self::Pages(pages) => pages.flatten().collect(),
        }
    }
}

/// Answers a question: path, and query without the question mark.
pub trait Answer: Send + Sync + 'static {
    /// The answer; unknown paths are [`Reply::not_found`].
    fn answer(&self, path: &str, query: &str) -> Reply;
}

impl<F> Answer for F
where
    F: Fn(&str, &str) -> Reply + Send + Sync + 'static,
{
    fn answer(&self, path: &str, query: &str) -> Reply {
        self(path, query)
    }
}

impl Reply {
    /// 200 with text.
    pub fn text(body: impl Into<String>) -> Self {
        Self::of(
            http::StatusCode::OK,
            "text/plain; charset=utf-8",
            body.into(),
        )
    }

    /// 200 with JSON that the caller encoded.
    pub fn json(body: impl Into<String>) -> Self {
        Self::of(http::StatusCode::OK, "application/json", body.into())
    }

    /// 404.
    pub fn not_found() -> Self {
        Self::of(
            http::StatusCode::NOT_FOUND,
            "text/plain; charset=utf-8",
            "no such page\n".into(),
        )
    }

    /// Any status with text.
    pub fn of(status: http::StatusCode, content_type: &'static str, body: String) -> Self {
        Self {
            status,
            content_type,
            body: Body::Whole(body.into_bytes()),
        }
    }

    /// 200 with what is made while it is read.
    pub fn pages(
        content_type: &'static str,
        pages: impl Iterator<Item = Vec<u8>> + Send + 'static,
    ) -> Self {
        Self {
            status: http::StatusCode::OK,
            content_type,
            body: Body::Pages(Box::new(pages)),
        }
    }
}

/// Binds `path` with mode 0600. A socket that nobody listens on any more is replaced; one that somebody does, or anything
/// else of that name, is an error. The directory must be closed to others: between binding and the change of mode it is all there is.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            std::fs::remove_file(path)?;
        }
        Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves a local socket until the drain begins.
pub async fn serve(listener: UnixListener, answer: Arc<dyn Answer>, tasks: Tasks, drain: Watch) {
    serve_on(listener, answer, tasks, drain).await;
}

/// Serves a TCP port until the drain begins: anybody who can reach it may ask.
pub async fn serve_port(
    listener: TcpListener,
    answer: Arc<dyn Answer>,
    tasks: Tasks,
    drain: Watch,
) {
    serve_on(listener, answer, tasks, drain).await;
}

async fn serve_on<D: Door>(door: D, answer: Arc<dyn Answer>, tasks: Tasks, mut drain: Watch) {
    let clock = Clock::start();
    let places = Arc::new(Semaphore::new(D::BOUNDS.all));
    let guests = Guests::default();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let (stream, address) = tokio::select! {
            accepted = door.next() => match accepted {
                Ok(accepted) => accepted,
                // Out of descriptors, say, which does not change at once.
                Err(error) => {
                    crate::limited!(warn, %error, "admin connection not accepted");
                    clock.wait(PAUSE).await;
                    continue;
                }
            },
            () = drain.reached(Phase::Graceful) => return,
        };
        let Some(guest) = guests.admit(address, &D::BOUNDS) else {
            crate::limited!(warn, client = ?address, "admin connection refused: its address has enough");
            continue;
        };
        let answer = Arc::clone(&answer);
        tasks.spawn("admin connection", async move {
            let service = service_fn(move |request| {
                let reply = respond(&*answer, &request);
                async move { Ok::<_, Infallible>(reply) }
            });
            let mut server = hyper::server::conn::http1::Builder::new();
            server
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT);
            let served = server.serve_connection(TokioIo::new(stream), service);
            match tokio::time::timeout(D::BOUNDS.lifetime, served).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "admin connection ended"),
                Err(_) => tracing::debug!("admin connection closed for its age"),
            }
            drop((place, guest));
        });
    }
}

fn respond<B>(
    answer: &dyn Answer,
    request: &http::Request<B>,
) -> http::Response<impl HttpBody<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + use<B>>
{
    let reply = if request.method() == http::Method::GET {
        answer.answer(
            request.uri().path(),
            request.uri().query().unwrap_or_default(),
        )
    } else {
        Reply::of(
            http::StatusCode::METHOD_NOT_ALLOWED,
            "text/plain; charset=utf-8",
            "GET only\n".into(),
        )
    };
    let body = match reply.body {
        Body::Whole(bytes) => Either::Left(Full::new(Bytes::from(bytes))),
        Body::Pages(pages) => {
            let pages = pages.filter(|page| !page.is_empty());
            let frames = pages.map(|page| Ok::<_, Infallible>(Frame::data(Bytes::from(page))));
            Either::Right(StreamBody::new(stream::iter(frames)))
        }
    };
    let mut response = http::Response::new(body);
    *response.status_mut() = reply.status;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static(reply.content_type),
    );
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::drain::Drain;

    #[tokio::test]
    async fn only_a_dead_socket_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sock");
        let living = bind(&path).unwrap();
        assert_eq!(bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(living);
        bind(&path).unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "precious").unwrap();
        assert!(bind(&file).is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    }

    #[tokio::test]
    async fn answers_and_refuses() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let listener = bind(&path).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let (tasks, drain) = (Tasks::new(), Drain::new());
        let answer = |path: &str, query: &str| match path {
            "/hello" => Reply::text(format!("hello {query}")),
            _ => Reply::not_found(),
        };
        tasks.spawn(
            "admin",
            serve(listener, Arc::new(answer), tasks.clone(), drain.watch()),
        );
        let ask = async |request: &str| {
            let mut stream = UnixStream::connect(&path).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            text
        };
        let tail = "HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let text = ask(&format!("GET /hello?you {tail}")).await;
        assert!(
            text.starts_with("HTTP/1.1 200") && text.ends_with("hello you"),
            "{text}"
        );
        assert!(
            ask(&format!("GET /x {tail}"))
                .await
                .starts_with("HTTP/1.1 404")
        );
        assert!(
            ask(&format!("POST /hello {tail}"))
                .await
                .starts_with("HTTP/1.1 405")
        );
    }

    #[tokio::test]
    async fn a_port_keeps_room_for_others_and_pages_come_whole() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (tasks, drain) = (Tasks::new(), Drain::new());
        let answer = |_: &str, _: &str| {
            Reply::pages(
                "text/plain",
                (0..1000).map(|n| format!("{n}\n").into_bytes()),
            )
        };
        tasks.spawn(
            "admin",
            serve_port(listener, Arc::new(answer), tasks.clone(), drain.watch()),
        );
        let mut silent = Vec::new();
        for _ in 0..<TcpListener as Door>::BOUNDS.own {
            silent.push(TcpStream::connect(at).await.unwrap());
        }
        let mut one_more = TcpStream::connect(at).await.unwrap();
        assert_eq!(one_more.read(&mut [0]).await.unwrap(), 0, "closed at once");
        let mut first = silent.swap_remove(0);
        let ask = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        first.write_all(ask).await.unwrap();
        let mut text = String::new();
        first.read_to_string(&mut text).await.unwrap();
        assert!(text.contains("\n999\n"), "{text}");
        assert!(
            text.ends_with("\r\n0\r\n\r\n"),
            "chunked, to its end: {text}"
        );
    }

    #[test]
    fn one_address_leaves_room_for_another() {
        let guests = Guests::default();
        let bounds = <TcpListener as Door>::BOUNDS;
        let (a, b) = (Some([10, 0, 0, 1].into()), Some([10, 0, 0, 2].into()));
        let mut all: Vec<_> = (0..bounds.each).map(|_| guests.admit(a, &bounds)).collect();
        assert!(all.iter().all(Option::is_some) && guests.admit(a, &bounds).is_none());
        assert!(guests.admit(b, &bounds).is_some());
        drop(all.pop());
        assert!(guests.admit(a, &bounds).is_some());
        all.clear();
        assert!(guests.0.lock().is_empty());
    }
}
