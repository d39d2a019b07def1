//! Relays as plain data around the real controller core: they hold what they are pushed, acknowledge it, and say again
//! what they hold when they reconnect. Every step asserts the laws of the contract.
#![allow(dead_code, reason = "each test file uses its part of the lab")]

use prost::Message as _;
use route_core::{
    Controller, ControllerConfig, Input, KickCause, NodeRecord, Output, RouteFilter, SessionId, StoreUpdate,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use wire_format::control::{
    HeldStream, LinkQuality, LinkReport, LinkState, Neighbour, PublicationReport, RelayHello, StreamEntry,
    StreamName, SubscriptionReport, ToController, ToRelay,
};
use wire_format::{
    Epoch, Incarnation, MediaKind, NodeIndex, Plane, PolicyIndex, PublicationId, PublisherKey, RouteTable,
    StreamKey, SubscriptionId, Timestamp,
};

/// What the store of a real controller would hold.
#[derive(Clone, Debug, Default)]
pub struct Store {
    pub nodes: BTreeMap<NodeIndex, NodeRecord>,
    /// Since when.
    pub quarantined: BTreeMap<NodeIndex, Timestamp>,
    pub epoch_floor: Option<Epoch>,
    pub room_floor: Option<wire_format::RoomId>,
}

/// One relay.
#[derive(Clone, Debug, Default)]
pub struct Station {
    pub session: Option<SessionId>,
    pub node: Option<NodeIndex>,
    /// It understands whole tables only.
    pub whole_tables: bool,
    /// Changes of tables that it got.
    pub deltas: usize,
    /// Bytes of all that it was told.
    pub bytes: usize,
    /// It takes everything in and acknowledges nothing.
    pub mute: bool,
    /// By neighbour: state, round trip, loss towards it.
    pub links: BTreeMap<String, (LinkState, Duration, u32)>,
    /// By neighbour: bytes per second sent, and what the link was found to carry.
    pub loads: BTreeMap<String, (u64, u64)>,
    /// It speaks the first version of the link protocol.
    pub old: bool,
    /// `test` if empty.
    pub region: String,
    pub tables: Vec<RouteTable>,
    pub stamp: Option<Epoch>,
    pub rows: BTreeMap<StreamKey, StreamEntry>,
    pub neighbours: Option<Vec<Neighbour>>,
    pub publications: BTreeMap<PublicationId, PublicationReport>,
    pub subscriptions: BTreeMap<SubscriptionId, SubscriptionReport>,
    pub refused: Vec<String>,
    /// Every message, in order, with its time.
    pub heard: Vec<(Timestamp, ToRelay)>,
    /// The newest version of the link protocol that it speaks, if it is not this build's.
    pub speaks: Option<u8>,
}

/// The controller, its relays and the time.
#[derive(Clone)]
pub struct Lab {
    pub controller: Controller,
    pub now: Timestamp,
    pub stations: BTreeMap<String, Station>,
    pub store: Store,
    /// One way between relays and the controller.
    pub delay: Duration,
    /// Relays report their links ...
    pub reporting: bool,
    /// ... so often.
    pub report_every: Duration,
    pub kicked: Vec<(SessionId, &'static str)>,
    pub causes: Vec<(SessionId, KickCause)>,
    pub outputs: Vec<(Timestamp, Output)>,
    pub index_quarantine: Duration,
    pub return_within: Duration,
    queue: BTreeMap<(Timestamp, u64), Arrival>,
    sequence: u64,
    inputs: u64,
    sessions: u64,
    report_at: Timestamp,
}

#[derive(Clone, Debug)]
enum Arrival {
    Input(Input),
    ToRelay(SessionId, ToRelay),
    /// A relay that was sent away tries again, unless it has a session by now.
    Again(String),
}

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl Lab {
    pub fn new() -> Lab {
        Lab::with_config(ControllerConfig::new(1, 1), Store::default())
    }

    pub fn with_config(config: ControllerConfig, store: Store) -> Lab {
        Lab {
            index_quarantine: config.index_quarantine,
            return_within: config.return_within,
            controller: Controller::new(config),
            now: Timestamp::from_micros(1_000_000),
            stations: BTreeMap::new(),
            store,
            delay: ms(2),
            reporting: true,
            report_every: ms(1_000),
            kicked: Vec::new(),
            causes: Vec::new(),
            outputs: Vec::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            inputs: 0,
            sessions: 0,
            report_at: Timestamp::from_micros(1_500_000),
        }
    }

    /// Relays `r1`, `r2` ... in session, all settled.
    pub fn relays(count: usize) -> Lab {
        let mut lab = Lab::new();
        for i in 1..=count {
            lab.connect(&format!("r{i}"));
        }
        lab.run(ms(3_000));
        lab
    }

    /// The controller is killed and comes back as the next leader with what its store holds. All sessions are gone.
    pub fn restart_controller(&mut self, term: u64) {
        let quarantined = self.store.quarantined.iter();
        let config = ControllerConfig {
            nodes: self.store.nodes.values().cloned().collect(),
            quarantined: quarantined.map(|(node, since)| (*node, self.now.since(*since))).collect(),
            index_quarantine: self.index_quarantine,
            return_within: self.return_within,
            epoch_floor: self.store.epoch_floor.unwrap_or(Epoch(0)),
            room_floor: self.store.room_floor.unwrap_or(wire_format::RoomId(0)),
            ..ControllerConfig::new(term, 1)
        };
        self.controller = Controller::new(config);
        self.queue.clear();
        for station in self.stations.values_mut() {
            station.session = None;
        }
    }

    /// A relay opens a session and says everything it holds.
    pub fn connect(&mut self, name: &str) {
        let session = self.hello(name);
        self.say_all(name, session);
    }

    /// The first message of a session alone.
    pub fn hello(&mut self, name: &str) -> SessionId {
        self.sessions += 1;
        let session = SessionId(self.sessions);
        let station = self.stations.entry(name.to_owned()).or_default();
        station.session = Some(session);
        let hello = RelayHello {
            name: name.to_owned(),
            node: station.node,
            region: if station.region.is_empty() { "test".into() } else { station.region.clone() },
            isp: String::new(),
            tags: Vec::new(),
            position: None,
            addresses: vec![([127, 0, 0, 1], 4_700).into()],
            version: "test".into(),
            wire_versions: if station.old {
                (1, 1)
            } else {
                (1, station.speaks.unwrap_or(wire_format::session::WIRE_VERSIONS.1))
            },
            epoch: station.tables.iter().map(|table| table.epoch).max(),
            table_deltas: !station.whole_tables,
            streams: station
                .rows
                .values()
                .map(|row| HeldStream { key: row.key, destinations: row.destinations.clone() })
                .collect(),
            traces: true,
        };
        self.post(Arrival::Input(Input::RelayUp { session, name: name.to_owned(), hello }));
        session
    }

    fn say_all(&mut self, name: &str, session: SessionId) {
        let station = &self.stations[name];
        let mut messages: Vec<ToController> =
            station.publications.values().cloned().map(ToController::Published).collect();
        messages.extend(station.subscriptions.values().cloned().map(ToController::Subscribed));
        messages.push(ToController::Links(self.link_reports(name)));
        messages.push(ToController::ReportsComplete);
        for message in messages {
            self.post(Arrival::Input(Input::FromRelay { session, message }));
        }
    }

    /// The session breaks; the relay knows nothing worse than that.
    pub fn disconnect(&mut self, name: &str) {
        if let Some(session) = self.station(name).session.take() {
            self.post(Arrival::Input(Input::RelayDown { session }));
        }
    }

    /// The process dies: the session breaks (if `seen`), and the neighbours report the links down a second later.
    pub fn crash(&mut self, name: &str, seen: bool) {
        let before = std::mem::take(self.station(name));
        if let (true, Some(session)) = (seen, before.session) {
            self.post(Arrival::Input(Input::RelayDown { session }));
        }
        self.run(ms(1_000));
        for neighbour in before.links.keys() {
            self.set_link_end(neighbour, name, LinkState::Down);
            self.run(ms(15));
        }
    }

    /// Both ends of a link report it up.
    pub fn link(&mut self, a: &str, b: &str, rtt_ms: u64) {
        for (from, to) in [(a, b), (b, a)] {
            self.station(from).links.insert(to.to_owned(), (LinkState::Up, ms(rtt_ms), 0));
            self.report(from, to);
        }
    }

    /// Links in a row.
    pub fn chain(&mut self, links: &[(&str, &str, u64)]) {
        for (a, b, rtt_ms) in links {
            self.link(a, b, *rtt_ms);
        }
    }

    /// One end reports another state.
    pub fn set_link_end(&mut self, from: &str, to: &str, state: LinkState) {
        if let Some(link) = self.station(from).links.get_mut(to) {
            link.0 = state;
            self.report(from, to);
        }
    }

    /// Both ends report the link down.
    pub fn cut(&mut self, a: &str, b: &str) {
        self.set_link_end(a, b, LinkState::Down);
        self.set_link_end(b, a, LinkState::Down);
    }

    fn report(&mut self, from: &str, to: &str) {
        let reports: Vec<LinkReport> = self
            .link_reports(from)
            .into_iter()
            .filter(|report| Some(report.neighbour) == self.node_of(to))
            .collect();
        self.say(from, ToController::Links(reports));
    }

    /// What a relay sends to another, and what the link was found to carry, bytes per second.
    pub fn load(&mut self, from: &str, to: &str, rate: u64, most: u64) {
        self.station(from).loads.insert(to.to_owned(), (rate, most));
    }

    fn link_reports(&self, from: &str) -> Vec<LinkReport> {
        let links = self.stations[from].links.iter();
        links
            .filter_map(|(to, (state, rtt, loss_ppm))| {
                Some(LinkReport {
                    neighbour: self.node_of(to)?,
                    state: *state,
                    rtt: Some(*rtt),
                    rtt_min: Some(*rtt),
                    jitter_in: Duration::ZERO,
                    jitter_out: Duration::ZERO,
                    loss_out_ppm: *loss_ppm,
                    loss_in_ppm: 0,
                    rate_out: self.stations[from].loads.get(to).map_or(0, |(rate, _)| *rate),
                    rate_in: 0,
                    samples: 100,
                    quality: LinkQuality {
                        deliverable_out: self.stations[from].loads.get(to).map(|(_, most)| *most),
                        ..LinkQuality::default()
                    },
                })
            })
            .collect()
    }

    pub fn publish(&mut self, relay: &str, publication: u32, name: &StreamName) {
        self.publish_as(relay, publication, name, None);
    }

    /// The same for a publisher that may move.
    pub fn publish_as(
        &mut self,
        relay: &str,
        publication: u32,
        name: &StreamName,
        publisher: Option<PublisherKey>,
    ) {
        let report = PublicationReport {
            publication: PublicationId(publication),
            name: name.clone(),
            kind: MediaKind::Video,
            granted: None,
            protect: false,
            publisher,
        };
        self.station(relay).publications.insert(report.publication, report.clone());
        self.say(relay, ToController::Published(report));
    }

    pub fn unpublish(&mut self, relay: &str, publication: u32) {
        let publication = PublicationId(publication);
        self.station(relay).publications.remove(&publication);
        self.say(relay, ToController::Unpublished { publication });
    }

    pub fn subscribe(
        &mut self,
        relay: &str,
        subscription: u32,
        namespace: &str,
        room: &str,
        user: Option<&str>,
    ) {
        let report = SubscriptionReport {
            subscription: SubscriptionId(subscription),
            namespace: namespace.into(),
            room: room.into(),
            user: user.map(str::to_owned),
            stream: None,
        };
        self.station(relay).subscriptions.insert(report.subscription, report.clone());
        self.say(relay, ToController::Subscribed(report));
    }

    pub fn unsubscribe(&mut self, relay: &str, subscription: u32) {
        let subscription = SubscriptionId(subscription);
        self.station(relay).subscriptions.remove(&subscription);
        self.say(relay, ToController::Unsubscribed { subscription });
    }

    pub fn say(&mut self, relay: &str, message: ToController) {
        if let Some(session) = self.station(relay).session {
            self.post(Arrival::Input(Input::FromRelay { session, message }));
        }
    }

    pub fn station(&mut self, name: &str) -> &mut Station {
        self.stations.get_mut(name).expect("the test made this relay")
    }

    pub fn node_of(&self, name: &str) -> Option<NodeIndex> {
        self.controller.node_index(name)
    }

    pub fn node(&self, name: &str) -> NodeIndex {
        self.node_of(name).expect("the relay has an index")
    }

    pub fn name_of(&self, node: NodeIndex) -> &str {
        &self.store.nodes[&node].name
    }

    /// The row of a stream at a relay, by the stream's name.
    pub fn row(&self, relay: &str, name: &StreamName) -> Option<&StreamEntry> {
        self.stations[relay].rows.values().find(|row| row.name == *name)
    }

    /// Names of the relays that the ingress stamps now.
    pub fn stamped(&self, relay: &str, name: &StreamName) -> Vec<&str> {
        let row = self.row(relay, name);
        row.map_or(Vec::new(), |row| row.destinations.iter().map(|node| self.name_of(*node)).collect())
    }

    /// What a publication was granted.
    pub fn granted(&self, relay: &str, publication: u32) -> Option<(StreamKey, Incarnation)> {
        self.stations[relay].publications.get(&PublicationId(publication))?.granted
    }

    /// The way of a frame that `from` stamps now, by the tables that relays hold, as the relays would forward it.
    pub fn way(&self, from: &str, to: &str) -> Vec<String> {
        self.way_by(PolicyIndex::DEFAULT, from, to)
    }

    /// The same of a frame that bears a policy.
    pub fn way_by(&self, policy: PolicyIndex, from: &str, to: &str) -> Vec<String> {
        let mut way = vec![from.to_owned()];
        let Some(epoch) = self.stations[from].stamp else { return way };
        let goal = self.node(to);
        while way.last().is_some_and(|at| at != to) && way.len() < 64 {
            let at = &self.stations[way.last().expect("it has a first")];
            let held = at.tables.iter().find(|table| table.epoch == epoch).or(at.tables.last());
            let Some(next) = held.and_then(|table| table.policy(policy).next_hop(Plane::PRIMARY, goal))
            else {
                break;
            };
            way.push(self.name_of(next).to_owned());
        }
        way
    }

    /// The path in the controller's view.
    pub fn path(&self, from: &str, to: &str) -> Option<Vec<String>> {
        let filter = RouteFilter {
            node: Some(self.node(from)),
            destination: Some(self.node(to)),
            plane: Some(Plane::PRIMARY),
            ..RouteFilter::default()
        };
        self.controller.routes(self.now, filter).pop().map(|row| row.path)
    }

    pub fn epoch(&self) -> Option<Epoch> {
        self.controller.status().epoch
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let arrival = self.queue.first_key_value().map(|(key, _)| key.0);
            let report = self.reporting.then_some(self.report_at);
            let deadline = self.controller.poll_timeout();
            let Some(next) =
                [arrival, report, deadline].into_iter().flatten().min().filter(|next| *next <= until)
            else {
                self.now = until;
                return;
            };
            assert!(next >= self.now, "a deadline in the past");
            self.now = next;
            if deadline.is_some_and(|deadline| deadline <= self.now) {
                self.input(Input::Timeout);
                let next = self.controller.poll_timeout();
                assert!(next.is_none_or(|next| next > self.now), "law 3: {next:?} at {}", self.now);
            } else if arrival.is_some_and(|arrival| arrival <= self.now) {
                match self.queue.pop_first().expect("it was looked at").1 {
                    Arrival::Input(input) => self.input(input),
                    Arrival::ToRelay(session, message) => self.relay_hears(session, message),
                    Arrival::Again(name) if self.stations[&name].session.is_none() => self.connect(&name),
                    Arrival::Again(_) => {}
                }
            } else {
                self.report_at = self.now + self.report_every;
                for name in self.stations.keys().cloned().collect::<Vec<_>>() {
                    let reports = self.link_reports(&name);
                    self.say(&name, ToController::Links(reports));
                }
            }
        }
    }

    /// Time passes in which no controller runs; to be followed by `restart_controller`.
    pub fn nobody_leads_for(&mut self, time: Duration) {
        self.now = self.now + time;
        self.report_at = self.now;
    }

    /// One input and the drain.
    pub fn input(&mut self, input: Input) {
        self.controller.handle_input(self.now, input);
        self.drain();
        // Law 4: nothing waits that the deadline does not announce, so a timeout before it changes nothing. Looked at
        // after every eighth input, for it takes a copy of the controller.
        self.inputs += 1;
        if self.inputs.is_multiple_of(8)
            && self.controller.poll_timeout().is_none_or(|deadline| deadline > self.now)
        {
            let mut poked = self.controller.clone();
            poked.handle_input(self.now, Input::Timeout);
            assert_eq!(poked.poll_output(), None, "law 4");
            assert_eq!(poked.poll_timeout(), self.controller.poll_timeout(), "law 4");
        }
    }

    fn drain(&mut self) {
        let mut count = 0;
        let (mut called_back, mut sent_away) = (Vec::new(), Vec::new());
        while let Some(output) = self.controller.poll_output() {
            count += 1;
            assert!(count < 100_000, "law 6");
            self.outputs.push((self.now, output.clone()));
            match output {
                Output::ToRelay { session, message } => self.post(Arrival::ToRelay(session, message)),
                Output::Persist(StoreUpdate::Node(record)) => {
                    self.store.quarantined.remove(&record.node);
                    self.store.nodes.insert(record.node, record);
                }
                Output::Persist(StoreUpdate::NodeQuarantined(node)) => {
                    assert!(self.store.nodes.contains_key(&node));
                    self.store.quarantined.insert(node, self.now);
                }
                Output::Persist(StoreUpdate::NodeFreed(node)) => {
                    assert!(self.store.quarantined.remove(&node).is_some(), "never without a quarantine");
                    self.store.nodes.remove(&node);
                }
                Output::Persist(StoreUpdate::EpochFloor(floor)) => {
                    assert!(self.store.epoch_floor.is_none_or(|before| before < floor));
                    self.store.epoch_floor = Some(floor);
                }
                Output::Persist(StoreUpdate::RoomFloor(floor)) => {
                    assert!(self.store.room_floor.is_none_or(|before| before < floor));
                    self.store.room_floor = Some(floor);
                }
                Output::Kick { session, cause, reason } => {
                    self.kicked.push((session, reason));
                    self.causes.push((session, cause));
                    for (name, station) in &mut self.stations {
                        if station.session == Some(session) {
                            station.session = None;
                            match cause {
                                KickCause::ComeAgain => called_back.push(name.clone()),
                                KickCause::NameInUse => sent_away.push(name.clone()),
                                KickCause::Broken | KickCause::Replaced | KickCause::Void => {}
                            }
                        }
                    }
                }
            }
        }
        for name in called_back {
            self.connect(&name);
        }
        for name in sent_away {
            self.sequence += 1;
            self.queue.insert((self.now + ms(10_000), self.sequence), Arrival::Again(name));
        }
    }

    fn post(&mut self, arrival: Arrival) {
        self.sequence += 1;
        self.queue.insert((self.now + self.delay, self.sequence), arrival);
    }

    fn relay_hears(&mut self, session: SessionId, message: ToRelay) {
        let now = self.now;
        let floor = self.store.epoch_floor;
        let Some((name, station)) = self.stations.iter_mut().find(|(_, s)| s.session == Some(session)) else {
            return;
        };
        let name = name.clone();
        station.bytes += control_proto::proto::ToRelay::from(message.clone()).encoded_len();
        let message = if let ToRelay::TableDelta(delta) = message {
            assert!(!station.whole_tables, "it does not understand changes");
            station.deltas += 1;
            // As relays do: changes of tables that are held become tables.
            match station.tables.iter().find(|held| held.epoch == delta.base) {
                Some(base) => ToRelay::Table(delta.apply(base).expect("changes of what is held")),
                None => ToRelay::TableDelta(delta),
            }
        } else {
            message
        };
        station.heard.push((now, message.clone()));
        let answer = match message {
            ToRelay::Welcome(welcome) => {
                station.node = Some(welcome.node);
                None
            }
            ToRelay::Neighbours(neighbours) => {
                station.neighbours = Some(neighbours);
                None
            }
            ToRelay::TableDelta(delta) => Some(ToController::TableWanted { epoch: delta.epoch }),
            ToRelay::Table(table) => {
                let epoch = table.epoch;
                assert!(floor.is_some_and(|floor| epoch < floor), "an epoch was used before it was durable");
                match station.tables.last().map(|newest| newest.epoch) {
                    Some(newest) if newest > epoch => None,
                    Some(newest) if newest == epoch => {
                        *station.tables.last_mut().expect("it was looked at") = table;
                        Some(ToController::TableAck { epoch })
                    }
                    // As relays do: tables that were never stamped make room before those that are.
                    Some(_)
                        if station.tables.len() == 2 && station.stamp == Some(station.tables[0].epoch) =>
                    {
                        station.tables[1] = table;
                        Some(ToController::TableAck { epoch })
                    }
                    Some(_) | None => {
                        station.tables.push(table);
                        if station.tables.len() > 2 {
                            station.tables.remove(0);
                        }
                        Some(ToController::TableAck { epoch })
                    }
                }
            }
            ToRelay::Stamp { epoch } => {
                let held: BTreeSet<Epoch> = station.tables.iter().map(|table| table.epoch).collect();
                // Older tables than those it has, a relay does not take.
                let too_old = held.first().is_some_and(|oldest| epoch < *oldest);
                assert!(too_old || held.contains(&epoch), "told to stamp {epoch}, holds {held:?}");
                if !too_old {
                    station.stamp = station.stamp.max(Some(epoch));
                }
                (!too_old).then_some(ToController::StampAck { epoch })
            }
            ToRelay::PublicationGranted { publication, key, incarnation } => {
                if let Some(held) = station.publications.get_mut(&publication) {
                    held.granted = Some((key, incarnation));
                }
                None
            }
            ToRelay::PublicationRefused { publication, limit, reason } => {
                assert_eq!(limit, reason.contains("limit"), "{reason}");
                station.publications.remove(&publication);
                station.refused.push(reason);
                None
            }
            ToRelay::SubscriptionRefused { subscription, reason } => {
                station.subscriptions.remove(&subscription);
                station.refused.push(reason);
                None
            }
            ToRelay::Stream(entry) => {
                let (key, revision) = (entry.key, entry.revision);
                let before = station.rows.insert(key, entry);
                assert!(before.is_none_or(|before| before.revision < revision), "revisions grow");
                Some(ToController::StreamAck { key, revision })
            }
            ToRelay::StreamGone { key } => {
                station.rows.remove(&key);
                None
            }
            ToRelay::TokenKeys(_) | ToRelay::Namespaces(_) | ToRelay::Drain { .. } | ToRelay::Trace(_) => {
                None
            }
        };
        if let Some(answer) = answer.filter(|_| !station.mute) {
            self.say(&name, answer);
        }
    }
}

/// A stream `name` of `user` in room `call` of namespace `demo`.
pub fn stream(user: &str, name: &str) -> StreamName {
    StreamName { namespace: "demo".into(), room: "call".into(), user: user.into(), stream: name.into() }
}
