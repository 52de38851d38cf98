// SPDX-License-Identifier: Apache-2.0
//! An answer of the API that goes on: lines of JSON, until the mesh ends it or somebody presses Ctrl-C.
//!
//! Must never read a line without a bound. Read `api.rs` for answers that end, `tap.rs` for a user.

use anyhow::anyhow;
use bytes::{Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::api::{self, DEADLINE};
use crate::failure::Expected;
use crate::mesh::StopSignals;
use crate::state::State;

/// The longest line: two heads and a few names.
const LONGEST: usize = 1 << 20;

/// Bytes as they come.
pub(crate) struct Pieces {
    state: State,
    stop: StopSignals,
    connection: tokio::task::JoinHandle<()>,
    body: Incoming,
}

/// Lines as they come.
pub(crate) struct Lines {
    pieces: Pieces,
    buffer: BytesMut,
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Pieces {
    /// Asks for `path`.
    pub(crate) async fn open(state: &State, path: &str) -> anyhow::Result<Self> {
        let stop = StopSignals::watch()?;
        let silent = |source| Expected::Silent {
            name: state.name().to_owned(),
            source,
        };
        let socket: UnixStream = api::connect(state, "api.sock").await?;
        let ask = async {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
            let connection = tokio::task::spawn_local(async move {
                // Its end is the end of the body, which is what is read.
                drop(connection.await);
            });
            let request = Request::get(path)
                .header(http::header::HOST, "maille")
                .body(Empty::<Bytes>::new())?;
            let answer = sender.send_request(request).await?;
            anyhow::Ok((connection, answer))
        };
        let asked = timeout(DEADLINE, ask).await;
        let asked = asked.unwrap_or_else(|_| Err(anyhow!("no answer in {DEADLINE:?}")));
        let (connection, answer) = asked.map_err(silent)?;
        let status = answer.status();
        if !status.is_success() {
            let body = Limited::new(answer.into_body(), LONGEST).collect().await;
            connection.abort();
            let body = body.map_err(|error| silent(anyhow!(error)))?.to_bytes();
            return Err(api::refused(status, &body).into());
        }
        Ok(Self {
            state: state.clone(),
            stop,
            connection,
            body: answer.into_body(),
        })
    }

    /// The next bytes; `None` when somebody asked to stop. That the mesh ended it is a failure. Cancel-safe.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        let frame = tokio::select! {
            frame = Self::piece(&mut self.body) => frame,
            () = self.stop.next() => return Ok(None),
        };
        let ended = match frame {
            Ok(Some(piece)) => return Ok(Some(piece)),
            Ok(None) => anyhow!("it has ended"),
            Err(error) => error,
        };
        Err(self.silent(ended).into())
    }

    /// The next bytes of an answer that is expected to end; `None` at its end.
    pub(crate) async fn until_end(&mut self) -> anyhow::Result<Option<Bytes>> {
        let piece = timeout(DEADLINE, Self::piece(&mut self.body)).await;
        let piece = piece.unwrap_or_else(|_| Err(anyhow!("no more of it in {DEADLINE:?}")));
        piece.map_err(|error| self.silent(error).into())
    }

    async fn piece(body: &mut Incoming) -> anyhow::Result<Option<Bytes>> {
        while let Some(frame) = body.frame().await {
            // Trailers say nothing here.
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    fn silent(&self, source: anyhow::Error) -> Expected {
        Expected::Silent {
            name: self.state.name().to_owned(),
            source,
        }
    }
}

impl Lines {
    /// Asks for `path`.
    pub(crate) async fn open(state: &State, path: &str) -> anyhow::Result<Self> {
        Ok(Self {
            pieces: Pieces::open(state, path).await?,
            buffer: BytesMut::new(),
        })
    }

    /// The next line; `None` when somebody asked to stop. Cancel-safe.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<String>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                let text = String::from_utf8_lossy(&line[..end]).into_owned();
                return Ok(Some(text));
            }
            if self.buffer.len() > LONGEST {
                let long = anyhow!("a line of more than {LONGEST} bytes");
                return Err(self.pieces.silent(long).into());
            }
            match self.pieces.next().await? {
                Some(piece) => self.buffer.extend_from_slice(&piece),
                None => return Ok(None),
            }
        }
    }
}
