//! Plain RTP registrations: `/v1/publications` and `/v1/subscriptions`.

use super::body::{self, illegal};
use super::error::ApiError;
use super::registration_views::{self as views, PublicationRow, SubscriptionRow};
use super::{Api, Running};
use crate::plain::{PlainConfig, address_towards, is_of_this_host};
use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use link_io::PlainSocket;
use relay_core::{
    EndReason, Notice, PlainId, PlainLocal, PlainPort, PlainPublish, PlainRefusal, PlainSource,
    PlainSubscribe, Relay,
};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU8;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::time::timeout;
use wire_format::control::StreamName;
use wire_format::{Codec, MediaKind, Priority, PublicationId, RtpDescription, SubscriptionId, Timestamp};

/// For the controller to grant or refuse a publication; one that is away grants it later.
const GRANT_PATIENCE: Duration = Duration::from_secs(2);
/// For the first packets of streams that already flow, so that the answer to a subscription names them.
const SETTLE: Duration = Duration::from_millis(400);
/// How often it is looked at meanwhile.
const SETTLE_EVERY: Duration = Duration::from_millis(20);
/// Longest lease.
const LEASE_S_MAX: u32 = 86_400;

/// What registrations need of the process.
#[derive(Debug)]
pub(crate) struct Registry {
    config: PlainConfig,
    next_port: AtomicU32,
    next_turn: AtomicU32,
}

/// Which port a registration is served at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum PortChoice {
    /// The relay port.
    Relay,
    /// One of its own.
    Own,
}

/// Whether RTCP shares the port of RTP.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RtcpChoice {
    /// It does.
    Mux,
    /// It has the port after it.
    Separate,
}

/// How urgent packets are that say nothing of themselves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum PriorityHint {
    /// As audio; of audio alone.
    Audio,
    /// As keyframes and base layers.
    Base,
    /// As other video.
    Video,
    /// As enhancement layers.
    Enhancement,
}

impl PriorityHint {
    const ALL: [PriorityHint; 4] =
        [PriorityHint::Audio, PriorityHint::Base, PriorityHint::Video, PriorityHint::Enhancement];

    fn priority(self) -> Priority {
        match self {
            PriorityHint::Audio => Priority::AUDIO,
            PriorityHint::Base => Priority::BASE,
            PriorityHint::Video => Priority::VIDEO,
            PriorityHint::Enhancement => Priority::ENHANCEMENT,
        }
    }

