//! Why routes are what they are, and what they were.

use super::Controller;
use crate::explain::{
    Avoidance, DrainView, EpochView, ExplainView, HopView, PriceChangeView, RouteChangeView, RoutesDiffView,
    Verdict, WayView, WhyNotView, margin_us, turning_points,
};
use crate::topology::Transit;
use crate::view::{RouteFilter, RouteView};
use std::collections::BTreeSet;
use wire_format::control::LinkReport;
use wire_format::{Epoch, NodeIndex, Plane, PolicyIndex, Timestamp};

impl Controller {
    /// The way taken from one relay to another by a policy, the best other one, and what would have to change for that to be taken.
    #[must_use]
    pub fn explain(
        &self,
        now: Timestamp,
        policy: PolicyIndex,
        from: NodeIndex,
        to: NodeIndex,
    ) -> ExplainView {
        let topology = self.topology(now, policy);
        let generation = self.rollout.current();
        let chosen = self.way_taken(policy, from, to);
        let age = generation
            .and_then(|generation| generation.routes.policy(policy).route(from, Plane::PRIMARY, to))
            .map(|route| now.since(route.since));
        let runner_up = match &chosen {
            Some(path) => topology.runner_up(path),
            None => topology.path(from, to, None),
        };
        let view = |path: &Vec<NodeIndex>| self.way_view(now, policy, path);
        let (chosen_view, other_view) = (chosen.as_ref().map(view), runner_up.as_ref().map(view));
        let margin_us = chosen_view.as_ref().zip(other_view.as_ref()).map(margin_us);
        let (rises, falls) = turning_points(chosen_view.as_ref(), other_view.as_ref());
        ExplainView {
            from: self.relays.name(from),
            to: self.relays.name(to),
            policy: self.policies.policy(policy).name.clone(),
            epoch: generation.map(|generation| generation.epoch),
            age,
            chosen: chosen_view,
            runner_up: other_view,
            margin_us,
            rises,
            falls,
            protection: self.protection(policy, from, to),
        }
    }

    /// Why the way from one relay to another by a policy does not pass a third.
    #[must_use]
    pub fn why_not(
        &self,
        now: Timestamp,
        policy: PolicyIndex,
        (from, to): (NodeIndex, NodeIndex),
        via: NodeIndex,
    ) -> WhyNotView {
        let topology = self.topology(now, policy);
        let chosen = self.way_taken(policy, from, to);
        let halves = topology.path(from, via, None).zip(topology.path(via, to, None));
        let detour: Option<Vec<NodeIndex>> =
            halves.map(|(there, onwards)| there.into_iter().chain(onwards.into_iter().skip(1)).collect());
        let is_there = topology.transits().any(|(node, _)| node == via);
        let verdict = if via == from || via == to {
            Verdict::End
        } else if chosen.as_ref().is_some_and(|path| path.contains(&via)) {
            Verdict::Taken
        } else if !is_there {
            Verdict::Offline
        } else if let Some(avoidance) = self.avoidance(now, policy, via) {
            Verdict::Avoided(avoidance)
        } else {
            match &detour {
                None => Verdict::NoWay,
                Some(path) if path.iter().collect::<BTreeSet<_>>().len() < path.len() => Verdict::TurnsBack,
                Some(_) => Verdict::Dearer,
            }
        };
        let view = |path: &Vec<NodeIndex>| self.way_view(now, policy, path);
        let (chosen, detour) = (chosen.as_ref().map(view), detour.as_ref().map(view));
        let margin_us = chosen.as_ref().zip(detour.as_ref()).map(margin_us);
        WhyNotView { via: self.relays.name(via), verdict, chosen, detour, margin_us }
    }

    /// Every epoch of late that relays were told to stamp, oldest first.
    #[must_use]
    pub fn epochs(&self, now: Timestamp) -> Vec<EpochView> {
        let epochs = self.rollout.history().epochs();
        let view = |(epoch, at, rows, prices)| EpochView { epoch, age: now.since(at), rows, prices };
        epochs.map(view).collect()
    }

    /// What is another by a policy in the second epoch; `None` if one of them is not known any more.
    #[must_use]
    pub fn routes_diff(&self, policy: PolicyIndex, before: Epoch, after: Epoch) -> Option<RoutesDiffView> {
        let changes = self.rollout.history().between(before, after, policy)?;
        let name = |node| self.relays.name(node);
        let routes = changes.rows.into_iter().map(|row| RouteChangeView {
            node: name(row.relay),
            plane: row.plane,
            destination: name(row.destination),
            before: row.before.map(name),
            after: row.after.map(name),
        });
        let prices = changes.prices.into_iter().map(|price| PriceChangeView {
            from: name(price.from),
            to: name(price.to),
            before_us: price.before_us,
            after_us: price.after_us,
        });
        Some(RoutesDiffView { before, after, routes: routes.collect(), prices: prices.collect() })
    }

