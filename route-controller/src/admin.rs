//! The admin API: HTTP and JSON for operators, `relayctl` and monitoring.
//!
//! On loopback it may go without a bearer token; then it answers only requests addressed to loopback by name or number,
//! so that a web page cannot reach it through a host name of its own. Beyond loopback it requires TLS and a token. Health
//! checks never need a token.

use crate::namespaces::NamespaceRow;
use crate::operations::Operations;
use crate::refusal::{Refusal, RefusalKind};
use crate::rows::{
    JoinTokenAnswer, JoinTokenRequest, JoinTokenRow, LinkRow, NodeRow, RouteRow, RoutesQuery, StreamRow,
    TokenAnswer, TokenKeyRequest, TokenKeyRow, TokenRequest,
};
use crate::telemetry::Telemetry;
use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// A health check that takes longer has found something.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

/// What every request needs.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) operations: Operations,
    pub(crate) telemetry: Arc<Telemetry>,
    /// What requests must show, if anything.
    pub(crate) bearer: Option<Arc<str>>,
}

/// All routes.
pub(crate) fn router(admin: Admin) -> axum::Router {
    let guarded = axum::Router::new()
        .route("/v1/nodes", get(nodes))
        .route("/v1/nodes/{name}/revoke", post(revoke_node))
        .route("/v1/links", get(links))
        .route("/v1/streams", get(streams))
        .route("/v1/namespaces", get(namespaces))
        .route("/v1/routes", get(routes))
        .route("/v1/tokens", post(create_token))
        .route("/v1/join-tokens", get(join_tokens).post(create_join_token))
        .route("/v1/join-tokens/{id}", delete(revoke_join_token))
        .route("/v1/token-keys", get(token_keys).post(set_token_key))
        .route("/v1/token-keys/{id}", delete(remove_token_key))
        .route("/v1/signing-key/rotate", post(rotate_signing_key))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(description))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(admin.clone(), guard));
    axum::Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .merge(guarded)
        .with_state(admin)
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match self.kind {
            RefusalKind::Invalid => StatusCode::BAD_REQUEST,
            RefusalKind::NotFound => StatusCode::NOT_FOUND,
            RefusalKind::Conflict => StatusCode::CONFLICT,
            RefusalKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            RefusalKind::Broken => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(self.answer)).into_response()
    }
}

/// Rows under their name, so that later versions can say more beside them.
type Listing<T> = Json<BTreeMap<&'static str, Vec<T>>>;

fn listing<T>(name: &'static str, rows: Vec<T>) -> Listing<T> {
    Json(BTreeMap::from([(name, rows)]))
}

async fn nodes(State(admin): State<Admin>) -> Result<Listing<NodeRow>, Refusal> {
    admin.operations.nodes().await.map(|rows| listing("nodes", rows))
}

async fn revoke_node(State(admin): State<Admin>, Path(name): Path<String>) -> Result<Json<Value>, Refusal> {
    admin.operations.revoke_node(name.clone()).await?;
    Ok(Json(json!({ "name": name, "state": "revoked" })))
}

async fn links(State(admin): State<Admin>) -> Result<Listing<LinkRow>, Refusal> {
    admin.operations.links().await.map(|rows| listing("links", rows))
}

async fn streams(State(admin): State<Admin>) -> Result<Listing<StreamRow>, Refusal> {
    admin.operations.streams().await.map(|rows| listing("streams", rows))
}

async fn namespaces(State(admin): State<Admin>) -> Result<Listing<NamespaceRow>, Refusal> {
    admin.operations.namespaces().await.map(|rows| listing("namespaces", rows))
}

async fn routes(
    State(admin): State<Admin>,
    query: Result<Query<RoutesQuery>, QueryRejection>,
) -> Result<Listing<RouteRow>, Refusal> {
    let Query(query) = query.map_err(|rejection| {
        Refusal::invalid(
            rejection.body_text(),
            "the query may have node=NAME, destination=NAME, plane=NUMBER and epoch=NUMBER",
        )
    })?;
    admin.operations.routes(query).await.map(|rows| listing("routes", rows))
}

async fn create_token(
    State(admin): State<Admin>,
    body: Result<Json<TokenRequest>, JsonRejection>,
) -> Result<Json<TokenAnswer>, Refusal> {
    let request = understood(
        body,
        "send for instance {\"namespace\":\"demo\",\"room\":\"*\",\"publish\":true,\"subscribe\":true,\"ttl_s\":3600}",
    )?;
    admin.operations.create_token(&request).map(Json)
}

async fn create_join_token(
    State(admin): State<Admin>,
    body: Result<Json<JoinTokenRequest>, JsonRejection>,
) -> Result<Json<JoinTokenAnswer>, Refusal> {
    let request =
        understood(body, "send for instance {\"name\":\"fra-1\",\"region\":\"eu-central\",\"ttl_s\":86400}")?;
    admin.operations.create_join_token(request).await.map(Json)
}

async fn join_tokens(State(admin): State<Admin>) -> Result<Listing<JoinTokenRow>, Refusal> {
    admin.operations.join_tokens().await.map(|rows| listing("join_tokens", rows))
}

