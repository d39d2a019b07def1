//! A relay and its controller.

use crate::notice::Notice;
use crate::relay::{Relay, Timer};
use std::collections::BTreeMap;
use std::time::Duration;
use wire_format::control::{
    HeldStream, LinkQuality, LinkReport, LinkState, Neighbour, StreamEntry, ToController, ToRelay, Welcome,
};
use wire_format::session::RefusalCode;
use wire_format::{
    DeltaError, HOP_LIMIT, MediaKind, NodeIndex, PublicationId, RouteTable, StreamKey, SubscriptionId,
    TableDelta, Timestamp,
};

/// Bytes of held streams in a hello; the whole message may have 16 MiB.
const HELD_BYTES_MAX: usize = 12 << 20;
/// What a held stream takes on the wire at most, and what each of its destinations adds.
const HELD_STREAM_BYTES: usize = 32;
const HELD_DESTINATION_BYTES: usize = 3;

impl Relay {
    /// A session stands: everything held is said again.
    pub(crate) fn controller_connected(&mut self, now: Timestamp) {
        self.controller_up = true;
        self.controller_leads = true;
        let mut hello = self.config.hello.clone();
        hello.node = self.node;
        hello.epoch = self.tables.newest_epoch();
        hello.streams = self.held_streams();
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
        self.tenants.report_all_again();
        self.timers.set(Timer::Report, now + Duration::from_secs(1));
    }

