//! A port as its process sees it.

use crate::config::{Admission, Expect, Identity, Limits, PortConfig, Refusal};
use crate::error::{LinkError, PortClosed, PortError, SendError};
use crate::handshake::{self, AcceptError, Agreed, CLOSE_NORMAL, canonical, connection_error};
use crate::link;
use crate::local::LocalQueue;
use crate::quic::{QuicSocket, endpoint};
use crate::sink::Sink;
use crate::slots::{Slot, Slots};
use crate::socket::PortSocket;
use crate::stats::{PortStats, SharedCounters};
use crate::tls::TlsConfigs;
use crate::wake::Wake;
use crate::worker::{Shared, ToWorker, Worker, WorkerHandle, lock_slots};
use relay_core::{Endpoint, LinkId};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use wire_format::session::{RefusalCode, Role};

/// How long [`Port::close`] waits until peers have been told.
const CLOSE_LINGER: Duration = Duration::from_millis(1500);
/// The TLS name asked for where any relay will do.
const ANY_RELAY: &str = "relay";

/// One UDP port with its worker thread and the core that the worker drives. Clones share it.
///
/// Dropping the last clone stops it at once; [`Port::close`] does so in good order.
pub struct Port<E: Endpoint> {
    inner: Arc<Inner<E>>,
}

impl<E: Endpoint> Clone for Port<E> {
    fn clone(&self) -> Port<E> {
        Port { inner: Arc::clone(&self.inner) }
    }
}

struct Inner<E: Endpoint> {
    endpoint: quinn::Endpoint,
    tls: Mutex<quinn::ClientConfig>,
    socket: Arc<PortSocket>,
    local: Arc<LocalQueue>,
    stop: Arc<AtomicBool>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
    links: Arc<Links<E>>,
}

/// What is needed to make links.
struct Links<E: Endpoint> {
    config: PortConfig,
    admission: Admission,
    worker: WorkerHandle<E>,
    slots: Arc<Mutex<Slots>>,
    counters: Arc<SharedCounters>,
    handshakes: Arc<Semaphore>,
}

impl<E: Endpoint> Port<E> {
    /// Binds the socket, starts the worker around `core` and, if there is an identity, lets diallers in as `admission`
    /// decides. What the core says to its process goes to `sink`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`PortError`] if the address is taken, or certificates or settings are unusable.
    pub fn open(
        config: PortConfig,
        core: E,
        admission: Admission,
        sink: Sink<E::Event>,
    ) -> Result<Port<E>, PortError> {
        check(&config)?;
        let tls = TlsConfigs::new(&config)?;
        let socket = Arc::new(PortSocket::bind(&config)?);
        let counters = Arc::new(SharedCounters::default());
        let quic = Arc::new(QuicSocket::new(
            Arc::clone(&socket),
            Arc::clone(&counters),
            config.limits.quic_datagrams,
        ));
        let endpoint = endpoint(Arc::clone(&quic), tls.server)?;
        let wake = Arc::new(Wake::new()?);
        let local = Arc::new(LocalQueue::new(config.limits.local_packets, Arc::clone(&counters)));
        let slots = Arc::new(Mutex::new(Slots::new(config.limits.links)));
        let stop = Arc::new(AtomicBool::new(false));
        let (handle, commands) = WorkerHandle::new(&config.limits, Arc::clone(&wake));
        let shared = Shared {
            socket: Arc::clone(&socket),
            quic,
            wake,
            local: Arc::clone(&local),
            slots: Arc::clone(&slots),
            counters: Arc::clone(&counters),
            stop: Arc::clone(&stop),
        };
        let worker = Worker::new(core, commands, shared, sink, &config.limits);
        let thread = thread::Builder::new()
            .name(format!("port-{}", socket.local().port()))
            .spawn(move || worker.run())?;
        let links = Arc::new(Links {
            handshakes: Arc::new(Semaphore::new(config.limits.handshakes)),
            config,
            admission,
            worker: handle,
            slots,
            counters,
        });
        tokio::spawn(accept_all(endpoint.clone(), Arc::clone(&links)));
        let inner = Inner {
            endpoint,
            tls: Mutex::new(tls.client),
            socket,
            local,
            stop,
            thread: Mutex::new(Some(thread)),
            links,
        };
        Ok(Port { inner: Arc::new(inner) })
    }

