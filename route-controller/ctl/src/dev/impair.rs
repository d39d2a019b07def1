//! The impairment proxy: stands between the relays of this host and does to their datagrams what a network would.
//!
//! For each pair of relays it has two UDP sockets, one facing either relay, so that each relay sees the proxy's address
//! as its neighbour's and needs to know nothing else. What a datagram suffers is decided by a [`link_model::Link`] per
//! direction when it arrives; a heap of deadlines then holds it until it is due.
//!
//! One thread does everything, in the order: changes of links that are due, datagrams that are due, what its owner asks,
//! what has arrived. Between the second and the third it sleeps until the next deadline.

use crate::dev::clock::Clock;
use anyhow::Context as _;
use link_model::{Fate, Link, LinkSchedule, LinkSpec, Seed};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Datagrams under way at once, over all links. Beyond it what arrives is dropped and counted.
const UNDER_WAY_MAX: usize = 65_536;
/// Datagrams taken from one socket before others get their turn.
const BATCH: usize = 64;
/// What a datagram takes on the wire beyond its UDP payload: IPv4 and UDP headers.
const HEADERS_BYTES: usize = 28;
/// Asked of the kernel for each socket; it may give less.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// Largest UDP payload.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// A pair of relays, the lower number first, and what lies between them.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The relays, by number.
    pub relays: (usize, usize),
    /// From the lower to the higher.
    pub there: LinkSchedule,
    /// From the higher to the lower.
    pub back: LinkSchedule,
}

/// What a direction has carried.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Carried {
    /// UDP payload bytes that came out at the far end.
    pub bytes: u64,
    /// Datagrams that came out.
    pub datagrams: u64,
    /// Datagrams that the link lost, for whatever reason.
    pub lost: u64,
    /// UDP payload bytes that entered, those that were lost included.
    pub offered_bytes: u64,
}

/// What every direction has carried, by relays (from, to).
pub type CarriedByLink = BTreeMap<(usize, usize), Carried>;

/// The running proxy. Stops when dropped.
#[derive(Debug)]
pub struct Proxy {
    addresses: BTreeMap<(usize, usize), SocketAddr>,
    carried: BTreeMap<(usize, usize), Arc<Counters>>,
    orders: Arc<Orders>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Counters {
    bytes: AtomicU64,
    datagrams: AtomicU64,
    lost: AtomicU64,
    offered_bytes: AtomicU64,
}

/// What the owner asks of the thread.
#[derive(Debug)]
enum Order {
    /// The relay of that number listens here.
    Relay(usize, SocketAddr),
    /// Whoever sends first on a link of the relay of that number is it.
    Learn(usize),
    /// Times of scheduled changes count from now.
    Start,
    /// This direction does something else from now on.
    Change((usize, usize), LinkSpec),
    Stop,
}

#[derive(Debug)]
struct Orders {
    queue: Mutex<VecDeque<Order>>,
    wake: OwnedFd,
}

impl Orders {
    fn give(&self, order: Order) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(order);
        // It fails only when 2^64 wake-ups wait already.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

impl Proxy {
    /// Opens the sockets of all pairs and starts to carry. Relays are told of with [`Proxy::relay_listens`]; what is
    /// for a relay that is not known yet is lost.
    ///
    /// # Errors
    /// If sockets or the thread cannot be had.
    pub fn start(pairs: &[Pair], seed: Seed) -> anyhow::Result<Proxy> {
        let clock = Clock::start();
        let mut addresses = BTreeMap::new();
        let mut carried = BTreeMap::new();
        let mut directions = Vec::new();
        for (number, pair) in pairs.iter().enumerate() {
            let (low, high) = pair.relays;
            let seed = seed.child("pair").numbered(number as u64);
            // The socket that a relay sends to is the one that the other's datagrams come from.
            for (from, to, schedule, name) in
                [(low, high, &pair.there, "there"), (high, low, &pair.back, "back")]
            {
                let socket = open().with_context(|| format!("no socket between relays {from} and {to}"))?;
                addresses.insert((from, to), socket.local_addr()?);
                let counters = Arc::<Counters>::default();
                carried.insert((from, to), Arc::clone(&counters));
                directions.push(Direction {
                    from,
                    to,
                    socket,
                    link: Link::new(schedule.first().clone(), seed.child(name)),
                    later: schedule.later().iter().cloned().collect(),
                    counters,
                });
            }
        }
        let orders = Arc::new(Orders {
            queue: Mutex::default(),
            wake: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
        });
        let mut carrier = Carrier {
            clock,
            directions,
            relays: BTreeMap::new(),
            learning: BTreeSet::new(),
            under_way: BinaryHeap::new(),
            count: 0,
            spare: Vec::new(),
            started: None,
            orders: Arc::clone(&orders),
        };
        let thread = std::thread::Builder::new().name("impair".to_owned()).spawn(move || {
            if let Err(error) = carrier.run() {
                tracing::error!(%error, "the impairment proxy failed");
            }
        })?;
        Ok(Proxy { addresses, carried, orders, thread: Some(thread) })
    }

