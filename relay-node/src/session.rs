//! The session with the controller: one gRPC stream each way, kept up for as long as the relay runs.
//!
//! The core is told when a session begins; it then says hello and reports everything it holds. Nothing that a session
//! loses is missed, because the next one begins with all of it again: so whenever something is lost (a queue overflowed,
//! a message was not understood, the connection broke) the session simply ends, and the next begins at once. Without a
//! session the relay goes on forwarding by its last tables.

use crate::backoff::Backoff;
use crate::overlay::Overlay;
use crate::recording::RecordedRelay;
use crate::renewal::{Failure, Renewal};
use crate::tls;
use crate::workers::Merger;
use control_proto::proto::route_control_client::RouteControlClient;
use control_proto::{LEADER_METADATA, limits, proto};
use link_io::{Port, PortClosed, WorkerEvents};
use relay_core::RelayCommand;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tracing::{debug, info, warn};
use wire_format::NodeIndex;
use wire_format::control::{ToController, ToRelay};

/// Messages on their way into the connection; the core's own queue backs up behind them.
const OUTGOING_MAX: usize = 256;
/// Until the controller has answered the hello.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(5);
/// A session that lasted this long ended for a reason of its own: the next attempt comes at once.
const LASTING: Duration = Duration::from_secs(5);
/// Least time between two attempts of a relay that is refused: whoever is in session under its name must not be
/// disturbed, and people who mend it need minutes.
const REFUSED_PAUSE: Duration = Duration::from_secs(10);
/// Reasons for having no session that are not logged again.
const LOGGED_MAX: usize = 8;
/// For the controller to read a goodbye.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(500);

/// Keeps the session up.
pub(crate) struct Sessions {
    port: Port<RecordedRelay>,
    events: WorkerEvents<ToController>,
    overlay: Arc<Overlay>,
    controllers: Vec<String>,
    node: NodeIndex,
    renewal: Renewal,
    backoff: Backoff,
    /// Spreads what comes on top of [`REFUSED_PAUSE`].
    refused: Backoff,
    stopping: watch::Receiver<bool>,
    /// Newest term that any controller claimed.
    term: u64,
}

/// Both ways of a session, and the connection that they share with whatever else is asked.
struct Streams {
    outgoing: mpsc::Sender<proto::ToController>,
    incoming: Streaming<proto::ToRelay>,
    channel: Channel,
}

/// Why a session ended.
#[derive(Debug)]
enum End {
    /// This relay stops; the controller knows.
    Stopping,
    /// The port is closed: there is nothing left to do.
    PortClosed,
    /// For the log.
    Lost(String),
    /// Nobody answers there. The same for the log.
    Unreachable(String),
    /// This controller does not lead; the one at this address does.
    Elsewhere(String),
    /// The controller will not have this relay, and will not soon: somebody else is in session under its name.
    Refused(String),
    /// Its certificate is void: it was revoked, or its name has joined anew.
    Void(String),
}

impl End {
    fn from_status(status: &Status) -> End {
        let reason = status.message().to_owned();
        match status.code() {
            Code::AlreadyExists | Code::Unauthenticated => End::Refused(reason),
            Code::PermissionDenied => End::Void(reason),
            Code::Unavailable => match leader(status) {
                Some(leader) => End::Elsewhere(leader),
                None => End::Lost(reason),
            },
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::InvalidArgument
            | Code::DeadlineExceeded
            | Code::NotFound
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Internal
            | Code::DataLoss => End::Lost(reason),
        }
    }
}

/// Where a controller that does not lead says that the leader is. Whoever is found there must prove to be a controller of
/// this overlay, so a wrong word costs an attempt and no more.
fn leader(status: &Status) -> Option<String> {
    let leader = status.metadata().get(LEADER_METADATA)?.to_str().ok()?;
    (leader.len() <= limits::CONTROLLER_BYTES).then(|| leader.to_owned())
}

impl From<PortClosed> for End {
    fn from(_: PortClosed) -> End {
        End::PortClosed
    }
}

