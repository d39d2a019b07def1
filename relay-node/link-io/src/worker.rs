//! The worker: one thread that owns the receiving side of the socket, the core, and all sealing. It runs each wake-up to
//! completion and then sleeps until a datagram, a command, local RTP or the core's deadline comes.

use crate::clock::now;
use crate::config::Limits;
use crate::hand_over::{Item, Items, Mailbox, Outbox, items};
use crate::handshake::canonical;
use crate::link_table::{LinkTable, Opened};
use crate::local::LocalQueue;
use crate::patience::{Failure, Patience};
use crate::plain::{PlainPorts, PlainSocket, PlainTrains, SOCKETS_A_TURN};
use crate::quic::{Origin, QuicSocket};
use crate::seal::{Opener, Sealer};
use crate::sink::Sink;
use crate::slots::{Slot, Slots};
use crate::socket::PortSocket;
use crate::spool::Spool;
use crate::stats::{PortStats, SharedCounters};
use crate::steer::worker_of_receiver;
use crate::stun::StunAnswers;
use crate::wake::{Readable, Wake};
use quinn::udp::RecvMeta;
use relay_core::{Endpoint, Input, LinkId, Outgoing, Peer, PlainPort, PlainReceived, Received, Train};
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;
use wire_format::session::Message;
use wire_format::{DatagramKind, SealedHeader, Timestamp};

mod outward;

use outward::Outward;

/// Receive buffers of one call to the kernel. Each takes a whole train.
const BUFFERS: usize = 16;
/// A train of the kernel, and some cache lines so that the buffers do not all compete for the same cache sets.
const BUFFER_BYTES: usize = 65_536 + 1_216;
/// Datagrams in one buffer, at most (UDP_MAX_SEGMENTS of current kernels).
const SEGMENTS_MAX: usize = 128;
/// Commands handled before datagrams get their turn.
const COMMANDS_A_TURN: usize = 64;
/// Local packets in one input.
const LOCAL_A_TURN: usize = 64;

/// What the worker is told.
pub(crate) enum ToWorker<E: Endpoint> {
    /// A handshake succeeded.
    Attach(Box<Attachment>),
    /// The dialler of a link can open what is sent to it.
    Ready(LinkId),
    /// A message came.
    Message(LinkId, Message),
    /// The connection of a link is gone.
    Detach(LinkId),
    /// For the core.
    Command(E::Command),
    /// Look into the core.
    Inspect(Look<E>),
    /// Change the core.
    Change(Change<E>),
    /// A socket for plain RTP.
    OpenPlain(PlainPort, Box<PlainSocket>),
    /// It is not needed any more.
    ClosePlain(PlainPort),
    /// End all links, in good order.
    CloseAll,
}

/// A look into the core.
pub(crate) type Look<E> = Box<dyn FnOnce(&E, &PortStats) + Send>;

/// A change of the core.
pub(crate) type Change<E> = Box<dyn FnOnce(&mut E, Timestamp) + Send>;

/// A new link, for the worker.
pub(crate) struct Attachment {
    pub(crate) slot: Slot,
    pub(crate) peer: Peer,
    pub(crate) sealer: Sealer,
    pub(crate) opener: Opener,
    /// Largest datagram that both ends accept.
    pub(crate) max_datagram: u16,
    pub(crate) connection: quinn::Connection,
    pub(crate) outbound: mpsc::Sender<Outbound>,
    pub(crate) dialled: bool,
    /// The other end can already open what is sent.
    pub(crate) ready: bool,
}

/// For a link's control stream.
#[derive(Debug)]
pub(crate) enum Outbound {
    Message(Message),
    /// Anything, so that QUIC sends a packet.
    Nudge,
    Close(&'static str),
}

/// The way to the worker.
pub(crate) struct WorkerHandle<E: Endpoint> {
    commands: mpsc::Sender<ToWorker<E>>,
    pub(crate) wake: Arc<Wake>,
}

impl<E: Endpoint> Clone for WorkerHandle<E> {
    fn clone(&self) -> WorkerHandle<E> {
        WorkerHandle { commands: self.commands.clone(), wake: Arc::clone(&self.wake) }
    }
}

/// The worker has stopped.
pub(crate) struct Stopped;

impl<E: Endpoint> WorkerHandle<E> {
    pub(crate) fn new(limits: &Limits, wake: Arc<Wake>) -> (WorkerHandle<E>, mpsc::Receiver<ToWorker<E>>) {
        let (commands, receiver) = mpsc::channel(limits.commands.max(1));
        (WorkerHandle { commands, wake }, receiver)
    }

