//! Subscriptions: who wants which streams.

use super::{Directory, Holding, Subscription, in_room, is_name, matches};
use crate::effect::Effect;
use wire_format::control::{SubscriptionReport, ToRelay, limits};
use wire_format::{NodeIndex, SubscriptionId, Timestamp};

/// Subscriptions of one relay.
const SUBSCRIPTIONS_PER_RELAY: usize = 16_384;

impl Directory {
    /// A relay reports a subscription.
    pub(crate) fn subscribed(
        &mut self,
        now: Timestamp,
        node: NodeIndex,
        report: SubscriptionReport,
        out: &mut Vec<Effect>,
    ) {
        let id = (node, report.subscription);
        if let Some(known) = self.subscriptions.get_mut(&id) {
            if known.report == report {
                known.fresh = true;
                return;
            }
            self.unsubscribed(now, node, report.subscription, out);
        }
        let peer = self.peers.entry(node).or_default();
        let names =
            [Some(&report.namespace), Some(&report.room), report.user.as_ref(), report.stream.as_ref()];
        let reason = if names.into_iter().flatten().any(|name| !is_name(name)) {
            Some(format!("a name is empty or longer than {} bytes", limits::NAME_BYTES))
        } else if peer.subscriptions >= SUBSCRIPTIONS_PER_RELAY {
            Some(format!(
                "this relay has {SUBSCRIPTIONS_PER_RELAY} subscriptions already: subscribe elsewhere"
            ))
        } else {
            self.check_limits(&report.namespace, node, Holding::Subscription).err()
        };
        if let Some(reason) = reason {
            self.tally.subscriptions_refused += 1;
            let subscription = report.subscription;
            out.push(Effect::Tell(node, ToRelay::SubscriptionRefused { subscription, reason }));
            return;
        }
        self.peers.entry(node).or_default().subscriptions += 1;
        self.tenants.add(&report.namespace, node, Holding::Subscription);
        let room = (report.namespace.clone(), report.room.clone());
        let mut matched = Vec::new();
        for (name, stream) in in_room(&mut self.streams, &room) {
            if matches(&report, name) {
                stream.matching.entry(node).or_default().insert(report.subscription);
                matched.push(name.clone());
            }
        }
        self.rooms.entry(room).or_default().insert(id);
        self.subscriptions.insert(id, Subscription { report, fresh: true });
        for name in matched {
            self.refresh(now, &name, out);
        }
    }

    /// A subscription ended.
    pub(crate) fn unsubscribed(
        &mut self,
        now: Timestamp,
        node: NodeIndex,
        subscription: SubscriptionId,
        out: &mut Vec<Effect>,
    ) {
        let id = (node, subscription);
        let Some(Subscription { report, fresh: _ }) = self.subscriptions.remove(&id) else {
            return;
        };
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.subscriptions -= 1;
        }
        self.tenants.remove(&report.namespace, node, Holding::Subscription);
        let room = (report.namespace, report.room);
        if let Some(subscriptions) = self.rooms.get_mut(&room) {
            subscriptions.remove(&id);
            if subscriptions.is_empty() {
                self.rooms.remove(&room);
            }
        }
        let mut matched = Vec::new();
        for (name, stream) in in_room(&mut self.streams, &room) {
            if let Some(subscriptions) = stream.matching.get_mut(&node)
                && subscriptions.remove(&subscription)
            {
                if subscriptions.is_empty() {
                    stream.matching.remove(&node);
                }
                matched.push(name.clone());
            }
        }
        for name in matched {
            self.refresh(now, &name, out);
        }
    }
}
