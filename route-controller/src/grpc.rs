//! The gRPC service for relays.
//!
//! `Join` is open to anyone who holds a join token. `Session` is for relays with a certificate of this overlay: its name
//! comes from there and from nowhere else. Each session has a task that reads what the relay says and a stream that
//! carries what it is told; either end of it ends the other.

use crate::ca;
use crate::ca::RelayCertificate;
use crate::clock;
use crate::engine::{
    Caller, Counts, EngineHandle, JoinRequest, Loop, Outbox, RenewalRequest, Request, SESSION_MESSAGES_MAX,
    SessionEnd, count,
};
use crate::ration::Ration;
use crate::refusal::{Refusal, RefusalKind};
use crate::tenure::{Deposed, Tenure};
use crate::tls::{Peer, TlsListener};
use crate::trust::{Certified, Worthless};
use control_proto::proto::route_control_server::{RouteControl, RouteControlServer};
use control_proto::{LEADER_METADATA, check_relay_name, limits, proto};
use route_core::{KickCause, SessionId};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tonic::{Status, Streaming};
use wire_format::control::{RelayHello, ToController, ToRelay};

/// Longest time between opening a session and saying hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection on which nothing is answered for this long after a ping is dead.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// Calls on one connection at once: a session, and a join beside it.
const CALLS_PER_CONNECTION: u32 = 4;

/// Serves until `stop` changes, then until the sessions have ended.
pub(crate) async fn serve(
    listener: TlsListener,
    engine: EngineHandle,
    mut stop: watch::Receiver<bool>,
) -> Result<(), tonic::transport::Error> {
    let service =
        RouteControlServer::new(Service { engine, sessions: AtomicU64::new(1), strangers: Ration::new() })
            .max_decoding_message_size(limits::MESSAGE_BYTES)
            .max_encoding_message_size(limits::MESSAGE_BYTES);
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .max_concurrent_streams(CALLS_PER_CONNECTION)
        .add_service(service)
        .serve_with_incoming_shutdown(listener, async move {
            // An error means that whoever would stop it is gone: stop too.
            let _ = stop.wait_for(|stop| *stop).await;
        })
        .await
}

struct Service {
    engine: EngineHandle,
    sessions: AtomicU64,
    /// What is logged of callers that have proven nothing.
    strangers: Ration,
}

#[tonic::async_trait]
impl RouteControl for Service {
    type SessionStream = SessionStream;

    async fn join(
        &self,
        request: tonic::Request<proto::JoinRequest>,
    ) -> Result<tonic::Response<proto::JoinResponse>, Status> {
        let peer = peer(&request)?;
        let proto::JoinRequest { name, secret, csr_der } = request.into_inner();
        // Looked at before it may wait anywhere: whoever sent it has proven nothing.
        if csr_der.len() > limits::CERTIFICATE_BYTES {
            return Err(Status::invalid_argument("the certificate request is too long"));
        }
        if let Err(error) = check_relay_name(&name) {
            return Err(Status::invalid_argument(error.to_string()));
        }
        let request = JoinRequest { name, secret_hash: ca::sha256(&secret), csr: csr_der };
        let joined = self.leader()?.join(request).await.map_err(|refusal| {
            if let Some(held_back) = self.strangers.take() {
                tracing::warn!(address = %peer.address, held_back, "a join is refused: {refusal}");
            }
            status(&refusal)
        })?;
        Ok(tonic::Response::new(proto::JoinResponse {
            certificate_der: joined.certificate,
            ca_certificate_der: joined.ca_certificate,
            node: u32::from(joined.node.0),
        }))
    }

    async fn renew(
        &self,
        request: tonic::Request<proto::RenewRequest>,
    ) -> Result<tonic::Response<proto::RenewResponse>, Status> {
        let peer = peer(&request)?;
        let certificate = relay_certificate(&peer)?;
        let proto::RenewRequest { csr_der, serial } = request.into_inner();
        if csr_der.len() > limits::CERTIFICATE_BYTES || serial.len() > control_proto::SERIAL_BYTES {
            return Err(Status::invalid_argument("the certificate request or the serial number is too long"));
        }
        let name = certificate.name.clone();
        let caller = caller(certificate, &peer);
        let request = Box::new(RenewalRequest { caller, newest: serial, csr: csr_der });
        let renewed = self.leader()?.call(|answer| Request::Renew { request, answer }).await;
        let certificate_der = renewed.map_err(|refusal| {
            tracing::warn!(name, address = %peer.address, "a renewal is refused: {refusal}");
            status(&refusal)
        })?;
        Ok(tonic::Response::new(proto::RenewResponse { certificate_der }))
    }

