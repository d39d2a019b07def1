//! Backbones of operators: SNDlib and the Topology Zoo in node-link JSON, as topohub writes them. A link is as long as the
//! file says (`dist`, km), else as the great circle between its ends; light in glass goes 204 km in a millisecond.

use super::{Problem, RELAYS_MAX, RoundTrips, Topology, TopologyPlace, fibre_us, great_circle_km};
use std::collections::BTreeMap;
use std::time::Duration;
use wire_format::control::Position;

#[derive(serde::Deserialize)]
struct File {
    nodes: Vec<Node>,
    #[serde(alias = "links")]
    edges: Vec<Edge>,
}

#[derive(serde::Deserialize)]
struct Node {
    id: serde_json::Value,
    name: Option<String>,
    /// Degrees, east first.
    pos: Option<[f64; 2]>,
}

#[derive(serde::Deserialize)]
struct Edge {
    source: serde_json::Value,
    target: serde_json::Value,
    dist: Option<f64>,
}

pub(super) fn parse(text: &str) -> Result<Topology, Problem> {
    let file: File = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let count = file.nodes.len();
    if count == 0 || count > RELAYS_MAX {
        return Err(format!("{count} nodes; 1 to {RELAYS_MAX} are possible"));
    }
    // Ids are numbers in one file and strings in the next.
    let key = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut places = Vec::new();
    let mut place_of = BTreeMap::new();
    let mut names = std::collections::BTreeSet::new();
    for node in &file.nodes {
        let id = key(&node.id);
        let position = match node.pos {
            None => None,
            Some([lon, lat]) => Some(
                Position::from_degrees(lat, lon)
                    .ok_or_else(|| format!("node {id}: {lat}, {lon} is no place on the globe"))?,
            ),
        };
        let name = node.name.clone().unwrap_or_else(|| format!("n{id}"));
        // Two nodes may stand in one city.
        let name = if names.contains(&name) { format!("{name}.{id}") } else { name };
        names.insert(name.clone());
        if place_of.insert(id.clone(), places.len()).is_some() {
            return Err(format!("two nodes have the id {id}"));
        }
        places.push(TopologyPlace { name, region: None, position });
    }
    let mut trips = RoundTrips::none(count);
    for edge in &file.edges {
        let find = |value| {
            let id = key(value);
            place_of.get(&id).copied().ok_or_else(|| format!("a link names node {id}, which there is not"))
        };
        let (a, b) = (find(&edge.source)?, find(&edge.target)?);
        let apart = places[a].position.zip(places[b].position).map(|(a, b)| great_circle_km(a, b));
        let km = edge.dist.or(apart).filter(|km| (0.0..=100_000.0).contains(km));
        let km = km.ok_or_else(|| {
            format!("the link of {} and {} has no length; give `dist` in km", places[a].name, places[b].name)
        })?;
        if a != b {
            trips.set(a, b, fibre_us(km));
            trips.set(b, a, fibre_us(km));
        }
    }
    Ok(Topology { places, slices: vec![(Duration::ZERO, trips)] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backbone_is_read() {
        let text = r#"{"nodes":[{"id":"0","name":"a","pos":[16.37,48.21]},{"id":1,"pos":[2.35,48.86]},
            {"id":2,"name":"a","pos":[0,0]}],
            "edges":[{"source":0,"target":"1"},{"source":1,"target":2,"dist":204.0}]}"#;
        let topology = parse(text).expect("legal");
        let names: Vec<_> = topology.places.iter().map(|place| place.name.as_str()).collect();
        assert_eq!(names, ["a", "n1", "a.2"]);
        let trips = &topology.slices[0].1;
        assert_eq!(trips.us(1, 2), Some(2_000));
        let vienna_paris = trips.us(0, 1).expect("a link");
        assert!((10_100..10_250).contains(&vienna_paris), "1,034 km: {vienna_paris} us");
        assert_eq!(trips.us(0, 2), None);
    }

    #[test]
    fn what_is_no_backbone_is_refused() {
        for (text, what) in [
            ("{}", "missing field"),
            (r#"{"nodes":[],"edges":[]}"#, "0 nodes"),
            (r#"{"nodes":[{"id":1},{"id":1}],"edges":[]}"#, "two nodes"),
            (r#"{"nodes":[{"id":1}],"edges":[{"source":1,"target":2}]}"#, "node 2"),
            (r#"{"nodes":[{"id":1},{"id":2}],"edges":[{"source":1,"target":2}]}"#, "no length"),
            (r#"{"nodes":[{"id":1,"pos":[0,99]}],"edges":[]}"#, "no place"),
        ] {
            let problem = parse(text).expect_err(text);
            assert!(problem.contains(what), "{text}: {problem}");
        }
    }
}
