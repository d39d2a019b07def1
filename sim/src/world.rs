//! The world of a run: everyone in it, the queue of what is going to happen, and the loop that lets it happen.

use crate::capture::Tap;
use crate::connection::{Connection, ConnectionId, End, Flight};
use crate::control_channel::{Session, Way};
use crate::controller::ControllerProcess;
use crate::loss::Meter;
use crate::measure::Survey;
use crate::network::Path;
use crate::node::{Core, Node, NodeEvent, Stimulus};
use crate::queue::EventQueue;
use crate::scenario::{Host, RelayId, Scenario, StreamNumber};
use crate::trace::{Delivered, Event, RunHash, Trace};
use crate::{drive, media};
use link_model::{Fate, LinkSpec, Seed};
use relay_core::{Output, Received};
use route_core::SessionId;
use std::collections::BTreeMap;
use std::time::Duration;
use wire_format::{NodeIndex, PacketNumber, StreamKey};

/// Something that is going to happen.
#[derive(Debug)]
pub(crate) enum Happening {
    /// A process starts.
    Start(Host),
    /// A process that said goodbye ends.
    Exit { host: Host, life: u32 },
    /// A process looks at its core's deadline.
    Alarm { host: Host, life: u32 },
    /// A process takes what has come to its port.
    Wake { host: Host, life: u32 },
    /// An operator tells the controller other policies.
    Policies,
    /// The controller looks at its core's deadline.
    ControllerAlarm { life: u32 },
    /// A process dials.
    Dial { host: Host, life: u32, to: Host },
    /// A relay looks for neighbours that have fallen silent.
    WatchSilence { relay: RelayId, life: u32 },
    /// A dial has taken too long.
    DialTimeout(ConnectionId),
    /// A flight of a handshake arrives.
    FlightArrives { connection: ConnectionId, flight: Flight },
    /// A flight of a handshake may have to be sent again.
    FlightResend { connection: ConnectionId, flight: Flight, wait: Duration },
    /// A sealed datagram arrives.
    DatagramArrives { connection: ConnectionId, to: End, number: PacketNumber, plain: Vec<u8> },
    /// A message of the reliable stream arrives.
    SegmentArrives { connection: ConnectionId, to: End, place: u64 },
    /// A message of the reliable stream was lost and is sent again.
    SegmentResend { connection: ConnectionId, from: End, place: u64, wait: Duration },
    /// A connection is over for one end.
    LinkOver { connection: ConnectionId, end: End },
    /// A relay tries to reach the controller.
    ControlDial { relay: RelayId, life: u32 },
    /// It has, if both still live.
    ControlUp { relay: RelayId, life: u32 },
    /// A message of a control session arrives.
    ControlArrives { session: SessionId, way: Way },
    /// A control session is over for the receiver of that way.
    ControlOver { session: SessionId, way: Way },
    /// A cut session would have been missed by now.
    ControlKeepalive { session: SessionId },
    /// A path changes by its schedule.
    PathChanges { direction: (Host, Host), spec: LinkSpec },
    /// A stream's next burst.
    Burst(StreamNumber),
    /// A client begins or ends a publication.
    Publication { stream: StreamNumber, begins: bool },
    /// A client begins or ends a subscription.
    Subscription { place: usize, begins: bool },
    /// A busy host keeps a relay from running, or lets it run again.
    Stall { relay: RelayId, life: u32, begins: bool },
    /// A fault begins or is over.
    Fault { place: usize, begins: bool },
}

/// Who is told what happens.
#[derive(Debug)]
pub(crate) enum Observer {
    /// Everything is kept, for judges.
    Trace(Trace),
    /// Packets are counted and forgotten: runs may be as long as anyone likes.
    Meter(Meter),
    /// Everything is hashed and forgotten.
    Hash(RunHash),
    /// What users and links went through is measured, and events are forgotten.
    Survey(Box<Survey>),
}

/// A run.
#[derive(Debug)]
pub(crate) struct World<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) seed: Seed,
    pub(crate) now: Duration,
    pub(crate) queue: EventQueue<Happening>,
    pub(crate) observer: Observer,
    pub(crate) nodes: BTreeMap<Host, Node>,
    pub(crate) paths: BTreeMap<(Host, Host), Path>,
    pub(crate) connections: Vec<Connection>,
    pub(crate) controller: ControllerProcess,
    pub(crate) sessions: BTreeMap<SessionId, Session>,
    /// Faults that keep a relay and the controller apart.
    pub(crate) isolated: BTreeMap<RelayId, u32>,
    pub(crate) relay_of_node: BTreeMap<NodeIndex, RelayId>,
    pub(crate) stream_of_key: BTreeMap<StreamKey, StreamNumber>,
    /// First halves of frames that relays cut, by connection, end and id, and what became of them.
    pub(crate) first_halves: BTreeMap<(ConnectionId, End, u16), (Vec<u8>, Fate)>,
    /// Next packet of each stream, once it has begun.
    pub(crate) next_packet: BTreeMap<StreamNumber, u64>,
    /// Who writes down what crosses links.
    pub(crate) tap: Option<Tap<'a>>,
}

