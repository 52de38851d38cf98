// SPDX-License-Identifier: Apache-2.0
//! Probes: when a result changes the verdict (pure), and how one try is made (HTTP/1.1 or a TCP connection, from the node's namespace).

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use maille_manifest::objects::{HttpGet, Probe};
use tokio::net::TcpStream;
use tokio::time::{Duration, timeout};

/// Counts tries until the verdict changes.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    successes: u32,
    failures: u32,
    success_threshold: u32,
    failure_threshold: u32,
    well: bool,
}

/// Why a try failed, for people.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    #[error("no answer from {address} within {seconds} s")]
    Slow { address: SocketAddr, seconds: u32 },
    #[error("{address}: {source}")]
    Connect {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("{address}: no HTTP: {source}")]
    Http {
        address: SocketAddr,
        source: hyper::Error,
    },
    #[error("{address} closed the connection without an answer")]
    Closed { address: SocketAddr },
    #[error("the probe's path or fields are not HTTP: {source}")]
    Request { source: http::Error },
    #[error("{address}{path} answered {status}")]
    Status {
        address: SocketAddr,
        path: String,
        status: u16,
    },
    #[error("no port named {name}")]
    NoPort { name: String },
}

// === impl Verdict ===

impl Verdict {
    pub(crate) const fn new(probe: &Probe, well: bool) -> Self {
        Self {
            successes: 0,
            failures: 0,
            success_threshold: probe.success_threshold,
            failure_threshold: probe.failure_threshold,
            well,
        }
    }

    /// Counts one try. `Some`: the verdict changed to this.
    pub(crate) fn count(&mut self, success: bool) -> Option<bool> {
        if success {
            self.successes = self.successes.saturating_add(1);
            self.failures = 0;
        } else {
            self.failures = self.failures.saturating_add(1);
            self.successes = 0;
        }
        let now = if self.well {
            self.failures < self.failure_threshold
        } else {
            self.successes >= self.success_threshold
        };
        (now != self.well).then(|| {
            self.well = now;
            now
        })
    }
}

/// One try at the pod with `address`. `port` is already a number.
pub(crate) async fn attempt(probe: &Probe, address: IpAddr, port: u16) -> Result<(), ProbeError> {
    let address = SocketAddr::new(address, port);
    let seconds = probe.timeout_seconds;
    timeout(
        Duration::from_secs(u64::from(seconds)),
        once(probe, address),
    )
    .await
    .unwrap_or(Err(ProbeError::Slow { address, seconds }))
}

async fn once(probe: &Probe, address: SocketAddr) -> Result<(), ProbeError> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|source| ProbeError::Connect { address, source })?;
    match &probe.http_get {
        None => Ok(()),
        Some(get) => ask(get, address, stream).await,
    }
}

async fn ask(get: &HttpGet, address: SocketAddr, stream: TcpStream) -> Result<(), ProbeError> {
    let mut request = http::Request::get(get.path.as_str());
    if !get
        .http_headers
        .iter()
        .any(|field| field.name.eq_ignore_ascii_case("host"))
    {
        request = request.header("host", address.to_string());
    }
    request = request
        .header("user-agent", "maille-probe")
        .header("connection", "close");
    for field in &get.http_headers {
        request = request.header(&field.name, &field.value);
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|source| ProbeError::Request { source })?;
    let http = |source: hyper::Error| match source.is_canceled() || source.is_incomplete_message() {
        true => ProbeError::Closed { address },
        false => ProbeError::Http { address, source },
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
    let exchange = sender.send_request(request);
    tokio::pin!(connection, exchange);
    let response = tokio::select! {
        response = &mut exchange => response.map_err(http)?,
        ended = &mut connection => {
            ended.map_err(http)?;
            exchange.await.map_err(http)?
        }
    };
    let status = response.status().as_u16();
    if (200..400).contains(&status) {
        return Ok(());
    }
    Err(ProbeError::Status {
        address,
        path: get.path.clone(),
        status,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(success_threshold: u32, failure_threshold: u32, well: bool) -> Verdict {
        Verdict {
            successes: 0,
            failures: 0,
            success_threshold,
            failure_threshold,
            well,
        }
    }

    #[test]
    fn thresholds_count_tries_in_a_row() {
        let mut v = verdict(2, 3, false);
        assert_eq!(v.count(true), None);
        assert_eq!(v.count(false), None);
        assert_eq!(v.count(true), None);
        assert_eq!(v.count(true), Some(true));
        assert_eq!(v.count(false), None);
        assert_eq!(v.count(false), None);
        assert_eq!(v.count(true), None);
        assert_eq!(v.count(false), None);
        assert_eq!(v.count(false), None);
        assert_eq!(v.count(false), Some(false));
        assert_eq!(v.count(false), None);
    }
}