    pub(super) fn of(priority: Priority) -> Option<PriorityHint> {
        PriorityHint::ALL.into_iter().find(|hint| hint.priority() == priority)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicationRequest {
    namespace: String,
    room: String,
    user: String,
    stream: String,
    kind: MediaKind,
    ssrc: Option<u32>,
    source: String,
    port: PortChoice,
    rtcp: RtcpChoice,
    budget_ms: Option<u32>,
    #[serde(default)]
    protect: bool,
    codec: Option<Codec>,
    dependency_descriptor_id: Option<NonZeroU8>,
    frame_marking_id: Option<NonZeroU8>,
    priority: Option<PriorityHint>,
    lease_s: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SubscriptionRequest {
    namespace: String,
    room: String,
    user: Option<String>,
    stream: Option<String>,
    destination: String,
    rtcp_destination: Option<String>,
    port: PortChoice,
    rtcp: RtcpChoice,
    lease_s: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Renewal {
    lease_s: Option<u32>,
}

/// Sockets that a registration is to take.
struct Sockets {
    local: PlainLocal,
    own: Vec<(PlainPort, PlainSocket)>,
}

impl Registry {
    pub(crate) fn new(config: PlainConfig) -> Registry {
        // 0 is the relay port.
        Registry { config, next_port: AtomicU32::new(1), next_turn: AtomicU32::new(0) }
    }

    fn check_network(&self, name: &str, ip: IpAddr) -> Result<(), ApiError> {
        if self.config.allows(ip) {
            return Ok(());
        }
        let error = format!("`{name}` {ip} is outside of the networks that plain RTP may use");
        let hint = format!(
            "they are {}; plain_networks in the relay's configuration changes them",
            self.config.networks_text()
        );
        Err(ApiError::new(StatusCode::FORBIDDEN, error, hint))
    }

    /// Where a registration is served.
    fn sockets(
        &self,
        relay_port: SocketAddr,
        peer: IpAddr,
        port: PortChoice,
        rtcp: RtcpChoice,
    ) -> Result<Sockets, ApiError> {
        let separate = rtcp == RtcpChoice::Separate;
        let towards = || {
            address_towards(peer).map_err(|error| {
                let error = format!("no way to {peer}: {error}");
                ApiError::new(StatusCode::CONFLICT, error, "give an address that this host has a route to")
            })
        };
        match port {
            PortChoice::Relay => {
                let ip = if relay_port.ip().is_unspecified() { towards()? } else { relay_port.ip() };
                if ip.is_ipv4() != peer.is_ipv4() {
                    let error = format!("the relay port is at {ip}, which {peer} cannot reach");
                    let hint = "use addresses of one IP version, or \"port\": \"own\"";
                    return Err(ApiError::new(StatusCode::CONFLICT, error, hint));
                }
                let rtp = SocketAddr::new(ip, relay_port.port());
                let relay = PlainPort::RELAY;
                let local = PlainLocal { rtp_port: relay, rtp, rtcp_port: relay, rtcp: rtp, separate };
                Ok(Sockets { local, own: Vec::new() })
            }
            PortChoice::Own => {
                let turn = self.next_turn.fetch_add(1, Ordering::Relaxed);
                let sockets = self.config.bind(towards()?, separate, turn).map_err(|error| {
                    let error = format!("no free UDP port: {error}");
                    let hint = "end registrations that are not needed, or widen plain_ports";
                    ApiError::new(StatusCode::TOO_MANY_REQUESTS, error, hint)
                })?;
                let number = |socket| (PlainPort(self.next_port.fetch_add(1, Ordering::Relaxed)), socket);
                let own: Vec<_> = sockets.into_iter().map(number).collect();
                let (rtp, rtcp) = match &own[..] {
                    [rtp] => (rtp, rtp),
                    [rtp, rtcp, ..] => (rtp, rtcp),
                    [] => return Err(ApiError::unavailable("no UDP port", "try again")),
                };
                let local = PlainLocal {
                    rtp_port: rtp.0,
                    rtp: rtp.1.local_addr(),
                    rtcp_port: rtcp.0,
                    rtcp: rtcp.1.local_addr(),
                    separate,
                };
                Ok(Sockets { local, own })
            }
        }
    }
}

/// A registration that was begun must be finished, even if the client goes away meanwhile.
async fn finish<T: Send + 'static>(
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    let ended = tokio::spawn(work).await;
    ended.unwrap_or_else(|_| Err(ApiError::unavailable("the request broke off", "look at the log")))
}

impl Running {
    /// Changes the core.
    async fn change<R: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Relay, Timestamp) -> R + Send + 'static,
    ) -> Result<R, ApiError> {
        self.answered(self.port.change(|relay, now| change(relay, now))).await
    }

    /// Gives the port the sockets, then the core the registration; takes the sockets back if it is refused.
    async fn register<I: Send + 'static>(
        &self,
        own: Vec<(PlainPort, PlainSocket)>,
        register: impl FnOnce(&mut Relay, Timestamp) -> Result<I, PlainRefusal> + Send + 'static,
    ) -> Result<I, ApiError> {
        let ports: Vec<_> = own.iter().map(|(port, _)| *port).collect();
        for (port, socket) in own {
            self.answered(self.port.open_plain(port, socket)).await?;
        }
        let registered = self.change(register).await;
        if !matches!(registered, Ok(Ok(_))) {
            for port in ports {
                self.answered(self.port.close_plain(port)).await?;
            }
        }
        registered?.map_err(refused)
    }

    async fn publication(&self, id: PublicationId) -> Result<PublicationRow, ApiError> {
        let found = self.inspect(move |relay, _| relay.plain_publications(link_io::now(), Some(id))).await?;
        found.first().map(views::publication).ok_or_else(|| absent("publication"))
    }

    async fn subscription(&self, id: SubscriptionId) -> Result<SubscriptionRow, ApiError> {
        let found = self.inspect(move |relay, _| relay.plain_subscriptions(link_io::now(), Some(id))).await?;
        found.first().map(views::subscription).ok_or_else(|| absent("subscription"))
    }
}