    /// Where relay `from` finds relay `to`; `None` if no link is between them.
    pub fn address(&self, from: usize, to: usize) -> Option<SocketAddr> {
        self.addresses.get(&(from, to)).copied()
    }

    /// The relay of that number listens there.
    pub fn relay_listens(&self, relay: usize, address: SocketAddr) {
        self.orders.give(Order::Relay(relay, address));
    }

    /// Whoever is the first to send as the relay of that number is taken for it: programs that tell nobody their port.
    pub fn relay_speaks(&self, relay: usize) {
        self.orders.give(Order::Learn(relay));
    }

    /// Times of scheduled changes count from now on.
    pub fn start_schedule(&self) {
        self.orders.give(Order::Start);
    }

    /// One direction does something else from now on.
    pub fn change(&self, from: usize, to: usize, spec: LinkSpec) {
        self.orders.give(Order::Change((from, to), spec));
    }

    /// What each direction has carried so far.
    pub fn carried(&self) -> CarriedByLink {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let carried = self.carried.iter().map(|(direction, counters)| {
            let Counters { bytes, datagrams, lost, offered_bytes } = &**counters;
            let (bytes, datagrams, lost) = (read(bytes), read(datagrams), read(lost));
            (*direction, Carried { bytes, datagrams, lost, offered_bytes: read(offered_bytes) })
        });
        carried.collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.orders.give(Order::Stop);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so on stderr.
            let _ = thread.join();
        }
    }
}

/// The thread's state.
#[derive(Debug)]
struct Carrier {
    clock: Clock,
    directions: Vec<Direction>,
    relays: BTreeMap<usize, SocketAddr>,
    /// Of these the address is that of the first datagram.
    learning: BTreeSet<usize>,
    under_way: BinaryHeap<Reverse<UnderWay>>,
    /// Datagrams ever taken; breaks ties, so that equal deadlines keep their order.
    count: u64,
    /// Buffers to use again.
    spare: Vec<Vec<u8>>,
    /// When times of scheduled changes began to count.
    started: Option<Duration>,
    orders: Arc<Orders>,
}

/// One direction of a pair. `from` sends to `socket`; what it sends reaches `to` from the opposite direction's socket,
/// which is this one's neighbour in the list.
#[derive(Debug)]
struct Direction {
    from: usize,
    to: usize,
    socket: UdpSocket,
    link: Link,
    later: VecDeque<(Duration, LinkSpec)>,
    counters: Arc<Counters>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
struct UnderWay {
    at: Duration,
    count: u64,
    direction: usize,
    bytes: Vec<u8>,
}

impl Carrier {
    fn run(&mut self) -> anyhow::Result<()> {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            let now = self.clock.now();
            self.change_links(now);
            self.deliver(now);
            let ready = self.wait()?;
            // Orders first: what was said before a datagram was sent holds for the datagram.
            if !self.obey() {
                return Ok(());
            }
            for direction in ready {
                self.take(direction, &mut buffer);
            }
        }
    }

    fn change_links(&mut self, now: Duration) {
        let Some(started) = self.started else { return };
        for direction in &mut self.directions {
            while direction.later.front().is_some_and(|(at, _)| started + *at <= now) {
                if let Some((_, spec)) = direction.later.pop_front() {
                    direction.link.change(spec);
                }
            }
        }
    }

    fn deliver(&mut self, now: Duration) {
        while self.under_way.peek().is_some_and(|Reverse(next)| next.at <= now) {
            let Some(Reverse(UnderWay { at: _, count: _, direction, bytes })) = self.under_way.pop() else {
                return;
            };
            let Direction { to, counters, .. } = &self.directions[direction];
            // Opposite directions are neighbours: 0 and 1, 2 and 3, and so on.
            let near = &self.directions[direction ^ 1].socket;
            if let Some(address) = self.relays.get(to)
                && near.send_to(&bytes, address).is_ok()
            {
                counters.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                counters.datagrams.fetch_add(1, Ordering::Relaxed);
            } else {
                counters.lost.fetch_add(1, Ordering::Relaxed);
            }
            if self.spare.len() < BATCH {
                self.spare.push(bytes);
            }
        }
    }

