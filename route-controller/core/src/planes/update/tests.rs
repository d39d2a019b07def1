//! Overlays that change at random: what is carried over from one computation to the next against what each rule says where
//! nothing is passed over.

use super::*;
use crate::planes::tests::{Gone, Overlay, between, connected, index, way, with_unwilling};
use crate::topology::Transit;
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug)]
enum Change {
    /// A link costs this many percent of what it cost at first, there and back.
    Cost(Index, u64, u64),
    LinkGone(Index),
    LinkBack(Index),
    RelayGone(Index),
    RelayBack,
    Transit(Index, Transit),
}

/// Mostly links; what a change of a relay means is not carried over anyway.
fn changes() -> impl Strategy<Value = Vec<Vec<Change>>> {
    let transit = prop_oneof![Just(Transit::Willing), Just(Transit::Reluctant), Just(Transit::Never)];
    let change = prop_oneof![
        6 => (any::<Index>(), 20..300_u64, 20..300_u64).prop_map(|(at, out, back)| Change::Cost(at, out, back)),
        8 => any::<Index>().prop_map(Change::LinkGone),
        6 => any::<Index>().prop_map(Change::LinkBack),
        1 => any::<Index>().prop_map(Change::RelayGone),
        2 => Just(Change::RelayBack),
        1 => (any::<Index>(), transit).prop_map(|(at, transit)| Change::Transit(at, transit)),
    ];
    proptest::collection::vec(proptest::collection::vec(change, 1..4), 1..25)
}

/// An overlay of which parts are gone for the moment.
#[derive(Clone, Debug)]
struct Changing {
    whole: Overlay,
    percents: BTreeMap<usize, (u64, u64)>,
    links_gone: BTreeSet<usize>,
    relays_gone: BTreeSet<usize>,
}

impl Changing {
    fn new(whole: Overlay) -> Changing {
        Changing {
            whole,
            percents: BTreeMap::new(),
            links_gone: BTreeSet::new(),
            relays_gone: BTreeSet::new(),
        }
    }

    fn take(&mut self, change: &Change) {
        let link = |at: &Index| at.index(self.whole.links.len());
        let relay = |at: &Index| at.index(self.whole.len());
        match change {
            Change::Cost(at, out, back) => {
                self.percents.insert(link(at), (*out, *back));
            }
            Change::LinkGone(at) => {
                self.links_gone.insert(link(at));
            }
            Change::LinkBack(at) => {
                // One that is gone, if there is one.
                if !self.links_gone.is_empty() {
                    let link =
                        *self.links_gone.iter().nth(at.index(self.links_gone.len())).expect("it is there");
                    self.links_gone.remove(&link);
                }
            }
            Change::RelayGone(at) => {
                self.relays_gone.insert(relay(at));
            }
            Change::RelayBack => {
                self.relays_gone.pop_first();
            }
            Change::Transit(at, transit) => {
                let relay = relay(at);
                self.whole.transit[relay] = *transit;
            }
        }
    }

    /// What is there; relays that are gone have no links.
    fn overlay(&self) -> Overlay {
        let links = self.whole.links.iter().enumerate().filter_map(|(at, &(a, b, out_us, back_us))| {
            let (out, back) = self.percents.get(&at).copied().unwrap_or((100, 100));
            let gone =
                self.links_gone.contains(&at) || [a, b].iter().any(|end| self.relays_gone.contains(end));
            (!gone).then_some((a, b, (out_us * out / 100).max(1), (back_us * back / 100).max(1)))
        });
        let mut overlay = Overlay::new(self.whole.len(), links);
        overlay.transit.clone_from(&self.whole.transit);
        overlay.groups.clone_from(&self.whole.groups);
        overlay
    }

    fn topology(&self) -> Topology {
        let overlay = self.overlay();
        let mut topology = Topology::default();
        for relay in (0..overlay.len()).filter(|relay| !self.relays_gone.contains(relay)) {
            topology.add_relay(index(relay), overlay.transit[relay]);
            overlay.add_risk(relay, &mut topology);
        }
        for (a, b, out_us, back_us) in overlay.links {
            topology.add_link(index(a), index(b), out_us);
            topology.add_link(index(b), index(a), back_us);
        }
        topology
    }
}

