//! Who the relays are, and whether they are there.
//!
//! A relay has an index, a session while it can reach the controller, and links while its neighbours reach
//! it. The last two fail apart. A relay that loses its session is believed as before for a grace (its links count, but
//! routes pass through it only where nothing else leads on); after that it is a destination, if a neighbour says so,
//! and never a transit. One with neither session nor links is offline.
//!
//! An index is given to another relay only long after the one before: a relay that said goodbye and is gone, or was
//! revoked, puts its index in quarantine. Until that ends it may come back to it. A relay that is merely offline keeps
//! its index for as long as it takes.
//!
//! A name has one session. Who opens a second one is a rival: the same process whose connection broke without a word, or
//! another one that has the same certificate, a copied state directory for instance. Who is right cannot be seen, so
//! the one that is there stays for as long as it speaks: the rival is sent away when it does, and called back when it
//! does not. Until then nothing that the rival says counts, a goodbye least of all.

use crate::api::{CertificateRule, KickCause, NodeRecord, SessionId};
use crate::directory::is_name;
use crate::policy::Where;
use crate::topology::{Risk, Transit};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use wire_format::control::{Neighbour, RelayHello, limits};
use wire_format::session::{CLIENT_SINCE_VERSION, HOLDS_SINCE, WIRE_VERSIONS};
use wire_format::{Epoch, NodeIndex, Timestamp};

/// How long a lost session is expected back.
pub(crate) const SESSION_GRACE: Duration = Duration::from_secs(5);
/// How long an offline relay's publications and subscriptions are kept for it.
pub(crate) const OFFLINE_GRACE: Duration = Duration::from_secs(5);
/// How long an offline relay is still named to its neighbours, so that links come back even if sessions do not.
pub(crate) const NEIGHBOUR_KEEP: Duration = Duration::from_secs(600);
/// A session that has said nothing for this long gives way to a rival. Relays report every second.
pub(crate) const SESSION_SILENCE: Duration = Duration::from_secs(3);
/// What a session says so soon after a rival came may have been on its way before its connection broke.
pub(crate) const RIVAL_SETTLE: Duration = Duration::from_secs(1);
/// Most relays in session at once: everyone's neighbour list names all others.
pub(crate) const RELAYS_MAX: usize = limits::NEIGHBOURS;
/// Most indices ever given.
pub(crate) const INDICES_MAX: u16 = limits::DESTINATIONS as u16;

/// A tag that begins so names what a relay shares with others that bear the same tag.
const RISK_TAG: &str = "risk:";

/// A relay's present session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Session {
    /// Its name.
    pub id: SessionId,
    /// The relay has reported everything.
    pub complete: bool,
}

/// A session that waits for another one of the same relay to fall silent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rival {
    /// Its name.
    pub id: SessionId,
    /// When it came.
    pub since: Timestamp,
}

/// A relay.
#[derive(Clone, Debug)]
pub(crate) struct Relay {
    /// What is remembered for ever.
    pub record: NodeRecord,
    /// As it said last.
    pub isp: String,
    /// As it said last.
    pub tags: Vec<String>,
    /// As it said last; empty if this controller never heard it.
    pub version: String,
    /// It can send its SFUs to other relays, as it said last.
    pub moves_clients: bool,
    /// It understands what is asked to trace a stream.
    pub traces: bool,
    /// It can send on what it receives, stamped anew; until it says otherwise.
    pub holds: bool,
    /// The newest version of the link protocol that it speaks, as it said last; 0 if this controller never heard it.
    pub wire_version: u8,
    /// It understands changes of tables.
    pub table_deltas: bool,
    /// The session, if it has one.
    pub session: Option<Session>,
    /// When that session said something last.
    pub said_at: Timestamp,
    /// Another session that wants its place.
    pub rival: Option<Rival>,
    /// Which certificates of this name are worth something.
    pub certificates: CertificateRule,
    /// Since when a session that had been complete is missed.
    pub lost_at: Option<Timestamp>,
    /// It said goodbye.
    pub leaving: bool,
    /// It has reported everything to this controller, at least once.
    pub heard: bool,
    /// Since when it has neither session nor links.
    pub offline_since: Option<Timestamp>,
    /// It was offline for so long that what it held was dropped.
    pub dropped: bool,
    /// It is named to the others as a neighbour.
    pub named: bool,
    /// Newest epoch acknowledged.
    pub epoch: Option<Epoch>,
    /// The neighbour list that its session was given.
    pub neighbours: Option<Vec<Neighbour>>,
    /// When `NodeView::state` last changed, as far as it was looked at.
    pub changed_at: Timestamp,
    /// Its index is in quarantine, until then.
    pub quarantined_until: Option<Timestamp>,
}

