//! Counts what becomes of packets, and forgets them: the same memory for a thousand packets and for a million.

use super::Cost;
use crate::scenario::{Host, StreamNumber};
use crate::trace::{Delivered, Event, Packet};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// A packet that is not there after so long counts as lost; far more than any budget.
const REMEMBERED: Duration = Duration::from_secs(5);
/// Broken laws that are kept in words.
const VIOLATIONS_KEPT: usize = 10;

/// What became of the packets sent while it counted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    /// Within the budget.
    pub(crate) in_time: u64,
    /// Later than the budget.
    pub(crate) late: u64,
    pub(crate) lost: u64,
    /// Copies beyond the first.
    pub(crate) duplicated: u64,
    /// Deliveries that are no packet that was sent.
    pub(crate) corrupted: u64,
    /// Ends of links between relays that were made anew.
    pub(crate) links_made: u64,
    /// Broken laws and the like, in words; the first few.
    pub(crate) violations: Vec<String>,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Counts) {
        self.sent += other.sent;
        self.in_time += other.in_time;
        self.late += other.late;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.corrupted += other.corrupted;
        self.links_made += other.links_made;
        let room = VIOLATIONS_KEPT.saturating_sub(self.violations.len());
        self.violations.extend(other.violations.iter().take(room).cloned());
    }
}

/// Watches a world in which every stream has one subscriber.
#[derive(Debug)]
pub(crate) struct Meter {
    /// A packet that takes no longer is in time.
    in_time: Duration,
    counting: bool,
    windows: BTreeMap<StreamNumber, Window>,
    counts: Counts,
    /// Of links that are over.
    cost: Cost,
}

/// Packets of a stream that may still come.
#[derive(Debug, Default)]
struct Window {
    first: u64,
    sent: VecDeque<Sent>,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Duration,
    digest: u64,
    counted: bool,
    delivered: bool,
}

impl Meter {
    /// A packet is in time if it is delivered so long after it was sent, or sooner.
    pub(crate) fn new(in_time: Duration) -> Meter {
        Meter {
            in_time,
            counting: false,
            windows: BTreeMap::new(),
            counts: Counts::default(),
            cost: Cost::default(),
        }
    }

    /// A link between relays is over at one end, where it cost that.
    pub(crate) fn link_over(&mut self, cost: Cost) {
        self.cost = self.cost.plus(cost);
    }

    /// Packets sent from now on count.
    pub(crate) fn begin(&mut self) {
        self.counting = true;
    }

    /// What it counted, packets that are not there as lost; and what links cost that are over.
    pub(crate) fn finish(mut self) -> (Counts, Cost) {
        for window in self.windows.into_values() {
            for sent in window.sent {
                self.counts.lost += u64::from(sent.counted && !sent.delivered);
            }
        }
        (self.counts, self.cost)
    }

    pub(crate) fn see(&mut self, now: Duration, event: &Event) {
        match event {
            Event::Sent { packet, rtcp: _, digest } => self.sent(now, *packet, *digest),
            Event::Delivered(delivered) => self.delivered(now, delivered),
            Event::LinkUp { at: Host::Relay(_), with: Host::Relay(_) } if self.counting => {
                self.counts.links_made += 1;
            }
            Event::Violation { who, what } => {
                if self.counts.violations.len() < VIOLATIONS_KEPT {
                    self.counts.violations.push(format!("{who} at {now:?}: {what}"));
                }
            }
            Event::LinkUp { .. }
            | Event::LinkDown { .. }
            | Event::FaultBegins(_)
            | Event::FaultEnds(_)
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
            | Event::Frame(_)
            | Event::Datagram(_)
            | Event::Counter { .. } => {}
        }
    }

    fn sent(&mut self, now: Duration, packet: Packet, digest: u64) {
        let window = self.windows.entry(packet.stream).or_default();
        while window.sent.front().is_some_and(|oldest| oldest.at + REMEMBERED < now) {
            let oldest = window.sent.pop_front();
            window.first += 1;
            self.counts.lost += u64::from(oldest.is_some_and(|sent| sent.counted && !sent.delivered));
        }
        assert_eq!(packet.number, window.first + window.sent.len() as u64, "publishers count without gaps");
        window.sent.push_back(Sent { at: now, digest, counted: self.counting, delivered: false });
        self.counts.sent += u64::from(self.counting);
    }

    fn delivered(&mut self, now: Duration, delivered: &Delivered) {
        let found = delivered.packet.and_then(|packet| {
            let window = self.windows.get_mut(&packet.stream)?;
            let place = usize::try_from(packet.number.checked_sub(window.first)?).ok()?;
            window.sent.get_mut(place)
        });
        let Some(sent) = found.filter(|sent| sent.digest == delivered.digest) else {
            self.counts.corrupted += 1;
            return;
        };
        if std::mem::replace(&mut sent.delivered, true) {
            self.counts.duplicated += 1;
        } else if sent.counted {
            let in_time = now <= sent.at + self.in_time;
            *(if in_time { &mut self.counts.in_time } else { &mut self.counts.late }) += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::ClientId;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn packet(number: u64) -> Packet {
        Packet { stream: StreamNumber(0), number }
    }

    fn send(meter: &mut Meter, at: Duration, number: u64) {
        meter.see(at, &Event::Sent { packet: packet(number), rtcp: false, digest: number });
    }

    fn deliver(meter: &mut Meter, at: Duration, number: u64, digest: u64) {
        meter.see(
            at,
            &Event::Delivered(Delivered {
                client: ClientId(0),
                announced: None,
                packet: Some(packet(number)),
                sequence: number as u32,
                rtcp: false,
                digest,
            }),
        );
    }

    #[test]
    fn each_packet_is_counted_once_and_only_if_it_was_sent_while_counting() {
        let mut meter = Meter::new(ms(120));
        for number in 0..10 {
            if number == 2 {
                meter.begin();
            }
            send(&mut meter, ms(10 * number), number);
        }
        for (at, number, digest) in
            [(100, 0, 0), (140, 2, 2), (150, 2, 2), (151, 3, 3), (100, 4, 4), (100, 5, 6), (100, 99, 99)]
        {
            deliver(&mut meter, ms(at), number, digest);
        }
        let (counts, _) = meter.finish();
        assert_eq!((counts.sent, counts.in_time, counts.late, counts.lost), (8, 2, 1, 5));
        assert_eq!((counts.duplicated, counts.corrupted), (1, 2));
    }

    #[test]
    fn old_packets_are_forgotten() {
        let mut meter = Meter::new(ms(120));
        meter.begin();
        for number in 0..100_000 {
            send(&mut meter, ms(number), number);
            if number % 2 == 0 {
                deliver(&mut meter, ms(number), number, number);
            }
        }
        assert_eq!(meter.windows[&StreamNumber(0)].sent.len(), 5_001);
        let (counts, _) = meter.finish();
        assert_eq!((counts.sent, counts.in_time, counts.lost), (100_000, 50_000, 50_000));
    }
}
