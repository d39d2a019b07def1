//! The stream directory: who publishes, who wants what, and the rows of stream tables that follow.
//!
//! **Joining.** The egress gets its row first; only when it has acknowledged does whoever feeds it, the ingress or a relay
//! that receives the stream already ([`feeds`]), get one that names it as
//! a destination. **Leaving** goes the other way: the egress's row goes some time after its feeder has acknowledged
//! that it stamps it no more, so that what is under way still arrives somewhere that knows it.
//!
//! **Names.** One publication at a time has a stream's name. A second one at the same relay replaces the first (an SFU
//! came back before its old link was missed). One at another relay waits a little for the first to end, wins at once
//! if that relay is offline, and is refused otherwise. Whoever takes a name over gets its ids with the next
//! incarnation, so that egresses do not take its packets for duplicates. A publisher that moves to another relay keeps both
//! (see `moves`).
//!
//! **Sessions come and go.** What a relay reported stays while its session is gone; in the next one it reports all of
//! it again, and what it did not repeat by then is dropped. Rows are not sent to a relay that is still reporting:
//! they would lack what it has not said yet.
//!
//! **A controller that has just started** knows nothing of the relays that have not reported yet. A publication then
//! comes with its ids and with the destinations stamped today, and keeps each of them until that relay has reported
//! (from then on its subscriptions speak) or a minute has passed. Rows that relays hold for streams nobody published
//! so far are left alone for the same time.

mod feeds;
mod legs;
mod moves;
mod publications;
mod rows;
mod subscriptions;
mod tenants;
mod travel;

pub use tenants::{LimitsConfig, NamespaceLimits, NamespaceView};

use crate::effect::Effect;
use crate::feeding::FeedingConfig;
use crate::ids::Ids;
use crate::policy::Policies;
use crate::view::{ProtectionView, StreamView};
use feeds::{Feeding, Feeds};
use moves::Moves;
use rows::Row;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tenants::{Holding, Tenants};
use travel::travels;
use wire_format::control::{
    HeldStream, NamespaceRates, NamespaceUsage, StreamName, SubscriptionReport, ToRelay, limits,
};
use wire_format::{
    Incarnation, MediaKind, NodeIndex, PolicyIndex, PublicationId, PublisherKey, RoomId, StreamKey,
    SubscriptionId, Timestamp,
};

/// Rows that a relay may say it holds.
pub(crate) const HELD_MAX: usize = 65_536;
/// How long the ids of an ended stream are kept for its next publication.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// How long destinations and rows from before this controller's start are kept without a report that backs them.
const HOLD: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
struct Publication {
    name: StreamName,
    kind: MediaKind,
    protect: bool,
    publisher: Option<PublisherKey>,
    /// Reported in the relay's present session.
    fresh: bool,
}

#[derive(Clone, Debug)]
struct Subscription {
    report: SubscriptionReport,
    fresh: bool,
}

#[derive(Clone, Debug)]
struct Contender {
    publication: (NodeIndex, PublicationId),
    until: Timestamp,
}

#[derive(Clone, Debug)]
struct Stream {
    key: StreamKey,
    kind: MediaKind,
    /// It is to go two ways at once.
    protect: bool,
    incarnation: Incarnation,
    live: Option<(NodeIndex, PublicationId)>,
    moves: Moves,
    contenders: Vec<Contender>,
    /// Set while nobody publishes it.
    forget_at: Option<Timestamp>,
    matching: BTreeMap<NodeIndex, BTreeSet<SubscriptionId>>,
    /// Destinations stamped before this controller started, not judged yet.
    held: BTreeSet<NodeIndex>,
    held_until: Timestamp,
    feeds: Feeds,
    rows: BTreeMap<NodeIndex, Row>,
    /// A loaded link has no room for it: it travels by the policy that relieves its own.
    relieved: bool,
}

