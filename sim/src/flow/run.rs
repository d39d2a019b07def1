//! The loop of the flow grain.

use super::crowd::{Act, Crowd, What};
use super::judge::Verdicts;
use super::outcome::{FlowOutcome, Sums};
use super::sample::{Books, JOINS_WITHIN, Oracle, Published, Want};
use super::station::Station;
use super::truth::Truth;
use crate::drive::ControllerDriver;
use crate::queue::EventQueue;
use crate::scenario::{FaultKind, RelayId, Scenario};
use crate::store::Store;
use crate::trace::Digest;
use link_model::Seed;
use route_core::{Controller, ControllerConfig, Input, Output, SessionId};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::time::Duration;
use wire_format::control::{PublicationReport, SubscriptionReport, ToController, ToRelay};
use wire_format::{Epoch, NodeIndex, PublicationId, SubscriptionId, Timestamp};

/// What relays take to notice that a link is gone, and to link to a new neighbour.
const NOTICED_WITHIN: Duration = Duration::from_millis(100);
const LINKED_WITHIN: Duration = Duration::from_millis(500);
/// A relay whose session ended tries again after this.
const REDIAL: Duration = Duration::from_secs(1);
/// Measurements and routes have followed a change by then.
const SETTLES_WITHIN: Duration = Duration::from_secs(30);

/// Something that is going to happen.
#[derive(Debug)]
enum Happening {
    Dial(RelayId),
    ToController(SessionId, ToController),
    ToRelay(SessionId, ToRelay),
    /// The controller finds a session over.
    Over(SessionId),
    Report(RelayId),
    /// A relay looks for links that came or went.
    News(RelayId),
    NetworkChanges,
    Seat(usize),
    Act(Box<Act>),
    Fault {
        place: usize,
        begins: bool,
    },
    Sample,
}

/// A run.
#[derive(Debug)]
pub(crate) struct Flow<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) now: Duration,
    pub(crate) truth: Truth<'a>,
    pub(crate) stations: Vec<Station>,
    pub(crate) relay_of: BTreeMap<NodeIndex, RelayId>,
    pub(crate) books: Books,
    pub(crate) oracle: Option<Oracle>,
    /// Digests of the ways of all pairs at the sample before.
    pub(crate) last_ways: Vec<u64>,
    queue: EventQueue<Happening>,
    controller: Option<ControllerDriver>,
    store: Store,
    lives: u64,
    /// Faults that keep the controller down, and relays from it.
    held_down: u32,
    isolated: Vec<u32>,
    seed: Seed,
    sessions: BTreeMap<SessionId, RelayId>,
    next_session: u64,
    crowd: Crowd<'a>,
    changed_at: Duration,
    /// When the controller, or a relay's way to it, was last away.
    controlled_at: Duration,
    epochs: BTreeSet<Epoch>,
    newest: Option<Epoch>,
    digest: Digest,
    events: u64,
    sums: Sums,
    verdicts: Verdicts,
}

impl FlowOutcome {
    /// Runs a scenario at flow grain and judges it; `progress` is told how far it is, now and then.
    pub fn of(scenario: &Scenario, seed: u64, progress: &mut dyn FnMut(Duration)) -> FlowOutcome {
        let mut flow = Flow::new(scenario, Seed(seed));
        flow.run(progress);
        let counts = [flow.digest.finish(), flow.events, flow.epochs.len() as u64];
        flow.sums.outcome(scenario, seed, counts, flow.verdicts)
    }
}

