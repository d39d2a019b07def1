//! The link of an SFU: connecting, staying connected, asking.

use crate::config::{Config, PublishOptions, SubscribeOptions};
use crate::error::{ConnectError, RelayError, RequestError};
use crate::inbox::Inbox;
use crate::publication::Publication;
use crate::router::{Request, RequestKind, Router, Standing};
use crate::stats::Stats;
use crate::subscription::Subscription;
use link_io::{Expect, Link, LinkError, Port, PortConfig, PortError, Trust, admit_nobody};
use relay_core::{Client, ClientCommand, ClientConfig};
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::net::lookup_host;
use tokio::sync::{Notify, mpsc, watch};
use wire_format::ClientKey;
use wire_format::session::Role;

/// Publications and subscriptions of one client.
const REQUESTS_MAX: usize = 4096;
/// Pause after the first failed attempt to connect.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Addresses tried of one relay's name.
const ADDRESSES_MAX: usize = 8;

/// A link to the overlay, kept up by itself. Clones share it.
#[derive(Clone)]
pub struct SfuLink {
    shared: Arc<Shared>,
}

/// What publications and subscriptions need of their client.
pub(crate) struct Shared {
    pub(crate) port: Port<Client>,
    pub(crate) router: Arc<Router>,
    config: Config,
    token: Mutex<String>,
    next_number: AtomicU32,
    endings: mpsc::UnboundedSender<ClientCommand>,
    relay: watch::Sender<Option<SocketAddr>>,
    last_loss: watch::Sender<Option<Arc<str>>>,
    /// Notified when the token was replaced.
    renewing: Arc<Notify>,
    reconnects: AtomicU64,
    too_large: AtomicU64,
    closing: Arc<Notify>,
}

impl Shared {
    /// Ends a publication or subscription; called when it is dropped, which cannot wait.
    pub(crate) fn end(&self, number: u32, command: ClientCommand) {
        self.router.remove(number);
        // Bounded by the number of requests; and when nobody takes it, the port is closed and nothing is left to end.
        let _ = self.endings.send(command);
    }

    fn current_token(&self) -> String {
        let newer = self.config.token_source.as_ref().and_then(|source| source());
        let mut token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(newer) = newer {
            *token = newer;
        }
        token.clone()
    }

    fn lost(&self, reason: &str) {
        self.last_loss.send_replace(Some(Arc::from(reason)));
    }

    pub(crate) fn count_too_large(&self) {
        self.too_large.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.closing.notify_one();
    }
}