    /// Answers whether to go on.
    fn obey(&mut self) -> bool {
        let orders = std::mem::take(&mut *self.orders.queue.lock().unwrap_or_else(PoisonError::into_inner));
        for order in orders {
            match order {
                Order::Relay(relay, address) => {
                    self.relays.insert(relay, address);
                }
                Order::Learn(relay) => {
                    self.learning.insert(relay);
                }
                Order::Start => self.started = Some(self.clock.now()),
                Order::Change((from, to), spec) => {
                    let mut all = self.directions.iter_mut();
                    if let Some(direction) =
                        all.find(|direction| (direction.from, direction.to) == (from, to))
                    {
                        direction.link.change(spec);
                    }
                }
                Order::Stop => return false,
            }
        }
        true
    }

    /// Sleeps until something is due or has arrived, and answers where.
    fn wait(&mut self) -> anyhow::Result<Vec<usize>> {
        let due = self.under_way.peek().map(|Reverse(next)| next.at);
        let changes = self.directions.iter().filter_map(|direction| direction.later.front());
        let change = self.started.and_then(|started| changes.map(|(at, _)| started + *at).min());
        let deadline = [due, change].into_iter().flatten().min();
        let wait = deadline.map(|deadline| deadline.saturating_sub(self.clock.now()));
        let timeout =
            wait.map(Timespec::try_from).transpose().context("a deadline beyond the clock's range")?;

        let mut polled = vec![PollFd::from_borrowed_fd(self.orders.wake.as_fd(), PollFlags::IN)];
        polled.extend(self.directions.iter().map(|direction| PollFd::new(&direction.socket, PollFlags::IN)));
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("poll"),
        }
        let ready: Vec<bool> = polled.iter().map(|polled| polled.revents().contains(PollFlags::IN)).collect();
        if ready[0] {
            let mut count = [0; 8];
            // Another reader does not exist; an error means that nothing waits, which is what is wanted.
            let _ = rustix::io::read(&self.orders.wake, &mut count);
        }
        Ok((0..self.directions.len()).filter(|direction| ready[direction + 1]).collect())
    }

