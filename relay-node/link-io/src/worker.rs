//! The worker: one thread that owns the receiving side of the socket, the core, and all sealing. It runs each wake-up to
//! completion and then sleeps until a datagram, a command, local RTP or the core's deadline comes.

use crate::clock::now;
use crate::config::Limits;
use crate::handshake::CLOSE_NORMAL;
use crate::link_table::{LinkTable, Opened};
use crate::local::LocalQueue;
use crate::quic::{Origin, QuicSocket};
use crate::seal::{Opener, Sealer};
use crate::sink::{Sink, Upcall};
use crate::slots::{Slot, Slots};
use crate::socket::PortSocket;
use crate::spool::Spool;
use crate::stats::{PortStats, SharedCounters};
use crate::wake::Wake;
use quinn::udp::{RecvMeta, Transmit};
use relay_core::{Endpoint, Input, LinkId, Outgoing, Output, Peer, Received, Train};
use std::io::{self, IoSliceMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;
use wire_format::session::Message;
use wire_format::{DatagramKind, Timestamp};

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
    /// End all links, in good order.
    CloseAll,
}

/// A look into the core.
pub(crate) type Look<E> = Box<dyn FnOnce(&E, &PortStats) + Send>;

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
    /// The other end can already open what is sent.
    pub(crate) ready: bool,
}

/// For a link's control stream.
#[derive(Debug)]
pub(crate) enum Outbound {
    Message(Message),
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

/// What the worker shares with the tasks beside it.
pub(crate) struct Shared {
    pub(crate) socket: Arc<PortSocket>,
    pub(crate) quic: Arc<QuicSocket>,
    pub(crate) wake: Arc<Wake>,
    pub(crate) local: Arc<LocalQueue>,
    pub(crate) slots: Arc<Mutex<Slots>>,
    pub(crate) counters: Arc<SharedCounters>,
    pub(crate) stop: Arc<AtomicBool>,
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
    /// Links whose first datagram is in the current batch.
    rising: Vec<LinkId>,
    local: Spool<(u32, bool)>,
    outgoing: Vec<Outgoing>,
}

/// Everything but the core: where its answers go.
struct Outward<E: Endpoint> {
    shared: Shared,
    links: LinkTable,
    sink: Sink<E::Event>,
    train: Train,
    /// Links that are to end after the current drain.
    closing: Vec<LinkId>,
    stats: PortStats,
}

impl<E: Endpoint> Worker<E> {
    pub(crate) fn new(
        core: E,
        commands: mpsc::Receiver<ToWorker<E>>,
        shared: Shared,
        sink: Sink<E::Event>,
        limits: &Limits,
    ) -> Worker<E> {
        let local = shared.local.spool();
        let outward = Outward {
            shared,
            links: LinkTable::new(limits.links.min(Limits::LINKS_MAX)),
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
            rising: Vec::new(),
            local,
            outgoing: Vec::with_capacity(LOCAL_A_TURN),
        }
    }

    /// Works until told to stop.
    pub(crate) fn run(mut self) {
        let mut readable = true;
        while !self.outward.shared.stop.load(Ordering::Relaxed) {
            if self.core.poll_timeout().is_some_and(|deadline| deadline <= now()) {
                self.input(now(), Input::Timeout);
            }
            let commands_left = self.take_commands();
            let local_left = self.take_local();
            if readable {
                readable = self.receive();
            }
            if !readable && !commands_left && !local_left {
                readable = self.sleep();
            }
        }
    }

