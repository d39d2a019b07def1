//! The admin API: HTTP and JSON for operators, `relayctl` and monitoring.
//!
//! Who may call it is in [`guard`](crate::guard). Beyond loopback it requires TLS and a token. Health checks never need a
//! token.

use crate::guard::guard;
use crate::namespaces::NamespaceRow;
use crate::operations::Operations;
use crate::policies::{DryRunAnswer, PoliciesAnswer};
use crate::ration::Ration;
use crate::refusal::{Refusal, RefusalKind};
use crate::route_rows::{
    DiffAtQuery, DiffQuery, DiffRow, DrainRow, EpochRow, ExplainQuery, ExplainRow, WhyNotQuery, WhyNotRow,
};
use crate::rows::{
    ApiTokenAnswer, ApiTokenRequest, ApiTokenRow, JoinTokenAnswer, JoinTokenRequest, JoinTokenRow, LinkRow,
    LinksQuery, NodeRow, RouteRow, RoutesQuery, TokenAnswer, TokenKeyRequest, TokenKeyRow, TokenRequest,
};
use crate::stream_rows::StreamRow;
use crate::telemetry::Telemetry;
use crate::trace_rows::{TraceAnswer, TraceQuery};
use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// A health check that takes longer has found something.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

/// What every request needs.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) operations: Operations,
    pub(crate) telemetry: Arc<Telemetry>,
    /// The token of `admin_token_file`. Where there is none, calls on loopback need not show any.
    pub(crate) bearer: Option<Arc<str>>,
    /// What is logged of calls that are refused.
    pub(crate) strangers: Arc<Ration>,
}

/// All routes.
pub(crate) fn router(admin: Admin) -> axum::Router {
    let guarded = axum::Router::new()
        .route("/v1/nodes", get(nodes))
        .route("/v1/nodes/{name}/revoke", post(revoke_node))
        .route("/v1/nodes/{name}/cordon", post(cordon_node))
        .route("/v1/nodes/{name}/uncordon", post(uncordon_node))
        .route("/v1/nodes/{name}/drain", get(drain_of_node).post(drain_node))
        .route("/v1/links", get(links))
        .route("/v1/streams", get(streams))
        .route("/v1/namespaces", get(namespaces))
        .route("/v1/routes", get(routes))
        .route("/v1/routes/epochs", get(epochs))
        .route("/v1/routes/diff", get(routes_diff))
        .route("/v1/routes/diff-at", get(routes_diff_at))
        .route("/v1/routes/explain", get(explain))
        .route("/v1/routes/why-not", get(why_not))
        .route("/v1/trace", get(trace))
        .route("/v1/policies", get(policies).put(set_policies))
        .route("/v1/policies/dry-run", post(dry_run))
        .route("/v1/tokens", post(create_token))
        .route("/v1/join-tokens", get(join_tokens).post(create_join_token))
        .route("/v1/join-tokens/{id}", delete(revoke_join_token))
        .route("/v1/token-keys", get(token_keys).post(set_token_key))
        .route("/v1/token-keys/{id}", delete(remove_token_key))
        .route("/v1/signing-key/rotate", post(rotate_signing_key))
        .route("/v1/api-tokens", get(api_tokens).post(create_api_token))
        .route("/v1/api-tokens/{name}", delete(revoke_api_token))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(description))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(admin.clone(), guard))
        .layer(middleware::from_fn_with_state(admin.clone(), leads));
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
            RefusalKind::Unauthenticated => StatusCode::UNAUTHORIZED,
            RefusalKind::Forbidden => StatusCode::FORBIDDEN,
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

async fn links(
    State(admin): State<Admin>,
    query: Result<Query<LinksQuery>, QueryRejection>,
) -> Result<Listing<LinkRow>, Refusal> {
    let rows = match asked(query, "the query may have at=SECONDS, since 1970")?.at {
        Some(at) => admin.operations.links_at(at).await?,
        None => admin.operations.links().await?,
    };
    Ok(listing("links", rows))
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
    let hint = "the query may have node=NAME, destination=NAME, plane=NUMBER, and epoch=NUMBER or at=SECONDS since 1970, and policy=NAME";
    admin.operations.routes(asked(query, hint)?).await.map(|rows| listing("routes", rows))
}

async fn cordon_node(
    State(admin): State<Admin>,
    Path(name): Path<String>,
) -> Result<Json<DrainRow>, Refusal> {
    admin.operations.cordon(name, true).await.map(Json)
}

async fn uncordon_node(
    State(admin): State<Admin>,
    Path(name): Path<String>,
) -> Result<Json<DrainRow>, Refusal> {
    admin.operations.cordon(name, false).await.map(Json)
}

