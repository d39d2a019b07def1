//! Publications: who has a stream's name, and with which ids.

use super::{
    Contender, Directory, FORGET_AFTER, Holding, Moves, Publication, Stream, Timer, is_name, matches,
};
use crate::effect::Effect;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use wire_format::control::{PublicationReport, StreamName, ToRelay, limits};
use wire_format::{Incarnation, NodeIndex, PublicationId, StreamKey, SubscriptionId, Timestamp};

/// Publications of one relay.
const PUBLICATIONS_PER_RELAY: usize = 16_384;
/// Streams remembered, live and ended.
const STREAMS_MAX: usize = 1 << 20;
/// Publications that wait for the same name.
const CONTENDERS_MAX: usize = 8;
/// How long they wait.
const CONTEST_WAIT: Duration = Duration::from_secs(3);

impl Directory {
    /// A relay reports a publication.
    pub(crate) fn published(
        &mut self,
        now: Timestamp,
        node: NodeIndex,
        report: PublicationReport,
        out: &mut Vec<Effect>,
    ) {
        let id = (node, report.publication);
        if let Some(known) = self.publications.get_mut(&id) {
            if known.name == report.name
                && known.kind == report.kind
                && known.protect == report.protect
                && known.publisher == report.publisher
            {
                let repeated = !std::mem::replace(&mut known.fresh, true);
                self.republished(now, id, &report, repeated, out);
                return;
            }
            self.unpublished(now, node, report.publication, out);
        }
        if [&report.name.namespace, &report.name.room, &report.name.user, &report.name.stream]
            .into_iter()
            .any(|name| !is_name(name))
        {
            let reason = format!("a name is empty or longer than {} bytes", limits::NAME_BYTES);
            self.refuse_publication(id, reason, out);
            return;
        }
        // One that moves is counted twice for a moment, and is no more than before.
        let moves = self.moves(&report.name, report.publisher);
        let checked = self
            .check_room(node, &report.name)
            .and_then(|()| self.check_limits(&report.name.namespace, node, Holding::Stream));
        if let Err(reason) = checked
            && !moves
        {
            self.refuse_over_limit(id, reason, out);
            return;
        }
        let PublicationReport { kind, protect, publisher, .. } = report;
        let publication = Publication { name: report.name.clone(), kind, protect, publisher, fresh: true };
        self.publications.insert(id, publication);
        self.peers.entry(node).or_default().publications += 1;
        self.tenants.add(&report.name.namespace, node, Holding::Stream);
        let name = &report.name;
        match self.streams.get(name).map(|stream| stream.live) {
            None => self.begin(now, id, &report, out),
            Some(None) => self.resume(now, id, &report, out),
            Some(Some(_)) if moves => self.arrive(now, name, id, out),
            Some(Some(holder)) => {
                let yields = holder.0 == node
                    || self.peers.get(&holder.0).is_none_or(|peer| peer.offline)
                    || self.peers.get(&holder.0).is_some_and(|peer| peer.ready)
                        && self.publications.get(&holder).is_none_or(|publication| !publication.fresh);
                if yields {
                    if holder.0 == node {
                        self.give_up_older(holder, out);
                    }
                    self.promote(name, id, out);
                } else {
                    self.contend(now, name, id, out);
                }
            }
        }
        self.refresh(now, &report.name, out);
    }

    /// The relay of a publication has published its stream again. It is told that the older one is over, unless that is
    /// of a session before and was not repeated in this one: then the relay has started anew, and may have given the
    /// number to another stream.
    fn give_up_older(&mut self, older: (NodeIndex, PublicationId), out: &mut Vec<Effect>) {
        if self.publications.get(&older).is_some_and(|publication| publication.fresh) {
            let reason = "the same stream was published again at this relay".to_owned();
            self.refuse_publication(older, reason, out);
        } else {
            self.remove_publication(older);
        }
    }

    /// A publication ended.
    pub(crate) fn unpublished(
        &mut self,
        now: Timestamp,
        node: NodeIndex,
        publication: PublicationId,
        out: &mut Vec<Effect>,
    ) {
        let id = (node, publication);
        let Some(name) = self.remove_publication(id) else {
            return;
        };
        let Some(stream) = self.streams.get_mut(&name) else {
            return;
        };
        stream.contenders.retain(|contender| contender.publication != id);
        let moved = stream.moves.ended(id);
        if stream.live == Some(id) {
            stream.live = None;
            if !self.go_on(&name, out) && !self.promote_next(&name, out) {
                self.end(now, &name);
            }
        } else if !moved {
            return;
        }
        self.refresh(now, &name, out);
    }

