//! Routes from a topology and the routes before.
//!
//! While the same relays may be passed alike, each destination is looked at by itself for what changed links mean to it:
//! mostly nothing. The primary plane is what a computation from nothing would give; the redundant planes keep the past, by
//! rules that hold for one destination after the other and do not depend on how it was found out that nothing is to be done.

use super::blocks::Blocks;
use super::forest::{Forester, TreeCosts, Trees};
use super::mesh::{LinkChange, Mesh};
use super::redundant::Side;
use super::risks::Groups;
use super::shortest::{Shortest, Ways};
use super::{BLUE, Births, NOWHERE, PLANES, RED, Routes, Towards};
use crate::executor::Executor;
use crate::topology::Topology;
use std::sync::Arc;
use wire_format::{Plane, Timestamp};

/// New trees that share no less replace old ones when they cost less than this share of them.
const BETTER_PCT: u128 = 90;
/// Each computation judges the trees of so many destinations that their links, counted once for each, are about as many: all
/// destinations of 34 relays with links to all others, one of a thousand with 32 links each.
const JUDGED_LINKS: usize = 40_000;
const SIDES: [(Plane, Side); 2] = [(RED, Side::Red), (BLUE, Side::Blue)];

impl Routes {
    /// Shortest paths and redundant trees between all relays. Paths that stood in `before` keep their age, and trees
    /// their shape as long as it is good enough.
    /// The executor decides where the work is done, and nothing else.
    pub(crate) fn compute(
        now: Timestamp,
        topology: &Topology,
        before: Option<&Routes>,
        executor: Executor,
    ) -> Routes {
        let following = before.and_then(|before| Some((before, Mesh::following(&before.mesh, topology)?)));
        match following {
            Some((before, (mesh, changes))) => before.updated(now, Arc::new(mesh), changes, executor),
            None => Routes::afresh(now, Arc::new(Mesh::of(topology)), before, executor),
        }
    }

    fn afresh(now: Timestamp, mesh: Arc<Mesh>, before: Option<&Routes>, executor: Executor) -> Routes {
        let blocks = Arc::new(Blocks::of_passable(&mesh));
        // By place: where each relay was before.
        let places_before = before.map(|before| {
            (0..mesh.len()).map(|relay| before.mesh.place(mesh.relay(relay))).collect::<Vec<_>>()
        });
        // As long as none differs from the others all are the same.
        let births = Arc::new(Births(vec![Births::tick(now); mesh.len()]));
        let pieces = executor.map(mesh.len(), |range| {
            let mut forester = Forester::new(&mesh, &blocks);
            let mut shortest = Shortest::new(&mesh);
            let mut piece = Piece::new(mesh.len());
            for destination in range {
                let primary = shortest.towards(destination);
                count_passing(&mut piece.passing, &primary.next, destination);
                let (trees, costs_us) = forester.towards(destination, &primary);
                let mut backups = vec![0; mesh.len()];
                choose_backups(&mut backups, &mesh, &primary, &trees, destination, &costs_us);
                let mut towards = Towards {
                    primary: Arc::new(primary),
                    trees: Arc::new(trees),
                    backups: Arc::new(backups),
                    births: [0; 3].map(|_| Arc::clone(&births)),
                };
                if let (Some(before), Some(places)) = (before, &places_before) {
                    towards.keep_ages(&mesh, before, places, destination);
                }
                piece.destinations.push(towards);
            }
            piece
        });
        let (destinations, passing) = Piece::joined(pieces, vec![0; mesh.len()]);
        Routes { mesh, blocks, destinations, passing, turn: 0 }
    }

    fn updated(
        &self,
        now: Timestamp,
        mesh: Arc<Mesh>,
        changes: Vec<LinkChange>,
        executor: Executor,
    ) -> Routes {
        let blocks = if changes.is_empty() {
            Arc::clone(&self.blocks)
        } else {
            Arc::new(self.blocks.following(&mesh, &changes))
        };
        let update = Update::of(self, &mesh, &blocks, changes);
        let pieces = executor.map(mesh.len(), |range| {
            let mut forester = Forester::new(&mesh, &blocks);
            let mut shortest = Shortest::new(&mesh);
            let mut piece = Piece::new(mesh.len());
            for destination in range {
                let before = &self.destinations[destination];
                let mut towards = before.clone();
                let repaired = shortest.repair(destination, &before.primary, &update.changes);
                let turned = repaired.map_or_else(Vec::new, |(primary, turned)| {
                    let ways = [&before.primary, &primary];
                    recount_passing(&mut piece.passing, &mesh, ways, &turned, destination);
                    towards.primary = Arc::new(primary);
                    turned
                });
                let grown = update.trees(&before.trees, destination, &towards.primary, &mut forester);
                towards.take(&mesh, destination, grown, turned);
                towards.keep_births(now, before);
                piece.destinations.push(towards);
            }
            piece
        });
        let (destinations, passing) = Piece::joined(pieces, self.passing.clone());
        let turn = update.next_turn();
        Routes { mesh: Arc::clone(&mesh), blocks: Arc::clone(&blocks), destinations, passing, turn }
    }
}

