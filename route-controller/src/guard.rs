//! Who may call the admin API.
//!
//! A caller shows a bearer token: the one of `admin_token_file`, which may do everything, or one that was made with a name
//! and rights. On loopback, where no `admin_token_file` is configured, a caller may show none and do everything; then only
//! requests addressed to loopback by name or number are answered, so that a web page cannot reach the API through a host
//! name of its own. A token that is shown is judged there, too.

use crate::admin::Admin;
use crate::api_tokens::ApiRights;
use crate::clock;
use crate::engine::count;
use crate::refusal::{Refusal, RefusalKind};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use std::net::IpAddr;

/// What the log calls whoever shows the token of `admin_token_file`, and whoever need not show any.
const FILE_TOKEN: &str = "admin_token_file";
const LOOPBACK: &str = "loopback";
/// As much of a path as a log line repeats, bytes.
const SHOWN_BYTES_MAX: usize = 100;

/// Lets through who may do what the request asks for; counts and tells everybody else.
pub(crate) async fn guard(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let needed = needed(&request);
    let caller = caller(&admin, &request).and_then(|(name, rights)| {
        if rights.allow(needed) { Ok(name) } else { Err(short_of_rights(&name, rights, needed)) }
    });
    let path = request.uri().path();
    let (method, path) = (request.method(), path.get(..SHOWN_BYTES_MAX).unwrap_or(path));
    match caller {
        Ok(by) => {
            if matches!(needed, ApiRights::Operate | ApiRights::Admin) {
                tracing::info!(by, %method, path, "an operator's call");
            }
            next.run(request).await
        }
        Err(refusal) => {
            let counts = &admin.operations.engine.counts;
            count(match refusal.kind {
                RefusalKind::Unauthenticated => &counts.api_unauthenticated,
                RefusalKind::Forbidden
                | RefusalKind::Invalid
                | RefusalKind::NotFound
                | RefusalKind::Conflict
                | RefusalKind::Unavailable
                | RefusalKind::Broken => &counts.api_forbidden,
            });
            if let Some(held_back) = admin.strangers.take() {
                tracing::warn!(%method, path, held_back, "a call is refused: {}", refusal.answer.error);
            }
            refusal.into_response()
        }
    }
}

/// What rights a request needs. Whatever is not known to need less needs those of an operator.
fn needed(request: &Request) -> ApiRights {
    let path = request.uri().path();
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    match path {
        _ if path.starts_with("/v1/api-tokens") => ApiRights::Admin,
        _ if reads => ApiRights::Read,
        "/v1/tokens" => ApiRights::Issue,
        _ => ApiRights::Operate,
    }
}

/// Who calls, for the log, and what they may do.
fn caller(admin: &Admin, request: &Request) -> Result<(String, ApiRights), Refusal> {
    let shown = bearer(request.headers());
    if let Some(shown) = shown {
        if admin.bearer.as_deref().is_some_and(|token| same(shown, token)) {
            return Ok((FILE_TOKEN.to_owned(), ApiRights::Admin));
        }
        if let Some(record) = admin.operations.api_tokens.find(shown, clock::unix_s()) {
            return Ok((record.name, record.rights));
        }
        return Err(Refusal::new(
            RefusalKind::Unauthenticated,
            "the bearer token is missing or wrong",
            "the one shown is unknown, expired or revoked: get another (`relayctl api-token create`) and give it with \
             --token-file (or CASCADE_TOKEN_FILE)",
        ));
    }
    if admin.bearer.is_some() {
        return Err(Refusal::new(
            RefusalKind::Unauthenticated,
            "the bearer token is missing or wrong",
            "send `Authorization: Bearer TOKEN`; with relayctl, give --token-file (or CASCADE_TOKEN_FILE)",
        ));
    }
    if !names_loopback(request) {
        return Err(Refusal::new(
            RefusalKind::Forbidden,
            "the request is addressed to another host",
            "call this API as 127.0.0.1, [::1] or localhost, or configure `admin_token_file`",
        ));
    }
    Ok((LOOPBACK.to_owned(), ApiRights::Admin))
}

fn short_of_rights(name: &str, rights: ApiRights, needed: ApiRights) -> Refusal {
    Refusal::new(
        RefusalKind::Forbidden,
        format!("token {name:?} has the rights `{}`, this needs `{}`", rights.name(), needed.name()),
        format!(
            "use another token, or make one: `relayctl api-token create --name NAME --rights {}`",
            needed.name()
        ),
    )
}

/// The token that a request shows. What is no bearer token shows none.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn same(shown: &str, token: &str) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(shown.as_bytes(), token.as_bytes()).is_ok()
}

fn names_loopback(request: &Request) -> bool {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let Some(host) = host.or_else(|| request.uri().host()) else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(name, _)| name),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}