impl SfuLink {
    /// Links to the first relay that accepts, each tried once; from then on the link is kept up by itself. Must be called
    /// within a tokio runtime.
    ///
    /// # Errors
    /// [`ConnectError`], with the reason of every relay.
    pub async fn connect(config: Config) -> Result<SfuLink, ConnectError> {
        if config.relays.is_empty() {
            return Err(ConnectError::NoRelays);
        }
        let router = Arc::new(Router::new());
        let port = open_port(&config, &router)?;
        let (endings, ended) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            port,
            router,
            token: Mutex::new(config.token.clone()),
            config,
            next_number: AtomicU32::new(1),
            endings,
            relay: watch::Sender::new(None),
            last_loss: watch::Sender::new(None),
            renewing: Arc::new(Notify::new()),
            reconnects: AtomicU64::new(0),
            too_large: AtomicU64::new(0),
            closing: Arc::new(Notify::new()),
        });
        let mut tries = Vec::new();
        for index in 0..shared.config.relays.len() {
            match dial(&shared, index).await {
                Ok(link) => {
                    tokio::spawn(carry_endings(shared.port.clone(), ended));
                    let keeper = Keeper {
                        port: shared.port.clone(),
                        router: Arc::clone(&shared.router),
                        closing: Arc::clone(&shared.closing),
                        shared: Arc::downgrade(&shared),
                        index,
                    };
                    tokio::spawn(keeper.keep_up(link));
                    return Ok(SfuLink { shared });
                }
                Err(error) => tries.push((shared.config.relays[index].clone(), error)),
            }
        }
        Err(ConnectError::Relays(tries))
    }

    /// Begins a stream. Returns once the overlay has granted it.
    ///
    /// # Errors
    /// [`RequestError`], with the overlay's reason if it refused.
    pub async fn publish(&self, options: PublishOptions) -> Result<Publication, RequestError> {
        let PublishOptions { room, user, stream, kind, budget, protect, description } = options;
        kind.slack(budget)?;
        description.check(kind)?;
        let keyframe = Arc::new(Notify::new());
        let requested = RequestKind::Publication(Arc::clone(&keyframe));
        let (number, standing) = self.ask(requested)?;
        let publication = Publication { number, keyframe, standing, shared: Arc::clone(&self.shared) };
        let command = ClientCommand::Publish {
            request: number,
            room,
            user,
            stream,
            kind,
            budget,
            protect,
            description,
        };
        self.answered(command, publication.standing.clone()).await?;
        Ok(publication)
    }

    /// Receives what matches, now and later. Returns once the overlay has agreed.
    ///
    /// # Errors
    /// [`RequestError`], with the overlay's reason if it refused.
    pub async fn subscribe(&self, options: SubscribeOptions) -> Result<Subscription, RequestError> {
        let inbox = Arc::new(Inbox::new(self.shared.config.subscription_queue));
        let kind = RequestKind::Subscription(options.clone(), Arc::clone(&inbox));
        let (number, standing) = self.ask(kind)?;
        let subscription = Subscription { number, inbox, standing, shared: Arc::clone(&self.shared) };
        let SubscribeOptions { room, user, stream } = options;
        let command = ClientCommand::Subscribe { request: number, room, user, stream };
        self.answered(command, subscription.standing.clone()).await?;
        Ok(subscription)
    }

    fn ask(&self, kind: RequestKind) -> Result<(u32, watch::Receiver<Standing>), RequestError> {
        if self.shared.router.len() >= REQUESTS_MAX {
            return Err(RequestError::TooMany(REQUESTS_MAX));
        }
        let number = self.shared.next_number.fetch_add(1, Ordering::Relaxed);
        let (standing, watch) = watch::channel(Standing::Asked);
        if !self.shared.router.add(number, Request { standing, kind }) {
            return Err(RequestError::Closed);
        }
        Ok((number, watch))
    }

    async fn answered(
        &self,
        command: ClientCommand,
        mut standing: watch::Receiver<Standing>,
    ) -> Result<(), RequestError> {
        let answer = async {
            self.shared.port.command(command).await.map_err(|_| RequestError::Closed)?;
            let standing = standing
                .wait_for(|standing| *standing != Standing::Asked)
                .await
                .map_err(|_| RequestError::Closed)?
                .clone();
            match standing {
                Standing::Asked | Standing::Granted => Ok(()),
                Standing::Refused(code, reason) => Err(RequestError::Refused { code, reason }),
                Standing::Closed => Err(RequestError::Closed),
            }
        };
        let limit = self.shared.config.request_timeout;
        tokio::time::timeout(limit, answer).await.unwrap_or(Err(RequestError::Timeout(limit)))
    }

    /// Uses another token from now on: links again with it, to the same relay. The present link carries media until the
    /// next stands; if that is refused, it stays, for as long as its own token holds.
    pub fn set_token(&self, token: impl Into<String>) {
        *self.shared.token.lock().unwrap_or_else(PoisonError::into_inner) = token.into();
        self.shared.renewing.notify_one();
    }

    /// The relay linked to at present, and every change of it. `None` while there is no link.
    pub fn relay(&self) -> watch::Receiver<Option<SocketAddr>> {
        self.shared.relay.subscribe()
    }

    /// Why a link was lost or an attempt failed, the last time that one was, in words; and every such event from now on.
    pub fn last_loss(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.shared.last_loss.subscribe()
    }

    /// Measurements and counters.
    ///
    /// # Errors
    /// [`RequestError::Closed`].
    pub async fn stats(&self) -> Result<Stats, RequestError> {
        let mut stats = self.shared.port.inspect(Stats::new).await.map_err(|_| RequestError::Closed)?;
        stats.relay = *self.shared.relay.borrow();
        stats.reconnects = self.shared.reconnects.load(Ordering::Relaxed);
        stats.dropped_too_large += self.shared.too_large.load(Ordering::Relaxed);
        Ok(stats)
    }

    /// Says goodbye and closes. Publications and subscriptions end. Takes 2 s at most.
    pub async fn close(&self) {
        self.shared.router.close();
        self.shared.closing.notify_one();
        // A port that is closed already has said goodbye.
        let _ = self.shared.port.command(ClientCommand::Shutdown).await;
        self.shared.port.close().await;
        self.shared.relay.send_replace(None);
    }
}

fn open_port(config: &Config, router: &Arc<Router>) -> Result<Port<Client>, PortError> {
    let open = |bind| {
        let mut port = PortConfig::new(Trust::Fingerprint(config.ca_fingerprint.0));
        port.bind = bind;
        let seed = RandomState::new().hash_one(0);
        Port::open(port, Client::new(ClientConfig { seed, key: random_key() }), admit_nobody(), router.sink())
    };
    match config.bind {
        Some(bind) => open(bind),
        // Both families where the host has IPv6, one where it has not.
        None => open(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))).or_else(|error| match error {
            PortError::Bind { .. } => open(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
            PortError::System(_) | PortError::Tls(_) | PortError::Config(_) => Err(error),
        }),
    }
}

/// By which relays know this client on its next link. Without random numbers it begins anew there.
fn random_key() -> Option<ClientKey> {
    let mut key = [0; 16];
    aws_lc_rs::rand::fill(&mut key).ok().map(|()| ClientKey(key))
}

