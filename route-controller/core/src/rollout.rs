//! Brings new route tables to all relays in two phases, so that no frame is forwarded by tables of two ages.
//!
//! A frame is forwarded by the epoch it carries, and a relay holds the tables of two epochs. So epoch N+1 is *prepared*
//! (every relay gets its table) and *stamped* (every ingress begins to write N+1) only when all have acknowledged.
//! Preparing N+2 makes relays forget N: it waits until every ingress has confirmed stamping N+1, and for a second
//! after that stamp, in which frames that carry N have arrived or died.
//!
//! Two things may not wait that long:
//! - **A silent relay** freezes nothing. Who does not acknowledge within 500 ms is left out of this wait and, until it
//!   has acknowledged and 10 s have passed, of the next ones, and is passed through by routes only where nothing else
//!   leads on. That holds for the tables under preparation too: if they pass it, they are not stamped, but replaced at
//!   once by tables that go around it, for which it is not waited again. (Relays keep the tables that they stamp when
//!   newer ones take the place of some that were never stamped.) If a neighbour already says that its link to the
//!   relay is down, 50 ms are waited, once, and nothing else is held against the relay; if its session ends, nothing
//!   is waited for.
//! - **An urgent change**: primary rows of the newest tables lead over a link that failed or through a relay that must
//!   not be passed, and the plane that the relay turns to then, if there is one, does so too; or a destination has no
//!   row yet. Frames on such rows are lost anyway, so the second is not spent: N+2 is prepared 50 ms after the last
//!   confirmation of N+1. Where the relay has turned to another plane, there is time. A frame that is still under way with N then meets relays
//!   that know only N+1 and N+2; they forward it by their newest table under the hop limit, as any unknown epoch.
//!   While N+1 is still being prepared, not even an urgent change replaces it: that would make relays forget N, which
//!   is on every frame. Both phases end within a round trip of the slowest relay, or at the bounds above.
//!
//! **A link that comes and goes floods nobody.** All that changes while an epoch is under way goes into the next one. Beyond
//! twenty epochs at once one may come every 3 s, and beyond twelve before their second one every 5 s; then the second
//! is waited for ([`Pace`]). Relays that understand it get what is new in their tables, not all of them: changes of the
//! tables that everyone stamps, which they hold until the next are stamped. One that does not hold them asks for all.
//!
//! A relay whose session begins later gets the stamped epoch's table and the order to stamp it at once, and the table
//! under preparation behind it.

mod deltas;
mod pace;
mod waits;

use crate::api::StoreUpdate;
use crate::effect::Effect;
use crate::history::History;
use crate::route_set::{RouteSet, Topologies};
use deltas::TableDeltas;
use pace::Pace;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use waits::{Mute, Wait, expire};
use wire_format::control::ToRelay;
use wire_format::{Epoch, NodeIndex, Plane, Timestamp};

/// How long an acknowledgement is waited for.
const ACK_WAIT: Duration = Duration::from_millis(500);
/// The same for a relay that a neighbour says is not there.
const ACK_WAIT_DOUBTED: Duration = Duration::from_millis(50);
/// From the order to stamp an epoch to the preparation of the next.
const DRAIN: Duration = Duration::from_secs(1);
/// From the last confirmation of a stamp to the preparation of an urgent epoch.
const DRAIN_URGENT: Duration = Duration::from_millis(50);
/// How long tables are awaited that go around a relay which did not acknowledge. They are computed at once; only a
/// controller that may not compute at all just now lets this pass.
const RECONSIDER: Duration = Duration::from_millis(50);
/// From the acknowledgement of a relay that had missed one until it is trusted as before.
const MUTE_HOLD_DOWN: Duration = Duration::from_secs(10);
/// Epochs made durable at a time.
const EPOCH_BLOCK: u32 = 256;
/// Greatest epoch believed of a relay: a reported one must not use up the rest.
const EPOCH_REPORTED_MAX: u32 = u32::MAX / 2;

/// Tables under their epoch.
#[derive(Clone, Debug)]
pub(crate) struct Generation {
    /// Their version.
    pub epoch: Epoch,
    /// What they say.
    pub routes: RouteSet,
}