impl<'a> Flow<'a> {
    fn new(scenario: &'a Scenario, seed: Seed) -> Flow<'a> {
        let mut flow = Flow {
            scenario,
            now: Duration::ZERO,
            truth: Truth::new(scenario),
            stations: scenario.relay_ids().map(Station::new).collect(),
            relay_of: BTreeMap::new(),
            books: Books::default(),
            oracle: None,
            last_ways: Vec::new(),
            queue: EventQueue::new(),
            controller: None,
            store: Store::new(),
            lives: 0,
            held_down: 0,
            isolated: vec![0; scenario.relays.len()],
            seed,
            sessions: BTreeMap::new(),
            next_session: 0,
            // As at packet grain, who comes when is the scenario's, not the run's.
            crowd: Crowd::new(scenario, Seed(scenario.seed)),
            changed_at: Duration::ZERO,
            controlled_at: Duration::ZERO,
            epochs: BTreeSet::new(),
            newest: None,
            digest: Digest::default(),
            events: 0,
            sums: Sums::default(),
            verdicts: Verdicts::default(),
        };
        flow.start_controller();
        flow.schedule();
        flow
    }

    fn schedule(&mut self) {
        let relays = self.scenario.relays.len() as u32;
        let mut rng = self.seed.child("phases").stream();
        for relay in self.scenario.relay_ids() {
            // One after the other, the order being the seed's.
            let phase = Duration::from_micros(rng.within(0..=u64::from(relays) * 1_000));
            self.queue.push(phase, Happening::Dial(relay));
            let every = self.scenario.report_every.as_micros() as u64;
            self.queue.push(Duration::from_micros(rng.within(0..=every)), Happening::Report(relay));
        }
        for at in self.truth.changes() {
            self.queue.push(at, Happening::NetworkChanges);
        }
        for seat in 0..self.crowd.seats() {
            self.queue.push(Duration::ZERO, Happening::Seat(seat));
        }
        for (at, act) in self.crowd.written() {
            self.queue.push(at, Happening::Act(Box::new(act)));
        }
        for (place, fault) in self.scenario.faults.iter().enumerate() {
            self.queue.push(fault.at, Happening::Fault { place, begins: true });
            if let Some(until) = fault.until {
                self.queue.push(until, Happening::Fault { place, begins: false });
            }
        }
        self.queue.push(self.scenario.sample_every, Happening::Sample);
    }

    fn run(&mut self, progress: &mut dyn FnMut(Duration)) {
        let end = self.scenario.run_for;
        loop {
            let deadline = self.controller_deadline();
            let next = self.queue.next_at().into_iter().chain(deadline).min();
            let Some(next) = next.filter(|next| *next <= end) else { return };
            self.now = next.max(self.now);
            self.truth.advance(self.now);
            self.events += 1;
            if deadline.is_some_and(|deadline| deadline <= self.now) {
                self.input(Input::Timeout);
            } else if let Some((_, happening)) = self.queue.pop() {
                if matches!(happening, Happening::Sample) {
                    progress(self.now);
                }
                self.happen(happening);
            }
        }
    }

    fn after(&mut self, delay: Duration, happening: Happening) {
        self.queue.push(self.now + delay, happening);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Dial(relay) => self.dial(relay),
            Happening::ToController(session, message) => {
                if self.sessions.contains_key(&session) {
                    self.input(Input::FromRelay { session, message });
                }
            }
            Happening::ToRelay(session, message) => self.relay_hears(session, message),
            Happening::Over(session) => {
                if self.sessions.remove(&session).is_some() {
                    self.input(Input::RelayDown { session });
                }
            }
            Happening::Report(relay) => {
                let reports = self.stations[usize::from(relay.0)].reports(&self.truth);
                self.say(relay, ToController::Links(reports));
                self.after(self.scenario.report_every, Happening::Report(relay));
            }
            Happening::News(relay) => {
                let news = self.stations[usize::from(relay.0)].news(&self.truth);
                if !news.is_empty() {
                    self.say(relay, ToController::Links(news));
                }
            }
            Happening::NetworkChanges => self.network_changed(),
            Happening::Seat(seat) => self.take_seat(seat),
            Happening::Act(act) => self.act(&act),
            Happening::Fault { place, begins } => self.fault(place, begins),
            Happening::Sample => {
                let sample = self.sample();
                self.verdicts.judge(self.scenario, &sample);
                self.sums.add(&sample);
                self.after(self.scenario.sample_every, Happening::Sample);
            }
        }
    }

