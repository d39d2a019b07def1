//! A packet's way through a relay.

mod carrier;
mod restored;
mod unknown;

use crate::duplicates::Verdict;
use crate::plain::Arrived;
use crate::queue::{OrderLane, Pushed, Refused};
use crate::relay::{Relay, Side, slot};
use crate::repair::{RepairMode, Urgency};
use crate::table::Way;
use crate::trace::Arriving;
use crate::{LinkId, RateLimit, Received};
pub(crate) use carrier::{Carrier, Restored};
use std::ops::Range;
use std::time::Duration;
use wire_format::{
    DestinationSet, EdgeHeader, FrameKind, HOP_LIMIT, Heartbeat, Incarnation, MediaHeader, NodeIndex, Plane,
    Priority, RawFrame, SEAL_OVERHEAD_BYTES, Sequence, Slack, StreamKey, Timestamp, frames, send_time,
};

/// Audio that is later than it may be, but by no more than this, goes on all the same: where a link became too narrow all that
/// comes is late for a moment, and players wait a little longer rather than lose a word.
const AUDIO_LATE_MAX: Duration = Duration::from_millis(400);
/// It has so much slack for what is to come, unless it never had as much.
const AUDIO_LEAST: Slack = Slack::from_millis(50);

/// A packet of a publisher here, before it is stamped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entering {
    pub(crate) key: StreamKey,
    pub(crate) incarnation: Incarnation,
    pub(crate) sequence: Sequence,
    pub(crate) slack: Slack,
    pub(crate) priority: Priority,
    pub(crate) rtcp: bool,
}

impl Relay {
    /// Bounds what each link to an SFU that comes up from now on may bring. A new relay bounds nothing. Links to relays have
    /// no such bound: what they carry was bounded where it entered.
    pub fn limit_clients(&mut self, limit: RateLimit) {
        self.client_rate = limit;
    }

    /// Sets what links that come up from now on do against loss, for measurements of what repair costs and brings. A new
    /// relay adapts to each link.
    pub fn repair_as(&mut self, mode: RepairMode) {
        self.repair_mode = mode;
    }

    /// An opened datagram: its frames, one by one.
    pub(crate) fn datagram(&mut self, now: Timestamp, arena: &[u8], received: &Received) {
        let plain = &arena[received.range.clone()];
        let Some(entry) = self.link_mut(received.link) else {
            self.counters.drop_unknown_link += 1;
            return;
        };
        let Ok(sent) = send_time(plain) else {
            self.counters.drop_malformed += 1;
            return;
        };
        // Too much of it is dropped after the link has heard and counted it: an SFU that is cut down to its rate is neither
        // silent nor behind a lossy path.
        let (from_relay, admitted) = match &mut entry.side {
            Side::Relay { node: _ } => (true, true),
            Side::Client(client) => (false, client.admit(now, plain.len() + SEAL_OVERHEAD_BYTES)),
        };
        let came = entry.link.datagram_in(now, received.number, sent, plain);
        if let Some(change) = came.change() {
            self.link_changed(now, received.link, change);
        }
        if !admitted {
            if let Some(entry) = self.link_mut(received.link) {
                entry.link.dropped_unread(plain);
            }
            self.counters.drop_link_rate += 1;
            return;
        }
        if came.restored_before {
            self.counters.drop_restored += 1;
            return;
        }
        let at = received.range.start;
        self.frames(
            now,
            &Carrier { link: received.link, from_relay, excess: came.excess, restored: None },
            plain,
            at,
        );
    }

    /// The frames of a datagram that came whole; its bytes are at `at` of arena and annex.
    fn frames(&mut self, now: Timestamp, carrier: &Carrier, plain: &[u8], at: usize) {
        let Carrier { link, from_relay, .. } = *carrier;
        for frame in frames(plain) {
            let Ok(RawFrame { kind, body }) = frame else {
                self.counters.drop_malformed += 1;
                return;
            };
            let at = at + body.start;
            let body = &plain[body];
            match (kind, from_relay) {
                (FrameKind::Media, true) => self.media(now, carrier, body, at),
                (FrameKind::Edge, false) => self.edge(now, carrier, body, at),
                (FrameKind::Heartbeat, _) => self.heartbeat(now, link, body),
                (FrameKind::KeyframeRequest | FrameKind::EdgeKeyframeRequest, _)
                    if !self.may_ask_for_keyframe(now, link) =>
                {
                    self.counters.drop_keyframe_request += 1;
                }
                (FrameKind::Fragment, _) => self.half(now, carrier, body),
                (FrameKind::MtuProbe, _) => self.mtu_probe(now, link, body, plain.len()),
                (FrameKind::PathChallenge, _) => self.path_challenge(now, link, body),
                (FrameKind::RepairRequest, _) => self.repair_request(now, link, body),
                (FrameKind::Repair, _) => self.repair(now, carrier, body, at),
                (FrameKind::Parity, _) => self.parity(now, carrier, body),
                (FrameKind::KeyframeRequest, true) => self.keyframe_request(now, link, body),
                (FrameKind::EdgeKeyframeRequest, false) => self.edge_keyframe_request(now, link, body),
                (FrameKind::Unknown(_), _) => self.counters.skip_unknown_kind += 1,
                (FrameKind::Media | FrameKind::KeyframeRequest, false)
                | (FrameKind::Edge | FrameKind::EdgeKeyframeRequest, true) => {
                    self.counters.drop_forbidden += 1
                }
            }
        }
    }