    /// Waits for room in the queue, puts it there and wakes the worker.
    pub(crate) async fn send(&self, command: ToWorker<E>) -> Result<(), Stopped> {
        self.commands.send(command).await.map_err(|_| Stopped)?;
        self.wake.wake();
        Ok(())
    }
}

/// What the worker shares with the tasks beside it, and with other workers.
pub(crate) struct Shared {
    /// Which worker this is.
    pub(crate) index: usize,
    /// By worker.
    pub(crate) mailboxes: Arc<[Arc<Mailbox>]>,
    pub(crate) socket: Arc<PortSocket>,
    pub(crate) quic: Arc<QuicSocket>,
    pub(crate) wake: Arc<Wake>,
    pub(crate) local: Arc<LocalQueue>,
    pub(crate) slots: Arc<Mutex<Slots>>,
    pub(crate) counters: Arc<SharedCounters>,
    pub(crate) stop: Arc<AtomicBool>,
    /// Strangers may ask whether it is there: it is a relay's first worker.
    pub(crate) answers_stun: bool,
}

/// Locks slots; they are consistent after any panic of their users.
pub(crate) fn lock_slots(slots: &Mutex<Slots>) -> MutexGuard<'_, Slots> {
    slots.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) struct Worker<E: Endpoint> {
    core: E,
    commands: mpsc::Receiver<ToWorker<E>>,
    outward: Outward<E>,
    arena: Box<[u8]>,
    received: Vec<Received>,
    plain: Vec<PlainReceived>,
    /// Links whose first datagram is in the current batch.
    rising: Vec<LinkId>,
    /// Questions to addresses that datagrams of the current batch came from.
    challenges: Vec<(LinkId, [u8; 8])>,
    local: Spool<(u32, bool)>,
    outgoing: Vec<Outgoing>,
    /// What other workers handed over, and where in it the frames are.
    handed_over: Items,
    frames: Vec<Range<usize>>,
    patience: Patience,
    stun: StunAnswers,
}

impl<E: Endpoint> Worker<E> {
    pub(crate) fn new(
        core: E,
        commands: mpsc::Receiver<ToWorker<E>>,
        shared: Shared,
        sink: Sink<E::Event>,
        plain_ports: PlainPorts,
        limits: &Limits,
    ) -> Worker<E> {
        let local = shared.local.spool();
        let outbox = Outbox::new(&shared.mailboxes, Arc::clone(&shared.counters));
        let slots = limits.links.saturating_mul(shared.mailboxes.len()).min(Limits::LINKS_MAX);
        let outward = Outward {
            outbox,
            shared,
            links: LinkTable::new(slots),
            plain_ports,
            plain_trains: PlainTrains::default(),
            sink,
            train: Train::new(),
            closing: Vec::new(),
            stats: PortStats::default(),
        };
        Worker {
            core,
            commands,
            outward,
            arena: vec![0; BUFFERS * BUFFER_BYTES].into_boxed_slice(),
            received: Vec::with_capacity(BUFFERS * SEGMENTS_MAX),
            plain: Vec::with_capacity(BUFFERS * SEGMENTS_MAX),
            rising: Vec::new(),
            challenges: Vec::new(),
            local,
            outgoing: Vec::with_capacity(LOCAL_A_TURN),
            handed_over: items(),
            frames: Vec::new(),
            patience: Patience::default(),
            stun: StunAnswers::new(),
        }
    }

