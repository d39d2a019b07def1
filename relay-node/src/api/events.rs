//! `GET /v1/events`: what happens at this relay, as server-sent events, from now on.

use super::error::ApiError;
use super::views::state_name;
use super::{Api, Running};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use relay_core::{EndReason, Notice, PeerView, PlainId};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use wire_format::MediaKind;
use wire_format::control::StreamName;

/// Watchers at once.
const WATCHERS_MAX: usize = 32;
/// Events on their way to a watcher; behind them the relay's own queue backs up, and then the oldest are missed.
const QUEUE: usize = 16;

/// Who may watch.
pub(crate) fn seats() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(WATCHERS_MAX))
}

pub(super) async fn events(
    State(api): State<Api>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let running = api.running()?;
    let seat = Arc::clone(&running.seats).try_acquire_owned().map_err(|_| {
        let error = format!("{WATCHERS_MAX} clients watch already");
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, error, "let one of them watch for others")
    })?;
    let mut notices = running.notices.subscribe();
    let (out, events) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let _seat = seat;
        let begun = event("watching", &json!({"relay": &*running.name}));
        let mut sent = out.send(Ok(begun)).await;
        while sent.is_ok() {
            let next = tokio::select! {
                next = notices.recv() => next,
                () = out.closed() => return,
            };
            sent = match next {
                Ok(notice) => {
                    let (name, data) = describe(&running, notice);
                    out.send(Ok(event(name, &data))).await
                }
                Err(RecvError::Lagged(missed)) => {
                    out.send(Ok(event("missed", &json!({"events": missed})))).await
                }
                Err(RecvError::Closed) => return,
            };
        }
    });
    Ok(Sse::new(ReceiverStream::new(events)).keep_alive(KeepAlive::default()))
}

fn event(name: &str, data: &Value) -> Event {
    // JSON has no line breaks, so that it is one line of data.
    Event::default().event(name).data(data.to_string())
}

fn describe(running: &Running, notice: Notice) -> (&'static str, Value) {
    match notice {
        Notice::StreamUp { name, kind, incarnation } => {
            let mut data = stream(&name);
            data["kind"] = kind_name(kind).into();
            data["incarnation"] = incarnation.0.into();
            ("stream-up", data)
        }
        Notice::StreamDown { name } => ("stream-down", stream(&name)),
        Notice::Link { peer, state } => {
            let mut data = match peer {
                PeerView::Relay { node } => {
                    json!({"peer": "relay", "node": node, "name": running.overlay.name_of(node)})
                }
                PeerView::Client { subject, namespace, .. } => {
                    json!({"peer": "client", "subject": subject, "namespace": namespace})
                }
            };
            data["state"] = state.map_or("gone", state_name).into();
            ("link", data)
        }
        Notice::Granted { id } => ("publication-granted", registration(id)),
        Notice::Ended { id, reason } => {
            let mut data = registration(id);
            data["reason"] = match reason {
                EndReason::Lease => "its lease was not renewed".into(),
                EndReason::Refused(reason) | EndReason::Limit(reason) => reason.into(),
            };
            ("registration-ended", data)
        }
        Notice::Collision { subscription, name, ssrc } => {
            let mut data = stream(&name);
            data["subscription"] = subscription.0.into();
            data["ssrc"] = ssrc.into();
            ("ssrc-collision", data)
        }
        Notice::Draining => ("drain", json!({"relay": &*running.name})),
    }
}

fn stream(name: &StreamName) -> Value {
    json!({"namespace": name.namespace, "room": name.room, "user": name.user, "stream": name.stream})
}

fn registration(id: PlainId) -> Value {
    match id {
        PlainId::Publication(id) => json!({"publication": id}),
        PlainId::Subscription(id) => json!({"subscription": id}),
    }
}

fn kind_name(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Audio => "audio",
        MediaKind::Video => "video",
    }
}