impl Generation {
    /// What a relay is to be told of them.
    fn table(&self, node: NodeIndex) -> ToRelay {
        ToRelay::Table(self.routes.table(self.epoch, node))
    }
}

#[derive(Clone, Debug)]
enum Phase {
    /// Every ingress stamps the current epoch.
    Settled { stamped_at: Timestamp, settled_at: Timestamp },
    /// `prepared` is on its way to the relays; those that have not acknowledged, and until when they are waited for.
    /// `again`: in place of tables that led through a relay which did not.
    Preparing { waiting: BTreeMap<NodeIndex, Wait>, again: bool },
    /// `prepared` leads through a relay that did not acknowledge it. Tables that go around it are due, until then. Who is
    /// still waited for, in case there are none.
    Reconsidering { until: Timestamp, waiting: BTreeMap<NodeIndex, Wait> },
    /// The order to stamp `current` is on its way.
    Stamping { stamped_at: Timestamp, waiting: BTreeMap<NodeIndex, Wait> },
}

/// Tables computed, not yet prepared.
#[derive(Clone, Debug)]
struct Wanted {
    routes: RouteSet,
    urgent: bool,
}

/// What a rollout did since it was last asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Progress {
    /// Epochs prepared.
    pub epochs: u64,
    /// Of them before the second was over.
    pub epochs_urgent: u64,
    /// Rows of the primary plane with another next hop.
    pub route_changes: u64,
    /// Tables that others took the place of before they were prepared.
    pub epochs_merged: u64,
    /// Tables told whole.
    pub tables_whole: u64,
    /// Tables told by what is new in them.
    pub tables_changed: u64,
    /// Tables that relays asked for.
    pub tables_wanted: u64,
    /// Acknowledgements given up on.
    pub acks_missed: u64,
    /// A relay became mute, or is trusted again: routes must be computed anew.
    pub mutes_changed: bool,
}

/// The versions of all route tables.
#[derive(Clone, Debug)]
pub(crate) struct Rollout {
    next: u32,
    durable_below: u32,
    history: History,
    previous: Option<Generation>,
    current: Option<Generation>,
    prepared: Option<Generation>,
    wanted: Option<Wanted>,
    reissue: bool,
    phase: Phase,
    live: BTreeSet<NodeIndex>,
    /// Those among them that understand changes of tables.
    understanding: BTreeSet<NodeIndex>,
    /// The epoch whose tables a relay asked for last.
    wanted_by: BTreeMap<NodeIndex, Epoch>,
    epochs: Pace,
    urgent_epochs: Pace,
    /// Relays that missed an acknowledgement.
    mute: BTreeMap<NodeIndex, Mute>,
    progress: Progress,
}

impl Rollout {
    /// A rollout whose epochs begin at what the store says was never used.
    pub(crate) fn new(floor: Epoch) -> Rollout {
        Rollout {
            next: floor.0.max(1),
            durable_below: floor.0,
            history: History::default(),
            previous: None,
            current: None,
            prepared: None,
            wanted: None,
            reissue: false,
            phase: Phase::Settled { stamped_at: Timestamp::ZERO, settled_at: Timestamp::ZERO },
            live: BTreeSet::new(),
            understanding: BTreeSet::new(),
            wanted_by: BTreeMap::new(),
            epochs: Pace::new(20, Duration::from_secs(3)),
            urgent_epochs: Pace::new(12, Duration::from_secs(5)),
            mute: BTreeMap::new(),
            progress: Progress::default(),
        }
    }

