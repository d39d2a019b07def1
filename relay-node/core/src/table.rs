//! The route tables of two epochs, compiled for one look-up per destination.

use std::collections::BTreeSet;
use wire_format::{Epoch, NodeIndex, Plane, RouteTable};

/// No relay has this index: it marks a destination without a route.
const NO_HOP: u16 = u16::MAX;
const PLANES: usize = 3;

#[derive(Debug)]
struct Compiled {
    source: RouteTable,
    /// By plane, then by destination.
    next: [Vec<u16>; PLANES],
}

impl Compiled {
    fn new(source: RouteTable) -> Compiled {
        let mut next: [Vec<u16>; PLANES] = Default::default();
        for ((plane, destination), hop) in &source.next_hops {
            let Some(row) = next.get_mut(usize::from(plane.0)) else { continue };
            let at = usize::from(destination.0);
            if row.len() <= at {
                row.resize(at + 1, NO_HOP);
            }
            row[at] = hop.0;
        }
        Compiled { source, next }
    }

    fn next_hop(&self, plane: Plane, destination: NodeIndex) -> Option<NodeIndex> {
        let hop = *self.next.get(usize::from(plane.0))?.get(usize::from(destination.0))?;
        (hop != NO_HOP).then_some(NodeIndex(hop))
    }
}

/// The newest tables, those before them, and the epoch to stamp.
#[derive(Debug)]
pub(crate) struct Tables {
    newest: Option<Compiled>,
    previous: Option<Compiled>,
    stamp: Option<Epoch>,
}

impl Tables {
    pub(crate) fn new() -> Tables {
        Tables { newest: None, previous: None, stamp: None }
    }

    /// Holds new tables beside those that frames carry: the newest so far, or the ones before it if the newest were never
    /// stamped because the controller that prepared them is gone. `false` if they are older than the newest.
    pub(crate) fn install(&mut self, table: RouteTable) -> bool {
        match self.newest.as_ref().map(|newest| newest.source.epoch) {
            Some(epoch) if table.epoch < epoch => return false,
            Some(epoch) if table.epoch == epoch => {}
            Some(_) if self.stamps_previous() => {}
            Some(_) | None => self.previous = self.newest.take(),
        }
        self.newest = Some(Compiled::new(table));
        true
    }

    fn stamps_previous(&self) -> bool {
        let previous = self.previous.as_ref().map(|previous| previous.source.epoch);
        previous.is_some() && previous == self.stamp
    }

    /// Stamps this epoch from now on, if its tables are held.
    pub(crate) fn stamp_with(&mut self, epoch: Epoch) -> bool {
        let held =
            [&self.newest, &self.previous].into_iter().flatten().any(|held| held.source.epoch == epoch);
        if held && self.stamp.is_none_or(|stamp| stamp <= epoch) {
            self.stamp = Some(epoch);
        }
        self.stamp == Some(epoch)
    }

    /// The epoch that new frames carry.
    pub(crate) fn stamp(&self) -> Epoch {
        let oldest_held =
            self.previous.as_ref().or(self.newest.as_ref()).map_or(Epoch(0), |held| held.source.epoch);
        self.stamp.map_or(oldest_held, |stamp| stamp.max(oldest_held))
    }

    /// Tables of the epoch that a frame carries, or the newest and `false`.
    pub(crate) fn of_frame(&self, tag: u16) -> Option<(TableRef<'_>, bool)> {
        let newest = self.newest.as_ref()?;
        if newest.source.epoch.tag() == tag {
            return Some((TableRef(newest), true));
        }
        match &self.previous {
            Some(previous) if previous.source.epoch.tag() == tag => Some((TableRef(previous), true)),
            Some(_) | None => Some((TableRef(newest), false)),
        }
    }

    /// Where a frame without epoch goes.
    pub(crate) fn next_hop(&self, destination: NodeIndex) -> Option<NodeIndex> {
        self.newest.as_ref()?.next_hop(Plane::PRIMARY, destination)
    }

    /// Neighbours that some route leads over.
    pub(crate) fn hops(&self) -> BTreeSet<NodeIndex> {
        self.held().flat_map(|table| table.next_hops.values().copied()).collect()
    }

    /// Newest tables first.
    pub(crate) fn held(&self) -> impl Iterator<Item = &RouteTable> {
        [&self.newest, &self.previous].into_iter().flatten().map(|held| &held.source)
    }

    pub(crate) fn newest_epoch(&self) -> Option<Epoch> {
        self.newest.as_ref().map(|newest| newest.source.epoch)
    }
}

/// The tables that forward one frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TableRef<'a>(&'a Compiled);

impl TableRef<'_> {
    pub(crate) fn next_hop(self, plane: Plane, destination: NodeIndex) -> Option<NodeIndex> {
        self.0.next_hop(plane, destination)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(epoch: u32, hop: u16) -> RouteTable {
        let mut table = RouteTable::new(Epoch(epoch));
        table.next_hops.insert((Plane::PRIMARY, NodeIndex(9)), NodeIndex(hop));
        table
    }

    #[test]
    fn a_frame_goes_by_its_own_epoch_and_a_stranger_by_the_newest() {
        let mut tables = Tables::new();
        assert!(tables.of_frame(0).is_none());
        for (epoch, hop) in [(65_536, 1), (65_537, 2), (65_538, 3)] {
            assert!(tables.install(table(epoch, hop)));
        }
        assert!(!tables.install(table(65_537, 4)), "older than the newest");
        let hop_of = |tag| {
            let (table, known) = tables.of_frame(tag).expect("tables are held");
            (table.next_hop(Plane::PRIMARY, NodeIndex(9)).map(|hop| hop.0), known)
        };
        assert_eq!([hop_of(2), hop_of(1), hop_of(0)], [(Some(3), true), (Some(2), true), (Some(3), false)]);
    }

    #[test]
    fn the_stamp_never_goes_back_and_never_names_tables_that_are_gone() {
        let mut tables = Tables::new();
        tables.install(table(1, 1));
        assert!(tables.stamp_with(Epoch(1)));
        assert!(!tables.stamp_with(Epoch(2)), "not held yet");
        tables.install(table(2, 1));
        assert_eq!(tables.stamp(), Epoch(1));
        assert!(tables.stamp_with(Epoch(2)));
        assert!(!tables.stamp_with(Epoch(1)));
        tables.install(table(3, 1));
        assert!(tables.stamp_with(Epoch(3)));
        tables.install(table(4, 1));
        assert_eq!(tables.stamp(), Epoch(3));
    }

    #[test]
    fn tables_that_frames_carry_outlive_a_controller_that_died_before_the_next_were_stamped() {
        let mut tables = Tables::new();
        tables.install(table(8, 1));
        assert!(tables.stamp_with(Epoch(8)));
        tables.install(table(9, 2));
        // Its successor prepares tables of its own; nobody ever stamped 9.
        tables.install(table(258, 3));
        assert_eq!(tables.stamp(), Epoch(8));
        assert!(tables.of_frame(8).is_some_and(|(_, known)| known));
        assert!(tables.of_frame(258).is_some_and(|(_, known)| known));
        assert!(tables.of_frame(9).is_some_and(|(_, known)| !known));
        assert!(tables.stamp_with(Epoch(258)));
        tables.install(table(259, 4));
        assert!(tables.of_frame(8).is_some_and(|(_, known)| !known));
    }
}
