//! The controller's process, the relays' sessions with it, and their life together.

use crate::connection::{BACKOFF_FIRST, next_backoff};
use crate::control_channel::{
    KEEPALIVE, Session, Way, decode_to_controller, decode_to_relay, encode_to_controller, encode_to_relay,
};
use crate::drive::ControllerDriver;
use crate::host_clock::HostClock;
use crate::node::{Core, Stimulus};
use crate::scenario::{Host, RelayId, Routing};
use crate::store::Store;
use crate::trace::Event;
use crate::world::{Happening, World};
use link_model::{Seed, Xoshiro256};
use relay_core::{RelayCommand, RelayConfig, RelayEvent};
use route_core::{Controller, ControllerConfig, Input, Output, Policies, SessionId};
use std::collections::BTreeMap;
use std::time::Duration;
use wire_format::control::{RelayHello, ToController, ToRelay};
use wire_format::session::WIRE_VERSIONS;
use wire_format::{Epoch, PacketNumber, RouteTable, TableDelta, Timestamp};

/// Between what is due and the process noticing it, at most.
const LATENESS_US_MAX: u64 = 500;

/// Tables remembered of what each relay was told: a change arrives while newer ones are on their way.
const PUSHED_MAX: usize = 8;

/// The controller's process.
#[derive(Debug)]
pub(crate) struct ControllerProcess {
    seed: Seed,
    driver: Option<ControllerDriver>,
    /// Counts starts.
    life: u32,
    store: Store,
    clock: HostClock,
    rng: Xoshiro256,
    alarm: Option<Duration>,
    next_session: u64,
    newest_pushed: Option<Epoch>,
    /// The last few tables that each relay was told, newest last.
    pushed: BTreeMap<RelayId, Vec<RouteTable>>,
    /// Faults that keep it dead now.
    pub(crate) held_down: u32,
}

impl ControllerProcess {
    pub(crate) fn new(seed: Seed, clock_drift_ppm: u32) -> ControllerProcess {
        let mut rng = seed.child("shell").stream();
        let origin = Duration::from_micros(rng.within(0..=3_600_000_000));
        ControllerProcess {
            seed,
            driver: None,
            life: 0,
            store: Store::new(),
            clock: HostClock::new(seed, origin, clock_drift_ppm),
            rng,
            alarm: None,
            next_session: 0,
            newest_pushed: None,
            pushed: BTreeMap::new(),
            held_down: 0,
        }
    }

    fn local(&self, now: Duration) -> Timestamp {
        self.clock.shows(now)
    }

    fn deadline(&self) -> Option<Duration> {
        Some(self.clock.world(self.driver.as_ref()?.deadline()?))
    }

    /// Notes that tables of an epoch are pushed. `true` the first time.
    pub(crate) fn begins_epoch(&mut self, epoch: Epoch) -> bool {
        let begins = self.newest_pushed.is_none_or(|newest| newest < epoch);
        if begins {
            self.newest_pushed = Some(epoch);
        }
        begins
    }

    /// Notes what a relay is told.
    pub(crate) fn remember_pushed(&mut self, relay: RelayId, table: RouteTable) {
        let pushed = self.pushed.entry(relay).or_default();
        if pushed.len() == PUSHED_MAX {
            pushed.remove(0);
        }
        pushed.push(table);
    }

    /// The tables that changes lead to, if those that they are changes of were told.
    pub(crate) fn pushed_to(&self, relay: RelayId, delta: &TableDelta) -> Option<RouteTable> {
        let base = self.pushed.get(&relay)?.iter().rfind(|table| table.epoch == delta.base)?;
        delta.apply(base).ok()
    }

    /// How many rows the tables of an epoch have that a relay was told.
    pub(crate) fn pushed_rows(&self, relay: RelayId, epoch: Epoch) -> usize {
        let pushed = self.pushed.get(&relay).into_iter().flatten().rfind(|table| table.epoch == epoch);
        pushed.map_or(0, RouteTable::rows)
    }

