// SPDX-License-Identifier: Apache-2.0
//! Everything that can go wrong with an exchange, with total mappings: who is to blame, what the client is told, whether another endpoint is tried.
//!
//! Flags and status codes are those of `docs/wire.md` section 5 and of nothing else. Must never grow a catch-all: a new
//! variant does not compile until every mapping knows it. Read `outcome.rs` next.
#![deny(clippy::wildcard_enum_match_arm)]

/// Codes of gRPC.
const UNKNOWN: u8 = 2;
const DEADLINE_EXCEEDED: u8 = 4;
const RESOURCE_EXHAUSTED: u8 = 8;
const UNIMPLEMENTED: u8 = 12;
const INTERNAL: u8 = 13;
const UNAVAILABLE: u8 = 14;
const DATA_LOSS: u8 = 15;

/// The HTTP status that says of an endpoint what the status of a gRPC call says: 200 for what is the caller's own affair.
/// See <https://grpc.io/docs/guides/status-codes/>.
pub(crate) const fn http_status(grpc: u8) -> u16 {
    match grpc {
        UNAVAILABLE => 503,
        DEADLINE_EXCEEDED => 504,
        RESOURCE_EXHAUSTED => 429,
        UNKNOWN | INTERNAL | DATA_LOSS => 500,
        _ => 200,
    }
}

/// Why an exchange got no answer from the application, or a broken one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum Failure {
    /// The application, or its proxy, refused the connection.
    #[error("the connection was refused")]
    ConnectRefused,
    /// The application, or its proxy, did not answer the connection attempt in time.
    #[error("the connection attempt timed out")]
    ConnectTimeout,
    /// There is no way to the application or its proxy.
    #[error("the address is unreachable")]
    ConnectUnreachable,
    /// The certificate was for somebody else, or not valid.
    #[error("the peer could not prove the identity it must have")]
    PeerIdentity,
    /// The service has no ready endpoint.
    #[error("the service has no ready endpoint")]
    NoEndpoint,
    /// The service has no such port.
    #[error("the service has no such port")]
    NoPort,
    /// Control did not say in time whose a cluster address is.
    #[error("nobody said whose this cluster address is")]
    UnknownAddress,
    /// The peer asked for an address that is not this workload's.
    #[error("the address is not one of this workload")]
    Misdirected,
    /// The request is no valid HTTP/1 message.
    #[error("the request is malformed")]
    MalformedRequest,
    /// The request's head is larger than allowed.
    #[error("the request head is too large")]
    HeadTooLarge,
    /// The request's target is.
    #[error("the request target is too long")]
    TargetTooLong,
    /// The request's body is in a transfer coding that its reader may not know.
    #[error("the transfer coding of the request is not known")]
    UnknownCoding,
    /// The request is of another version of HTTP.
    #[error("the version of HTTP is not supported")]
    UnknownVersion,
    /// The response is no valid HTTP/1 message.
    #[error("the response is malformed")]
    MalformedResponse,
    /// The response's head is larger than allowed.
    #[error("the response head is too large")]
    ResponseTooLarge,
    /// The application closed before a complete response head.
    #[error("the application closed the connection without an answer")]
    UpstreamClosed,
    /// The application did not take the stream, and says that it has not looked at it.
    #[error("the application refused the stream")]
    StreamRefused,
    /// The application does not take CONNECT with a protocol (RFC 8441).
    #[error("the application does not take CONNECT with a protocol")]
    NoExtendedConnect,
    /// The application gave no head of an answer in the time that its service allows for one try.
    #[error("no answer came in the time that the service allows")]
    ResponseTimeout,
    /// The whole request took longer than its service allows.
    #[error("the request took longer than the service allows")]
    RequestTimeout,
    /// The service, or each of its endpoints, has as much under way as it allows.
    #[error("as many requests are under way as the service allows")]
    ConcurrencyLimit,
    /// This proxy is stopping.
    #[error("the proxy is stopping")]
    Draining,
    /// A bound was reached.
    #[error("the proxy is overloaded")]
    Overloaded,
}

/// Which stage of a connection's life failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Taking the connection or stream.
    Accept,
    /// Reading what the client says.
    Detect,
    /// Deciding where it goes.
    Route,
    /// Choosing an endpoint.
    Balance,
    /// Reaching the endpoint.
    Connect,
    /// Carrying the bytes.
    Forward,
}

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The client's message.
    Client,
    /// The mesh itself.
    Mesh,
    /// The application that was called.
    Upstream,
}

/// Whether the exchange may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// No.
    Never,
    /// On another endpoint: the application has seen nothing of it.
    Elsewhere,
    /// On a new connection to the same endpoint, if the failed one had been used before; else as the next.
    IfReused,
    /// On another endpoint, where the service's terms allow it for a request that may be sent twice.
    IfAllowed,
}

