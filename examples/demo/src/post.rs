// SPDX-License-Identifier: Apache-2.0
//! A line protocol in which the server speaks first, as mail does, on a port that declares nothing.
//!
//! `220` greets, `NOTE TEXT` is answered `250`, `QUIT` is answered `221`; a post that closes says `421` to whoever has not
//! quit. It must never say so while letters are still on their way. Read `ledger.rs` for one where the client begins.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use crate::client::DEADLINE;
use crate::ledger::{read_line, write_line};
use crate::server::{LAST_WORDS, each, listen};
use crate::stop::{Phase, Stop};

/// The post office.
#[derive(Debug)]
struct Post {
    taken: AtomicU64,
    marker: String,
}

/// Serves the post on `port` until `stop`.
pub(crate) async fn serve(port: u16, marker: String, stop: Stop) -> anyhow::Result<()> {
    let post = Arc::new(Post {
        taken: AtomicU64::new(0),
        marker,
    });
    each(listen(port).await?, stop, move |socket, stop| {
        let post = Arc::clone(&post);
        async move { post.answer(socket, stop).await }
    })
    .await
}

// === impl Post ===

impl Post {
    async fn answer(&self, socket: TcpStream, mut stop: Stop) -> anyhow::Result<()> {
        let mut line = BufStream::new(socket);
        write_line(&mut line, &format!("220 post {}", self.marker)).await?;
        let over = async {
            stop.reached(Phase::Closing).await;
            // Sessions are short: whoever is at it may end it.
            sleep_until(Instant::now() + LAST_WORDS / 2).await;
        };
        let mut over = std::pin::pin!(over);
        loop {
            // Cancelled only while nothing of a line has arrived, so no byte is lost.
            tokio::select! {
                filled = line.fill_buf() => {
                    if filled?.is_empty() {
                        return Ok(());
                    }
                }
                () = &mut over => {
                    write_line(&mut line, &format!("421 closing {}", self.marker)).await?;
                    break;
                }
            }
            let Some(command) = read_line(&mut line).await? else {
                break;
            };
            match command.split_once(' ') {
                Some(("NOTE", _)) => {
                    let number = self.taken.fetch_add(1, Ordering::Relaxed);
                    let answer = format!("250 taken as {number} {}", self.marker);
                    write_line(&mut line, &answer).await?;
                }
                None if command == "QUIT" => {
                    write_line(&mut line, &format!("221 bye {}", self.marker)).await?;
                    break;
                }
                _ => write_line(&mut line, &format!("500 what? {}", self.marker)).await?,
            }
        }
        Ok(line.shutdown().await?)
    }
}

/// Posts one note at `to` (host:port), in a session of its own, and gives the receipt.
pub(crate) async fn note(to: &str, marker: &str) -> anyhow::Result<String> {
    timeout(DEADLINE, session(to, marker))
        .await
        .context("the post did not answer in time")?
        .context("post")
}

async fn session(to: &str, marker: &str) -> anyhow::Result<String> {
    let socket = TcpStream::connect(to).await.context("failed to connect")?;
    let _ = socket.set_nodelay(true);
    let mut line = BufStream::new(socket);
    expect(&mut line, "220 ", marker).await?;
    write_line(&mut line, &format!("NOTE one thing was seen {marker}")).await?;
    let receipt = expect(&mut line, "250 ", marker).await?;
    write_line(&mut line, "QUIT").await?;
    expect(&mut line, "221 ", marker).await?;
    Ok(format!("post {receipt}\n"))
}

async fn expect(
    line: &mut BufStream<TcpStream>,
    code: &str,
    marker: &str,
) -> anyhow::Result<String> {
    let answer = read_line(line).await?.context("closed without an answer")?;
    ensure!(
        answer.starts_with(code) && answer.contains(marker),
        "the answer was {answer:?}"
    );
    Ok(answer)
}