    /// The living core, and what its clock shows.
    pub(crate) fn core_at(&self, now: Duration) -> Option<(&Controller, Timestamp)> {
        Some((self.driver.as_ref()?.core(), self.local(now)))
    }
}

impl World<'_> {
    // The controller's process.

    pub(crate) fn start_controller(&mut self) {
        let policies = self.policies_now();
        let process = &mut self.controller;
        process.life += 1;
        let seed = process.seed.numbered(process.life.into()).0;
        let config = ControllerConfig { policies, ..process.store.config(self.scenario, self.now, seed) };
        process.driver = Some(ControllerDriver::new(Controller::new(config)));
        process.alarm = None;
        self.set_controller_alarm();
    }

    /// What an operator has told the controller by now.
    fn policies_now(&self) -> Policies {
        if self.now >= self.scenario.policies_from {
            self.scenario.policies.clone()
        } else {
            Policies::default()
        }
    }

    /// An operator tells the controller, if it is there; if not, it begins with them.
    pub(crate) fn set_policies(&mut self) {
        if self.controller.driver.is_some() {
            let policies = self.policies_now();
            self.feed_controller(Input::Policies(policies));
        }
    }

    pub(crate) fn stop_controller(&mut self) {
        self.controller.driver = None;
        let delay = self.scenario.controller_delay;
        let open = self.sessions.values_mut().filter(|session| session.controller_open);
        let ends: Vec<_> = open
            .map(|session| {
                session.controller_open = false;
                session.id
            })
            .collect();
        for session in ends {
            self.schedule(delay, Happening::ControlOver { session, way: Way::ToRelay });
        }
    }

    /// A command of an operator; in vain while there is no controller.
    pub(crate) fn operator_says(&mut self, input: Input) {
        if self.controller.driver.is_some() {
            self.feed_controller(input);
        }
    }

    fn feed_controller(&mut self, input: Input) {
        let local = self.controller.local(self.now);
        let Some(driver) = self.controller.driver.as_mut() else { return };
        let (outputs, violations) = driver.step(local, input);
        for violation in violations {
            self.violation("the controller", violation.0);
        }
        for output in outputs {
            match output {
                Output::ToRelay { session, message } => self.push_to_relay(session, message),
                Output::Persist(update) => self.controller.store.persist(self.now, update),
                Output::Kick { session, cause: _, reason: _ } => {
                    let dismissed = self.sessions.get_mut(&session).and_then(|session| {
                        session.controller_open = false;
                        session.welcomed.then_some(session.relay)
                    });
                    if let Some(relay) = dismissed {
                        self.record(Event::Dismissed(relay));
                    }
                    let delay = self.scenario.controller_delay;
                    self.schedule(delay, Happening::ControlOver { session, way: Way::ToRelay });
                }
            }
        }
        self.set_controller_alarm();
    }

    fn set_controller_alarm(&mut self) {
        let now = self.now;
        let process = &mut self.controller;
        let Some(deadline) = process.deadline() else {
            process.alarm = None;
            return;
        };
        let at = deadline.max(now);
        if process.alarm.is_none_or(|alarm| alarm > at) {
            let late = Duration::from_micros(process.rng.within(0..=LATENESS_US_MAX));
            process.alarm = Some(at + late);
            let life = process.life;
            self.queue.push(at + late, Happening::ControllerAlarm { life });
        }
    }

    pub(crate) fn controller_alarm(&mut self, life: u32) {
        let process = &mut self.controller;
        if process.life != life || process.alarm != Some(self.now) {
            return;
        }
        process.alarm = None;
        if process.deadline().is_some_and(|deadline| deadline <= self.now) {
            self.feed_controller(Input::Timeout);
        } else {
            self.set_controller_alarm();
        }
    }

    // Relays reaching it.

    fn is_cut_off(&self, relay: RelayId) -> bool {
        self.isolated.get(&relay).is_some_and(|faults| *faults > 0)
    }

    pub(crate) fn control_dial(&mut self, relay: RelayId, life: u32) {
        let host = Host::Relay(relay);
        if !self.node(host).lives(life) || self.node(host).relay.session.is_some() {
            return;
        }
        if self.controller.driver.is_none() || self.is_cut_off(relay) {
            self.control_redial(relay);
        } else {
            // TCP, TLS and the request: a round trip and a half for the last to arrive.
            let takes = 3 * self.scenario.controller_delay;
            self.schedule(takes, Happening::ControlUp { relay, life });
        }
    }

    fn control_redial(&mut self, relay: RelayId) {
        let node = self.node(Host::Relay(relay));
        let backoff = node.relay.control_backoff;
        node.relay.control_backoff = next_backoff(backoff);
        let wait = backoff + node.up_to(backoff / 4);
        let life = node.life;
        self.schedule(wait, Happening::ControlDial { relay, life });
    }

    pub(crate) fn control_up(&mut self, relay: RelayId, life: u32) {
        let host = Host::Relay(relay);
        if !self.node(host).lives(life) {
            return;
        }
        if self.controller.driver.is_none() || self.is_cut_off(relay) {
            self.control_redial(relay);
            return;
        }
        if self.node(host).relay.node.is_none() && !self.join(relay) {
            self.control_redial(relay);
            return;
        }
        let id = SessionId(self.controller.next_session);
        self.controller.next_session += 1;
        self.sessions.insert(id, Session::new(id, relay, life));
        let node = self.node(host);
        node.relay.session = Some(id);
        node.relay.control_backoff = BACKOFF_FIRST;
        self.record(Event::SessionUp(relay));
        self.feed(host, &[], Stimulus::Relay(RelayCommand::ControllerUp));
    }

    /// The relay has no certificate yet: it gets one, and with it its index.
    fn join(&mut self, relay: RelayId) -> bool {
        let spec = &self.scenario.relays[usize::from(relay.0)];
        let (name, region) = (spec.name.clone(), spec.region.clone());
        self.feed_controller(Input::Join { name: name.clone(), region });
        let driver = self.controller.driver.as_ref().expect("the caller saw it alive");
        let Some(index) = driver.core().node_index(&name) else {
            self.violation("the controller", format!("gave no index to {name:?}"));
            return false;
        };
        self.relay_of_node.insert(index, relay);
        self.record(Event::Joined { relay, index: index.0 });
        self.node(Host::Relay(relay)).relay.node = Some(index);
        self.make_relay_core(relay);
        true
    }

    /// The relay's core, made once its index is known.
    pub(crate) fn make_relay_core(&mut self, relay: RelayId) {
        let spec = &self.scenario.relays[usize::from(relay.0)];
        let seed = self.seed.child("relay").child(&spec.name);
        let node = self.nodes.get_mut(&Host::Relay(relay)).expect("every relay has a node");
        let hello = RelayHello {
            name: spec.name.clone(),
            node: node.relay.node,
            region: spec.region.clone(),
            isp: String::new(),
            tags: Vec::new(),
            position: spec.position,
            addresses: vec![std::net::SocketAddr::from(([10, 0, (relay.0 >> 8) as u8, relay.0 as u8], 4700))],
            version: env!("CARGO_PKG_VERSION").to_owned(),
            wire_versions: WIRE_VERSIONS,
            epoch: None,
            table_deltas: true,
            streams: Vec::new(),
            traces: true,
        };
        let config = RelayConfig { hello, seed: seed.numbered(node.life.into()).0 };
        let mut core = relay_core::Relay::new(config);
        core.count_from(PacketNumber(self.scenario.packets_from));
        node.core = Some(Core::Relay(Box::new(crate::drive::Driver::new(core))));
    }

    // Messages.

    pub(crate) fn relay_event(&mut self, host: Host, event: RelayEvent) {
        let message = match event {
            RelayEvent::ToController(message) => message,
            // Nobody watches.
            RelayEvent::Notice(_) => return,
        };
        let Host::Relay(relay) = host else { return };
        let Some(session) = self.node(host).relay.session else { return };
        let bytes = encode_to_controller(message.clone());
        self.check_survival(relay, decode_to_controller(&bytes), message);
        self.send_control(session, Way::ToController, bytes);
    }

    fn push_to_relay(&mut self, session: SessionId, message: ToRelay) {
        let Some(open) = self.sessions.get_mut(&session).filter(|session| session.controller_open) else {
            return;
        };
        let relay = open.relay;
        if matches!(message, ToRelay::Welcome(_)) {
            open.welcomed = true;
            self.record(Event::Introduced(relay));
        }
        self.observe_push(relay, &message);
        let bytes = encode_to_relay(message.clone());
        self.check_survival(relay, decode_to_relay(&bytes), message);
        self.send_control(session, Way::ToRelay, bytes);
    }

    fn check_survival<T: PartialEq + std::fmt::Debug>(
        &mut self,
        relay: RelayId,
        decoded: Result<T, String>,
        message: T,
    ) {
        if decoded.as_ref() != Ok(&message) {
            let who = format!("control session of {}", self.scenario.host_name(Host::Relay(relay)));
            self.violation(&who, format!("{message:?} became {decoded:?}"));
        }
    }

    fn send_control(&mut self, id: SessionId, way: Way, bytes: Vec<u8>) {
        let (now, delay) = (self.now, self.scenario.controller_delay);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let at = session.send(way, now, delay, bytes);
        self.queue.push(at, Happening::ControlArrives { session: id, way });
    }

    pub(crate) fn control_arrives(&mut self, id: SessionId, way: Way) {
        let Some(relay) = self.sessions.get(&id).map(|session| session.relay) else { return };
        let cut = self.is_cut_off(relay);
        let session = self.sessions.get_mut(&id).expect("found a moment ago");
        if cut {
            session.put_off(way);
            return;
        }
        let Some(bytes) = session.arrive(way) else { return };
        match way {
            Way::ToController if session.controller_open => self.control_to_controller(id, &bytes),
            Way::ToRelay if session.relay_open => self.control_to_relay(relay, &bytes),
            Way::ToController | Way::ToRelay => {}
        }
    }

    fn control_to_controller(&mut self, id: SessionId, bytes: &[u8]) {
        let session = self.sessions.get_mut(&id).expect("the caller found it");
        let relay = session.relay;
        let name = self.scenario.relays[usize::from(relay.0)].name.clone();
        match decode_to_controller(bytes) {
            Ok(ToController::Hello(hello)) => {
                session.introduced = true;
                self.feed_controller(Input::RelayUp { session: id, name, hello });
            }
            Ok(message) if session.introduced => {
                self.observe_report(id, relay, &message);
                self.feed_controller(Input::FromRelay { session: id, message });
            }
            Ok(message) => self.violation(&name, format!("said {message:?} before its hello")),
            Err(what) => self.violation(&name, what),
        }
    }

    fn control_to_relay(&mut self, relay: RelayId, bytes: &[u8]) {
        let host = Host::Relay(relay);
        let message = match decode_to_relay(bytes) {
            Ok(message) => message,
            Err(what) => return self.violation("the controller", what),
        };
        self.observe_arrival(relay, &message);
        let neighbours_changed = matches!(message, ToRelay::Neighbours(_));
        if let ToRelay::Neighbours(neighbours) = &message {
            let list = neighbours.iter().map(|neighbour| (neighbour.node, neighbour.name.clone()));
            self.node(host).relay.neighbours = list.collect();
        }
        self.feed(host, &[], Stimulus::Relay(RelayCommand::Controller(message)));
        if neighbours_changed {
            self.dial_neighbours(relay);
        }
    }

    /// Between two relays the one with the lower index dials.
    fn dial_neighbours(&mut self, relay: RelayId) {
        let host = Host::Relay(relay);
        let shell = &self.node(host).relay;
        let own = shell.node;
        let wanted: Vec<_> = shell.neighbours.keys().filter(|node| own < Some(**node)).copied().collect();
        let wanted: Vec<_> =
            wanted.iter().filter_map(|node| self.relay_of_node.get(node).copied().map(Host::Relay)).collect();
        // A tree is all that there is: nobody seeks links beside it for as long as it runs.
        let wanted: Vec<_> = match self.scenario.routing {
            Routing::Overlay | Routing::Direct => wanted,
            Routing::Tree => {
                wanted.into_iter().filter(|to| self.scenario.paths.contains_key(&(host, *to))).collect()
            }
        };
        self.node(host).dials.retain(|to, _| wanted.contains(to));
        for to in wanted {
            self.want_connection(host, to);
        }
    }

    // The end of sessions.

    /// The receiver of that way finds the session over.
    pub(crate) fn control_over(&mut self, id: SessionId, way: Way) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let (relay, life) = (session.relay, session.relay_life);
        match way {
            Way::ToController => {
                if std::mem::take(&mut session.controller_open) && session.introduced {
                    if session.welcomed {
                        self.record(Event::Dismissed(relay));
                    }
                    self.feed_controller(Input::RelayDown { session: id });
                }
            }
            Way::ToRelay => {
                let was_open = std::mem::take(&mut session.relay_open);
                let host = Host::Relay(relay);
                if was_open && self.node(host).lives(life) {
                    self.node(host).relay.session = None;
                    self.record(Event::SessionDown(relay));
                    self.feed(host, &[], Stimulus::Relay(RelayCommand::ControllerDown));
                    self.control_redial(relay);
                }
            }
        }
    }

    /// A relay's process is gone: the system closes its session.
    pub(crate) fn abandon_session(&mut self, relay: RelayId) {
        let Some(id) = self.node(Host::Relay(relay)).relay.session else { return };
        if let Some(session) = self.sessions.get_mut(&id) {
            session.relay_open = false;
        }
        let missed_after = if self.is_cut_off(relay) { KEEPALIVE } else { self.scenario.controller_delay };
        self.schedule(missed_after, Happening::ControlOver { session: id, way: Way::ToController });
    }

    pub(crate) fn isolate(&mut self, relay: RelayId, begins: bool) {
        self.separate(relay, begins);
        if let Some(session) = self.node(Host::Relay(relay)).relay.session.filter(|_| begins) {
            self.schedule(KEEPALIVE, Happening::ControlKeepalive { session });
        }
    }

    /// As if isolated, but whoever answers keepalives still does.
    pub(crate) fn mute(&mut self, relay: RelayId, begins: bool) {
        self.separate(relay, begins);
    }

    fn separate(&mut self, relay: RelayId, begins: bool) {
        let faults = self.isolated.entry(relay).or_default();
        if begins {
            *faults += 1;
        } else {
            *faults -= 1;
        }
        let Some(session) = self.node(Host::Relay(relay)).relay.session else { return };
        if !self.is_cut_off(relay) {
            let delay = self.scenario.controller_delay;
            for way in [Way::ToController, Way::ToRelay] {
                let put_off = self.sessions.get_mut(&session).map_or(0, |session| session.take_put_off(way));
                for _ in 0..put_off {
                    self.schedule(delay, Happening::ControlArrives { session, way });
                }
            }
        }
    }

    pub(crate) fn control_keepalive(&mut self, session: SessionId) {
        let Some(relay) = self.sessions.get(&session).map(|session| session.relay) else { return };
        if self.is_cut_off(relay) || self.node(Host::Relay(relay)).frozen > 0 {
            self.control_over(session, Way::ToController);
            // A relay that does not run hears of it when it does.
            self.schedule(Duration::ZERO, Happening::ControlOver { session, way: Way::ToRelay });
        }
    }
}
