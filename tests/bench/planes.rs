//! How long the controller thinks when a link fails: from the report to the tables of all relays, with all planes and
//! backups.
//!
//! `cargo bench -p e2e --bench planes`. Relays stand at random spots of a plane, seeded; links cost their length. Times
//! are the processor's: what else the machine does counts little.

#![allow(clippy::print_stdout, reason = "a report on stdout is what this program is for")]

use route_core::{Controller, ControllerConfig, Input, Output, SessionId};
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;
use wire_format::control::{LinkQuality, LinkReport, LinkState, RelayHello, ToController, ToRelay};
use wire_format::{NodeIndex, Timestamp};

/// The controller and the time, with relays that acknowledge everything at once.
#[derive(Clone)]
struct Overlay {
    controller: Controller,
    now: Timestamp,
    /// Round trips, by ends.
    links: BTreeMap<(u16, u16), Duration>,
}

impl Overlay {
    /// About `degree` links for each relay, to the nearest others; a circle through all besides.
    fn new(relays: u16, degree: usize) -> Overlay {
        let mut random = Random(7);
        let spots: Vec<(i64, i64)> =
            (0..relays).map(|_| (random.below(10_000), random.below(10_000))).collect();
        let far = |a: u16, b: u16| {
            let ((ax, ay), (bx, by)) = (spots[usize::from(a)], spots[usize::from(b)]);
            u64::try_from((ax - bx).pow(2) + (ay - by).pow(2)).expect("a square").isqrt()
        };
        let mut links = BTreeMap::new();
        for relay in 0..relays {
            let mut others: Vec<u16> = (0..relays).filter(|other| *other != relay).collect();
            others.sort_by_key(|other| far(relay, *other));
            others.truncate(degree.div_ceil(2));
            for other in others.into_iter().chain([(relay + 1) % relays]) {
                let rtt = Duration::from_micros(500 + 20 * far(relay, other));
                links.insert((relay.min(other), relay.max(other)), rtt);
            }
        }
        let controller = Controller::new(ControllerConfig::new(1, 1));
        let mut overlay = Overlay { controller, now: Timestamp::from_micros(1_000_000), links };
        for relay in 0..relays {
            overlay.greet(relay);
        }
        for relay in 0..relays {
            let reports = overlay.reports(relay, LinkState::Up, None);
            overlay.say(relay, ToController::Links(reports));
            overlay.say(relay, ToController::ReportsComplete);
        }
        overlay.run(Duration::from_secs(5));
        overlay
    }

    fn greet(&mut self, relay: u16) {
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
            table_deltas: false,
            streams: Vec::new(),
            traces: false,
        };
        self.input(Input::RelayUp { session: SessionId(u64::from(relay)), name: hello.name.clone(), hello });
    }

    fn reports(&self, relay: u16, state: LinkState, only: Option<u16>) -> Vec<LinkReport> {
        let links = self.links.iter().filter_map(|(&(a, b), rtt)| match relay {
            at if at == a => Some((b, *rtt)),
            at if at == b => Some((a, *rtt)),
            _ => None,
        });
        let report = |(neighbour, rtt)| LinkReport {
            neighbour: NodeIndex(neighbour),
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
        };
        links.filter(|(other, _)| only.is_none_or(|only| only == *other)).map(report).collect()
    }

    fn say(&mut self, relay: u16, message: ToController) {
        self.input(Input::FromRelay { session: SessionId(u64::from(relay)), message });
    }

    /// One input, its outputs, and the relays' answers.
    fn input(&mut self, input: Input) {
        self.controller.handle_input(self.now, input);
        let mut answers = Vec::new();
        while let Some(output) = self.controller.poll_output() {
            let Output::ToRelay { session, message } = output else { continue };
            if let ToRelay::Table(table) = message {
                answers.push((session, ToController::TableAck { epoch: table.epoch }));
            } else if let ToRelay::Stamp { epoch } = message {
                answers.push((session, ToController::StampAck { epoch }));
            }
        }
        for (session, message) in answers {
            self.input(Input::FromRelay { session, message });
        }
    }

    /// Lets time pass.
    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.controller.poll_timeout().filter(|at| *at <= until) {
            self.now = at;
            self.input(Input::Timeout);
        }
        self.now = until;
    }

    /// A link has just been reported down, and what follows from it has not been computed yet.
    fn failing(&self, link: (u16, u16)) -> Overlay {
        let mut overlay = self.clone();
        let reports = overlay.reports(link.0, LinkState::Down, Some(link.1));
        overlay.say(link.0, ToController::Links(reports));
        overlay.now = overlay.controller.poll_timeout().expect("routes are to be computed");
        overlay
    }

    /// The computation, up to the last table.
    fn decide(mut self) -> usize {
        self.controller.handle_input(self.now, Input::Timeout);
        std::iter::from_fn(|| self.controller.poll_output()).count()
    }
}

/// What the kernel has given to this thread.
fn processor_time() -> Duration {
    let line = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let ns = line.split(' ').next().and_then(|ns| ns.parse().ok());
    Duration::from_nanos(ns.expect("schedstat begins with a time"))
}

/// Splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: i64) -> i64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        i64::try_from((z ^ (z >> 31)) >> 1).expect("63 bits") % bound
    }
}

fn main() {
    println!("relays   links   failure to tables, ms of processor time: least, median");
    for (relays, degree) in [(50, 100), (200, 400), (1_000, 50)] {
        let overlay = Overlay::new(relays, degree);
        let links: Vec<(u16, u16)> = overlay.links.keys().copied().collect();
        let mut times: Vec<Duration> = Vec::new();
        for turn in 0..7 {
            let failing = overlay.failing(links[turn * links.len() / 7]);
            let begun = processor_time();
            let messages = failing.decide();
            times.push(processor_time() - begun);
            assert!(messages > 0, "a link that failed changes tables");
        }
        times.sort_unstable();
        let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
        println!("{relays:>6} {:>7}   {:.1}, {:.1}", links.len(), ms(times[0]), ms(times[times.len() / 2]));
    }
}
