//! A relay from its start to its end.

use crate::api::{Api, ApiListener, Registry, Running, seats};
use crate::backoff::Backoff;
use crate::clock;
use crate::config::Config;
use crate::diallers::Diallers;
use crate::error::RelayError;
use crate::identity::{Identity, Store};
use crate::join;
use crate::overlay::Overlay;
use crate::recording::{self, Made, RecordedRelay, RelayRecording};
use crate::renewal::Renewal;
use crate::session::Sessions;
use crate::silence::{SilentLinks, watch_silence};
use control_proto::cli::ConfigError;
use control_proto::recorder::Recorder;
use link_io::{
    Port, PortClosed, PortConfig, PortError, Sink, Trust, Upcall, WorkerEvents, worker_event_queue,
};
use relay_core::{Notice, Relay, RelayCommand, RelayConfig, RelayEvent, Worker};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, watch};
use tokio::task::{JoinHandle, JoinSet};
use tracing::{Instrument, Span, info, info_span};
use wire_format::NodeIndex;
use wire_format::control::{RelayHello, ToController};

/// Reports of the core that wait for the session with the controller. More end the session, and all is told again.
const EVENTS_MAX: usize = 1 << 16;
/// Notices that a watcher may be behind; one that is further behind misses the oldest.
const NOTICES_MAX: usize = 1024;
/// For SFUs to move to other relays when this one stops. Those that know no other stay, and are cut off after that.
const MOVE_TIMEOUT: Duration = Duration::from_secs(4);
/// Between two looks at how many are left.
const MOVE_POLL: Duration = Duration::from_millis(50);
/// For the session to end after a goodbye.
const SESSION_END_TIMEOUT: Duration = Duration::from_secs(1);

/// A running relay. Dropping it stops it at once, without a word to anyone.
pub struct RelayNode {
    name: String,
    node: NodeIndex,
    api_address: SocketAddr,
    port: Port<RecordedRelay>,
    overlay: Arc<Overlay>,
    stop: watch::Sender<bool>,
    sessions: JoinHandle<()>,
    /// Diallers and what they listen to; they end when this is dropped.
    links: JoinSet<()>,
    /// Likewise.
    api: JoinSet<()>,
    span: Span,
}

/// Runs a relay until `shutdown` resolves, then stops it in good order: controller, neighbours and SFUs are told.
///
/// # Errors
/// If it cannot start, or its relay port stops by itself.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), RelayError> {
    let mut shutdown = std::pin::pin!(shutdown);
    let mut relay = tokio::select! {
        started = RelayNode::start(config) => started?,
        () = &mut shutdown => return Ok(()),
    };
    tokio::select! {
        () = shutdown => {
            relay.stop().await;
            Ok(())
        }
        () = relay.ended() => Err(RelayError::PortStopped),
    }
}