    async fn session(
        &self,
        request: tonic::Request<Streaming<proto::ToController>>,
    ) -> Result<tonic::Response<SessionStream>, Status> {
        let peer = peer(&request)?;
        let certificate = relay_certificate(&peer).and_then(unexpired).inspect_err(|status| {
            count(&self.engine.counts.sessions_refused);
            if let Some(held_back) = self.strangers.take() {
                let reason = status.message();
                tracing::warn!(address = %peer.address, held_back, "a session is refused: {reason}");
            }
        })?;
        let engine = self.leader()?;
        let tenure = engine.tenure.clone();
        let caller = caller(certificate, &peer);
        let session = SessionId(self.sessions.fetch_add(1, Ordering::Relaxed));
        let (messages, queue) = mpsc::channel(SESSION_MESSAGES_MAX);
        let (end, ended) = mpsc::channel(1);
        let (alive, gone) = oneshot::channel();
        let outbox = Outbox { messages, end: end.clone() };
        let counts = Arc::clone(&self.engine.counts);
        let reader = Reader { session, caller, peer, engine, counts, end };
        tokio::spawn(reader.run(request.into_inner(), outbox, gone));
        Ok(tonic::Response::new(SessionStream { messages: queue, ended, tenure, done: false, _alive: alive }))
    }
}

impl Service {
    /// The loop that serves relays, if it runs here; whoever asks elsewhere is told where.
    fn leader(&self) -> Result<Loop, Status> {
        self.engine.leader().map_err(|refusal| {
            let mut status = status(&refusal);
            let leader = self.engine.elsewhere().and_then(|leader| leader.parse().ok());
            if let Some(leader) = leader {
                status.metadata_mut().insert(LEADER_METADATA, leader);
            }
            status
        })
    }
}

/// Who calls.
fn peer<T>(request: &tonic::Request<T>) -> Result<Peer, Status> {
    request.extensions().get::<Peer>().cloned().ok_or_else(|| Status::internal("the connection has no peer"))
}

/// What the caller's certificate says.
fn relay_certificate(peer: &Peer) -> Result<RelayCertificate, Status> {
    let Some(certificate) = &peer.certificate else {
        return Err(Status::unauthenticated(
            "this needs a relay's certificate of this overlay: join first, with a join token",
        ));
    };
    ca::relay_certificate(certificate)
        .map_err(|error| Status::permission_denied(format!("this is no relay's certificate: {error:#}")))
}

fn caller(certificate: RelayCertificate, peer: &Peer) -> Caller {
    let RelayCertificate { name, serial, issued_unix_s, expires_unix_s } = certificate;
    Caller {
        name,
        certificate: Certified { serial, issued_unix_s, expires_unix_s },
        connection: peer.connection,
    }
}

/// The handshake forgives that a certificate has expired, for renewals' sake alone.
fn unexpired(certificate: RelayCertificate) -> Result<RelayCertificate, Status> {
    if certificate.expires_unix_s < clock::unix_s() {
        return Err(Status::failed_precondition(Worthless::Expired.reason()));
    }
    Ok(certificate)
}

fn status(refusal: &Refusal) -> Status {
    let text = refusal.to_string();
    match refusal.kind {
        RefusalKind::Invalid
        | RefusalKind::Unauthenticated
        | RefusalKind::Forbidden
        | RefusalKind::NotFound
        | RefusalKind::Conflict => Status::permission_denied(text),
        RefusalKind::Unavailable => Status::unavailable(text),
        RefusalKind::Broken => Status::internal(text),
    }
}

/// Reads one session.
struct Reader {
    session: SessionId,
    caller: Caller,
    peer: Peer,
    /// The loop that the session began with; it never goes on with another.
    engine: Loop,
    counts: Arc<Counts>,
    end: mpsc::Sender<SessionEnd>,
}

