//! Measures what a run was like for those who used it: how long packets took, which did not come, how long streams were
//! silent, what players made of it, and what links carried for that.
//!
//! It watches the world as a trace does and keeps no event: histograms, a window of packets that may still come for each
//! stream, and a player for each stream at each subscriber. So a run may be as long as anyone likes.
//!
//! - A packet is **due** at a subscriber if it left while that wanted the stream, `join_within` after that began or later. Nobody is
//!   due their own streams, though an SFU that subscribes to a room gets them.
//! - It is **lost** if it has not come after 5 s or when the run ends.
//! - It is **late** if it came later than by the fastest way that the network has ([`Fastest`]) and the stream's delay budget
//!   together. That is the same for all ways of routing in one network, so that a detour counts as what it is.
//! - A **silence** is the time between two deliveries of a stream beyond the longest pause that its publisher makes.
//! - A **failover** is what a disturbance of the network (a fault of the way of media, or a link that changes) does to a stream
//!   at a subscriber: the longest silence that touches the second after it, nothing where there was none.
//! - **Bytes** are those of UDP payloads between relays, counted from when the first packet is due until media ends.

mod fastest;
mod figures;
mod histogram;
mod player;
mod receiver;

pub use fastest::Fastest;
pub use figures::{Figures, LinkLoad};
pub use histogram::Histogram;
pub use player::Playback;

use crate::check::{disturbances, pairs};
use crate::scenario::{ClientId, RelayId, Scenario, StreamNumber};
use crate::trace::{Datagram, Delivered, Event, Frame, Packet, Purpose};
use crate::world::{Observer, World};
use link_model::Seed;
use receiver::Receiver;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// A packet that is not there after so long counts as lost.
const REMEMBERED: Duration = Duration::from_secs(5);
/// Broken laws that are kept in words.
const VIOLATIONS_KEPT: usize = 10;

/// Plays a scenario and says what it was like. `fastest` is of the network as it is, whatever the routing makes of it.
pub fn measure(scenario: &Scenario, seed: u64, fastest: &Fastest) -> Figures {
    let survey = Survey::new(scenario, fastest);
    let mut world = World::new(scenario, Seed(seed), Observer::Survey(Box::new(survey)));
    world.run_until(scenario.run_for);
    match world.observer {
        Observer::Survey(survey) => survey.finish(scenario),
        Observer::Trace(_) | Observer::Meter(_) | Observer::Hash(_) => unreachable!("made with a survey"),
    }
}

/// Watches a world and measures.
#[derive(Debug)]
pub(crate) struct Survey {
    /// What links carry counts from here to there.
    counted: (Duration, Duration),
    disturbances: Vec<Duration>,
    /// By number.
    streams: Vec<Stream>,
    /// By stream, then by subscriber.
    receivers: BTreeMap<(StreamNumber, ClientId), Receiver>,
    /// By stream and relay: who sent it the newest packet.
    sources: BTreeMap<(StreamNumber, RelayId), (RelayId, u64)>,
    figures: Figures,
}

/// Packets of a stream that may still come.
#[derive(Debug, Default)]
struct Stream {
    first: u64,
    sent: VecDeque<Sent>,
    /// Packets left of the frame that is being sent.
    left: u32,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Duration,
    bytes: u32,
    rtcp: bool,
    /// It begins a frame of so many packets, RTCP not counted.
    begins: Option<u32>,
}

impl Survey {
    pub(crate) fn new(scenario: &Scenario, fastest: &Fastest) -> Survey {
        let join = scenario.expect.join_within;
        let mut receivers = BTreeMap::new();
        for ((client, stream), spans) in pairs(scenario) {
            if scenario.stream(stream).client == client {
                continue;
            }
            let due = spans.into_iter().map(|(from, until)| (from + join, until));
            let due: Vec<_> = due.filter(|(from, until)| from < until).collect();
            let spec = scenario.stream(stream);
            let budget = spec.budget.unwrap_or(spec.kind.budget_default());
            let limit = fastest.way(stream, client).map(|way| way + budget);
            if !due.is_empty() {
                receivers.insert((stream, client), Receiver::new(spec, due, limit));
            }
        }
        let begin = receivers.values().map(Receiver::begin).min().unwrap_or_default();
        Survey {
            counted: (begin, scenario.media_end()),
            disturbances: disturbances(scenario).into_iter().filter(|at| *at >= begin).collect(),
            streams: scenario.stream_numbers().map(|_| Stream::default()).collect(),
            receivers,
            sources: BTreeMap::new(),
            figures: Figures::default(),
        }
    }

    pub(crate) fn see(&mut self, scenario: &Scenario, now: Duration, event: &Event) {
        match event {
            Event::Sent { packet, rtcp, digest: _ } => self.sent(scenario, now, *packet, *rtcp),
            Event::Delivered(delivered) => self.delivered(now, delivered),
            Event::Datagram(datagram) => self.datagram(now, datagram),
            Event::Frame(frame) => self.frame(now, frame),
            Event::Violation { who, what } => {
                if self.figures.violations.len() < VIOLATIONS_KEPT {
                    self.figures.violations.push(format!("{who} at {now:?}: {what}"));
                }
            }
            Event::FaultBegins(_) => self.fault_begins(scenario),
            Event::FaultEnds(_)
            | Event::LinkUp { .. }
            | Event::LinkDown { .. }
            | Event::Joined { .. }
            | Event::SessionUp(_)
            | Event::SessionDown(_)
            | Event::Table { .. }
            | Event::Row { .. }
            | Event::Stamp { .. }
            | Event::Introduced(_)
            | Event::Dismissed(_)
            | Event::Reported { .. }
            | Event::Believed { .. }
            | Event::Pushed(_)
            | Event::Ordered { .. }
            | Event::TableAcked { .. }
            | Event::StampAcked { .. }
            | Event::Published(_)
            | Event::Announced { .. }
            | Event::Ended { .. }
            | Event::Refused { .. }
            | Event::KeyframeRequested(_)
            | Event::Counter { .. } => {}
        }
    }

