//! The choice on its own: what holds for any sequence of events, and how good it is on real round trips.

#[path = "../../tests/data/mod.rs"]
mod data;

use super::*;
use crate::topology::{Topology, Transit};
use proptest::prelude::*;

fn node(at: usize) -> NodeIndex {
    NodeIndex(at as u16)
}

/// What links cost, by their ends, in microseconds; none where there can be no link.
type Costs = Vec<Vec<Option<u32>>>;

/// Relays whose links come up as soon as they are chosen, and cost what a matrix says.
struct World {
    costs: Costs,
    neighbours: Neighbours,
    distances: Distances,
    now: Timestamp,
    members: BTreeMap<NodeIndex, Standing>,
}

fn standing() -> Standing {
    Standing { region: String::new(), position: None }
}

impl World {
    fn new(costs: Costs, config: NeighbourConfig, count: usize) -> World {
        let members = (0..count).map(|at| (node(at), standing())).collect();
        let mut world = World {
            costs,
            neighbours: Neighbours::new(config),
            distances: Distances::default(),
            now: Timestamp::from_micros(1_000_000),
            members,
        };
        world.settle();
        world
    }

    fn settle(&mut self) {
        self.neighbours.set_members(self.now, self.members.clone(), |_| Vec::new());
        self.measure();
    }

    /// Brings the shortest ways up to date.
    fn measure(&mut self) {
        let mut topology = Topology::default();
        for node in self.members.keys() {
            topology.add_relay(*node, Transit::Willing);
        }
        for (a, b) in self.pairs() {
            let cost = self.costs[usize::from(a.0)][usize::from(b.0)];
            let leaving_us = match self.neighbours.role(a, b) {
                Role::Open => 0,
                Role::Avoided => 60_000_000,
                Role::Closed => continue,
            };
            if let Some(cost_us) = cost {
                topology.add_link(a, b, u64::from(cost_us) + leaving_us);
            }
        }
        self.distances = Distances::by_search(&topology);
    }

    /// Both directions of all links.
    fn pairs(&self) -> Vec<(NodeIndex, NodeIndex)> {
        let of = |node: NodeIndex| self.neighbours.of(node).into_iter().map(move |other| (node, other));
        self.members.keys().flat_map(|node| of(*node)).collect()
    }

    fn step(&mut self) {
        self.now = self.neighbours.deadline().map_or(self.now + STEP_EVERY, |at| at.max(self.now));
        let costs = &self.costs;
        let seen = |a: NodeIndex, b: NodeIndex| {
            costs[usize::from(a.0)][usize::from(b.0)].map_or(Seen::Down, Seen::Measured)
        };
        // Routes leave in time whatever can be left.
        let used = |_, _| Use::None;
        self.neighbours.step(self.now, &self.distances, seen, used);
    }

    /// Everybody's turn, with ways as they are at its beginning and in the middle.
    fn sweep(&mut self) {
        for at in 0..SWEEP {
            if at == SWEEP / 2 {
                self.measure();
            }
            self.step();
        }
        self.measure();
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let links: BTreeSet<_> = self.pairs().into_iter().collect();
        for (a, b) in &links {
            prop_assert!(a != b && links.contains(&(*b, *a)), "{a} has {b}, not the other way round");
        }
        for node in self.members.keys() {
            let degree = self.neighbours.of(*node).len();
            prop_assert!(
                self.neighbours.mesh || degree <= self.neighbours.config.links_max,
                "{node}: {degree}"
            );
        }
        // Whoever is taken away, the others hang together.
        for gone in self.members.keys().map(Some).chain([None]) {
            let left: BTreeSet<NodeIndex> =
                self.members.keys().filter(|node| Some(*node) != gone).copied().collect();
            let mut reached: BTreeSet<NodeIndex> = left.first().copied().into_iter().collect();
            let mut line: Vec<NodeIndex> = reached.iter().copied().collect();
            while let Some(at) = line.pop() {
                for other in self.neighbours.of(at) {
                    let open = self.neighbours.role(at, other) == Role::Open;
                    if open && left.contains(&other) && reached.insert(other) {
                        line.push(other);
                    }
                }
            }
            prop_assert_eq!(reached.len(), left.len(), "without {:?}", gone);
        }
        Ok(())
    }