/// What came of some destinations, one after the other.
struct Piece {
    destinations: Vec<Towards>,
    /// By place of the relay: how many more pairs have a way through it.
    passing: Vec<i64>,
}

impl Piece {
    fn new(len: usize) -> Piece {
        Piece { destinations: Vec::new(), passing: vec![0; len] }
    }

    /// All destinations, and how many pairs pass each relay where so many did before.
    fn joined(pieces: Vec<Piece>, mut passing: Vec<u64>) -> (Vec<Towards>, Vec<u64>) {
        let mut destinations = Vec::with_capacity(passing.len());
        for piece in pieces {
            destinations.extend(piece.destinations);
            for (pairs, more) in passing.iter_mut().zip(piece.passing) {
                *pairs =
                    pairs.checked_add_signed(more).expect("ways are taken away that were counted before");
            }
        }
        (destinations, passing)
    }
}

/// What is another in a newer mesh of the same relays.
struct Update<'a> {
    mesh: &'a Mesh,
    blocks: &'a Blocks,
    changes: Vec<LinkChange>,
    /// Links that led both ways and do not any more, from both ends; and these alone.
    gone: Vec<LinkChange>,
    gone_ends: Vec<(usize, usize)>,
    /// Whether relays hang together as they did, so that trees of before share no more than they must.
    hangs_alike: bool,
    /// The destinations whose trees are judged: the first, and how many.
    judged: (usize, usize),
}

/// What becomes of a destination's trees.
enum Grown {
    /// They stay.
    Kept,
    /// These relays took another link.
    Mended(Trees, Vec<u32>),
    /// They were made from nothing.
    Fresh(Trees, TreeCosts),
}

impl<'a> Update<'a> {
    fn of(before: &Routes, mesh: &'a Mesh, blocks: &'a Blocks, changes: Vec<LinkChange>) -> Update<'a> {
        let mut gone = Vec::new();
        let mut hangs_alike = blocks.are_like(&before.blocks);
        for change in changes.iter().filter(|change| change.before_us.is_none() != change.after_us.is_none())
        {
            for (from, to) in [(change.from, change.to), (change.to, change.from)] {
                let costs = |mesh: &Mesh| mesh.cost_us(from, to).zip(mesh.cost_us(to, from));
                match (costs(&before.mesh), costs(mesh)) {
                    (Some((before_us, _)), None) => {
                        let before_us = Some(u32::try_from(before_us).unwrap_or(u32::MAX));
                        gone.push(LinkChange { from, to, before_us, after_us: None });
                    }
                    // Relays that must not be passed are in no block.
                    (None, Some(_)) => hangs_alike &= mesh.is_passable(from) && mesh.is_passable(to),
                    (Some(_), Some(_)) | (None, None) => {}
                }
            }
        }
        gone.sort_unstable_by_key(|link| (link.from, link.to));
        gone.dedup();
        let gone_ends = gone.iter().map(|link| (link.from, link.to)).collect();
        let judged = (JUDGED_LINKS / mesh.link_count().max(1)).clamp(1, mesh.len().max(1));
        Update { mesh, blocks, changes, gone, gone_ends, hangs_alike, judged: (before.turn, judged) }
    }

    fn next_turn(&self) -> usize {
        (self.judged.0 + self.judged.1) % self.mesh.len().max(1)
    }

    fn is_judged(&self, destination: usize) -> bool {
        let (first, count) = self.judged;
        (destination + self.mesh.len() - first) % self.mesh.len() < count
    }

    fn trees(&self, before: &Trees, destination: usize, ways: &Ways, forester: &mut Forester<'_>) -> Grown {
        let kept = if !self.hangs_alike {
            None
        } else if before.take_any(&self.gone_ends) {
            before.mended(self.mesh, self.blocks, destination, &self.gone).map(Some)
        } else {
            Some(None)
        };
        if kept.is_some() && !self.is_judged(destination) {
            return kept.flatten().map_or(Grown::Kept, |(trees, moved)| Grown::Mended(trees, moved));
        }
        let (fresh, costs_us) = forester.towards(destination, ways);
        let Some(kept) = kept else { return Grown::Fresh(fresh, costs_us) };
        let kept_trees = kept.as_ref().map_or(before, |(trees, _)| trees);
        let kept_us = kept_trees.costs(self.mesh, destination);
        if self.are_worth_it(destination, (&fresh, &costs_us), (kept_trees, &kept_us)) {
            return Grown::Fresh(fresh, costs_us);
        }
        kept.map_or(Grown::Kept, |(trees, moved)| Grown::Mended(trees, moved))
    }
}

