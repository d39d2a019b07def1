//! A port as its process sees it.

use crate::config::{Admission, Expect, Identity, Limits, PortConfig, Refusal};
use crate::error::{LinkError, PortClosed, PortError, SendError};
use crate::hand_over::Mailbox;
use crate::handshake::{self, AcceptError, Agreed, CLOSE_NORMAL, canonical, connection_error};
use crate::link;
use crate::local::LocalQueue;
use crate::plain::{PlainPorts, PlainSocket};
use crate::quic::{QuicSocket, endpoint};
use crate::seal::GENERATION_PACKETS_LOG2;
use crate::sink::Sink;
use crate::slots::{Slot, Slots, slot_of_link};
use crate::socket::PortSocket;
use crate::stats::{PortStats, SharedCounters};
use crate::steer::{WORKERS_MAX, worker_of_slot};
use crate::tls::TlsConfigs;
use crate::wake::Wake;
use crate::worker::{Shared, ToWorker, Worker, WorkerHandle, lock_slots};
use relay_core::{Endpoint, LinkId, Peer, PlainPort};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use wire_format::Timestamp;
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
    /// By worker.
    sockets: Vec<Arc<PortSocket>>,
    local: Arc<LocalQueue>,
    stop: Arc<AtomicBool>,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
    links: Arc<Links<E>>,
}