impl Relay {
    fn new(record: NodeRecord) -> Relay {
        Relay {
            record,
            isp: String::new(),
            traces: false,
            tags: Vec::new(),
            version: String::new(),
            moves_clients: false,
            holds: true,
            wire_version: 0,
            table_deltas: false,
            session: None,
            said_at: Timestamp::ZERO,
            rival: None,
            certificates: CertificateRule::default(),
            lost_at: None,
            leaving: false,
            heard: false,
            offline_since: None,
            dropped: false,
            named: false,
            epoch: None,
            neighbours: None,
            changed_at: Timestamp::ZERO,
            quarantined_until: None,
        }
    }

    /// What policies know it by.
    pub(crate) fn place(&self) -> Where<'_> {
        Where { name: &self.record.name, region: &self.record.region, isp: &self.isp, tags: &self.tags }
    }

    /// When the relay may be forgotten and its index is free; `None` while anything is left of it.
    pub(crate) fn frees_at(&self) -> Option<Timestamp> {
        let is_gone = self.session.is_none() && self.rival.is_none() && self.dropped && !self.named;
        self.quarantined_until.filter(|_| is_gone && self.offline_since.is_some())
    }

    /// What it may be lost to together with others, by what it said of itself.
    pub(crate) fn risks(&self) -> impl Iterator<Item = Risk> + '_ {
        let told = |name: &String| Some(name.clone()).filter(|name| !name.is_empty());
        let region = told(&self.record.region).map(Risk::Region);
        let named = self.tags.iter().filter_map(|tag| tag.strip_prefix(RISK_TAG));
        let named = named.filter(|name| !name.is_empty()).map(|name| Risk::Named(name.to_owned()));
        region.into_iter().chain(told(&self.isp).map(Risk::Isp)).chain(named)
    }

    /// How long its index is in quarantine, from when it is gone.
    pub(crate) fn quarantine(&self, least: Duration, return_within: Duration) -> Duration {
        if self.certificates.revoked { least } else { least.max(return_within) }
    }

    /// It left or was cut off, so that nobody waits for it.
    pub(crate) fn is_away_for_good(&self) -> bool {
        self.leaving || self.certificates.revoked
    }

    /// Something becomes of it by itself after a time.
    fn waits(&self) -> bool {
        self.lost_at.is_some() || self.offline_since.is_some() || self.rival.is_some()
    }

    /// In session, with everything reported.
    pub(crate) fn is_complete(&self) -> bool {
        self.session.is_some_and(|session| session.complete)
    }

    /// Its session is missed, but not yet for long.
    pub(crate) fn is_in_grace(&self, now: Timestamp) -> bool {
        self.lost_at.is_some_and(|lost_at| now < lost_at + SESSION_GRACE)
    }

    /// Whether routes may pass through it. `avoided`: it has a session but does not acknowledge.
    pub(crate) fn transit(&self, now: Timestamp, avoided: bool) -> Transit {
        match (self.leaving, self.is_complete()) {
            (true, _) => Transit::Never,
            (false, true) if avoided => Transit::Reluctant,
            (false, true) => Transit::Willing,
            (false, false) if self.is_in_grace(now) => Transit::Reluctant,
            (false, false) => Transit::Never,
        }
    }
}

/// What became of a session that said hello.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Opening {
    /// It is the relay's session now.
    Opened(Opened),
    /// It waits as a rival.
    Waits,
    /// It cannot be.
    Refused(KickCause, &'static str),
}

