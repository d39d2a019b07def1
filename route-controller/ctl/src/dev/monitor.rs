//! Where the video really goes: read off the bytes that cross each link, not off anybody's tables.

use crate::dev::impair::{Carried, CarriedByLink};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Over how long rates are taken.
const WINDOW: Duration = Duration::from_millis(500);
/// A direction that carries more than this carries the video, which has four times as many; audio, heartbeats and QUIC
/// together stay far below.
const VIDEO_BYTES_PER_S: f64 = 60_000.0;

/// The way that counts among several is left for another that carries so much more.
const MORE: f64 = 1.25;

/// Watches the links of a run.
#[derive(Debug)]
pub(crate) struct Monitor {
    relays: usize,
    samples: VecDeque<(Duration, CarriedByLink)>,
    path: Option<Vec<usize>>,
    /// Of two ways at once, the one that counts.
    primary: Option<Vec<usize>>,
    changes: u64,
    epochs: BTreeSet<u32>,
}

impl Monitor {
    pub(crate) fn new(relays: usize) -> Monitor {
        Monitor {
            relays,
            samples: VecDeque::new(),
            path: None,
            primary: None,
            changes: 0,
            epochs: BTreeSet::new(),
        }
    }

    /// The path that counts from now on as long as the video goes there, whatever other it takes too.
    pub(crate) fn follow(&mut self, path: Vec<usize>) {
        self.primary = Some(path);
    }

    /// What the links have carried until now, and the epoch that is stamped.
    pub(crate) fn sample(&mut self, now: Duration, carried: CarriedByLink, epoch: Option<u32>) {
        self.epochs.extend(epoch);
        while self.samples.get(1).is_some_and(|(at, _)| *at + WINDOW <= now) {
            self.samples.pop_front();
        }
        self.samples.push_back((now, carried));
        let Some(path) = self.observed() else { return };
        if self.path.as_ref().is_some_and(|last| *last != path) {
            self.changes += 1;
        }
        self.path = Some(path);
    }

    /// Bytes per second that each direction delivered of late.
    pub(crate) fn rates(&self) -> BTreeMap<(usize, usize), f64> {
        let (Some((from, first)), Some((to, last))) = (self.samples.front(), self.samples.back()) else {
            return BTreeMap::new();
        };
        let seconds = to.saturating_sub(*from).as_secs_f64();
        if seconds == 0.0 {
            return BTreeMap::new();
        }
        let rate = |(direction, carried): (&(usize, usize), &Carried)| {
            let before = first.get(direction).map_or(0, |carried| carried.bytes);
            (*direction, carried.bytes.saturating_sub(before) as f64 / seconds)
        };
        last.iter().map(rate).collect()
    }

    /// The path of the video as it was last seen whole: relays counted from 0, first to last.
    pub(crate) fn path(&self) -> Option<&[usize]> {
        self.path.as_deref()
    }

    /// How often it changed.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// How many epochs were stamped.
    pub(crate) fn epochs(&self) -> u64 {
        self.epochs.len() as u64
    }

    /// Follows the heaviest directions from the first relay; `None` unless they lead to the last. Of two that carry about
    /// the same, as protected streams make them, the one to follow counts.
    fn observed(&self) -> Option<Vec<usize>> {
        let rates = self.rates();
        let mut path = vec![0];
        while *path.last()? != self.relays - 1 {
            let here = *path.last()?;
            let onward = rates.iter().filter(|((from, to), rate)| {
                *from == here && !path.contains(to) && **rate > VIDEO_BYTES_PER_S
            });
            let primary = self.primary.iter().flat_map(|path| path.windows(2)).find(|hop| hop[0] == here);
            let weight = |((_, to), rate): &(&(usize, usize), &f64)| {
                if primary.is_some_and(|hop| hop[1] == *to) { **rate * MORE } else { **rate }
            };
            let ((_, next), _) = onward.max_by(|a, b| weight(a).total_cmp(&weight(b)))?;
            path.push(*next);
        }
        Some(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a monitor over seconds in which these paths carry 250 kB/s each and every other direction 2 kB/s.
    fn watch(paths: &[&[usize]]) -> Monitor {
        let mut monitor = Monitor::new(4);
        let mut carried = CarriedByLink::new();
        let mut now = Duration::ZERO;
        for path in paths {
            for _ in 0..10 {
                for direction in (0..4).flat_map(|from| (0..4).map(move |to| (from, to))) {
                    let hops: Vec<_> = path.windows(2).map(|hop| (hop[0], hop[1])).collect();
                    let bytes = if hops.contains(&direction) { 25_000 } else { 200 };
                    carried.entry(direction).or_default().bytes += bytes;
                }
                now += Duration::from_millis(100);
                monitor.sample(now, carried.clone(), Some(path.len() as u32));
            }
        }
        monitor
    }

    #[test]
    fn a_path_is_followed_and_its_changes_counted() {
        let monitor = watch(&[&[0, 1, 3]]);
        assert_eq!((monitor.path(), monitor.changes()), (Some(&[0, 1, 3][..]), 0));
        let monitor = watch(&[&[0, 1, 3], &[0, 2, 3], &[0, 3]]);
        assert_eq!((monitor.path(), monitor.changes()), (Some(&[0, 3][..]), 2));
        assert_eq!(monitor.epochs(), 2);
    }

    #[test]
    fn of_two_ways_at_once_the_one_that_is_followed_counts_while_it_carries() {
        let sample = |monitor: &mut Monitor, now: u64, ways: &[&[usize]]| {
            let mut carried = CarriedByLink::new();
            for (way, extra) in ways.iter().zip([0, 300]) {
                for hop in way.windows(2) {
                    carried.entry((hop[0], hop[1])).or_default().bytes = now * (250 + extra / 10);
                }
            }
            monitor.sample(Duration::from_millis(now), carried, Some(1));
        };
        for first in [[0, 1, 3], [0, 2, 3]] {
            let mut monitor = Monitor::new(4);
            monitor.follow(first.to_vec());
            (0..20).for_each(|tenth| sample(&mut monitor, tenth * 100, &[&[0, 1, 3], &[0, 2, 3]]));
            assert_eq!((monitor.path(), monitor.changes()), (Some(&first[..]), 0));
        }
    }

    #[test]
    fn a_path_that_breaks_off_leaves_the_last_one_standing() {
        let monitor = watch(&[&[0, 1, 3], &[0, 1]]);
        assert_eq!((monitor.path(), monitor.changes()), (Some(&[0, 1, 3][..]), 0));
    }
}
