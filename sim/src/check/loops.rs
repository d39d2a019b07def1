//! No copy of a packet visits a relay twice on one plane and stamp, and no relay sends it on more often than it came.
//!
//! On the primary plane the way of a packet to one destination is made of the frames that carry this destination, and
//! each relay receives at most one of them for each relay that stamps this destination; none comes back to where it entered. On the red and the blue plane two
//! copies may follow each other over the same link: two relays moved the packet because each missed the next, though
//! one of them had only been slow or deaf and passed it on after all. There each copy is followed by itself, from the
//! relay that moved it: it comes to no relay twice, and no relay moves a packet twice for the same destination.
//!
//! A frame whose epoch a relay on its way no longer holds, or not yet, goes on by other tables from there, and may come by
//! once more; not twice.

use super::Verdict;
use super::stamps::Stamps;
use crate::scenario::{FaultKind, RelayId, Scenario};
use crate::trace::{Event, Frame, Packet, Trace};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The plane of the shortest paths.
const PRIMARY: u8 = 0;

/// A packet of an incarnation with its stamp, as it came to a relay on its way to another.
type Visit = (Packet, u8, (u8, u16), RelayId, RelayId);

pub(super) fn check(scenario: &Scenario, trace: &Trace, verdict: &mut Verdict) {
    let mut visits: BTreeMap<Visit, usize> = BTreeMap::new();
    let mut copies = Copies::default();
    let mut held = Held::default();
    let stamps = Stamps::new(scenario, trace);
    for (at, event) in trace.events() {
        let at = *at;
        held.take(scenario, event);
        let Some(frame) = event.frame() else { continue };
        let again_max = if held.leaves_its_tables(frame) { 1 } else { 0 };
        for destination in &frame.destinations {
            let stream = frame.packet.stream;
            let stampers = stamps.stampers(stream, *destination, at);
            let again = if frame.plane == PRIMARY {
                copies.entered(frame, *destination);
                let stamp = (frame.policy, frame.epoch);
                let key = (frame.packet, frame.incarnation, stamp, *destination, frame.to);
                let visits = visits.entry(key).or_insert(usize::from(stampers.contains(&frame.to)));
                *visits += 1;
                (*visits > stampers.len().max(1) + again_max).then(|| format!("came to {} again", frame.to))
            } else {
                copies.follow(at, frame, *destination, &stampers, again_max)
            };
            if let Some(what) = again {
                let (packet, plane) = (frame.packet, frame.plane);
                verdict.object(at, format!("{packet:?} {what} on its way to {destination} on plane {plane}"));
            }
        }
        if frame.hop_limit == 0 && !frame.destinations.contains(&frame.to) {
            verdict
                .object(at, format!("{:?} used up its hop limit on the way to {}", frame.packet, frame.to));
        }
    }
}

/// Epochs that relays hold, and frames that went on by others.
#[derive(Default)]
struct Held {
    /// Of each relay, the last two.
    epochs: BTreeMap<RelayId, [Option<u16>; 2]>,
    strangers: BTreeSet<(Packet, u8, u16)>,
}

impl Held {
    fn take(&mut self, scenario: &Scenario, event: &Event) {
        if let Event::FaultEnds(place) = event
            && let FaultKind::Crash(relay) | FaultKind::Leave(relay) = &scenario.faults[*place].kind
        {
            self.epochs.remove(relay);
        }
        if let Event::Table { relay, epoch, rows: _ } = event {
            let held = self.epochs.entry(*relay).or_default();
            *held = [held[1], Some(*epoch as u16)];
        }
    }

    /// The frame leaves a relay, or has left one, that does not hold the tables of its stamp.
    fn leaves_its_tables(&mut self, frame: &Frame) -> bool {
        let key = (frame.packet, frame.incarnation, frame.epoch);
        let held = self.epochs.get(&frame.from).is_some_and(|held| held.contains(&Some(frame.epoch)));
        if !held {
            self.strangers.insert(key);
        }
        self.strangers.contains(&key)
    }
}

/// A copy under way to one destination on a redundant plane.
struct Copy {
    arrives: Duration,
    hop_limit: u8,
    /// Relays since it moved to its plane, that one first.
    way: Vec<RelayId>,
}

/// A packet at a relay, for a destination on a plane and stamp.
type Place = (Packet, u8, u8, u16, RelayId, RelayId);

#[derive(Default)]
struct Copies {
    /// Copies that came or will come to a relay and have not left it.
    coming: BTreeMap<Place, Vec<Copy>>,
    /// How often; once for each stamp.
    moved: BTreeMap<Place, usize>,
    /// Relays that a packet came to on the primary plane.
    primary: BTreeSet<(Packet, u8, RelayId, RelayId)>,
}

impl Copies {
    /// A frame on the primary plane is on its way.
    fn entered(&mut self, frame: &Frame, destination: RelayId) {
        self.primary.insert((frame.packet, frame.incarnation, destination, frame.to));
    }

    /// A relay moves a packet to a redundant plane. False if it has done so for each stamp.
    fn moves(&mut self, place: Place, stamps: usize) -> bool {
        let moved = self.moved.entry(place).or_default();
        *moved += 1;
        *moved <= stamps
    }

    /// A frame on a redundant plane leaves a relay. Returns what is wrong with that.
    fn follow(
        &mut self,
        at: Duration,
        frame: &Frame,
        destination: RelayId,
        stampers: &BTreeSet<RelayId>,
        again_max: usize,
    ) -> Option<String> {
        let may_move = stampers.contains(&frame.from)
            || self.primary.contains(&(frame.packet, frame.incarnation, destination, frame.from));
        let place = |relay| (frame.packet, frame.incarnation, frame.plane, frame.epoch, destination, relay);
        let waiting = self.coming.entry(place(frame.from)).or_default();
        let own = waiting.iter().position(|copy| copy.arrives <= at && copy.hop_limit == frame.hop_limit + 1);
        let mut way = match own.map(|own| waiting.swap_remove(own)) {
            Some(copy) => copy.way,
            None if may_move && self.moves(place(frame.from), stampers.len().max(1)) => vec![frame.from],
            None => return Some(format!("left {} once more than it came", frame.from)),
        };
        let visits = way.iter().filter(|relay| **relay == frame.to).count();
        let again = (visits > again_max).then(|| format!("came to {} again by {way:?}", frame.to));
        way.push(frame.to);
        // What is lost or late may be restored at any time, by repairs and parity that the trace does not show.
        let copy = Copy { arrives: at, hop_limit: frame.hop_limit, way };
        self.coming.entry(place(frame.to)).or_default().push(copy);
        again
    }
}