/// What opening a session did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Opened {
    /// The relay's index.
    pub node: NodeIndex,
    /// An older session of the same relay, forgotten now.
    pub replaced: Option<SessionId>,
    /// The record is new or changed.
    pub record: Option<NodeRecord>,
}

/// All relays that have an index.
#[derive(Clone, Debug, Default)]
pub(crate) struct Relays {
    /// Where it is not the default, also of names that were forgotten.
    rules: BTreeMap<String, CertificateRule>,
    relays: BTreeMap<NodeIndex, Relay>,
    /// Those that may wait for a time: all that were changed since it was last looked. Few, whereas somebody asks for the
    /// next deadline at each message.
    watched: BTreeSet<NodeIndex>,
    names: BTreeMap<String, NodeIndex>,
    sessions: BTreeMap<SessionId, NodeIndex>,
}

impl Relays {
    /// Those that the store knows.
    pub(crate) fn new(records: Vec<NodeRecord>, rules: &BTreeMap<String, CertificateRule>) -> Relays {
        let mut relays = Relays { rules: rules.clone(), ..Relays::default() };
        for record in records {
            relays.names.insert(record.name.clone(), record.node);
            let certificates = relays.rule(&record.name);
            let named = !record.addresses.is_empty() && !certificates.revoked;
            relays.watched.insert(record.node);
            relays.relays.insert(record.node, Relay { named, certificates, ..Relay::new(record) });
        }
        relays
    }

    /// Forgets a relay: its index and its name are free.
    pub(crate) fn free(&mut self, node: NodeIndex) {
        if let Some(relay) = self.relays.remove(&node) {
            self.names.remove(&relay.record.name);
        }
    }

    /// The worth of a name's certificates.
    pub(crate) fn rule(&self, name: &str) -> CertificateRule {
        self.rules.get(name).copied().unwrap_or_default()
    }

    /// The worth of a name's certificates changed.
    pub(crate) fn set_rule(&mut self, name: &str, rule: CertificateRule) {
        if rule == CertificateRule::default() {
            self.rules.remove(name);
        } else {
            self.rules.insert(name.to_owned(), rule);
        }
    }

    /// Gives an index to a relay that presented a join token. The record if it is new, `None` if it is known or no
    /// index is left.
    pub(crate) fn register(&mut self, name: &str, region: &str) -> Option<NodeRecord> {
        if self.names.contains_key(name) || !is_name(name) {
            return None;
        }
        let node = self.free_index(None)?;
        let record = NodeRecord {
            node,
            name: name.to_owned(),
            region: region.to_owned(),
            addresses: Vec::new(),
            cordoned: false,
            draining: false,
        };
        self.names.insert(name.to_owned(), node);
        let certificates = self.rule(name);
        self.relays.insert(node, Relay { certificates, ..Relay::new(record.clone()) });
        Some(record)
    }

