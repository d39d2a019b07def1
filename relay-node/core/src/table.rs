//! The route tables of two epochs, and what the state of the links makes of them: for each policy, plane and destination,
//! the link to take and the plane to go on by. Links change rarely and frames come all the time, so a change of either is
//! worked in once for all frames that follow, and a frame costs one look-up per destination.
//!
//! A frame on the primary plane takes the first of these that there is:
//!
//! 1. the primary next hop, over a link that has been up for long enough;
//! 2. the next hop on the plane that the controller named as backup, over a link that is up: the frame **moves** there;
//! 3. the primary next hop, over a link that is up or was down and is heard again;
//! 4. the backup, over a link that was down and is heard again: its end is nearer than that of silence;
//! 5. the primary next hop, over whatever link there is to it: it may be a burst of loss, and there is nothing better;
//! 6. the backup, over whatever link there is.
//!
//! Where other workers of the relay may have a link that this one has not, a missing link says nothing: then the first
//! worker, which has a lane of every link, decides.
//!
//! A frame on a redundant plane stays on it: each of these is a tree towards the destination, so nothing can loop. One of
//! two copies that travel at once stays on the primary plane too. Whatever its plane, a frame stays with its policy; where
//! tables have no rows of that policy, which is then so at all relays, the default one's serve.

use crate::LinkId;
use crate::liveness::Trust;
use std::collections::BTreeSet;
use wire_format::{
    DeltaError, Epoch, MediaHeader, NodeIndex, Plane, PlanePair, PolicyIndex, PolicyTable, RouteTable,
    TableDelta,
};

const PLANES: usize = 3;
/// The ways behind those of the planes: on the primary one, of frames that do not move.
const FIXED: usize = PLANES;

/// The link to a neighbour, and what may be expected of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach {
    pub(crate) link: LinkId,
    pub(crate) trust: Trust,
}

/// How a frame goes on to one destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Way {
    pub(crate) link: LinkId,
    /// Another than the frame's own if it moves.
    pub(crate) plane: Plane,
}

/// Destinations of the primary plane that a change of links moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Moves {
    /// To their backup.
    pub(crate) away: u64,
    /// Back to their primary next hop.
    pub(crate) returned: u64,
}

#[derive(Debug)]
struct Compiled {
    source: RouteTable,
    /// By policy: the place of its ways and pairs, which is that of the default one if it has none of its own.
    places: [u8; PolicyIndex::COUNT],
    /// By that place, by plane, then by destination.
    ways: [[Vec<Option<Way>>; PLANES + 1]; PolicyIndex::COUNT],
    /// By that place, then by destination.
    pairs: [Vec<Option<PlanePair>>; PolicyIndex::COUNT],
}

impl Compiled {
    fn new(source: RouteTable) -> Compiled {
        let mut places = [PolicyIndex::DEFAULT.bits(); PolicyIndex::COUNT];
        let mut pairs: [Vec<Option<PlanePair>>; PolicyIndex::COUNT] = Default::default();
        for (policy, table) in source.policies() {
            places[policy.place()] = policy.bits();
            for (destination, pair) in &table.pairs {
                *place(&mut pairs[policy.place()], usize::from(destination.0)) = Some(*pair);
            }
        }
        Compiled { source, places, ways: Default::default(), pairs }
    }

    fn compile(&mut self, decides: bool, reach: &impl Fn(NodeIndex) -> Option<Reach>) -> Moves {
        let mut moves = Moves::default();
        for (policy, table) in self.source.policies() {
            compile_policy(table, &mut self.ways[policy.place()], decides, reach, &mut moves);
        }
        moves
    }

    fn ways(&self, policy: PolicyIndex) -> &[Vec<Option<Way>>; PLANES + 1] {
        &self.ways[usize::from(self.places[policy.place()] & 0x07)]
    }

    fn way(&self, policy: PolicyIndex, plane: Plane, destination: NodeIndex) -> Option<Way> {
        *self.ways(policy).get(usize::from(plane.0))?.get(usize::from(destination.0))?
    }

    fn fixed_way(&self, policy: PolicyIndex, destination: NodeIndex) -> Option<Way> {
        *self.ways(policy)[FIXED].get(usize::from(destination.0))?
    }

    fn pair(&self, policy: PolicyIndex, destination: NodeIndex) -> Option<PlanePair> {
        let pairs = &self.pairs[usize::from(self.places[policy.place()])];
        *pairs.get(usize::from(destination.0))?
    }
}