    /// What is stamped here, as far as one message holds it. The controller learns the rest from publications and
    /// subscriptions, a moment later.
    fn held_streams(&mut self) -> Vec<HeldStream> {
        let mut held = Vec::new();
        let (mut bytes, mut left_out) = (0, 0);
        for stream in self.streams.iter() {
            let destinations = &stream.entry.destinations;
            bytes += HELD_STREAM_BYTES + HELD_DESTINATION_BYTES * destinations.len();
            if bytes > HELD_BYTES_MAX {
                left_out += 1;
            } else {
                held.push(HeldStream { key: stream.entry.key, destinations: destinations.clone() });
            }
        }
        self.counters.hello_streams_left_out += left_out;
        held
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
            ToRelay::TableDelta(delta) => self.change_table(now, &delta),
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
            ToRelay::PublicationRefused { publication, limit, reason } => {
                let code = if limit { RefusalCode::Limit } else { RefusalCode::Unavailable };
                self.publication_refused(publication, code, reason);
            }
            ToRelay::SubscriptionRefused { subscription, reason } => {
                self.subscription_refused(subscription, reason);
            }
            ToRelay::Stream(entry) => {
                let (key, revision) = (entry.key, entry.revision);
                let subscriptions = entry.subscriptions.clone();
                if self.apply_entry(now, entry) {
                    self.report(ToController::StreamAck { key, revision });
                } else {
                    self.refuse_for_want_of_room(key, &subscriptions);
                }
            }
            ToRelay::StreamGone { key } => self.remove_entry(key),
            ToRelay::Namespaces(rates) => self.tenants.set_rates(rates),
            ToRelay::Drain { draining } => self.drain(draining),
            ToRelay::TokenKeys(keys) => self.set_token_keys(now, keys),
            ToRelay::Trace(request) => self.trace(now, request),
        }
    }

    /// Tells the controller what namespaces used since it was last told.
    pub(crate) fn report_usage(&mut self) {
        let usage = self.tenants.report();
        if !usage.is_empty() {
            self.report(ToController::Usage(usage));
        }
    }

    fn set_neighbours(&mut self, now: Timestamp, neighbours: &[Neighbour]) {
        let row = |neighbour: &Neighbour| {
            (neighbour.node, (neighbour.name.clone(), neighbour.certificates_from_unix_s))
        };
        let known: BTreeMap<_, _> = neighbours.iter().map(row).collect();
        let before = self.neighbours.take().unwrap_or_default();
        // One that joined anew is another one: the link was made with a certificate that is void now. So is one that was
        // given the index of another while this relay did not listen.
        let stays = |node: NodeIndex| {
            known.get(&node).is_some_and(|(name, from)| {
                before.get(&node).is_none_or(|(before, earlier)| name == before && from <= earlier)
            })
        };
        let strangers: Vec<_> = self
            .link_of_node
            .iter()
            .enumerate()
            .filter(|(node, _)| !u16::try_from(*node).is_ok_and(|node| stays(NodeIndex(node))))
            .filter_map(|(_, link)| *link)
            .collect();
        self.neighbours = Some(known);
        for link in strangers {
            self.forget_link(now, link);
            self.output(crate::Output::Close { link, reason: "no longer a neighbour of this relay" });
        }
    }

    fn change_table(&mut self, now: Timestamp, delta: &TableDelta) {
        if self.tables.newest_epoch().is_some_and(|newest| delta.epoch < newest) {
            self.counters.stale_pushes += 1;
            return;
        }
        match self.tables.changed(delta) {
            Ok(table) => {
                self.counters.table_deltas += 1;
                self.install_table(now, table);
            }
            Err(DeltaError::OtherBase(_) | DeltaError::NotNewer(_) | DeltaError::NothingToTake) => {
                self.counters.table_deltas_refused += 1;
                self.report(ToController::TableWanted { epoch: delta.epoch });
            }
        }
    }

    fn install_table(&mut self, now: Timestamp, table: RouteTable) {
        let epoch = table.epoch;
        if !self.tables.install(table) {
            self.counters.stale_pushes += 1;
            return;
        }
        self.reroute(now);
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
        let tenant = self.tenants.number(&entry.name.namespace);
        let elsewhere = self.worker.others_of(entry.subscriptions.iter().map(|subscription| subscription.0));
        let Some(stream) = self.streams.upsert(entry) else {
            self.counters.drop_stream_table_full += 1;
            return false;
        };
        stream.elsewhere = elsewhere;
        stream.tenant = tenant;
        let name = is_new.then(|| stream.entry.name.clone());
        let incarnation = stream.entry.incarnation;
        if restarted {
            let over = std::mem::take(&mut stream.local);
            for subscriber in over {
                self.end_local(subscriber);
            }
        }
        if let Some(name) = name {
            self.notice(Notice::StreamUp { name, kind, incarnation });
        }
        let joined = self.refresh_local(key);
        // Whoever joins needs a keyframe. A relay that joins leaves asking to the ingress or holder that feeds it, which alone
        // knows when frames for it begin to flow.
        let here = self.node == Some(ingress);
        // All workers see the relays that joined; one of them asks.
        let grew = grew && self.worker.is_first();
        let missed = self.deliver_waiting(now, key);
        let wanted = missed || grew || joined && (here || !is_new);
        if kind == MediaKind::Video && wanted {
            self.want_keyframe(now, key, ingress, HOP_LIMIT);
        }
        true
    }

    /// No room for a stream: whoever publishes or wanted it hears so, and so does the controller, which would wait in vain
    /// for the entry to be acknowledged.
    fn refuse_for_want_of_room(&mut self, key: StreamKey, subscriptions: &[SubscriptionId]) {
        let all = (key, PublicationId(0))..=(key, PublicationId(u32::MAX));
        let publishers: Vec<_> = self.publishers.range(all).map(|(_, publication)| *publication).collect();
        for publication in publishers {
            let reason = self.reason_full("publish");
            self.publication_refused(publication, RefusalCode::Limit, reason);
            self.report(ToController::Unpublished { publication });
        }
        for subscription in subscriptions {
            if self.subscriptions.contains_key(subscription) {
                for key in self.streams.forget_subscription(*subscription) {
                    self.refresh_local(key);
                }
                let reason = self.reason_full("subscribe");
                self.subscription_refused(*subscription, reason);
                self.report(ToController::Unsubscribed { subscription: *subscription });
            }
        }
    }

    /// Why no other stream can be held here, for people.
    pub(crate) fn reason_full(&self, what: &str) -> String {
        format!(
            "this relay holds {} streams, its limit (`streams` in [limits] of its configuration): {what} at another",
            self.streams.most()
        )
    }

    fn remove_entry(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.remove(key) else { return };
        for subscriber in stream.local {
            self.end_local(subscriber);
        }
        self.end_plain_row(key, stream.plain);
        self.notice(Notice::StreamDown { name: stream.entry.name });
    }
}

/// What is reported of a neighbour to whom there is no link.
pub(crate) fn absent_link(neighbour: NodeIndex) -> LinkReport {
    LinkReport {
        neighbour,
        state: LinkState::Down,
        rtt: None,
        rtt_min: None,
        jitter_in: Duration::ZERO,
        jitter_out: Duration::ZERO,
        loss_out_ppm: 0,
        loss_in_ppm: 0,
        rate_out: 0,
        rate_in: 0,
        samples: 0,
        quality: LinkQuality::default(),
    }
}