pub(super) async fn publish(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let running = api.running()?;
    let request: PublicationRequest = body::read(request, false).await?;
    check_memory(&running)?;
    let source = parse_source(&request.source)?;
    running.registry.check_network("source", source.ip)?;
    let budget = request.budget_ms.map(|ms| Duration::from_millis(ms.into()));
    request.kind.slack(budget).map_err(|error| refused(PlainRefusal::Budget(error)))?;
    let description = RtpDescription {
        codec: request.codec,
        dependency_descriptor: request.dependency_descriptor_id,
        frame_marking: request.frame_marking_id,
        priority: request.priority.map(PriorityHint::priority),
    };
    let hint = "give the codec that the stream has, or leave `codec` and `priority` out";
    description.check(request.kind).map_err(|error| illegal(error.to_string(), hint))?;
    let lease = bounded("lease_s", request.lease_s, LEASE_S_MAX)?;
    if request.port == PortChoice::Relay && request.ssrc.is_none() {
        return Err(refused(PlainRefusal::NeedsSsrc));
    }
    let Sockets { local, own } =
        running.registry.sockets(running.port.local_addr(), source.ip, request.port, request.rtcp)?;
    let PublicationRequest { namespace, room, user, stream, kind, ssrc, protect, .. } = request;
    let spec = PlainPublish {
        name: StreamName { namespace, room, user, stream },
        kind,
        ssrc,
        source,
        local,
        budget,
        protect,
        description,
        lease: lease.map(|s| Duration::from_secs(s.into())),
    };
    let row = finish(async move {
        let notices = running.notices.subscribe();
        let id = running.register(own, |relay, now| relay.publish_plain(now, spec)).await?;
        if running.overlay.contact().connected {
            granted(notices, PlainId::Publication(id)).await?;
        }
        running.publication(id).await
    })
    .await?;
    Ok(created("publications", row.id, row))
}

/// Nothing more is registered while the process uses as much memory as it may.
fn check_memory(running: &Running) -> Result<(), ApiError> {
    let refused = |reason: String| {
        let hint = "register at another relay, or end registrations that are not needed";
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, reason, hint)
    };
    running.overlay.memory().check().map_err(refused)
}

/// Waits until the controller has granted a publication. An error if it refuses.
async fn granted(mut notices: broadcast::Receiver<Notice>, wanted: PlainId) -> Result<(), ApiError> {
    let answer = async {
        loop {
            match notices.recv().await {
                Ok(Notice::Granted { id }) if id == wanted => return Ok(()),
                Ok(notice) => refusal(notice, wanted).map_or(Ok(()), Err)?,
                // Missed: the answer says what state it is in.
                Err(_) => return Ok(()),
            }
        }
    };
    // The same if it comes too late.
    timeout(GRANT_PATIENCE, answer).await.unwrap_or(Ok(()))
}

/// Waits until the controller refuses a subscription, for ever if it does not: it is never told that it grants one.
async fn refused_later(mut notices: broadcast::Receiver<Notice>, wanted: PlainId) -> ApiError {
    loop {
        match notices.recv().await {
            Ok(notice) => {
                if let Some(refusal) = refusal(notice, wanted) {
                    return refusal;
                }
            }
            // Missed: whoever looks at the subscription sees that it is gone.
            Err(_) => std::future::pending().await,
        }
    }
}

/// What a notice means for who waits for a registration, if it refuses it.
fn refusal(notice: Notice, wanted: PlainId) -> Option<ApiError> {
    match notice {
        Notice::Ended { id, reason: EndReason::Refused(reason) } if id == wanted => {
            let hint = "choose another name, or end the publication that has it";
            Some(ApiError::new(StatusCode::CONFLICT, reason, hint))
        }
        Notice::Ended { id, reason: EndReason::Limit(reason) } if id == wanted => {
            let hint = "end what is not needed, or have the limit raised";
            Some(ApiError::new(StatusCode::TOO_MANY_REQUESTS, reason, hint))
        }
        Notice::Ended { .. }
        | Notice::StreamUp { .. }
        | Notice::StreamDown { .. }
        | Notice::Link { .. }
        | Notice::Granted { .. }
        | Notice::Collision { .. }
        | Notice::Draining => None,
    }
}

