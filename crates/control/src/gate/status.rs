// SPDX-License-Identifier: Apache-2.0
//! Refusals as Kubernetes says them (`meta/v1.Status`), so that `kubectl` shows the sentence.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::cluster::GROUP;
use crate::cluster::review::Wish;

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Status {
    code: StatusCode,
    message: String,
}

// === impl Status ===

impl Status {
    pub(super) fn new(code: StatusCode, message: String) -> Self {
        Self { code, message }
    }

    pub(super) fn bad(message: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn unauthorized(message: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message.to_owned())
    }

    /// `user` may not have what he wishes; says what would let him.
    pub(super) fn forbidden(user: &str, wish: &Wish) -> Self {
        let place = match &wish.namespace {
            Some(namespace) => format!("in the namespace {namespace:?}"),
            None => "in all namespaces".to_owned(),
        };
        let message = format!(
            "{user:?} may not {} {}.{GROUP} {place}: a role with this verb and resource allows it",
            wish.verb, wish.resource
        );
        Self::new(StatusCode::FORBIDDEN, message)
    }

    #[cfg(test)]
    pub(super) fn code(&self) -> u16 {
        self.code.as_u16()
    }

    fn reason(&self) -> &'static str {
        match self.code {
            StatusCode::BAD_REQUEST => "BadRequest",
            StatusCode::UNAUTHORIZED => "Unauthorized",
            StatusCode::FORBIDDEN => "Forbidden",
            StatusCode::NOT_FOUND => "NotFound",
            StatusCode::METHOD_NOT_ALLOWED => "MethodNotAllowed",
            StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
            _ => "",
        }
    }
}

impl IntoResponse for Status {
    fn into_response(self) -> Response {
        let body = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason(),
            "code": self.code.as_u16(),
        });
        (self.code, Json(body)).into_response()
    }
}