/// Runs a scenario and returns what happened.
pub fn run(scenario: &Scenario, seed: u64) -> Trace {
    let mut world = World::new(scenario, Seed(seed), Observer::Trace(Trace::default()));
    world.run_until(scenario.run_for);
    world.record_all_counters();
    match world.observer {
        Observer::Trace(trace) => trace,
        Observer::Meter(_) | Observer::Hash(_) | Observer::Survey(_) => unreachable!("made with a trace"),
    }
}

/// The seed of one direction of the network between two hosts.
pub(crate) fn path_seed(scenario: &Scenario, seed: Seed, (from, to): (Host, Host)) -> Seed {
    let name = format!("{}>{}", scenario.host_name(from), scenario.host_name(to));
    seed.child("path").child(&name)
}

impl<'a> World<'a> {
    /// The world at its beginning.
    pub(crate) fn new(scenario: &'a Scenario, seed: Seed, observer: Observer) -> World<'a> {
        let hosts = scenario
            .relay_ids()
            .map(Host::Relay)
            .chain(scenario.client_ids().map(Host::Client))
            .map(|host| {
                (
                    host,
                    Node::new(seed.child("host").child(scenario.host_name(host)), scenario.clock_drift_ppm),
                )
            })
            .collect();
        let paths = scenario.paths.iter().map(|(direction, schedule)| {
            (*direction, Path::new(schedule.first().clone(), path_seed(scenario, seed, *direction)))
        });
        let mut world = World {
            scenario,
            seed,
            now: Duration::ZERO,
            queue: EventQueue::new(),
            observer,
            nodes: hosts,
            paths: paths.collect(),
            connections: Vec::new(),
            controller: ControllerProcess::new(seed.child("controller"), scenario.clock_drift_ppm),
            sessions: BTreeMap::new(),
            isolated: BTreeMap::new(),
            relay_of_node: BTreeMap::new(),
            stream_of_key: BTreeMap::new(),
            first_halves: BTreeMap::new(),
            next_packet: BTreeMap::new(),
            tap: None,
        };
        world.schedule_all();
        world
    }

    /// Lets happen what does until then.
    pub(crate) fn run_until(&mut self, end: Duration) {
        while self.queue.next_at().is_some_and(|at| at <= end)
            && let Some((at, happening)) = self.queue.pop()
        {
            self.now = at;
            self.happen(happening);
        }
        self.now = end;
    }

    pub(crate) fn node(&mut self, host: Host) -> &mut Node {
        self.nodes.get_mut(&host).expect("every host of the scenario has a node")
    }

    pub(crate) fn record(&mut self, event: Event) {
        match &mut self.observer {
            Observer::Trace(trace) => trace.push(self.now, event),
            Observer::Meter(meter) => meter.see(self.now, &event),
            Observer::Hash(hash) => hash.see(self.now, &event),
            Observer::Survey(survey) => survey.see(self.scenario, self.now, &event),
        }
    }

    pub(crate) fn violation(&mut self, who: &str, what: String) {
        self.record(Event::Violation { who: who.to_owned(), what });
    }

    pub(crate) fn schedule(&mut self, after: Duration, happening: Happening) {
        self.queue.push(self.now + after, happening);
    }

    fn happen(&mut self, happening: Happening) {
        let Some(happening) = self.unless_frozen(happening) else { return };
        match happening {
            Happening::Start(host) => self.start(host),
            Happening::Exit { host, life } => self.exit(host, life),
            Happening::Alarm { host, life } => self.alarm(host, life),
            Happening::Wake { host, life } => self.wake(host, life),
            Happening::Policies => self.set_policies(),
            Happening::ControllerAlarm { life } => self.controller_alarm(life),
            Happening::Dial { host, life, to } => self.dial(host, life, to),
            Happening::WatchSilence { relay, life } => self.watch_silence(relay, life),
            Happening::DialTimeout(connection) => self.dial_timeout(connection),
            Happening::FlightArrives { connection, flight } => self.flight_arrives(connection, flight),
            Happening::FlightResend { connection, flight, wait } => {
                self.flight_resend(connection, flight, wait);
            }
            Happening::DatagramArrives { connection, to, number, plain } => {
                self.datagram_arrives(connection, to, number, plain);
            }
            Happening::SegmentArrives { connection, to, place } => {
                self.segment_arrives(connection, to, place)
            }
            Happening::SegmentResend { connection, from, place, wait } => {
                self.send_segment(connection, from, place, wait);
            }
            Happening::LinkOver { connection, end } => self.link_over(connection, end),
            Happening::ControlDial { relay, life } => self.control_dial(relay, life),
            Happening::ControlUp { relay, life } => self.control_up(relay, life),
            Happening::ControlArrives { session, way } => self.control_arrives(session, way),
            Happening::ControlOver { session, way } => self.control_over(session, way),
            Happening::ControlKeepalive { session } => self.control_keepalive(session),
            Happening::PathChanges { direction, spec } => {
                self.paths.get_mut(&direction).expect("scheduled for a path").set(spec);
            }
            Happening::Burst(stream) => self.burst(stream),
            Happening::Publication { stream, begins } => self.publication(stream, begins),
            Happening::Subscription { place, begins } => self.subscription(place, begins),
            Happening::Stall { relay, life, begins } => self.stall(relay, life, begins),
            Happening::Fault { place, begins } => self.fault(place, begins),
        }
    }

    /// One input of a host's core and all that follows from it at once.
    pub(crate) fn feed(&mut self, host: Host, arena: &[u8], stimulus: Stimulus<'_>) {
        let now = self.now;
        let Some(drained) = self.node(host).step(now, arena, stimulus) else { return };
        for violation in drained.violations {
            self.violation(self.scenario.host_name(host), violation.0);
        }
        for departure in drained.departures {
            self.depart(host, departure);
        }
        // Outputs first: an announcement comes before the packets of its stream.
        for output in drained.outputs {
            match output {
                Output::Message { link, message } => self.say(host, link, &message),
                Output::Close { link, reason: _ } => self.close(host, link),
                // Nobody registers plain RTP here.
                Output::PathChallenged { link: _ } | Output::ClosePlain { port: _ } => {}
                Output::Event(NodeEvent::Relay(event)) => self.relay_event(host, event),
                Output::Event(NodeEvent::Client(event)) => self.client_event(host, event),
            }
        }
        for (delivery, bytes) in drained.deliveries {
            let Host::Client(client) = host else {
                self.violation(
                    self.scenario.host_name(host),
                    "a relay delivered to its own process".to_owned(),
                );
                continue;
            };
            let delivered = Delivered {
                client,
                announced: self.node(host).client.announced.get(&delivery.handle).copied().flatten(),
                packet: media::identify(&bytes),
                sequence: delivery.sequence.0,
                rtcp: delivery.rtcp,
                digest: media::digest(&bytes),
            };
            self.record(Event::Delivered(delivered));
        }
        self.set_alarm(host);
    }

    /// Sees to it that the host's deadline is looked at in time.
    pub(crate) fn set_alarm(&mut self, host: Host) {
        let now = self.now;
        let node = self.node(host);
        let Some(deadline) = node.deadline() else {
            node.alarm = None;
            return;
        };
        let at = deadline.max(now);
        // An alarm that is early enough finds the right deadline when it rings.
        if node.alarm.is_none_or(|alarm| alarm > at) {
            let life = node.life;
            let late = node.lateness();
            node.alarm = Some(at + late);
            self.queue.push(at + late, Happening::Alarm { host, life });
        }
    }

    fn alarm(&mut self, host: Host, life: u32) {
        let now = self.now;
        let node = self.node(host);
        if !node.lives(life) || node.alarm != Some(now) {
            return;
        }
        node.alarm = None;
        if node.deadline().is_some_and(|deadline| deadline <= now) {
            self.feed(host, &[], Stimulus::Timeout);
        } else {
            self.set_alarm(host);
        }
    }

    fn wake(&mut self, host: Host, life: u32) {
        let node = self.node(host);
        if !node.lives(life) {
            return;
        }
        node.wake_is_due = false;
        let mut arena = Vec::new();
        let mut batch = Vec::new();
        for (link, number, plain) in std::mem::take(&mut node.inbox) {
            let start = arena.len();
            arena.extend(plain);
            batch.push(Received { link, number, range: start..arena.len() });
        }
        self.feed(host, &arena, Stimulus::Datagrams(&batch));
    }

    /// What all cores have counted at the end.
    pub(crate) fn record_all_counters(&mut self) {
        let hosts: Vec<_> = self.nodes.keys().copied().collect();
        for host in hosts {
            self.record_counters(host);
        }
    }

    /// What a host's core counted, before it is gone.
    pub(crate) fn record_counters(&mut self, host: Host) {
        let counters = self.node(host).core.as_ref().map(Core::counters).unwrap_or_default();
        for (name, value) in counters {
            self.record(Event::Counter { host, name, value });
        }
    }

    /// A datagram enters the network.
    fn depart(&mut self, host: Host, departure: drive::Departure) {
        // A core that has just closed a link may still have had something for it.
        let Some((connection, end)) = self.node(host).links.get(&departure.link).copied() else { return };
        self.send_datagram(connection, end, departure);
    }
}
