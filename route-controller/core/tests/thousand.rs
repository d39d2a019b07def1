//! A change reaches a thousand relays: how long that takes, and what it costs.

use control_proto::proto;
use prost::Message as _;
use route_core::{Controller, ControllerConfig, Input, Output, SessionId};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::time::Duration;
use wire_format::control::{LinkQuality, LinkReport, LinkState, RelayHello, ToController, ToRelay};
use wire_format::{Epoch, NodeIndex, Timestamp};

const RELAYS: u16 = 1_000;
/// Links to relays with a higher index that each one has; as many lead to lower ones.
const LINKS: u64 = 14;

fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Relays as sessions: each acknowledges what it is told, after the way to it and back.
struct World {
    controller: Controller,
    now: Timestamp,
    queue: BTreeMap<(Timestamp, u64), Arrival>,
    sequence: u64,
    /// Which epochs each relay stamped, and since when.
    stamps: Vec<Vec<(Epoch, Timestamp)>>,
    /// The newest tables that left the controller.
    newest: Epoch,
    /// The newest that had left when the last report of a failure came.
    newest_before: Option<Epoch>,
    links: BTreeMap<(u16, u16), Duration>,
    down: BTreeSet<(u16, u16)>,
    /// Messages with tables, and bytes, of changes and whole.
    changed: (u64, u64),
    whole: (u64, u64),
}

enum Arrival {
    Controller(u16, ToController),
    Relay(u16, ToRelay),
}

/// One way between the controller and a relay: 2 to 150 ms, most of them short.
fn delay(relay: u16) -> Duration {
    let share = (mix(u64::from(relay) << 8) % 1_000) as f64 / 1_000.0;
    Duration::from_micros(2_000 + (share.powi(2) * 148_000.0) as u64)
}

fn report(to: u16, rtt: Duration, state: LinkState) -> LinkReport {
    LinkReport {
        neighbour: NodeIndex(to),
        state,
        rtt: Some(rtt),
        rtt_min: Some(rtt),
        jitter_in: Duration::ZERO,
        jitter_out: Duration::ZERO,
        loss_out_ppm: 0,
        loss_in_ppm: 0,
        rate_out: 0,
        rate_in: 0,
        samples: 100,
        quality: LinkQuality::default(),
    }
}

impl World {
    /// Everyone says hello and what links there are, as after a restart of the controller, and has tables.
    fn new() -> World {
        let mut links = BTreeMap::new();
        for a in 0..RELAYS {
            for k in 0..LINKS {
                let step = if k < 4 { k + 1 } else { 5 + mix(u64::from(a) << 16 | k) % 490 };
                let b = ((u64::from(a) + step) % u64::from(RELAYS)) as u16;
                let rtt = Duration::from_micros(4_000 + 300 * step + mix(u64::from(a) << 32 | step) % 20_000);
                links.insert((a.min(b), a.max(b)), rtt);
            }
        }
        let mut world = World {
            controller: Controller::new(ControllerConfig::new(1, 1)),
            now: Timestamp::from_micros(1_000_000),
            queue: BTreeMap::new(),
            sequence: 0,
            stamps: vec![Vec::new(); usize::from(RELAYS)],
            newest: Epoch(0),
            newest_before: None,
            links,
            down: BTreeSet::new(),
            changed: (0, 0),
            whole: (0, 0),
        };
        for relay in 0..RELAYS {
            let hello = RelayHello {
                name: format!("r{relay}"),
                node: Some(NodeIndex(relay)),
                region: String::new(),
                isp: String::new(),
                tags: Vec::new(),
                position: None,
                addresses: vec![([127, 0, 0, 1], 4_700).into()],
                version: String::new(),
                wire_versions: wire_format::session::WIRE_VERSIONS,
                epoch: None,
                table_deltas: true,
                traces: false,
                streams: Vec::new(),
            };
            let session = SessionId(relay.into());
            world.input(Input::RelayUp { session, name: hello.name.clone(), hello });
        }
        for relay in 0..RELAYS {
            for message in [ToController::Links(world.reports(relay)), ToController::ReportsComplete] {
                world.input(Input::FromRelay { session: SessionId(relay.into()), message });
            }
        }
        world
    }

    fn reports(&self, relay: u16) -> Vec<LinkReport> {
        let of = self.links.iter().filter(|((a, b), _)| *a == relay || *b == relay);
        of.map(|((a, b), rtt)| {
            let state = if self.down.contains(&(*a, *b)) { LinkState::Down } else { LinkState::Up };
            report(if *a == relay { *b } else { *a }, *rtt, state)
        })
        .collect()
    }