/// A relay as the directory sees it.
#[derive(Clone, Debug, Default)]
struct Peer {
    name: String,
    attached: bool,
    ready: bool,
    offline: bool,
    publications: usize,
    subscriptions: usize,
    /// Rows in place when the session began, with the destinations stamped.
    held: BTreeMap<StreamKey, Vec<NodeIndex>>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Timer {
    Stream(StreamName),
    Orphan(NodeIndex, StreamKey),
}

/// Counts for `crate::Counters`.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Tally {
    pub granted: u64,
    pub publications_refused: u64,
    pub subscriptions_refused: u64,
    pub reports_refused: u64,
}

/// The directory.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    ids: Ids,
    /// Revision of the row sent last. The term above, a count below: it grows across controllers.
    revision: u64,
    /// Until when rows of before this controller's start are left alone; set when the first relay comes.
    hold_until: Option<Timestamp>,
    publications: BTreeMap<(NodeIndex, PublicationId), Publication>,
    subscriptions: BTreeMap<(NodeIndex, SubscriptionId), Subscription>,
    /// Subscriptions by namespace and room.
    rooms: BTreeMap<(String, String), BTreeSet<(NodeIndex, SubscriptionId)>>,
    streams: BTreeMap<StreamName, Stream>,
    names: BTreeMap<StreamKey, StreamName>,
    peers: BTreeMap<NodeIndex, Peer>,
    tenants: Tenants,
    feeding: Feeding,
    policies: Policies,
    timers: BTreeSet<(Timestamp, Timer)>,
    pub(crate) tally: Tally,
}

impl Directory {
    /// An empty directory of the controller of this term.
    pub(crate) fn new(
        term: u64,
        room_floor: RoomId,
        limits: LimitsConfig,
        feeding: FeedingConfig,
        policies: Policies,
    ) -> Directory {
        Directory {
            ids: Ids::new(room_floor),
            revision: term << 32,
            hold_until: None,
            publications: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            rooms: BTreeMap::new(),
            streams: BTreeMap::new(),
            names: BTreeMap::new(),
            peers: BTreeMap::new(),
            tenants: Tenants::new(limits),
            feeding: Feeding::new(feeding),
            policies,
            timers: BTreeSet::new(),
            tally: Tally::default(),
        }
    }

    /// A relay opened a session and will report what it holds.
    pub(crate) fn session_opened(
        &mut self,
        now: Timestamp,
        node: NodeIndex,
        name: &str,
        held: Vec<HeldStream>,
    ) {
        self.hold_until.get_or_insert(now + HOLD);
        self.session_lost(node);
        let peer = self.peers.entry(node).or_default();
        peer.name = name.to_owned();
        peer.attached = true;
        peer.offline = false;
        self.tally.reports_refused += held.len().saturating_sub(HELD_MAX) as u64;
        peer.held = held
            .into_iter()
            .take(HELD_MAX)
            .map(|held| (held.key, held.destinations.into_iter().take(limits::DESTINATIONS).collect()))
            .collect();
        for (_, publication) in
            self.publications.range_mut(of(node, PublicationId(0), PublicationId(u32::MAX)))
        {
            publication.fresh = false;
        }
        for (_, subscription) in
            self.subscriptions.range_mut(of(node, SubscriptionId(0), SubscriptionId(u32::MAX)))
        {
            subscription.fresh = false;
        }
        let rows = self.streams.iter_mut().filter_map(|(name, stream)| {
            let row = stream.rows.get_mut(&node)?;
            let held = self.peers.get(&node)?.held.get(&stream.key).map_or(&[][..], Vec::as_slice);
            row.holds(held);
            Some((name.clone(), held.to_vec()))
        });
        for (name, held) in rows.collect::<Vec<_>>() {
            self.lost_rows(&name, node, &held);
        }
    }

