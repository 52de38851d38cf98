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

/// What came.
#[derive(Debug)]
pub(crate) enum Ended {
    /// A line, without its end.
    Line(String),
    /// Somebody asked to stop.
    Stopped,
}

/// Lines as they come.
pub(crate) struct Lines {
    state: State,
    stop: StopSignals,
    connection: tokio::task::JoinHandle<()>,
    body: Incoming,
    buffer: BytesMut,
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Lines {
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
            buffer: BytesMut::new(),
        })
    }

    /// The next line, or the end. Cancel-safe.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Ended> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                let text = String::from_utf8_lossy(&line[..end]).into_owned();
                return Ok(Ended::Line(text));
            }
            let ended = |what: anyhow::Error| Expected::Silent {
                name: self.state.name().to_owned(),
                source: what,
            };
            if self.buffer.len() > LONGEST {
                return Err(ended(anyhow!("a line of more than {LONGEST} bytes")).into());
            }
            let frame = tokio::select! {
                frame = self.body.frame() => frame,
                () = self.stop.next() => return Ok(Ended::Stopped),
            };
            match frame {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                Some(Err(error)) => return Err(ended(error.into()).into()),
                None => return Err(ended(anyhow!("it has ended")).into()),
            }
        }
    }
}
