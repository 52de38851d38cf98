// SPDX-License-Identifier: Apache-2.0
//! What is done to a container from outside: one try of a probe, or a hook. HTTP/1.1 (in plain or through TLS), TCP and gRPC go to the pod's
//! address from inside its network: on the way in the pod's proxy would take a connection before the application does, and a TCP
//! probe would say that it is there. A program is run inside the container's namespaces.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use maille_identity::anyone;
use maille_manifest::objects::{Hook, HttpGet, IntOrText, Pod, Probe, Scheme, Transport};
use maille_sys::netns::NetNs;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Duration, timeout};

use super::grpc;
use crate::host::{Exit, Handle, Inside, describe, spawn_inside};
use crate::logs;

/// What is to be done.
#[derive(Clone, Debug)]
pub(super) enum Action {
    Http(HttpGet),
    Tcp(IntOrText),
    Grpc {
        port: u16,
        service: String,
    },
    Exec(Vec<String>),
    Sleep(Duration),
    /// A manifest that says nothing, which loading refuses.
    Nothing,
}

/// To whom.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) pod: Pod,
    pub(super) address: Option<IpAddr>,
    /// The pod's network.
    pub(super) net: NetNs,
    pub(super) process: Handle,
    /// What programs in the container are started with.
    pub(super) inside: Inside,
    /// What the last program wrote.
    pub(super) output: PathBuf,
}

/// Why it failed, for people.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ActionError {
    #[error("no answer within {seconds} s")]
    Slow { seconds: u64 },
    #[error("{address}: {source}")]
    Connect {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("{address}: no TLS: {source}")]
    Tls {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("{address}: no HTTP: {source}")]
    Http {
        address: SocketAddr,
        source: hyper::Error,
    },
    #[error("{address} closed the connection without an answer")]
    Closed { address: SocketAddr },
    #[error("the path or fields are not HTTP: {source}")]
    Request { source: http::Error },
    #[error("{address}{path} answered {status}")]
    Status {
        address: SocketAddr,
        path: String,
        status: u16,
    },
    #[error("no port named {name}")]
    NoPort { name: String },
    #[error("the pod has no address")]
    NoAddress,
    #[error("{address}: gRPC: {said}")]
    Grpc { address: SocketAddr, said: String },
    #[error("{program} cannot be run: {said}")]
    Run { program: String, said: String },
    #[error("{program} {how}{said}")]
    Ended {
        program: String,
        how: String,
        said: String,
    },
}

impl Action {
    pub(super) fn of_probe(probe: &Probe) -> Self {
        if let Some(get) = &probe.http_get {
            return Self::Http(get.clone());
        }
        if let Some(socket) = &probe.tcp_socket {
            return Self::Tcp(socket.port.clone());
        }
        if let Some(grpc) = &probe.grpc {
            let (port, service) = (grpc.port, grpc.service.clone());
            return Self::Grpc { port, service };
        }
        match &probe.exec {
            Some(exec) => Self::Exec(exec.command.clone()),
            None => Self::Nothing,
        }
    }

    pub(super) fn of_hook(hook: &Hook) -> Self {
        if let Some(get) = &hook.http_get {
            return Self::Http(get.clone());
        }
        if let Some(sleep) = &hook.sleep {
            return Self::Sleep(Duration::from_secs(u64::from(sleep.seconds)));
        }
        match &hook.exec {
            Some(exec) => Self::Exec(exec.command.clone()),
            None => Self::Nothing,
        }
    }

    /// Does it once. What is not done in time is given up, and a program of it killed.
    pub(super) async fn run(&self, subject: &Subject, within: Duration) -> Result<(), ActionError> {
        let seconds = within.as_secs();
        let done = timeout(within, self.once(subject)).await;
        done.unwrap_or(Err(ActionError::Slow { seconds }))
    }