pub(super) async fn subscribe(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let running = api.running()?;
    let request: SubscriptionRequest = body::read(request, false).await?;
    check_memory(&running)?;
    let destination = parse_destination("destination", &request.destination)?;
    let rtcp_destination = request.rtcp_destination.as_ref();
    let rtcp_destination =
        rtcp_destination.map(|text| parse_destination("rtcp_destination", text)).transpose()?;
    running.registry.check_network("destination", destination.ip())?;
    if let Some(rtcp) = rtcp_destination {
        running.registry.check_network("rtcp_destination", rtcp.ip())?;
    }
    let relay_port = running.port.local_addr();
    for to in [Some(destination), rtcp_destination].into_iter().flatten() {
        if to.port() == relay_port.port() && is_of_this_host(to.ip()) {
            return Err(refused(PlainRefusal::Loop(to)));
        }
    }
    let lease = bounded("lease_s", request.lease_s, LEASE_S_MAX)?;
    let Sockets { local, own } =
        running.registry.sockets(relay_port, destination.ip(), request.port, request.rtcp)?;
    let SubscriptionRequest { namespace, room, user, stream, .. } = request;
    let spec = PlainSubscribe {
        namespace,
        room,
        user,
        stream,
        destination,
        rtcp_destination,
        local,
        lease: lease.map(|s| Duration::from_secs(s.into())),
    };
    let row = finish(async move {
        let notices = running.notices.subscribe();
        let id = running.register(own, |relay, now| relay.subscribe_plain(now, spec)).await?;
        tokio::select! {
            // First: once it is refused the subscription is there no longer.
            biased;
            refusal = refused_later(notices, PlainId::Subscription(id)) => Err(refusal),
            row = settled(&running, id) => row,
        }
    })
    .await?;
    Ok(created("subscriptions", row.id, row))
}

/// Gives streams that already flow a moment to arrive. If two of them cannot be told apart, the subscription ends.
async fn settled(running: &Running, id: SubscriptionId) -> Result<SubscriptionRow, ApiError> {
    let flowing = async {
        loop {
            let row = told_apart(running, id).await?;
            if row.is_flowing() {
                return Ok(row);
            }
            tokio::time::sleep(SETTLE_EVERY).await;
        }
    };
    match timeout(SETTLE, flowing).await {
        Ok(row) => row,
        Err(_) => told_apart(running, id).await,
    }
}

/// The subscription, unless it has to end because two of its streams have the same SSRC.
async fn told_apart(running: &Running, id: SubscriptionId) -> Result<SubscriptionRow, ApiError> {
    let row = running.subscription(id).await?;
    let Some(ssrc) = row.collision() else { return Ok(row) };
    running.change(move |relay, now| relay.end_plain(now, PlainId::Subscription(id))).await?;
    let error = format!("two streams with SSRC {ssrc} would go to {}", row.destination());
    let hint = "subscribe to them one by one (`user`, `stream`), each with a destination of its own";
    Err(ApiError::new(StatusCode::CONFLICT, error, hint))
}

pub(super) async fn publications(State(api): State<Api>) -> Result<Json<views::Publications>, ApiError> {
    let running = api.running()?;
    let found = running.inspect(|relay, _| relay.plain_publications(link_io::now(), None)).await?;
    Ok(Json(views::Publications { publications: found.iter().map(views::publication).collect() }))
}

pub(super) async fn subscriptions(State(api): State<Api>) -> Result<Json<views::Subscriptions>, ApiError> {
    let running = api.running()?;
    let found = running.inspect(|relay, _| relay.plain_subscriptions(link_io::now(), None)).await?;
    Ok(Json(views::Subscriptions { subscriptions: found.iter().map(views::subscription).collect() }))
}