    /// Works until told to stop.
    pub(crate) fn run(mut self) {
        let mut readable = Readable { socket: true, plain: true };
        while !self.outward.shared.stop.load(Ordering::Relaxed) {
            if self.core.poll_timeout().is_some_and(|deadline| deadline <= now()) {
                self.input(now(), Input::Timeout);
            }
            let commands_left = self.take_commands();
            let local_left = self.take_local();
            self.take_handed_over();
            if readable.socket {
                readable.socket = self.receive();
            }
            if readable.plain {
                readable.plain = self.receive_plain();
            }
            if !readable.socket && !readable.plain && !commands_left && !local_left {
                readable = self.sleep();
            }
        }
    }

    /// Sleeps until there is something to do. Says which sockets are readable.
    fn sleep(&mut self) -> Readable {
        let now = now();
        let paused = self.patience.paused_until(now);
        let deadline = self.core.poll_timeout().into_iter().chain(paused).min();
        let timeout = deadline.map(|deadline| deadline.since(now));
        let shared = &self.outward.shared;
        let (commands, local, stop) = (&self.commands, &shared.local, &shared.stop);
        let mailbox = &shared.mailboxes[shared.index];
        let has_work = || {
            !commands.is_empty() || local.has_packets() || mailbox.has_items() || stop.load(Ordering::Relaxed)
        };
        self.outward.stats.wakeups += 1;
        let socket = paused.is_none().then_some(&*shared.socket);
        match shared.wake.sleep(socket, &self.outward.plain_ports, timeout, has_work) {
            Ok(readable) => readable,
            Err(error) => {
                // Only a broken descriptor or an exhausted kernel gets here; looking at the sockets is always right.
                tracing::error!(%error, "poll failed");
                Readable { socket: true, plain: true }
            }
        }
    }

    fn input(&mut self, now: Timestamp, input: Input<'_, E::Command>) {
        self.core.handle_input(now, &[], input);
        self.outward.drain(&mut self.core, now, &[]);
    }

    /// Handles commands, not too many at once. Says whether there are more.
    fn take_commands(&mut self) -> bool {
        for _ in 0..COMMANDS_A_TURN {
            let Ok(command) = self.commands.try_recv() else { return false };
            let now = now();
            match command {
                ToWorker::Attach(attachment) => {
                    let link = attachment.slot.link;
                    let ready = attachment.ready;
                    self.outward.links.insert(*attachment);
                    if ready {
                        self.raise(now, link);
                    }
                }
                ToWorker::Ready(link) => self.raise(now, link),
                ToWorker::Message(link, message) => {
                    self.raise(now, link);
                    if self.outward.links.contains(link) {
                        self.input(now, Input::Message { link, message });
                    }
                }
                ToWorker::Detach(link) => {
                    self.outward.closing.push(link);
                    self.outward.end_links(&mut self.core, now);
                }
                ToWorker::Command(command) => self.input(now, Input::Command(command)),
                ToWorker::Inspect(look) => {
                    let mut stats = self.outward.stats;
                    stats.drop_receive_buffer = self.outward.shared.socket.kernel_drops();
                    if self.outward.shared.index == 0 {
                        // They are the whole port's, and are added up with those of the other workers.
                        self.outward.shared.counters.read_into(&mut stats);
                    }
                    look(&self.core, &stats);
                }
                ToWorker::Change(change) => {
                    change(&mut self.core, now);
                    self.outward.drain(&mut self.core, now, &[]);
                }
                ToWorker::OpenPlain(port, socket) => {
                    if let Err(error) = self.outward.plain_ports.open(port, *socket) {
                        tracing::error!(%error, "a socket for plain RTP cannot be watched");
                    }
                }
                ToWorker::ClosePlain(port) => self.outward.plain_ports.close(port),
                ToWorker::CloseAll => {
                    for link in self.outward.links.ids() {
                        self.outward.close(link, "the port is closing");
                    }
                    self.outward.end_links(&mut self.core, now);
                }
            }
        }
        !self.commands.is_empty()
    }

    /// Tells the core of a link, once.
    fn raise(&mut self, now: Timestamp, link: LinkId) {
        if let Some((peer, max_datagram)) = self.outward.links.raise(link) {
            self.outward.stats.links_up += 1;
            self.input(now, Input::LinkUp { link, peer, max_datagram });
        }
    }