impl RelayNode {
    /// Joins the overlay unless that was done before (which waits for a controller), and opens the relay port.
    ///
    /// # Errors
    /// If a file, an address or the join is refused.
    pub async fn start(config: Config) -> Result<RelayNode, RelayError> {
        let seed = random_seed()?;
        let token = read_api_token(&config)?;
        let listener = ApiListener::bind(&config.api).await?;
        let api_address = listener.address();
        let (running, is_running) = watch::channel(None);
        let mut api = JoinSet::new();
        let router = Api::new(is_running, token).router();
        api.spawn(async move {
            // Never returns by itself: errors of single connections end those only.
            let _ = axum::serve(listener, router).await;
        });

        let store = Store::new(&config.state_dir);
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2), seed);
        let identity = join::identity(&config, &store, backoff).await?;
        let (name, node) = (identity.membership.name.clone(), identity.membership.node);
        let controllers = controllers(&config, &identity)?;
        let span = info_span!("relay", relay = name);

        let (stop, stopping) = watch::channel(false);
        let overlay =
            Arc::new(Overlay::new(node, span.clone(), stopping.clone(), config.limits.memory_bytes));
        let hello = hello(&config, &identity);
        let region = Arc::from(hello.region.as_str());
        let notices = broadcast::Sender::new(NOTICES_MAX);
        let (port, events) = open_port(&config, &identity, hello, &overlay, seed, &notices)?;
        let address = port.local_addr();
        span.in_scope(|| info!(node = node.0, %address, api = %api_address, "relay port open"));

        let renewal = Renewal::new(store, identity, port.clone(), Arc::clone(&overlay), seed)
            .map_err(|error| RelayError::Tls(error.to_string()))?;
        let shared = Arc::clone(&overlay);
        let sessions = Sessions::new(port.clone(), events, shared, controllers, renewal, stopping, seed);
        let overrides = config.neighbour_addresses;
        let (silence, silent) = watch::channel(SilentLinks::default());
        let diallers =
            Diallers { port: port.clone(), overlay: Arc::clone(&overlay), node, overrides, silent, seed };
        let mut links = JoinSet::new();
        links.spawn(watch_silence(port.clone(), Arc::clone(&overlay), silence).instrument(span.clone()));
        links.spawn(diallers.run().instrument(span.clone()));
        let sessions = tokio::spawn(sessions.run().instrument(span.clone()));
        running.send_replace(Some(Running {
            name: Arc::from(name.as_str()),
            region,
            port: port.clone(),
            overlay: Arc::clone(&overlay),
            registry: Arc::new(Registry::new(config.plain)),
            notices,
            seats: seats(),
        }));
        Ok(RelayNode { name, node, api_address, port, overlay, stop, sessions, links, api, span })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its index in the overlay.
    pub fn node(&self) -> NodeIndex {
        self.node
    }

    /// Where the relay port is bound.
    pub fn port_address(&self) -> SocketAddr {
        self.port.local_addr()
    }

    /// Where the local API listens.
    pub fn api_address(&self) -> SocketAddr {
        self.api_address
    }

    /// The relay port, to look into the core.
    pub fn port(&self) -> &Port<RecordedRelay> {
        &self.port
    }

    /// Resolves when the relay has stopped by itself, which only a failure of its port makes it do.
    pub async fn ended(&mut self) {
        // A panic of the task is an end as well.
        let _ = (&mut self.sessions).await;
    }

    /// Stops in good order: lets SFUs move to other relays, tells controller and neighbours, and gives them a moment to read
    /// it. Takes 7 s at most.
    pub async fn stop(mut self) {
        self.span.in_scope(|| info!("stopping"));
        // A port that is closed already has nobody left.
        let _ = tokio::time::timeout(MOVE_TIMEOUT, self.empty()).await;
        self.stop.send_replace(true);
        self.links.abort_all();
        // A port that is closed already has nobody left to tell.
        if self.port.command_each(|| RelayCommand::Shutdown).await.is_ok() {
            let _ = tokio::time::timeout(SESSION_END_TIMEOUT, &mut self.sessions).await;
            self.port.close().await;
        }
        self.span.in_scope(|| info!("stopped"));
    }

    /// Sends SFUs to other relays, and returns when none is left. Media flows meanwhile.
    async fn empty(&self) -> Result<(), PortClosed> {
        self.overlay.drain(true);
        self.port.command_each(|| RelayCommand::Drain).await?;
        let mut looks = tokio::time::interval(MOVE_POLL);
        while self.port.inspect_each(|relay, _| relay.clients()).await?.into_iter().any(|clients| clients > 0)
        {
            looks.tick().await;
        }
        Ok(())
    }

    /// Stops at once without a word to anyone, as a crash would.
    pub fn kill(self) {
        drop(self);
    }
}

impl Drop for RelayNode {
    fn drop(&mut self) {
        self.sessions.abort();
        self.links.abort_all();
        self.api.abort_all();
        self.port.kill();
    }
}

