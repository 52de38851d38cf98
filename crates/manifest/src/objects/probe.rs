// SPDX-License-Identifier: Apache-2.0
//! Probes and hooks: what is done to a container from outside. Read [`super::container`] for who has them.

use serde::{Deserialize, Serialize};

use super::IntOrText;

/// How to ask a container whether it is well: exactly one of the four actions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// An HTTP request; 200 to 399 is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HttpGet>,
    /// A TCP connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_socket: Option<TcpSocket>,
    /// The question of `grpc.health.v1`; `SERVING` is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcAction>,
    /// A program in the container; exit code 0 is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecAction>,
    /// Seconds before the first try.
    #[serde(default)]
    pub initial_delay_seconds: u32,
    /// Seconds between tries.
    #[serde(default = "ten")]
    pub period_seconds: u32,
    /// Seconds that a try may take.
    #[serde(default = "one")]
    pub timeout_seconds: u32,
    /// Tries in a row that make it well.
    #[serde(default = "one")]
    pub success_threshold: u32,
    /// Tries in a row that make it unwell.
    #[serde(default = "three")]
    pub failure_threshold: u32,
    /// From SIGTERM to SIGKILL when it is ended for this probe. Absent: the pod's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination_grace_period_seconds: Option<u32>,
}

/// What is done at a moment of a container's life: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    /// A program in the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecAction>,
    /// An HTTP request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HttpGet>,
    /// Nothing, for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sleep: Option<SleepAction>,
}

/// What is done at the two moments.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lifecycle {
    /// As soon as it runs; it is not ready before this is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_start: Option<Hook>,
    /// Before SIGTERM, and within the grace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_stop: Option<Hook>,
}

/// A program in the container, without a shell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecAction {
    /// The program and its arguments.
    #[serde(default)]
    pub command: Vec<String>,
}

/// Nothing, for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SleepAction {
    /// How long.
    pub seconds: u32,
}

/// The question of `grpc.health.v1`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrpcAction {
    /// Which port, by number only.
    pub port: u16,
    /// The service that is asked about. Empty: the whole server.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub service: String,
}

/// An HTTP request to the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpGet {
    /// Absent: `/`.
    #[serde(default = "root")]
    pub path: String,
    /// By number or name.
    pub port: IntOrText,
    /// Whether it goes through TLS.
    #[serde(default)]
    pub scheme: Scheme,
    /// Fields of the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http_headers: Vec<HttpHeader>,
}

/// How an HTTP request goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Scheme {
    /// In plain.
    #[default]
    Http,
    /// Through TLS, whoever the server says it is.
    Https,
}

/// One field of a probe's request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpHeader {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A TCP connection to the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpSocket {
    /// By number or name.
    pub port: IntOrText,
}

fn one() -> u32 {
    1
}

fn three() -> u32 {
    3
}

fn ten() -> u32 {
    10
}

fn root() -> String {
    "/".to_owned()
}