/// Trees and backups by the rules, every relay of every destination looked at.
fn plainly(before: &Routes, after: &Routes) -> Vec<(Trees, Vec<u8>)> {
    let (mesh, blocks) = (&after.mesh, &after.blocks);
    let update = Update::of(before, mesh, blocks, before.mesh.changes(mesh));
    let everyone: Vec<u32> = (0..mesh.len() as u32).collect();
    let plain = |destination: usize| {
        let (old, primary) = (&before.destinations[destination], &after.destinations[destination].primary);
        // Of other blocks the trees know nothing.
        let mended =
            update.hangs_alike.then(|| old.trees.mended(mesh, blocks, destination, &update.gone)).flatten();
        // Who must not be passed is joined to others by rules of its own: its trees are mended by nobody, and stay as
        // long as they serve.
        let untouched = update.hangs_alike && !old.trees.take_any(&update.gone_ends);
        let kept = mended.map(|(trees, _)| trees).or(untouched.then(|| Trees::clone(&old.trees)));
        let (fresh, costs_us) = Forester::new(mesh, blocks).towards(destination, primary);
        let much_better = |kept: &Trees| {
            let sharing_us = [&fresh, kept].map(|trees| trees.sharing_us(mesh, destination));
            let kept_us = Trees::ways_us(&kept.costs(mesh, destination)) + sharing_us[1];
            let fresh_us = Trees::ways_us(&costs_us) + sharing_us[0];
            fresh_us * 100 < kept_us * BETTER_PCT || sharing_us[0] < sharing_us[1] && fresh_us < kept_us
        };
        let mut backups = old.backups.to_vec();
        match kept {
            Some(kept) if !(update.is_judged(destination) && much_better(&kept)) => {
                keep_backups(&mut backups, mesh, primary, &kept, destination, &everyone);
                (kept, backups)
            }
            Some(_) | None => {
                choose_backups(&mut backups, mesh, primary, &fresh, destination, &costs_us);
                (fresh, backups)
            }
        }
    };
    (0..mesh.len()).map(plain).collect()
}

/// What is carried over is what the rules say; the primary plane is what it would be without a past.
fn check_step(before: &Routes, after: &Routes, topology: &Topology) -> Result<(), TestCaseError> {
    let anew = Routes::compute(Timestamp::ZERO, topology, None, Executor::INLINE);
    prop_assert_eq!(&anew.passing, &after.passing);
    prop_assert_eq!(&anew.mesh, &after.mesh);
    prop_assert_eq!(&anew.blocks, &after.blocks);
    for (one, other) in anew.destinations.iter().zip(&after.destinations) {
        prop_assert_eq!(&one.primary, &other.primary);
    }
    if before.mesh.is_passed_like(&after.mesh) {
        for (destination, (trees, backups)) in plainly(before, after).into_iter().enumerate() {
            prop_assert_eq!(&*after.destinations[destination].trees, &trees);
            prop_assert_eq!(&*after.destinations[destination].backups, &backups);
        }
    }
    Ok(())
}

/// Where it is computed makes no difference.
fn check_elsewhere(before: &Routes, after: &Routes, topology: &Topology) -> Result<(), TestCaseError> {
    let anew = Routes::compute(Timestamp::ZERO, topology, None, Executor::INLINE);
    for (routes, former) in [(&anew, None), (after, Some(before))] {
        let elsewhere = Routes::compute(Timestamp::ZERO, topology, former, Executor::backwards());
        prop_assert_eq!((elsewhere.turn, &elsewhere.passing), (routes.turn, &routes.passing));
        prop_assert!(elsewhere.rows().eq(routes.rows()));
        for (one, other) in elsewhere.destinations.iter().zip(&routes.destinations) {
            prop_assert_eq!((&one.trees, &one.backups), (&other.trees, &other.backups));
        }
    }
    Ok(())
}

/// Red and blue share what every way must pass, and a backup avoids the next hop wherever something does.
fn check_redundancy(routes: &Routes, overlay: &Overlay) -> Result<(), TestCaseError> {
    for (from, to) in overlay.pairs() {
        let ways = [Plane::PRIMARY, RED, BLUE].map(|plane| way(routes, from, plane, to));
        prop_assert_eq!(ways.each_ref().map(Option::is_some), [overlay.reaches(from, to, None); 3]);
        let [Some(primary), Some(red), Some(blue)] = ways else { continue };
        let shared: BTreeSet<Gone> = between(&red).intersection(&between(&blue)).copied().collect();
        prop_assert_eq!(shared, overlay.narrows(from, to), "{:?} and {:?}", red, blue);
        let next = primary[1];
        let link = Gone::Link(from.min(next), from.max(next));
        let failed = if next == to { link } else { Gone::Relay(next) };
        let backup = routes.backup(index(from), index(to));
        prop_assert_eq!(backup.is_some(), overlay.reaches(from, to, Some(failed)), "{} to {}", from, to);
        if let Some(plane) = backup {
            let backup = if plane == RED { &red } else { &blue };
            prop_assert!(!link.is_on(backup) && !failed.is_on(backup), "{:?} by {:?}", backup, primary);
        }
    }
    Ok(())
}