/// Binds the first of the configured addresses that this host has.
fn open_port(
    config: &Config,
    identity: &Identity,
    hello: RelayHello,
    overlay: &Arc<Overlay>,
    seed: u64,
    notices: &broadcast::Sender<Notice>,
) -> Result<(Port<RecordedRelay>, WorkerEvents<ToController>), RelayError> {
    let recorder = recorder(config)?;
    let began_unix_ms = recording::unix_ms(clock::calendar());
    let mut candidates = config.listen.iter().peekable();
    loop {
        let bind = *candidates.next().expect("a checked configuration listens somewhere");
        let (reports, events) = worker_event_queue(EVENTS_MAX, config.workers.into());
        let core = |index| {
            let relay_config = RelayConfig { hello: hello.clone(), seed: seed ^ u64::from(index) };
            let worker = Worker { index, count: config.workers };
            let (streams_max, client_rate) = (config.limits.streams, config.client_rate);
            let made = Made { config: &relay_config, worker, streams_max, client_rate, began_unix_ms };
            let recording =
                recorder.as_ref().map(|recorder| RelayRecording::begin(recorder, link_io::now(), &made));
            let mut relay = Relay::of_worker(relay_config, worker);
            relay.set_streams_max(config.limits.streams);
            relay.limit_clients(config.client_rate);
            RecordedRelay::new(relay, recording)
        };
        let sinks = reports.into_iter().map(|reports| sink(reports, notices.clone()));
        let cores = (0..config.workers).map(core).zip(sinks).collect();
        let port_config = PortConfig {
            bind,
            receive_buffer_bytes: config.receive_buffer_bytes as usize,
            send_buffer_bytes: config.send_buffer_bytes as usize,
            identity: Some(identity.for_port()),
            versions: config.wire_versions,
            limits: link_io::Limits { links: config.limits.links, ..link_io::Limits::default() },
            ..PortConfig::new(Trust::Ca(identity.ca.clone()))
        };
        match Port::open_with_workers(port_config, cores, overlay.admission()) {
            Ok(port) => return Ok((port, events)),
            Err(PortError::Bind { address, source })
                if candidates.peek().is_some() && lacks_family(&source) =>
            {
                info!(%address, %source, "this host has no such address, trying the next");
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Where inputs are recorded, if they are to be.
fn recorder(config: &Config) -> Result<Option<Recorder>, RelayError> {
    let Some(record) = &config.record else { return Ok(None) };
    let header = recording::header(recording::unix_ms(clock::calendar()));
    let advice = "`record` names the file of a recording: this user must be able to write it";
    let failed = |source| RelayError::File { path: record.file.clone(), source, advice };
    Recorder::start(record, &header).map(Some).map_err(failed)
}

/// Tells reports to the controller from notices for whoever watches.
fn sink(mut reports: Sink<ToController>, notices: broadcast::Sender<Notice>) -> Sink<RelayEvent> {
    Box::new(move |upcall| match upcall {
        Upcall::Event(RelayEvent::ToController(message)) => reports(Upcall::Event(message)),
        Upcall::Event(RelayEvent::Notice(notice)) => {
            // Nobody has to watch.
            let _ = notices.send(notice);
            Ok(())
        }
        Upcall::Delivery(delivery, packet) => reports(Upcall::Delivery(delivery, packet)),
    })
}

/// EAFNOSUPPORT or EADDRNOTAVAIL: a host without IPv6.
fn lacks_family(error: &std::io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.raw_os_error() == Some(EAFNOSUPPORT) || error.kind() == std::io::ErrorKind::AddrNotAvailable
}

fn hello(config: &Config, identity: &Identity) -> RelayHello {
    RelayHello {
        name: identity.membership.name.clone(),
        node: Some(identity.membership.node),
        region: config.region.clone().or(identity.membership.region.clone()).unwrap_or_default(),
        isp: config.isp.clone(),
        tags: config.tags.clone(),
        position: config.position,
        addresses: config.advertise.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        wire_versions: config.wire_versions,
        epoch: None,
        table_deltas: true,
        streams: Vec::new(),
        traces: true,
    }
}

fn controllers(config: &Config, identity: &Identity) -> Result<Vec<String>, RelayError> {
    let configured = [&config.controllers, &identity.membership.controllers];
    match configured.into_iter().find(|list| !list.is_empty()) {
        Some(list) => Ok(list.clone()),
        None => {
            let advice =
                "and the join named none: set for instance controllers = [\"controller.example:4710\"]";
            Err(ConfigError::missing("controllers", advice).into())
        }
    }
}

fn read_api_token(config: &Config) -> Result<Option<Arc<str>>, RelayError> {
    let Some(path) = &config.api.token_file else { return Ok(None) };
    let advice =
        "api_token_file must hold a token of 16 characters or more, and this user must be able to read it";
    let failed = |source| RelayError::File { path: path.clone(), source, advice };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let token = text.trim();
    if token.len() < 16 {
        return Err(failed(std::io::Error::other("the token is too short")));
    }
    Ok(Some(Arc::from(token)))
}

fn random_seed() -> Result<u64, RelayError> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| RelayError::Tls("the system gives no random numbers".to_owned()))?;
    Ok(u64::from_be_bytes(bytes))
}