impl Sessions {
    pub(crate) fn new(
        port: Port<RecordedRelay>,
        events: WorkerEvents<ToController>,
        overlay: Arc<Overlay>,
        controllers: Vec<String>,
        renewal: Renewal,
        stopping: watch::Receiver<bool>,
        seed: u64,
    ) -> Sessions {
        Sessions {
            port,
            events,
            overlay,
            controllers,
            node: renewal.node(),
            renewal,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_millis(500), seed),
            refused: Backoff::new(REFUSED_PAUSE, REFUSED_PAUSE * 2, seed),
            stopping,
            term: 0,
        }
    }

    /// Runs until the relay stops or its port is closed.
    pub(crate) async fn run(mut self) {
        let mut tried = 0;
        // Where the leader is, by the word of the controller that was just asked.
        let mut leader: Option<String> = None;
        // The reasons that were logged of late: controllers that are away are worth a line each, not ten a second.
        let mut logged = VecDeque::new();
        loop {
            let directed = leader.is_some();
            let controller = match leader.take() {
                Some(leader) => leader,
                None => {
                    tried += 1;
                    self.controllers[(tried - 1) % self.controllers.len()].clone()
                }
            };
            let (end, lasted) = match self.connect(&controller).await {
                Ok(Streams { outgoing, incoming, channel }) => {
                    let began = link_io::now();
                    let end = self.session(&controller, outgoing, incoming, channel).await;
                    self.overlay.controller_connected(false);
                    (end, link_io::now().since(began))
                }
                Err(end) => (end, Duration::ZERO),
            };
            // The next of several is asked at once, until the last.
            let next_at_once =
                matches!(end, End::Unreachable(_)) && !tried.is_multiple_of(self.controllers.len());
            let mut refused = false;
            match end {
                End::Stopping | End::PortClosed => return,
                End::Refused(reason) => {
                    refused = true;
                    self.overlay.controller_refused();
                    warn!(%controller, "the controller refuses this relay; the last tables stay in force. {reason}");
                }
                End::Void(reason) => {
                    refused = true;
                    self.overlay.controller_refused();
                    warn!(%controller, "this relay belongs to the overlay no longer and serves nobody. {reason}");
                    if self.serve_nobody().await.is_err() {
                        return;
                    }
                }
                End::Elsewhere(there) => {
                    debug!(%controller, leader = there, "another controller leads");
                    // Two that name each other are asked at the pace of all others.
                    if !directed && there != controller {
                        leader = Some(there);
                    }
                }
                End::Lost(reason) | End::Unreachable(reason) => {
                    if logged.contains(&reason) {
                        debug!(%controller, reason, "no session with the controller");
                    } else {
                        warn!(%controller, reason, "no session with the controller; the last tables stay in force");
                        logged.truncate(LOGGED_MAX - 1);
                        logged.push_front(reason);
                    }
                }
            }
            if lasted > LASTING {
                self.backoff.reset();
                logged.clear();
            }
            let pause = match (refused, &leader) {
                (true, _) => REFUSED_PAUSE + self.refused.next(),
                (false, Some(_)) => Duration::ZERO,
                (false, None) if next_at_once => Duration::ZERO,
                (false, None) => self.backoff.next(),
            };
            if self.between_sessions(pause).await.is_err() {
                return;
            }
        }
    }

    /// Opens both streams.
    async fn connect(&mut self, controller: &str) -> Result<Streams, End> {
        let (outgoing, queue) = mpsc::channel(OUTGOING_MAX);
        let renewal = &mut self.renewal;
        let open = async {
            let channel = tls::connect(controller, renewal.tls()).await;
            let channel = channel.map_err(|error| End::Unreachable(error.to_string()))?;
            if renewal.has_expired() {
                return Err(match renewal.once(channel).await {
                    Ok(()) => {
                        End::Lost("the certificate had expired and is renewed: connecting with it".to_owned())
                    }
                    Err(Failure::Passing(reason)) => {
                        End::Lost(format!("the certificate has expired: {reason}"))
                    }
                    Err(Failure::Refused(reason)) => {
                        End::Refused(format!("the certificate has expired: {reason}"))
                    }
                });
            }
            let mut client = RouteControlClient::new(channel.clone())
                .max_decoding_message_size(limits::MESSAGE_BYTES)
                .max_encoding_message_size(limits::MESSAGE_BYTES);
            match client.session(ReceiverStream::new(queue)).await {
                Ok(incoming) => Ok((incoming.into_inner(), channel)),
                Err(status) => Err(End::from_status(&status)),
            }
        };
        let mut stopping = self.stopping.clone();
        let incoming = tokio::select! {
            opened = tokio::time::timeout(WELCOME_TIMEOUT, open) => opened,
            () = discard(&mut self.events) => return Err(End::PortClosed),
            _ = stopping.wait_for(|stopping| *stopping) => return Err(End::Stopping),
        };
        match incoming {
            Ok(Ok((incoming, channel))) => Ok(Streams { outgoing, incoming, channel }),
            Ok(Err(end)) => Err(end),
            Err(_) => Err(End::Lost("no answer".to_owned())),
        }
    }

    /// One session, from hello to its end.
    async fn session(
        &mut self,
        controller: &str,
        outgoing: mpsc::Sender<proto::ToController>,
        incoming: Streaming<proto::ToRelay>,
        channel: Channel,
    ) -> End {
        let lost_before = self.events.lost();
        if let Err(closed) = self.controller_up().await {
            return closed.into();
        }
        let mut stopping = self.stopping.clone();
        let downwards = Downwards {
            port: &self.port,
            overlay: &self.overlay,
            controller,
            node: self.node,
            term: &mut self.term,
            incoming,
        };
        let upwards = upwards(&mut self.events, lost_before, outgoing, &self.port, stopping.clone());
        let end = tokio::select! {
            end = downwards.run() => end,
            end = upwards => end,
            never = self.renewal.run(channel) => match never {},
            _ = stopped_for(&mut stopping, GOODBYE_TIMEOUT) => End::Stopping,
        };
        match end {
            End::PortClosed | End::Stopping => end,
            End::Lost(_) | End::Unreachable(_) | End::Elsewhere(_) | End::Refused(_) | End::Void(_)
                if *stopping.borrow() =>
            {
                End::Stopping
            }
            End::Lost(_) | End::Unreachable(_) | End::Elsewhere(_) | End::Refused(_) | End::Void(_) => {
                match self.port.command_each(|| RelayCommand::ControllerDown).await {
                    Ok(()) => end,
                    Err(closed) => closed.into(),
                }
            }
        }
    }

    /// Ends the links of SFUs, which then go to other relays, and takes no more, until a session begins again: its first
    /// messages bring the keys of tokens back.
    async fn serve_nobody(&self) -> Result<(), PortClosed> {
        self.overlay.leave();
        self.port.command_each(|| RelayCommand::Controller(ToRelay::TokenKeys(Vec::new()))).await
    }

    /// Tells the cores, the first worker's first: its hello is the relay's.
    async fn controller_up(&self) -> Result<(), PortClosed> {
        self.port.command(RelayCommand::ControllerUp).await?;
        // Once this look returns, the hello is queued.
        self.port.inspect(|_, _| ()).await?;
        for worker in 1..self.port.workers() {
            self.port.command_worker(worker, RelayCommand::ControllerUp).await?;
        }
        Ok(())
    }

    /// Waits for the next attempt. What the core still had for the ended session is thrown away.
    async fn between_sessions(&mut self, pause: Duration) -> Result<(), PortClosed> {
        // Once this look returns, the cores have heard that the session is over, and whatever they said before is queued.
        self.port.inspect_each(|_, _| ()).await?;
        loop {
            tokio::select! {
                biased;
                event = self.events.recv() => event.map(drop).ok_or(PortClosed)?,
                () = std::future::ready(()) => break,
            }
        }
        let mut stopping = self.stopping.clone();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = discard(&mut self.events) => return Err(PortClosed),
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
        Ok(())
    }
}