    /// Nothing is broken, and nothing changed of late.
    pub(crate) fn is_settled(&self) -> bool {
        self.truth.is_whole()
            && self.controller.is_some()
            && self.isolated.iter().all(|faults| *faults == 0)
            && self.changed_at + SETTLES_WITHIN.max(3 * self.scenario.report_every) <= self.now
    }

    /// The controller has long been there for everyone: what users do is known to all whom it concerns.
    pub(crate) fn is_controlled(&self) -> bool {
        self.controller.is_some()
            && self.isolated.iter().all(|faults| *faults == 0)
            && self.controlled_at + 2 * JOINS_WITHIN <= self.now
    }

    // The network.

    fn network_changed(&mut self) {
        self.changed_at = self.now;
        self.oracle = None;
        for relay in self.scenario.relay_ids() {
            self.after(NOTICED_WITHIN, Happening::News(relay));
        }
    }

    fn fault(&mut self, place: usize, begins: bool) {
        let fault = &self.scenario.faults[place];
        match &fault.kind {
            FaultKind::Cut(directions) => {
                self.truth.cut(directions, begins);
                self.network_changed();
            }
            // A process that says goodbye, that hangs or that is stopped does not forward, either.
            FaultKind::Crash(relay) | FaultKind::Leave(relay) | FaultKind::Freeze(relay) => {
                self.controlled_at = self.now;
                self.truth.kill(*relay, begins);
                self.network_changed();
                if begins {
                    self.end_session(*relay);
                    self.stations[usize::from(relay.0)].die();
                } else {
                    self.after(REDIAL, Happening::Dial(*relay));
                }
            }
            FaultKind::Isolate(relay) | FaultKind::Mute(relay) => {
                let faults = &mut self.isolated[usize::from(relay.0)];
                *faults = if begins { *faults + 1 } else { faults.saturating_sub(1) };
                (self.changed_at, self.controlled_at) = (self.now, self.now);
                if begins {
                    self.end_session(*relay);
                } else {
                    self.after(REDIAL, Happening::Dial(*relay));
                }
            }
            FaultKind::Drain(relay) => {
                let name = self.scenario.relays[usize::from(relay.0)].name.clone();
                self.changed_at = self.now;
                self.input(if begins {
                    Input::Drain { name }
                } else {
                    Input::Cordon { name, cordoned: false }
                });
            }
            // What it sends does not reach the controller.
            FaultKind::Hostile(_) => {}
            FaultKind::ControllerCrash => {
                (self.changed_at, self.controlled_at) = (self.now, self.now);
                self.held_down = if begins { self.held_down + 1 } else { self.held_down.saturating_sub(1) };
                if begins {
                    self.controller = None;
                    for relay in self.scenario.relay_ids() {
                        self.end_session(relay);
                        self.after(REDIAL, Happening::Dial(relay));
                    }
                    self.sessions.clear();
                } else if self.held_down == 0 {
                    self.start_controller();
                }
            }
        }
    }

    // The controller and its sessions.

    fn start_controller(&mut self) {
        self.lives += 1;
        let config = self.store.config(self.scenario, self.now, self.seed.numbered(self.lives).0);
        let config = ControllerConfig { policies: self.scenario.policies.clone(), ..config };
        self.controller = Some(ControllerDriver::new(Controller::new(config)));
    }

    fn controller_deadline(&self) -> Option<Duration> {
        let deadline = self.controller.as_ref()?.deadline()?;
        Some(deadline.since(Timestamp::from_micros(1_000_000)))
    }

