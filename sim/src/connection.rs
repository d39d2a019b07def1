//! An association between two ports: its handshake, its reliable stream, its packet numbers. What QUIC and sealing do
//! for real is a state here; every flight of it crosses the same modelled network as the media.

use crate::scenario::Host;
use relay_core::LinkId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use wire_format::PacketNumber;

/// A connection, counted over the whole run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ConnectionId(pub(crate) u32);

/// One of the two ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum End {
    Dialler,
    Acceptor,
}

impl End {
    pub(crate) fn other(self) -> End {
        match self {
            End::Dialler => End::Acceptor,
            End::Acceptor => End::Dialler,
        }
    }
}

/// Flights of a handshake: QUIC's first two, then the dialler's hello, then the answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Flight {
    Initial,
    Certificate,
    Hello,
    Answer,
}

impl Flight {
    pub(crate) fn from(self) -> End {
        match self {
            Flight::Initial | Flight::Hello => End::Dialler,
            Flight::Certificate | Flight::Answer => End::Acceptor,
        }
    }

    /// Bytes on the network.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Flight::Initial | Flight::Certificate => 1_200,
            Flight::Hello => 1_000,
            Flight::Answer => 200,
        }
    }
}

/// Bytes that a QUIC packet adds to a message.
pub(crate) const QUIC_OVERHEAD_BYTES: usize = 40;
/// A dial that has not succeeded within this has failed.
pub(crate) const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// First distance between dials, doubled up to the last.
pub(crate) const BACKOFF_FIRST: Duration = Duration::from_millis(50);
pub(crate) const BACKOFF_LAST: Duration = Duration::from_millis(500);
/// A QUIC flight that is lost is sent again after this, doubled each time.
pub(crate) const RESEND_FIRST: Duration = Duration::from_millis(300);
pub(crate) const RESEND_LAST: Duration = Duration::from_secs(2);
/// Packet numbers that the replay window remembers.
const REPLAY_WINDOW: u64 = 1_024;

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Terminal {
    pub(crate) host: Host,
    /// Life of the process that this end belongs to.
    pub(crate) life: u32,
    /// The core's name for it; none before the core was told, and none after.
    pub(crate) link: Option<LinkId>,
    pub(crate) last_number: Option<PacketNumber>,
    highest: u64,
    seen: BTreeSet<u64>,
    next_outgoing: u64,
    /// Messages sent and not arrived.
    pub(crate) unacknowledged: BTreeMap<u64, Vec<u8>>,
    next_incoming: u64,
    /// Messages that came before their turn.
    early: BTreeMap<u64, Vec<u8>>,
}

impl Terminal {
    fn new(host: Host, life: u32) -> Terminal {
        Terminal {
            host,
            life,
            link: None,
            last_number: None,
            highest: 0,
            seen: BTreeSet::new(),
            next_outgoing: 0,
            unacknowledged: BTreeMap::new(),
            next_incoming: 0,
            early: BTreeMap::new(),
        }
    }

    /// A datagram of that number leaves. `false` if a key would see a number for the second time.
    pub(crate) fn number_is_fresh(&mut self, number: PacketNumber) -> bool {
        let fresh = self.last_number.is_none_or(|last| last < number);
        self.last_number = Some(number);
        fresh
    }

    /// A datagram of that number arrives. `false` if it came before, or is too old to tell.
    pub(crate) fn admit(&mut self, PacketNumber(number): PacketNumber) -> bool {
        if number + REPLAY_WINDOW <= self.highest || !self.seen.insert(number) {
            return false;
        }
        self.highest = self.highest.max(number);
        while self.seen.first().is_some_and(|first| first + REPLAY_WINDOW <= self.highest) {
            self.seen.pop_first();
        }
        true
    }

    /// A message enters the reliable stream; returns its place in it.
    pub(crate) fn enqueue(&mut self, bytes: Vec<u8>) -> u64 {
        let place = self.next_outgoing;
        self.next_outgoing += 1;
        self.unacknowledged.insert(place, bytes);
        place
    }

    /// A message arrives; returns those whose turn has come.
    pub(crate) fn receive(&mut self, place: u64, bytes: Vec<u8>) -> Vec<Vec<u8>> {
        if place >= self.next_incoming {
            self.early.insert(place, bytes);
        }
        let mut ready = Vec::new();
        while let Some(bytes) = self.early.remove(&self.next_incoming) {
            ready.push(bytes);
            self.next_incoming += 1;
        }
        ready
    }
}

/// How far a connection has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// That flight is under way.
    Handshake(Flight),
    /// Both sides have what they need.
    Established,
    /// Failed, refused or closed by both.
    Over,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stage: Stage,
    dialler: Terminal,
    acceptor: Terminal,
}

impl Connection {
    pub(crate) fn new(dialler: (Host, u32), acceptor: (Host, u32)) -> Connection {
        Connection {
            stage: Stage::Handshake(Flight::Initial),
            dialler: Terminal::new(dialler.0, dialler.1),
            acceptor: Terminal::new(acceptor.0, acceptor.1),
        }
    }

    pub(crate) fn end(&self, end: End) -> &Terminal {
        match end {
            End::Dialler => &self.dialler,
            End::Acceptor => &self.acceptor,
        }
    }

    pub(crate) fn end_mut(&mut self, end: End) -> &mut Terminal {
        match end {
            End::Dialler => &mut self.dialler,
            End::Acceptor => &mut self.acceptor,
        }
    }

    /// From and to whom what this end sends goes.
    pub(crate) fn direction(&self, from: End) -> (Host, Host) {
        (self.end(from).host, self.end(from.other()).host)
    }
}

/// The backoff that follows one.
pub(crate) fn next_backoff(backoff: Duration) -> Duration {
    (2 * backoff).min(BACKOFF_LAST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::RelayId;

    #[test]
    fn the_stream_restores_order_and_drops_repetitions() {
        let mut end = Terminal::new(Host::Relay(RelayId(0)), 0);
        assert!(end.receive(1, vec![1]).is_empty());
        assert!(end.receive(2, vec![2]).is_empty());
        assert_eq!(end.receive(0, vec![0]), [vec![0], vec![1], vec![2]]);
        assert!(end.receive(1, vec![1]).is_empty());
    }

    #[test]
    fn the_replay_window_admits_each_number_once() {
        let mut end = Terminal::new(Host::Relay(RelayId(0)), 0);
        assert!(end.admit(PacketNumber(5)) && end.admit(PacketNumber(3)));
        assert!(!end.admit(PacketNumber(5)));
        assert!(end.admit(PacketNumber(5_000)));
        assert!(!end.admit(PacketNumber(4)), "too old to tell");
    }
}