    /// Where the socket is bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.inner.socket.local()
    }

    /// Links to a peer. The core hears `Input::LinkUp` before anything that is given to this port after it returned.
    /// Gives up after the handshake timeout.
    ///
    /// # Errors
    /// [`LinkError`], by whose fault it is.
    pub async fn dial(&self, address: SocketAddr, expect: Expect, role: Role) -> Result<Link, LinkError> {
        let links = &self.inner.links;
        let place = Place::take(links).ok_or(LinkError::TooManyLinks(links.config.limits.links))?;
        let name = match &expect {
            Expect::Relay { name, node: _ } => name.as_str(),
            Expect::Upstream => ANY_RELAY,
        };
        let tls = self.inner.tls.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let connecting =
            self.inner.endpoint.connect_with(tls, address, name).map_err(|error| match error {
                quinn::ConnectError::EndpointStopping => LinkError::PortClosed,
                quinn::ConnectError::CidsExhausted
                | quinn::ConnectError::InvalidServerName(_)
                | quinn::ConnectError::InvalidRemoteAddress(_)
                | quinn::ConnectError::NoDefaultClientConfig
                | quinn::ConnectError::UnsupportedVersion => {
                    LinkError::Failed { address, reason: error.to_string() }
                }
            })?;
        let handshake = async {
            let connection = connecting.await.map_err(|error| connection_error(address, &error))?;
            handshake::dial(&links.config, place.slot, connection, address, expect, role).await
        };
        let agreed = tokio::time::timeout(links.config.limits.handshake_timeout, handshake)
            .await
            .map_err(|_| LinkError::Timeout(address))??;
        let (down, watch) = watch::channel(None);
        links.launch(agreed, place, down).await.map_err(|PortClosed| LinkError::PortClosed).map(|id| Link {
            id,
            address,
            down: watch,
        })
    }

    /// Gives the core a command, waiting for room in the queue.
    ///
    /// # Errors
    /// [`PortClosed`].
    pub async fn command(&self, command: E::Command) -> Result<(), PortClosed> {
        self.inner.links.worker.send(ToWorker::Command(command)).await.map_err(|_| PortClosed)
    }

    /// Looks into the core, on the worker's thread, between two inputs. Keep it short: media waits.
    ///
    /// # Errors
    /// [`PortClosed`].
    pub async fn inspect<R, F>(&self, look: F) -> Result<R, PortClosed>
    where
        R: Send + 'static,
        F: FnOnce(&E, &PortStats) -> R + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let look = move |core: &E, stats: &PortStats| {
            // Who asked may have stopped waiting.
            let _ = answer.send(look(core, stats));
        };
        self.inner.links.worker.send(ToWorker::Inspect(Box::new(look))).await.map_err(|_| PortClosed)?;
        answered.await.map_err(|_| PortClosed)
    }

    /// Hands an RTP or RTCP packet of this process to the core. Copies it and returns at once.
    ///
    /// # Errors
    /// [`SendError`]; the packet is then dropped and counted.
    pub fn send_rtp(&self, publication: u32, packet: &[u8], rtcp: bool) -> Result<(), SendError> {
        if self.inner.stop.load(Ordering::Relaxed) {
            return Err(SendError::Closed);
        }
        self.inner.local.push(publication, packet, rtcp)?;
        self.inner.links.worker.wake.wake();
        Ok(())
    }

    /// Presents another certificate from the next handshake on. Links that stand are not touched.
    ///
    /// # Errors
    /// [`PortError::Tls`] if it is unusable; the old one then stays.
    pub fn renew(&self, identity: Identity) -> Result<(), PortError> {
        let mut config = self.inner.links.config.clone();
        config.identity = Some(identity);
        let tls = TlsConfigs::new(&config)?;
        *self.inner.tls.lock().unwrap_or_else(PoisonError::into_inner) = tls.client;
        self.inner.endpoint.set_server_config(tls.server);
        Ok(())
    }

    /// Writes out what waits, closes every link and stops. Takes 2 s at most. Tell the core to say goodbye before.
    pub async fn close(&self) {
        self.inner.endpoint.set_server_config(None);
        // If the worker has stopped, there are no links to close.
        let _ = self.inner.links.worker.send(ToWorker::CloseAll).await;
        // What a peer has not heard by then it learns from silence.
        let _ = tokio::time::timeout(CLOSE_LINGER, self.inner.endpoint.wait_idle()).await;
        self.inner.stop();
        let thread = self.inner.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A worker that panicked has said so on stderr.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    /// Stops at once without a word to anyone, as a crash would.
    pub fn kill(&self) {
        self.inner.socket.mute();
        self.inner.stop();
    }
}

impl<E: Endpoint> Inner<E> {
    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.links.worker.wake.wake();
        self.endpoint.close(CLOSE_NORMAL.into(), b"the port is closed");
    }
}

impl<E: Endpoint> Drop for Inner<E> {
    fn drop(&mut self) {
        self.stop();
    }
}

fn check(config: &PortConfig) -> Result<(), PortError> {
    let links = config.limits.links;
    if links == 0 || links > Limits::LINKS_MAX {
        return Err(PortError::Config(format!(
            "limits.links is {links}, it must be between 1 and {}",
            Limits::LINKS_MAX
        )));
    }
    if config.ciphers.is_empty() {
        return Err(PortError::Config("ciphers is empty, name at least one".to_owned()));
    }
    Ok(())
}

