// SPDX-License-Identifier: Apache-2.0
//! WebSocket: each text is answered. A connection may stay open for hours.
//!
//! A leaving server says `BYE` and goes on answering for a while, then sends its close frame: it must never send that with
//! an answer owed. Read `ledger.rs` for the same without frames.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, bail, ensure};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use http::HeaderValue;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::coop::unconstrained;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::{WebSocketStream, accept_async_with_config, client_async_with_config};

use crate::client::DEADLINE;
use crate::ledger::FAREWELL;
use crate::server::{each, listen};
use crate::stop::{Phase, Stop};

/// The longest message either side takes, in bytes.
const MAX_MESSAGE: usize = 4096;

/// Every so many visits a client opens a connection of its own.
const FRESH: u64 = 8;

type Talk = WebSocketStream<TcpStream>;

/// Serves the chat on `port` until `stop`.
pub(crate) async fn serve(port: u16, marker: String, stop: Stop) -> anyhow::Result<()> {
    let marker: Arc<str> = marker.into();
    each(listen(port).await?, stop, move |socket, stop| {
        answer(socket, Arc::clone(&marker), stop)
    })
    .await
}

async fn answer(socket: TcpStream, marker: Arc<str>, mut stop: Stop) -> anyhow::Result<()> {
    let accepted = accept_async_with_config(socket, Some(limits()));
    let mut talk = timeout(DEADLINE, accepted).await??;
    let mut closing = stop.clone();
    let mut said_bye = false;
    loop {
        tokio::select! {
            message = talk.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    talk.send(Message::text(format!("heard {} bytes {marker}", text.len()))).await?;
                }
                // The library answers pings and close frames.
                Some(message) => drop(message?),
                None => return Ok(()),
            },
            () = stop.reached(Phase::Leaving), if !said_bye => {
                said_bye = true;
                talk.send(Message::text(FAREWELL)).await?;
            }
            // Whoever has not hung up by now has heard the farewell long ago, or is gone without a word.
            () = closing.reached(Phase::Closing) => break,
        }
    }
    hang_up(&mut talk, CloseCode::Away).await
}

/// Sends the close frame and waits for the other side's.
async fn hang_up(talk: &mut Talk, code: CloseCode) -> anyhow::Result<()> {
    let reason = FAREWELL.into();
    talk.close(Some(CloseFrame { code, reason })).await?;
    while let Some(message) = talk.next().await {
        drop(message?);
    }
    Ok(())
}

/// The client: one connection for long, and others for a word.
#[derive(Debug)]
pub(crate) struct Chat {
    marker: String,
    to: String,
    kept: Mutex<Option<Talk>>,
    visits: AtomicU64,
}

// === impl Chat ===

impl Chat {
    /// A client of `to` (host:port).
    pub(crate) fn new(marker: String, to: String) -> Self {
        Self {
            marker,
            to,
            kept: Mutex::new(None),
            visits: AtomicU64::new(0),
        }
    }

    /// Says something and gives the answer.
    pub(crate) async fn visit(&self) -> anyhow::Result<String> {
        let fresh = self
            .visits
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(FRESH);
        let said = async {
            match fresh {
                true => self.say_once().await,
                false => self.say_on_kept().await,
            }
        };
        let answer = timeout(DEADLINE, said)
            .await
            .context("the chat did not answer in time")?
            .context("chat")?;
        Ok(format!("chat {answer}\n"))
    }

    async fn say_once(&self) -> anyhow::Result<String> {
        let mut talk = self.connect().await?;
        let (answer, _) = self.say(&mut talk).await?;
        hang_up(&mut talk, CloseCode::Normal).await?;
        Ok(answer)
    }

    async fn say_on_kept(&self) -> anyhow::Result<String> {
        let mut kept = self.kept.lock().await;
        let idle = match kept.take() {
            Some(talk) => Self::usable(talk).await,
            None => None,
        };
        let mut talk = match idle {
            Some(talk) => talk,
            None => self.connect().await?,
        };
        let (answer, leaving) = self.say(&mut talk).await?;
        if leaving {
            hang_up(&mut talk, CloseCode::Normal).await?;
        } else {
            *kept = Some(talk);
        }
        Ok(answer)
    }

    /// Gives an idle connection back unless the other side is leaving or gone.
    async fn usable(mut talk: Talk) -> Option<Talk> {
        match unconstrained(talk.next()).now_or_never() {
            None => return Some(talk),
            // Nothing is owed: how the close goes is of no interest.
            Some(Some(Ok(_))) => drop(hang_up(&mut talk, CloseCode::Normal).await),
            Some(_) => {}
        }
        None
    }

    /// One exchange, and whether the other side is leaving.
    async fn say(&self, talk: &mut Talk) -> anyhow::Result<(String, bool)> {
        let text = format!("one thing was seen {}", self.marker);
        talk.send(Message::text(text)).await?;
        let mut leaving = false;
        loop {
            match talk.next().await.context("closed without an answer")?? {
                Message::Text(text) if text.as_str() == FAREWELL => leaving = true,
                Message::Text(text) => {
                    ensure!(text.contains(&self.marker), "the answer was {text:?}");
                    return Ok((text.to_string(), leaving));
                }
                Message::Close(_) => bail!("closed with an answer owed"),
                _ => {}
            }
        }
    }

    async fn connect(&self) -> anyhow::Result<Talk> {
        let socket = TcpStream::connect(&self.to).await?;
        let _ = socket.set_nodelay(true);
        let mut request = format!("ws://{}/", self.to).into_client_request()?;
        let marker = HeaderValue::from_str(&self.marker)?;
        request.headers_mut().insert("x-loom-marker", marker);
        let (talk, _) = client_async_with_config(request, socket, Some(limits())).await?;
        Ok(talk)
    }
}

fn limits() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
}