fn compile_policy(
    source: &PolicyTable,
    ways: &mut [Vec<Option<Way>>; PLANES + 1],
    decides: bool,
    reach: &impl Fn(NodeIndex) -> Option<Reach>,
    moves: &mut Moves,
) {
    for ((plane, destination), hop) in &source.next_hops {
        let at = usize::from(destination.0);
        let own = reach(*hop);
        if *plane == Plane::PRIMARY {
            *place(&mut ways[FIXED], at) = own.map(|own| Way { link: own.link, plane: *plane });
        }
        let Some(row) = ways[..PLANES].get_mut(usize::from(plane.0)) else { continue };
        let way = if *plane == Plane::PRIMARY {
            let backup = source.backup(*destination);
            let backup = backup.and_then(|plane| Some((plane, source.next_hop(plane, *destination)?)));
            let backup = backup.filter(|_| decides || own.is_some());
            primary_way(own, backup.and_then(|(plane, hop)| Some((plane, reach(hop)?))))
        } else {
            own.map(|own| Way { link: own.link, plane: *plane })
        };
        let has_moved = |way: Option<Way>| way.is_some_and(|way| way.plane != *plane);
        let held = place(row, at);
        match (has_moved(*held), has_moved(way)) {
            (false, true) => moves.away += 1,
            (true, false) => moves.returned += 1,
            (true, true) | (false, false) => {}
        }
        *held = way;
    }
}

fn place<T: Copy>(ways: &mut Vec<Option<T>>, at: usize) -> &mut Option<T> {
    if ways.len() <= at {
        ways.resize(at + 1, None);
    }
    &mut ways[at]
}

