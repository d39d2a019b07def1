//! The relay's local HTTP API: metrics, health, and what the relay knows, as JSON.
//!
//! It listens from the first moment, before the relay has joined, so that a supervisor can see why it is not ready.
//! Everything comes from one look into the core, made when somebody asks. On loopback it asks for nothing; beyond it, a
//! bearer token and TLS are required (health excepted: it tells nothing but yes or no).

mod health;
mod listener;
mod views;

use crate::overlay::Overlay;
use crate::telemetry;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use link_io::{Port, PortStats};
use relay_core::{Counters, LinkView, Relay, StreamView, TablesView};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

pub(crate) use listener::ApiListener;

/// A core that does not answer for this long hangs.
const INSPECT_TIMEOUT: Duration = Duration::from_secs(1);

/// What the API answers from.
#[derive(Clone)]
pub(crate) struct Api {
    running: watch::Receiver<Option<Running>>,
    token: Option<Arc<str>>,
}

/// A relay that has joined and opened its port.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) name: Arc<str>,
    pub(crate) region: Arc<str>,
    pub(crate) port: Port<Relay>,
    pub(crate) overlay: Arc<Overlay>,
}

/// One look into core and port.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) counters: Counters,
    pub(crate) links: Vec<LinkView>,
    pub(crate) tables: TablesView,
    pub(crate) streams: Vec<StreamView>,
    pub(crate) port: PortStats,
}

/// An error as the API tells it.
pub(crate) struct ApiError {
    status: StatusCode,
    error: &'static str,
    hint: &'static str,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(json!({"error": self.error, "hint": self.hint}))).into_response()
    }
}

impl Running {
    /// All that the API shows, as it is now.
    pub(crate) async fn look(&self) -> Result<Snapshot, ApiError> {
        let look = |relay: &Relay, port: &PortStats| Snapshot {
            counters: *relay.counters(),
            links: relay.link_views(),
            tables: relay.tables_view(),
            streams: relay.stream_views(),
            port: *port,
        };
        self.inspect(look).await
    }

    /// Looks into core and port.
    async fn inspect<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Relay, &PortStats) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        match tokio::time::timeout(INSPECT_TIMEOUT, self.port.inspect(look)).await {
            Ok(Ok(seen)) => Ok(seen),
            Ok(Err(_)) => Err(unavailable("the relay port is closed", "the relay is stopping")),
            Err(_) => Err(unavailable(
                "the relay port's worker does not answer",
                "look at the log; restart the relay",
            )),
        }
    }
}

impl Api {
    pub(crate) fn new(running: watch::Receiver<Option<Running>>, token: Option<Arc<str>>) -> Api {
        Api { running, token }
    }

    /// All routes.
    pub(crate) fn router(self) -> Router {
        let open = Router::new().route("/healthz", get(health::alive)).route("/readyz", get(health::ready));
        let guarded = Router::new()
            .route("/metrics", get(metrics))
            .route("/v1/links", get(links))
            .route("/v1/tables", get(tables))
            .route("/v1/streams", get(streams))
            .method_not_allowed_fallback(wrong_method)
            .fallback(unknown)
            .layer(axum::middleware::from_fn_with_state(self.clone(), require_token));
        open.method_not_allowed_fallback(wrong_method).merge(guarded).with_state(self)
    }

    /// The relay, once it runs.
    fn running(&self) -> Result<Running, ApiError> {
        let hint = "it waits for the controller to let it join; /readyz and the log say more";
        self.running.borrow().clone().ok_or_else(|| unavailable("the relay has not joined yet", hint))
    }
}

async fn metrics(State(api): State<Api>) -> Result<Response, ApiError> {
    let running = api.running()?;
    let snapshot = running.look().await?;
    let text = telemetry::render(&running, &snapshot);
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}

async fn links(State(api): State<Api>) -> Result<Json<views::Links>, ApiError> {
    let running = api.running()?;
    let snapshot = running.look().await?;
    Ok(Json(views::links(&snapshot, &running.overlay)))
}

async fn tables(State(api): State<Api>) -> Result<Json<views::Tables>, ApiError> {
    let running = api.running()?;
    let snapshot = running.look().await?;
    Ok(Json(views::tables(&snapshot, &running)))
}

async fn streams(State(api): State<Api>) -> Result<Json<views::Streams>, ApiError> {
    let running = api.running()?;
    let snapshot = running.look().await?;
    Ok(Json(views::streams(&snapshot, &running)))
}

async fn unknown() -> ApiError {
    ApiError {
        status: StatusCode::NOT_FOUND,
        error: "no such path",
        hint: "there are /metrics, /healthz, /readyz, /v1/links, /v1/tables and /v1/streams",
    }
}

async fn wrong_method() -> ApiError {
    ApiError { status: StatusCode::METHOD_NOT_ALLOWED, error: "wrong method", hint: "use GET" }
}

async fn require_token(State(api): State<Api>, headers: HeaderMap, request: Request, next: Next) -> Response {
    let Some(token) = &api.token else { return next.run(request).await };
    let given = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
    let given = given.and_then(|value| value.strip_prefix(b"Bearer "));
    if given.is_some_and(|given| same(given, token.as_bytes())) {
        return next.run(request).await;
    }
    let hint = "send `Authorization: Bearer TOKEN` with the token in api_token_file";
    let refusal = ApiError { status: StatusCode::UNAUTHORIZED, error: "missing or wrong token", hint };
    ([(header::WWW_AUTHENTICATE, "Bearer")], refusal).into_response()
}

/// Compares secrets in a time that depends on their lengths only.
fn same(a: &[u8], b: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a, b).is_ok()
}

fn unavailable(error: &'static str, hint: &'static str) -> ApiError {
    ApiError { status: StatusCode::SERVICE_UNAVAILABLE, error, hint }
}
