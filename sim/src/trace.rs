//! What happened, in order: the only thing besides the scenario that judges see.

use crate::scenario::{ClientId, Host, RelayId, StreamNumber};
use link_model::DropReason;
use std::hash::{Hash, Hasher};
use std::time::Duration;
use wire_format::control::LinkState;

/// A packet as its publisher numbered it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Packet {
    /// Its stream.
    pub stream: StreamNumber,
    /// Its number, from zero.
    pub number: u64,
}

/// A media frame on its way from relay to relay.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Frame {
    /// The relay that sends it.
    pub from: RelayId,
    /// The relay it is sent to.
    pub to: RelayId,
    /// The packet in it.
    pub packet: Packet,
    /// Which publication.
    pub incarnation: u8,
    /// The plane it travels on.
    pub plane: u8,
    /// Low bits of the epoch it was stamped with.
    pub epoch: u16,
    /// Hops left.
    pub hop_limit: u8,
    /// A relay left the tables of its stamp.
    pub marked: bool,
    /// Another copy goes on another plane, and this one is not moved.
    pub protected: bool,
    /// The policy whose planes it travels on.
    pub policy: u8,
    /// Relays still to reach.
    pub destinations: Vec<RelayId>,
    /// When the datagram comes out, or why it does not.
    pub fate: Result<Duration, DropReason>,
}

/// What a datagram is there for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Purpose {
    /// Media for the first time, whatever goes with it.
    Media,
    /// A datagram sent again.
    Again,
    /// A row of parity.
    Parity,
    /// Neither: heartbeats, requests, probes.
    Feedback,
}

/// A sealed datagram as it enters the network between two relays.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Datagram {
    /// The relay that sends it.
    pub from: RelayId,
    /// The relay it is sent to.
    pub to: RelayId,
    /// UDP payload.
    pub bytes: u32,
    /// What it is there for.
    pub purpose: Purpose,
    /// The frames of media in it, halves included.
    pub media_frames: u32,
    /// It asks for what is missing.
    pub asks: bool,
    /// When it comes out, or why it does not.
    pub fate: Result<Duration, DropReason>,
}

/// A packet that came out at a subscriber.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Delivered {
    /// The subscriber.
    pub client: ClientId,
    /// The stream that was announced under the delivery's handle, if it is one of the scenario.
    pub announced: Option<StreamNumber>,
    /// What the packet says it is.
    pub packet: Option<Packet>,
    /// The publisher's sequence.
    pub sequence: u32,
    /// It came as RTCP.
    pub rtcp: bool,
    /// Digest of its bytes.
    pub digest: u64,
}

/// A row of a route table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Row {
    /// On which plane.
    pub plane: u8,
    /// Where to.
    pub destination: RelayId,
    /// The neighbour that comes next.
    pub next_hop: RelayId,
}

/// A relay's tables as the controller pushed them.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PushedTable {
    /// Whose.
    pub relay: RelayId,
    /// Their version.
    pub epoch: u32,
    /// Whose frames they forward.
    pub policy: u8,
    /// Rows, by plane and destination.
    pub rows: Vec<Row>,
    /// By destination: the plane to turn to when the primary next hop fails.
    pub backups: Vec<(RelayId, u8)>,
    /// By destination: the two planes that a protected stream takes at once.
    pub pairs: Vec<(RelayId, [u8; 2])>,
}

/// What the controller believed of the overlay when it pushed the first table of an epoch.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Beliefs {
    /// Relays in session that have not said goodbye.
    pub connected: Vec<RelayId>,
    /// Relays that it knows otherwise, but for those that are offline.
    pub others: Vec<RelayId>,
    /// Directions that routes may use.
    pub links: Vec<(RelayId, RelayId)>,
}

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    /// A fault of the scenario, by its place in the list, begins.
    FaultBegins(usize),
    /// It is over.
    FaultEnds(usize),
    /// A core was told that a link stands.
    LinkUp {
        /// Where.
        at: Host,
        /// With whom.
        with: Host,
    },
    /// A core was told that a link is gone.
    LinkDown {
        /// Where.
        at: Host,
        /// With whom.
        with: Host,
    },
    /// A relay got a certificate, and with it an index.
    Joined {
        /// The relay.
        relay: RelayId,
        /// Its index.
        index: u16,
    },
    /// A relay's session with the controller stands.
    SessionUp(RelayId),
    /// A relay's session is gone, as the relay sees it.
    SessionDown(RelayId),
    /// Tables arrive at a relay.
    Table {
        /// The relay.
        relay: RelayId,
        /// Their epoch.
        epoch: u32,
        /// Rows.
        rows: usize,
    },
    /// A row of its stream table arrives at a relay, or the word that there is none any more.
    Row {
        /// The relay.
        relay: RelayId,
        /// The stream.
        stream: StreamNumber,
        /// Relays that it is to stamp.
        destinations: Vec<RelayId>,
    },
    /// The order what to stamp arrives at a relay.
    Stamp {
        /// The relay.
        relay: RelayId,
        /// The epoch.
        epoch: u32,
    },
    /// The controller takes a session for its relay's: it says welcome.
    Introduced(RelayId),
    /// The controller was told, or decided, that such a session is over.
    Dismissed(RelayId),
    /// A relay reports another state of a link than the last time in this session; heard by the controller.
    Reported {
        /// Who reports.
        relay: RelayId,
        /// The other end.
        neighbour: RelayId,
        /// What it says.
        state: LinkState,
    },
    /// What the controller believed when it began to push an epoch.
    Believed {
        /// The epoch.
        epoch: u32,
        /// What.
        beliefs: Beliefs,
    },
    /// The controller pushes tables to a relay.
    Pushed(PushedTable),
    /// The controller orders a relay to stamp an epoch.
    Ordered {
        /// The relay.
        relay: RelayId,
        /// The epoch.
        epoch: u32,
    },
    /// The controller hears that a relay holds tables.
    TableAcked {
        /// The relay.
        relay: RelayId,
        /// Their epoch.
        epoch: u32,
    },
    /// The controller hears that a relay stamps an epoch.
    StampAcked {
        /// The relay.
        relay: RelayId,
        /// The epoch.
        epoch: u32,
    },
    /// A client heard that it may publish.
    Published(StreamNumber),
    /// A client was announced a stream.
    Announced {
        /// The client.
        client: ClientId,
        /// The stream, if it is one of the scenario.
        stream: Option<StreamNumber>,
    },
    /// A client heard that a stream is over.
    Ended {
        /// The client.
        client: ClientId,
        /// The stream, if it is one of the scenario.
        stream: Option<StreamNumber>,
    },
    /// A request of a client was refused.
    Refused {
        /// The client.
        client: ClientId,
        /// Why, for people.
        reason: String,
    },
    /// A publisher was asked for a keyframe.
    KeyframeRequested(StreamNumber),
    /// A publisher handed a packet to its core.
    Sent {
        /// The packet.
        packet: Packet,
        /// It goes as RTCP.
        rtcp: bool,
        /// Digest of its bytes.
        digest: u64,
    },
    /// A media frame left a relay for another.
    Frame(Frame),
    /// A datagram left a relay for another.
    Datagram(Datagram),
    /// A packet came out at a subscriber.
    Delivered(Delivered),
    /// A core broke a law of its contract, or something that it said did not survive its encoding.
    Violation {
        /// Who.
        who: String,
        /// What.
        what: String,
    },
    /// A counter that is not zero at the end, or when its process died.
    Counter {
        /// Whose.
        host: Host,
        /// Its name.
        name: &'static str,
        /// Its value.
        value: u64,
    },
}

