//! Shapes of networks, drawn at random: which relays, counted from one, have a link.

use link_model::Xoshiro256;

/// Links, the lower relay first, ascending.
pub(crate) type Links = Vec<(u64, u64)>;

/// A shape.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shape {
    Line,
    Tree,
    Ring,
    /// As square as the number allows; a prime makes it a line.
    Grid,
    /// A ring in random order with some links across: no relay and no link parts it.
    Biconnected,
    /// Two rings and one link between them.
    Bridge,
    /// Two rings with one relay in common.
    CutVertex,
    Mesh,
}

/// Shapes that no single failure parts.
const WHOLE: [Shape; 4] = [Shape::Ring, Shape::Grid, Shape::Biconnected, Shape::Mesh];
const ALL: [Shape; 8] = [
    Shape::Line,
    Shape::Tree,
    Shape::Ring,
    Shape::Grid,
    Shape::Biconnected,
    Shape::Bridge,
    Shape::CutVertex,
    Shape::Mesh,
];
/// A mesh of more has too many links for a seed that many others wait for.
const MESH_MAX: u64 = 7;

/// A shape for so many relays; `whole`: one that no single failure parts.
pub(crate) fn shape(rng: &mut Xoshiro256, relays: u64, whole: bool) -> Shape {
    let shapes = if whole { &WHOLE[..] } else { &ALL[..] };
    let shape = shapes[rng.within(0..=shapes.len() as u64 - 1) as usize];
    if shape == Shape::Mesh && relays > MESH_MAX {
        Shape::Biconnected
    } else if shape == Shape::Grid && whole && width(relays) == 1 {
        Shape::Ring
    } else {
        shape
    }
}

/// The links of a shape.
pub(crate) fn links(rng: &mut Xoshiro256, shape: Shape, relays: u64) -> Links {
    let mut links = match shape {
        Shape::Line => line(1, relays),
        Shape::Tree => (2..=relays).map(|relay| (rng.within(1..=relay - 1), relay)).collect(),
        Shape::Ring => ring(1, relays),
        Shape::Grid => grid(relays),
        Shape::Biconnected => biconnected(rng, relays),
        Shape::Bridge => {
            let half = relays / 2;
            [ring(1, half), ring(half + 1, relays), vec![(1, relays)]].concat()
        }
        Shape::CutVertex => [ring(1, relays.div_ceil(2)), ring(relays.div_ceil(2), relays)].concat(),
        Shape::Mesh => (1..relays).flat_map(|a| (a + 1..=relays).map(move |b| (a, b))).collect(),
    };
    for link in &mut links {
        *link = (link.0.min(link.1), link.0.max(link.1));
    }
    links.retain(|(a, b)| a != b);
    links.sort_unstable();
    links.dedup();
    links
}

fn line(first: u64, last: u64) -> Links {
    (first..last).map(|relay| (relay, relay + 1)).collect()
}

fn ring(first: u64, last: u64) -> Links {
    let mut links = line(first, last);
    links.push((first, last));
    links
}

/// The greatest divisor that is not above the square root.
fn width(relays: u64) -> u64 {
    (1..=relays)
        .take_while(|width| width * width <= relays)
        .filter(|width| relays.is_multiple_of(*width))
        .last()
        .unwrap_or(1)
}

fn grid(relays: u64) -> Links {
    let width = width(relays);
    let right = (1..=relays).filter(|relay| relay % width != 0).map(|relay| (relay, relay + 1));
    let down = (1..=relays.saturating_sub(width)).map(|relay| (relay, relay + width));
    right.chain(down).collect()
}

fn biconnected(rng: &mut Xoshiro256, relays: u64) -> Links {
    let mut order: Vec<u64> = (1..=relays).collect();
    for place in (1..order.len()).rev() {
        order.swap(place, rng.within(0..=place as u64) as usize);
    }
    let around = ring(1, relays);
    let mut links: Links =
        around.into_iter().map(|(a, b)| (order[a as usize - 1], order[b as usize - 1])).collect();
    for _ in 0..rng.within(0..=relays) {
        links.push((rng.within(1..=relays), rng.within(1..=relays)));
    }
    links
}

#[cfg(test)]
mod tests {
    use super::*;
    use link_model::Seed;
    use petgraph::algo::connected_components;
    use petgraph::graph::UnGraph;

    fn parts(links: &Links, relays: u64, without: Option<u64>) -> usize {
        let mut graph: UnGraph<(), (), u32> = UnGraph::new_undirected();
        let places: Vec<_> =
            (1..=relays).map(|relay| (Some(relay) != without).then(|| graph.add_node(()))).collect();
        for (a, b) in links {
            if let (Some(a), Some(b)) = (places[*a as usize - 1], places[*b as usize - 1]) {
                graph.add_edge(a, b, ());
            }
        }
        connected_components(&graph)
    }

    #[test]
    fn every_shape_is_connected_and_the_whole_ones_stay_so() {
        let mut rng = Seed(1).stream();
        for relays in 2..=16 {
            for shape in ALL {
                let links = links(&mut rng, shape, relays);
                assert_eq!(parts(&links, relays, None), 1, "{shape:?} of {relays}: {links:?}");
            }
            for _ in 0..20 {
                let shape = shape(&mut rng, relays, true);
                let links = links(&mut rng, shape, relays);
                for relay in 1..=relays {
                    assert_eq!(parts(&links, relays, Some(relay)), 1, "{shape:?} of {relays}: {links:?}");
                }
            }
        }
    }

    #[test]
    fn a_bridge_and_a_cut_vertex_part_what_they_join() {
        let mut rng = Seed(2).stream();
        let (bridge, cut) = (links(&mut rng, Shape::Bridge, 7), links(&mut rng, Shape::CutVertex, 7));
        assert_eq!(bridge, [(1, 2), (1, 3), (1, 7), (2, 3), (4, 5), (4, 7), (5, 6), (6, 7)]);
        let broken: Links = bridge.into_iter().filter(|link| *link != (1, 7)).collect();
        assert_eq!(parts(&broken, 7, None), 2);
        assert_eq!(parts(&cut, 7, Some(4)), 2);
    }
}