    fn fault_begins(&mut self, scenario: &Scenario) {
        if self.figures.paths_before.is_empty() {
            let pairs = self.receivers.keys();
            let ways = pairs.filter_map(|pair| Some((*pair, self.way(scenario, pair.0, pair.1)?)));
            self.figures.paths_before = ways.collect();
        }
    }

    fn sent(&mut self, scenario: &Scenario, now: Duration, packet: Packet, rtcp: bool) {
        let rhythm = &scenario.stream(packet.stream).rhythm;
        let stream = &mut self.streams[usize::from(packet.stream.0)];
        let mut forgotten = 0;
        while stream.sent.front().is_some_and(|oldest| oldest.at + REMEMBERED < now) {
            stream.sent.pop_front();
            forgotten += 1;
        }
        stream.first += forgotten;
        assert_eq!(packet.number, stream.first + stream.sent.len() as u64, "publishers count without gaps");
        let begins = (stream.left == 0).then(|| rhythm.frame_packets(packet.number));
        stream.left = begins.map_or(stream.left, |(all, _)| all) - 1;
        let begins = begins.map(|(_, media)| media).filter(|media| *media > 0);
        let sent = Sent { at: now, bytes: rhythm.bytes(packet.number), rtcp, begins };
        stream.sent.push_back(sent);
        self.figures.published += u64::from(self.counts(now));
        let own = (packet.stream, ClientId(0))..=(packet.stream, ClientId(u16::MAX));
        for (_, receiver) in self.receivers.range_mut(own) {
            receiver.forget(forgotten, &mut self.figures);
            receiver.sent(packet.number, sent, &mut self.figures);
        }
    }

    fn delivered(&mut self, now: Duration, delivered: &Delivered) {
        let Some(packet) = delivered.packet else { return };
        let Some(stream) = self.streams.get(usize::from(packet.stream.0)) else { return };
        let place = packet.number.checked_sub(stream.first).and_then(|place| usize::try_from(place).ok());
        let (Some(place), Some(receiver)) =
            (place, self.receivers.get_mut(&(packet.stream, delivered.client)))
        else {
            return;
        };
        if let Some(sent) = stream.sent.get(place) {
            receiver.delivered(now, (packet.number, place), *sent, &self.disturbances, &mut self.figures);
        }
    }

    fn counts(&self, now: Duration) -> bool {
        (self.counted.0..self.counted.1).contains(&now)
    }

    fn datagram(&mut self, now: Duration, datagram: &Datagram) {
        if !self.counts(now) {
            return;
        }
        let load = self.figures.links.entry((datagram.from, datagram.to)).or_default();
        let bytes = u64::from(datagram.bytes);
        match datagram.purpose {
            Purpose::Media => load.media_bytes += bytes,
            Purpose::Again => load.again_bytes += bytes,
            Purpose::Parity => load.parity_bytes += bytes,
            Purpose::Feedback => load.feedback_bytes += bytes,
        }
    }

    fn frame(&mut self, now: Duration, frame: &Frame) {
        let counts = self.counts(now);
        self.figures.copies += u64::from(counts);
        // Of what goes two ways at once, the one that wins changes from packet to packet.
        if frame.protected {
            return;
        }
        let source = self.sources.entry((frame.packet.stream, frame.to));
        let (from, number) = source.or_insert((frame.from, 0));
        if frame.packet.number < *number {
            return;
        }
        if *from != frame.from {
            *from = frame.from;
            self.figures.route_changes += u64::from(counts);
        }
        *number = frame.packet.number;
    }

    /// What it came to.
    pub(crate) fn finish(mut self, scenario: &Scenario) -> Figures {
        for ((stream, client), receiver) in std::mem::take(&mut self.receivers) {
            let way = self.way(scenario, stream, client);
            self.figures.paths.extend(way.map(|way| ((stream, client), way)));
            let gap = receiver.finish(scenario.run_for, &self.disturbances, &mut self.figures);
            self.figures.gaps.extend(gap.map(|gap| ((stream, client), gap)));
        }
        for ((from, to), load) in &self.figures.links {
            let region = |relay: RelayId| scenario.relays[usize::from(relay.0)].region.as_str();
            let micro_dollars = scenario.price_micro_dollars(region(*from), region(*to));
            self.figures.dollars += micro_dollars as f64 / 1e6 * load.bytes() as f64 / 1e9;
        }
        self.figures.counted = self.counted.1 - self.counted.0;
        self.figures
    }

    /// The relays that a stream's newest packet passed on its way to a subscriber.
    fn way(&self, scenario: &Scenario, stream: StreamNumber, client: ClientId) -> Option<Vec<RelayId>> {
        let ingress = scenario.client(scenario.stream(stream).client).relay;
        let mut way = vec![scenario.client(client).relay];
        while *way.last()? != ingress {
            let (from, _) = self.sources.get(&(stream, *way.last()?))?;
            if way.contains(from) {
                return None;
            }
            way.push(*from);
        }
        way.reverse();
        Some(way)
    }
}

#[cfg(test)]
mod tests;
