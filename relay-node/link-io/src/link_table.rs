//! The worker's links, by slot.

use crate::seal::{OpenError, Opener, Sealer};
use crate::slots::{Slot, slot_of_link, slot_of_receiver};
use crate::stats::PortStats;
use crate::worker::{Attachment, Outbound};
use relay_core::{LinkId, Peer};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;
use tokio::sync::mpsc;
use wire_format::{PacketNumber, SealedHeader, Timestamp};

/// How often a link asks QUIC whether its peer has moved, while datagrams come from elsewhere.
const MOVED_CHECK: Duration = Duration::from_millis(10);

struct Entry {
    slot: Slot,
    sealer: Sealer,
    opener: Opener,
    route: Route,
    /// For the core when the link comes up; `None` once it is up.
    peer: Option<Peer>,
    connection: quinn::Connection,
    outbound: mpsc::Sender<Outbound>,
    next_moved_check: Timestamp,
}

/// Where sealed datagrams of a link go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    pub(crate) remote: SocketAddr,
    pub(crate) local_ip: Option<IpAddr>,
    pub(crate) max_datagram: u16,
}

/// A datagram that proved authentic.
pub(crate) struct Opened {
    pub(crate) link: LinkId,
    pub(crate) number: PacketNumber,
    /// Its plain bytes, counted from its start.
    pub(crate) plain: Range<usize>,
    /// The core has not heard of the link yet.
    pub(crate) first: bool,
}

pub(crate) struct LinkTable {
    entries: Vec<Option<Box<Entry>>>,
}

impl LinkTable {
    pub(crate) fn new(slots: usize) -> LinkTable {
        LinkTable { entries: (0..slots).map(|_| None).collect() }
    }

    pub(crate) fn insert(&mut self, attachment: Attachment) {
        let Attachment { slot, peer, sealer, opener, max_datagram, connection, outbound, ready: _ } =
            attachment;
        let route =
            Route { remote: connection.remote_address(), local_ip: connection.local_ip(), max_datagram };
        let entry = Entry {
            slot,
            sealer,
            opener,
            route,
            peer: Some(peer),
            connection,
            outbound,
            next_moved_check: Timestamp::ZERO,
        };
        if let Some(place) = self.entries.get_mut(slot_of_link(slot.link)) {
            *place = Some(Box::new(entry));
        }
    }

    /// The peer of a link that the core has not heard of, once; and the largest datagram for it.
    pub(crate) fn raise(&mut self, link: LinkId) -> Option<(Peer, u16)> {
        let entry = self.entry(link)?;
        let peer = entry.peer.take()?;
        Some((peer, entry.route.max_datagram))
    }

    /// Opens a datagram in place, or counts why it is dropped.
    pub(crate) fn open(
        &mut self,
        now: Timestamp,
        from: SocketAddr,
        datagram: &mut [u8],
        stats: &mut PortStats,
    ) -> Option<Opened> {
        let Some(header) = SealedHeader::decode(datagram) else {
            stats.drop_malformed += 1;
            return None;
        };
        let entry = self.entries.get_mut(slot_of_receiver(header.receiver)).and_then(Option::as_deref_mut);
        let Some(entry) = entry.filter(|entry| entry.slot.receiver == header.receiver) else {
            stats.drop_unknown_receiver += 1;
            return None;
        };
        let generation = entry.opener.generation();
        match entry.opener.open(now, header, datagram) {
            Ok(plain) => {
                stats.key_generations += u64::from(entry.opener.generation() != generation);
                if from.port() != entry.route.remote.port() || from.ip() != entry.route.remote.ip() {
                    entry.follow(now, from);
                }
                Some(Opened {
                    link: entry.slot.link,
                    number: header.number,
                    plain,
                    first: entry.peer.is_some(),
                })
            }
            Err(OpenError::Replayed) => {
                stats.drop_replayed += 1;
                None
            }
            Err(OpenError::Failed) => {
                stats.drop_failed_open += 1;
                None
            }
        }
    }

    pub(crate) fn outwards(&mut self, link: LinkId) -> Option<(&mut Sealer, Route)> {
        let entry = self.entry(link)?;
        Some((&mut entry.sealer, entry.route))
    }

    pub(crate) fn outbound(&mut self, link: LinkId) -> Option<&mpsc::Sender<Outbound>> {
        self.entry(link).map(|entry| &entry.outbound)
    }

    pub(crate) fn connection(&mut self, link: LinkId) -> Option<&quinn::Connection> {
        self.entry(link).map(|entry| &entry.connection)
    }

    pub(crate) fn contains(&mut self, link: LinkId) -> bool {
        self.entry(link).is_some()
    }

    pub(crate) fn ids(&self) -> Vec<LinkId> {
        self.entries.iter().flatten().map(|entry| entry.slot.link).collect()
    }

    /// Removes a link; says whether the core knew it.
    pub(crate) fn remove(&mut self, link: LinkId) -> Option<bool> {
        self.entry(link)?;
        let entry = self.entries.get_mut(slot_of_link(link)).and_then(Option::take)?;
        Some(entry.peer.is_none())
    }

    fn entry(&mut self, link: LinkId) -> Option<&mut Entry> {
        self.entries.get_mut(slot_of_link(link))?.as_deref_mut().filter(|entry| entry.slot.link == link)
    }
}

impl Entry {
    /// An authentic datagram came from a new address. That alone proves nothing (anyone can replay it from elsewhere
    /// first): the link moves only where QUIC has validated the path.
    #[cold]
    fn follow(&mut self, now: Timestamp, from: SocketAddr) {
        if now < self.next_moved_check {
            return;
        }
        self.next_moved_check = now + MOVED_CHECK;
        let validated = self.connection.remote_address();
        if validated.port() == from.port() && validated.ip() == from.ip() {
            self.route.remote = validated;
            self.route.local_ip = self.connection.local_ip();
        }
    }
}