    /// Its session is gone; what it reported stays.
    pub(crate) fn session_lost(&mut self, node: NodeIndex) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.attached = false;
            peer.ready = false;
        }
        for stream in self.streams.values_mut() {
            if let Some(row) = stream.rows.get_mut(&node) {
                row.session_lost();
            }
        }
    }

    /// It has reported everything: what it did not repeat is over, and it gets its rows.
    pub(crate) fn reports_complete(&mut self, now: Timestamp, node: NodeIndex, out: &mut Vec<Effect>) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        peer.ready = true;
        let held = std::mem::take(&mut peer.held);
        let publications = self.publications.range(of(node, PublicationId(0), PublicationId(u32::MAX)));
        let stale: Vec<_> =
            publications.filter(|(_, publication)| !publication.fresh).map(|(id, _)| *id).collect();
        for (_, publication) in stale {
            self.unpublished(now, node, publication, out);
        }
        let subscriptions = self.subscriptions.range(of(node, SubscriptionId(0), SubscriptionId(u32::MAX)));
        let stale: Vec<_> =
            subscriptions.filter(|(_, subscription)| !subscription.fresh).map(|(id, _)| *id).collect();
        for (_, subscription) in stale {
            self.unsubscribed(now, node, subscription, out);
        }
        self.reconcile(now, node, held, out);
        for name in self.streams_of(node) {
            self.refresh(now, &name, out);
            self.remove_rows(now, &name, out);
        }
    }

    /// It has been offline for too long: its publications and subscriptions are over.
    pub(crate) fn drop_relay(&mut self, now: Timestamp, node: NodeIndex, out: &mut Vec<Effect>) {
        let publications = self.publications.range(of(node, PublicationId(0), PublicationId(u32::MAX)));
        let publications: Vec<_> = publications.map(|((_, id), _)| *id).collect();
        for publication in publications {
            self.unpublished(now, node, publication, out);
        }
        let subscriptions = self.subscriptions.range(of(node, SubscriptionId(0), SubscriptionId(u32::MAX)));
        let subscriptions: Vec<_> = subscriptions.map(|((_, id), _)| *id).collect();
        for subscription in subscriptions {
            self.unsubscribed(now, node, subscription, out);
        }
        for stream in self.streams.values_mut() {
            stream.rows.remove(&node);
        }
        for name in self.streams_of(node) {
            self.refresh(now, &name, out);
        }
    }

    /// Its index is free for another relay; everything that it held was dropped long before.
    pub(crate) fn forget_relay(&mut self, node: NodeIndex) {
        self.peers.remove(&node);
        self.tenants.relay_gone(node);
    }

    /// It has neither session nor links: names that it holds are free for the taking.
    pub(crate) fn went_offline(&mut self, now: Timestamp, node: NodeIndex, out: &mut Vec<Effect>) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.offline = true;
        }
        let is_contested = |stream: &Stream| !stream.contenders.is_empty() || stream.moves.arriving.is_some();
        let contested = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.live.is_some_and(|(live, _)| live == node) && is_contested(stream));
        let contested: Vec<StreamName> = contested.map(|(name, _)| name.clone()).collect();
        for name in contested {
            match self.streams.get(&name).and_then(|stream| stream.moves.arriving) {
                Some((arriving, _)) => self.take_over(&name, arriving, out),
                None => _ = self.promote_next(&name, out),
            }
            self.refresh(now, &name, out);
        }
    }

    /// A relay acknowledged a row.
    pub(crate) fn row_acked(
        &mut self,
        now: Timestamp,
        node: NodeIndex,
        key: StreamKey,
        revision: u64,
        out: &mut Vec<Effect>,
    ) {
        let Some(name) = self.names.get(&key).cloned() else {
            return;
        };
        let row = self.streams.get_mut(&name).and_then(|stream| stream.rows.get_mut(&node));
        if row.is_some_and(|row| row.acked(revision)) {
            self.refresh(now, &name, out);
        }
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        self.review_due(now, out);
        while let Some((at, timer)) = self.timers.pop_first() {
            if at > now {
                self.timers.insert((at, timer));
                return;
            }
            match timer {
                Timer::Stream(name) => self.tick_stream(now, &name, out),
                Timer::Orphan(node, key) => {
                    let known = self.names.get(&key).and_then(|name| self.streams.get(name));
                    let ready = self.peers.get_mut(&node).is_some_and(|peer| {
                        peer.held.remove(&key);
                        peer.ready
                    });
                    if ready && known.is_none_or(|stream| !stream.rows.contains_key(&node)) {
                        out.push(Effect::Tell(node, ToRelay::StreamGone { key }));
                    }
                }
            }
        }
    }

    /// When [`Directory::tick`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at).into_iter().chain(self.review_at()).min()
    }

    /// What relays hold namespaces to.
    pub(crate) fn rates(&self) -> NamespaceRates {
        self.tenants.rates()
    }

    /// A relay reports what namespaces used.
    pub(crate) fn used(&mut self, node: NodeIndex, usage: Vec<NamespaceUsage>) {
        self.tenants.used(node, usage);
    }

    /// All namespaces.
    pub(crate) fn namespaces(&self) -> Vec<NamespaceView> {
        self.tenants.views()
    }

    /// Publications and subscriptions refused because of limits.
    pub(crate) fn refused_by_limits(&self) -> u64 {
        self.tenants.refused()
    }

    /// Whether a namespace may hold one thing more at a relay, for people. What a relay says before it has reported
    /// everything it holds already.
    fn check_limits(&mut self, namespace: &str, node: NodeIndex, holding: Holding) -> Result<(), String> {
        if self.peers.get(&node).is_some_and(|peer| peer.ready) {
            self.tenants.check(namespace, node, holding)
        } else {
            Ok(())
        }
    }

    /// Publications and subscriptions held at a relay.
    pub(crate) fn counts(&self, node: NodeIndex) -> (usize, usize) {
        self.peers.get(&node).map_or((0, 0), |peer| (peer.publications, peer.subscriptions))
    }

    /// Streams that are published.
    pub(crate) fn views(
        &self,
        relay_name: impl Fn(NodeIndex) -> String,
        protection: impl Fn(PolicyIndex, NodeIndex, NodeIndex) -> ProtectionView,
    ) -> Vec<StreamView> {
        let live = self.streams.iter().filter_map(|(name, stream)| Some((name, stream, stream.live?)));
        live.map(|(name, stream, (ingress, _))| {
            let destinations = stream.destinations().remove(&ingress).unwrap_or_default();
            let (policy, protect) = travels(&self.policies, name, stream);
            let (feeds, quality) = self.feed_views(stream, &relay_name);
            StreamView {
                name: name.clone(),
                key: stream.key,
                kind: stream.kind,
                incarnation: stream.incarnation,
                ingress: relay_name(ingress),
                destinations: destinations.iter().copied().map(&relay_name).collect(),
                policy: self.policies.policy(policy).name.clone(),
                relieved: stream.relieved,
                protect,
                protection: destinations
                    .into_iter()
                    .filter(|_| protect)
                    .map(|egress| protection(policy, ingress, egress))
                    .collect(),
                egresses: stream.matching.keys().map(|node| relay_name(*node)).collect(),
                subscriptions: stream.matching.values().map(BTreeSet::len).sum(),
                feeds,
                quality,
            }
        })
        .collect()
    }

    /// Rows that a relay says it holds, and should not.
    fn reconcile(
        &mut self,
        now: Timestamp,
        node: NodeIndex,
        held: BTreeMap<StreamKey, Vec<NodeIndex>>,
        out: &mut Vec<Effect>,
    ) {
        for (key, destinations) in held {
            let name = self.names.get(&key).cloned();
            match name.as_ref().and_then(|name| self.streams.get_mut(name)) {
                // If it is not wanted there, it goes like any row, after who stamps it.
                Some(stream) if stream.live.is_some() => {
                    let row = stream.rows.entry(node).or_default();
                    row.holds(&destinations);
                    let is_of_before = row.is_of_before();
                    if let Some(name) = name.filter(|_| is_of_before) {
                        self.adopt(now, &name, node, &destinations);
                    }
                }
                Some(stream) if stream.rows.contains_key(&node) => {}
                Some(_) => out.push(Effect::Tell(node, ToRelay::StreamGone { key })),
                None => {
                    let until = self.hold_until.unwrap_or(now).max(now);
                    self.timers.insert((until, Timer::Orphan(node, key)));
                    // Whoever publishes it may not have reported yet.
                    if let Some(peer) = self.peers.get_mut(&node) {
                        peer.held.insert(key, destinations);
                    }
                }
            }
        }
    }

    /// Due work of one stream: contests, held destinations, rows that go, ids that are forgotten.
    fn tick_stream(&mut self, now: Timestamp, name: &StreamName, out: &mut Vec<Effect>) {
        let Some(stream) = self.streams.get_mut(name) else {
            return;
        };
        let mut late = Vec::new();
        stream.contenders.retain(|contender| {
            if contender.until <= now {
                late.push(contender.publication);
            }
            contender.until > now
        });
        for id in late {
            let reason = self.reason_taken(name);
            self.refuse_publication(id, reason, out);
        }
        self.refresh(now, name, out);
        self.remove_rows(now, name, out);
        let Some(stream) =
            self.streams.get_mut(name).filter(|stream| stream.forget_at.is_some_and(|at| at <= now))
        else {
            return;
        };
        if stream.rows.is_empty() {
            self.forget(name);
        } else {
            // A relay without session still holds a row. It is told when it returns, so the ids must mean the same then.
            let forget_at = now + FORGET_AFTER;
            stream.forget_at = Some(forget_at);
            self.timers.insert((forget_at, Timer::Stream(name.clone())));
        }
    }

    fn forget(&mut self, name: &StreamName) {
        let Some(stream) = self.streams.remove(name) else {
            return;
        };
        self.names.remove(&stream.key);
        let room = (name.namespace.clone(), name.room.clone());
        let mut others = in_room(&mut self.streams, &room).map(|(other, _)| other.user == name.user);
        match others.next() {
            None => self.ids.forget_room(name),
            Some(mut same_user) => {
                same_user |= others.any(|same| same);
                if !same_user {
                    self.ids.forget_user(name);
                }
            }
        }
    }

    /// Streams that a relay has to do with.
    fn streams_of(&self, node: NodeIndex) -> Vec<StreamName> {
        let concerns = |stream: &Stream| {
            stream.live.is_some_and(|(live, _)| live == node)
                || stream.matching.contains_key(&node)
                || stream.rows.contains_key(&node)
                || stream.moves.relays().any(|relay| relay == node)
                || stream.held.contains(&node)
        };
        self.streams.iter().filter(|(_, stream)| concerns(stream)).map(|(name, _)| name.clone()).collect()
    }
}

