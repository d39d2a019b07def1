//! Bodies of requests: JSON objects of a bounded length whose every member is known.

use super::error::ApiError;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Longest body taken.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// Reads a body; an empty one stands for `{}` where `may_be_empty`.
pub(super) async fn read<T: DeserializeOwned>(request: Request, may_be_empty: bool) -> Result<T, ApiError> {
    let (parts, body) = request.into_parts();
    let bytes = axum::body::to_bytes(body, BODY_BYTES_MAX).await.map_err(|_| {
        let error = format!("the body is longer than {BODY_BYTES_MAX} bytes, or broke off");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, error, "send one JSON object")
    })?;
    if bytes.is_empty() && may_be_empty {
        return parse(b"{}");
    }
    let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        let error = format!("the body is of type {kind:?}");
        let hint = "send JSON, with `Content-Type: application/json`";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error, hint));
    }
    parse(&bytes)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| {
        let error = format!("the body is not JSON: {error}");
        ApiError::new(StatusCode::BAD_REQUEST, error, "send one JSON object, in UTF-8")
    })?;
    let Value::Object(mut members) = value else {
        return Err(illegal("the body is not a JSON object", "send an object: {\"...\": ...}"));
    };
    members.values_mut().for_each(write_whole);
    if let Some((name, _)) = members.iter().find(|(_, value)| value.is_null()) {
        return Err(illegal(format!("`{name}` is null"), "leave it out if it has no value"));
    }
    serde_json::from_value(Value::Object(members))
        .map_err(|error| illegal(error.to_string(), "/openapi.json describes the body member by member"))
}

/// 99.0 is the same number as 99, and as good where a whole one is asked for (JSON Schema, section 6.1.1).
fn write_whole(value: &mut Value) {
    // Whole numbers up to here are exact in both writings.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if let Some(number) = value.as_f64().filter(|number| value.is_f64() && number.fract() == 0.0)
        && number.abs() <= EXACT_MAX
    {
        *value = (number as i64).into();
    }
}

/// A body that is JSON, but says what cannot be.
pub(super) fn illegal(
    error: impl Into<std::borrow::Cow<'static, str>>,
    hint: impl Into<std::borrow::Cow<'static, str>>,
) -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, error, hint)
}