    /// By how much ways are longer than with all links: of the sums of all, and in the 95th of a hundred ways, percent.
    fn excess_pct(&self, best: &[u32]) -> (f64, f64, f64) {
        let count = self.distances.len();
        let mut ratios = Vec::with_capacity(count * count);
        let (mut sum, mut best_sum) = (0_u64, 0_u64);
        for to in 0..count {
            for from in (0..count).filter(|from| *from != to) {
                let (own, best) = (self.distances.to(to)[from], best[from * count + to]);
                sum += u64::from(own);
                best_sum += u64::from(best);
                ratios.push(f64::from(own) / f64::from(best));
            }
        }
        ratios.sort_by(f64::total_cmp);
        let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
        let pct = |ratio: f64| (ratio - 1.0) * 100.0;
        (pct(sum as f64 / best_sum as f64), pct(mean), pct(ratios[ratios.len() * 95 / 100]))
    }
}

/// Shortest ways with every link there can be (Floyd and Warshall), by beginning and end.
fn all_links(costs: &Costs) -> Vec<u32> {
    let count = costs.len();
    let mut us = vec![worth::FAR; count * count];
    for (from, row) in costs.iter().enumerate() {
        for (to, cost_us) in row.iter().enumerate() {
            us[from * count + to] = if from == to { 0 } else { cost_us.unwrap_or(worth::FAR) };
        }
    }
    for via in 0..count {
        let onwards: Vec<u32> = us[via * count..][..count].to_vec();
        for from in 0..count {
            let first = us[from * count + via];
            for (own, onwards) in us[from * count..][..count].iter_mut().zip(&onwards) {
                *own = (*own).min(first + onwards);
            }
        }
    }
    us
}

fn config(mesh_max: usize, links_max: usize) -> NeighbourConfig {
    NeighbourConfig::new(mesh_max, links_max).expect("legal")
}

/// Towns on a plane a few hours wide, ways between them longer than the crow flies; hosts in towns.
fn generated(count: usize, seed: u64) -> Costs {
    let random = |at: usize, salt: u64| space::mix(seed ^ (at as u64) << 20 ^ salt << 50);
    let unit = |bits: u64| (bits >> 40) as f64 / f64::from(1_u32 << 24);
    let towns = 60;
    let at: Vec<(f64, f64)> = (0..count)
        .map(|host| {
            let town = (random(host, 1) % towns) as usize;
            let spread = |salt| (unit(random(host, salt)) - 0.5) * 3_000.0;
            (unit(random(town, 2)) * 90_000.0 + spread(4), unit(random(town, 3)) * 45_000.0 + spread(5))
        })
        .collect();
    let cost = |a: usize, b: usize| {
        let (low, high) = (a.min(b), a.max(b));
        let detour = 1.1 + 0.9 * unit(random(low << 10 | high, 6)).powi(2);
        let (x, y) = (at[a].0 - at[b].0, at[a].1 - at[b].1);
        (a != b).then(|| 1_000 + (x.hypot(y) * detour) as u32)
    };
    (0..count).map(|a| (0..count).map(|b| cost(a, b)).collect()).collect()
}

fn matrix(name: &str) -> Option<Costs> {
    let text = data::rtt(name)?;
    // Half of a round trip and a hop, as a link costs.
    let cost = |cell: &str| {
        let rtt_ms = cell.parse::<f64>().ok().filter(|rtt_ms| *rtt_ms > 0.0)?;
        Some((rtt_ms * 500.0) as u32 + 1_000)
    };
    let rows: Costs = text.lines().skip(1).map(|line| line.split(',').skip(1).map(cost).collect()).collect();
    // Both ends learn the longer of their views.
    let both = |a: usize, b: usize| (a != b).then(|| Some(rows[a][b]?.max(rows[b][a]?))).flatten();
    Some((0..rows.len()).map(|a| (0..rows.len()).map(|b| both(a, b)).collect()).collect())
}