    /// Takes what this process wants sent. Says whether there may be more.
    fn take_local(&mut self) -> bool {
        if self.local.is_empty() && !self.outward.shared.local.swap(&mut self.local) {
            return false;
        }
        for packets in self.local.entries().chunks(LOCAL_A_TURN) {
            self.outgoing.clear();
            self.outgoing.extend(packets.iter().map(|((publication, rtcp), range)| Outgoing {
                publication: *publication,
                range: range.clone(),
                rtcp: *rtcp,
            }));
            let now = now();
            let arena = self.local.bytes();
            self.core.handle_input(now, arena, Input::Local(&self.outgoing));
            self.outward.drain(&mut self.core, now, arena);
        }
        self.local.clear();
        true
    }

    /// Takes what other workers handed over.
    fn take_handed_over(&mut self) {
        let shared = &self.outward.shared;
        if !shared.mailboxes[shared.index].take(&mut self.handed_over) {
            return;
        }
        let now = now();
        self.received.clear();
        self.frames.clear();
        for place in 0..self.handed_over.entries().len() {
            let (item, range) = self.handed_over.entries()[place].clone();
            match item {
                Item::Frame => self.frames.push(range),
                Item::Stray { came } => {
                    let bytes = &mut self.handed_over.bytes_mut()[range.clone()];
                    let outward = &mut self.outward;
                    let opened = outward.links.open(now, came, bytes, &mut outward.stats);
                    self.note(opened, range.start);
                }
            }
        }
        while let Some(link) = self.rising.pop() {
            self.raise(now, link);
        }
        let arena = self.handed_over.bytes();
        if !self.frames.is_empty() {
            self.core.handle_input(now, arena, Input::HandedOver(&self.frames));
            self.outward.drain(&mut self.core, now, arena);
        }
        if !self.received.is_empty() {
            self.core.handle_input(now, arena, Input::Datagrams(&self.received));
            self.outward.drain(&mut self.core, now, arena);
        }
        self.handed_over.clear();
        while let Some((link, token)) = self.challenges.pop() {
            self.input(now, Input::Challenge { link, token });
        }
    }

    /// Lists an opened datagram that begins at `start` of its arena.
    fn note(&mut self, opened: Option<Opened>, start: usize) {
        let Some(Opened { link, number, plain, first, challenge }) = opened else { return };
        self.challenges.extend(challenge.map(|token| (link, token)));
        if first && !self.rising.contains(&link) {
            self.rising.push(link);
        }
        self.received.push(Received { link, number, range: start + plain.start..start + plain.end });
    }

    /// Receives a batch and gives it to the core. Says whether the socket may have more.
    fn receive(&mut self) -> bool {
        let mut meta = [RecvMeta::default(); BUFFERS];
        let filled = {
            let mut chunks = self.arena.chunks_exact_mut(BUFFER_BYTES);
            let mut buffers: [IoSliceMut<'_>; BUFFERS] =
                std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
            match self.outward.shared.socket.receive(&mut buffers, &mut meta) {
                Ok(filled) => filled,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.patience.succeeded();
                    return false;
                }
                Err(error) => return self.receive_failed(&error),
            }
        };
        self.patience.succeeded();
        let now = now();
        self.received.clear();
        self.plain.clear();
        for (index, meta) in meta[..filled].iter().enumerate() {
            for range in segments(index, meta) {
                self.sort(now, meta, range.start, range.end);
            }
        }
        while let Some(link) = self.rising.pop() {
            self.raise(now, link);
        }
        if !self.received.is_empty() {
            self.core.handle_input(now, &self.arena, Input::Datagrams(&self.received));
            self.outward.drain(&mut self.core, now, &self.arena);
        }
        while let Some((link, token)) = self.challenges.pop() {
            self.input(now, Input::Challenge { link, token });
        }
        self.outward.outbox.flush();
        self.plain_received(now);
        filled == BUFFERS
    }

    /// The relay port's socket reports an error. Says whether to read on at once.
    #[cold]
    fn receive_failed(&mut self, error: &io::Error) -> bool {
        self.outward.stats.receive_errors += 1;
        match self.patience.failed(now()) {
            Failure::ReadOn => true,
            Failure::Pause { first } => {
                self.outward.stats.receive_pauses += 1;
                if first {
                    tracing::warn!(%error, "receiving at the relay port fails again and again, pausing between attempts");
                }
                false
            }
        }
    }