/// Links to one of the configured relays.
async fn dial(shared: &Shared, index: usize) -> Result<Link, RelayError> {
    let addresses = lookup_host(&shared.config.relays[index]).await.map_err(RelayError::Resolve)?;
    let mut last = RelayError::NoAddress;
    for address in addresses.take(ADDRESSES_MAX) {
        let token = shared.current_token();
        match shared.port.dial(address, Expect::Upstream, Role::Client { token }).await {
            Ok(link) => {
                tracing::info!(relay = %shared.config.relays[index], %address, "linked");
                shared.relay.send_replace(Some(address));
                return Ok(link);
            }
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

async fn carry_endings(port: Port<Client>, mut ended: mpsc::UnboundedReceiver<ClientCommand>) {
    while let Some(command) = ended.recv().await {
        if port.command(command).await.is_err() {
            return;
        }
    }
}

/// Keeps the link up until the client is closed or dropped. It does not keep the client alive.
struct Keeper {
    port: Port<Client>,
    router: Arc<Router>,
    closing: Arc<Notify>,
    shared: Weak<Shared>,
    /// The relay in use.
    index: usize,
}

impl Keeper {
    async fn keep_up(mut self, mut link: Link) {
        loop {
            let Some(shared) = self.shared.upgrade() else { break };
            let renewing = Arc::clone(&shared.renewing);
            drop(shared);
            let next = tokio::select! {
                reason = link.down() => {
                    tracing::warn!(relay = %link.address(), %reason, "link lost, connecting again");
                    if let Some(shared) = self.shared.upgrade() {
                        shared.lost(&reason);
                        shared.relay.send_replace(None);
                    }
                    self.dial_again(true).await
                }
                // The link carries media until everything has gone over to the next one.
                () = self.router.leaving.notified() => {
                    tracing::info!(relay = %link.address(), "relay leaves, connecting elsewhere");
                    let shared = self.shared.clone();
                    let lost = async {
                        let reason = link.down().await;
                        if let Some(shared) = shared.upgrade() {
                            shared.lost(&reason);
                            shared.relay.send_replace(None);
                        }
                        std::future::pending::<()>().await
                    };
                    tokio::select! {
                        biased;
                        next = self.dial_again(false) => next,
                        () = lost => None,
                    }
                }
                () = renewing.notified() => {
                    tracing::info!(relay = %link.address(), "the token was replaced, linking again");
                    match self.dial_here().await {
                        Some(next) => Some(next),
                        None => continue,
                    }
                }
                () = self.closing.notified() => break,
            };
            match next {
                Some(next) => link = next,
                None => break,
            }
        }
        // Whether it was closed or just dropped: the relay is told. A port that is closed already has told it.
        self.router.close();
        let _ = self.port.command(ClientCommand::Shutdown).await;
        self.port.close().await;
    }

    /// Tries the present relay once. `None` if the present link is to stay.
    async fn dial_here(&mut self) -> Option<Link> {
        let shared = self.shared.upgrade()?;
        match dial(&shared, self.index).await {
            Ok(link) => {
                shared.reconnects.fetch_add(1, Ordering::Relaxed);
                Some(link)
            }
            Err(error) => {
                shared.lost(&error.to_string());
                tracing::warn!(%error, "no link with the new token; the present one stays");
                None
            }
        }
    }

    /// Tries relay after relay, the next one first, with growing pauses. `None` once the client is closed. `unlinked`: there is
    /// no link meanwhile.
    async fn dial_again(&mut self, unlinked: bool) -> Option<Link> {
        let mut pause = BACKOFF_MIN;
        loop {
            let longest = {
                let shared = self.shared.upgrade()?;
                for _ in 0..shared.config.relays.len() {
                    self.index = (self.index + 1) % shared.config.relays.len();
                    let dialled = tokio::select! {
                        dialled = dial(&shared, self.index) => dialled,
                        () = self.closing.notified() => return None,
                    };
                    match dialled {
                        Ok(link) => {
                            shared.reconnects.fetch_add(1, Ordering::Relaxed);
                            return Some(link);
                        }
                        Err(RelayError::Link(LinkError::PortClosed)) => return None,
                        Err(error) => {
                            shared.lost(&error.to_string());
                            tracing::warn!(relay = %shared.config.relays[self.index], %error, "no link");
                        }
                    }
                }
                if unlinked {
                    shared.relay.send_replace(None);
                }
                shared.config.backoff_max.max(BACKOFF_MIN)
            };
            // Half of it random, so that the clients of a relay that failed do not all come at once.
            let half = pause / 2;
            let spread = u32::try_from(RandomState::new().hash_one(0) % 1024).unwrap_or(0);
            tokio::select! {
                () = tokio::time::sleep(half + half * spread / 1024) => {}
                () = self.closing.notified() => return None,
            }
            pause = (pause * 2).min(longest);
        }
    }
}
