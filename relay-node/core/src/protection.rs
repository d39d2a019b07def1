//! 1+1 protection: each packet of a stream that asks for it leaves its ingress on two planes at once, and the first copy
//! that comes to an egress is delivered.
//!
//! Which two planes, the tables say for each destination: their paths share no link, and no relay where that can be had.
//! Both copies bear a bit that keeps relays from moving them: the plane that one would move to is the other's, and a
//! failure that stops one copy spares the other. So nothing has to be noticed for nothing to be lost, and of each plane
//! and stamp there is one copy on a link still. Each plane's copy splits on its way like any frame, so the price is that
//! of a second tree, whoever many subscribe.
//!
//! Where no two planes are apart a destination is served like one of any other stream, in a copy that relays may move.

use crate::relay::Relay;
use std::ops::Range;
use wire_format::{DestinationSet, MediaHeader, NodeIndex, Plane, PlanePair, Timestamp};

/// The copies in which a packet of a protected stream may leave, each to the destinations whose pair has its plane.
const COPIES: [Option<Plane>; 4] = [Some(Plane::PRIMARY), Some(Plane::RED), Some(Plane::BLUE), None];

impl Relay {
    /// Sends a packet of a protected stream on its way. `header` is as that of an unprotected one.
    pub(crate) fn forward_protected(&mut self, now: Timestamp, header: &MediaHeader, packet: &Range<usize>) {
        let mut copies = 0;
        for plane in COPIES {
            let mut done = 0;
            while let Some((destinations, taken)) = self.part(header, plane, done) {
                done += taken;
                let mut copy = MediaHeader {
                    plane: plane.unwrap_or(Plane::PRIMARY),
                    protected: plane.is_some(),
                    destinations,
                    ..*header
                };
                self.forward(now, &mut copy, packet.clone(), None);
            }
            match plane {
                Some(_) => copies += done,
                None => self.counters.media_unprotected += done as u64,
            }
        }
        self.counters.media_protected += (copies / 2) as u64;
    }

    /// The destinations of one copy, but for so many of them, as far as one set holds them, and how many these are.
    fn part(
        &mut self,
        header: &MediaHeader,
        plane: Option<Plane>,
        but_for: usize,
    ) -> Option<(DestinationSet, usize)> {
        let table = self.tables.of_frame(header.epoch).map(|(table, _)| table);
        let wanted = |node: &NodeIndex| goes(table.and_then(|table| table.pair(header.policy, *node)), plane);
        self.scratch_nodes.clear();
        self.scratch_nodes.extend(header.destinations.iter().filter(wanted).skip(but_for));
        (!self.scratch_nodes.is_empty()).then(|| DestinationSet::take(&self.scratch_nodes))
    }
}

/// Whether a destination with this pair gets the copy on `plane`, or the one that is alone.
fn goes(pair: Option<PlanePair>, plane: Option<Plane>) -> bool {
    match (pair, plane) {
        (Some(pair), Some(plane)) => pair.planes().contains(&plane),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}
