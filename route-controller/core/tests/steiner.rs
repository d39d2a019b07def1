//! What feeding by holders is worth between 217 cities: copies, what their links cost, and the delay that they add, beside a
//! bound and, for small rooms, the best tree there is. Data is found through `CASCADE_DATA`; without it what needs it says so
//! and is skipped.

mod data;
mod lab;

use lab::stream;
use proptest::prelude::*;
use route_core::{
    Controller, ControllerConfig, FeedingConfig, Input, Output, RouteFilter, SessionId, StreamView,
};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;
use wire_format::control::{
    LinkQuality, LinkReport, LinkState, PublicationReport, RelayHello, SubscriptionReport, ToController,
    ToRelay,
};
use wire_format::{MediaKind, NodeIndex, Plane, PublicationId, SubscriptionId, Timestamp};

fn cities() -> Option<Vec<Vec<Option<Duration>>>> {
    let text = data::rtt("wondernetwork217.csv")?;
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    let rtt = |cell: &&str| Some(Duration::from_secs_f64(cell.parse::<f64>().ok()? / 1e3));
    Some(rows[1..].iter().map(|row| row[1..rows.len()].iter().map(rtt).collect()).collect())
}

/// A controller and relays that acknowledge all they are told, in no time.
struct Overlay {
    controller: Controller,
    now: Timestamp,
}

impl Overlay {
    /// Every relay linked to all to whom a round trip is known.
    fn new(rtt: &[Vec<Option<Duration>>], feeding: FeedingConfig) -> Overlay {
        let config = ControllerConfig { feeding, ..ControllerConfig::new(1, 1) };
        let mut overlay =
            Overlay { controller: Controller::new(config), now: Timestamp::from_micros(1_000_000) };
        for relay in 0..rtt.len() {
            let hello = RelayHello {
                name: format!("city-{relay}"),
                node: Some(node(relay)),
                region: String::new(),
                isp: String::new(),
                tags: Vec::new(),
                position: None,
                addresses: vec![([127, 0, 0, 1], 4_700).into()],
                version: String::new(),
                wire_versions: wire_format::session::WIRE_VERSIONS,
                traces: true,
                epoch: None,
                table_deltas: false,
                streams: Vec::new(),
            };
            let session = SessionId(relay as u64);
            overlay.input(Input::RelayUp { session, name: hello.name.clone(), hello });
        }
        for relay in 0..rtt.len() {
            let links = (0..rtt.len()).filter(|other| *other != relay).filter_map(|other| {
                let rtt = rtt[relay][other].or(rtt[other][relay])?;
                Some(LinkReport {
                    neighbour: node(other),
                    state: LinkState::Up,
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
                })
            });
            overlay.say(relay, ToController::Links(links.collect()));
            overlay.say(relay, ToController::ReportsComplete);
        }
        overlay.run(Duration::from_secs(3));
        overlay
    }

    fn say(&mut self, relay: usize, message: ToController) {
        self.input(Input::FromRelay { session: SessionId(relay as u64), message });
    }

    fn input(&mut self, input: Input) {
        self.controller.handle_input(self.now, input);
        let mut answers = Vec::new();
        while let Some(output) = self.controller.poll_output() {
            let Output::ToRelay { session, message } = output else { continue };
            let answer = if let ToRelay::Table(table) = message {
                ToController::TableAck { epoch: table.epoch }
            } else if let ToRelay::Stamp { epoch } = message {
                ToController::StampAck { epoch }
            } else if let ToRelay::Stream(row) = message {
                ToController::StreamAck { key: row.key, revision: row.revision }
            } else {
                continue;
            };
            answers.push((session, answer));
        }
        for (session, message) in answers {
            self.input(Input::FromRelay { session, message });
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.controller.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.input(Input::Timeout);
        }
        self.now = end;
    }

    /// A room in which one city publishes and others subscribe, one after the other.
    fn room(&mut self, ingress: usize, egresses: &[usize]) -> StreamView {
        let name = stream("alice", "camera");
        self.say(
            ingress,
            ToController::Published(PublicationReport {
                publication: PublicationId(1),
                name: name.clone(),
                kind: MediaKind::Video,
                granted: None,
                protect: false,
                publisher: None,
            }),
        );
        for egress in egresses {
            self.say(
                *egress,
                ToController::Subscribed(SubscriptionReport {
                    subscription: SubscriptionId(7),
                    namespace: name.namespace.clone(),
                    room: name.room.clone(),
                    user: None,
                    stream: None,
                }),
            );
            self.run(Duration::from_millis(200));
        }
        // Until nothing is left to be made better, though few changes are allowed in a minute.
        self.run(Duration::from_secs(300));
        let view = self.controller.streams().pop().expect("the room");
        for egress in egresses {
            self.say(*egress, ToController::Unsubscribed { subscription: SubscriptionId(7) });
        }
        self.say(ingress, ToController::Unpublished { publication: PublicationId(1) });
        self.run(Duration::from_secs(120));
        view
    }