async fn revoke_join_token(
    State(admin): State<Admin>,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    admin.operations.revoke_join_token(&id).await.map(|()| StatusCode::NO_CONTENT)
}

async fn token_keys(State(admin): State<Admin>) -> Result<Listing<TokenKeyRow>, Refusal> {
    admin.operations.token_keys().await.map(|rows| listing("token_keys", rows))
}

async fn set_token_key(
    State(admin): State<Admin>,
    body: Result<Json<TokenKeyRequest>, JsonRejection>,
) -> Result<StatusCode, Refusal> {
    let row = understood(
        body,
        "send {\"id\":\"KID\",\"public_key\":\"BASE64URL\"} and, if the key is for one tenant, \"namespace\"",
    )?;
    admin.operations.set_token_key(row).await.map(|()| StatusCode::NO_CONTENT)
}

async fn remove_token_key(State(admin): State<Admin>, Path(id): Path<String>) -> Result<StatusCode, Refusal> {
    admin.operations.remove_token_key(id).await.map(|()| StatusCode::NO_CONTENT)
}

async fn rotate_signing_key(State(admin): State<Admin>) -> Result<Json<TokenKeyRow>, Refusal> {
    admin.operations.rotate_signing_key().await.map(Json)
}

async fn metrics(State(admin): State<Admin>) -> Result<Response, Refusal> {
    let text = admin.telemetry.render(&admin.operations).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}

/// What this API is, for programs that read such descriptions.
async fn description() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], include_str!("../openapi.json")).into_response()
}

/// The event loop answers.
async fn healthz(State(admin): State<Admin>) -> Response {
    match tokio::time::timeout(HEALTH_TIMEOUT, admin.operations.status()).await {
        Ok(Ok(_)) => "ok\n".into_response(),
        Ok(Err(refusal)) => refusal.into_response(),
        Err(_) => Refusal::new(
            RefusalKind::Unavailable,
            "the event loop does not answer",
            "look at the host's load and disk, then restart the controller",
        )
        .into_response(),
    }
}

/// The event loop answers, and relays that were known before a restart have had time to report.
async fn readyz(State(admin): State<Admin>) -> Response {
    match tokio::time::timeout(HEALTH_TIMEOUT, admin.operations.status()).await {
        Ok(Ok(status)) if status.recovering => Refusal::new(
            RefusalKind::Unavailable,
            "still waiting for relays to report after the start",
            "this takes a few seconds",
        )
        .into_response(),
        Ok(Ok(_)) => "ready\n".into_response(),
        Ok(Err(refusal)) => refusal.into_response(),
        Err(_) => Refusal::new(RefusalKind::Unavailable, "the event loop does not answer", "see /healthz")
            .into_response(),
    }
}

async fn unknown(uri: Uri) -> Refusal {
    Refusal::new(
        RefusalKind::NotFound,
        format!("there is no {}", uri.path()),
        "there are /v1/nodes, /v1/nodes/NAME/revoke, /v1/links, /v1/streams, /v1/namespaces, /v1/routes, /v1/tokens, /v1/join-tokens, \
         /v1/token-keys, /v1/signing-key/rotate, /metrics, /healthz, /readyz and /openapi.json, which describes them",
    )
}

async fn wrong_method() -> Response {
    let answer = Refusal::invalid(
        "this method is not for this path",
        "lists are read with GET, tokens made with POST and taken back with DELETE",
    );
    (StatusCode::METHOD_NOT_ALLOWED, Json(answer.answer)).into_response()
}

fn understood<T>(body: Result<Json<T>, JsonRejection>, hint: &str) -> Result<T, Refusal> {
    match body {
        Ok(Json(body)) => Ok(body),
        Err(rejection) => {
            Err(Refusal::invalid(rejection.body_text(), format!("{hint} as content-type application/json")))
        }
    }
}

/// Lets through who shows the token; where none is asked for, only who calls this host by a loopback name.
async fn guard(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let refusal = match &admin.bearer {
        Some(token) if !shows(request.headers(), token) => Some((
            StatusCode::UNAUTHORIZED,
            Refusal::invalid(
                "the bearer token is missing or wrong",
                "send `Authorization: Bearer TOKEN`; with relayctl, give --token-file (or CASCADE_TOKEN_FILE)",
            ),
        )),
        None if !names_loopback(&request) => Some((
            StatusCode::FORBIDDEN,
            Refusal::invalid(
                "the request is addressed to another host",
                "call this API as 127.0.0.1, [::1] or localhost, or configure `admin_token_file`",
            ),
        )),
        Some(_) | None => None,
    };
    match refusal {
        Some((status, refusal)) => (status, Json(refusal.answer)).into_response(),
        None => next.run(request).await,
    }
}

fn shows(headers: &HeaderMap, token: &str) -> bool {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some((scheme, given)) = given.and_then(|value| value.split_once(' ')) else { return false };
    scheme.eq_ignore_ascii_case("bearer")
        && aws_lc_rs::constant_time::verify_slices_are_equal(given.trim().as_bytes(), token.as_bytes())
            .is_ok()
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