    /// A publication that is known was reported again: in a new session (`repeated`) or in the same one.
    fn republished(
        &mut self,
        now: Timestamp,
        id: (NodeIndex, PublicationId),
        report: &PublicationReport,
        repeated: bool,
        out: &mut Vec<Effect>,
    ) {
        let Some(stream) = self.streams.get(&report.name) else {
            return;
        };
        if stream.moves.leaving.contains(&id) && report.granted.is_none() {
            // Its relay has forgotten what it was granted.
            self.grant(id, &report.name, out);
            return;
        }
        if stream.live != Some(id) {
            if !stream.moves.holds(id)
                && !stream.contenders.iter().any(|contender| contender.publication == id)
            {
                // Its relay was offline, and the name went to another.
                let reason = self.reason_taken(&report.name);
                self.refuse_publication(id, reason, out);
            }
            return;
        }
        if report.granted == Some((stream.key, stream.incarnation)) {
            return;
        }
        if repeated && report.granted.is_none() && report.publisher.is_none() {
            // The relay may have started anew, and so may its count of packets. A publisher with a key counts them itself.
            self.promote(&report.name, id, out);
            self.refresh(now, &report.name, out);
        } else {
            self.grant(id, &report.name, out);
        }
    }

    /// Whether relay and overlay have room for a stream more.
    fn check_room(&self, node: NodeIndex, name: &StreamName) -> Result<(), String> {
        if self.peers.get(&node).is_some_and(|peer| peer.publications >= PUBLICATIONS_PER_RELAY) {
            return Err(format!(
                "this relay has {PUBLICATIONS_PER_RELAY} publications already: publish elsewhere"
            ));
        }
        if self.streams.len() >= STREAMS_MAX && !self.streams.contains_key(name) {
            return Err(format!("the overlay carries {STREAMS_MAX} streams already"));
        }
        Ok(())
    }

    /// A stream of a name that is not known.
    fn begin(
        &mut self,
        now: Timestamp,
        id: (NodeIndex, PublicationId),
        report: &PublicationReport,
        out: &mut Vec<Effect>,
    ) {
        let granted = report.granted.filter(|(key, _)| !self.names.contains_key(key));
        let (key, incarnation) = match granted {
            Some((key, incarnation)) => {
                self.ids.adopt(key, out);
                (key, incarnation)
            }
            None => match self.allocate(&report.name, out) {
                Some(key) => (key, Incarnation(0)),
                None => {
                    self.refuse_publication(id, "no ids are left for another stream".to_owned(), out);
                    return;
                }
            },
        };
        let mut matching: BTreeMap<NodeIndex, BTreeSet<SubscriptionId>> = BTreeMap::new();
        let room = (report.name.namespace.clone(), report.name.room.clone());
        for subscription in self.rooms.get(&room).into_iter().flatten() {
            if self.subscriptions.get(subscription).is_some_and(|known| matches(&known.report, &report.name))
            {
                matching.entry(subscription.0).or_default().insert(subscription.1);
            }
        }
        let stream = Stream {
            key,
            kind: report.kind,
            protect: report.protect,
            incarnation,
            live: Some(id),
            moves: Moves::default(),
            contenders: Vec::new(),
            forget_at: None,
            matching,
            held: BTreeSet::new(),
            held_until: now,
            feeds: super::Feeds::default(),
            rows: BTreeMap::new(),
            relieved: false,
        };
        self.names.insert(key, report.name.clone());
        self.streams.insert(report.name.clone(), stream);
        if granted.is_some() {
            self.hold_destinations(now, id.0, &report.name);
        } else {
            self.grant(id, &report.name, out);
        }
    }

    /// A stream that ended, or whose relay was dropped, is published again.
    fn resume(
        &mut self,
        now: Timestamp,
        id: (NodeIndex, PublicationId),
        report: &PublicationReport,
        out: &mut Vec<Effect>,
    ) {
        let Some(stream) = self.streams.get_mut(&report.name) else {
            return;
        };
        if report.granted != Some((stream.key, stream.incarnation)) {
            self.promote(&report.name, id, out);
            return;
        }
        stream.live = Some(id);
        stream.kind = report.kind;
        stream.protect = report.protect;
        stream.forget_at = None;
        self.hold_destinations(now, id.0, &report.name);
    }

    /// Keeps the destinations that an ingress and holders stamp today.
    fn hold_destinations(&mut self, now: Timestamp, ingress: NodeIndex, name: &StreamName) {
        let Some(key) = self.streams.get(name).map(|stream| stream.key) else {
            return;
        };
        // The ingress first: whom it stamps is not a holder's alone.
        let holders = self.peers.keys().copied().filter(|node| *node != ingress);
        for node in std::iter::once(ingress).chain(holders.collect::<Vec<_>>()) {
            let Some(held) = self.peers.get(&node).and_then(|peer| peer.held.get(&key)).cloned() else {
                continue;
            };
            if let Some(stream) = self.streams.get_mut(name) {
                stream.rows.entry(node).or_default().holds(&held);
            }
            self.adopt(now, name, node, &held);
        }
    }