pub(super) async fn publication(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Json<PublicationRow>, ApiError> {
    let running = api.running()?;
    Ok(Json(running.publication(PublicationId(number(&id, "publication")?)).await?))
}

pub(super) async fn subscription(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Json<SubscriptionRow>, ApiError> {
    let running = api.running()?;
    Ok(Json(running.subscription(SubscriptionId(number(&id, "subscription")?)).await?))
}

pub(super) async fn renew_publication(
    State(api): State<Api>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<PublicationRow>, ApiError> {
    let running = api.running()?;
    let id = PublicationId(number(&id, "publication")?);
    renew(&running, PlainId::Publication(id), "publication", request).await?;
    Ok(Json(running.publication(id).await?))
}

pub(super) async fn renew_subscription(
    State(api): State<Api>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<SubscriptionRow>, ApiError> {
    let running = api.running()?;
    let id = SubscriptionId(number(&id, "subscription")?);
    renew(&running, PlainId::Subscription(id), "subscription", request).await?;
    Ok(Json(running.subscription(id).await?))
}

async fn renew(running: &Running, id: PlainId, what: &str, request: Request) -> Result<(), ApiError> {
    let renewal: Renewal = body::read(request, true).await?;
    let lease = bounded("lease_s", renewal.lease_s, LEASE_S_MAX)?;
    let lease = lease.map(|s| Duration::from_secs(s.into()));
    let renewed = running.change(move |relay, now| relay.renew_plain(now, id, lease)).await?;
    if renewed { Ok(()) } else { Err(absent(what)) }
}

pub(super) async fn unpublish(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let id = PlainId::Publication(PublicationId(number(&id, "publication")?));
    end(&api.running()?, id, "publication").await
}

pub(super) async fn unsubscribe(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let id = PlainId::Subscription(SubscriptionId(number(&id, "subscription")?));
    end(&api.running()?, id, "subscription").await
}

async fn end(running: &Running, id: PlainId, what: &str) -> Result<StatusCode, ApiError> {
    let ended = running.change(move |relay, now| relay.end_plain(now, id)).await?;
    if ended { Ok(StatusCode::NO_CONTENT) } else { Err(absent(what)) }
}

fn created(what: &str, id: u32, row: impl Serialize) -> Response {
    let location = format!("/v1/{what}/{id}");
    (StatusCode::CREATED, [(header::LOCATION, location)], Json(row)).into_response()
}

fn number(text: &str, what: &str) -> Result<u32, ApiError> {
    text.parse().map_err(|_| absent(what))
}

fn absent(what: &str) -> ApiError {
    let error = format!("no such {what}");
    ApiError::new(StatusCode::NOT_FOUND, error, format!("GET /v1/{what}s lists those that there are"))
}

fn refused(refusal: PlainRefusal) -> ApiError {
    let (status, hint) = match &refusal {
        PlainRefusal::Streams(_) => (StatusCode::TOO_MANY_REQUESTS, "publish at another relay"),
        PlainRefusal::Limit(_) => (
            StatusCode::TOO_MANY_REQUESTS,
            "end registrations that are not needed (leases end forgotten ones), or use another relay",
        ),
        PlainRefusal::Taken { .. } => (
            StatusCode::CONFLICT,
            "use another SSRC, end the other publication, or ask for \"port\": \"own\"",
        ),
        PlainRefusal::NeedsSsrc => {
            (StatusCode::UNPROCESSABLE_ENTITY, "or ask for a port of its own: \"port\": \"own\"")
        }
        PlainRefusal::Loop(_) => (StatusCode::CONFLICT, "give an address at which the SFU receives"),
        PlainRefusal::Budget(_) => (StatusCode::UNPROCESSABLE_ENTITY, "200 ms if `budget_ms` is left out"),
        PlainRefusal::Name(_) => (
            StatusCode::UNPROCESSABLE_ENTITY,
            "namespace, room, user and stream are texts of 1 to 255 bytes without control characters",
        ),
    };
    ApiError::new(status, refusal.to_string(), hint)
}

fn bounded(name: &str, value: Option<u32>, most: u32) -> Result<Option<u32>, ApiError> {
    match value {
        Some(value) if value == 0 || value > most => {
            Err(illegal(format!("`{name}` is {value}"), format!("give 1 to {most}, or leave it out")))
        }
        Some(_) | None => Ok(value),
    }
}

fn parse_source(text: &str) -> Result<PlainSource, ApiError> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(PlainSource { ip: ip.to_canonical(), port: None });
    }
    let address = parse_destination("source", text)?;
    Ok(PlainSource { ip: address.ip(), port: Some(address.port()) })
}

fn parse_destination(name: &str, text: &str) -> Result<SocketAddr, ApiError> {
    let address = text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0);
    let address = address.ok_or_else(|| {
        let what = if name == "source" { "IP or IP:PORT" } else { "IP:PORT" };
        illegal(
            format!("`{name}` is {text:?}, which is not {what}"),
            "for instance 127.0.0.1:5004 or [::1]:5004",
        )
    })?;
    Ok(SocketAddr::new(address.ip().to_canonical(), address.port()))
}
