//! What links are really like, whatever relays say of them.

use crate::scenario::{Host, RelayId, Scenario};
use crate::topology::{RoundTrips, fibre_us, great_circle_km};
use std::collections::BTreeMap;
use std::time::Duration;
use wire_format::Timestamp;

/// The network at a moment.
#[derive(Debug)]
pub(crate) struct Truth<'a> {
    scenario: &'a Scenario,
    now: Duration,
    slice: usize,
    /// Directions that faults cut, and how many do.
    cut: BTreeMap<(RelayId, RelayId), u32>,
    /// Faults that keep each relay down.
    dead: Vec<u32>,
}

/// One end's view of a link that works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TrueLink {
    pub(crate) rtt_us: u32,
    pub(crate) jitter: Duration,
    /// Towards the other end.
    pub(crate) loss_out_ppm: u32,
    pub(crate) loss_in_ppm: u32,
    /// Bytes per second, if there is a limit.
    pub(crate) rate_out: Option<u64>,
}

impl<'a> Truth<'a> {
    pub(crate) fn new(scenario: &'a Scenario) -> Truth<'a> {
        let dead = vec![0; scenario.relays.len()];
        Truth { scenario, now: Duration::ZERO, slice: 0, cut: BTreeMap::new(), dead }
    }

    pub(crate) fn scenario(&self) -> &'a Scenario {
        self.scenario
    }

    /// Moments at which links change by themselves.
    pub(crate) fn changes(&self) -> Vec<Duration> {
        let slices = self.scenario.topology.iter().flat_map(|backdrop| &backdrop.topology.slices);
        let written = self.scenario.paths.values().flat_map(|schedule| schedule.later());
        let mut times: Vec<_> =
            slices.map(|(at, _)| *at).chain(written.map(|(at, _)| *at)).filter(|at| !at.is_zero()).collect();
        times.sort_unstable();
        times.dedup();
        times
    }

    /// Time goes on.
    pub(crate) fn advance(&mut self, now: Duration) {
        self.now = now;
        if let Some(backdrop) = &self.scenario.topology {
            self.slice = backdrop.topology.slices.iter().rposition(|(at, _)| *at <= now).unwrap_or(0);
        }
    }

    pub(crate) fn cut(&mut self, directions: &[(Host, Host)], begins: bool) {
        for direction in directions {
            if let (Host::Relay(from), Host::Relay(to)) = *direction {
                count(self.cut.entry((from, to)).or_default(), begins);
            }
        }
    }

    pub(crate) fn kill(&mut self, relay: RelayId, begins: bool) {
        count(&mut self.dead[usize::from(relay.0)], begins);
    }

    pub(crate) fn is_alive(&self, relay: RelayId) -> bool {
        self.dead[usize::from(relay.0)] == 0
    }

    /// No fault touches the network now.
    pub(crate) fn is_whole(&self) -> bool {
        self.cut.values().all(|faults| *faults == 0) && self.dead.iter().all(|faults| *faults == 0)
    }

    fn slice(&self) -> Option<(usize, &RoundTrips)> {
        let backdrop = self.scenario.topology.as_ref()?;
        Some((backdrop.first, &backdrop.topology.slices[self.slice].1))
    }

    /// What `from` would measure of its link to another relay; `None` if none of the two hears the other.
    pub(crate) fn link(&self, from: RelayId, to: RelayId) -> Option<TrueLink> {
        let cut = |direction| self.cut.get(&direction).is_some_and(|faults| *faults > 0);
        if from == to || !self.is_alive(from) || !self.is_alive(to) || cut((from, to)) || cut((to, from)) {
            return None;
        }
        let written = |from, to| {
            let schedule = self.scenario.paths.get(&(Host::Relay(from), Host::Relay(to)))?;
            Some(schedule.at(self.now)).filter(|spec| !spec.down)
        };
        if self.scenario.paths.contains_key(&(Host::Relay(from), Host::Relay(to))) {
            let (out, back) = (written(from, to)?, written(to, from)?);
            return Some(TrueLink {
                rtt_us: micros(out.delay + back.delay),
                jitter: (out.jitter + back.jitter) / 4,
                loss_out_ppm: out.mean_loss_ppm(),
                loss_in_ppm: back.mean_loss_ppm(),
                rate_out: out.rate.map(|rate| rate.bits_per_second() / 8),
            });
        }
        let (first, trips) = self.slice()?;
        let place = |relay: RelayId| usize::from(relay.0).checked_sub(first);
        let own = trips.us(place(from)?, place(to)?)?;
        let is = &self.scenario.topology.as_ref()?.is;
        let loss = is.mean_loss_ppm();
        Some(TrueLink {
            rtt_us: own.saturating_add(micros(2 * is.delay)),
            jitter: is.jitter / 2,
            loss_out_ppm: loss,
            loss_in_ppm: loss,
            rate_out: is.rate.map(|rate| rate.bits_per_second() / 8),
        })
    }