async fn drain_node(State(admin): State<Admin>, Path(name): Path<String>) -> Result<Json<DrainRow>, Refusal> {
    admin.operations.begin_drain(name).await.map(Json)
}

async fn drain_of_node(
    State(admin): State<Admin>,
    Path(name): Path<String>,
) -> Result<Json<DrainRow>, Refusal> {
    admin.operations.drain(name).await.map(Json)
}

async fn epochs(State(admin): State<Admin>) -> Result<Listing<EpochRow>, Refusal> {
    admin.operations.epochs().await.map(|rows| listing("epochs", rows))
}

async fn routes_diff(
    State(admin): State<Admin>,
    query: Result<Query<DiffQuery>, QueryRejection>,
) -> Result<Json<DiffRow>, Refusal> {
    let query = asked(query, "the query has before=EPOCH and after=EPOCH, and perhaps policy=NAME")?;
    admin.operations.routes_diff(query).await.map(Json)
}

async fn routes_diff_at(
    State(admin): State<Admin>,
    query: Result<Query<DiffAtQuery>, QueryRejection>,
) -> Result<Json<DiffRow>, Refusal> {
    let query = asked(query, "the query has before=SECONDS and after=SECONDS since 1970")?;
    admin.operations.routes_diff_at(query).await.map(Json)
}

async fn explain(
    State(admin): State<Admin>,
    query: Result<Query<ExplainQuery>, QueryRejection>,
) -> Result<Json<ExplainRow>, Refusal> {
    admin
        .operations
        .explain(asked(
            query,
            "the query has from=NAME and to=NAME, and perhaps at=SECONDS since 1970 and policy=NAME",
        )?)
        .await
        .map(Json)
}

async fn why_not(
    State(admin): State<Admin>,
    query: Result<Query<WhyNotQuery>, QueryRejection>,
) -> Result<Json<WhyNotRow>, Refusal> {
    admin
        .operations
        .why_not(asked(query, "the query has from=NAME, to=NAME and via=NAME, and may have policy=NAME")?)
        .await
        .map(Json)
}

async fn policies(State(admin): State<Admin>) -> Result<Json<PoliciesAnswer>, Refusal> {
    admin.operations.policies().await.map(Json)
}

const POLICIES_HINT: &str = "send for instance {\"policies\":[{\"name\":\"cheap\",\"namespaces\":[\"free-*\"],\"weights\":{\"money_pct\":500}}]}";

async fn set_policies(
    State(admin): State<Admin>,
    body: Result<Json<Table<Value>>, JsonRejection>,
) -> Result<Json<PoliciesAnswer>, Refusal> {
    admin.operations.set_policies(understood(body, POLICIES_HINT)?).await.map(Json)
}

async fn dry_run(
    State(admin): State<Admin>,
    body: Result<Json<Table<Value>>, JsonRejection>,
) -> Result<Json<DryRunAnswer>, Refusal> {
    admin.operations.dry_run(understood(body, POLICIES_HINT)?).await.map(Json)
}

async fn trace(
    State(admin): State<Admin>,
    query: Result<Query<TraceQuery>, QueryRejection>,
) -> Result<Json<TraceAnswer>, Refusal> {
    let hint =
        "the query has namespace=NAME, room=NAME, user=NAME and perhaps stream=NAME and duration_ms=NUMBER";
    admin.operations.trace(asked(query, hint)?).await.map(Json)
}

async fn create_token(
    State(admin): State<Admin>,
    body: Result<Json<Table<TokenRequest>>, JsonRejection>,
) -> Result<Json<TokenAnswer>, Refusal> {
    let request = understood(
        body,
        "send for instance {\"namespace\":\"demo\",\"room\":\"*\",\"publish\":true,\"subscribe\":true,\"ttl_s\":3600}",
    )?;
    admin.operations.create_token(&request).map(Json)
}

async fn create_join_token(
    State(admin): State<Admin>,
    body: Result<Json<Table<JoinTokenRequest>>, JsonRejection>,
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
    body: Result<Json<Table<TokenKeyRequest>>, JsonRejection>,
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

async fn api_tokens(State(admin): State<Admin>) -> Listing<ApiTokenRow> {
    listing("api_tokens", admin.operations.api_tokens())
}

async fn create_api_token(
    State(admin): State<Admin>,
    body: Result<Json<Table<ApiTokenRequest>>, JsonRejection>,
) -> Result<Json<ApiTokenAnswer>, Refusal> {
    let hint = "send for instance {\"name\":\"grafana\",\"rights\":\"read\"}; rights are read, issue, operate or admin;";
    admin.operations.create_api_token(understood(body, hint)?).await.map(Json)
}

async fn revoke_api_token(
    State(admin): State<Admin>,
    Path(name): Path<String>,
) -> Result<StatusCode, Refusal> {
    admin.operations.revoke_api_token(name).await.map(|()| StatusCode::NO_CONTENT)
}

async fn metrics(State(admin): State<Admin>) -> Result<Response, Refusal> {
    let text = admin.telemetry.render(&admin.operations).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}

/// What this API is, for programs that read such descriptions.
async fn description() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], include_str!("../openapi.json")).into_response()
}

