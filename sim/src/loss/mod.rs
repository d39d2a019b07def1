//! Measures what repair leaves of a link's losses, and at what price, over as many packets as it takes to see one in a
//! hundred thousand.
//!
//! A row ([`LossRow`]) is played by the real cores in the world that scenarios are played in: a client, relays in a line,
//! a client. It is split into runs of [`RUN_PACKETS`], each with a seed of its own and so entering traces elsewhere, which
//! share out well among threads. Nothing is kept of a packet once its fate is known.
//!
//! *Residual loss*: packets that did not come, or came later than the budget allows on top of the path's own delay (the
//! links' delays, and the moment that each host takes to notice a datagram). *Overhead*: what links sent besides first
//! datagrams, both directions, over the bytes of first datagrams; links that were made anew and those before them count.
//! Beside them stands the row's retransmission bound ([`Oracle`]), from the same links, seeds and media, for both kinds of
//! receiver.

mod cost;
mod meter;
mod result;
mod rows;

pub use cost::Cost;
pub(crate) use meter::Meter;
pub use result::RowResult;
pub use rows::{Limits, LossRow, loss_rows};

use crate::jobs::run_all;
use crate::media;
use crate::node::{Core, LATENESS_US_MAX};
use crate::scenario::{Host, RelayId, Scenario, ScenarioError, StreamNumber};
use crate::world::{Observer, World, path_seed};
use link_model::{DropReason, Fate, Link, Oracle, Seed, Shown};
use meter::Counts;
use rows::WARM_UP;
use std::collections::BTreeMap;
use std::time::Duration;

/// Packets of one run.
const RUN_PACKETS: u64 = 125_000;

/// What the runs of a row came to.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct LossRun {
    pub(crate) counts: Counts,
    /// Over all links between relays.
    pub(crate) cost: Cost,
    /// Slots that the oracle saw, and packets that it could not save.
    pub(crate) when_due: (u64, u64),
    /// The same of the oracle that waits for an arrival.
    pub(crate) by_arrival: (u64, u64),
}

impl LossRun {
    fn add(&mut self, other: &LossRun) {
        self.counts.add(&other.counts);
        self.cost = self.cost.plus(other.cost);
        for (sum, more) in [(&mut self.when_due, other.when_due), (&mut self.by_arrival, other.by_arrival)] {
            *sum = (sum.0 + more.0, sum.1 + more.1);
        }
    }
}

/// Plays rows with so many packets each, on `jobs` threads; `read` gives the text of a loss trace, `each` is told of
/// every run that is over. Returns the results in the order of the rows.
///
/// # Errors
/// If a row is none, for instance because a trace cannot be read.
pub fn run_rows(
    rows: &[LossRow],
    packets: u64,
    seed: u64,
    jobs: usize,
    read: &mut dyn FnMut(&str) -> std::io::Result<String>,
    each: impl Fn(&LossRow) + Sync,
) -> Result<Vec<RowResult>, ScenarioError> {
    let scenarios = rows.iter().map(|row| row.scenario(packets.min(RUN_PACKETS), read));
    let scenarios = scenarios.collect::<Result<Vec<_>, _>>()?;
    let runs_each = packets.div_ceil(RUN_PACKETS).max(1);
    let work: Vec<_> =
        (0..rows.len()).flat_map(|row| (0..runs_each).map(move |number| (row, number))).collect();
    let runs = run_all(work.len(), jobs, |place| {
        let (row, number) = work[place];
        let run = play(&scenarios[row], rows[row].budget(), Seed(seed).numbered(number));
        each(&rows[row]);
        run
    });
    let mut sums: BTreeMap<usize, LossRun> = BTreeMap::new();
    for ((row, _), run) in work.iter().zip(&runs) {
        sums.entry(*row).or_default().add(run);
    }
    let mut results: Vec<RowResult> = Vec::new();
    for (place, run) in sums {
        let result = RowResult::of(&rows[place], &run, &results);
        results.push(result);
    }
    Ok(results)
}