    fn dial(&mut self, relay: RelayId) {
        let place = usize::from(relay.0);
        if self.stations[place].session.is_some() || !self.truth.is_alive(relay) {
            return;
        }
        if self.controller.is_none() || self.isolated[place] > 0 {
            self.after(REDIAL, Happening::Dial(relay));
            return;
        }
        let spec = &self.scenario.relays[place];
        if self.stations[place].node.is_none() {
            self.input(Input::Join { name: spec.name.clone(), region: spec.region.clone() });
            let core = self.controller.as_ref().expect("it was looked at").core();
            let Some(node) = core.node_index(&spec.name) else {
                self.verdicts.object("laws", self.now, format!("no index for {}", spec.name));
                return;
            };
            self.relay_of.insert(node, relay);
            self.stations[place].node = Some(node);
        }
        self.next_session += 1;
        let session = SessionId(self.next_session);
        self.stations[place].session = Some(session);
        self.sessions.insert(session, relay);
        let hello = self.stations[place].hello(&self.truth);
        self.input(Input::RelayUp { session, name: spec.name.clone(), hello });
        for message in self.stations[place].everything(&self.truth) {
            self.say(relay, message);
        }
    }

    /// The relay's side is over at once, the controller's a moment later.
    fn end_session(&mut self, relay: RelayId) {
        if let Some(session) = self.stations[usize::from(relay.0)].session.take() {
            self.after(self.scenario.controller_delay, Happening::Over(session));
        }
    }

    fn say(&mut self, relay: RelayId, message: ToController) {
        if let Some(session) = self.stations[usize::from(relay.0)].session {
            self.after(self.scenario.controller_delay, Happening::ToController(session, message));
        }
    }

    fn relay_hears(&mut self, session: SessionId, message: ToRelay) {
        let Some(relay) = self.sessions.get(&session).copied() else { return };
        let station = &mut self.stations[usize::from(relay.0)];
        if station.session != Some(session) {
            return;
        }
        if let ToRelay::Stamp { epoch } = &message {
            self.epochs.insert(*epoch);
        }
        let links_change = matches!(message, ToRelay::Neighbours(_));
        match station.hear(message, &self.relay_of) {
            Ok(answer) => answer.into_iter().for_each(|answer| self.say(relay, answer)),
            Err(what) => {
                let name = &self.scenario.relays[usize::from(relay.0)].name;
                self.verdicts.object("epochs", self.now, format!("{name}: {what}"));
            }
        }
        if links_change {
            self.after(LINKED_WITHIN, Happening::News(relay));
        }
    }

    fn input(&mut self, input: Input) {
        let local = self.truth.local();
        let Some(driver) = self.controller.as_mut() else { return };
        let (outputs, violations) = driver.step(local, input);
        for violation in violations {
            self.verdicts.object("laws", self.now, violation.0);
        }
        for output in outputs {
            match output {
                Output::ToRelay { session, message } => {
                    self.note(session, &message);
                    self.after(self.scenario.controller_delay, Happening::ToRelay(session, message));
                }
                Output::Persist(update) => self.store.persist(self.now, update),
                Output::Kick { session, .. } => {
                    if let Some(relay) = self.sessions.remove(&session) {
                        let station = &mut self.stations[usize::from(relay.0)];
                        if station.session == Some(session) {
                            station.session = None;
                            self.after(REDIAL, Happening::Dial(relay));
                        }
                    }
                }
            }
        }
    }