/// How loud the log is about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Degraded, and healing by itself.
    Warn,
    /// One exchange.
    Debug,
}

// === impl Stage ===

impl Stage {
    /// The metric label and the log field.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Detect => "detect",
            Self::Route => "route",
            Self::Balance => "balance",
            Self::Connect => "connect",
            Self::Forward => "forward",
        }
    }
}

// === impl Blame ===

impl Blame {
    /// The metric label and the log field.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Mesh => "mesh",
            Self::Upstream => "upstream",
        }
    }
}

// === impl Failure ===

impl Failure {
    /// Every failure, in the order of the wire's table.
    pub const ALL: [Self; 23] = [
        Self::ConnectRefused,
        Self::ConnectTimeout,
        Self::ConnectUnreachable,
        Self::PeerIdentity,
        Self::NoEndpoint,
        Self::NoPort,
        Self::UnknownAddress,
        Self::Misdirected,
        Self::MalformedRequest,
        Self::HeadTooLarge,
        Self::TargetTooLong,
        Self::UnknownCoding,
        Self::UnknownVersion,
        Self::MalformedResponse,
        Self::ResponseTooLarge,
        Self::UpstreamClosed,
        Self::StreamRefused,
        Self::NoExtendedConnect,
        Self::ResponseTimeout,
        Self::RequestTimeout,
        Self::ConcurrencyLimit,
        Self::Draining,
        Self::Overloaded,
    ];