fn play(scenario: &Scenario, budget: Duration, seed: Seed) -> LossRun {
    let notice = Duration::from_micros(LATENESS_US_MAX) * (scenario.relays.len() as u32 + 1);
    let own: Duration = directions(scenario).map(|hop| scenario.paths[&hop].first().delay).sum();
    let mut world = World::new(scenario, seed, Observer::Meter(Meter::new(own + notice + budget)));
    world.run_until(WARM_UP);
    if let Observer::Meter(meter) = &mut world.observer {
        meter.begin();
    }
    let before = cost(&world);
    world.run_until(scenario.run_for);
    let present = cost(&world);
    let Observer::Meter(meter) = world.observer else { unreachable!("made with a meter") };
    let (counts, of_links_over) = meter.finish();
    let [when_due, by_arrival] =
        [Shown::WhenDue, Shown::ByArrival].map(|shown| bound(scenario, shown, budget, seed));
    LossRun { counts, cost: present.plus(of_links_over).since(before), when_due, by_arrival }
}

/// Directions between relays that the media takes, in order.
fn directions(scenario: &Scenario) -> impl Iterator<Item = (Host, Host)> {
    let relay = |number| Host::Relay(RelayId(number));
    (1..scenario.relays.len() as u16).map(move |to| (relay(to - 1), relay(to)))
}

fn cost(world: &World<'_>) -> Cost {
    let links = world.nodes.values().filter_map(|node| node.core.as_ref()).flat_map(Core::relay_links);
    links.fold(Cost::default(), |sum, (_, stats)| sum.plus(Cost::of(&stats.repair)))
}

/// What an oracle sees of the media on the first of the links, and cannot save.
fn bound(scenario: &Scenario, shown: Shown, budget: Duration, seed: Seed) -> (u64, u64) {
    let hop = directions(scenario).next().expect("two relays at least");
    let spec = scenario.paths[&hop].first();
    let mut link = Link::new(spec.clone(), path_seed(scenario, seed, hop));
    let mut oracle = Oracle::new(shown, 2 * spec.delay, budget);
    for (at, bytes) in Timeline::of(scenario, seed) {
        let lost = link.offer(at, bytes) == Fate::Dropped(DropReason::Lost);
        oracle.slot(at, lost);
    }
    oracle.finish()
}

/// When the packets of a scenario's streams leave, in order, from the end of the warming up on.
struct Timeline<'a> {
    scenario: &'a Scenario,
    /// Of each stream: when its next packet leaves, and its number.
    next: Vec<(Duration, StreamNumber, u64)>,
}

impl Timeline<'_> {
    fn of(scenario: &Scenario, seed: Seed) -> Timeline<'_> {
        let mut phase = seed.child("timeline").stream();
        let next = scenario.stream_numbers().map(|stream| {
            let interval = media::interval(scenario, stream).as_micros() as u64;
            (WARM_UP + Duration::from_micros(phase.within(0..=interval)), stream, 0)
        });
        Timeline { scenario, next: next.collect() }
    }
}

impl Iterator for Timeline<'_> {
    type Item = (Duration, usize);

    fn next(&mut self) -> Option<(Duration, usize)> {
        let (at, stream, number) = self.next.iter_mut().min()?;
        let spec = self.scenario.stream(*stream);
        let left = *at;
        if left >= self.scenario.media_end() {
            return None;
        }
        let sent = *number;
        *number += 1;
        *at += spec.rhythm.wait_after(sent);
        Some((left, spec.rhythm.bytes(sent) as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeline_is_two_megabits_and_fifty_packets_of_audio() {
        let row = LossRow {
            name: "plain".to_owned(),
            hops: 1,
            link: "delay=20ms".to_owned(),
            budget: "100ms".to_owned(),
            recording: None,
            limits: Limits::default(),
        };
        let scenario = row.scenario(100_000, &mut |_| unreachable!("no trace")).expect("legal");
        let slots: Vec<_> = Timeline::of(&scenario, Seed(1)).collect();
        let (first, last) = (slots[0].0, slots[slots.len() - 1].0);
        assert!(slots.is_sorted_by_key(|(at, _)| *at));
        let rate = slots.len() as f64 / (last - first).as_secs_f64();
        assert!((rate - 258.0).abs() < 0.5, "{rate}");
        let video = slots.iter().filter(|(_, bytes)| *bytes == 1200).count() as f64;
        assert!((video * 1200.0 * 8.0 / (last - first).as_secs_f64() / 2e6 - 1.0).abs() < 0.01);
    }
}
