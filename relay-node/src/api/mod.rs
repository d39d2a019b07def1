//! The relay's local HTTP API: metrics, health, what the relay knows, and plain RTP registrations, as JSON.
//!
//! It listens from the first moment, before the relay has joined, so that a supervisor can see why it is not ready.
//! Everything comes from one look into the core, made when somebody asks. On loopback it asks for nothing; beyond it, a
//! bearer token and TLS are required (health excepted: it tells nothing but yes or no).

mod body;
mod error;
mod events;
mod health;
mod listener;
mod registration_views;
mod registrations;
mod views;

use crate::overlay::Overlay;
use crate::recording::RecordedRelay;
use crate::telemetry;
use crate::workers::merge_snapshots;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use link_io::{Port, PortClosed, PortStats};
use relay_core::{Counters, LinkView, Notice, Relay, StreamView, TablesView};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, broadcast, watch};
use wire_format::control::NamespaceUsage;

pub(crate) use error::ApiError;
pub(crate) use events::seats;
pub(crate) use listener::ApiListener;
pub(crate) use registrations::Registry;

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
    pub(crate) port: Port<RecordedRelay>,
    pub(crate) overlay: Arc<Overlay>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) notices: broadcast::Sender<Notice>,
    /// For those who watch events.
    pub(crate) seats: Arc<Semaphore>,
}

/// One look into core and port.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) counters: Counters,
    pub(crate) links: Vec<LinkView>,
    pub(crate) tables: TablesView,
    pub(crate) streams: Vec<StreamView>,
    pub(crate) namespaces: Vec<NamespaceUsage>,
    pub(crate) port: PortStats,
}

impl Running {
    /// All that the API shows, as it is now.
    pub(crate) async fn look(&self) -> Result<Snapshot, ApiError> {
        let look = |relay: &RecordedRelay, port: &PortStats| Snapshot {
            counters: *relay.counters(),
            links: relay.link_views(),
            tables: relay.tables_view(),
            streams: relay.stream_views(),
            namespaces: relay.namespace_usage(),
            port: *port,
        };
        let seen = self.answered(self.port.inspect_each(look)).await?;
        // A port has at least one worker.
        merge_snapshots(seen).ok_or_else(|| ApiError::unavailable("no worker", "restart the relay"))
    }

    /// Looks into core and port.
    async fn inspect<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Relay, &PortStats) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        self.answered(self.port.inspect(|relay, port| look(relay, port))).await
    }

    /// Waits for the port's worker, not for ever.
    async fn answered<T>(&self, asked: impl Future<Output = Result<T, PortClosed>>) -> Result<T, ApiError> {
        match tokio::time::timeout(INSPECT_TIMEOUT, asked).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(ApiError::unavailable("the relay port is closed", "the relay is stopping")),
            Err(_) => Err(ApiError::unavailable(
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
            .route("/v1/events", get(events::events))
            .route("/v1/publications", post(registrations::publish).get(registrations::publications))
            .route(
                "/v1/publications/{id}",
                get(registrations::publication)
                    .put(registrations::renew_publication)
                    .delete(registrations::unpublish),
            )
            .route("/v1/subscriptions", post(registrations::subscribe).get(registrations::subscriptions))
            .route(
                "/v1/subscriptions/{id}",
                get(registrations::subscription)
                    .put(registrations::renew_subscription)
                    .delete(registrations::unsubscribe),
            )
            .route("/openapi.json", get(description))
            .method_not_allowed_fallback(wrong_method)
            .fallback(unknown)
            .layer(axum::middleware::from_fn_with_state(self.clone(), require_token));
        open.method_not_allowed_fallback(wrong_method).merge(guarded).with_state(self)
    }

    /// The relay, once it runs.
    fn running(&self) -> Result<Running, ApiError> {
        let hint = "it waits for the controller to let it join; /readyz and the log say more";
        self.running
            .borrow()
            .clone()
            .ok_or_else(|| ApiError::unavailable("the relay has not joined yet", hint))
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

/// What this API is, for programs.
async fn description() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], include_str!("../../api/openapi.json")).into_response()
}

async fn unknown() -> ApiError {
    let hint = "there are /metrics, /healthz, /readyz, /v1/links, /v1/tables, /v1/streams, /v1/events, \
                /v1/publications and /v1/subscriptions; /openapi.json describes them";
    ApiError::new(StatusCode::NOT_FOUND, "no such path", hint)
}

async fn wrong_method() -> ApiError {
    let hint = "the `Allow` header names those that there are; /openapi.json describes them";
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "wrong method", hint)
}

async fn require_token(State(api): State<Api>, headers: HeaderMap, request: Request, next: Next) -> Response {
    let Some(token) = &api.token else { return next.run(request).await };
    let given = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
    let given = given.and_then(|value| value.strip_prefix(b"Bearer "));
    if given.is_some_and(|given| same(given, token.as_bytes())) {
        return next.run(request).await;
    }
    let hint = "send `Authorization: Bearer TOKEN` with the token in api_token_file";
    let refusal = ApiError::new(StatusCode::UNAUTHORIZED, "missing or wrong token", hint);
    ([(header::WWW_AUTHENTICATE, "Bearer")], refusal).into_response()
}

/// Compares secrets in a time that depends on their lengths only.
fn same(a: &[u8], b: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a, b).is_ok()
}