    /// Round trips of all ordered pairs of relays, as they are now. What light could not do is no truth, whoever says so.
    pub(crate) fn round_trips(&self) -> RoundTrips {
        let count = self.scenario.relays.len();
        let mut trips = RoundTrips::none(count);
        for from in self.scenario.relay_ids() {
            for to in self.scenario.relay_ids() {
                let link = self.link(from, to);
                if let Some(link) = link.filter(|link| link.rtt_us >= self.least_us(from, to)) {
                    trips.set(from.0.into(), to.0.into(), link.rtt_us);
                }
            }
        }
        trips
    }

    /// What light takes in glass between two relays that said where they stand, there and back.
    fn least_us(&self, from: RelayId, to: RelayId) -> u32 {
        /// A data centre is not quite where its city is.
        const TOLERANCE_KM: f64 = 50.0;
        let position = |relay: RelayId| self.scenario.relays[usize::from(relay.0)].position;
        let ends = position(from).zip(position(to));
        ends.map_or(0, |(a, b)| match great_circle_km(a, b) - TOLERANCE_KM {
            km if km > 0.0 => fibre_us(km),
            _ => 0,
        })
    }

    /// The controller's clock.
    pub(crate) fn local(&self) -> Timestamp {
        Timestamp::from_micros(1_000_000) + self.now
    }
}

fn count(faults: &mut u32, begins: bool) {
    if begins {
        *faults += 1;
    } else {
        *faults = faults.saturating_sub(1);
    }
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_what_the_topology_and_faults_say() {
        let text = "name = \"true\"\ngrain = \"flow\"\nrun_for = \"60s\"\n[topology]\nmatrix = [\"one\", \"two\"]\nevery = \"10s\"\n\
                    is = \"delay=1ms,loss=2%\"\n[[link]]\nbetween = \"a-c\"\nis = \"delay=7ms,rate=8mbit\"\n";
        let mut read = |file: &str| {
            let ms = if file == "one" { 10 } else { 30 };
            Ok(format!("node,a,b,c\na,,{ms},1\nb,20,,\nc,1,,\n"))
        };
        let scenario = Scenario::parse(text, &mut read).expect("legal");
        let mut truth = Truth::new(&scenario);
        let [a, b, c] = [0, 1, 2].map(RelayId);
        let link = truth.link(a, b).expect("measured");
        assert_eq!((link.rtt_us, link.loss_out_ppm, link.rate_out), (12_000, 20_000, None));
        let written = truth.link(c, a).expect("written over the matrix");
        assert_eq!((written.rtt_us, written.loss_out_ppm, written.rate_out), (14_000, 0, Some(1_000_000)));
        assert_eq!(truth.link(b, c), None, "nobody measured it");
        assert_eq!(truth.changes(), [Duration::from_secs(10)]);
        truth.advance(Duration::from_secs(10));
        assert_eq!(truth.link(a, b).map(|link| link.rtt_us), Some(32_000));
        truth.kill(b, true);
        assert!(truth.link(a, b).is_none() && !truth.is_whole());
        truth.kill(b, false);
        truth.cut(&[(Host::Relay(b), Host::Relay(a))], true);
        assert!(truth.link(a, b).is_none(), "one direction is enough");
    }
}