    /// What the shortest way from each relay to each costs.
    fn ways(&self) -> BTreeMap<(String, String), u64> {
        let filter = RouteFilter { plane: Some(Plane::PRIMARY), ..RouteFilter::default() };
        let rows = self.controller.routes(self.now, filter).into_iter();
        rows.map(|row| ((row.node, row.destination), row.cost_us)).collect()
    }
}

fn node(relay: usize) -> NodeIndex {
    NodeIndex(u16::try_from(relay).expect("few"))
}

/// Numbers that look random, the same each time (Steele, Lea and Flood, SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ z >> 31) % end as u64) as usize
    }

    fn distinct(&mut self, count: usize, end: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..end).collect();
        (0..count).map(|_| all.swap_remove(self.below(all.len()))).collect()
    }
}

/// The cheapest tree over all relays that joins some (Dreyfus and Wagner, "The Steiner problem in graphs", 1971), where
/// `way_us` are shortest ways, either direction.
fn steiner_us(way_us: &[Vec<u64>], terminals: &[usize]) -> u64 {
    let relays = way_us.len();
    let (root, others) = terminals.split_first().expect("a terminal");
    if others.is_empty() {
        return 0;
    }
    let sets = 1 << others.len();
    let mut best = vec![vec![u64::MAX / 4; relays]; sets];
    for (at, terminal) in others.iter().enumerate() {
        best[1 << at].clone_from(&way_us[*terminal]);
    }
    for set in 1..sets {
        if set.is_power_of_two() {
            continue;
        }
        let mut joined = vec![u64::MAX / 4; relays];
        let mut part = (set - 1) & set;
        while part > 0 {
            for (at, joined) in joined.iter_mut().enumerate() {
                *joined = (*joined).min(best[part][at] + best[set ^ part][at]);
            }
            part = (part - 1) & set;
        }
        for at in 0..relays {
            best[set][at] = (0..relays).map(|via| joined[via] + way_us[via][at]).min().expect("relays");
        }
    }
    best[sets - 1][*root]
}

fn feeding(gain: Option<u64>) -> FeedingConfig {
    FeedingConfig { gain: gain.map(Duration::from_millis), ..FeedingConfig::default() }
}

#[derive(Default)]
struct Sums {
    copies: [usize; 3],
    haul_us: [u64; 3],
    by_holders: usize,
    detours: Vec<f64>,
    detours_ms: Vec<f64>,
    deepest: usize,
}

impl Sums {
    fn add(&mut self, view: &StreamView) {
        let quality = view.quality;
        for (sum, value) in
            self.copies.iter_mut().zip([quality.copies, quality.copies_direct, quality.copies_bound])
        {
            *sum += value;
        }
        for (sum, value) in
            self.haul_us.iter_mut().zip([quality.haul_us, quality.haul_us_direct, quality.haul_us_bound])
        {
            *sum += value;
        }
        for feed in &view.feeds {
            let (by, direct) = feed.delay_us.zip(feed.direct_us).expect("everyone is fed");
            self.by_holders += usize::from(feed.holders > 0);
            self.deepest = self.deepest.max(feed.holders);
            self.detours.push(by as f64 / direct as f64 - 1.0);
            self.detours_ms.push((by as f64 - direct as f64) / 1e3);
        }
    }

    fn row(&mut self, rooms: usize) -> String {
        let percentile = |values: &mut Vec<f64>, share: f64| {
            values.sort_by(f64::total_cmp);
            values[((values.len() - 1) as f64 * share) as usize]
        };
        let each = |value: usize| value as f64 / rooms as f64;
        let ms = |us: u64| us as f64 / 1e3 / rooms as f64;
        let mean = self.detours_ms.iter().sum::<f64>() / self.detours_ms.len() as f64;
        format!(
            "| {:.1} / {:.1} / {:.1} | {:.0} / {:.0} / {:.0} | {:.2} | {:.0}% | {mean:.1} / {:.1} / {:.1} ms | {} |",
            each(self.copies[0]),
            each(self.copies[1]),
            each(self.copies[2]),
            ms(self.haul_us[0]),
            ms(self.haul_us[1]),
            ms(self.haul_us[2]),
            self.haul_us[0] as f64 / self.haul_us[1] as f64,
            self.by_holders as f64 * 100.0 / self.detours.len() as f64,
            percentile(&mut self.detours_ms, 0.95),
            percentile(&mut self.detours_ms, 1.0),
            self.deepest,
        )
    }
}

/// Rooms of some sizes, so many of each: a line for each size, and by size what part of the ingress's own cost is left.
fn rooms(rtt: &[Vec<Option<Duration>>], sizes: &[(usize, usize)]) -> BTreeMap<usize, f64> {
    let mut out = std::io::stdout();
    let _ = writeln!(
        out,
        "| egresses | copies: as fed / by the ingress / bound | cost of their links, ms: the same | ratio | by holders | delay added: mean / p95 / most | holders in a row |"
    );
    let mut ratios = BTreeMap::new();
    let mut overlay = Overlay::new(rtt, feeding(Some(20)));
    for (size, rooms) in sizes.iter().copied() {
        let mut numbers = Numbers(size as u64);
        let mut sums = Sums::default();
        for _ in 0..rooms {
            let cities = numbers.distinct(size + 1, rtt.len());
            let view = overlay.room(cities[0], &cities[1..]);
            assert_eq!(view.feeds.len(), size);
            assert!(view.quality.haul_us_bound <= view.quality.haul_us);
            sums.add(&view);
        }
        let _ = writeln!(out, "| {size} {}", sums.row(rooms));
        let longest = sums.detours.iter().copied().fold(0.0, f64::max);
        assert!(longest <= 0.31, "a detour is a fifth, or half as much again: {longest}");
        assert!(sums.deepest <= 3, "{}", sums.deepest);
        ratios.insert(size, sums.haul_us[0] as f64 / sums.haul_us[1] as f64);
    }
    ratios
}