impl Reader {
    async fn run(
        self,
        mut inbound: Streaming<proto::ToController>,
        outbox: Outbox,
        mut gone: oneshot::Receiver<()>,
    ) {
        let hello = tokio::select! {
            hello = tokio::time::timeout(HELLO_TIMEOUT, self.hello(&mut inbound)) => hello.ok().flatten(),
            _ = &mut gone => None,
        };
        let Some(hello) = hello else {
            count(&self.counts.sessions_refused);
            let reason = "a session begins with the hello of the relay that the certificate names";
            let _ = self.end.try_send(SessionEnd::passing(reason));
            return;
        };
        tracing::info!(name = self.caller.name, session = self.session.0, address = %self.peer.address, "relay connected");
        let caller = self.caller.clone();
        let open = Request::Open { session: self.session, caller, hello: Box::new(hello), outbox };
        if self.engine.send(open).await.is_err() {
            return;
        }
        while let Some(message) = self.next(&mut inbound, &mut gone).await {
            if self.engine.send(Request::Said { session: self.session, message }).await.is_err() {
                return;
            }
        }
        tracing::info!(name = self.caller.name, session = self.session.0, "relay disconnected");
        // Fails only when the loop has ended, and every session with it.
        let _ = self.engine.send(Request::Closed { session: self.session }).await;
    }

    async fn hello(&self, inbound: &mut Streaming<proto::ToController>) -> Option<RelayHello> {
        let message = inbound.message().await.ok()??;
        match ToController::try_from(message) {
            Ok(ToController::Hello(hello)) if hello.name == self.caller.name => Some(hello),
            Ok(ToController::Hello(hello)) => {
                tracing::warn!(
                    said = hello.name,
                    certificate = self.caller.name,
                    "a relay says another name than its certificate"
                );
                None
            }
            Ok(_) => None,
            Err(error) => {
                self.complain(error);
                None
            }
        }
    }

    /// The next message; `None` when the session is over, whoever ended it.
    async fn next(
        &self,
        inbound: &mut Streaming<proto::ToController>,
        gone: &mut oneshot::Receiver<()>,
    ) -> Option<ToController> {
        let message = tokio::select! {
            message = inbound.message() => message.ok()??,
            _ = gone => return None,
        };
        match ToController::try_from(message) {
            Ok(message) => Some(message),
            Err(error) => {
                self.complain(error);
                let _ = self.end.try_send(SessionEnd::passing("a message was malformed"));
                None
            }
        }
    }

    fn complain(&self, error: control_proto::ConvertError) {
        count(&self.counts.messages_refused);
        tracing::warn!(name = self.caller.name, session = self.session.0, "a message is refused: {error}");
    }
}

/// What one relay is told. Ends at once when the loop wants it to, without what still waits.
pub(crate) struct SessionStream {
    messages: mpsc::Receiver<ToRelay>,
    ended: mpsc::Receiver<SessionEnd>,
    /// What waited for the relay when it was over is not sent any more.
    tenure: Tenure,
    done: bool,
    /// Dropped with the stream, which tells the reader.
    _alive: oneshot::Sender<()>,
}

impl tokio_stream::Stream for SessionStream {
    type Item = Result<proto::ToRelay, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.done {
            return Poll::Ready(None);
        }
        if let Poll::Ready(Some(end)) = self.ended.poll_recv(cx) {
            self.done = true;
            return Poll::Ready(Some(Err(farewell(end))));
        }
        let message = std::task::ready!(self.messages.poll_recv(cx));
        if !self.tenure.holds() {
            self.done = true;
            return Poll::Ready(Some(Err(Status::unavailable(Deposed.to_string()))));
        }
        Poll::Ready(message.map(|message| Ok(message.into())))
    }
}

/// How a relay is told why its session ends: the code says whether it helps to come back soon.
fn farewell(end: SessionEnd) -> Status {
    match end.cause {
        KickCause::Broken => Status::aborted(end.reason),
        KickCause::ComeAgain => Status::unavailable(end.reason),
        KickCause::NameInUse | KickCause::Replaced => Status::already_exists(end.reason),
        KickCause::Void => Status::permission_denied(end.reason),
    }
}