    async fn once(&self, subject: &Subject) -> Result<(), ActionError> {
        match self {
            Self::Http(get) => {
                let address = subject.address(&get.port)?;
                let stream = subject.connect(address).await?;
                match get.scheme {
                    Scheme::Http => ask(get, address, stream).await,
                    Scheme::Https => {
                        let failed = |source| ActionError::Tls { address, source };
                        let stream = anyone::dial(stream, address.ip()).await;
                        ask(get, address, stream.map_err(failed)?).await
                    }
                }
            }
            Self::Tcp(port) => subject.connect(subject.address(port)?).await.map(drop),
            Self::Grpc { port, service } => {
                let address = subject.address(&IntOrText::Port(*port))?;
                let well = grpc::check(subject.connect(address).await?, address, service).await;
                well.map_err(|said| ActionError::Grpc { address, said })
            }
            Self::Exec(command) => exec(command, subject).await,
            Self::Sleep(time) => {
                // A deadline that passes, which is what was asked for.
                let _ = timeout(*time, std::future::pending::<()>()).await;
                Ok(())
            }
            Self::Nothing => Ok(()),
        }
    }
}

impl Subject {
    fn address(&self, port: &IntOrText) -> Result<SocketAddr, ActionError> {
        let address = self.address.ok_or(ActionError::NoAddress)?;
        let number = self.pod.spec.resolve_port(port, Transport::Tcp);
        let number = number.ok_or_else(|| ActionError::NoPort {
            name: port.to_string(),
        })?;
        Ok(SocketAddr::new(address, number))
    }

    /// A socket stays in the namespace in which it was made, wherever it is used.
    async fn connect(&self, address: SocketAddr) -> Result<TcpStream, ActionError> {
        let make = || match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        };
        let failed = |source| ActionError::Connect { address, source };
        let socket = self.net.run(make).and_then(|made| made).map_err(failed)?;
        socket.connect(address).await.map_err(failed)
    }
}

async fn ask<S>(get: &HttpGet, address: SocketAddr, stream: S) -> Result<(), ActionError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let path = match get.path.starts_with('/') {
        true => get.path.clone(),
        false => format!("/{}", get.path),
    };
    let mut request = http::Request::get(path.as_str());
    let said = |name: &str| {
        let mut fields = get.http_headers.iter();
        fields.any(|field| field.name.eq_ignore_ascii_case(name))
    };
    for (name, value) in [
        ("host", address.to_string()),
        ("user-agent", "maille-probe".to_owned()),
        ("accept", "*/*".to_owned()),
        ("connection", "close".to_owned()),
    ] {
        if !said(name) {
            request = request.header(name, value);
        }
    }
    for field in &get.http_headers {
        request = request.header(&field.name, &field.value);
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|source| ActionError::Request { source })?;
    let http = |source: hyper::Error| match source.is_canceled() || source.is_incomplete_message() {
        true => ActionError::Closed { address },
        false => ActionError::Http { address, source },
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
    match (200..400).contains(&status) {
        true => Ok(()),
        false => Err(ActionError::Status {
            address,
            path,
            status,
        }),
    }
}

async fn exec(command: &[String], subject: &Subject) -> Result<(), ActionError> {
    let program = command.first().cloned().unwrap_or_default();
    let failed = |said: String| ActionError::Run {
        program: program.clone(),
        said,
    };
    // What it writes says why it failed; only the last one's is kept.
    let _ = std::fs::remove_file(&subject.output);
    let output = logs::open(&subject.output).map_err(|error| failed(error.to_string()))?;
    let child = spawn_inside(&subject.process, &subject.inside, command, output);
    let mut child = child.map_err(|error| failed(format!("{:#}", anyhow::Error::from(error))))?;
    let exit = child.exited().await;
    if matches!(exit, Ok(Exit::Code(0))) {
        return Ok(());
    }
    let said = logs::last_line(&subject.output);
    let how = describe(&exit);
    let said = said
        .map(|line| format!(", and said: {line}"))
        .unwrap_or_default();
    Err(ActionError::Ended { program, how, said })
}