    /// The value of `:m-flag`, the metric label and the log field.
    pub const fn flag(self) -> &'static str {
        match self {
            Self::ConnectRefused => "connect-refused",
            Self::ConnectTimeout => "connect-timeout",
            Self::ConnectUnreachable => "connect-unreachable",
            Self::PeerIdentity => "peer-identity",
            Self::NoEndpoint => "no-endpoint",
            Self::NoPort => "no-port",
            Self::UnknownAddress => "unknown-address",
            Self::Misdirected => "misdirected",
            Self::MalformedRequest
            | Self::HeadTooLarge
            | Self::TargetTooLong
            | Self::UnknownCoding
            | Self::UnknownVersion => "malformed-request",
            Self::MalformedResponse => "malformed-response",
            Self::ResponseTooLarge => "response-too-large",
            Self::UpstreamClosed => "upstream-closed",
            Self::StreamRefused => "stream-refused",
            Self::NoExtendedConnect => "no-extended-connect",
            Self::ResponseTimeout => "response-timeout",
            Self::RequestTimeout => "request-timeout",
            Self::ConcurrencyLimit => "concurrency-limit",
            Self::Draining => "draining",
            Self::Overloaded => "overloaded",
        }
    }

    /// The status an HTTP client gets.
    pub const fn http_status(self) -> u16 {
        match self {
            Self::ConnectRefused
            | Self::ConnectUnreachable
            | Self::PeerIdentity
            | Self::NoEndpoint
            | Self::NoPort
            | Self::UnknownAddress
            | Self::StreamRefused
            | Self::ConcurrencyLimit
            | Self::Draining
            | Self::Overloaded => 503,
            Self::NoExtendedConnect => 501,
            Self::ConnectTimeout | Self::ResponseTimeout | Self::RequestTimeout => 504,
            Self::Misdirected => 421,
            Self::MalformedRequest => 400,
            Self::HeadTooLarge => 431,
            Self::TargetTooLong => 414,
            Self::UnknownCoding => 501,
            Self::UnknownVersion => 505,
            Self::MalformedResponse | Self::ResponseTooLarge | Self::UpstreamClosed => 502,
        }
    }

    /// The status of gRPC that a client of it gets, as its own library makes it of the HTTP status where there is one.
    pub const fn grpc_status(self) -> u8 {
        match self {
            Self::MalformedRequest
            | Self::HeadTooLarge
            | Self::TargetTooLong
            | Self::UnknownVersion
            | Self::MalformedResponse
            | Self::ResponseTooLarge => INTERNAL,
            Self::UnknownCoding | Self::NoExtendedConnect => UNIMPLEMENTED,
            Self::ConnectRefused
            | Self::ConnectTimeout
            | Self::ConnectUnreachable
            | Self::PeerIdentity
            | Self::NoEndpoint
            | Self::NoPort
            | Self::UnknownAddress
            | Self::Misdirected
            | Self::UpstreamClosed
            | Self::StreamRefused
            | Self::ConcurrencyLimit
            | Self::Draining
            | Self::Overloaded => UNAVAILABLE,
            Self::ResponseTimeout | Self::RequestTimeout => DEADLINE_EXCEEDED,
        }
    }

    /// The failure that a peer names by `flag` and `status`; `None` for a flag this version does not know.
    pub fn from_flag(flag: &[u8], status: u16) -> Option<Self> {
        Self::ALL
            .into_iter()
            .filter(|failure| failure.flag().as_bytes() == flag)
            .max_by_key(|failure| failure.http_status() == status)
    }

    /// Which stage failed.
    pub const fn stage(self) -> Stage {
        match self {
            Self::Draining | Self::Overloaded => Stage::Accept,
            Self::MalformedRequest
            | Self::HeadTooLarge
            | Self::TargetTooLong
            | Self::UnknownCoding
            | Self::UnknownVersion => Stage::Detect,
            Self::UnknownAddress | Self::Misdirected => Stage::Route,
            Self::NoEndpoint | Self::NoPort | Self::ConcurrencyLimit => Stage::Balance,
            Self::ConnectRefused
            | Self::ConnectTimeout
            | Self::ConnectUnreachable
            | Self::StreamRefused
            | Self::PeerIdentity => Stage::Connect,
            Self::MalformedResponse
            | Self::ResponseTooLarge
            | Self::UpstreamClosed
            | Self::NoExtendedConnect
            | Self::ResponseTimeout
            | Self::RequestTimeout => Stage::Forward,
        }
    }

    /// Whose fault it is.
    pub const fn blame(self) -> Blame {
        match self {
            Self::MalformedRequest
            | Self::HeadTooLarge
            | Self::TargetTooLong
            | Self::UnknownCoding
            | Self::UnknownVersion => Blame::Client,
            Self::PeerIdentity
            | Self::UnknownAddress
            | Self::Misdirected
            | Self::ConcurrencyLimit
            | Self::Draining
            | Self::Overloaded => Blame::Mesh,
            Self::ConnectRefused
            | Self::ConnectTimeout
            | Self::ConnectUnreachable
            | Self::NoEndpoint
            | Self::NoPort
            | Self::MalformedResponse
            | Self::ResponseTooLarge
            | Self::StreamRefused
            | Self::NoExtendedConnect
            | Self::ResponseTimeout
            | Self::RequestTimeout
            | Self::UpstreamClosed => Blame::Upstream,
        }
    }

    /// Whether it may be tried again.
    pub const fn retry(self) -> Retry {
        match self {
            Self::ConnectRefused
            | Self::ConnectTimeout
            | Self::ConnectUnreachable
            | Self::PeerIdentity
            | Self::StreamRefused
            | Self::Draining
            | Self::Overloaded => Retry::Elsewhere,
            Self::UpstreamClosed => Retry::IfReused,
            Self::ResponseTimeout => Retry::IfAllowed,
            Self::NoEndpoint
            | Self::NoPort
            | Self::UnknownAddress
            | Self::Misdirected
            | Self::MalformedRequest
            | Self::HeadTooLarge
            | Self::TargetTooLong
            | Self::UnknownCoding
            | Self::UnknownVersion
            | Self::NoExtendedConnect
            | Self::RequestTimeout
            | Self::ConcurrencyLimit
            | Self::MalformedResponse
            | Self::ResponseTooLarge => Retry::Never,
        }
    }

    /// Whether it speaks against the endpoint that was tried: what makes balancing leave it alone for a while.
    pub const fn is_endpoints(self) -> bool {
        match self {
            Self::ConnectRefused
            | Self::ConnectTimeout
            | Self::ConnectUnreachable
            | Self::PeerIdentity
            | Self::MalformedResponse
            | Self::ResponseTooLarge
            | Self::UpstreamClosed
            | Self::ResponseTimeout
            | Self::RequestTimeout => true,
            Self::NoEndpoint
            | Self::NoPort
            | Self::UnknownAddress
            | Self::Misdirected
            | Self::MalformedRequest
            | Self::HeadTooLarge
            | Self::TargetTooLong
            | Self::UnknownCoding
            | Self::UnknownVersion
            | Self::StreamRefused
            | Self::NoExtendedConnect
            | Self::ConcurrencyLimit
            | Self::Draining
            | Self::Overloaded => false,
        }
    }

    /// How loud the log is about it.
    pub const fn level(self) -> Level {
        match self.blame() {
            Blame::Mesh => Level::Warn,
            Blame::Client | Blame::Upstream => Level::Debug,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_come_back_as_the_failure_they_name() {
        for failure in Failure::ALL {
            let back = Failure::from_flag(failure.flag().as_bytes(), failure.http_status());
            assert_eq!(back, Some(failure));
        }
        assert_eq!(Failure::from_flag(b"from-the-future", 503), None);
    }

    #[test]
    fn only_what_the_application_never_saw_goes_elsewhere() {
        for failure in Failure::ALL {
            if failure.retry() == Retry::Elsewhere {
                assert!(
                    matches!(failure.stage(), Stage::Connect | Stage::Accept),
                    "{failure:?}"
                );
            }
        }
    }
}
