// SPDX-License-Identifier: Apache-2.0
//! The terms on which a Service is called: deadlines, limits, retries, ejection and zones. What nobody said has a default.
//!
//! Every value here is in its range; `manifest::terms` reads what people write. Read `service.rs` for who has terms.

use std::num::NonZeroU32;
use std::time::Duration;

/// How a Service wants to be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long one request may take, with all its tries and to the last byte of its answer.
    pub request_timeout: Option<Duration>,
    /// How long one try may take until the head of its answer.
    pub response_timeout: Option<Duration>,
    /// What one client may have under way at the service at once: requests, and TCP connections.
    pub max_requests: Option<NonZeroU32>,
    /// The same at each endpoint.
    pub max_requests_per_endpoint: Option<NonZeroU32>,
    /// What is tried again.
    pub retry: Retry,
    /// Which endpoints are left alone for a while.
    pub ejection: Ejection,
    /// Where its endpoints should be.
    pub zones: Zones,
}

/// What is tried again. What reached nobody is, always; what was seen only if the answer is named here, and its method is idempotent or it is a
/// call of gRPC, whose methods say nothing of that: there the name alone allows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// After which answers.
    pub on: RetryOn,
    /// How often after an answer, at most 2.
    pub limit: u8,
    /// Tries beyond the first, of whatever cause, for each hundred requests of the last ten seconds.
    pub budget_percent: u8,
    /// Tries beyond the first for each of the last ten seconds that the budget allows whatever came.
    pub budget_floor: u16,
}

/// The answers after which an idempotent request is sent again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryOn {
    /// Any 5xx.
    pub server_error: bool,
    /// 502, 503 and 504.
    pub gateway_error: bool,
    /// 429.
    pub too_many: bool,
    /// The endpoint closed without an answer, or gave none in time.
    pub reset: bool,
    /// A call of gRPC ended with one of these and nothing else: no message of an answer came.
    pub grpc: RetryOnGrpc,
}

/// The statuses of gRPC after which a call is made again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryOnGrpc {
    /// CANCELLED, 1.
    pub cancelled: bool,
    /// DEADLINE_EXCEEDED, 4.
    pub deadline_exceeded: bool,
    /// RESOURCE_EXHAUSTED, 8.
    pub resource_exhausted: bool,
    /// INTERNAL, 13.
    pub internal: bool,
    /// UNAVAILABLE, 14.
    pub unavailable: bool,
}

/// When an endpoint gets nothing for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// What counts as a failure.
    pub counts: Counted,
    /// So many failures in a row, at least 1.
    pub consecutive: u32,
    /// A share of good answers below this, in percent, 1 to 100.
    pub success_percent: Option<u8>,
    /// The first time lasts so long; each further one twice as long as the one before.
    pub min_penalty: Duration,
    /// No time is longer.
    pub max_penalty: Duration,
}

/// What counts as an endpoint's failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Counted {
    /// Nothing: no endpoint is ever ejected.
    Nothing,
    /// It could not be reached, closed without an answer, gave none in time, or said 502, 503 or 504.
    #[default]
    Unavailable,
    /// The same, and every other 5xx.
    ServerErrors,
}

/// Where endpoints should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Zones {
    /// Anywhere.
    #[default]
    Any,
    /// In the client's zone, while it has endpoints that are not much slower or busier than the others.
    PreferClose,
}

impl Terms {
    /// Those of a service that has said nothing.
    pub const DEFAULT: Self = Self {
        request_timeout: None,
        response_timeout: None,
        max_requests: None,
        max_requests_per_endpoint: None,
        retry: Retry::DEFAULT,
        ejection: Ejection::DEFAULT,
        zones: Zones::Any,
    };
    /// The longest deadline or penalty that can be said.
    pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
}

impl Retry {
    /// Nothing that was seen is sent again.
    pub const DEFAULT: Self = Self {
        on: RetryOn {
            server_error: false,
            gateway_error: false,
            too_many: false,
            reset: false,
            grpc: RetryOnGrpc {
                cancelled: false,
                deadline_exceeded: false,
                resource_exhausted: false,
                internal: false,
                unavailable: false,
            },
        },
        limit: 1,
        budget_percent: 20,
        budget_floor: 10,
    };
    /// The most retries after an answer.
    pub const MOST: u8 = 2;
}

impl Default for Terms {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl RetryOn {
    /// Whether an answer of this status is one of them.
    pub fn status(&self, status: u16) -> bool {
        match status {
            429 => self.too_many,
            502..=504 => self.gateway_error || self.server_error,
            500..=599 => self.server_error,
            _ => false,
        }
    }
}

impl RetryOnGrpc {
    /// Whether a call that ended with this status is one of them.
    pub fn status(&self, code: u8) -> bool {
        match code {
            1 => self.cancelled,
            4 => self.deadline_exceeded,
            8 => self.resource_exhausted,
            13 => self.internal,
            14 => self.unavailable,
            _ => false,
        }
    }
}

impl Ejection {
    /// Seven failures in a row; a second, then two, four and so on to a minute.
    pub const DEFAULT: Self = Self {
        counts: Counted::Unavailable,
        consecutive: 7,
        success_percent: None,
        min_penalty: Duration::from_secs(1),
        max_penalty: Duration::from_secs(60),
    };
}

impl Default for Ejection {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Counted {
    /// Whether an answer of this status is a failure of the endpoint that gave it.
    pub fn status(self, status: u16) -> bool {
        match self {
            Self::Nothing => false,
            Self::Unavailable => matches!(status, 502..=504),
            Self::ServerErrors => matches!(status, 500..=599),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_statuses_count() {
        let on = RetryOn {
            gateway_error: true,
            ..RetryOn::default()
        };
        let counted = |counts: Counted| (400..600).filter(|s| counts.status(*s)).count();
        assert_eq!((400..600).filter(|s| on.status(*s)).count(), 3);
        assert_eq!(counted(Counted::Nothing), 0);
        assert_eq!(counted(Counted::Unavailable), 3);
        assert_eq!(counted(Counted::ServerErrors), 100);
        assert!(!RetryOn::default().status(503) && !on.status(429));
        let grpc = RetryOnGrpc {
            unavailable: true,
            ..RetryOnGrpc::default()
        };
        assert!((0..=u8::MAX).filter(|code| grpc.status(*code)).eq([14]));
    }
}
