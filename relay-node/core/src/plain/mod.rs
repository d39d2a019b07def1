//! Plain RTP: publications and subscriptions of SFUs that embed nothing, registered with this relay and known by
//! addresses instead of a link.
//!
//! A **publication** receives RTP on the relay port (told from others by its source and SSRC) or on a port of its own
//! (any SSRC). Its packets are numbered here and then go the way of every packet. What its publisher expects of a
//! receiver is done here too: receiver reports once a second, and a picture loss indication when a keyframe is wanted.
//!
//! A **subscription** sends the streams that match it to one address, byte for byte, always from the port that it is
//! told to send its RTCP to. PLI and FIR become keyframe requests; a generic NACK is answered from a cache of the last
//! packets of the stream. Reports of subscribers end here.
//!
//! Addresses are the only credentials, so they are compared before anything else is believed: what comes from elsewhere
//! is counted and dropped, and nothing is ever sent to an address that is not registered, or learned from RTCP of the
//! same host.
//!
//! Within an input, packets for plain subscribers are first noted ([`Plain::arrived`]) and sent on when the input has
//! been handled, because only then the bytes behind them are at hand.

mod cache;
mod egress;
mod feedback;
mod ingress;
mod reception;
mod register;
mod views;

pub(crate) use egress::PlainRow;
pub use register::{PlainLocal, PlainPublish, PlainRefusal, PlainSource, PlainSubscribe};
pub(crate) use register::{PlainPublication, PlainSubscription};
pub use views::{PlainPublicationView, PlainStreamView, PlainSubscriptionView, ReceptionView};

use crate::annex::packet_bytes;
use crate::relay::Relay;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use wire_format::{PublicationId, StreamKey, SubscriptionId};

/// A socket for plain RTP, as the process around the core counts them; never reused within a process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PlainPort(pub u32);

impl PlainPort {
    /// The relay port, which all registrations may share.
    pub const RELAY: PlainPort = PlainPort(0);
}

/// A registration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PlainId {
    /// A publication.
    Publication(PublicationId),
    /// A subscription.
    Subscription(SubscriptionId),
}

/// A plain datagram that arrived; its bytes are `arena[range]`.
#[derive(Clone, Debug)]
pub struct PlainReceived {
    /// The socket.
    pub port: PlainPort,
    /// Who sent it. An IPv4 address is written as one, even where the socket speaks IPv6.
    pub source: SocketAddr,
    /// Where it is in the arena.
    pub range: Range<usize>,
}

/// A plain datagram to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlainTransmit<'a> {
    /// From this socket.
    pub port: PlainPort,
    /// With this source address, where the socket has several.
    pub from: IpAddr,
    /// To this address.
    pub to: SocketAddr,
    /// What.
    pub bytes: &'a [u8],
}

/// Datagrams that may wait until the input has been handled.
const QUEUE_MAX: usize = 1 << 16;
/// Bytes of RTCP that may wait likewise.
const MADE_MAX: usize = 1 << 20;

/// A packet that some plain subscriber gets once the input has been handled.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) key: StreamKey,
    pub(crate) packet: Range<usize>,
    pub(crate) rtcp: bool,
}

#[derive(Debug)]
struct Departure {
    port: PlainPort,
    from: IpAddr,
    to: SocketAddr,
    bytes: Bytes,
}

/// Where the bytes of a departure are.
#[derive(Debug)]
enum Bytes {
    /// In the arena of the input, or in the annex.
    Arena(Range<usize>),
    /// In a stream's cache.
    Cached { key: StreamKey, at: u64, bytes: usize },
    /// In [`Plain::made`].
    Made(Range<usize>),
}

/// All that a relay keeps for plain RTP, but for what stands in the rows of the stream table.
#[derive(Debug)]
pub(crate) struct Plain {
    seed: u64,
    /// Canonical name in our RTCP.
    cname: String,
    publications: BTreeMap<PublicationId, PlainPublication>,
    subscriptions: BTreeMap<SubscriptionId, PlainSubscription>,
    /// Ports of their own: whose, and whether it is the second one, for RTCP.
    own: BTreeMap<PlainPort, (PlainId, bool)>,
    /// Publications on the relay port, by source (port 0: any) and SSRC.
    by_source: BTreeMap<(IpAddr, u16, u32), PublicationId>,
    /// The same for their RTCP, which may come from another port.
    by_sender: BTreeMap<(IpAddr, u32), PublicationId>,
    /// Subscriptions on the relay port, by the address that their RTCP comes from.
    listeners: BTreeMap<IpAddr, Vec<SubscriptionId>>,
    /// Whose packets with an SSRC go to a destination.
    claims: BTreeMap<(SocketAddr, u32), (StreamKey, SubscriptionId)>,
    /// Caches held in the stream table.
    caches: usize,
    pub(crate) arrived: Vec<Arrived>,
    queue: VecDeque<Departure>,
    made: Vec<u8>,
}

impl Plain {
    pub(crate) fn new(seed: u64, name: &str) -> Plain {
        Plain {
            seed,
            cname: format!("{name}@cascade"),
            publications: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            own: BTreeMap::new(),
            by_source: BTreeMap::new(),
            by_sender: BTreeMap::new(),
            listeners: BTreeMap::new(),
            claims: BTreeMap::new(),
            caches: 0,
            arrived: Vec::new(),
            queue: VecDeque::new(),
            made: Vec::new(),
        }
    }

    /// Whether anyone is registered on the relay port.
    pub(crate) fn uses_relay_port(&self) -> bool {
        !self.by_source.is_empty() || !self.listeners.is_empty()
    }

    /// Queues a datagram; `false` if the queue is full.
    fn push(&mut self, departure: Departure) -> bool {
        if self.queue.len() >= QUEUE_MAX {
            return false;
        }
        self.queue.push_back(departure);
        true
    }

    /// Queues RTCP that `write` writes; `false` if too much waits.
    fn push_made(
        &mut self,
        port: PlainPort,
        from: IpAddr,
        to: SocketAddr,
        write: impl FnOnce(&mut Vec<u8>, &str),
    ) -> bool {
        if self.made.len() >= MADE_MAX {
            return false;
        }
        let start = self.made.len();
        write(&mut self.made, &self.cname);
        self.push(Departure { port, from, to, bytes: Bytes::Made(start..self.made.len()) })
    }
}

impl Relay {
    /// The next plain datagram.
    pub(crate) fn next_plain<'a>(&'a mut self, arena: &'a [u8]) -> Option<PlainTransmit<'a>> {
        let Some(Departure { port, from, to, bytes }) = self.plain.queue.pop_front() else {
            self.plain.made.clear();
            return None;
        };
        let bytes = match bytes {
            Bytes::Arena(range) => packet_bytes(arena, &self.annex, &range),
            Bytes::Made(range) => &self.plain.made[range],
            // A packet that was overwritten meanwhile leaves as nothing, which the driver does not send.
            Bytes::Cached { key, at, bytes } => {
                self.streams.find(key).and_then(|stream| stream.plain.cached(at, bytes)).unwrap_or_default()
            }
        };
        Some(PlainTransmit { port, from, to, bytes })
    }
}