    fn input(&mut self, input: Input) {
        self.controller.handle_input(self.now, input);
        while let Some(output) = self.controller.poll_output() {
            match output {
                Output::ToRelay { session, message } => {
                    let relay = u16::try_from(session.0).expect("an index");
                    let epoch = match &message {
                        ToRelay::Table(table) => Some(table.epoch),
                        ToRelay::TableDelta(delta) => Some(delta.epoch),
                        ToRelay::Welcome(_)
                        | ToRelay::Neighbours(_)
                        | ToRelay::Stamp { .. }
                        | ToRelay::PublicationGranted { .. }
                        | ToRelay::PublicationRefused { .. }
                        | ToRelay::SubscriptionRefused { .. }
                        | ToRelay::Stream(_)
                        | ToRelay::StreamGone { .. }
                        | ToRelay::TokenKeys(_)
                        | ToRelay::Namespaces(_)
                        | ToRelay::Drain { .. }
                        | ToRelay::Trace(_) => None,
                    };
                    if let Some(epoch) = epoch {
                        let whole = matches!(message, ToRelay::Table(_));
                        self.newest = self.newest.max(epoch);
                        let bytes = proto::ToRelay::from(message.clone()).encoded_len() as u64;
                        let count = if whole { &mut self.whole } else { &mut self.changed };
                        *count = (count.0 + 1, count.1 + bytes);
                    }
                    self.post(delay(relay), Arrival::Relay(relay, message));
                }
                Output::Persist(_) => {}
                Output::Kick { session, cause, reason } => panic!("{session:?}: {cause:?}, {reason}"),
            }
        }
    }

    fn post(&mut self, after: Duration, arrival: Arrival) {
        self.sequence += 1;
        self.queue.insert((self.now + after, self.sequence), arrival);
    }

    fn say(&mut self, relay: u16, message: ToController) {
        self.post(delay(relay), Arrival::Controller(relay, message));
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let arrival = self.queue.first_key_value().map(|(key, _)| key.0);
            let deadline = self.controller.poll_timeout();
            let next = [arrival, deadline].into_iter().flatten().min().filter(|next| *next <= until);
            let Some(next) = next else {
                self.now = until;
                return;
            };
            self.now = next;
            if deadline == Some(next) {
                self.input(Input::Timeout);
                continue;
            }
            match self.queue.pop_first().expect("it was looked at").1 {
                Arrival::Controller(relay, message) => {
                    if is_failure(&message) {
                        self.newest_before = Some(self.newest);
                    }
                    self.input(Input::FromRelay { session: SessionId(relay.into()), message });
                }
                Arrival::Relay(relay, message) => self.hear(relay, message),
            }
        }
    }

    fn hear(&mut self, relay: u16, message: ToRelay) {
        if let ToRelay::Table(table) = &message {
            self.say(relay, ToController::TableAck { epoch: table.epoch });
        }
        if let ToRelay::TableDelta(delta) = &message {
            self.say(relay, ToController::TableAck { epoch: delta.epoch });
        }
        if let ToRelay::Stamp { epoch } = &message {
            self.stamps[usize::from(relay)].push((*epoch, self.now));
            self.say(relay, ToController::StampAck { epoch: *epoch });
        }
        // Links that are new with the first list come up; trials do not, so that nothing else changes.
        let first = self.now.since(Timestamp::from_micros(1_000_000)) < Duration::from_millis(900);
        if let (ToRelay::Neighbours(list), true) = (&message, first) {
            let news = |to: u16| (relay.min(to), relay.max(to));
            for neighbour in list {
                let rtt = *self.links.entry(news(neighbour.node.0)).or_insert(Duration::from_millis(80));
                self.say(relay, ToController::Links(vec![report(neighbour.node.0, rtt, LinkState::Up)]));
            }
        }
    }

    /// A link fails, as both its ends notice: how long until all stamp tables that know it. Computation takes no time
    /// here; what it takes is in BENCHMARKS.md.
    fn fail(&mut self, (a, b): (u16, u16)) -> Duration {
        let (began, rtt) = (self.now, self.links[&(a, b)]);
        self.down.insert((a, b));
        self.newest_before = None;
        self.say(a, ToController::Links(vec![report(b, rtt, LinkState::Down)]));
        self.say(b, ToController::Links(vec![report(a, rtt, LinkState::Down)]));
        self.run(Duration::from_secs(8));
        let before = self.newest_before.expect("it was heard of");
        let knows = |stamps: &Vec<(Epoch, Timestamp)>| {
            let first = stamps.iter().find(|(epoch, _)| *epoch > before);
            first.expect("a relay never heard of it").1
        };
        let last = self.stamps.iter().map(knows).max().expect("relays");
        last.since(began)
    }
}

fn is_failure(message: &ToController) -> bool {
    matches!(message, ToController::Links(reports) if reports.iter().any(|report| report.state == LinkState::Down))
}

#[test]
fn a_change_reaches_a_thousand_relays_within_two_seconds() {
    let mut world = World::new();
    world.run(Duration::from_secs(20));
    let (tables, bytes) = world.whole;
    let whole = bytes / tables.max(1);
    let busy = |world: &World| {
        let pairs: Vec<_> = world.links.keys().copied().filter(|pair| !world.down.contains(pair)).collect();
        pairs[(mix(world.sequence) % pairs.len() as u64) as usize]
    };
    for round in 1..=3 {
        let link = busy(&world);
        let (before, whole_before) = (world.changed, world.whole.0);
        let took = world.fail(link);
        let (tables, bytes) = (world.changed.0 - before.0, world.changed.1 - before.1);
        let told = format!(
            "change {round}: all 1,000 relays stamp it after {took:?}; {tables} tables \
             as changes, {} bytes each, and {} whole, {whole} bytes each",
            bytes / tables.max(1),
            world.whole.0 - whole_before,
        );
        let _ = writeln!(std::io::stderr(), "{told}");
        assert!(took < Duration::from_secs(2), "{told}");
        assert!(bytes / tables.max(1) < whole / 4, "{told}");
    }
}
