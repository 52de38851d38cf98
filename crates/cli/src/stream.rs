// SPDX-License-Identifier: Apache-2.0
//! An answer of the API that goes on: lines of JSON, until the mesh ends it or somebody presses Ctrl-C.
//!
//! Must never read a line without a bound. Read `api.rs` for answers that end, `tap.rs` for a user.

use anyhow::anyhow;
use bytes::{Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::api::{self, DEADLINE};
use crate::failure::Expected;
use crate::mesh::StopSignals;
use crate::reach::{Reach, Stream};
use crate::state::State;

/// The longest line: two heads and a few names.
const LONGEST: usize = 1 << 20;

/// Bytes as they come.
pub(crate) struct Pieces {
    reach: Reach,
    /// `None`: somebody else looks for signals.
    stop: Option<StopSignals>,
    /// Of a socket of our own.
    connection: Option<tokio::task::JoinHandle<()>>,
    body: Stream,
}

/// Lines as they come.
pub(crate) struct Lines {
    pieces: Pieces,
    buffer: BytesMut,
}

impl Drop for Pieces {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.abort();
        }
    }
}

impl Pieces {
    /// Of an answer that has begun.
    pub(crate) fn of(reach: &Reach, body: Stream) -> anyhow::Result<Self> {
        Ok(Self {
            reach: reach.clone(),
            stop: Some(StopSignals::watch()?),
            connection: None,
            body,
        })
    }

    /// Asks for `path`.
    pub(crate) async fn open(reach: &Reach, path: &str) -> anyhow::Result<Self> {
        let stop = StopSignals::watch()?;
        let (connection, body) = match reach {
            Reach::Local(state) => {
                let (connection, body) = local(state, path).await?;
                (Some(connection), body)
            }
            Reach::Cluster(cluster) => (None, Reach::stream(cluster, path).await?),
        };
        Ok(Self {
            reach: reach.clone(),
            stop: Some(stop),
            connection,
            body,
        })
    }

    /// The next bytes; `None` when somebody asked to stop. That the mesh ended it is a failure. Cancel-safe.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        let stopped = async {
            match &mut self.stop {
                Some(stop) => stop.next().await,
                None => std::future::pending().await,
            }
        };
        let frame = tokio::select! {
            frame = Self::piece(&mut self.body) => frame,
            () = stopped => return Ok(None),
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

    async fn piece(body: &mut Stream) -> anyhow::Result<Option<Bytes>> {
        while let Some(frame) = body.frame().await {
            // Trailers say nothing here.
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    fn silent(&self, source: anyhow::Error) -> Expected {
        self.reach.silent(source)
    }
}

/// The body of an answer of this machine's mesh, and what reads it from the socket.
async fn local(state: &State, path: &str) -> anyhow::Result<(tokio::task::JoinHandle<()>, Stream)> {
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
    let body = answer.into_body().map_err(anyhow::Error::new);
    Ok((connection, body.boxed_unsync()))
}

impl Lines {
    /// Asks for `path`.
    pub(crate) async fn open(reach: &Reach, path: &str) -> anyhow::Result<Self> {
        Ok(Self {
            pieces: Pieces::open(reach, path).await?,
            buffer: BytesMut::new(),
        })
    }

    /// Signals are for somebody else, who reads something beside this.
    pub(crate) fn beside(mut self) -> Self {
        self.pieces.stop = None;
        self
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
