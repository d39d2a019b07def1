//! A relay and its controller.

use crate::relay::{Relay, Timer};
use std::collections::BTreeSet;
use wire_format::control::{HeldStream, Neighbour, StreamEntry, ToController, ToRelay, Welcome};
use wire_format::{HOP_LIMIT, MediaKind, RouteTable, StreamKey, Timestamp};

impl Relay {
    /// A session stands: everything held is said again.
    pub(crate) fn controller_connected(&mut self, now: Timestamp) {
        self.controller_up = true;
        self.controller_leads = true;
        let mut hello = self.config.hello.clone();
        hello.node = self.node;
        hello.epoch = self.tables.newest_epoch();
        hello.streams = self
            .streams
            .iter()
            .map(|stream| HeldStream {
                key: stream.entry.key,
                destinations: stream.entry.destinations.clone(),
            })
            .collect();
        self.report(ToController::Hello(hello));
        let publications: Vec<_> = self.publications.iter().map(|(id, held)| held.report(*id)).collect();
        for report in publications {
            self.report(ToController::Published(report));
        }
        let subscriptions: Vec<_> = self.subscriptions.iter().map(|(id, held)| held.report(*id)).collect();
        for report in subscriptions {
            self.report(ToController::Subscribed(report));
        }
        let links = self.link_reports();
        self.report(ToController::Links(links));
        self.report(ToController::ReportsComplete);
        self.timers.set(Timer::Report, now + std::time::Duration::from_secs(1));
    }

    /// A message of the controller.
    pub(crate) fn controller_says(&mut self, now: Timestamp, message: ToRelay) {
        if let ToRelay::Welcome(Welcome { node, term }) = message {
            self.controller_leads = term >= self.term;
            if self.controller_leads {
                self.term = term;
                self.node = Some(node);
            }
            return;
        }
        if !self.controller_leads {
            self.counters.stale_pushes += 1;
            return;
        }
        match message {
            ToRelay::Welcome(_) => {}
            ToRelay::Neighbours(neighbours) => self.set_neighbours(now, &neighbours),
            ToRelay::Table(table) => self.install_table(now, table),
            ToRelay::Stamp { epoch } => {
                if self.tables.stamp_with(epoch) {
                    self.report(ToController::StampAck { epoch });
                } else {
                    self.counters.stale_pushes += 1;
                }
            }
            ToRelay::PublicationGranted { publication, key, incarnation } => {
                self.publication_granted(publication, key, incarnation);
            }
            ToRelay::PublicationRefused { publication, reason } => {
                self.publication_refused(publication, reason)
            }
            ToRelay::SubscriptionRefused { subscription, reason } => {
                self.subscription_refused(subscription, reason);
            }
            ToRelay::Stream(entry) => {
                let (key, revision) = (entry.key, entry.revision);
                if self.apply_entry(now, entry) {
                    self.report(ToController::StreamAck { key, revision });
                }
            }
            ToRelay::StreamGone { key } => self.remove_entry(key),
            // The process around the core checks tokens.
            ToRelay::TokenKeys(_) => {}
        }
    }

    fn set_neighbours(&mut self, now: Timestamp, neighbours: &[Neighbour]) {
        let known: BTreeSet<_> = neighbours.iter().map(|neighbour| neighbour.node).collect();
        let strangers: Vec<_> = self
            .link_of_node
            .iter()
            .enumerate()
            .filter(|(node, _)| !known.iter().any(|known| usize::from(known.0) == *node))
            .filter_map(|(_, link)| *link)
            .collect();
        self.neighbours = Some(known);
        for link in strangers {
            self.forget_link(now, link);
            self.output(crate::Output::Close { link, reason: "no longer a neighbour of this relay" });
        }
    }

    fn install_table(&mut self, now: Timestamp, table: RouteTable) {
        let epoch = table.epoch;
        if !self.tables.install(table) {
            self.counters.stale_pushes += 1;
            return;
        }
        let hops = self.tables.hops();
        let links: Vec<_> =
            self.link_of_node.iter().enumerate().filter_map(|(node, link)| Some((node, (*link)?))).collect();
        for (node, link) in links {
            let routed = u16::try_from(node).is_ok_and(|node| hops.contains(&wire_format::NodeIndex(node)));
            if self.link_mut(link).is_some_and(|entry| entry.link.set_routed(now, routed)) {
                self.rearm_link(now, link);
            }
        }
        self.report(ToController::TableAck { epoch });
    }

    /// Puts a row of the stream table in place. `false` if the table is full.
    pub(crate) fn apply_entry(&mut self, now: Timestamp, entry: StreamEntry) -> bool {
        let (key, kind, ingress) = (entry.key, entry.kind, entry.ingress);
        let before = self
            .streams
            .find(key)
            .map(|stream| (stream.entry.incarnation, stream.entry.destinations.clone()));
        let is_new = before.is_none();
        let (incarnation, destinations) = before.unwrap_or((entry.incarnation, Vec::new()));
        let grew = entry.destinations.iter().any(|node| !destinations.contains(node));
        let restarted = incarnation != entry.incarnation;
        let Some(stream) = self.streams.upsert(entry) else {
            self.counters.drop_output_full += 1;
            return false;
        };
        if restarted {
            let over = std::mem::take(&mut stream.local);
            for subscriber in over {
                self.end_local(subscriber);
            }
        }
        let joined = self.refresh_local(key);
        // Whoever joins needs a keyframe. A relay that joins leaves asking to the ingress, which alone knows when frames
        // for it begin to flow.
        let here = self.node == Some(ingress);
        let wanted = if here { grew || joined } else { joined && !is_new };
        if kind == MediaKind::Video && wanted {
            self.want_keyframe(now, key, ingress, HOP_LIMIT);
        }
        true
    }

    fn remove_entry(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.remove(key) else { return };
        for subscriber in stream.local {
            self.end_local(subscriber);
        }
    }
}
