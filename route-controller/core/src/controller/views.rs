//! What people see of the controller.

use super::Controller;
use crate::api::SessionId;
use crate::directory::NamespaceView;
use crate::planes::Protection;
use crate::relays::{Relay, SESSION_SILENCE};
use crate::rollout::Generation;
use crate::view::{
    LinkView, NodeState, NodeView, ProtectionView, RouteFilter, RouteView, StatusView, StreamView,
};
use wire_format::{NodeIndex, Plane, PlanePair, PolicyIndex, Timestamp};

impl Controller {
    /// The index of a relay, if it has one.
    #[must_use]
    pub fn node_index(&self, name: &str) -> Option<NodeIndex> {
        self.relays.of_name(name)
    }

    /// The session of a relay, if it has one.
    #[must_use]
    pub fn session_of(&self, name: &str) -> Option<SessionId> {
        Some(self.relays.relay(self.relays.of_name(name)?)?.session?.id)
    }

    /// Whether a relay has a session and said something in it lately.
    #[must_use]
    pub fn is_present(&self, name: &str, now: Timestamp) -> bool {
        let relay = self.relays.of_name(name).and_then(|node| self.relays.relay(node));
        relay.is_some_and(|relay| relay.session.is_some() && now < relay.said_at + SESSION_SILENCE)
    }

    /// Every relay known, by index.
    #[must_use]
    pub fn nodes(&self, now: Timestamp) -> Vec<NodeView> {
        self.relays.iter().map(|(node, relay)| self.node_view(now, node, relay)).collect()
    }

    /// Every direction of every link reported, by indices.
    #[must_use]
    pub fn links(&self, now: Timestamp) -> Vec<LinkView> {
        self.links.known().into_iter().map(|(from, to)| self.link_view(now, from, to)).collect()
    }

    /// Every stream that is published, by name.
    #[must_use]
    pub fn streams(&self) -> Vec<StreamView> {
        let protection = |policy, from, to| self.protection(policy, from, to);
        self.directory.views(|node| self.relays.name(node), protection)
    }

    /// What keeps a stream of a policy that asks for protection from harm on its way from one relay to another.
    #[must_use]
    pub fn protection(&self, policy: PolicyIndex, from: NodeIndex, to: NodeIndex) -> ProtectionView {
        let routes = self.rollout.current().map(|generation| generation.routes.policy(policy));
        let protection = routes.map_or(Protection::Unreachable, |routes| routes.protection(from, to));
        let name = |node: &NodeIndex| self.relays.name(*node);
        let (shared, bridge) = match &protection {
            Protection::Through(_, shared) => (shared.iter().map(name).collect(), None),
            Protection::Bridge(one, other) => (Vec::new(), Some((name(one), name(other)))),
            Protection::Apart(_) | Protection::Unreachable => (Vec::new(), None),
        };
        let pair = protection.pair();
        let shared_by = |pair: PlanePair| -> Vec<String> {
            let shared = routes.map_or_else(Vec::new, |routes| routes.shared_risks(from, to, pair));
            shared.iter().map(ToString::to_string).collect()
        };
        let shared_risks = pair.map_or_else(Vec::new, shared_by);
        let redundant_share = shared_by(PlanePair::RedBlue);
        let way = |plane| routes.and_then(|routes| routes.path(from, plane, to));
        let ways = pair.into_iter().flat_map(|pair| pair.planes()).filter_map(way);
        let ways = ways.map(|way| way.iter().map(name).collect()).collect();
        ProtectionView { egress: name(&to), pair, ways, shared, shared_risks, redundant_share, bridge }
    }

    /// Every namespace that holds or used something, or has limits of its own, by name.
    #[must_use]
    pub fn namespaces(&self) -> Vec<NamespaceView> {
        self.directory.namespaces()
    }

    /// Rows of route tables, by relay and destination. The last hundred epochs can be asked for; without one, the
    /// newest that is stamped is shown.
    #[must_use]
    pub fn routes(&self, now: Timestamp, filter: RouteFilter) -> Vec<RouteView> {
        let generation = match filter.epoch {
            None => self.rollout.current(),
            Some(epoch) => [self.rollout.prepared(), self.rollout.current(), self.rollout.previous()]
                .into_iter()
                .flatten()
                .find(|generation| generation.epoch == epoch),
        };
        let Some(Generation { epoch, routes }) = generation else {
            return filter.epoch.map_or_else(Vec::new, |epoch| self.past_routes(now, epoch, filter));
        };
        let Some(routes) = routes.own(filter.policy) else { return Vec::new() };
        let wanted =
            routes.rows().filter(|(node, plane, destination, _)| filter.wants(*node, *plane, *destination));
        wanted
            .map(|(node, plane, destination, route)| {
                let path = routes.path(node, plane, destination).unwrap_or_default();
                RouteView {
                    node: self.relays.name(node),
                    destination: self.relays.name(destination),
                    plane,
                    next_hop: self.relays.name(route.next_hop),
                    cost_us: self
                        .present_cost_us(filter.policy, &path)
                        .unwrap_or_else(|| routes.cost_us(&path)),
                    backup: Some(plane)
                        .filter(|plane| *plane == Plane::PRIMARY)
                        .and_then(|_| routes.backup(node, destination)),
                    path: path.into_iter().map(|node| self.relays.name(node)).collect(),
                    epoch: *epoch,
                    age: now.since(route.since),
                }
            })
            .collect()
    }

