//! The controller as one state machine: sessions in, decisions of its parts out, one clockwork for all deadlines.

mod explain;
mod neighbours;
mod past;
mod policies;
mod prices;
mod relief;
mod sessions;
mod trace;
mod views;

pub(crate) use relief::Travelling;

use crate::api::{ControllerConfig, CostConfig, Input, KickCause, Output, SessionId, StoreUpdate};
use crate::directory::Directory;
use crate::effect::Effect;
use crate::executor::Executor;
use crate::hubs::Hubs;
use crate::links::{LinkChange, Links};
use crate::neighbours::Neighbours;
use crate::planes::WeakPoints;
use crate::policy::Policies;
use crate::recovery::Recovery;
use crate::relays::{NAME_IN_USE, NEIGHBOUR_KEEP, OFFLINE_GRACE, Relay, Relays, SESSION_GRACE};
use crate::rollout::Rollout;
use crate::view::Counters;
use relief::Relief;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use wire_format::control::{LinkReport, LinkState, ToController, ToRelay, TokenKey, limits};
use wire_format::{NodeIndex, PolicyIndex, Timestamp};

/// Inputs within this time of each other cause one computation of routes: when a relay dies, its neighbours notice
/// one after the other.
pub(crate) const COALESCE: Duration = Duration::from_millis(5);
/// Least time between computations that only costs gave reason for.
const REPRICE_EVERY: Duration = Duration::from_secs(1);
/// The route controller's core. The crate's page tells how it behaves and by which laws it is driven.
#[derive(Clone, Debug)]
pub struct Controller {
    term: u64,
    cost: CostConfig,
    executor: Executor,
    index_quarantine: Duration,
    return_within: Duration,
    /// Quarantines that began before this controller did, and how long they have lasted; until the first input.
    quarantined: BTreeMap<NodeIndex, Duration>,
    started_at: Option<Timestamp>,
    relays: Relays,
    links: Links,
    neighbours: Neighbours,
    policies: Policies,
    relief: Relief,
    directory: Directory,
    rollout: Rollout,
    /// Of the topology that routes were last computed from.
    weak: WeakPoints,
    hubs: Hubs,
    recovery: Option<Recovery>,
    /// `None` until the process around the core has told them: relays keep those they have.
    token_keys: Option<Vec<TokenKey>>,
    /// When neighbour lists and routes are due to be looked at.
    refresh_at: Option<Timestamp>,
    /// Something changed since it was last looked at who is there and who may feed others.
    unjudged: bool,
    refreshed_at: Timestamp,
    effects: Vec<Effect>,
    outputs: VecDeque<Output>,
    counters: Counters,
}

/// Why routes may have to change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cause {
    /// A relay or a link came or went.
    Topology,
    /// A link costs something else.
    Cost,
}

