// SPDX-License-Identifier: Apache-2.0
//! A Service's terms, wire <-> model. What is out of its range is refused; terms that are not there are the defaults.

use std::num::NonZeroU32;
use std::time::Duration;

use maille_model::Terms;
use maille_model::terms::{Counted, Ejection, Retry, RetryOn, RetryOnGrpc, Zones};

use super::{ConvertError, impossible};
use crate::v1;

const AT: &str = "Terms";

pub(crate) fn to_wire(terms: &Terms) -> Option<v1::Terms> {
    if *terms == Terms::default() {
        return None;
    }
    let limit = |limit: Option<NonZeroU32>| limit.map_or(0, NonZeroU32::get);
    let (retry, ejection) = (&terms.retry, &terms.ejection);
    Some(v1::Terms {
        request_timeout_ms: terms.request_timeout.map_or(0, millis),
        response_timeout_ms: terms.response_timeout.map_or(0, millis),
        max_requests: limit(terms.max_requests),
        max_requests_per_endpoint: limit(terms.max_requests_per_endpoint),
        retry: Some(v1::Retry {
            on_server_error: retry.on.server_error,
            on_gateway_error: retry.on.gateway_error,
            on_too_many: retry.on.too_many,
            on_reset: retry.on.reset,
            on_grpc_cancelled: retry.on.grpc.cancelled,
            on_grpc_deadline_exceeded: retry.on.grpc.deadline_exceeded,
            on_grpc_resource_exhausted: retry.on.grpc.resource_exhausted,
            on_grpc_internal: retry.on.grpc.internal,
            on_grpc_unavailable: retry.on.grpc.unavailable,
            limit: retry.limit.into(),
            budget_percent: retry.budget_percent.into(),
            budget_floor: retry.budget_floor.into(),
        }),
        ejection: Some(v1::Ejection {
            counts: match ejection.counts {
                Counted::Unavailable => v1::Counted::Unavailable,
                Counted::ServerErrors => v1::Counted::ServerErrors,
                Counted::Nothing => v1::Counted::Nothing,
            }
            .into(),
            consecutive: ejection.consecutive,
            success_percent: ejection.success_percent.map_or(0, u32::from),
            min_penalty_ms: millis(ejection.min_penalty),
            max_penalty_ms: millis(ejection.max_penalty),
        }),
        prefer_close: terms.zones == Zones::PreferClose,
    })
}

pub(super) fn from_wire(terms: Option<v1::Terms>) -> Result<Terms, ConvertError> {
    let Some(terms) = terms else {
        return Ok(Terms::default());
    };
    let deadline = |field, ms| Ok((ms != 0).then_some(time(field, ms)?));
    Ok(Terms {
        request_timeout: deadline("request_timeout_ms", terms.request_timeout_ms)?,
        response_timeout: deadline("response_timeout_ms", terms.response_timeout_ms)?,
        max_requests: NonZeroU32::new(terms.max_requests),
        max_requests_per_endpoint: NonZeroU32::new(terms.max_requests_per_endpoint),
        retry: terms.retry.map_or_else(|| Ok(Retry::default()), retry)?,
        ejection: terms
            .ejection
            .map_or_else(|| Ok(Ejection::default()), ejection)?,
        zones: if terms.prefer_close {
            Zones::PreferClose
        } else {
            Zones::Any
        },
    })
}

fn retry(retry: v1::Retry) -> Result<Retry, ConvertError> {
    Ok(Retry {
        on: RetryOn {
            server_error: retry.on_server_error,
            gateway_error: retry.on_gateway_error,
            too_many: retry.on_too_many,
            reset: retry.on_reset,
            grpc: RetryOnGrpc {
                cancelled: retry.on_grpc_cancelled,
                deadline_exceeded: retry.on_grpc_deadline_exceeded,
                resource_exhausted: retry.on_grpc_resource_exhausted,
                internal: retry.on_grpc_internal,
                unavailable: retry.on_grpc_unavailable,
            },
        },
        limit: within("retry.limit", retry.limit, 0, Retry::MOST)?,
        budget_percent: within("retry.budget_percent", retry.budget_percent, 0, 100)?,
        budget_floor: within("retry.budget_floor", retry.budget_floor, 0, u16::MAX)?,
    })
}

fn ejection(ejection: v1::Ejection) -> Result<Ejection, ConvertError> {
    let percent: u8 = within("ejection.success_percent", ejection.success_percent, 0, 100)?;
    Ok(Ejection {
        counts: match v1::Counted::try_from(ejection.counts) {
            Ok(v1::Counted::Unavailable) => Counted::Unavailable,
            Ok(v1::Counted::ServerErrors) => Counted::ServerErrors,
            Ok(v1::Counted::Nothing) => Counted::Nothing,
            Err(_) => return Err(impossible(AT, "ejection.counts", ejection.counts)),
        },
        consecutive: within("ejection.consecutive", ejection.consecutive, 1, u32::MAX)?,
        success_percent: (percent != 0).then_some(percent),
        min_penalty: time("ejection.min_penalty_ms", ejection.min_penalty_ms)?,
        max_penalty: time("ejection.max_penalty_ms", ejection.max_penalty_ms)?,
    })
}

fn within<T>(field: &'static str, value: u32, least: T, most: T) -> Result<T, ConvertError>
where
    T: TryFrom<u32> + PartialOrd,
{
    T::try_from(value)
        .ok()
        .filter(|value| (least..=most).contains(value))
        .ok_or_else(|| impossible(AT, field, value))
}

fn time(field: &'static str, ms: u32) -> Result<Duration, ConvertError> {
    let time = Duration::from_millis(ms.into());
    if time > Terms::LONGEST {
        return Err(impossible(AT, field, ms));
    }
    Ok(time)
}

/// [`Terms::LONGEST`] fits.
fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}