/// A slot that is given back unless a link takes it.
struct Place<'a> {
    slots: &'a Mutex<Slots>,
    slot: Slot,
    taken: bool,
}

impl<'a> Place<'a> {
    fn take<E: Endpoint>(links: &'a Links<E>) -> Option<Place<'a>> {
        let slot = lock_slots(&links.slots).take()?;
        Some(Place { slots: &links.slots, slot, taken: false })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.taken {
            lock_slots(self.slots).give_back(self.slot.link);
        }
    }
}

impl<E: Endpoint> Links<E> {
    /// Gives an agreed link to the worker and starts its task.
    async fn launch(
        self: &Arc<Self>,
        agreed: Agreed,
        mut place: Place<'_>,
        down: watch::Sender<Option<Arc<str>>>,
    ) -> Result<LinkId, PortClosed> {
        let Agreed { attachment, connection, reader, writer, outbox } = agreed;
        let id = attachment.slot.link;
        let dialled = attachment.ready;
        tracing::info!(link = id.0, remote = %canonical(connection.remote_address()), dialled, peer = ?attachment.peer, "link up");
        self.worker.send(ToWorker::Attach(Box::new(attachment))).await.map_err(|_| PortClosed)?;
        place.taken = true;
        let task = link::LinkTask {
            id,
            connection,
            reader,
            writer,
            outbox,
            dialled,
            ready_timeout: self.config.limits.handshake_timeout,
            worker: self.worker.clone(),
            counters: Arc::clone(&self.counters),
            down,
        };
        tokio::spawn(task.run());
        Ok(id)
    }
}

/// Takes diallers in until the endpoint closes.
async fn accept_all<E: Endpoint>(endpoint: quinn::Endpoint, links: Arc<Links<E>>) {
    while let Some(incoming) = endpoint.accept().await {
        let Ok(permit) = Arc::clone(&links.handshakes).try_acquire_owned() else {
            links.counters.refused_handshakes.fetch_add(1, Ordering::Relaxed);
            incoming.refuse();
            continue;
        };
        let busy = links.handshakes.available_permits() < links.config.limits.handshakes / 2;
        if busy && incoming.may_retry() && !incoming.remote_address_validated() {
            // Cannot fail: it may be retried.
            let _ = incoming.retry();
            continue;
        }
        tokio::spawn(accept_one(incoming, Arc::clone(&links), permit));
    }
}

async fn accept_one<E: Endpoint>(
    incoming: quinn::Incoming,
    links: Arc<Links<E>>,
    permit: OwnedSemaphorePermit,
) {
    let address = canonical(incoming.remote_address());
    let handshake = async {
        let connection = incoming.accept()?.await?;
        let Some(place) = Place::take(&links) else {
            links.counters.refused_links.fetch_add(1, Ordering::Relaxed);
            let reason = format!("this relay holds {} links, as many as it may", links.config.limits.links);
            handshake::turn_away(connection, &Refusal::new(RefusalCode::Limit, reason)).await?;
            return Ok(None);
        };
        let agreed = handshake::accept(&links.config, place.slot, connection, &links.admission).await?;
        Ok::<_, AcceptError>(Some((agreed, place)))
    };
    let outcome = tokio::time::timeout(links.config.limits.handshake_timeout, handshake).await;
    drop(permit);
    match outcome {
        Ok(Ok(Some((agreed, place)))) => {
            // Nobody waits for the end of a link that was accepted; and with the port closed there is none.
            let _ = links.launch(agreed, place, watch::channel(None).0).await;
        }
        Ok(Ok(None)) => {}
        Ok(Err(AcceptError::Refused(refusal))) => {
            links.counters.refused_diallers.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%address, %refusal, "dialler refused");
        }
        Ok(Err(error @ (AcceptError::Failed(_) | AcceptError::Connection(_)))) => {
            links.counters.failed_handshakes.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%address, %error, "handshake failed");
        }
        Err(_) => {
            links.counters.failed_handshakes.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%address, "handshake took too long");
        }
    }
}

/// A link that this side dialled. Dropping it does not close the link.
#[derive(Clone, Debug)]
pub struct Link {
    id: LinkId,
    address: SocketAddr,
    down: watch::Receiver<Option<Arc<str>>>,
}

impl Link {
    /// Its name towards the core.
    pub fn id(&self) -> LinkId {
        self.id
    }

    /// The address that was dialled.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the link is gone, and says why. Cancel-safe.
    pub async fn down(&mut self) -> Arc<str> {
        match self.down.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_else(|| Arc::from("closed")),
            Err(_) => Arc::from("the port is closed"),
        }
    }
}
