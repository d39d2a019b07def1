//! Errors as the API tells them: what is wrong, and what to do about it.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::borrow::Cow;

/// An error with its status.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) error: Cow<'static, str>,
    pub(super) hint: Cow<'static, str>,
}

impl ApiError {
    pub(super) fn new(
        status: StatusCode,
        error: impl Into<Cow<'static, str>>,
        hint: impl Into<Cow<'static, str>>,
    ) -> ApiError {
        ApiError { status, error: error.into(), hint: hint.into() }
    }

    /// The relay cannot answer now.
    pub(super) fn unavailable(error: &'static str, hint: &'static str) -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, error, hint)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(json!({"error": self.error, "hint": self.hint}))).into_response()
    }
}