/// Relay 7 must not be passed, and goes by 1 and by 5; what comes by 5 passes 2, where two blocks meet. Without the link
/// between 2 and 4 relay 2 has another place in the line of its block, and stood past 1 there when it was given one without
/// regard to who comes by it from further out.
#[test]
fn a_dead_end_beyond_a_cut_vertex_keeps_its_ways_apart() {
    let links = [
        (1, 0, 10_000, 10_000),
        (2, 0, 10_000, 10_000),
        (3, 2, 10_000, 10_000),
        (4, 0, 10_000, 10_000),
        (5, 2, 188_123, 152_224),
        (6, 1, 34_925, 61_916),
        (7, 1, 117_526, 163_472),
        (8, 5, 40_000, 50_000),
        (2, 1, 18_978, 174_550),
        (4, 2, 118_649, 128_198),
        (1, 4, 30_000, 20_000),
        (8, 3, 30_000, 40_000),
        (0, 6, 50_000, 30_000),
        (7, 5, 182_354, 57_098),
    ];
    let mut overlay = Overlay::new(9, links);
    for (relay, transit) in [(1, Transit::Reluctant), (5, Transit::Reluctant), (7, Transit::Never)] {
        overlay.transit[relay] = transit;
    }
    let mut changing = Changing::new(overlay);
    let before = Routes::compute(Timestamp::ZERO, &changing.topology(), None, Executor::INLINE);
    changing.links_gone.insert(9);
    let after = Routes::compute(Timestamp::ZERO, &changing.topology(), Some(&before), Executor::INLINE);
    check_redundancy(&after, &changing.overlay()).expect("red and blue are apart");
}

/// Relays 1 and 2 are one region, and the two shortest ways from 0 to 4 pass it. While the way by 3 is long it is worth no
/// detour; when it is hardly longer, what one relay gains by it is little beside what all ways cost together.
#[test]
fn ways_that_share_a_region_part_as_soon_as_a_link_allows_it() {
    let links = [
        (0, 1, 10_000, 10_000),
        (1, 4, 10_000, 10_000),
        (0, 2, 12_000, 12_000),
        (2, 4, 12_000, 12_000),
        (0, 3, 60_000, 60_000),
        (3, 4, 16_000, 16_000),
        (1, 2, 2_000, 2_000),
    ];
    let mut overlay = Overlay::new(5, links);
    overlay.groups = vec![None, Some(1), Some(1), None, None];
    let mut changing = Changing::new(overlay);
    let shared = |changing: &Changing, routes: &Routes| {
        let ways = [RED, BLUE].map(|plane| way(routes, 0, plane, 4).expect("there is a way"));
        let [red, blue] = ways.map(|way| changing.overlay().passed_groups(&way));
        red.intersection(&blue).count()
    };
    let mut routes = Routes::compute(Timestamp::ZERO, &changing.topology(), None, Executor::INLINE);
    let mut after = |changing: &Changing| {
        routes = Routes::compute(Timestamp::ZERO, &changing.topology(), Some(&routes), Executor::INLINE);
        shared(changing, &routes)
    };
    assert_eq!(after(&changing), 1);
    changing.percents.insert(4, (27, 27));
    assert_eq!(after(&changing), 0);
    // Nothing turns back where it trembles about what a detour is worth.
    changing.percents.insert(4, (60, 60));
    assert_eq!(after(&changing), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn what_is_carried_over_is_what_looking_at_everything_gives(
        overlay in with_unwilling(connected(2..=30)), turn: usize, changes in changes(),
    ) {
        let mut changing = Changing::new(overlay);
        let mut routes = Routes::compute(Timestamp::ZERO, &changing.topology(), None, Executor::INLINE);
        routes.turn = turn % routes.mesh.len();
        for step in &changes {
            step.iter().for_each(|change| changing.take(change));
            let topology = changing.topology();
            let after = Routes::compute(Timestamp::ZERO, &topology, Some(&routes), Executor::INLINE);
            check_step(&routes, &after, &topology)?;
            if std::ptr::eq(step, &changes[changes.len() - 1]) {
                check_elsewhere(&routes, &after, &topology)?;
            }
            routes = after;
        }
    }

    #[test]
    fn whatever_changed_red_and_blue_share_what_they_must_alone(
        overlay in with_unwilling(connected(3..=10)), changes in changes(),
    ) {
        let mut changing = Changing::new(overlay);
        let mut routes = Routes::compute(Timestamp::ZERO, &changing.topology(), None, Executor::INLINE);
        for step in &changes {
            step.iter().for_each(|change| changing.take(change));
            routes = Routes::compute(Timestamp::ZERO, &changing.topology(), Some(&routes), Executor::INLINE);
            check_redundancy(&routes, &changing.overlay())?;
            let weak = routes.weak_points();
            prop_assert_eq!(weak, Routes::compute(Timestamp::ZERO, &changing.topology(), None, Executor::INLINE).weak_points());
        }
    }
}