/// What is needed to make links.
struct Links<E: Endpoint> {
    config: PortConfig,
    admission: Admission,
    workers: Vec<WorkerHandle<E>>,
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
        Port::open_with_workers(config, vec![(core, sink)], admission)
    }

    /// The same with several workers, each around a core of its own. The first does what is done once: it hears the
    /// messages of links between relays, and sends what this process hands in.
    ///
    /// # Errors
    /// [`PortError`], as for [`Port::open`].
    pub fn open_with_workers(
        config: PortConfig,
        cores: Vec<(E, Sink<E::Event>)>,
        admission: Admission,
    ) -> Result<Port<E>, PortError> {
        check(&config, cores.len())?;
        let tls = TlsConfigs::new(&config)?;
        let sockets: Vec<_> =
            PortSocket::bind_group(&config, cores.len())?.into_iter().map(Arc::new).collect();
        let counters = Arc::new(SharedCounters::default());
        let quic = Arc::new(QuicSocket::new(
            Arc::clone(&sockets[0]),
            Arc::clone(&counters),
            config.limits.quic_datagrams,
        ));
        let endpoint = endpoint(Arc::clone(&quic), tls.server)?;
        let slots = Arc::new(Mutex::new(Slots::new(config.limits.links, cores.len())));
        let stop = Arc::new(AtomicBool::new(false));
        let wakes = cores.iter().map(|_| Wake::new().map(Arc::new)).collect::<Result<Vec<_>, _>>()?;
        let mailboxes: Arc<[_]> = wakes.iter().map(|wake| Arc::new(Mailbox::new(Arc::clone(wake)))).collect();
        let locals: Vec<_> = cores
            .iter()
            .map(|_| Arc::new(LocalQueue::new(config.limits.local_packets, Arc::clone(&counters))))
            .collect();
        let mut workers = Vec::new();
        let mut threads = Vec::new();
        for (index, (core, sink)) in cores.into_iter().enumerate() {
            let (handle, commands) = WorkerHandle::new(&config.limits, Arc::clone(&wakes[index]));
            let shared = Shared {
                index,
                mailboxes: Arc::clone(&mailboxes),
                socket: Arc::clone(&sockets[index]),
                quic: Arc::clone(&quic),
                wake: Arc::clone(&wakes[index]),
                local: Arc::clone(&locals[index]),
                slots: Arc::clone(&slots),
                counters: Arc::clone(&counters),
                stop: Arc::clone(&stop),
                // The kernel gives all STUN to the first worker. Who only dials is nobody's to ask for.
                answers_stun: index == 0 && config.identity.is_some(),
            };
            let worker = Worker::new(core, commands, shared, sink, PlainPorts::new()?, &config.limits);
            let name = match index {
                0 => format!("port-{}", sockets[0].local().port()),
                index => format!("port-{}-{index}", sockets[0].local().port()),
            };
            threads.push(thread::Builder::new().name(name).spawn(move || worker.run())?);
            workers.push(handle);
        }
        let links = Arc::new(Links {
            handshakes: Arc::new(Semaphore::new(config.limits.handshakes)),
            config,
            admission,
            workers,
            slots,
            counters,
        });
        tokio::spawn(accept_all(endpoint.clone(), Arc::clone(&links)));
        let inner = Inner {
            endpoint,
            tls: Mutex::new(tls.client),
            sockets,
            local: Arc::clone(&locals[0]),
            stop,
            threads: Mutex::new(threads),
            links,
        };
        Ok(Port { inner: Arc::new(inner) })
    }

    /// How many workers it has.
    pub fn workers(&self) -> usize {
        self.inner.links.workers.len()
    }

    /// Where the socket is bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.inner.sockets[0].local()
    }

    /// Links to a peer. The core hears `Input::LinkUp` before anything that is given to this port after it returned.
    /// Gives up after the handshake timeout.
    ///
    /// # Errors
    /// [`LinkError`], by whose fault it is.
    pub async fn dial(&self, address: SocketAddr, expect: Expect, role: Role) -> Result<Link, LinkError> {
        let links = &self.inner.links;
        let is_relay = matches!(expect, Expect::Relay { .. });
        let places =
            Places::take(links, 0, is_relay).ok_or(LinkError::TooManyLinks(links.config.limits.links))?;
        let name = match &expect {
            Expect::Relay { name, node: _, begins_unix_s: _ } => name.as_str(),
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
            handshake::dial(&links.config, &places.slots, connection, address, expect, role).await
        };
        let agreed = tokio::time::timeout(links.config.limits.handshake_timeout, handshake)
            .await
            .map_err(|_| LinkError::Timeout(address))??;
        let (down, watch) = watch::channel(None);
        links.launch(agreed, places, down).await.map_err(|PortClosed| LinkError::PortClosed).map(|id| Link {
            id,
            address,
            down: watch,
        })
    }

    /// Gives the core (the first worker's) a command, waiting for room in the queue.
    ///
    /// # Errors
    /// [`PortClosed`].
    pub async fn command(&self, command: E::Command) -> Result<(), PortClosed> {
        self.command_worker(0, command).await
    }

    /// Gives the core of every worker a command, the first worker's first.
    ///
    /// # Errors
    /// [`PortClosed`].
    pub async fn command_each(&self, command: impl Fn() -> E::Command) -> Result<(), PortClosed> {
        for worker in 0..self.workers() {
            self.command_worker(worker, command()).await?;
        }
        Ok(())
    }

    /// Gives the core of one worker a command.
    ///
    /// # Errors
    /// [`PortClosed`].
    ///
    /// # Panics
    /// If there is no such worker.
    pub async fn command_worker(&self, worker: usize, command: E::Command) -> Result<(), PortClosed> {
        self.inner.links.workers[worker].send(ToWorker::Command(command)).await.map_err(|_| PortClosed)
    }

    /// Changes the core (the first worker's) and returns what it answers. The change counts as an input: what the core wants done afterwards
    /// is done before anything else. Keep it short: media waits.
    ///
    /// # Errors
    /// [`PortClosed`].
    pub async fn change<R, F>(&self, change: F) -> Result<R, PortClosed>
    where
        R: Send + 'static,
        F: FnOnce(&mut E, Timestamp) -> R + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let change = move |core: &mut E, now: Timestamp| {
            // Who asked may have stopped waiting.
            let _ = answer.send(change(core, now));
        };
        self.inner.links.workers[0].send(ToWorker::Change(Box::new(change))).await.map_err(|_| PortClosed)?;
        answered.await.map_err(|_| PortClosed)
    }

    /// Gives the first worker a socket for plain RTP. The core knows it by `port`, and has it closed with its registration.
    ///
    /// # Errors
    /// [`PortClosed`].
    pub async fn open_plain(&self, port: PlainPort, socket: PlainSocket) -> Result<(), PortClosed> {
        let open = ToWorker::OpenPlain(port, Box::new(socket));
        self.inner.links.workers[0].send(open).await.map_err(|_| PortClosed)
    }

    /// Closes a socket for plain RTP that no registration took.
    ///
    /// # Errors
    /// [`PortClosed`].
    pub async fn close_plain(&self, port: PlainPort) -> Result<(), PortClosed> {
        self.inner.links.workers[0].send(ToWorker::ClosePlain(port)).await.map_err(|_| PortClosed)
    }

    /// Looks into the core (the first worker's), on the worker's thread, between two inputs. Keep it short: media waits.
    ///
    /// # Errors
    /// [`PortClosed`].
    pub async fn inspect<R, F>(&self, look: F) -> Result<R, PortClosed>
    where
        R: Send + 'static,
        F: FnOnce(&E, &PortStats) -> R + Send + 'static,
    {
        self.inspect_worker(0, look).await
    }

    /// Looks into the core of every worker, one after the other.
    ///
    /// # Errors
    /// [`PortClosed`].
    pub async fn inspect_each<R, F>(&self, look: F) -> Result<Vec<R>, PortClosed>
    where
        R: Send + 'static,
        F: FnOnce(&E, &PortStats) -> R + Clone + Send + 'static,
    {
        let mut seen = Vec::with_capacity(self.workers());
        for worker in 0..self.workers() {
            seen.push(self.inspect_worker(worker, look.clone()).await?);
        }
        Ok(seen)
    }

    async fn inspect_worker<R, F>(&self, worker: usize, look: F) -> Result<R, PortClosed>
    where
        R: Send + 'static,
        F: FnOnce(&E, &PortStats) -> R + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let look = move |core: &E, stats: &PortStats| {
            // Who asked may have stopped waiting.
            let _ = answer.send(look(core, stats));
        };
        let look = ToWorker::Inspect(Box::new(look));
        self.inner.links.workers[worker].send(look).await.map_err(|_| PortClosed)?;
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
        self.inner.links.workers[0].wake.wake();
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
        for worker in &self.inner.links.workers {
            // If the worker has stopped, there are no links to close.
            let _ = worker.send(ToWorker::CloseAll).await;
        }
        // What a peer has not heard by then it learns from silence.
        let _ = tokio::time::timeout(CLOSE_LINGER, self.inner.endpoint.wait_idle()).await;
        self.inner.stop();
        let threads = std::mem::take(&mut *self.inner.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A worker that panicked has said so on stderr.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    /// Stops at once without a word to anyone, as a crash would.
    pub fn kill(&self) {
        self.inner.sockets.iter().for_each(|socket| socket.mute());
        self.inner.stop();
    }
}