    /// A relay opened a session.
    pub(crate) fn open(
        &mut self,
        now: Timestamp,
        session: SessionId,
        name: &str,
        hello: RelayHello,
    ) -> Opening {
        let known = self.names.get(name).copied();
        if let Err(reason) = self.check(session, name, &hello, known) {
            return Opening::Refused(KickCause::Broken, reason);
        }
        let certificates = self.rule(name);
        if certificates.revoked {
            let reason = "the relay is revoked: it may join again with a new join token";
            return Opening::Refused(KickCause::Void, reason);
        }
        let present = known.and_then(|node| self.relays.get_mut(&node));
        if let Some(relay) = present
            && relay.session.is_some()
            && now < relay.said_at + SESSION_SILENCE
        {
            if relay.rival.is_some() {
                return Opening::Refused(KickCause::NameInUse, NAME_IN_USE);
            }
            relay.rival = Some(Rival { id: session, since: now });
            self.watched.extend(known);
            return Opening::Waits;
        }
        let replaced = known.and_then(|node| self.relays.get(&node)?.session).map(|session| session.id);
        let Some(node) = known.or_else(|| self.free_index(hello.node)) else {
            return Opening::Refused(KickCause::Broken, "no node index is left");
        };
        if let Some(replaced) = replaced {
            self.sessions.remove(&replaced);
        }
        let before = self.relays.get(&node).map(|relay| &relay.record);
        let (cordoned, draining) = before.map_or((false, false), |before| (before.cordoned, before.draining));
        let (region, addresses) = (hello.region, hello.addresses);
        let record = NodeRecord { node, name: hello.name, region, addresses, cordoned, draining };
        self.names.insert(record.name.clone(), node);
        self.sessions.insert(session, node);
        self.watched.insert(node);
        let relay = self.relays.entry(node);
        let relay = relay.or_insert_with(|| Relay { certificates, ..Relay::new(record.clone()) });
        let changed = known.is_none() || relay.record != record || relay.quarantined_until.is_some();
        if relay.is_complete() {
            relay.lost_at = Some(now);
        }
        relay.record = record;
        relay.isp = hello.isp;
        relay.traces = hello.traces;
        relay.tags = hello.tags;
        relay.version = hello.version;
        relay.moves_clients = hello.wire_versions.1 >= CLIENT_SINCE_VERSION;
        relay.holds = hello.wire_versions.1 >= HOLDS_SINCE;
        relay.wire_version = hello.wire_versions.1;
        relay.table_deltas = hello.table_deltas;
        relay.session = Some(Session { id: session, complete: false });
        relay.said_at = now;
        relay.leaving = false;
        relay.quarantined_until = None;
        relay.offline_since = None;
        relay.dropped = false;
        relay.named = true;
        relay.neighbours = None;
        relay.changed_at = now;
        Opening::Opened(Opened { node, replaced, record: changed.then(|| relay.record.clone()) })
    }