impl Update<'_> {
    /// Whether fresh trees take the place of kept ones: when they are much cheaper, or share less at all. One relay whose ways
    /// fail together is a small part of what all ways cost, and would otherwise stay as links happened to be when the trees
    /// were made. What is gained so is given up again for much cheaper trees only, so prices that tremble turn nothing.
    fn are_worth_it(
        &self,
        destination: usize,
        (fresh, fresh_us): (&Trees, &TreeCosts),
        (kept, kept_us): (&Trees, &TreeCosts),
    ) -> bool {
        let sharing_us = [fresh, kept].map(|trees| trees.sharing_us(self.mesh, destination));
        let [fresh_us, kept_us] =
            [Trees::ways_us(fresh_us) + sharing_us[0], Trees::ways_us(kept_us) + sharing_us[1]];
        fresh_us * 100 < kept_us * BETTER_PCT || sharing_us[0] < sharing_us[1] && fresh_us < kept_us
    }
}

impl Towards {
    /// Takes over trees, and chooses anew for those relays whose backup may serve no longer. `turned` are the relays with
    /// another primary next hop.
    fn take(&mut self, mesh: &Mesh, destination: usize, grown: Grown, mut turned: Vec<u32>) {
        if matches!(grown, Grown::Kept) && turned.is_empty() {
            return;
        }
        let mut backups = self.backups.to_vec();
        match grown {
            Grown::Fresh(trees, costs_us) => {
                choose_backups(&mut backups, mesh, &self.primary, &trees, destination, &costs_us);
                self.trees = Arc::new(trees);
            }
            Grown::Mended(trees, moved) => {
                turned.extend(trees.all_behind(mesh, moved));
                self.trees = Arc::new(trees);
                keep_backups(&mut backups, mesh, &self.primary, &self.trees, destination, &turned);
            }
            Grown::Kept => {
                keep_backups(&mut backups, mesh, &self.primary, &self.trees, destination, &turned);
            }
        }
        if backups != *self.backups {
            self.backups = Arc::new(backups);
        }
    }

    /// Rows whose next hop is what it was are as old as they were.
    fn keep_births(&mut self, now: Timestamp, before: &Towards) {
        for plane in PLANES {
            if before.is_shared(plane, self) {
                continue;
            }
            let (Some(next_before), Some(next)) = (before.next(plane), self.next(plane)) else { continue };
            if next_before == next {
                continue;
            }
            let mut births = Births::clone(&before.births[usize::from(plane.0)]);
            let rows = births.0.iter_mut().zip(next_before.iter().zip(next));
            for (birth, _) in rows.filter(|(_, (before, now))| before != now) {
                *birth = Births::tick(now);
            }
            self.births[usize::from(plane.0)] = Arc::new(births);
        }
    }

    /// The same where relays had other places before, or were not there.
    fn keep_ages(&mut self, mesh: &Mesh, before: &Routes, places: &[Option<usize>], destination: usize) {
        let Some(towards) = places[destination].map(|place| &before.destinations[place]) else { return };
        for plane in PLANES {
            let (Some(next_before), Some(next)) = (towards.next(plane), self.next(plane)) else { continue };
            let births_before = &towards.births[usize::from(plane.0)];
            let mut births = Births::clone(&self.births[usize::from(plane.0)]);
            for (relay, next) in next.iter().enumerate().filter(|(_, next)| **next != NOWHERE) {
                let Some(place) = places[relay] else { continue };
                let same = next_before[place] != NOWHERE
                    && before.mesh.relay(usize::from(next_before[place])) == mesh.relay(usize::from(*next));
                if same {
                    births.0[relay] = births_before.0[place];
                }
            }
            self.births[usize::from(plane.0)] = Arc::new(births);
        }
    }
}