impl<E: Endpoint> Inner<E> {
    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.links.workers.iter().for_each(|worker| worker.wake.wake());
        self.endpoint.close(CLOSE_NORMAL.into(), b"the port is closed");
    }
}

impl<E: Endpoint> Drop for Inner<E> {
    fn drop(&mut self) {
        self.stop();
    }
}

fn check(config: &PortConfig, workers: usize) -> Result<(), PortError> {
    if workers == 0 || workers > WORKERS_MAX {
        return Err(PortError::Config(format!("{workers} workers, there must be 1 to {WORKERS_MAX}")));
    }
    let links = config.limits.links;
    if links == 0 || links > Limits::LINKS_MAX {
        return Err(PortError::Config(format!(
            "limits.links is {links}, it must be between 1 and {}",
            Limits::LINKS_MAX
        )));
    }
    if !(1..=GENERATION_PACKETS_LOG2).contains(&config.generation_packets_log2) {
        return Err(PortError::Config(format!(
            "generation_packets_log2 is {}, it must be between 1 and {GENERATION_PACKETS_LOG2}",
            config.generation_packets_log2
        )));
    }
    if config.ciphers.is_empty() {
        return Err(PortError::Config("ciphers is empty, name at least one".to_owned()));
    }
    Ok(())
}

/// Slots, one for each lane, that are given back unless a link takes them.
struct Places<'a> {
    all: &'a Mutex<Slots>,
    slots: Vec<Slot>,
}

