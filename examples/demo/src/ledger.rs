// SPDX-License-Identifier: Apache-2.0
//! A line protocol over TCP, the client speaks first: `ADD N MARKER` is answered `OK TOTAL MARKER`.
//!
//! A leaving ledger says `BYE` on each connection and goes on answering for a while: it must never close with an
//! answer owed. Read `cart.rs` next.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::server::listen;
use crate::stop::{Phase, Stop};

/// What a leaving ledger says.
pub(crate) const FAREWELL: &str = "BYE";

/// The longest line either side sends.
const MAX_LINE: u64 = 4096;

/// Connections served at once.
const MAX_CONNECTIONS: usize = 4096;

/// How long clients may take to hang up.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Serves the ledger on `port` until `stop`.
pub(crate) async fn serve(port: u16, marker: String, mut stop: Stop) -> anyhow::Result<()> {
    let listener = listen(port).await?;
    let (total, marker) = (Arc::new(AtomicU64::new(0)), Arc::new(marker));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let room = connections.len() < MAX_CONNECTIONS;
        tokio::select! {
            accepted = listener.accept(), if room => {
                let (socket, _) = accepted.context("failed to accept a connection")?;
                let _ = socket.set_nodelay(true);
                let (total, marker) = (Arc::clone(&total), Arc::clone(&marker));
                connections.spawn(connection(socket, total, marker, stop.clone()));
            }
            _ = connections.join_next(), if !room => {}
            () = stop.reached(Phase::Closing) => break,
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    let _ = timeout(LAST_WORDS, all).await;
    Ok(())
}

async fn connection(
    socket: TcpStream,
    total: Arc<AtomicU64>,
    marker: Arc<String>,
    mut stop: Stop,
) -> anyhow::Result<()> {
    let mut line = BufStream::new(socket);
    let mut closing = stop.clone();
    let mut said_bye = false;
    loop {
        // Cancelled only while nothing of a line has arrived, so no byte is lost.
        tokio::select! {
            filled = line.fill_buf() => {
                if filled?.is_empty() {
                    return Ok(());
                }
            }
            () = stop.reached(Phase::Leaving), if !said_bye => {
                said_bye = true;
                write_line(&mut line, FAREWELL).await?;
                continue;
            }
            // Whoever has not hung up by now has heard the farewell long ago, or is gone without a word.
            () = closing.reached(Phase::Closing) => return Ok(()),
        }
        let Some(request) = read_line(&mut line).await? else {
            return Ok(());
        };
        let mut words = request.split(' ');
        let (Some("ADD"), Some(amount), Some(_), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            bail!("not a line of this protocol");
        };
        let amount: u64 = amount.parse().context("not an amount")?;
        let sum = total
            .fetch_add(amount, Ordering::Relaxed)
            .wrapping_add(amount);
        write_line(&mut line, &format!("OK {sum} {marker}")).await?;
    }
}

/// Reads one line without its end; `None` when the peer closed before one began.
pub(crate) async fn read_line(stream: &mut BufStream<TcpStream>) -> anyhow::Result<Option<String>> {
    let mut line = String::new();
    let read = stream.take(MAX_LINE).read_line(&mut line).await?;
    if read == 0 {
        return Ok(None);
    }
    match line.strip_suffix('\n') {
        Some(line) => Ok(Some(line.to_owned())),
        None => bail!("line broke off or is longer than {MAX_LINE} bytes"),
    }
}

/// Writes one line.
pub(crate) async fn write_line(
    stream: &mut BufStream<TcpStream>,
    line: &str,
) -> anyhow::Result<()> {
    stream.write_all(line.as_bytes()).await?;
    stream.write_all(b"\n").await?;
    Ok(stream.flush().await?)
}