fn primary_way(own: Option<Reach>, backup: Option<(Plane, Reach)>) -> Option<Way> {
    let stay = own.map(|own| Way { link: own.link, plane: Plane::PRIMARY });
    let Some((plane, other)) = backup else { return stay };
    let go = Way { link: other.link, plane };
    match (own.map(|own| own.trust), other.trust) {
        (Some(Trust::Firm), _) => stay,
        (_, Trust::Firm | Trust::Fresh) => Some(go),
        (Some(Trust::Fresh | Trust::Heard), Trust::Heard | Trust::None) => stay,
        (Some(Trust::None) | None, Trust::Heard) => Some(go),
        (Some(Trust::None), Trust::None) => stay,
        (None, Trust::None) => Some(go),
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

    /// The tables that changes lead to.
    ///
    /// # Errors
    /// If the tables that they are changes of are not held, or cannot be changed like that.
    pub(crate) fn changed(&self, delta: &TableDelta) -> Result<RouteTable, DeltaError> {
        let base = self.held().find(|held| held.epoch == delta.base);
        base.map_or(Err(DeltaError::OtherBase(delta.base)), |base| delta.apply(base))
    }

    /// Works a change of links or tables into what frames meet. `reach`: the link to a neighbour; `decides`: one that is
    /// missing is gone.
    pub(crate) fn compile(&mut self, decides: bool, reach: impl Fn(NodeIndex) -> Option<Reach>) -> Moves {
        if let Some(previous) = &mut self.previous {
            previous.compile(decides, &reach);
        }
        self.newest.as_mut().map_or(Moves::default(), |newest| newest.compile(decides, &reach))
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

    /// The link by which a frame without epoch goes.
    pub(crate) fn link_towards(&self, destination: NodeIndex) -> Option<LinkId> {
        self.newest.as_ref()?.way(PolicyIndex::DEFAULT, Plane::PRIMARY, destination).map(|way| way.link)
    }

    /// Neighbours that some route leads over.
    pub(crate) fn hops(&self) -> BTreeSet<NodeIndex> {
        let policies = self.held().flat_map(RouteTable::policies);
        policies.flat_map(|(_, table)| table.next_hops.values().copied()).collect()
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
    pub(crate) fn way(self, policy: PolicyIndex, plane: Plane, destination: NodeIndex) -> Option<Way> {
        self.0.way(policy, plane, destination)
    }

    /// The way of a frame.
    pub(crate) fn way_of(self, header: &MediaHeader, destination: NodeIndex) -> Option<Way> {
        if header.protected && header.plane == Plane::PRIMARY {
            self.0.fixed_way(header.policy, destination)
        } else {
            self.0.way(header.policy, header.plane, destination)
        }
    }

    /// The planes on which a frame of a protected stream goes to a destination at once.
    pub(crate) fn pair(self, policy: PolicyIndex, destination: NodeIndex) -> Option<PlanePair> {
        self.0.pair(policy, destination)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(epoch: u32, hop: u16) -> RouteTable {
        let mut table = RouteTable::new(Epoch(epoch));
        table
            .policy_mut(PolicyIndex::DEFAULT)
            .next_hops
            .insert((Plane::PRIMARY, NodeIndex(9)), NodeIndex(hop));
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
        tables.compile(true, |hop| Some(Reach { link: LinkId(hop.0.into()), trust: Trust::Firm }));
        let hop_of = |tag| {
            let (table, known) = tables.of_frame(tag).expect("tables are held");
            (table.way(PolicyIndex::DEFAULT, Plane::PRIMARY, NodeIndex(9)).map(|way| way.link.0), known)
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

    #[test]
    fn every_mix_of_links_sends_a_frame_the_best_way_there_is() {
        const RED: Plane = Plane(1);
        let mut rows = table(1, 1);
        rows.policy_mut(PolicyIndex::DEFAULT).next_hops.insert((RED, NodeIndex(9)), NodeIndex(2));
        rows.policy_mut(PolicyIndex::DEFAULT).backups.insert(NodeIndex(9), RED);
        let mut tables = Tables::new();
        tables.install(rows);
        let trusts = [Some(Trust::Firm), Some(Trust::Fresh), Some(Trust::Heard), Some(Trust::None), None];
        let mut seen = String::new();
        for own in trusts {
            for other in trusts {
                tables.compile(true, |hop| {
                    let trust = if hop == NodeIndex(1) { own } else { other };
                    trust.map(|trust| Reach { link: LinkId(hop.0.into()), trust })
                });
                let (table, _) = tables.of_frame(1).expect("tables are held");
                seen.push(match table.way(PolicyIndex::DEFAULT, Plane::PRIMARY, NodeIndex(9)) {
                    Some(Way { link: LinkId(1), plane: Plane::PRIMARY }) => 'p',
                    Some(Way { link: LinkId(2), plane: RED }) => 'b',
                    Some(way) => panic!("{way:?} is neither"),
                    None => '-',
                });
                let red = table.way(PolicyIndex::DEFAULT, RED, NodeIndex(9));
                assert_eq!(red, other.map(|_| Way { link: LinkId(2), plane: RED }), "red stays red");
            }
            seen.push(' ');
        }
        // Primary firm, fresh, heard, silent, gone; within each, the backup in the same order.
        assert_eq!(seen, "ppppp bbppp bbppp bbbpp bbbb- ");
        tables.compile(false, |hop| {
            (hop == NodeIndex(2)).then_some(Reach { link: LinkId(2), trust: Trust::Firm })
        });
        let (table, _) = tables.of_frame(1).expect("tables are held");
        assert_eq!(
            table.way(PolicyIndex::DEFAULT, Plane::PRIMARY, NodeIndex(9)),
            None,
            "another worker may have the link"
        );
    }

    #[test]
    fn a_policy_goes_by_its_own_rows_and_by_the_default_ones_where_it_has_none() {
        let [own, empty, absent] = [3, 7, 5].map(PolicyIndex::from_bits);
        let mut rows = table(1, 1);
        let other = rows.policy_mut(own);
        other.next_hops.insert((Plane::PRIMARY, NodeIndex(9)), NodeIndex(2));
        other.pairs.insert(NodeIndex(9), PlanePair::RedBlue);
        rows.policy_mut(empty);
        let mut tables = Tables::new();
        tables.install(rows);
        tables.compile(true, |hop| Some(Reach { link: LinkId(hop.0.into()), trust: Trust::Firm }));
        let (table, _) = tables.of_frame(1).expect("tables are held");
        let link = |policy| table.way(policy, Plane::PRIMARY, NodeIndex(9)).map(|way| way.link.0);
        let seen = [PolicyIndex::DEFAULT, own, empty, absent].map(link);
        assert_eq!(seen, [Some(1), Some(2), None, Some(1)]);
        let pairs = [PolicyIndex::DEFAULT, own, absent].map(|policy| table.pair(policy, NodeIndex(9)));
        assert_eq!(pairs, [None, Some(PlanePair::RedBlue), None]);
        assert_eq!(tables.hops(), BTreeSet::from([NodeIndex(1), NodeIndex(2)]));
    }

    #[test]
    fn moves_are_counted_when_they_happen() {
        let mut rows = table(1, 1);
        rows.policy_mut(PolicyIndex::DEFAULT).next_hops.insert((Plane(2), NodeIndex(9)), NodeIndex(2));
        rows.policy_mut(PolicyIndex::DEFAULT).backups.insert(NodeIndex(9), Plane(2));
        let mut tables = Tables::new();
        tables.install(rows);
        let mut compile = |trust| {
            let trust_of = |hop| if hop == NodeIndex(1) { trust } else { Trust::Firm };
            let moves =
                tables.compile(true, |hop| Some(Reach { link: LinkId(hop.0.into()), trust: trust_of(hop) }));
            (moves.away, moves.returned)
        };
        let seen = [Trust::Firm, Trust::None, Trust::Fresh, Trust::Firm].map(&mut compile);
        assert_eq!(seen, [(0, 0), (1, 0), (0, 0), (0, 1)]);
    }
}