    /// Receives from ports of plain registrations, a batch from each that has something. Says whether there may be more.
    fn receive_plain(&mut self) -> bool {
        if self.outward.plain_ports.is_empty() {
            return false;
        }
        let mut ports = [PlainPort::RELAY; SOCKETS_A_TURN];
        let ready = self.outward.plain_ports.ready(&mut ports);
        for port in &ports[..ready] {
            let mut meta = [RecvMeta::default(); BUFFERS];
            let mut chunks = self.arena.chunks_exact_mut(BUFFER_BYTES);
            let mut buffers: [IoSliceMut<'_>; BUFFERS] =
                std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
            // What an error leaves behind is reported again, or nothing is there.
            let filled = self.outward.plain_ports.receive(*port, &mut buffers, &mut meta).unwrap_or(0);
            let now = now();
            self.plain.clear();
            for (index, meta) in meta[..filled].iter().enumerate() {
                for range in segments(index, meta) {
                    let stats = &mut self.outward.stats;
                    stats.datagrams_in += 1;
                    stats.bytes_in += range.len() as u64;
                    self.plain.push(PlainReceived { port: *port, source: canonical(meta.addr), range });
                }
            }
            self.plain_received(now);
        }
        ready > 0
    }

    /// Gives the core the plain datagrams of a batch.
    fn plain_received(&mut self, now: Timestamp) {
        if !self.plain.is_empty() {
            self.outward.stats.plain_in += self.plain.len() as u64;
            self.core.handle_input(now, &self.arena, Input::Plain(&self.plain));
            self.outward.drain(&mut self.core, now, &self.arena);
        }
    }

    /// Tells what kind the datagram `arena[start..end]` is and sends it its way.
    fn sort(&mut self, now: Timestamp, meta: &RecvMeta, start: usize, end: usize) {
        let datagram = &mut self.arena[start..end];
        let stats = &mut self.outward.stats;
        stats.datagrams_in += 1;
        stats.bytes_in += datagram.len() as u64;
        match DatagramKind::of(datagram) {
            DatagramKind::Sealed => {
                let workers = self.outward.shared.mailboxes.len();
                if workers > 1
                    && let Some(header) = SealedHeader::decode(datagram)
                    && let worker = worker_of_receiver(header.receiver, workers)
                    && worker != self.outward.shared.index
                {
                    self.outward.outbox.gather(
                        worker,
                        Item::Stray { came: (meta.addr, meta.dst_ip) },
                        [datagram, &[]],
                    );
                    return;
                }
                let opened = self.outward.links.open(now, (meta.addr, meta.dst_ip), datagram, stats);
                self.note(opened, start);
            }
            DatagramKind::Quic => {
                stats.quic_in += 1;
                let origin = Origin { address: meta.addr, local_ip: meta.dst_ip, ecn: meta.ecn };
                if !self.outward.shared.quic.push(origin, datagram) {
                    stats.drop_quic_queue += 1;
                }
            }
            DatagramKind::Rtp if self.core.takes_plain() => {
                let (port, source) = (PlainPort::RELAY, canonical(meta.addr));
                self.plain.push(PlainReceived { port, source, range: start..end });
            }
            DatagramKind::Rtp => stats.drop_rtp += 1,
            DatagramKind::Stun if self.outward.shared.answers_stun => {
                self.stun.answer(now, &self.outward.shared.socket, meta, datagram, stats);
            }
            DatagramKind::Stun => stats.drop_stun += 1,
            DatagramKind::Unknown => stats.drop_unknown_kind += 1,
        }
    }
}

/// Where the datagrams of a train that was received into one buffer are.
fn segments(buffer: usize, meta: &RecvMeta) -> impl Iterator<Item = Range<usize>> + use<> {
    let (start, stride) = (buffer * BUFFER_BYTES, meta.stride.max(1));
    let end = start + meta.len;
    // An empty datagram is one, too.
    (start..end.max(start + 1)).step_by(stride).map(move |start| start..(start + stride).min(end))
}