    fn contend(
        &mut self,
        now: Timestamp,
        name: &StreamName,
        id: (NodeIndex, PublicationId),
        out: &mut Vec<Effect>,
    ) {
        let Some(stream) = self.streams.get_mut(name) else {
            return;
        };
        if stream.contenders.len() >= CONTENDERS_MAX {
            let reason = self.reason_taken(name);
            self.refuse_publication(id, reason, out);
            return;
        }
        let until = now + CONTEST_WAIT;
        stream.contenders.push(Contender { publication: id, until });
        self.timers.insert((until, Timer::Stream(name.clone())));
    }

    /// Gives a stream to the publication that waited longest for it. False if none waits.
    pub(super) fn promote_next(&mut self, name: &StreamName, out: &mut Vec<Effect>) -> bool {
        let Some(stream) = self.streams.get_mut(name).filter(|stream| !stream.contenders.is_empty()) else {
            return false;
        };
        let next = stream.contenders.remove(0).publication;
        self.promote(name, next, out);
        true
    }

    /// Gives a stream to another publication, as its next incarnation.
    fn promote(&mut self, name: &StreamName, id: (NodeIndex, PublicationId), out: &mut Vec<Effect>) {
        let (Some(stream), Some(publication)) = (self.streams.get_mut(name), self.publications.get(&id))
        else {
            return;
        };
        stream.live = Some(id);
        stream.kind = publication.kind;
        stream.protect = publication.protect;
        stream.incarnation = Incarnation(stream.incarnation.0.wrapping_add(1));
        stream.forget_at = None;
        stream.held.clear();
        stream.moves = Moves::default();
        stream.feeds.clear();
        self.grant(id, name, out);
    }

    pub(super) fn grant(&mut self, id: (NodeIndex, PublicationId), name: &StreamName, out: &mut Vec<Effect>) {
        let Some(Stream { key, incarnation, .. }) = self.streams.get(name) else {
            return;
        };
        self.tally.granted += 1;
        let (publication, key, incarnation) = (id.1, *key, *incarnation);
        out.push(Effect::Tell(id.0, ToRelay::PublicationGranted { publication, key, incarnation }));
    }

    pub(super) fn refuse_publication(
        &mut self,
        id: (NodeIndex, PublicationId),
        reason: String,
        out: &mut Vec<Effect>,
    ) {
        self.remove_publication(id);
        self.tally.publications_refused += 1;
        out.push(Effect::Tell(id.0, ToRelay::PublicationRefused { publication: id.1, limit: false, reason }));
    }

    /// Of a publication that was not taken in yet.
    fn refuse_over_limit(&mut self, id: (NodeIndex, PublicationId), reason: String, out: &mut Vec<Effect>) {
        self.tally.publications_refused += 1;
        out.push(Effect::Tell(id.0, ToRelay::PublicationRefused { publication: id.1, limit: true, reason }));
    }

    pub(super) fn remove_publication(&mut self, id: (NodeIndex, PublicationId)) -> Option<StreamName> {
        let publication = self.publications.remove(&id)?;
        if let Some(peer) = self.peers.get_mut(&id.0) {
            peer.publications -= 1;
        }
        self.tenants.remove(&publication.name.namespace, id.0, Holding::Stream);
        Some(publication.name)
    }

    pub(super) fn reason_taken(&self, name: &StreamName) -> String {
        let holder = self.streams.get(name).and_then(|stream| self.peers.get(&stream.live?.0));
        let holder = holder.map_or("another relay", |peer| &peer.name);
        let StreamName { namespace: _, room, user, stream } = name;
        format!(
            "stream {stream} of {user} in room {room} is published at {holder} already: \
             end that publication or choose another name"
        )
    }

    fn end(&mut self, now: Timestamp, name: &StreamName) {
        if let Some(stream) = self.streams.get_mut(name) {
            let forget_at = now + FORGET_AFTER;
            stream.forget_at = Some(forget_at);
            stream.held.clear();
            stream.feeds.clear();
            self.timers.insert((forget_at, Timer::Stream(name.clone())));
        }
    }

    fn allocate(&mut self, name: &StreamName, out: &mut Vec<Effect>) -> Option<StreamKey> {
        // A relay may have reported ids that this controller counts towards; each try passes one of them.
        loop {
            let key = self.ids.allocate(name, out)?;
            if !self.names.contains_key(&key) {
                return Some(key);
            }
        }
    }
}