/// Sweeps until the figures are reached, and tells; how long that takes in the controller's time.
fn reach(name: &str, costs: Costs, knowing: bool, most_sweeps: usize) {
    let count = costs.len();
    let mut world = World::new(costs, config(2, 32), count);
    if knowing {
        for a in 0..count {
            for b in 0..count {
                let cost_us = world.costs[a][b].unwrap_or(UNREACHABLE);
                if let (true, Some(member)) = (a != b, world.neighbours.members.get_mut(&node(a))) {
                    member.learn(node(b), cost_us);
                }
            }
        }
    }
    let mut told = String::new();
    let best = all_links(&world.costs);
    for sweep in 1..=most_sweeps {
        world.sweep();
        world.check_degrees();
        if !sweep.is_multiple_of(if knowing { 2 } else { 5 }) {
            continue;
        }
        let (sum, mean, p95) = world.excess_pct(&best);
        let known = world.neighbours.members.values().flat_map(|member| &member.learnt);
        let known = known.filter(|us| **us != UNKNOWN).count() * 100 / (count * count);
        let links = world.pairs().len() / 2;
        told = format!(
            "{name}, {count} relays, {}: after {sweep} turns of each ways cost {sum:.1}% more than with all links, \
             in the mean of ways {mean:.1}%, the 95th of a hundred {p95:.1}%; {known}% measured; {links} links",
            if knowing { "knowing all round trips" } else { "learning" }
        );
        data::tell(&told);
        if sum <= 5.0 && p95 <= 20.0 && (mean <= 5.0 || !knowing) {
            return;
        }
    }
    panic!("not within 5% and 20%: {told}");
}

impl World {
    fn check_degrees(&self) {
        let most = self.members.keys().map(|node| self.neighbours.of(*node).len()).max();
        assert!(most.is_some_and(|most| most <= 32), "{most:?} links");
    }
}

#[test]
fn planetlab_is_nearly_as_short_as_a_mesh_where_all_is_known() {
    let Some(costs) = matrix("planetlab490.csv") else { return };
    reach("planetlab490", costs, true, 12);
}

#[test]
fn planetlab_is_nearly_as_short_as_a_mesh_by_what_its_links_teach() {
    let Some(costs) = matrix("planetlab490.csv") else { return };
    reach("planetlab490", costs, false, 50);
}

#[test]
fn wondernetwork_is_nearly_as_short_as_a_mesh_by_what_its_links_teach() {
    let Some(costs) = matrix("wondernetwork217.csv") else { return };
    reach("wondernetwork217", costs, false, 60);
}

#[test]
fn one_relay_or_one_round_trip_more_moves_a_few_links() {
    let mut world = World::new(generated(121, 3), config(2, 12), 120);
    for _ in 0..60 {
        world.sweep();
    }
    let kept = |world: &World| -> BTreeSet<(NodeIndex, NodeIndex)> {
        let links = world.neighbours.links.iter();
        links.filter(|(_, link)| link.stage == Stage::Kept).map(|(pair, _)| *pair).collect()
    };
    let before = kept(&world);
    world.sweep();
    let moved = kept(&world).symmetric_difference(&before).count();
    assert!(moved <= before.len() / 20, "at rest {moved} of {} move", before.len());
    let before = kept(&world);
    world.costs[3][5] = world.costs[3][5].map(|us| us * 3);
    world.costs[5][3] = world.costs[3][5];
    world.sweep();
    let moved = kept(&world).symmetric_difference(&before).count();
    assert!(moved <= before.len() / 20, "one dearer link moves {moved} of {}", before.len());
    let before = kept(&world);
    world.members.insert(node(120), standing());
    world.settle();
    let lost = before.difference(&kept(&world)).count();
    assert_eq!(lost, 0, "who comes takes nothing from others");
    world.sweep();
    let moved = kept(&world).symmetric_difference(&before).count();
    assert!(moved <= before.len() / 10, "one relay moves {moved} of {}", before.len());
}

