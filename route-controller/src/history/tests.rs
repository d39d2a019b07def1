//! A day in virtual time: what is kept of it, and what it takes.

use super::frame::Frame;
use super::recorder::{Present, Recorder};
use super::segments::Segments;
use route_core::{Avoidance, CostTerms, LinkFact, NodeFact, StepFact, TableFacts};
use std::collections::BTreeMap;
use std::time::Duration;
use wire_format::control::LinkState;
use wire_format::{Epoch, NodeIndex, Plane};

const DAY_MS: u64 = 24 * 3_600_000;
const START_MS: u64 = 1_795_000_000_000;

/// xorshift64*: numbers that are the same on every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A full mesh whose round trips tremble, of which some links are busy, and where every now and then a price changes and
/// with it some routes.
struct Overlay {
    relays: u16,
    numbers: Numbers,
    epoch: u32,
    rtt_us: BTreeMap<(NodeIndex, NodeIndex), u64>,
    price_us: BTreeMap<(NodeIndex, NodeIndex), u64>,
    next: BTreeMap<(NodeIndex, Plane, NodeIndex), NodeIndex>,
    steps: Vec<StepFact>,
    cordoned: Option<NodeIndex>,
}

impl Overlay {
    fn new(relays: u16) -> Overlay {
        let mut numbers = Numbers(7);
        let ends = || {
            (0..relays).flat_map(move |a| {
                (0..relays).filter(move |b| *b != a).map(move |b| (NodeIndex(a), NodeIndex(b)))
            })
        };
        let rtt_us: BTreeMap<_, _> = ends().map(|ends| (ends, 5_000 + numbers.below(250_000))).collect();
        let price_us = rtt_us.iter().map(|(ends, us)| (*ends, us / 2 / 500 * 500 + 1_000)).collect();
        let planes = [0, 1, 2].map(Plane);
        let next = ends().flat_map(|(a, b)| planes.map(|plane| ((a, plane, b), b))).collect();
        Overlay { relays, numbers, epoch: 1, rtt_us, price_us, next, steps: Vec::new(), cordoned: None }
    }

    /// Ten seconds pass; `busy`: one in so many looks finds a new epoch.
    fn pass(&mut self, busy: u64) {
        self.steps.clear();
        if self.numbers.below(busy) != 0 {
            return;
        }
        self.epoch += 1;
        let mut step = StepFact {
            epoch: Epoch(self.epoch),
            age: Duration::from_secs(3),
            rows: Vec::new(),
            prices: Vec::new(),
        };
        let relays = u64::from(self.relays);
        for _ in 0..3 {
            let from = NodeIndex(self.numbers.below(relays) as u16);
            let to = NodeIndex((u64::from(from.0 + 1) + self.numbers.below(relays - 1)) as u16 % self.relays);
            let us = 1_000 + self.numbers.below(200) * 500;
            self.price_us.insert((from, to), us);
            step.prices.push((from, to, Some(us)));
            let rows: Vec<_> = (0..8)
                .map(|_| (Plane(self.numbers.below(3) as u8), NodeIndex(self.numbers.below(relays) as u16)))
                .collect();
            for (plane, destination) in rows.into_iter().filter(|(_, destination)| *destination != from) {
                self.next.insert((from, plane, destination), to);
                step.rows.push((from, plane, destination, Some(to)));
            }
        }
        self.steps.push(step);
    }

    fn present(&mut self, tables: Option<TableFacts>) -> Present {
        let node = |node: u16| {
            let cordoned = self.cordoned == Some(NodeIndex(node));
            let name = format!("relay-{node}");
            let avoided = cordoned.then_some(Avoidance::Cordoned);
            (
                NodeIndex(node),
                NodeFact { name, region: "eu-central".to_owned(), avoided, never_passed: false },
            )
        };
        let nodes = (0..self.relays).map(node).collect();
        let numbers = &mut self.numbers;
        let links = self.rtt_us.iter().map(|(ends, rtt_us)| {
            let price_us = self.price_us[ends];
            let terms = CostTerms { one_way_us: price_us - 1_000, hop_us: 1_000, ..CostTerms::default() };
            // A tenth more at times, as a busy host measures; one in fifty links carries media.
            let tremble = if numbers.below(20) == 0 { rtt_us / 10 } else { numbers.below(rtt_us / 100 + 1) };
            let busy = (ends.0.0 * 31 + ends.1.0) % 50 == 0;
            let fact = LinkFact {
                state: Some(LinkState::Up),
                cost_us: Some(price_us),
                terms: Some(terms),
                raw_us: Some(rtt_us / 2 + tremble / 2 + 1_000),
                doubt: None,
                by_receiver: false,
                age_us: Some(numbers.below(1_000_000)),
                samples: Some(100_000),
                rtt_us: Some(rtt_us + tremble),
                rtt_min_us: Some(*rtt_us),
                jitter_us: Some(numbers.below(900)),
                loss_ppm: Some(if busy { numbers.below(1_500) as u32 } else { 0 }),
                rate: Some(if busy { 300_000 + numbers.below(100_000) } else { 60 }),
            };
            (*ends, fact)
        });
        Present { nodes, links: links.collect(), tables }
    }

