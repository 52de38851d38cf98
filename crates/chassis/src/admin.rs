// SPDX-License-Identifier: Apache-2.0
//! A small HTTP/1.1 server on a unix socket of mode 0600, for metrics and questions to one process.
//!
//! It answers GET only, keeps at most 16 connections, waits 10 seconds for a request and ends every connection after a minute.

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::drain::{Phase, Watch};
use crate::tasks::Tasks;

const CONNECTIONS: usize = 16;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection's whole life: who does not read its answers must not keep the place for ever.
const LIFETIME: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status code.
    pub status: http::StatusCode,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
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
            body: body.into_bytes(),
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

/// Serves until the drain begins.
pub async fn serve(
    listener: UnixListener,
    answer: Arc<dyn Answer>,
    tasks: Tasks,
    mut drain: Watch,
) {
    let clock = Clock::start();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                // Out of descriptors, say, which does not change at once.
                Err(error) => {
                    crate::limited!(warn, %error, "admin connection not accepted");
                    clock.wait(PAUSE).await;
                    continue;
                }
            },
            () = drain.reached(Phase::Graceful) => return,
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
            match tokio::time::timeout(LIFETIME, served).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "admin connection ended"),
                Err(_) => tracing::debug!("admin connection closed for its age"),
            }
            drop(place);
        });
    }
}

fn respond<B>(answer: &dyn Answer, request: &http::Request<B>) -> http::Response<Full<Bytes>> {
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
    let mut response = http::Response::new(Full::new(Bytes::from(reply.body)));
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
    use tokio::net::UnixStream;

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
}