    /// Takes newly computed tables. Nothing is pushed if they say what the newest pushed ones say. To be followed by
    /// [`Rollout::step`].
    pub(crate) fn want(&mut self, routes: RouteSet, topologies: &Topologies) {
        let Some(newest) = self.newest() else {
            self.wanted = Some(Wanted { routes, urgent: true });
            return;
        };
        let mut changed = self.reissue || !newest.routes.has_policies_of(&routes);
        let mut urgent = false;
        for (policy, routes) in routes.iter() {
            // Frames of a policy that has no routes of its own yet are forwarded like others.
            let (Some(newest), Some(topology)) = (newest.routes.own(policy), topologies.get(&policy)) else {
                continue;
            };
            changed |= newest.turns_otherwise(routes);
            for (relay, plane, destination, before) in newest.changes(routes) {
                changed = true;
                // What fails on red or blue harms no frame as long as the primary next hops work.
                urgent |= plane == Plane::PRIMARY
                    && self.live.contains(&relay)
                    && before.is_none_or(|hop| {
                        !topology.is_sound(relay, hop, destination)
                            && !newest.turns_soundly(relay, destination, topology)
                    });
            }
        }
        self.progress.epochs_merged += u64::from(self.wanted.is_some() && changed);
        self.wanted = changed.then_some(Wanted { routes, urgent });
        if let (None, Phase::Reconsidering { until, waiting: _ }) = (&self.wanted, &mut self.phase) {
            // Nothing goes around the silent relay: the tables stay as they are.
            *until = Timestamp::ZERO;
        }
    }

    /// A relay's session is whole: it takes part from now on. `reported` is the newest epoch it holds.
    pub(crate) fn join(
        &mut self,
        now: Timestamp,
        node: NodeIndex,
        reported: Option<Epoch>,
        understands: bool,
        out: &mut Vec<Effect>,
    ) {
        if let Some(Epoch(reported)) = reported
            && reported >= self.next
            && reported <= EPOCH_REPORTED_MAX
        {
            // The store lost its floor. What is current may be older than what the relay holds: say it again, newer.
            self.next = reported + 1;
            self.reissue = true;
        }
        self.live.insert(node);
        if understands {
            self.understanding.insert(node);
        }
        self.mute.remove(&node);
        if let Some(current) = &self.current {
            out.push(Effect::Tell(node, current.table(node)));
            out.push(Effect::Tell(node, ToRelay::Stamp { epoch: current.epoch }));
            self.progress.tables_whole += 1;
        }
        if let Some(prepared) = &self.prepared {
            out.push(Effect::Tell(node, prepared.table(node)));
            self.progress.tables_whole += 1;
        }
        let wait = Wait { until: now + ACK_WAIT, doubted: false };
        if let Some(waiting) = self.waiting() {
            waiting.insert(node, wait);
        }
    }

    /// A relay's session is gone: it is not waited for.
    pub(crate) fn leave(&mut self, node: NodeIndex) {
        self.live.remove(&node);
        self.understanding.remove(&node);
        self.wanted_by.remove(&node);
        self.mute.remove(&node);
        self.stop_waiting(node);
    }

    /// A neighbour says that its link to this relay is down.
    pub(crate) fn doubt(&mut self, now: Timestamp, node: NodeIndex) {
        if let Some(wait) = self.waiting().and_then(|waiting| waiting.get_mut(&node)) {
            wait.until = wait.until.min(now + ACK_WAIT_DOUBTED);
            wait.doubted = true;
        }
    }

    /// A relay acknowledged a table.
    pub(crate) fn table_acked(&mut self, now: Timestamp, node: NodeIndex, epoch: Epoch) {
        self.heard_of(now, node, epoch);
        let awaited = self.prepared.as_ref().is_some_and(|prepared| prepared.epoch == epoch);
        if awaited {
            self.stop_waiting(node);
        }
    }

    /// A relay could not make the tables of an epoch of what was new in them: it gets all of them. `false` if there is no
    /// such epoch any more, or it asked for that before.
    pub(crate) fn table_wanted(
        &mut self,
        now: Timestamp,
        node: NodeIndex,
        epoch: Epoch,
        out: &mut Vec<Effect>,
    ) -> bool {
        let held = [self.current.as_ref(), self.prepared.as_ref()].into_iter().flatten();
        // Who lacks the tables under preparation may lack those that are stamped, too.
        let wanted: Vec<_> = held.filter(|held| held.epoch <= epoch).collect();
        let is_known = self.newest().is_some_and(|newest| newest.epoch == epoch)
            || self.current.as_ref().is_some_and(|current| current.epoch == epoch);
        if !is_known || !self.live.contains(&node) || self.wanted_by.get(&node) == Some(&epoch) {
            return false;
        }
        for generation in wanted {
            out.push(Effect::Tell(node, generation.table(node)));
            self.progress.tables_whole += 1;
        }
        self.progress.tables_wanted += 1;
        self.wanted_by.insert(node, epoch);
        if let Some(wait) = self.waiting().and_then(|waiting| waiting.get_mut(&node)) {
            wait.until = wait.until.max(now + ACK_WAIT);
        }
        true
    }