impl Event {
    /// The frame, if it is one.
    pub fn frame(&self) -> Option<&Frame> {
        if let Event::Frame(frame) = self { Some(frame) } else { None }
    }

    /// The datagram, if it is one.
    pub fn datagram(&self) -> Option<&Datagram> {
        if let Event::Datagram(datagram) = self { Some(datagram) } else { None }
    }

    /// A packet or datagram on its way: of these there are many.
    pub fn is_media(&self) -> bool {
        matches!(self, Event::Sent { .. } | Event::Frame(_) | Event::Datagram(_) | Event::Delivered(_))
    }

    /// The delivery, if it is one.
    pub fn delivered(&self) -> Option<&Delivered> {
        if let Event::Delivered(delivered) = self { Some(delivered) } else { None }
    }
}

/// What happened in a run, with the time of each event since the beginning.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    events: Vec<(Duration, Event)>,
    hash: RunHash,
}

impl Trace {
    /// Appends an event.
    pub fn push(&mut self, at: Duration, event: Event) {
        self.hash.see(at, &event);
        self.events.push((at, event));
    }

    /// All events, in order.
    pub fn events(&self) -> &[(Duration, Event)] {
        &self.events
    }

    /// A number that two runs share only if the same happened in both.
    pub fn hash(&self) -> u64 {
        self.hash.value()
    }

    /// The same trace, changed by whoever wants to see a judge object.
    #[must_use]
    pub fn mutated(&self, mut change: impl FnMut(Duration, &Event) -> Vec<(Duration, Event)>) -> Trace {
        let mut mutated = Trace::default();
        for (at, event) in self.events.iter().flat_map(|(at, event)| change(*at, event)) {
            mutated.push(at, event);
        }
        mutated
    }
}

/// The hash of a trace, for whoever keeps no trace.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunHash(Digest);

impl RunHash {
    /// The next event.
    pub(crate) fn see(&mut self, at: Duration, event: &Event) {
        self.0.write_u64(u64::try_from(at.as_micros()).unwrap_or(u64::MAX));
        event.hash(&mut self.0);
    }

    /// A number that two runs share only if the same happened in both.
    pub(crate) fn value(&self) -> u64 {
        self.0.finish()
    }
}

/// FNV-1a with 64 bits (Fowler, Noll, Vo), the same on every machine: numbers are little-endian and lengths 64 bits wide.
#[derive(Clone, Copy, Debug)]
pub struct Digest(u64);

impl Default for Digest {
    fn default() -> Digest {
        Digest(0xCBF2_9CE4_8422_2325)
    }
}

impl Hasher for Digest {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
        }
    }

    fn write_u16(&mut self, value: u16) {
        self.write(&value.to_le_bytes());
    }

    fn write_u32(&mut self, value: u32) {
        self.write(&value.to_le_bytes());
    }

    fn write_u64(&mut self, value: u64) {
        self.write(&value.to_le_bytes());
    }

    fn write_u128(&mut self, value: u128) {
        self.write(&value.to_le_bytes());
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_fnv_1a() {
        assert_eq!(crate::media::digest(b""), 0xCBF2_9CE4_8422_2325);
        assert_eq!(crate::media::digest(b"a"), 0xAF63_DC4C_8601_EC8C);
        assert_eq!(crate::media::digest(b"foobar"), 0x8594_4171_F739_67E8);
    }

    #[test]
    fn any_difference_shows() {
        let trace = |at_us, number| {
            let mut trace = Trace::default();
            trace.push(Duration::from_micros(at_us), Event::FaultBegins(number));
            trace.hash()
        };
        assert_eq!(trace(1, 2), trace(1, 2));
        assert_ne!(trace(1, 2), trace(1, 3));
        assert_ne!(trace(1, 2), trace(2, 2));
    }
}