    fn heartbeat(&mut self, now: Timestamp, id: LinkId, body: &[u8]) {
        let Ok(heartbeat) = Heartbeat::decode(body) else {
            self.counters.drop_malformed += 1;
            return;
        };
        if let Some(entry) = self.link_mut(id) {
            let change = entry.link.heartbeat_in(now, &heartbeat);
            self.link_changed(now, id, change);
        }
    }

    /// Media from a relay: transit, egress or both.
    pub(crate) fn media(&mut self, now: Timestamp, carrier: &Carrier, body: &[u8], at: usize) {
        let Ok((mut header, header_bytes)) = MediaHeader::decode(body) else {
            self.counters.drop_malformed += 1;
            return;
        };
        let from = carrier.link;
        self.counters.media_received += 1;
        self.media_came(now, carrier, header.slack);
        header.slack = self.spend(header.slack, carrier.excess, header.priority);
        if !self.traces.is_empty() {
            self.trace_media_in(now, &header, carrier, body.len());
        }
        let packet = at + header_bytes..at + body.len();
        self.forward(now, &mut header, packet, Some(from));
        if self.stranger {
            self.stranger = false;
            self.wait_for_entry(now, from, header, &body[header_bytes..]);
        }
    }

    /// What is left of a slack. What has none left is delivered where it already is, late, and sent to no further relay;
    /// but audio that is not much too late is.
    fn spend(&mut self, slack: Slack, excess: Duration, priority: Priority) -> Slack {
        match slack.spend(excess) {
            Some(left) => left,
            None => self.late(slack, excess, priority),
        }
    }

    /// The same where nothing is left.
    #[cold]
    fn late(&mut self, slack: Slack, excess: Duration, priority: Priority) -> Slack {
        self.counters.media_late += 1;
        let goes_on = priority == Priority::AUDIO && excess <= slack.as_duration() + AUDIO_LATE_MAX;
        if goes_on { slack.min(AUDIO_LEAST) } else { Slack(0) }
    }

    /// Media from an SFU: this relay is its ingress.
    pub(crate) fn edge(&mut self, now: Timestamp, carrier: &Carrier, body: &[u8], at: usize) {
        let Ok(edge) = EdgeHeader::decode(body) else {
            self.counters.drop_malformed += 1;
            return;
        };
        let from = carrier.link;
        self.media_came(now, carrier, edge.slack);
        let inbound = self.link_mut(from).and_then(|entry| match &entry.side {
            Side::Client(client) => client.inbound(edge.handle),
            Side::Relay { node: _ } => None,
        });
        let Some(inbound) = inbound else {
            self.counters.drop_unknown_handle += 1;
            return;
        };
        let packet = at + wire_format::EDGE_HEADER_BYTES..at + body.len();
        // What an SFU says orders its own streams; it makes no video as urgent as audio.
        let priority = edge.priority.within(inbound.kind);
        let slack = self.spend(edge.slack.min(inbound.slack), carrier.excess, priority);
        let entering = Entering {
            key: inbound.key,
            incarnation: inbound.incarnation,
            sequence: edge.sequence,
            slack,
            priority,
            rtcp: edge.rtcp,
        };
        if !self.traces.is_empty() {
            self.trace_in(now, &Arriving::entering(&entering, Some(*carrier), body.len()));
        }
        self.enter(now, &entering, packet);
    }