    /// A relay confirmed that it stamps an epoch.
    pub(crate) fn stamp_acked(&mut self, now: Timestamp, node: NodeIndex, epoch: Epoch) {
        self.heard_of(now, node, epoch);
        let awaited =
            self.prepared.is_none() && self.current.as_ref().is_some_and(|current| current.epoch == epoch);
        if awaited {
            self.stop_waiting(node);
        }
    }

    /// A relay that said nothing for too long has the newest epoch after all: it is trusted again in a while.
    fn heard_of(&mut self, now: Timestamp, node: NodeIndex, epoch: Epoch) {
        if self.newest().is_some_and(|newest| newest.epoch == epoch) {
            match self.mute.get(&node) {
                Some(Mute::Doubted) => {
                    self.mute.remove(&node);
                }
                Some(Mute::Avoided(None)) => {
                    self.mute.insert(node, Mute::Avoided(Some(now + MUTE_HOLD_DOWN)));
                }
                Some(Mute::Avoided(Some(_))) | None => {}
            }
        }
    }

    /// Does what is due. `doubted` tells whom a neighbour says is not there.
    pub(crate) fn step(
        &mut self,
        now: Timestamp,
        doubted: impl Fn(NodeIndex) -> bool,
        out: &mut Vec<Effect>,
    ) {
        self.progress.mutes_changed |= {
            let before = self.mute.len();
            self.mute.retain(|_, mute| mute.trusted_at().is_none_or(|at| now < at));
            self.mute.len() != before
        };
        loop {
            match &mut self.phase {
                Phase::Preparing { waiting, again } => {
                    let missed = expire(waiting, now);
                    let (done, again) = (waiting.is_empty(), *again);
                    let detour = !again && self.leads_through(&missed);
                    self.miss(missed);
                    if detour {
                        let waiting = self.take_waiting();
                        self.phase = Phase::Reconsidering { until: now + RECONSIDER, waiting };
                    } else if done {
                        self.stamp(now, &doubted, out);
                    } else {
                        return;
                    }
                }
                Phase::Reconsidering { until, waiting: _ } => match self.wanted.take() {
                    Some(Wanted { routes, urgent: _ }) => self.prepare(now, routes, true, &doubted, out),
                    None if now < *until => return,
                    None => {
                        // Who joined meanwhile has not had its time yet.
                        let waiting = self.take_waiting();
                        self.phase = Phase::Preparing { waiting, again: true };
                    }
                },
                Phase::Stamping { stamped_at, waiting } => {
                    let stamped_at = *stamped_at;
                    let missed = expire(waiting, now);
                    let done = waiting.is_empty();
                    self.miss(missed);
                    if !done {
                        return;
                    }
                    self.phase = Phase::Settled { stamped_at, settled_at: now };
                }
                Phase::Settled { stamped_at, settled_at: _ } => {
                    let early = now < *stamped_at + DRAIN;
                    if self.prepare_at().is_none_or(|at| now < at) {
                        return;
                    }
                    let Some(Wanted { routes, urgent: _ }) = self.wanted.take() else {
                        return;
                    };
                    if early && self.current.is_some() {
                        self.progress.epochs_urgent += 1;
                        self.urgent_epochs.take(now);
                    }
                    self.epochs.take(now);
                    self.prepare(now, routes, false, &doubted, out);
                }
            }
        }
    }