impl Controller {
    /// A controller that has just become the leader.
    #[must_use]
    pub fn new(config: ControllerConfig) -> Controller {
        let recovery = (!config.nodes.is_empty()).then(Recovery::after_start);
        let relays = Relays::new(config.nodes, &config.certificates);
        let mut links = Links::default();
        links.mind_jitter(config.policies.mind_jitter());
        Controller {
            term: config.term,
            cost: config.cost,
            executor: config.executor,
            index_quarantine: config.index_quarantine,
            return_within: config.return_within,
            quarantined: config.quarantined,
            started_at: None,
            relays,
            links,
            neighbours: Neighbours::new(config.neighbours),
            directory: Directory::new(
                config.term,
                config.room_floor,
                config.limits,
                config.feeding,
                config.policies.clone(),
            ),
            policies: config.policies,
            relief: Relief::default(),
            rollout: Rollout::new(config.epoch_floor),
            weak: WeakPoints::default(),
            hubs: Hubs::default(),
            recovery,
            token_keys: None,
            refresh_at: None,
            unjudged: true,
            refreshed_at: Timestamp::ZERO,
            effects: Vec::new(),
            outputs: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Takes one input. `now` never goes back.
    pub fn handle_input(&mut self, now: Timestamp, input: Input) {
        self.started_at.get_or_insert(now);
        for (node, lasted) in std::mem::take(&mut self.quarantined) {
            if let Some(relay) = self.relays.relay_mut(node) {
                let quarantine = relay.quarantine(self.index_quarantine, self.return_within);
                relay.quarantined_until = Some(now + quarantine.saturating_sub(lasted));
                relay.leaving = true;
                relay.named = false;
            }
        }
        match input {
            Input::Join { name, region } => {
                if let Some(record) = self.relays.register(&name, &region) {
                    self.effects.push(Effect::Persist(StoreUpdate::Node(record)));
                }
            }
            Input::RelayUp { session, name, hello } => self.relay_up(now, session, &name, hello),
            Input::FromRelay { session, message } => match self.relays.of_session(session) {
                Some(node) => {
                    if let Some(rival) = self.relays.said(now, node) {
                        self.kick(rival, KickCause::NameInUse, NAME_IN_USE);
                    }
                    self.hear(now, node, session, message);
                }
                None => self.counters.strays += 1,
            },
            Input::RelayDown { session } => {
                if !self.relays.forget_rival(session) {
                    self.session_over(now, session);
                }
            }
            Input::Cordon { name, cordoned } => self.cordon(now, &name, cordoned, false),
            Input::Drain { name } => self.cordon(now, &name, true, true),
            Input::Policies(policies) => self.set_policies(now, policies),
            Input::Certificates { name, rule } => self.certificates(now, &name, rule),
            Input::TokenKeys(mut keys) => {
                keys.truncate(limits::TOKEN_KEYS);
                let attached: Vec<NodeIndex> = self.attached().collect();
                for node in attached {
                    self.tell(node, ToRelay::TokenKeys(keys.clone()));
                }
                self.token_keys = Some(keys);
            }
            Input::Timeout => {}
        }
        self.run_due(now);
        self.flush();
    }

    /// The next thing to do. Changed by every input.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Timeout`] is due. Changed by every input.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let refresh = self.refresh_at.and_then(|at| {
            if self.recovery.is_some() { Some(at) } else { Some(at.max(self.rollout.open_at()?)) }
        });
        [
            refresh,
            self.recovery.as_ref().and_then(Recovery::deadline),
            self.rollout.deadline(),
            self.directory.deadline(),
            self.links.deadline(),
            self.hubs.deadline(),
            self.neighbours_due(),
            self.relief.deadline().filter(|_| self.recovery.is_none()),
            self.relay_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn hear(&mut self, now: Timestamp, node: NodeIndex, session: SessionId, message: ToController) {
        match message {
            ToController::Hello(_) => {
                self.session_over(now, session);
                self.kick(session, KickCause::Broken, "the session has said hello before");
            }
            ToController::ReportsComplete => self.reports_complete(now, node),
            ToController::Links(reports) => {
                for report in reports {
                    self.link_reported(now, node, report);
                }
            }
            ToController::Published(report) => self.directory.published(now, node, report, &mut self.effects),
            ToController::Unpublished { publication } => {
                self.directory.unpublished(now, node, publication, &mut self.effects);
            }
            ToController::Subscribed(report) => {
                self.directory.subscribed(now, node, report, &mut self.effects)
            }
            ToController::Unsubscribed { subscription } => {
                self.directory.unsubscribed(now, node, subscription, &mut self.effects);
            }
            ToController::TableAck { epoch } => {
                self.rollout.table_acked(now, node, epoch);
                if let Some(relay) = self.relays.relay_mut(node) {
                    relay.epoch = Some(epoch);
                }
            }
            ToController::TableWanted { epoch } => {
                if !self.rollout.table_wanted(now, node, epoch, &mut self.effects) {
                    self.counters.reports_refused += 1;
                }
            }
            ToController::StampAck { epoch } => self.rollout.stamp_acked(now, node, epoch),
            ToController::StreamAck { key, revision } => {
                self.directory.row_acked(now, node, key, revision, &mut self.effects);
            }
            ToController::Usage(usage) => self.directory.used(node, usage),
            // The process around the core asked, and takes the answers; this one came too late.
            ToController::Traced(_) => self.counters.strays += 1,
            ToController::Goodbye => {
                if let Some(relay) = self.relays.relay_mut(node) {
                    relay.leaving = true;
                    relay.changed_at = now;
                }
                // Those whom it feeds need another feeder before it is gone.
                self.judge_holders(now);
                self.changed(now, Cause::Topology);
            }
        }
    }

    fn reports_complete(&mut self, now: Timestamp, node: NodeIndex) {
        if !self.relays.complete(node) {
            self.counters.reports_refused += 1;
            return;
        }
        for change in self.links.start_speaking(now, node, &self.cost) {
            self.link_changed(now, change);
        }
        let reported = self.relays.relay(node).and_then(|relay| relay.epoch);
        let understands = self.relays.relay(node).is_some_and(|relay| relay.table_deltas);
        self.rollout.join(now, node, reported, understands, &mut self.effects);
        self.directory.reports_complete(now, node, &mut self.effects);
        if let Some(recovery) = &mut self.recovery {
            recovery.heard(now);
        }
        self.changed(now, Cause::Topology);
    }

    fn link_reported(&mut self, now: Timestamp, node: NodeIndex, report: LinkReport) {
        let neighbour = report.neighbour;
        if neighbour == node || self.relays.relay(neighbour).is_none() {
            self.counters.reports_refused += 1;
            return;
        }
        if !self.neighbours.is_expected(node, neighbour) {
            // Of a link that ended a moment ago: the relay has yet to hear of it, or said so before it did.
            self.counters.reports_unasked += 1;
            return;
        }
        let state = report.state;
        let before = self.links.word(node, neighbour).map(|word| word.report.state);
        let down = state == LinkState::Down;
        let change = self.links.report(now, node, report, &self.cost);
        self.link_changed(now, change);
        if before != Some(state) {
            // What one end says of the other is about both: whether one is missed, and whether the other is in doubt.
            for end in [neighbour, node] {
                let unfit = self.relays.relay(end).is_some_and(|relay| self.must_not_feed(end, relay));
                self.directory.judge_feeder(now, end, unfit, &mut self.effects);
            }
        }
        if down && self.links.is_doubted(neighbour) {
            self.rollout.doubt(now, neighbour);
        }
    }

    /// Finds out who must not feed others: who leaves, is to be avoided, cannot do it, or is missed by its neighbours.
    fn judge_holders(&mut self, now: Timestamp) {
        let unfit = self.relays.iter().filter(|(node, relay)| self.must_not_feed(*node, relay));
        let unfit: BTreeSet<NodeIndex> = unfit.map(|(node, _)| node).collect();
        self.directory.set_unfit(now, &unfit, &mut self.effects);
    }

    fn must_not_feed(&self, node: NodeIndex, relay: &Relay) -> bool {
        relay.leaving
            || relay.record.cordoned
            || relay.certificates.revoked
            || relay.offline_since.is_some()
            || !relay.holds
            || self.links.is_missed(node, relay.session.is_some())
    }

    fn link_changed(&mut self, now: Timestamp, change: LinkChange) {
        match change {
            LinkChange::None => {}
            LinkChange::CameUp => self.changed(now, Cause::Topology),
            LinkChange::Failed => {
                self.counters.links_failed += 1;
                self.changed(now, Cause::Topology);
            }
            LinkChange::Repriced => {
                self.load_changed(now);
                self.counters.cost_changes += 1;
                self.changed(now, Cause::Cost);
            }
        }
    }

    /// A session ended, and whoever waited for its place may come.
    fn session_over(&mut self, now: Timestamp, session: SessionId) {
        let Some(node) = self.relays.close(now, session) else { return };
        self.session_lost(now, node);
        if let Some(rival) = self.relays.take_rival(node) {
            self.kick(rival, KickCause::ComeAgain, "the relay's older session has ended: open another");
        }
    }

    /// A relay has no session any more. Its links are believed for a while; media does not depend on sessions.
    fn session_lost(&mut self, now: Timestamp, node: NodeIndex) {
        self.rollout.leave(node);
        self.directory.session_lost(node);
        if self.recovery.is_none() && Recovery::is_needed(now, &self.relays, &self.links) {
            self.recovery = Some(Recovery::after_loss(now, &self.relays));
        }
        self.changed(now, Cause::Topology);
    }

    fn changed(&mut self, now: Timestamp, cause: Cause) {
        let at = match cause {
            Cause::Topology => now + COALESCE,
            Cause::Cost => (now + COALESCE).max(self.refreshed_at + REPRICE_EVERY),
        };
        self.refresh_at = Some(self.refresh_at.map_or(at, |earlier| earlier.min(at)));
        // Prices say nothing of who is there and who may feed others.
        self.unjudged |= cause == Cause::Topology;
    }

    /// Does everything that is due, until nothing is.
    fn run_due(&mut self, now: Timestamp) {
        loop {
            self.run_relay_timers(now);
            if self.hubs.tick(now) | self.links.tick(now) {
                self.changed(now, Cause::Topology);
            }
            self.directory.tick(now, &mut self.effects);
            self.relieve(now);
            if let Some(recovery) = &mut self.recovery {
                recovery.tick(now, &self.relays);
                if recovery.is_over(now, &self.relays, &self.links) {
                    self.recovery = None;
                    self.refresh_at = Some(now);
                    self.unjudged = true;
                }
            }
            self.step_rollout(now);
            self.step_neighbours(now);
            if self.refresh_at.is_some_and(|at| at <= now) {
                self.refresh(now);
            }
            self.step_rollout(now);
            if self.poll_timeout().is_none_or(|at| at > now) {
                return;
            }
        }
    }

    fn step_rollout(&mut self, now: Timestamp) {
        let links = &self.links;
        self.rollout.step(now, |node| links.is_doubted(node), &mut self.effects);
        let progress = self.rollout.take_progress();
        self.counters.epochs += progress.epochs;
        self.counters.epochs_urgent += progress.epochs_urgent;
        self.counters.route_changes += progress.route_changes;
        self.counters.acks_missed += progress.acks_missed;
        self.counters.epochs_merged += progress.epochs_merged;
        self.counters.tables_whole += progress.tables_whole;
        self.counters.tables_changed += progress.tables_changed;
        self.counters.tables_wanted += progress.tables_wanted;
        if progress.mutes_changed {
            self.changed(now, Cause::Topology);
        }
    }

    /// Looks at everything that follows from who is there and what links cost.
    fn refresh(&mut self, now: Timestamp) {
        // While tables are on their way this is asked at each message, and all relays are too many to look at then.
        if std::mem::take(&mut self.unjudged) {
            self.judge_presence(now);
            self.judge_holders(now);
        }
        if self.recovery.is_some() {
            // What was pushed before stays right, or as right as anything that could be computed from half the facts.
            self.refresh_at = None;
            return;
        }
        if self.rollout.open_at().is_none_or(|at| now < at) {
            return;
        }
        self.refresh_at = None;
        self.refreshed_at = now;
        self.push_neighbours(now);
        self.counters.recomputes += 1;
        let topology = self.topology(now, PolicyIndex::DEFAULT);
        let routes = self.compute(now, PolicyIndex::DEFAULT, &topology);
        let (topology, routes) = match self.quarantine_hubs(now, &topology, &routes) {
            false => (topology, routes),
            true => {
                let topology = self.topology(now, PolicyIndex::DEFAULT);
                let routes = self.compute(now, PolicyIndex::DEFAULT, &topology);
                (topology, routes)
            }
        };
        self.weak = routes.weak_points();
        self.counters.risks_left_out += routes.risks_left_out() as u64;
        self.directory.routes_changed(now, Arc::new(routes.clone()));
        let (routes, topologies) = self.compute_others(now, topology, routes);
        self.rollout.want(routes, &topologies);
    }

    /// Finds out who is offline, and whose index goes into quarantine.
    fn judge_presence(&mut self, now: Timestamp) {
        let mut gone = Vec::new();
        for (node, relay) in self.relays.iter_mut() {
            let reached = self.links.is_reached(node) && !relay.certificates.revoked;
            let present = relay.session.is_some() || reached;
            if present {
                relay.offline_since = None;
                if relay.quarantined_until.take().is_some() {
                    self.effects.push(Effect::Persist(StoreUpdate::Node(relay.record.clone())));
                }
                continue;
            }
            if relay.offline_since.is_none() {
                relay.offline_since = Some(now);
                relay.changed_at = now;
                gone.push(node);
            }
            if relay.is_away_for_good() && relay.quarantined_until.is_none() {
                let quarantine = relay.quarantine(self.index_quarantine, self.return_within);
                relay.quarantined_until = Some(now + quarantine);
                self.effects.push(Effect::Persist(StoreUpdate::NodeQuarantined(node)));
            }
        }
        for node in gone {
            self.directory.went_offline(now, node, &mut self.effects);
        }
    }

    /// Deadlines of single relays: the grace of a lost session, what an offline relay held, its name in the lists.
    fn run_relay_timers(&mut self, now: Timestamp) {
        while let Some(session) = self.relays.silent_before_rival(now) {
            self.session_over(now, session);
            self.kick(session, KickCause::Replaced, "silent, and the relay opened another session");
        }
        let mut silenced = Vec::new();
        let mut dropped = Vec::new();
        let mut freed = Vec::new();
        let mut changed = false;
        let recovering = self.recovery.is_some();
        for node in self.relays.watch() {
            let Some(relay) = self.relays.relay_mut(node) else { continue };
            if relay.lost_at.is_some_and(|at| at + SESSION_GRACE <= now) {
                relay.lost_at = None;
                silenced.push(node);
            }
            let grace = if relay.leaving { Duration::ZERO } else { OFFLINE_GRACE };
            if relay.offline_since.is_some_and(|at| at + grace <= now) && !relay.dropped && !recovering {
                relay.dropped = true;
                dropped.push(node);
            }
            let keep = if relay.leaving { Duration::ZERO } else { NEIGHBOUR_KEEP };
            if relay.named && relay.offline_since.is_some_and(|at| at + keep <= now) {
                relay.named = false;
                changed = true;
            }
            if !recovering && relay.frees_at().is_some_and(|at| at <= now) {
                freed.push(node);
            }
        }
        for node in silenced {
            changed = true;
            for change in self.links.stop_speaking(now, node, &self.cost) {
                self.link_changed(now, change);
            }
        }
        for node in dropped {
            self.directory.drop_relay(now, node, &mut self.effects);
        }
        for node in freed {
            self.links.forget(node);
            self.hubs.forget(node);
            self.directory.forget_relay(node);
            self.relays.free(node);
            self.effects.push(Effect::Persist(StoreUpdate::NodeFreed(node)));
        }
        if changed {
            self.changed(now, Cause::Topology);
        }
    }

    fn relay_deadline(&self) -> Option<Timestamp> {
        let recovering = self.recovery.is_some();
        let deadlines = self.relays.watched().flat_map(|(_, relay)| {
            let (grace, keep) = if relay.leaving {
                (Duration::ZERO, Duration::ZERO)
            } else {
                (OFFLINE_GRACE, NEIGHBOUR_KEEP)
            };
            let offline = relay.offline_since;
            [
                relay.lost_at.map(|at| at + SESSION_GRACE),
                offline.filter(|_| !relay.dropped && !recovering).map(|at| at + grace),
                offline.filter(|_| relay.named).map(|at| at + keep),
                relay.frees_at().filter(|_| !recovering),
            ]
        });
        deadlines.flatten().chain(self.relays.rival_deadline()).min()
    }

    fn tell(&mut self, node: NodeIndex, message: ToRelay) {
        self.effects.push(Effect::Tell(node, message));
    }

    fn kick(&mut self, session: SessionId, cause: KickCause, reason: &'static str) {
        self.counters.kicked += 1;
        self.counters.names_contested += u64::from(cause == KickCause::NameInUse);
        self.flush();
        self.outputs.push_back(Output::Kick { session, cause, reason });
    }

    /// Turns effects into outputs; what is for a relay without a session is dropped, as the relay is told everything
    /// anew in its next one.
    fn flush(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::Persist(update) => self.outputs.push_back(Output::Persist(update)),
                Effect::Tell(node, message) => {
                    if let Some(session) = self.relays.relay(node).and_then(|relay| relay.session) {
                        self.outputs.push_back(Output::ToRelay { session: session.id, message });
                    }
                }
            }
        }
    }
}