    /// What the controller says goes into the hash, and its epochs only grow.
    fn note(&mut self, session: SessionId, message: &ToRelay) {
        (self.now, session.0).hash(&mut self.digest);
        let epoch = match message {
            ToRelay::Table(table) => {
                (1_u8, table.epoch.0, table.rows()).hash(&mut self.digest);
                Some(table.epoch)
            }
            ToRelay::TableDelta(delta) => {
                (2_u8, delta.epoch.0, delta.rows()).hash(&mut self.digest);
                Some(delta.epoch)
            }
            ToRelay::Stream(entry) => {
                (3_u8, entry.key, entry.revision, &entry.destinations).hash(&mut self.digest);
                None
            }
            ToRelay::Stamp { epoch } => {
                (4_u8, epoch.0).hash(&mut self.digest);
                None
            }
            ToRelay::Neighbours(list) => {
                5_u8.hash(&mut self.digest);
                list.iter().for_each(|neighbour| neighbour.node.hash(&mut self.digest));
                None
            }
            ToRelay::Welcome(_)
            | ToRelay::PublicationGranted { .. }
            | ToRelay::PublicationRefused { .. }
            | ToRelay::SubscriptionRefused { .. }
            | ToRelay::StreamGone { .. }
            | ToRelay::TokenKeys(_)
            | ToRelay::Namespaces(_)
            | ToRelay::Drain { .. }
            | ToRelay::Trace(_) => None,
        };
        if let Some(epoch) = epoch {
            if self.newest.is_some_and(|newest| epoch.0 + 1 < newest.0) {
                let what = format!("epoch {epoch} is pushed after {:?}", self.newest);
                self.verdicts.object("epochs", self.now, what);
            }
            self.newest = self.newest.max(Some(epoch));
        }
    }

    // The crowd.

    fn take_seat(&mut self, seat: usize) {
        let Some((from, until, acts)) = self.crowd.next_visit(seat) else { return };
        for act in acts {
            let end = Act { begins: false, ..act.clone() };
            self.queue.push(from, Happening::Act(Box::new(act)));
            self.queue.push(until, Happening::Act(Box::new(end)));
        }
        if until < self.scenario.media_end() {
            self.queue.push(until, Happening::Seat(seat));
        }
    }

    fn act(&mut self, act: &Act) {
        let (relay, now) = (act.relay, self.now);
        let station = &mut self.stations[usize::from(relay.0)];
        let message = match (&act.what, act.begins) {
            (What::Stream { number, name, kind, protect, bits_per_s }, true) => {
                let report = PublicationReport {
                    publication: PublicationId(*number),
                    name: name.clone(),
                    kind: *kind,
                    granted: None,
                    protect: *protect,
                    publisher: None,
                };
                station.publications.insert(report.publication, report.clone());
                let published = Published { relay, name: name.clone(), bits_per_s: *bits_per_s, since: now };
                let room = self.books.rooms.entry((name.namespace.clone(), name.room.clone())).or_default();
                room.streams.insert(*number, published);
                ToController::Published(report)
            }
            (What::Stream { number, name, .. }, false) => {
                station.publications.remove(&PublicationId(*number));
                let room = self.books.rooms.entry((name.namespace.clone(), name.room.clone())).or_default();
                room.streams.remove(number);
                ToController::Unpublished { publication: PublicationId(*number) }
            }
            (What::Subscription { number, namespace, room, user, stream }, true) => {
                let report = SubscriptionReport {
                    subscription: SubscriptionId(*number),
                    namespace: namespace.clone(),
                    room: room.clone(),
                    user: user.clone(),
                    stream: stream.clone(),
                };
                station.subscriptions.insert(report.subscription, report.clone());
                let want =
                    Want { relay, user: user.clone(), stream: stream.clone(), since: now, until: None };
                let book = self.books.rooms.entry((namespace.clone(), room.clone())).or_default();
                // Who left long ago is forgotten.
                book.wants.retain(|_, want| want.until.is_none_or(|until| until + 2 * JOINS_WITHIN > now));
                book.wants.insert(*number, want);
                ToController::Subscribed(report)
            }
            (What::Subscription { number, namespace, room, .. }, false) => {
                station.subscriptions.remove(&SubscriptionId(*number));
                let book = self.books.rooms.entry((namespace.clone(), room.clone())).or_default();
                if let Some(want) = book.wants.get_mut(number) {
                    want.until = Some(now);
                }
                ToController::Unsubscribed { subscription: SubscriptionId(*number) }
            }
        };
        self.say(relay, message);
    }
}
