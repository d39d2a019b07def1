//! What several relays may lose together: a region, an ISP, what an operator says they share.
//!
//! Groups are bits, so that what a way passes is one word, and what two ways have in common is one operation. Two ways that
//! share no group are sought, not promised: whether there are two is a question that no known algorithm answers quickly for
//! all graphs (Hu, "Diverse routing in optical mesh networks", 2003), and trees have less choice than single ways, since each
//! relay's way goes on as its next hop's. What is done: an ear that shares a group with the shortest path beside it comes
//! later, as if it were dearer; and each relay takes, of the ways that the line allows it, the cheapest one after a group that
//! both trees share has been counted as so much more way. Neither touches what the line is for: red and blue of a relay share
//! no link and no relay that another way avoids, whatever the groups are. The standard leaves shared risks to the computation
//! of single alternates in the same manner (RFC 7812, section 6; RFC 7916, section 6.2.2).
//!
//! The groups of a way's own ends do not count: when they fail, nobody is there to be reached.

use crate::topology::{Risk, Topology};
use wire_format::NodeIndex;

/// Groups as bits.
pub(super) type Groups = u128;

/// So many groups are looked at, those of the most relays first.
const GROUPS_MAX: usize = Groups::BITS as usize;
/// What it is worth to a relay that its ways share one group less, in microseconds of way: the most that it costs them.
pub(super) const SHARED_US: u64 = 20_000;
/// Ways that share more than this are no worse.
const SHARED_MAX: u32 = 2;

/// The groups of all relays of a mesh.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Risks {
    /// By bit.
    names: Vec<Risk>,
    /// By place; empty if there are no groups.
    groups: Vec<Groups>,
    /// How many did not fit.
    left_out: usize,
}

impl Risks {
    /// Groups of two relays or more, as long as somebody is in no such group: what all are in nobody can avoid.
    pub(super) fn of(topology: &Topology, relays: &[NodeIndex]) -> Risks {
        let mut groups: Vec<_> = topology
            .risks()
            .map(|(risk, members)| {
                let places = members.iter().filter_map(|member| relays.binary_search(member).ok());
                (risk, places.collect::<Vec<usize>>())
            })
            .filter(|(_, places)| (2..relays.len()).contains(&places.len()))
            .collect();
        // Stable: of equally many the first by name.
        groups.sort_by_key(|(_, places)| std::cmp::Reverse(places.len()));
        let left_out = groups.len().saturating_sub(GROUPS_MAX);
        groups.truncate(GROUPS_MAX);
        let mut risks = Risks { left_out, ..Risks::default() };
        if !groups.is_empty() {
            risks.groups = vec![0; relays.len()];
        }
        for (bit, (risk, places)) in groups.into_iter().enumerate() {
            risks.names.push(risk.clone());
            places.into_iter().for_each(|place| risks.groups[place] |= 1 << bit);
        }
        risks
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// How many groups are not looked at, since there are more than 128.
    pub(super) fn left_out(&self) -> usize {
        self.left_out
    }

    /// Groups of a relay.
    pub(super) fn groups(&self, place: usize) -> Groups {
        self.groups.get(place).copied().unwrap_or(0)
    }

    /// What both of two ways pass between the same ends, which are not among `passed`.
    pub(super) fn shared(&self, ends: [usize; 2], passed: [&[usize]; 2]) -> Groups {
        let [one, other] = passed.map(|way| way.iter().fold(0, |groups, place| groups | self.groups(*place)));
        one & other & !(self.groups(ends[0]) | self.groups(ends[1]))
    }

    /// What groups are called.
    pub(super) fn named(&self, groups: Groups) -> impl Iterator<Item = &Risk> {
        self.names.iter().enumerate().filter(move |(bit, _)| groups & (1 << bit) != 0).map(|(_, risk)| risk)
    }
}

/// What sharing these groups counts as, in microseconds of way.
pub(super) fn shared_us(groups: Groups) -> u64 {
    u64::from(groups.count_ones().min(SHARED_MAX)) * SHARED_US
}