#[test]
fn small_overlays_are_meshes_and_do_not_swing() {
    let mut world = World::new(generated(40, 1), config(16, 8), 16);
    assert!((0..16).all(|at| world.neighbours.of(node(at)).len() == 15));
    assert_eq!(world.neighbours.deadline(), None);
    world.members.insert(node(16), standing());
    world.settle();
    assert!((0..17).all(|at| (2..=8).contains(&world.neighbours.of(node(at)).len())));
    world.members.remove(&node(3));
    world.settle();
    assert!(world.neighbours.of(node(0)).len() <= 8, "as many as before, and no mesh yet");
    world.members.remove(&node(4));
    world.members.remove(&node(5));
    world.settle();
    assert!(world.neighbours.of(node(0)).len() == 13, "clearly fewer");
}

#[test]
fn a_link_is_left_before_it_ends() {
    let mut world = World::new(generated(30, 1), config(2, 8), 30);
    for _ in 0..3 {
        world.sweep();
    }
    let is_spare = |world: &World, a: NodeIndex, b: NodeIndex| {
        world.neighbours.role(a, b) == Role::Open && !world.neighbours.is_ring(a, b)
    };
    let (a, b) = world.pairs().into_iter().find(|(a, b)| is_spare(&world, *a, *b)).expect("a spare link");
    let since = world.now;
    let link = world.neighbours.links.get_mut(&pair(a, b)).expect("it is one");
    *link = Chosen { stage: Stage::Avoided, since, up_at: Some(since) };
    let mut uses = |used: Use| {
        world.now = world.now + STEP_EVERY;
        world.neighbours.retire(
            world.now,
            |_, _| Seen::Up,
            |x, y| if (x, y) == pair(a, b) { used } else { Use::Primary },
        );
        (world.neighbours.role(a, b), world.neighbours.of(a).contains(&b))
    };
    assert_eq!(uses(Use::Primary), (Role::Avoided, true));
    assert_eq!(uses(Use::Some), (Role::Closed, true));
    assert_eq!(uses(Use::Some), (Role::Closed, true));
    assert_eq!(uses(Use::None), (Role::Closed, false));
}

#[derive(Clone, Debug)]
enum Event {
    Join(usize),
    Leave(usize),
    Cost(usize, usize, Option<u32>),
    Steps(usize),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        3 => (0..40_usize).prop_map(Event::Join),
        2 => (0..40_usize).prop_map(Event::Leave),
        3 => (0..40_usize, 0..40_usize, proptest::option::weighted(0.8, 1_000..300_000_u32))
            .prop_map(|(a, b, cost)| Event::Cost(a, b, cost)),
        4 => (1..90_usize).prop_map(Event::Steps),
    ];
    proptest::collection::vec(event, 1..25)
}

fn live(events: &[Event]) -> Result<Vec<(NodeIndex, NodeIndex)>, TestCaseError> {
    let mut world = World::new(generated(40, 5), config(6, 8), 24);
    world.check()?;
    for event in events {
        match event {
            Event::Join(at) => {
                world.members.insert(node(*at), standing());
                world.settle();
            }
            Event::Leave(at) if world.members.len() > 3 => {
                world.members.remove(&node(*at));
                world.settle();
            }
            Event::Leave(_) => {}
            Event::Cost(a, b, cost) if a != b => {
                world.costs[*a][*b] = *cost;
                world.costs[*b][*a] = *cost;
            }
            Event::Cost(..) => {}
            Event::Steps(count) => {
                for _ in 0..*count {
                    world.step();
                }
                world.measure();
            }
        }
        world.check()?;
    }
    Ok(world.pairs())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Bounded, the same at both ends, parted by no single relay; and the same again.
    #[test]
    fn whatever_happens_the_choice_is_sound(events in events()) {
        let links = live(&events)?;
        prop_assert_eq!(links, live(&events)?);
    }
}

#[test]
fn limits_are_checked() {
    assert_eq!(NeighbourConfig::new(1, 32), Err(NeighbourConfigError::MeshMax(1)));
    assert_eq!(NeighbourConfig::new(256, 7), Err(NeighbourConfigError::LinksMax(7)));
    assert_eq!(NeighbourConfig::new(256, 32), Ok(NeighbourConfig::default()));
    let told = NeighbourConfigError::LinksMax(5_000).to_string();
    assert_eq!(told, "5000 links a relay: say 8 to 1024");
}