    /// How far a relay is from carrying nothing; `None` if there is none of that name.
    #[must_use]
    pub fn drain(&self, now: Timestamp, name: &str) -> Option<DrainView> {
        let node = self.relays.of_name(name)?;
        let pairs = self.rollout.in_use(now).map(|generation| generation.routes.transit_pairs(node));
        let (publications, subscriptions) = self.directory.counts(node);
        Some(DrainView {
            name: name.to_owned(),
            cordoned: self.relays.relay(node).is_some_and(|relay| relay.record.cordoned),
            draining: self.relays.relay(node).is_some_and(|relay| relay.record.draining),
            transit_pairs: pairs.max().unwrap_or(0),
            publications,
            subscriptions,
        })
    }

    /// Rows of an epoch that is over, oldest known ones included.
    pub(super) fn past_routes(&self, now: Timestamp, epoch: Epoch, filter: RouteFilter) -> Vec<RouteView> {
        let Some(newest) = self.rollout.current() else { return Vec::new() };
        let Some(past) = self.rollout.history().at(epoch, &newest.routes, filter.policy) else {
            return Vec::new();
        };
        let wanted = past
            .next
            .iter()
            .filter(|((node, plane, destination), _)| filter.wants(*node, *plane, *destination));
        wanted
            .map(|(&(node, plane, destination), next_hop)| {
                let path = past.path(node, plane, destination).unwrap_or_default();
                RouteView {
                    node: self.relays.name(node),
                    destination: self.relays.name(destination),
                    plane,
                    next_hop: self.relays.name(*next_hop),
                    cost_us: past.cost_us(&path),
                    backup: None,
                    path: path.into_iter().map(|node| self.relays.name(node)).collect(),
                    epoch,
                    age: now.since(past.stamped_at),
                }
            })
            .collect()
    }

    fn way_taken(&self, policy: PolicyIndex, from: NodeIndex, to: NodeIndex) -> Option<Vec<NodeIndex>> {
        let path = self.rollout.current()?.routes.policy(policy).path(from, Plane::PRIMARY, to)?;
        (path.len() > 1).then_some(path)
    }

    fn way_view(&self, now: Timestamp, policy: PolicyIndex, path: &[NodeIndex]) -> WayView {
        let hops: Vec<HopView> = path
            .windows(2)
            .enumerate()
            .map(|(at, hop)| {
                let passes = at + 2 < path.len();
                self.hop_view(now, policy, (hop[0], hop[1]), passes)
            })
            .collect();
        WayView {
            path: path.iter().map(|node| self.relays.name(*node)).collect(),
            cost_us: hops.iter().filter_map(|hop| hop.cost_us).sum(),
            hops,
        }
    }

    fn hop_view(
        &self,
        now: Timestamp,
        policy: PolicyIndex,
        (from, to): (NodeIndex, NodeIndex),
        passes: bool,
    ) -> HopView {
        let terms = self.terms(policy, from, to);
        let measures = |report: &LinkReport| report.rtt.is_some();
        let words = [(from, self.links.word(from, to)), (to, self.links.word(to, from))];
        let mut words = words.into_iter().filter_map(|(node, word)| Some((node, word?)));
        let source = words.find(|(_, word)| measures(&word.report));
        HopView {
            from: self.relays.name(from),
            to: self.relays.name(to),
            cost_us: terms.map(|terms| terms.total_us()),
            terms,
            raw_us: self.links.raw_us(from, to),
            measured_by: source.map(|(node, _)| self.relays.name(node)),
            age: source.map(|(_, word)| now.since(word.at)),
            samples: source.map(|(_, word)| word.report.samples),
            doubt: self.links.doubt(from, to),
            avoided: if passes { self.avoidance(now, policy, to) } else { None },
        }
    }

    /// Why routes of a policy avoid passing a relay.
    pub(super) fn avoidance(
        &self,
        now: Timestamp,
        policy: PolicyIndex,
        node: NodeIndex,
    ) -> Option<Avoidance> {
        let relay = self.relays.relay(node)?;
        let policy = self.policies.policy(policy);
        if policy.forbids(relay.place()) {
            return Some(Avoidance::Forbidden);
        }
        let unresponsive = self.rollout.is_avoided(node);
        if relay.record.cordoned {
            return Some(Avoidance::Cordoned);
        }
        if self.hubs.is_quarantined(node) {
            return Some(Avoidance::SuddenHub);
        }
        match relay.transit(now, unresponsive) {
            Transit::Willing => policy.spares(relay.place()).then_some(Avoidance::Emergency),
            Transit::Reluctant | Transit::Never if relay.leaving => Some(Avoidance::Leaving),
            Transit::Reluctant | Transit::Never if unresponsive => Some(Avoidance::Unresponsive),
            Transit::Reluctant | Transit::Never => Some(Avoidance::NoSession),
        }
    }
}