    /// When [`Rollout::step`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        let phase = match &self.phase {
            Phase::Settled { stamped_at: _, settled_at: _ } => self.prepare_at(),
            Phase::Reconsidering { until, waiting: _ } => {
                Some(self.prepare_at().map_or(*until, |at| at.min(*until)))
            }
            Phase::Preparing { waiting, again: _ } | Phase::Stamping { stamped_at: _, waiting } => {
                waiting.values().map(|wait| wait.until).min()
            }
        };
        phase.into_iter().chain(self.mute.values().filter_map(|mute| mute.trusted_at())).min()
    }

    /// The earliest moment at which newly computed tables could be prepared, `None` while a phase is under way.
    pub(crate) fn open_at(&self) -> Option<Timestamp> {
        match &self.phase {
            Phase::Settled { stamped_at: _, settled_at } => {
                Some(if self.current.is_some() { *settled_at + DRAIN_URGENT } else { *settled_at })
            }
            Phase::Reconsidering { .. } => Some(Timestamp::ZERO),
            Phase::Preparing { .. } | Phase::Stamping { .. } => None,
        }
    }

    /// Whether routes should avoid a relay, because it does not acknowledge what it is sent.
    pub(crate) fn is_avoided(&self, node: NodeIndex) -> bool {
        matches!(self.mute.get(&node), Some(Mute::Avoided(_)))
    }

    /// The newest tables pushed.
    pub(crate) fn newest(&self) -> Option<&Generation> {
        self.prepared.as_ref().or(self.current.as_ref())
    }

    /// Tables that relays hold: under preparation, stamped, the ones before.
    pub(crate) fn prepared(&self) -> Option<&Generation> {
        self.prepared.as_ref()
    }

    /// The tables that relays were last told to stamp.
    pub(crate) fn current(&self) -> Option<&Generation> {
        self.current.as_ref()
    }

    /// The tables before.
    pub(crate) fn previous(&self) -> Option<&Generation> {
        self.previous.as_ref()
    }

    /// Tables by which frames may be forwarded now or soon: those that are over a second after the stamp of the next are
    /// not among them.
    pub(crate) fn in_use(&self, now: Timestamp) -> impl Iterator<Item = &Generation> {
        let over = match self.phase {
            Phase::Settled { stamped_at, settled_at } => now >= settled_at.max(stamped_at + DRAIN),
            Phase::Preparing { .. } | Phase::Reconsidering { .. } => true,
            Phase::Stamping { .. } => false,
        };
        let previous = self.previous.as_ref().filter(|_| !over);
        [self.prepared.as_ref(), self.current.as_ref(), previous].into_iter().flatten()
    }

    /// What the tables were before.
    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    /// What was done since the last call.
    pub(crate) fn take_progress(&mut self) -> Progress {
        std::mem::take(&mut self.progress)
    }

    fn prepare_at(&self) -> Option<Timestamp> {
        let wanted = self.wanted.as_ref().filter(|_| !self.live.is_empty())?;
        let (stamped_at, settled_at) = match self.phase {
            Phase::Settled { stamped_at, settled_at } => (stamped_at, settled_at),
            Phase::Reconsidering { .. } => return Some(Timestamp::ZERO),
            Phase::Preparing { .. } | Phase::Stamping { .. } => return None,
        };
        Some(match &self.current {
            None => settled_at,
            Some(_) if wanted.urgent => {
                let drained_at = settled_at.max(stamped_at + DRAIN);
                (settled_at + DRAIN_URGENT).max(self.urgent_epochs.ready_at().min(drained_at))
            }
            Some(_) => settled_at.max(stamped_at + DRAIN).max(self.epochs.ready_at()),
        })
    }

    fn prepare(
        &mut self,
        now: Timestamp,
        routes: RouteSet,
        again: bool,
        doubted: impl Fn(NodeIndex) -> bool,
        out: &mut Vec<Effect>,
    ) {
        self.reissue = false;
        let epoch = Epoch(self.next);
        self.next =
            self.next.checked_add(1).expect("ten epochs a second last for years beyond any reported one");
        if self.durable_below < self.next {
            self.durable_below = self.next.saturating_add(EPOCH_BLOCK);
            out.push(Effect::Persist(StoreUpdate::EpochFloor(Epoch(self.durable_below))));
        }
        if let Some(current) = &self.current {
            for (policy, routes) in routes.iter() {
                let Some(current) = current.routes.own(policy) else { continue };
                let changes = current.changes(routes).into_iter();
                let primary = changes.filter(|(_, plane, ..)| *plane == Plane::PRIMARY);
                self.progress.route_changes += primary.count() as u64;
            }
        }
        self.progress.epochs += 1;
        self.tell_tables(epoch, &routes, out);
        self.prepared = Some(Generation { epoch, routes });
        self.phase = Phase::Preparing { waiting: self.everyone(now, doubted), again };
    }

    /// Tells everyone their tables, by what is new in them since those that are stamped where that is less.
    fn tell_tables(&mut self, epoch: Epoch, routes: &RouteSet, out: &mut Vec<Effect>) {
        let current = self.current.as_ref().filter(|_| !self.understanding.is_empty());
        let mut deltas = current.map(|current| TableDeltas::new(current, epoch, routes));
        for node in &self.live {
            let deltas = deltas.as_mut().filter(|_| self.understanding.contains(node));
            let message = match deltas.and_then(|deltas| deltas.of(*node)) {
                Some(delta) => {
                    self.progress.tables_changed += 1;
                    ToRelay::TableDelta(delta)
                }
                None => {
                    self.progress.tables_whole += 1;
                    ToRelay::Table(routes.table(epoch, *node))
                }
            };
            out.push(Effect::Tell(*node, message));
        }
    }

    fn stamp(&mut self, now: Timestamp, doubted: impl Fn(NodeIndex) -> bool, out: &mut Vec<Effect>) {
        let prepared = self.prepared.take().expect("the phase of preparation has prepared tables");
        for node in &self.live {
            out.push(Effect::Tell(*node, ToRelay::Stamp { epoch: prepared.epoch }));
        }
        self.history.stamped(now, self.current.as_ref(), &prepared);
        self.previous = self.current.replace(prepared);
        self.phase = Phase::Stamping { stamped_at: now, waiting: self.everyone(now, doubted) };
    }

    /// All relays whose acknowledgement is worth waiting for.
    fn everyone(&self, now: Timestamp, doubted: impl Fn(NodeIndex) -> bool) -> BTreeMap<NodeIndex, Wait> {
        let trusted = self.live.iter().filter(|node| !self.mute.contains_key(node));
        trusted
            .map(|&node| {
                let doubted = doubted(node);
                let wait = if doubted { ACK_WAIT_DOUBTED } else { ACK_WAIT };
                (node, Wait { until: now + wait, doubted })
            })
            .collect()
    }

    /// Whether tables under preparation pass a relay that had all the time to acknowledge them.
    fn leads_through(&self, missed: &[(NodeIndex, Wait)]) -> bool {
        let prepared = self.prepared.as_ref();
        let silent = missed.iter().filter(|(_, wait)| !wait.doubted);
        prepared.is_some_and(|prepared| silent.into_iter().any(|(node, _)| prepared.routes.pass(*node)))
    }

    fn miss(&mut self, missed: Vec<(NodeIndex, Wait)>) {
        for (node, wait) in missed {
            self.progress.acks_missed += 1;
            if wait.doubted {
                self.mute.insert(node, Mute::Doubted);
            } else {
                self.mute.insert(node, Mute::Avoided(None));
                self.progress.mutes_changed = true;
            }
        }
    }

    fn stop_waiting(&mut self, node: NodeIndex) {
        if let Some(waiting) = self.waiting() {
            waiting.remove(&node);
        }
    }

    /// The relays that the present phase waits for.
    fn waiting(&mut self) -> Option<&mut BTreeMap<NodeIndex, Wait>> {
        match &mut self.phase {
            Phase::Settled { stamped_at: _, settled_at: _ } => None,
            Phase::Preparing { waiting, again: _ }
            | Phase::Reconsidering { until: _, waiting }
            | Phase::Stamping { stamped_at: _, waiting } => Some(waiting),
        }
    }

    fn take_waiting(&mut self) -> BTreeMap<NodeIndex, Wait> {
        self.waiting().map(std::mem::take).unwrap_or_default()
    }
}