    /// A packet enters the overlay here: to whoever gets it at this relay, then stamped and on its way.
    pub(crate) fn enter(&mut self, now: Timestamp, entering: &Entering, packet: Range<usize>) {
        let Entering { key, incarnation, sequence, slack, priority, rtcp } = *entering;
        if packet.len() > wire_format::RTP_BYTES_MAX {
            self.counters.drop_oversize += 1;
            return;
        }
        self.counters.media_published += 1;
        let Some(stream) = self.streams.find(key) else {
            self.counters.drop_no_subscriber += 1;
            return;
        };
        if stream.is_unwanted() {
            self.counters.drop_no_subscriber += 1;
            return;
        }
        let (tenant, policy) = (stream.tenant, stream.entry.policy);
        if !self.tenants.admit(now, tenant, packet.len()) {
            self.counters.drop_over_rate += 1;
            return;
        }
        let header = MediaHeader {
            key,
            incarnation,
            sequence,
            slack,
            priority,
            hop_limit: HOP_LIMIT,
            epoch: 0,
            plane: Plane::PRIMARY,
            marked: false,
            rtcp,
            protected: false,
            policy,
            destinations: DestinationSet::single(NodeIndex(0)),
        };
        if let Some(copies) = self.deliver(now, None, &header, packet.clone()) {
            self.stamp(now, &header, &packet, copies);
        }
    }

    /// A frame that came to this relay as one of its destinations. Where the stream is held for others it is sent on to them,
    /// stamped anew: only what was not here before, so that whatever feeds whom while feeders change, nothing goes round.
    fn egress(&mut self, now: Timestamp, from: Option<LinkId>, header: &MediaHeader, packet: Range<usize>) {
        if let Some(copies @ 1..) = self.deliver(now, from, header, packet.clone()) {
            self.counters.media_fed += 1;
            self.stamp(now, header, &packet, copies);
        }
    }

    /// Sends a frame on its way to the destinations that the stream's row names, in as many copies as these take. Sequence,
    /// priority and what is left of slack and hops stay; the rest of the header is new.
    fn stamp(&mut self, now: Timestamp, header: &MediaHeader, packet: &Range<usize>, copies: usize) {
        let epoch = self.tables.stamp().tag();
        self.counters.media_fanout_splits += copies.saturating_sub(1) as u64;
        for copy in 0..copies {
            let Some(stream) = self.streams.find(header.key) else { return };
            let Some(destinations) = stream.destinations.get(copy).copied() else { return };
            let protect = stream.entry.protect;
            let plane = Plane::PRIMARY;
            let mut header =
                MediaHeader { destinations, epoch, plane, marked: false, protected: false, ..*header };
            if protect {
                self.forward_protected(now, &header, packet);
            } else {
                self.forward(now, &mut header, packet.clone(), None);
            }
        }
    }

    /// Hands a frame to the subscribers of this port. Tells in how many copies it is to be stamped here; `None` if it has been
    /// here before, or its stream is not known.
    fn deliver(
        &mut self,
        now: Timestamp,
        from: Option<LinkId>,
        header: &MediaHeader,
        packet: Range<usize>,
    ) -> Option<usize> {
        let Some(stream) = self.streams.find(header.key) else {
            self.stranger = true;
            return None;
        };
        let before = stream.seen.newest();
        match stream.seen.admit(header.incarnation, header.sequence) {
            Verdict::New => {}
            Verdict::Duplicate => {
                self.drop_duplicate(header);
                return None;
            }
            Verdict::TooOld => {
                self.counters.drop_too_old += 1;
                return None;
            }
        }
        stream.count(packet.len());
        let (elsewhere, copies) = (stream.elsewhere, stream.destinations.len());
        // Two ways at once take turns, and neither is a change of path.
        if stream.arrival != from && !header.protected {
            self.arrives_by(now, header.key, from, before);
        }
        if !elsewhere.is_empty() {
            self.hand_over_delivery(elsewhere, header, packet.clone());
        }
        self.deliver_here(header, packet);
        Some(copies)
    }

    /// The same for a frame that another worker received, judged and counted.
    pub(crate) fn deliver_handed_over(&mut self, header: &MediaHeader, packet: Range<usize>) {
        let Some(stream) = self.streams.find(header.key) else { return };
        if stream.local.is_empty() && stream.plain.is_empty() {
            return;
        }
        match stream.seen.admit(header.incarnation, header.sequence) {
            Verdict::New => self.deliver_here(header, packet),
            Verdict::Duplicate => self.drop_duplicate(header),
            Verdict::TooOld => self.counters.drop_too_old += 1,
        }
    }

    fn drop_duplicate(&mut self, header: &MediaHeader) {
        if header.protected {
            self.counters.drop_second_copy += 1;
        } else {
            self.counters.drop_duplicate += 1;
        }
    }