#[test]
fn rooms_between_cities_load_fewer_links_at_little_delay() {
    let Some(rtt) = cities() else { return };
    let ratios = rooms(&rtt, &[(4, 4), (8, 3), (16, 2)]);
    assert!(ratios[&16] < 0.7, "{ratios:?}");
    assert!(ratios.values().all(|ratio| *ratio <= 1.0), "{ratios:?}");
}

#[test]
fn the_bound_is_one_and_small_rooms_are_near_the_best_tree() {
    let Some(rtt) = cities() else { return };
    let mut overlay = Overlay::new(&rtt, feeding(Some(20)));
    let ways = overlay.ways();
    let name = |relay: usize| format!("city-{relay}");
    let way_us = |a: usize, b: usize| {
        let ways = [ways.get(&(name(a), name(b))), ways.get(&(name(b), name(a)))];
        if a == b { 0 } else { ways.into_iter().flatten().min().copied().unwrap_or(u64::MAX / 8) }
    };
    let way_us: Vec<Vec<u64>> =
        (0..rtt.len()).map(|a| (0..rtt.len()).map(|b| way_us(a, b)).collect()).collect();
    let mut numbers = Numbers(99);
    let (mut fed, mut direct, mut bound, mut best) = (0, 0, 0, 0);
    for _ in 0..8 {
        let cities = numbers.distinct(6, rtt.len());
        let view = overlay.room(cities[0], &cities[1..]);
        let exact = steiner_us(&way_us, &cities);
        let quality = view.quality;
        assert!(quality.haul_us_bound <= exact, "{quality:?} {exact}");
        assert!(exact <= quality.haul_us.min(quality.haul_us_direct), "{quality:?} {exact}");
        fed += quality.haul_us;
        direct += quality.haul_us_direct;
        bound += quality.haul_us_bound;
        best += exact;
    }
    let ratio = |us: u64| us as f64 / best as f64;
    let _ = writeln!(
        std::io::stdout(),
        "rooms of 5 egresses, cost of links beside the best tree: fed by holders {:.2}, by the ingress {:.2}, bound {:.2}",
        ratio(fed),
        ratio(direct),
        ratio(bound),
    );
    assert!(ratio(fed) < ratio(direct));
}

/// A random mesh, whoever is linked to whom, and a random room in it.
fn check_room(relays: usize, seed: u64, density: usize) -> Result<(), TestCaseError> {
    let mut numbers = Numbers(seed);
    let mut rtt = vec![vec![None; relays]; relays];
    for (a, b) in (0..relays).flat_map(|a| (0..a).map(move |b| (a, b))) {
        // In a row at least.
        if a == b + 1 || numbers.below(10) < density {
            let ms = 2 + numbers.below(200) as u64;
            rtt[a][b] = Some(Duration::from_millis(ms));
            rtt[b][a] = rtt[a][b];
        }
    }
    let mut overlay = Overlay::new(&rtt, feeding(Some(0)));
    let ways = overlay.ways();
    let name = |relay: usize| format!("city-{relay}");
    let one_us = |a: usize, b: usize| ways[&(name(a), name(b))].min(ways[&(name(b), name(a))]);
    let way_us = |a: usize, b: usize| if a == b { 0 } else { one_us(a, b) };
    let way_us: Vec<Vec<u64>> = (0..relays).map(|a| (0..relays).map(|b| way_us(a, b)).collect()).collect();
    let size = 2 + numbers.below(relays - 2);
    let room = numbers.distinct(size, relays);
    let view = overlay.room(room[0], &room[1..]);
    let exact = steiner_us(&way_us, &room);
    prop_assert!(view.quality.haul_us_bound <= exact);
    prop_assert!(exact <= view.quality.haul_us);
    prop_assert!(view.quality.haul_us <= view.quality.haul_us_direct, "{:?}", view);
    prop_assert_eq!(view.quality.copies_bound, size - 1);
    prop_assert!(view.quality.copies >= size - 1);
    Ok(())
}

/// Each relay's feeder was the best for it, and all together loaded dearer links than the ingress would have.
#[test]
fn what_is_best_for_each_is_not_dearer_for_all() {
    check_room(8, 8_523_106_633_828_503_582, 3).expect("the ingress takes over");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_bound_is_one_everywhere(relays in 4usize..9, seed in any::<u64>(), density in 3usize..10) {
        check_room(relays, seed, density)?;
    }
}
