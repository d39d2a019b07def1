//! Whom to ask how a stream fares.

use super::Controller;
use crate::trace::{LegView, TraceView, TracedRelayView};
use std::collections::BTreeSet;
use wire_format::control::StreamName;
use wire_format::{NodeIndex, Plane};

/// Most relays that are asked about one stream; of a stream that goes to more, those on its present ways come first.
const RELAYS_MAX: usize = 512;

impl Controller {
    /// A published stream: its ways by the tables that ingresses stamp now, and the relays that may have a part in it. `None`
    /// if nobody publishes it.
    #[must_use]
    pub fn trace(&self, name: &StreamName) -> Option<TraceView> {
        let stream = self.directory.on_its_way(name)?;
        let routes = self.rollout.current().map(|generation| generation.routes.policy(stream.policy));
        let way = |from, plane, to| routes.and_then(|routes| routes.path(from, plane, to));
        let mut legs = Vec::new();
        let (mut taken, mut others) = (BTreeSet::from([stream.ingress]), BTreeSet::new());
        for (from, destinations) in &stream.legs {
            let protects = stream.protect && *from == stream.ingress;
            for to in destinations {
                let pair =
                    routes.map(|routes| routes.protection(*from, *to).pair()).filter(|_| protects).flatten();
                let planes = pair.map_or(vec![Plane::PRIMARY], |pair| pair.planes().to_vec());
                for plane in [Plane::PRIMARY, Plane::RED, Plane::BLUE] {
                    let Some(path) = way(*from, plane, *to) else { continue };
                    if planes.contains(&plane) {
                        taken.extend(&path);
                        let path = path.iter().map(|node| self.relays.name(*node)).collect();
                        legs.push(LegView { plane, path });
                    } else {
                        // Where the stream goes while a relay turns from a silent next hop.
                        others.extend(&path);
                    }
                }
                taken.insert(*to);
            }
        }
        taken.extend(&stream.egresses);
        let first = taken.iter().copied();
        let then = others.difference(&taken).copied();
        let relays = first.chain(then).take(RELAYS_MAX);
        Some(TraceView {
            name: name.clone(),
            key: stream.key,
            kind: stream.kind,
            protect: stream.protect,
            epoch: self.rollout.current().map(|generation| generation.epoch),
            ingress: self.relays.name(stream.ingress),
            egresses: stream.egresses.iter().map(|node| self.relays.name(*node)).collect(),
            relays: relays.map(|node| self.traced_relay(node, taken.contains(&node))).collect(),
            legs,
        })
    }

    fn traced_relay(&self, node: NodeIndex, expected: bool) -> TracedRelayView {
        let relay = self.relays.relay(node);
        TracedRelayView {
            name: self.relays.name(node),
            node,
            session: relay.and_then(|relay| relay.session).map(|session| session.id),
            traces: relay.is_some_and(|relay| relay.traces),
            expected,
        }
    }
}