/// Whether a subscription wants a stream of its namespace and room.
fn matches(report: &SubscriptionReport, name: &StreamName) -> bool {
    report.namespace == name.namespace
        && report.room == name.room
        && report.user.as_ref().is_none_or(|user| *user == name.user)
        && report.stream.as_ref().is_none_or(|stream| *stream == name.stream)
}

/// Streams of a namespace and room.
fn in_room<'a>(
    streams: &'a mut BTreeMap<StreamName, Stream>,
    room: &'a (String, String),
) -> impl Iterator<Item = (&'a StreamName, &'a mut Stream)> {
    let first = StreamName {
        namespace: room.0.clone(),
        room: room.1.clone(),
        user: String::new(),
        stream: String::new(),
    };
    streams.range_mut(first..).take_while(|(name, _)| name.namespace == room.0 && name.room == room.1)
}

/// Everything of one relay in a map keyed by relay and number.
fn of<I>(node: NodeIndex, first: I, last: I) -> std::ops::RangeInclusive<(NodeIndex, I)> {
    (node, first)..=(node, last)
}

/// Whether a name may be used: of a relay, a tenant, a call, a participant or a stream.
pub(crate) fn is_name(name: &str) -> bool {
    (1..=limits::NAME_BYTES).contains(&name.len())
}