/// For each relay, the redundant plane whose way to the destination avoids the primary next hop and the link to it.
/// If both do, one that passes no group which may fail together with that next hop, and the cheaper one.
fn choose_backups(
    backups: &mut [u8],
    mesh: &Mesh,
    primary: &Ways,
    trees: &Trees,
    destination: usize,
    costs_us: &TreeCosts,
) {
    let passed = trees.passed(mesh);
    for (relay, backup) in backups.iter_mut().enumerate() {
        let suspected = suspected_groups(mesh, primary, relay, destination);
        let rank = |side: Side| {
            let passed =
                passed[side as usize].get(usize::from(trees.next(side)[relay])).copied().unwrap_or(0);
            (passed & suspected != 0, costs_us[side as usize][relay])
        };
        let serving = SIDES.into_iter().filter(|(_, side)| serves(primary, trees, *side, relay, destination));
        let best = serving.map(|(plane, side)| (rank(side), plane.0)).min();
        *backup = best.map_or(0, |(_, plane)| plane);
    }
}

/// The same for these relays, but what they have stays if it serves.
fn keep_backups(
    backups: &mut [u8],
    mesh: &Mesh,
    primary: &Ways,
    trees: &Trees,
    destination: usize,
    relays: &[u32],
) {
    let link_us = |from, to| mesh.cost_us(from, to).unwrap_or(0);
    for relay in relays.iter().map(|relay| *relay as usize) {
        let serves = |(_, side): &(Plane, Side)| serves(primary, trees, *side, relay, destination);
        if SIDES.iter().any(|side| side.0.0 == backups[relay] && serves(side)) {
            continue;
        }
        let suspected = suspected_groups(mesh, primary, relay, destination);
        let rank = |(plane, side): &(Plane, Side)| {
            let shares = trees.passes_any(*side, relay, destination, mesh, suspected);
            (shares, trees.cost_us(*side, relay, mesh, link_us), plane.0)
        };
        let best = SIDES.into_iter().filter(serves).min_by_key(rank);
        backups[relay] = best.map_or(0, |(plane, _)| plane.0);
    }
}

/// What may have failed together with the next hop that a relay suspects, its own groups and the destination's left out.
fn suspected_groups(mesh: &Mesh, primary: &Ways, relay: usize, destination: usize) -> Groups {
    let suspect = primary.next[relay];
    if suspect == NOWHERE || usize::from(suspect) == destination {
        return 0;
    }
    let groups = |place| mesh.risks().groups(place);
    groups(usize::from(suspect)) & !(groups(relay) | groups(destination))
}

/// Whether a relay's way on a tree avoids its primary next hop and the link to it.
fn serves(primary: &Ways, trees: &Trees, side: Side, relay: usize, destination: usize) -> bool {
    let suspect = primary.next[relay];
    suspect != NOWHERE && trees.avoids(side, relay, usize::from(suspect), destination)
}

/// Those whom a relay's way passes between its ends.
fn passed(next: &[u16], relay: usize, destination: usize) -> impl Iterator<Item = usize> + '_ {
    let onwards = |at: u16| (at != NOWHERE).then_some(usize::from(at));
    std::iter::successors(onwards(next[relay]), move |at| onwards(next[*at]))
        .take_while(move |at| *at != destination)
}

fn count_passing(passing: &mut [i64], next: &[u16], destination: usize) {
    for relay in 0..next.len() {
        for at in passed(next, relay, destination) {
            passing[at] += 1;
        }
    }
}

/// The same after some relays turned to other next hops: whoever comes by one of them passes others than before.
fn recount_passing(
    passing: &mut [i64],
    mesh: &Mesh,
    [before, now]: [&Ways; 2],
    turned: &[u32],
    destination: usize,
) {
    let mut counted = vec![false; mesh.len()];
    let mut open = turned.to_vec();
    while let Some(relay) = open.pop() {
        let relay = relay as usize;
        if std::mem::replace(&mut counted[relay], true) {
            continue;
        }
        for at in passed(&before.next, relay, destination) {
            passing[at] -= 1;
        }
        for at in passed(&now.next, relay, destination) {
            passing[at] += 1;
        }
        let comes_by =
            mesh.links_to(relay).iter().filter(|link| usize::from(now.next[link.other as usize]) == relay);
        open.extend(comes_by.map(|link| link.other));
    }
}

#[cfg(test)]
mod tests;
