// SPDX-License-Identifier: Apache-2.0
//! A line protocol over TCP, the client speaks first: `ADD N MARKER` is answered `OK TOTAL MARKER`.
//!
//! A leaving ledger says `BYE` on each connection and goes on answering for a while: it must never close with an
//! answer owed. Read `cart.rs` and `vault.rs`, its clients, next.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, bail, ensure};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufStream,
};

use crate::server::{each, listen};
use crate::stop::{Phase, Stop};

/// What a leaving ledger says.
pub(crate) const FAREWELL: &str = "BYE";

/// The longest line either side sends.
const MAX_LINE: u64 = 4096;

/// What lines are sent over.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Duplex for S {}

/// The sum of all lines, and the marker that answers carry.
#[derive(Debug)]
pub(crate) struct Ledger {
    total: AtomicU64,
    marker: String,
}

/// Serves the ledger on `port` until `stop`.
pub(crate) async fn serve(port: u16, marker: String, stop: Stop) -> anyhow::Result<()> {
    let ledger = Arc::new(Ledger::new(marker));
    each(listen(port).await?, stop, move |socket, stop| {
        let ledger = Arc::clone(&ledger);
        async move { ledger.answer(socket, stop).await }
    })
    .await
}

/// Asks to add one, over a connection that nobody else uses, and gives the answer and whether to hang up now.
pub(crate) async fn add<S: Duplex>(
    line: &mut BufStream<S>,
    marker: &str,
) -> anyhow::Result<(String, bool)> {
    write_line(line, &format!("ADD 1 {marker}")).await?;
    let mut leaving = false;
    loop {
        let answer = read_line(line).await?.context("closed without an answer")?;
        if answer == FAREWELL {
            leaving = true;
            continue;
        }
        ensure!(answer.contains(marker), "the answer was {answer:?}");
        return Ok((answer, leaving));
    }
}

/// Reads one line without its end; `None` when the peer closed before one began.
pub(crate) async fn read_line<S: Duplex>(
    stream: &mut BufStream<S>,
) -> anyhow::Result<Option<String>> {
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
pub(crate) async fn write_line<S: Duplex>(
    stream: &mut BufStream<S>,
    line: &str,
) -> anyhow::Result<()> {
    stream.write_all(line.as_bytes()).await?;
    stream.write_all(b"\n").await?;
    Ok(stream.flush().await?)
}

// === impl Ledger ===

impl Ledger {
    /// A ledger without entries.
    pub(crate) const fn new(marker: String) -> Self {
        Self {
            total: AtomicU64::new(0),
            marker,
        }
    }

    /// Answers one client until it hangs up or the role closes.
    pub(crate) async fn answer<S: Duplex>(&self, stream: S, mut stop: Stop) -> anyhow::Result<()> {
        let mut line = BufStream::new(stream);
        let mut closing = stop.clone();
        let mut said_bye = false;
        loop {
            // Cancelled only while nothing of a line has arrived, so no byte is lost.
            tokio::select! {
                filled = line.fill_buf() => {
                    if filled?.is_empty() {
                        break;
                    }
                }
                () = stop.reached(Phase::Leaving), if !said_bye => {
                    said_bye = true;
                    write_line(&mut line, FAREWELL).await?;
                    continue;
                }
                // Whoever has not hung up by now has heard the farewell long ago, or is gone without a word.
                () = closing.reached(Phase::Closing) => break,
            }
            let Some(request) = read_line(&mut line).await? else {
                break;
            };
            let mut words = request.split(' ');
            let (Some("ADD"), Some(amount), Some(_), None) =
                (words.next(), words.next(), words.next(), words.next())
            else {
                bail!("not a line of this protocol");
            };
            let amount: u64 = amount.parse().context("not an amount")?;
            let sum = self
                .total
                .fetch_add(amount, Ordering::Relaxed)
                .wrapping_add(amount);
            write_line(&mut line, &format!("OK {sum} {}", self.marker)).await?;
        }
        // The end is said, as the transport says it.
        Ok(line.shutdown().await?)
    }
}
