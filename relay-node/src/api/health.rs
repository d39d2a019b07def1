//! Is the process alive; may SFUs be sent here.

use super::{Api, ApiError};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};

/// Alive: the worker answers, or there is none yet.
pub(super) async fn alive(State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    if let Ok(running) = api.running() {
        running.inspect(|_, _| ()).await?;
    }
    Ok(Json(json!({"status": "ok"})))
}

/// What must be there before a relay can carry media.
#[derive(Serialize)]
pub(super) struct Readiness {
    ready: bool,
    /// What is missing, and why that may be; empty when ready.
    missing: Vec<Missing>,
}

#[derive(Serialize)]
struct Missing {
    what: &'static str,
    hint: &'static str,
}

pub(super) async fn ready(State(api): State<Api>) -> (StatusCode, Json<Readiness>) {
    let mut missing = Vec::new();
    let mut require = |is_there: bool, what, hint| {
        if !is_there {
            missing.push(Missing { what, hint });
        }
    };
    match api.running() {
        Err(_) => {
            let hint = "no controller has let this relay join yet: is it reachable? The log names the reason";
            require(false, "joined", hint);
        }
        Ok(running) => {
            let has_tables = running.inspect(|relay, _| !relay.tables_view().tables.is_empty()).await;
            require(has_tables.is_ok(), "port", "the relay port is closed or its worker hangs");
            let contact = running.overlay.contact();
            let hint = "the controller says that this relay's certificate is void: join anew, or stop it";
            require(!contact.void, "membership", hint);
            require(
                contact.seen,
                "controller",
                "no session with a controller since the start: the log names the reason",
            );
            require(
                has_tables.unwrap_or(false),
                "tables",
                "no route table yet: the controller sends one once this relay is known",
            );
            let hint = "this relay is being drained: its SFUs move to others, and it takes in no more";
            require(!running.overlay.is_draining(), "duty", hint);
            let hint = "no token keys yet: no client can link; the controller sends them with the session";
            require(running.overlay.has_token_keys(), "token_keys", hint);
        }
    }
    let status = if missing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready: missing.is_empty(), missing }))
}