    fn whole(&self) -> TableFacts {
        let rows = self.next.iter().map(|((relay, plane, to), next)| (*relay, *plane, *to, Some(*next)));
        TableFacts::Whole(StepFact {
            epoch: Epoch(self.epoch),
            age: Duration::ZERO,
            rows: rows.collect(),
            prices: Vec::new(),
        })
    }
}

/// A day of an overlay; `seen` is told each moment. Bytes on disk at its end.
fn day(relays: u16, bytes_max: u64, hours: u64, mut seen: impl FnMut(u64, &Segments, &Overlay)) -> u64 {
    let folder = tempfile::tempdir().expect("a folder");
    let mut segments = Segments::open(folder.path(), bytes_max, DAY_MS).expect("opens");
    let (mut overlay, mut recorder) = (Overlay::new(relays), Recorder::default());
    for look in 0..hours * 360 {
        let now_ms = START_MS + look * 10_000;
        overlay.cordoned = (look % 1_000 > 900).then_some(NodeIndex(1));
        let mut frames: Vec<Frame> = Vec::new();
        if look > 0 {
            overlay.pass(3);
            let steps = TableFacts::Steps(overlay.steps.clone());
            let present = overlay.present(Some(steps));
            frames.extend(recorder.changes(now_ms, &present));
        }
        if segments.wants_whole(now_ms) {
            let whole = overlay.whole();
            let present = overlay.present(Some(whole));
            frames.extend(recorder.whole(now_ms, &present));
        }
        for frame in &frames {
            segments.append(now_ms, frame).expect("written");
        }
        assert!(segments.bytes() <= bytes_max);
        seen(now_ms, &segments, &overlay);
    }
    segments.bytes()
}

#[test]
fn what_was_so_is_told_to_the_row() {
    let mut kept = Vec::new();
    day(8, 64 << 20, 7, |now_ms, segments, overlay| {
        if now_ms % 610_000 < 10_000 {
            kept.push((
                now_ms,
                overlay.epoch,
                overlay.next.clone(),
                overlay.price_us.clone(),
                overlay.cordoned,
            ));
        }
        if now_ms == START_MS + 7 * 3_600_000 - 10_000 {
            assert!(kept.len() > 20, "moments to ask for: {}", kept.len());
            for (at_ms, epoch, next, price_us, cordoned) in &kept {
                let found = segments.at(*at_ms).expect("readable").expect("kept");
                assert_eq!((found.moment.epoch, &found.moment.next), (Some(Epoch(*epoch)), next));
                assert!(at_ms - found.as_of_ms <= 60_000);
                let prices =
                    found.moment.links.iter().map(|(ends, link)| (*ends, link.cost_us.expect("usable")));
                assert_eq!(&prices.collect::<BTreeMap<_, _>>(), price_us);
                let avoided = found.moment.nodes.iter().find(|(_, node)| node.avoided.is_some());
                assert_eq!(avoided.map(|(node, _)| *node), *cordoned);
            }
        }
    });
}

/// With `CASCADE_HISTORY_RELAYS=50,256` it measures what the handbook states (with `--release --no-capture`: minutes).
#[test]
fn a_day_fits_into_what_is_allowed() {
    let asked = std::env::var("CASCADE_HISTORY_RELAYS").unwrap_or_else(|_| "6".to_owned());
    for relays in asked.split(',').map(|relays| relays.parse().expect("a number of relays")) {
        let bytes = day(relays, 512 << 20, 24, |_, _, _| ());
        eprintln!("{relays} relays, full mesh, an epoch in every 30 s: {:.1} MB a day", bytes as f64 / 1e6);
        assert!(bytes < 512 << 20);
    }
}