    /// Sleeps until there is something to do. Says whether the socket is readable.
    fn sleep(&mut self) -> bool {
        let deadline = self.core.poll_timeout();
        let timeout = deadline.map(|deadline| deadline.since(now()));
        let shared = &self.outward.shared;
        let (commands, local, stop) = (&self.commands, &shared.local, &shared.stop);
        let has_work = || !commands.is_empty() || local.has_packets() || stop.load(Ordering::Relaxed);
        self.outward.stats.wakeups += 1;
        match shared.wake.sleep(&*shared.socket, timeout, has_work) {
            Ok(readable) => readable,
            Err(error) => {
                // Only a broken descriptor or an exhausted kernel gets here; looking at the socket is always right.
                tracing::error!(%error, "poll failed");
                true
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
                    self.outward.shared.counters.read_into(&mut stats);
                    look(&self.core, &stats);
                }
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

    /// Receives a batch and gives it to the core. Says whether the socket may have more.
    fn receive(&mut self) -> bool {
        let mut meta = [RecvMeta::default(); BUFFERS];
        let filled = {
            let mut chunks = self.arena.chunks_exact_mut(BUFFER_BYTES);
            let mut buffers: [IoSliceMut<'_>; BUFFERS] =
                std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
            match self.outward.shared.socket.receive(&mut buffers, &mut meta) {
                Ok(filled) => filled,
                Err(error) => {
                    // An ICMP error on the socket is reported once and means nothing to other links: read on.
                    return error.kind() != io::ErrorKind::WouldBlock;
                }
            }
        };
        let now = now();
        self.received.clear();
        for (index, meta) in meta[..filled].iter().enumerate() {
            let mut start = index * BUFFER_BYTES;
            let end = start + meta.len;
            while start < end {
                let next = (start + meta.stride.max(1)).min(end);
                self.sort(now, meta, start, next);
                start = next;
            }
        }
        while let Some(link) = self.rising.pop() {
            self.raise(now, link);
        }
        if !self.received.is_empty() {
            self.core.handle_input(now, &self.arena, Input::Datagrams(&self.received));
            self.outward.drain(&mut self.core, now, &self.arena);
        }
        filled == BUFFERS
    }

    /// Tells what kind the datagram `arena[start..end]` is and sends it its way.
    fn sort(&mut self, now: Timestamp, meta: &RecvMeta, start: usize, end: usize) {
        let datagram = &mut self.arena[start..end];
        let stats = &mut self.outward.stats;
        stats.datagrams_in += 1;
        stats.bytes_in += datagram.len() as u64;
        match DatagramKind::of(datagram) {
            DatagramKind::Sealed => {
                let opened = self.outward.links.open(now, meta.addr, datagram, stats);
                if let Some(Opened { link, number, plain, first }) = opened {
                    if first && !self.rising.contains(&link) {
                        self.rising.push(link);
                    }
                    let range = start + plain.start..start + plain.end;
                    self.received.push(Received { link, number, range });
                }
            }
            DatagramKind::Quic => {
                stats.quic_in += 1;
                let origin = Origin { address: meta.addr, local_ip: meta.dst_ip, ecn: meta.ecn };
                if !self.outward.shared.quic.push(origin, datagram) {
                    stats.drop_quic_queue += 1;
                }
            }
            DatagramKind::Rtp => stats.drop_rtp += 1,
            DatagramKind::Stun => stats.drop_stun += 1,
            DatagramKind::Unknown => stats.drop_unknown_kind += 1,
        }
    }
}

impl<E: Endpoint> Outward<E> {
    /// Carries out everything that the core wants after an input.
    fn drain(&mut self, core: &mut E, now: Timestamp, arena: &[u8]) {
        self.drain_core(core, now, arena);
        self.end_links(core, now);
    }

    fn drain_core(&mut self, core: &mut E, now: Timestamp, arena: &[u8]) {
        loop {
            self.train.clear();
            match core.poll_transmit(now, arena, &mut self.train) {
                Some(link) => self.transmit(link),
                None => break,
            }
        }
        // Outputs first: an announcement comes before the packets of its stream.
        while let Some(output) = core.poll_output() {
            match output {
                Output::Message { link, message } => self.message(link, message),
                Output::Close { link, reason } => self.close(link, reason),
                Output::Event(event) => {
                    if (self.sink)(Upcall::Event(event)).is_err() {
                        self.stats.drop_sink += 1;
                    }
                }
            }
        }
        while let Some(delivery) = core.poll_delivery() {
            self.stats.deliveries += 1;
            let packet = &arena[delivery.range.clone()];
            if (self.sink)(Upcall::Delivery(&delivery, packet)).is_err() {
                self.stats.drop_sink += 1;
            }
        }
    }

    /// Seals and sends the train.
    fn transmit(&mut self, link: LinkId) {
        let datagrams = self.train.slots().len() as u64;
        let Some((sealer, route)) = self.links.outwards(link) else {
            self.stats.drop_no_link += datagrams;
            return;
        };
        let segment = self.train.segment_bytes();
        if segment > usize::from(route.max_datagram) {
            self.stats.drop_send_oversize += datagrams;
            return;
        }
        let (slots, bytes) = self.train.parts_mut();
        for slot in slots {
            match sealer.seal(slot.number, &mut bytes[slot.sealed.clone()]) {
                Ok(begun) => self.stats.key_generations += u64::from(begun),
                Err(crate::seal::SealError::Number) => {
                    self.stats.drop_send_number += datagrams;
                    return;
                }
                Err(crate::seal::SealError::Key) => {
                    self.stats.drop_send_key += datagrams;
                    return;
                }
            }
        }
        let mut contents = self.train.bytes();
        while !contents.is_empty() {
            let segments_max = self.shared.socket.segments_max();
            let length = contents.len().min(segment * segments_max);
            let (now, rest) = contents.split_at(length);
            let count = length.div_ceil(segment.max(1)) as u64;
            let transmit = Transmit {
                destination: route.remote,
                ecn: None,
                contents: now,
                segment_size: (count > 1).then_some(segment),
                src_ip: route.local_ip,
            };
            match self.shared.socket.send(&transmit) {
                Ok(()) => {
                    self.stats.trains_out += 1;
                    self.stats.datagrams_out += count;
                    self.stats.bytes_out += length as u64;
                }
                // The kernel or a network card cannot cut trains; the socket has noted it. The same bytes go again,
                // one datagram at a time.
                Err(_) if count > 1 && self.shared.socket.segments_max() == 1 => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stats.drop_send_would_block += count;
                }
                Err(_) => self.stats.drop_send_error += count,
            }
            contents = rest;
        }
    }

    fn message(&mut self, link: LinkId, message: Message) {
        let Some(outbound) = self.links.outbound(link) else { return };
        if let Err(mpsc::error::TrySendError::Full(_)) = outbound.try_send(Outbound::Message(message)) {
            self.stats.closed_message_queue += 1;
            self.close(link, "messages are not read");
        }
    }

    fn close(&mut self, link: LinkId, reason: &'static str) {
        if let Some(outbound) = self.links.outbound(link) {
            if outbound.try_send(Outbound::Close(reason)).is_err()
                && let Some(connection) = self.links.connection(link)
            {
                connection.close(CLOSE_NORMAL.into(), reason.as_bytes());
            }
            self.closing.push(link);
        }
    }

    /// Takes ended links from the table and the core. Ending one may make the core end more.
    fn end_links(&mut self, core: &mut E, now: Timestamp) {
        while let Some(link) = self.closing.pop() {
            let Some(known_to_core) = self.links.remove(link) else { continue };
            lock_slots(&self.shared.slots).give_back(link);
            if known_to_core {
                self.stats.links_down += 1;
                core.handle_input(now, &[], Input::LinkDown { link });
                self.drain_core(core, now, &[]);
            }
        }
    }
}