    fn take(&mut self, number: usize, buffer: &mut [u8]) {
        for _ in 0..BATCH {
            let direction = &mut self.directions[number];
            let length = match direction.socket.recv_from(buffer) {
                Ok((length, source)) => {
                    if self.learning.remove(&direction.from) {
                        self.relays.insert(direction.from, source);
                    }
                    if self.relays.get(&direction.from) != Some(&source) {
                        continue;
                    }
                    length
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // An ICMP error of an earlier datagram; the next one may be fine.
                Err(_) => continue,
            };
            direction.counters.offered_bytes.fetch_add(length as u64, Ordering::Relaxed);
            let now = self.clock.now();
            let (at, copy_at) = match direction.link.offer(now, length + HEADERS_BYTES) {
                Fate::Delivered { at, copy_at } if self.under_way.len() + 1 < UNDER_WAY_MAX => (at, copy_at),
                Fate::Delivered { .. } | Fate::Dropped(_) => {
                    direction.counters.lost.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
            };
            for at in [Some(at), copy_at].into_iter().flatten() {
                let mut bytes = self.spare.pop().unwrap_or_default();
                bytes.clear();
                bytes.extend_from_slice(&buffer[..length]);
                self.count += 1;
                self.under_way.push(Reverse(UnderWay { at, count: self.count, direction: number, bytes }));
            }
        }
    }
}

fn open() -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_nonblocking(true)?;
    let options = socket2::SockRef::from(&socket);
    options.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    options.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use link_model::LinkOption;

    /// Two sockets in place of relays 0 and 1.
    struct Rig {
        proxy: Proxy,
        clock: Clock,
        ends: [UdpSocket; 2],
    }

    impl Rig {
        fn new(options: &[&str]) -> anyhow::Result<Rig> {
            let options = options.iter().map(|text| LinkOption::parse(text, &mut |_| Ok("0001".to_owned())));
            let options: Vec<_> = options.collect::<Result<_, _>>()?;
            let base = LinkSpec { delay: Duration::from_millis(20), ..LinkSpec::default() };
            let there = LinkSchedule::new(&base, "r1", "r2", &options)?;
            let back = LinkSchedule::new(&base, "r2", "r1", &options)?;
            let proxy = Proxy::start(&[Pair { relays: (0, 1), there, back }], Seed(1))?;
            let ends = [UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?];
            for (relay, end) in ends.iter().enumerate() {
                end.set_read_timeout(Some(Duration::from_secs(5)))?;
                proxy.relay_listens(relay, end.local_addr()?);
            }
            Ok(Rig { proxy, clock: Clock::start(), ends })
        }

        fn send(&self, from: usize, bytes: &[u8]) -> anyhow::Result<()> {
            let address = self.proxy.address(from, 1 - from).context("a link")?;
            self.ends[from].send_to(bytes, address)?;
            Ok(())
        }

        fn receive(&self, at: usize) -> anyhow::Result<Vec<u8>> {
            let mut buffer = [0; 2_000];
            let (length, source) = self.ends[at].recv_from(&mut buffer)?;
            anyhow::ensure!(
                Some(source) == self.proxy.address(at, 1 - at),
                "comes from where it is answered"
            );
            Ok(buffer[..length].to_vec())
        }
    }

    #[test]
    fn datagrams_are_delayed_and_keep_their_order() -> anyhow::Result<()> {
        let rig = Rig::new(&["r2>r1:delay=50ms"])?;
        for (from, delay_ms) in [(0, 20), (1, 50)] {
            let begin = rig.clock.now();
            for byte in 0..40 {
                rig.send(from, &[byte; 1_200])?;
            }
            for byte in 0..40 {
                assert_eq!(rig.receive(1 - from)?, [byte; 1_200]);
            }
            assert!(rig.clock.now() - begin >= Duration::from_millis(delay_ms));
        }
        let carried = rig.proxy.carried()[&(0, 1)];
        assert_eq!(carried, Carried { bytes: 48_000, datagrams: 40, lost: 0, offered_bytes: 48_000 });
        Ok(())
    }

    #[test]
    fn a_trace_loses_what_it_says() -> anyhow::Result<()> {
        let rig = Rig::new(&["r1>r2:loss=trace:file"])?;
        for byte in 0..40 {
            rig.send(0, &[byte])?;
        }
        let arrived: Vec<u8> = (0..30).map(|_| Ok(rig.receive(1)?[0])).collect::<anyhow::Result<_>>()?;
        assert!(arrived.is_sorted());
        assert_eq!(rig.proxy.carried()[&(0, 1)].lost, 10);
        Ok(())
    }

    #[test]
    fn scheduled_changes_count_from_their_start() -> anyhow::Result<()> {
        let rig = Rig::new(&["r1-r2:delay=1ms@1ms", "r1>r2:duplicate=100%@2ms"])?;
        let begin = rig.clock.now();
        rig.send(0, b"before")?;
        assert_eq!(rig.receive(1)?, b"before");
        assert!(rig.clock.now() - begin >= Duration::from_millis(20));
        rig.proxy.start_schedule();
        // Sent until the change shows: its copies arrive.
        loop {
            rig.send(0, b"x")?;
            rig.receive(1)?;
            if rig.proxy.carried()[&(0, 1)].datagrams > 40 {
                break;
            }
        }
        Ok(())
    }

    #[test]
    fn a_port_that_nobody_told_is_learned_once() -> anyhow::Result<()> {
        let rig = Rig::new(&[])?;
        let late = UdpSocket::bind("127.0.0.1:0")?;
        let address = rig.proxy.address(0, 1).context("a link")?;
        rig.proxy.relay_speaks(0);
        late.send_to(b"here I am", address)?;
        assert_eq!(rig.receive(1)?, b"here I am");
        rig.send(0, b"and I was")?;
        late.send_to(b"still here", address)?;
        assert_eq!(rig.receive(1)?, b"still here");
        Ok(())
    }

    #[test]
    fn strangers_are_not_carried() -> anyhow::Result<()> {
        let rig = Rig::new(&[])?;
        let stranger = UdpSocket::bind("127.0.0.1:0")?;
        let address = rig.proxy.address(0, 1).context("a link")?;
        stranger.send_to(b"let me in", address)?;
        rig.send(0, b"mine")?;
        assert_eq!(rig.receive(1)?, b"mine");
        Ok(())
    }
}
