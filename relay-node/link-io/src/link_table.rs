//! The worker's links, by slot.

use crate::handshake::canonical;
use crate::moved::{Came, Candidate, NUDGE_EVERY, Token, same};
use crate::seal::{OpenError, Opener, Sealer};
use crate::slots::{Slot, slot_of_link, slot_of_receiver};
use crate::stats::PortStats;
use crate::worker::{Attachment, Outbound};
use relay_core::{LinkId, Peer, Train};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use tokio::sync::mpsc;
use wire_format::{PacketNumber, SealedHeader, Timestamp};

struct Entry {
    slot: Slot,
    sealer: Sealer,
    opener: Opener,
    route: Route,
    /// For the core when the link comes up; `None` once it is up.
    peer: Option<Peer>,
    connection: quinn::Connection,
    outbound: mpsc::Sender<Outbound>,
    dialled: bool,
    candidate: Option<Candidate>,
    next_nudge: Timestamp,
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
    /// It came from elsewhere: to be asked there.
    pub(crate) challenge: Option<Token>,
}

pub(crate) struct LinkTable {
    entries: Vec<Option<Box<Entry>>>,
}

impl LinkTable {
    pub(crate) fn new(slots: usize) -> LinkTable {
        LinkTable { entries: (0..slots).map(|_| None).collect() }
    }

    pub(crate) fn insert(&mut self, attachment: Attachment) {
        let Attachment { slot, peer, sealer, opener, max_datagram, connection, outbound, dialled, ready: _ } =
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
            dialled,
            candidate: None,
            next_nudge: Timestamp::ZERO,
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
        (from, local_ip): (SocketAddr, Option<IpAddr>),
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
                let challenge = if same(from, entry.route.remote) {
                    None
                } else {
                    let came = Came { from, local_ip, number: header.number, bytes: datagram.len() };
                    entry.elsewhere(now, came, &datagram[plain.clone()], stats)
                };
                Some(Opened {
                    link: entry.slot.link,
                    number: header.number,
                    plain,
                    first: entry.peer.is_some(),
                    challenge,
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

    /// How a train is sealed, and where it goes: a challenge to the address in question, all else to the peer.
    pub(crate) fn outwards(&mut self, link: LinkId, train: &Train) -> Option<(&mut Sealer, Route)> {
        let entry = self.entry(link)?;
        let route = match &entry.candidate {
            Some(candidate) => candidate.route_of(train).unwrap_or(entry.route),
            None => entry.route,
        };
        Some((&mut entry.sealer, route))
    }

    /// The peer has asked whether it reaches this end at another address, so QUIC should speak from there, too; only who
    /// dialled may move in QUIC (RFC 9000 section 9).
    pub(crate) fn nudge(&mut self, now: Timestamp, link: LinkId) {
        if let Some(entry) = self.entry(link)
            && entry.dialled
            && now >= entry.next_nudge
        {
            entry.next_nudge = now + NUDGE_EVERY;
            // A queue that is full is being written, and that is as good.
            let _ = entry.outbound.try_send(Outbound::Nudge);
        }
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
    /// An authentic datagram came from another address than the peer's. That alone proves nothing (anyone can send a copy
    /// from elsewhere first): the link moves when the peer has answered a question that was sent there, from there.
    #[cold]
    fn elsewhere(
        &mut self,
        now: Timestamp,
        came: Came,
        plain: &[u8],
        stats: &mut PortStats,
    ) -> Option<Token> {
        if let Some(candidate) = self.candidate.take_if(|candidate| candidate.is_proven(&came, plain)) {
            self.route = Route { remote: candidate.remote, local_ip: candidate.local_ip, ..self.route };
            stats.paths_moved += 1;
            tracing::info!(link = self.slot.link.0, remote = %canonical(came.from), "link moved");
            return None;
        }
        if !self.opener.is_newest(came.number) {
            return None;
        }
        let asked = Candidate::ask(&mut self.candidate, now, &came);
        stats.path_challenges += u64::from(asked.is_some());
        asked
    }
}