    /// Whether a hello may open a session at all.
    fn check(
        &self,
        session: SessionId,
        name: &str,
        hello: &RelayHello,
        known: Option<NodeIndex>,
    ) -> Result<(), &'static str> {
        if hello.name != name {
            return Err("the hello names another relay than the certificate");
        }
        if !is_name(name) || hello.addresses.len() > limits::ADDRESSES {
            return Err("the hello has an empty or over-long name, or too many addresses");
        }
        if hello.wire_versions.0 > WIRE_VERSIONS.1 || hello.wire_versions.1 < WIRE_VERSIONS.0 {
            return Err("no version of the link protocol in common: update the relay or the controller");
        }
        let is_rival = |relay: &Relay| relay.rival.is_some_and(|rival| rival.id == session);
        if self.sessions.contains_key(&session) || self.relays.values().any(is_rival) {
            return Err("the session has said hello before");
        }
        let present = known.and_then(|node| self.relays.get(&node));
        if present.is_none_or(|relay| relay.session.is_none()) && self.sessions.len() >= RELAYS_MAX {
            return Err("as many relays as this controller serves are in session already");
        }
        Ok(())
    }

    /// The relay in session said something. A rival that this proves wrong; it is one no longer.
    pub(crate) fn said(&mut self, now: Timestamp, node: NodeIndex) -> Option<SessionId> {
        let relay = self.relays.get_mut(&node)?;
        relay.said_at = now;
        let refuted = relay.rival.filter(|rival| rival.since + RIVAL_SETTLE <= now)?;
        relay.rival = None;
        Some(refuted.id)
    }

    /// The session of that relay, if it was silent for as long as a rival has to wait.
    pub(crate) fn silent_before_rival(&self, now: Timestamp) -> Option<SessionId> {
        let outwaited = |relay: &Relay| {
            relay.rival.filter(|rival| rival.since + SESSION_SILENCE <= now)?;
            relay.session.map(|session| session.id)
        };
        self.watched().find_map(|(_, relay)| outwaited(relay))
    }

    /// A session that waits for its place is waited for no longer. False if it is none such.
    pub(crate) fn forget_rival(&mut self, session: SessionId) -> bool {
        let is_rival = |relay: &&mut Relay| relay.rival.is_some_and(|rival| rival.id == session);
        let Some(relay) = self.relays.values_mut().find(is_rival) else { return false };
        relay.rival = None;
        true
    }

    /// The rival for the place that has become free, if there is one.
    pub(crate) fn take_rival(&mut self, node: NodeIndex) -> Option<SessionId> {
        Some(self.relays.get_mut(&node)?.rival.take()?.id)
    }

    /// A relay has reported everything. False if it had before.
    pub(crate) fn complete(&mut self, node: NodeIndex) -> bool {
        let Some(relay) = self.relays.get_mut(&node) else {
            return false;
        };
        let Some(session) = relay.session.as_mut().filter(|session| !session.complete) else {
            return false;
        };
        session.complete = true;
        relay.lost_at = None;
        relay.heard = true;
        true
    }

    /// A session ended. Whose, unless it is unknown.
    pub(crate) fn close(&mut self, now: Timestamp, session: SessionId) -> Option<NodeIndex> {
        let node = self.sessions.remove(&session)?;
        self.watched.insert(node);
        let relay = self.relays.get_mut(&node)?;
        if relay.is_complete() {
            relay.lost_at = Some(now);
        }
        relay.session = None;
        relay.neighbours = None;
        relay.changed_at = now;
        Some(node)
    }

    /// Whose session it is.
    pub(crate) fn of_session(&self, session: SessionId) -> Option<NodeIndex> {
        self.sessions.get(&session).copied()
    }

    /// Whose name it is.
    pub(crate) fn of_name(&self, name: &str) -> Option<NodeIndex> {
        self.names.get(name).copied()
    }

    /// A relay.
    pub(crate) fn relay(&self, node: NodeIndex) -> Option<&Relay> {
        self.relays.get(&node)
    }

    /// A relay, to change.
    pub(crate) fn relay_mut(&mut self, node: NodeIndex) -> Option<&mut Relay> {
        let relay = self.relays.get_mut(&node)?;
        self.watched.insert(node);
        Some(relay)
    }

    /// Those that may wait for a time, ascending.
    pub(crate) fn watched(&self) -> impl Iterator<Item = (NodeIndex, &Relay)> {
        self.watched.iter().filter_map(|node| Some((*node, self.relays.get(node)?)))
    }

    /// Who of them does; the others are looked at no longer.
    pub(crate) fn watch(&mut self) -> Vec<NodeIndex> {
        let relays = &self.relays;
        self.watched.retain(|node| relays.get(node).is_some_and(Relay::waits));
        self.watched.iter().copied().collect()
    }

    /// Its name, or its index where it has none.
    pub(crate) fn name(&self, node: NodeIndex) -> String {
        self.relays.get(&node).map_or_else(|| node.to_string(), |relay| relay.record.name.clone())
    }

    /// All of them, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (NodeIndex, &Relay)> {
        self.relays.iter().map(|(node, relay)| (*node, relay))
    }

    /// All of them, ascending, to change.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (NodeIndex, &mut Relay)> {
        self.watched.extend(self.relays.keys());
        self.relays.iter_mut().map(|(node, relay)| (*node, relay))
    }

    /// The next time at which a rival has waited long enough.
    pub(crate) fn rival_deadline(&self) -> Option<Timestamp> {
        let rivals = self.watched().filter_map(|(_, relay)| relay.rival);
        rivals.map(|rival| rival.since + SESSION_SILENCE).min()
    }

    /// The index that the relay wishes, if it may have it, or the lowest that nobody has, nor had until lately.
    fn free_index(&self, wished: Option<NodeIndex>) -> Option<NodeIndex> {
        let free = |index: &NodeIndex| index.0 < INDICES_MAX && !self.relays.contains_key(index);
        wished.filter(free).or_else(|| (0..INDICES_MAX).map(NodeIndex).find(free))
    }
}

/// What a rival is told while the one before it is there.
pub(crate) const NAME_IN_USE: &str = "another process is in session under this relay's name and answers: stop one of \
                                      the two, or revoke the name and join anew";