    fn deliver_here(&mut self, header: &MediaHeader, packet: Range<usize>) {
        let Some(stream) = self.streams.find(header.key) else { return };
        if !stream.plain.is_empty() {
            let packet = packet.clone();
            self.plain.arrived.push(Arrived { key: header.key, packet, rtcp: header.rtcp });
        }
        let (tenant, subscribers) = (stream.tenant, stream.local.len());
        let mut handed = stream.plain.subscribers();
        for i in 0..subscribers {
            let Some(to) = self.streams.find(header.key).and_then(|stream| stream.local.get(i).copied())
            else {
                break;
            };
            let edge = EdgeHeader {
                handle: to.handle,
                sequence: header.sequence,
                slack: header.slack,
                priority: header.priority,
                rtcp: header.rtcp,
            };
            let urgency = Urgency { priority: header.priority, slack: header.slack };
            if self.push_media(to.link, FrameKind::Edge, urgency, header.key, packet.clone(), |head| {
                let bytes = edge.encode();
                head[..bytes.len()].copy_from_slice(&bytes);
                bytes.len()
            }) {
                self.counters.media_delivered += 1;
                self.counters.media_delivered_bytes += packet.len() as u64;
                handed += 1;
            }
        }
        self.tenants.delivered(tenant, handed, packet.len());
    }

    /// Splits the destinations by next hop and queues one copy for each; delivers here if this relay is one of them.
    /// Destinations that move to a redundant plane go in copies of their own: one copy for each link and plane.
    /// `from`: the link it came by, none if it starts its way here. `header` is then as it leaves: a hop less, and marked.
    ///
    /// A frame that left the tables of its stamp somewhere is never sent back to where it comes from: tables of two ages
    /// may each point at the other's relay. Only the relay that moves it to another plane may: where it came from, that
    /// plane leads elsewhere.
    pub(crate) fn forward(
        &mut self,
        now: Timestamp,
        header: &mut MediaHeader,
        packet: Range<usize>,
        from: Option<LinkId>,
    ) {
        let table = self.tables.of_frame(header.epoch);
        let me = self.node;
        if table.is_some_and(|(_, known)| !known) && header.destinations.only() != me {
            self.counters.media_epoch_unknown += 1;
            header.marked = true;
        }
        if let Some(destination) = header.destinations.only() {
            // By far the most frequent case: one destination left.
            if Some(destination) == me {
                if from.is_some() {
                    self.egress(now, from, header, packet);
                }
                return;
            }
            let stamped = header.plane;
            match table.and_then(|(table, _)| table.way_of(header, destination)) {
                None if self.hand_over_forward(header, packet.clone(), from) => {}
                None => self.drop_without_way(header),
                Some(Way { link, plane }) if header.marked && plane == stamped && from == Some(link) => {
                    self.counters.drop_way_back += 1;
                }
                Some(_) if header.hop_limit == 0 => self.counters.drop_hop_limit += 1,
                Some(Way { link, plane }) => {
                    header.hop_limit -= 1;
                    self.send_media(now, link, plane, header, packet);
                }
            }
            return;
        }
        let mut hops = std::mem::take(&mut self.scratch);
        hops.clear();
        let mut here = false;
        let mut unreachable = std::mem::take(&mut self.scratch_nodes);
        unreachable.clear();
        let mut back = 0;
        for destination in header.destinations.iter() {
            if Some(destination) == me {
                here = true;
                continue;
            }
            match table.and_then(|(table, _)| table.way_of(header, destination)) {
                Some(Way { link, plane }) if header.marked && plane == header.plane && from == Some(link) => {
                    back += 1;
                }
                Some(Way { link, plane }) => hops.push((link, plane, destination)),
                None => unreachable.push(destination),
            }
        }
        let all_reachable = unreachable.is_empty();
        let hops_left = header.hop_limit;
        for destination in &unreachable {
            let alone = MediaHeader { destinations: DestinationSet::single(*destination), ..*header };
            if !self.hand_over_forward(&alone, packet.clone(), from) {
                self.drop_without_way(header);
            }
        }
        self.scratch_nodes = unreachable;
        self.counters.drop_way_back += back;
        if !hops.is_empty() {
            if header.hop_limit == 0 {
                self.counters.drop_hop_limit += 1;
            } else {
                header.hop_limit -= 1;
                let whole = all_reachable && back == 0 && !here;
                self.copies(now, header, packet.clone(), &mut hops, whole);
            }
        }
        self.scratch = hops;
        // Frames that start here were delivered before they were stamped.
        if here && from.is_some() {
            // What goes on from here anew has come as many hops as what is passed on.
            header.hop_limit = hops_left;
            self.egress(now, from, header, packet);
        }
    }