/// Takes what the core says to a controller that is not there. Returns when the port is closed.
async fn discard(events: &mut WorkerEvents<ToController>) {
    while events.recv().await.is_some() {}
}

/// Resolves `after` the relay began to stop.
async fn stopped_for(stopping: &mut watch::Receiver<bool>, after: Duration) {
    // An error means that nobody can stop this relay in good order any more; it is being dropped.
    let _ = stopping.wait_for(|stopping| *stopping).await;
    tokio::time::sleep(after).await;
}

/// From the core to the controller, hello first.
async fn upwards(
    events: &mut WorkerEvents<ToController>,
    lost_before: u64,
    outgoing: mpsc::Sender<proto::ToController>,
    port: &Port<RecordedRelay>,
    stopping: watch::Receiver<bool>,
) -> End {
    let mut greeted = false;
    let mut merger = Merger::new(port.workers());
    while let Some((worker, message)) = events.recv().await {
        if events.lost() != lost_before {
            return End::Lost(
                "reports came faster than the controller takes them; all will be told again".to_owned(),
            );
        }
        let Some(mut message) = merger.merge(worker, message) else { continue };
        let is_goodbye = matches!(message, ToController::Goodbye);
        if let ToController::Hello(hello) = &mut message {
            greeted = true;
            if hello.addresses.is_empty() {
                hello.addresses.push(port.local_addr());
            }
        }
        if !greeted {
            continue;
        }
        if outgoing.send(message.into()).await.is_err() {
            return End::Lost("the connection broke".to_owned());
        }
        if is_goodbye && *stopping.borrow() {
            // The controller ends the session when it has read this; the caller waits for that, but not forever.
            drop(outgoing);
            return std::future::pending().await;
        }
    }
    End::PortClosed
}

/// From the controller to the core.
struct Downwards<'a> {
    port: &'a Port<RecordedRelay>,
    overlay: &'a Overlay,
    controller: &'a str,
    node: NodeIndex,
    term: &'a mut u64,
    incoming: Streaming<proto::ToRelay>,
}

