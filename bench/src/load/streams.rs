// SPDX-License-Identifier: Apache-2.0
//! Streams that stay open, both ways: on each a message of a hundred bytes at a time, and the next when it came back. Read `load.rs` next.

use std::cell::Cell;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use futures_util::future::try_join_all;
use h2::client::SendRequest;
use http::Request;
use maille_chassis::clock::Clock;
use tokio::net::TcpStream;

use super::{Metric, Values};
use crate::lab::Lab;
use crate::peers::Pair;

const CONNECTIONS: usize = 4;
const STREAMS: usize = 16;
/// What gRPC sends for a small message: five bytes, and itself.
const MESSAGE: &[u8] = &[b'm'; 105];

/// Messages for so long, on streams of a few connections.
pub(crate) fn streams(lab: &Lab, pair: &Pair, seconds: u32) -> anyhow::Result<Values> {
    let (before, entry) = (pair.cpu()?, &pair.entry);
    let time = Duration::from_secs(seconds.into());
    let messages = lab.load(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        let (clock, count) = (Clock::start(), Cell::new(0_u64));
        let going = || clock.elapsed() < time;
        let each = (0..CONNECTIONS).map(|_| connection(entry, &going, &count));
        runtime.block_on(try_join_all(each))?;
        anyhow::Ok(count.get())
    })?;
    let spent = pair.cpu()? - before;
    ensure!(messages > 0, "no message came back from {}", pair.peer);
    let messages = messages as f64;
    Ok(vec![
        (Metric::CpuUs, spent.as_secs_f64() * 1e6 / messages),
        (Metric::PerSecond, messages / f64::from(seconds)),
    ])
}

async fn connection(
    entry: &str,
    going: &impl Fn() -> bool,
    count: &Cell<u64>,
) -> anyhow::Result<()> {
    let stream = TcpStream::connect(entry).await?;
    stream.set_nodelay(true)?;
    let (send, connection) = h2::client::handshake(stream).await?;
    let each = (0..STREAMS).map(|_| stream_of(send.clone(), going, count));
    tokio::select! {
        ended = try_join_all(each) => ended.map(drop),
        ended = connection => bail!("the connection ended: {ended:?}"),
    }
}

async fn stream_of(
    send: SendRequest<Bytes>,
    going: &impl Fn() -> bool,
    count: &Cell<u64>,
) -> anyhow::Result<()> {
    let mut send = send.ready().await?;
    let request = Request::post("http://bench.local/echo")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (answer, mut out) = send.send_request(request, false)?;
    out.send_data(Bytes::from_static(MESSAGE), false)?;
    let mut body = answer.await?.into_body();
    loop {
        let mut came = 0;
        while came < MESSAGE.len() {
            let bytes = body.data().await.context("the stream ended")??;
            body.flow_control().release_capacity(bytes.len())?;
            came += bytes.len();
        }
        count.set(count.get() + 1);
        if !going() {
            out.send_data(Bytes::new(), true)?;
            return Ok(());
        }
        out.send_data(Bytes::from_static(MESSAGE), false)?;
    }
}