impl<'a> Places<'a> {
    /// A slot of every worker from `first` on for a relay whose link has lanes, otherwise one of `first`. `None` if they
    /// are all taken.
    fn take<E: Endpoint>(links: &'a Links<E>, first: usize, lanes: bool) -> Option<Places<'a>> {
        let count = if lanes { links.workers.len() - first } else { 1 };
        let mut places = Places { all: &links.slots, slots: Vec::with_capacity(count) };
        let mut all = lock_slots(&links.slots);
        for worker in first..first + count {
            // Those that were taken before go back as `places` is dropped.
            let slot = all.take(worker);
            if slot.is_none() {
                drop(all);
                return None;
            }
            places.slots.extend(slot);
        }
        drop(all);
        Some(places)
    }

    /// Those that were offered beyond the lanes in use go back.
    fn keep(&mut self, lanes: usize) {
        let mut all = lock_slots(self.all);
        self.slots.drain(lanes..).for_each(|slot| all.give_back(slot.link));
    }
}

impl AsRef<[Slot]> for Places<'_> {
    fn as_ref(&self) -> &[Slot] {
        &self.slots
    }
}

impl Drop for Places<'_> {
    fn drop(&mut self) {
        self.keep(0);
    }
}

impl<E: Endpoint> Links<E> {
    /// Places for a dialler that was let in: lanes for a relay, and for anyone else the worker with the most room.
    fn places(&self, lanes: bool, peer: &Peer) -> Result<Places<'_>, Refusal> {
        let first = match peer {
            Peer::Relay { node: _ } => 0,
            Peer::Client(_) | Peer::Upstream => lock_slots(&self.slots).least_busy(),
        };
        Places::take(self, first, lanes).ok_or_else(|| {
            self.counters.refused_links.fetch_add(1, Ordering::Relaxed);
            let links = self.config.limits.links;
            let reason = format!("this relay holds {links} links, as many as it may");
            Refusal::new(RefusalCode::Limit, reason)
        })
    }

    /// Gives the lanes of an agreed link to their workers and starts its task.
    async fn launch(
        self: &Arc<Self>,
        agreed: Agreed,
        mut places: Places<'_>,
        down: watch::Sender<Option<Arc<str>>>,
    ) -> Result<LinkId, PortClosed> {
        let Agreed { lanes: attachments, dialled, said_lanes, connection, reader, writer, outbox } = agreed;
        places.keep(attachments.len());
        let id = attachments[0].slot.link;
        let remote = canonical(connection.remote_address());
        let (peer, count) = (&attachments[0].peer, attachments.len());
        tracing::info!(link = id.0, %remote, dialled, ?peer, lanes = count, "link up");
        let mut lanes = Vec::with_capacity(attachments.len());
        for attachment in attachments {
            let link = attachment.slot.link;
            let worker = &self.workers[worker_of_slot(slot_of_link(link), self.workers.len())];
            worker.send(ToWorker::Attach(Box::new(attachment))).await.map_err(|_| PortClosed)?;
            lanes.push((link, worker.clone()));
        }
        // The workers give them back now.
        places.slots.clear();
        let task = link::LinkTask {
            lanes,
            connection,
            reader,
            writer,
            outbox,
            tells_ready: dialled || said_lanes,
            ready_timeout: (!dialled || said_lanes).then_some(self.config.limits.handshake_timeout),
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
        if !incoming.remote_address_validated() {
            // Whoever only claims an address gets a few bytes back, fewer than it sent, and costs no memory.
            links.counters.quic_retries.fetch_add(1, Ordering::Relaxed);
            // Cannot fail: an address that is not validated has not been asked to prove itself yet.
            let _ = incoming.retry();
            continue;
        }
        let Ok(permit) = Arc::clone(&links.handshakes).try_acquire_owned() else {
            links.counters.refused_handshakes.fetch_add(1, Ordering::Relaxed);
            incoming.refuse();
            continue;
        };
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
        let take = |peer: &Peer, lanes| links.places(lanes, peer);
        handshake::accept(&links.config, connection, &links.admission, take).await
    };
    let outcome = tokio::time::timeout(links.config.limits.handshake_timeout, handshake).await;
    drop(permit);
    match outcome {
        Ok(Ok((agreed, places))) => {
            // Nobody waits for the end of a link that was accepted; and with the port closed there is none.
            let _ = links.launch(agreed, places, watch::channel(None).0).await;
        }
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