    /// Nothing leads to a destination of a frame.
    fn drop_without_way(&mut self, header: &MediaHeader) {
        if header.plane == Plane::PRIMARY && !header.protected {
            self.counters.drop_no_route += 1;
        } else {
            self.counters.drop_plane_cut += 1;
        }
    }

    /// One copy for each link and plane in `hops`. `whole`: they are all of the frame's destinations.
    pub(crate) fn copies(
        &mut self,
        now: Timestamp,
        header: &MediaHeader,
        packet: Range<usize>,
        hops: &mut [(LinkId, Plane, NodeIndex)],
        whole: bool,
    ) {
        let (first, plane, _) = hops[0];
        if whole && hops.iter().all(|hop| (hop.0, hop.1) == (first, plane)) {
            self.send_media(now, first, plane, header, packet);
            return;
        }
        hops.sort_unstable();
        let mut nodes = std::mem::take(&mut self.scratch_nodes);
        for run in hops.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            let (link, plane, _) = run[0];
            nodes.clear();
            nodes.extend(run.iter().map(|(_, _, node)| *node));
            let mut rest = &nodes[..];
            while !rest.is_empty() {
                let (destinations, taken) = DestinationSet::take(rest);
                rest = &rest[taken..];
                self.counters.media_fanout_splits += u64::from(!rest.is_empty());
                let header = MediaHeader { destinations, ..*header };
                self.send_media(now, link, plane, &header, packet.clone());
            }
        }
        self.scratch_nodes = nodes;
    }

    /// Queues one copy, on a plane that may be another than the one it came by.
    fn send_media(
        &mut self,
        now: Timestamp,
        link: LinkId,
        plane: Plane,
        header: &MediaHeader,
        packet: Range<usize>,
    ) {
        if header.slack == Slack(0) {
            self.counters.drop_slack += 1;
            return;
        }
        let moved;
        let header = if plane == header.plane {
            header
        } else {
            self.counters.media_rerouted += 1;
            moved = MediaHeader { plane, marked: true, ..*header };
            &moved
        };
        let urgency = Urgency { priority: header.priority, slack: header.slack };
        if self.push_media(link, FrameKind::Media, urgency, header.key, packet, |head| header.encode(head)) {
            self.counters.media_forwarded += 1;
            self.media_passes(now, link);
        }
    }

    fn push_media(
        &mut self,
        id: LinkId,
        kind: FrameKind,
        urgency: Urgency,
        key: StreamKey,
        packet: Range<usize>,
        write_head: impl FnOnce(&mut [u8]) -> usize,
    ) -> bool {
        let lane = OrderLane::of(key.user.0.wrapping_mul(5) ^ u32::from(key.stream.0) ^ key.room.0 << 3);
        let Some(entry) =
            self.links.get_mut(slot(id)).and_then(Option::as_mut).filter(|entry| entry.link.id == id)
        else {
            self.counters.drop_unknown_link += 1;
            return false;
        };
        match entry.link.push_packet(kind, urgency, lane, packet, write_head) {
            Ok(Pushed::Whole) => {}
            Ok(Pushed::Cut) => self.counters.frames_cut += 1,
            Err(Refused::Full) => {
                self.counters.drop_queue_full += 1;
                return false;
            }
            Err(Refused::TooLarge) => {
                self.counters.drop_oversize += 1;
                return false;
            }
        }
        if !entry.ready {
            entry.ready = true;
            self.ready.push(id);
        }
        true
    }

    /// The same, with what its frame may still lose.
    fn media_came(&mut self, now: Timestamp, carrier: &Carrier, slack: Slack) {
        let Some(entry) = self.link_mut(carrier.link) else { return };
        entry.link.media_came(now, slack, carrier.restored.is_some());
        // When it is missed again is later now, and the timer looks then.
        if entry.link.media_seen(now) {
            self.rearm_link(now, carrier.link);
        }
    }

    fn media_passes(&mut self, now: Timestamp, id: LinkId) {
        if let Some(entry) = self.link_mut(id)
            && entry.link.media_seen(now)
        {
            self.rearm_link(now, id);
        }
    }

    pub(crate) fn push_small(&mut self, id: LinkId, kind: FrameKind, body: &[u8]) -> bool {
        let Some(entry) = self.link_mut(id) else { return false };
        let pushed = entry.link.push_small(kind, body).is_ok();
        if pushed {
            self.mark_ready(id);
        } else {
            self.counters.drop_queue_full += 1;
        }
        pushed
    }
}