/// What is asked of the overlay is asked of the leader: others say so before they look at tokens, of which they may know
/// only older ones.
async fn leads(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    if request.uri().path().starts_with("/v1/")
        && let Err(refusal) = admin.operations.engine.leader()
    {
        return refusal.into_response();
    }
    next.run(request).await
}

/// The event loop answers, or another controller has it.
async fn healthz(State(admin): State<Admin>) -> Response {
    let engine = match admin.operations.engine.leader() {
        Ok(engine) => engine,
        Err(_) => return following("ok", &admin),
    };
    match tokio::time::timeout(HEALTH_TIMEOUT, admin.operations.status()).await {
        Ok(Ok(status)) if engine.tenure.is_limited() => {
            format!("ok: leader of term {}\n", status.term).into_response()
        }
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

/// The event loop answers, and relays that were known before a restart have had time to report; or another controller
/// leads, and this one is ready to follow it.
async fn readyz(State(admin): State<Admin>) -> Response {
    let engine = match admin.operations.engine.leader() {
        Ok(engine) => engine,
        Err(_) if admin.operations.engine.elsewhere().is_some() => return following("ready", &admin),
        Err(refusal) => return refusal.into_response(),
    };
    match tokio::time::timeout(HEALTH_TIMEOUT, admin.operations.status()).await {
        Ok(Ok(status)) if status.recovering => Refusal::new(
            RefusalKind::Unavailable,
            "still waiting for relays to report after the start",
            "this takes a few seconds",
        )
        .into_response(),
        Ok(Ok(status)) if engine.tenure.is_limited() => {
            format!("ready: leader of term {}\n", status.term).into_response()
        }
        Ok(Ok(_)) => "ready\n".into_response(),
        Ok(Err(refusal)) => refusal.into_response(),
        Err(_) => Refusal::new(RefusalKind::Unavailable, "the event loop does not answer", "see /healthz")
            .into_response(),
    }
}

fn following(word: &str, admin: &Admin) -> Response {
    let leader = admin.operations.engine.elsewhere();
    format!("{word}: follower; the leader is {}\n", leader.as_deref().unwrap_or("not known")).into_response()
}

async fn unknown(uri: Uri) -> Refusal {
    Refusal::new(
        RefusalKind::NotFound,
        format!("there is no {}", uri.path()),
        "there are /v1/nodes, /v1/nodes/NAME/revoke, /cordon, /uncordon and /drain, /v1/links, /v1/streams, /v1/namespaces, /v1/routes, /v1/routes/epochs, /diff, /diff-at, \
         /explain and /why-not, /v1/trace, /v1/policies, /v1/policies/dry-run, /v1/tokens, /v1/join-tokens, \
         /v1/token-keys, /v1/signing-key/rotate, /v1/api-tokens, /metrics, /healthz, /readyz and /openapi.json, which describes them",
    )
}

async fn wrong_method() -> Response {
    let answer = Refusal::invalid(
        "this method is not for this path",
        "lists are read with GET, tokens made with POST and taken back with DELETE",
    );
    (StatusCode::METHOD_NOT_ALLOWED, Json(answer.answer)).into_response()
}

fn asked<T>(query: Result<Query<T>, QueryRejection>, hint: &str) -> Result<T, Refusal> {
    query.map(|Query(query)| query).map_err(|rejection| Refusal::invalid(rejection.body_text(), hint))
}

fn understood<T>(body: Result<Json<Table<T>>, JsonRejection>, hint: &str) -> Result<T, Refusal> {
    match body {
        Ok(Json(Table(body))) => Ok(body),
        Err(rejection) => {
            Err(Refusal::invalid(rejection.body_text(), format!("{hint} as content-type application/json")))
        }
    }
}

/// What comes as an object: serde takes a list of values in the order of the fields as well, which nobody means.
struct Table<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Table<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Table<T>, D::Error> {
        deserializer.deserialize_map(TableVisitor(PhantomData)).map(Table)
    }
}

struct TableVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for TableVisitor<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(table))
    }
}