    /// What a path costs now; `None` if a link of it has failed, or there is no path.
    fn present_cost_us(&self, policy: PolicyIndex, path: &[NodeIndex]) -> Option<u64> {
        let hops = path.windows(2).map(|hop| Some(self.terms(policy, hop[0], hop[1])?.total_us()));
        hops.sum::<Option<u64>>().filter(|cost_us| *cost_us > 0)
    }

    /// The controller as a whole.
    #[must_use]
    pub fn status(&self) -> StatusView {
        let tally = &self.directory.tally;
        let mut counters = self.counters;
        counters.publications_granted = tally.granted;
        counters.publications_refused = tally.publications_refused;
        counters.subscriptions_refused = tally.subscriptions_refused;
        counters.reports_refused += tally.reports_refused;
        counters.reports_doubted = self.links.doubted();
        counters.limits_reached = self.directory.refused_by_limits();
        StatusView {
            term: self.term,
            epoch: self.rollout.current().map(|current| current.epoch),
            preparing: self.rollout.prepared().map(|prepared| prepared.epoch),
            recovering: self.recovery.is_some(),
            counters,
        }
    }

    fn node_view(&self, now: Timestamp, node: NodeIndex, relay: &Relay) -> NodeView {
        let state = if relay.certificates.revoked {
            NodeState::Revoked
        } else if relay.session.is_some() {
            if relay.leaving { NodeState::Leaving } else { NodeState::Connected }
        } else if self.links.is_reached(node) {
            NodeState::Silent
        } else {
            NodeState::Offline
        };
        let (publications, subscriptions) = self.directory.counts(node);
        NodeView {
            name: relay.record.name.clone(),
            node,
            state,
            state_age: now.since(self.started_at.map_or(now, |started| started.max(relay.changed_at))),
            region: relay.record.region.clone(),
            isp: relay.isp.clone(),
            tags: relay.tags.clone(),
            addresses: relay.record.addresses.clone(),
            version: relay.version.clone(),
            epoch: relay.epoch,
            cut_vertex: self.weak.cut_vertices.contains(&node),
            links_usable: self.links.neighbours_usable(node).count(),
            publications,
            subscriptions,
            position: self.links.position(node),
            cordoned: relay.record.cordoned,
            draining: relay.record.draining,
            hub_quarantined: self.hubs.is_quarantined(node),
            index_free_in: relay.quarantined_until.map(|until| until.since(now)),
        }
    }

    /// Relays in session.
    pub(super) fn attached(&self) -> impl Iterator<Item = NodeIndex> + '_ {
        self.relays.iter().filter(|(_, relay)| relay.session.is_some()).map(|(node, _)| node)
    }

    fn link_view(&self, now: Timestamp, from: NodeIndex, to: NodeIndex) -> LinkView {
        let word = self.links.word(from, to);
        let report = word.map(|word| &word.report);
        let terms = self.terms(PolicyIndex::DEFAULT, from, to);
        let usable = self.links.is_usable(from, to);
        LinkView {
            from: self.relays.name(from),
            to: self.relays.name(to),
            from_node: from,
            to_node: to,
            state: report.map(|report| report.state),
            usable,
            bridge: usable && self.weak.bridges.contains(&(from.min(to), from.max(to))),
            cost_us: terms.map(|terms| terms.total_us()),
            cost_raw_us: self.links.raw_us(from, to),
            terms,
            doubt: self.links.doubt(from, to),
            rtt: report.and_then(|report| report.rtt),
            rtt_min: report.and_then(|report| report.rtt_min),
            jitter: report.map(|report| report.jitter_out),
            loss_ppm: report.map(|report| report.loss_out_ppm),
            rate: report.map(|report| report.rate_out),
            age: word.map(|word| now.since(word.at)),
            sender: report.map(|report| report.quality.clone()),
            receiver: self.links.word(to, from).map(|word| word.report.quality.clone()),
        }
    }
}