impl Downwards<'_> {
    async fn run(mut self) -> End {
        match tokio::time::timeout(WELCOME_TIMEOUT, self.next()).await {
            Ok(Ok(message)) => {
                if let Err(end) = self.welcome(message).await {
                    return end;
                }
            }
            Ok(Err(end)) => return end,
            Err(_) => return End::Lost("no welcome".to_owned()),
        }
        loop {
            let handled = match self.next().await {
                Ok(message) => self.handle(message).await,
                Err(end) => return end,
            };
            if let Err(end) = handled {
                return end;
            }
        }
    }

    async fn next(&mut self) -> Result<ToRelay, End> {
        match self.incoming.message().await {
            Ok(Some(message)) => message.try_into().map_err(|error: control_proto::ConvertError| {
                End::Lost(format!("the controller sent what is not understood: {error}"))
            }),
            Ok(None) => Err(End::Lost("the controller ended the session".to_owned())),
            Err(status) => Err(End::from_status(&status)),
        }
    }

    async fn welcome(&mut self, message: ToRelay) -> Result<(), End> {
        let ToRelay::Welcome(welcome) = &message else {
            return Err(End::Lost("the controller did not begin with a welcome".to_owned()));
        };
        if welcome.term < *self.term {
            let reason = format!("it leads by term {}, another leads by {}", welcome.term, self.term);
            return Err(End::Lost(reason));
        }
        if welcome.node != self.node {
            let reason = format!(
                "it calls this relay node {}, its certificate was given for node {}: remove state_dir to join anew",
                welcome.node, self.node
            );
            return Err(End::Lost(reason));
        }
        *self.term = welcome.term;
        let term = welcome.term;
        self.port.command_each(|| RelayCommand::Controller(message.clone())).await?;
        self.overlay.controller_connected(true);
        info!(controller = self.controller, node = self.node.0, term, "controller connected");
        Ok(())
    }

    /// The core hears of it first: it would close links to neighbours that it does not know.
    async fn handle(&mut self, message: ToRelay) -> Result<(), End> {
        let (neighbours, keys) = match &message {
            ToRelay::Neighbours(neighbours) => (Some(neighbours.clone()), None),
            ToRelay::TokenKeys(keys) => (None, Some(keys.clone())),
            ToRelay::Welcome(_)
            | ToRelay::Table(_)
            | ToRelay::TableDelta(_)
            | ToRelay::Stamp { .. }
            | ToRelay::PublicationGranted { .. }
            | ToRelay::PublicationRefused { .. }
            | ToRelay::SubscriptionRefused { .. }
            | ToRelay::Stream(_)
            | ToRelay::StreamGone { .. }
            | ToRelay::Namespaces(_)
            | ToRelay::Trace(_) => (None, None),
            ToRelay::Drain { draining } => {
                // First, so that whoever comes meanwhile is not taken in.
                self.overlay.drain(*draining);
                (None, None)
            }
        };
        log(&message);
        self.port.command_each(|| RelayCommand::Controller(message.clone())).await?;
        if let Some(neighbours) = neighbours {
            self.overlay.replace_neighbours(neighbours);
        }
        if let Some(keys) = keys {
            self.overlay.replace_token_keys(keys);
        }
        Ok(())
    }
}

fn log(message: &ToRelay) {
    match message {
        ToRelay::Neighbours(neighbours) => info!(neighbours = neighbours.len(), "neighbours assigned"),
        ToRelay::Table(table) => {
            debug!(epoch = table.epoch.0, rows = table.rows(), "tables received")
        }
        ToRelay::TableDelta(delta) => {
            debug!(
                epoch = delta.epoch.0,
                base = delta.base.0,
                rows = delta.rows(),
                "changes of tables received"
            );
        }
        ToRelay::Stamp { epoch } => debug!(epoch = epoch.0, "epoch takes effect"),
        ToRelay::Stream(entry) => debug!(
            stream = %entry.key,
            revision = entry.revision,
            destinations = entry.destinations.len(),
            subscriptions = entry.subscriptions.len(),
            "stream entry"
        ),
        ToRelay::StreamGone { key } => debug!(stream = %key, "stream gone"),
        ToRelay::PublicationGranted { publication, key, incarnation: _ } => {
            debug!(publication = publication.0, stream = %key, "publication granted");
        }
        ToRelay::PublicationRefused { publication, limit: _, reason } => {
            info!(publication = publication.0, reason, "publication refused");
        }
        ToRelay::SubscriptionRefused { subscription, reason } => {
            info!(subscription = subscription.0, reason, "subscription refused");
        }
        ToRelay::TokenKeys(keys) => debug!(keys = keys.len(), "token keys received"),
        ToRelay::Namespaces(rates) => debug!(named = rates.named.len(), "rates of namespaces received"),
        ToRelay::Drain { draining: true } => info!("this relay is to be empty: SFUs are sent to others"),
        ToRelay::Drain { draining: false } => debug!("this relay takes in SFUs"),
        ToRelay::Trace(request) => {
            debug!(stream = %request.key, duration_ms = request.duration.as_millis(), "a stream is traced");
        }
        ToRelay::Welcome(_) => {}
    }
}
