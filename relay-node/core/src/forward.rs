//! A packet's way through a relay.

use crate::duplicates::Verdict;
use crate::queue::OrderLane;
use crate::relay::{Relay, Side, Timer};
use crate::{LinkId, Received};
use std::ops::Range;
use wire_format::{
    DestinationSet, EdgeHeader, EdgeKeyframeRequest, FrameKind, HOP_LIMIT, Heartbeat, KeyframeRequest,
    MediaHeader, NodeIndex, Plane, RawFrame, StreamHandle, StreamKey, Timestamp, frames, send_time,
};

impl Relay {
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
        let from_relay = matches!(entry.side, Side::Relay { node: _ });
        let change = entry.link.datagram_in(now, received.number, sent, plain.len());
        if change.state {
            self.link_changed(now, received.link, change);
        }
        for frame in frames(plain) {
            let Ok(RawFrame { kind, body }) = frame else {
                self.counters.drop_malformed += 1;
                return;
            };
            let at = received.range.start + body.start;
            let body = &plain[body];
            match (kind, from_relay) {
                (FrameKind::Media, true) => self.media(now, received.link, body, at),
                (FrameKind::Edge, false) => self.edge(now, received.link, body, at),
                (FrameKind::Heartbeat, _) => self.heartbeat(now, received.link, body),
                (FrameKind::KeyframeRequest, true) => self.keyframe_request(now, body),
                (FrameKind::EdgeKeyframeRequest, false) => {
                    self.edge_keyframe_request(now, received.link, body)
                }
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
    fn media(&mut self, now: Timestamp, from: LinkId, body: &[u8], at: usize) {
        let Ok((header, header_bytes)) = MediaHeader::decode(body) else {
            self.counters.drop_malformed += 1;
            return;
        };
        self.counters.media_received += 1;
        self.media_passes(now, from);
        let packet = at + header_bytes..at + body.len();
        self.forward(now, header, packet, Some(from));
    }

    /// Media from an SFU: this relay is its ingress.
    fn edge(&mut self, now: Timestamp, from: LinkId, body: &[u8], at: usize) {
        let Ok(edge) = EdgeHeader::decode(body) else {
            self.counters.drop_malformed += 1;
            return;
        };
        self.media_passes(now, from);
        let inbound = self.link_mut(from).and_then(|entry| match &entry.side {
            Side::Client(client) => client.inbound(edge.handle),
            Side::Relay { node: _ } => None,
        });
        let Some(inbound) = inbound else {
            self.counters.drop_unknown_handle += 1;
            return;
        };
        let packet = at + wire_format::EDGE_HEADER_BYTES..at + body.len();
        if packet.len() > wire_format::RTP_BYTES_MAX {
            self.counters.drop_oversize += 1;
            return;
        }
        self.counters.media_published += 1;
        let epoch = self.tables.stamp().tag();
        let Some(stream) = self.streams.find(inbound.key) else {
            self.counters.drop_no_subscriber += 1;
            return;
        };
        if stream.local.is_empty() && stream.destinations.is_empty() {
            self.counters.drop_no_subscriber += 1;
            return;
        }
        let copies = stream.destinations.len();
        let mut header = MediaHeader {
            key: inbound.key,
            incarnation: inbound.incarnation,
            sequence: edge.sequence,
            slack: edge.slack.min(inbound.slack),
            priority: edge.priority,
            hop_limit: HOP_LIMIT,
            epoch,
            plane: Plane::PRIMARY,
            marked: false,
            rtcp: edge.rtcp,
            destinations: DestinationSet::single(NodeIndex(0)),
        };
        if !self.deliver(&header, packet.clone()) {
            return;
        }
        self.counters.media_fanout_splits += copies.saturating_sub(1) as u64;
        for copy in 0..copies {
            let Some(set) = self.streams.find(inbound.key).and_then(|stream| stream.destinations.get(copy))
            else {
                return;
            };
            header.destinations = *set;
            self.forward(now, header, packet.clone(), None);
        }
    }

    /// Hands a frame to the subscribers of this port. `false` if it has been here before.
    fn deliver(&mut self, header: &MediaHeader, packet: Range<usize>) -> bool {
        let Some(stream) = self.streams.find(header.key) else {
            self.counters.drop_unknown_stream += 1;
            return false;
        };
        match stream.seen.admit(header.incarnation, header.sequence) {
            Verdict::New => {}
            Verdict::Duplicate => {
                self.counters.drop_duplicate += 1;
                return false;
            }
            Verdict::TooOld => {
                self.counters.drop_too_old += 1;
                return false;
            }
        }
        stream.count(packet.len());
        let subscribers = stream.local.len();
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
            if self.push_media(to.link, FrameKind::Edge, header.key, packet.clone(), |head| {
                let bytes = edge.encode();
                head[..bytes.len()].copy_from_slice(&bytes);
                bytes.len()
            }) {
                self.counters.media_delivered += 1;
                self.counters.media_delivered_bytes += packet.len() as u64;
            }
        }
        true
    }

    /// Splits the destinations by next hop and queues one copy for each; delivers here if this relay is one of them.
    /// `from`: the link it came by, none if it starts its way here.
    ///
    /// A frame that left the tables of its stamp somewhere is never sent back to where it comes from: tables of two ages
    /// may each point at the other's relay.
    fn forward(
        &mut self,
        now: Timestamp,
        mut header: MediaHeader,
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
                    self.deliver(&header, packet);
                }
                return;
            }
            let hop = table.and_then(|(table, _)| table.next_hop(header.plane, destination));
            match hop.and_then(|hop| self.link_to(hop)) {
                None => self.counters.drop_no_route += 1,
                Some(link) if header.marked && from == Some(link) => self.counters.drop_way_back += 1,
                Some(_) if header.hop_limit == 0 => self.counters.drop_hop_limit += 1,
                Some(link) => {
                    header.hop_limit -= 1;
                    self.send_media(now, link, &header, packet);
                }
            }
            return;
        }
        let mut hops = std::mem::take(&mut self.scratch);
        hops.clear();
        let mut here = false;
        let (mut unreachable, mut back) = (0, 0);
        for destination in header.destinations.iter() {
            if Some(destination) == me {
                here = true;
                continue;
            }
            let hop = table.and_then(|(table, _)| table.next_hop(header.plane, destination));
            match hop.and_then(|hop| self.link_of_node.get(usize::from(hop.0)).copied().flatten()) {
                Some(link) if header.marked && from == Some(link) => back += 1,
                Some(link) => hops.push((link, destination)),
                None => unreachable += 1,
            }
        }
        self.counters.drop_no_route += unreachable;
        self.counters.drop_way_back += back;
        if !hops.is_empty() {
            if header.hop_limit == 0 {
                self.counters.drop_hop_limit += 1;
            } else {
                header.hop_limit -= 1;
                let whole = unreachable == 0 && back == 0 && !here;
                self.copies(now, &header, packet.clone(), &mut hops, whole);
            }
        }
        self.scratch = hops;
        // Frames that start here were delivered before they were stamped.
        if here && from.is_some() {
            self.deliver(&header, packet);
        }
    }

    /// One copy for each link in `hops`. `whole`: they are all of the frame's destinations.
    fn copies(
        &mut self,
        now: Timestamp,
        header: &MediaHeader,
        packet: Range<usize>,
        hops: &mut [(LinkId, NodeIndex)],
        whole: bool,
    ) {
        let first = hops[0].0;
        if whole && hops.iter().all(|(link, _)| *link == first) {
            self.send_media(now, first, header, packet);
            return;
        }
        hops.sort_unstable();
        let mut nodes = std::mem::take(&mut self.scratch_nodes);
        for run in hops.chunk_by(|a, b| a.0 == b.0) {
            nodes.clear();
            nodes.extend(run.iter().map(|(_, node)| *node));
            let mut rest = &nodes[..];
            while !rest.is_empty() {
                let (destinations, taken) = DestinationSet::take(rest);
                rest = &rest[taken..];
                self.counters.media_fanout_splits += u64::from(!rest.is_empty());
                self.send_media(now, run[0].0, &MediaHeader { destinations, ..*header }, packet.clone());
            }
        }
        self.scratch_nodes = nodes;
    }

    fn send_media(&mut self, now: Timestamp, link: LinkId, header: &MediaHeader, packet: Range<usize>) {
        if self.push_media(link, FrameKind::Media, header.key, packet, |head| header.encode(head)) {
            self.counters.media_forwarded += 1;
            self.media_passes(now, link);
        }
    }

    fn push_media(
        &mut self,
        id: LinkId,
        kind: FrameKind,
        key: StreamKey,
        packet: Range<usize>,
        write_head: impl FnOnce(&mut [u8]) -> usize,
    ) -> bool {
        let lane = OrderLane::of(key.user.0.wrapping_mul(5) ^ u32::from(key.stream.0) ^ key.room.0 << 3);
        let Some(entry) = self.link_mut(id) else {
            self.counters.drop_unknown_link += 1;
            return false;
        };
        let longest =
            wire_format::SEND_TIME_BYTES + wire_format::FRAME_HEADER_BYTES + wire_format::MEDIA_HEADER_MAX;
        if longest + packet.len() > entry.link.plain_max() {
            self.counters.drop_oversize += 1;
            return false;
        }
        if !entry.link.push_packet(kind, lane, packet, write_head) {
            self.counters.drop_queue_full += 1;
            return false;
        }
        self.mark_ready(id);
        true
    }

    fn media_passes(&mut self, now: Timestamp, id: LinkId) {
        if let Some(entry) = self.link_mut(id)
            && entry.link.media_seen(now)
        {
            self.rearm_link(now, id);
        }
    }

    /// A keyframe is wanted from a publisher here or further on.
    fn keyframe_request(&mut self, now: Timestamp, body: &[u8]) {
        let Ok(request) = KeyframeRequest::decode(body) else {
            self.counters.drop_malformed += 1;
            return;
        };
        if request.hop_limit == 0 {
            self.counters.drop_hop_limit += 1;
            return;
        }
        self.want_keyframe(now, request.key, request.ingress, request.hop_limit - 1);
    }

    /// A subscriber here wants a keyframe.
    fn edge_keyframe_request(&mut self, now: Timestamp, from: LinkId, body: &[u8]) {
        let Ok(EdgeKeyframeRequest { handle }) = EdgeKeyframeRequest::decode(body) else {
            self.counters.drop_malformed += 1;
            return;
        };
        let key = self.link_mut(from).and_then(|entry| match &entry.side {
            Side::Client(client) => client.announced(handle),
            Side::Relay { node: _ } => None,
        });
        let ingress = key.and_then(|key| self.streams.find(key)).map(|stream| stream.entry.ingress);
        match (key, ingress) {
            (Some(key), Some(ingress)) => self.want_keyframe(now, key, ingress, HOP_LIMIT),
            (Some(_), None) | (None, _) => self.counters.drop_unknown_handle += 1,
        }
    }

    /// Passes a request on towards the publisher, merged with others for the same stream.
    pub(crate) fn want_keyframe(
        &mut self,
        now: Timestamp,
        key: StreamKey,
        ingress: NodeIndex,
        hop_limit: u8,
    ) {
        if self.keyframes.admit(now, key, ingress, hop_limit) {
            self.send_keyframe_request(key, ingress, hop_limit);
        } else {
            self.counters.keyframe_requests_merged += 1;
            if let Some(due) = self.keyframes.next_due() {
                self.timers.set(Timer::Keyframes, due);
            }
        }
    }

    /// Requests that waited for their second to pass.
    pub(crate) fn keyframes_due(&mut self, now: Timestamp) {
        while let Some((key, ingress, hop_limit)) = self.keyframes.pop_due(now) {
            self.send_keyframe_request(key, ingress, hop_limit);
        }
        if let Some(due) = self.keyframes.next_due() {
            self.timers.set(Timer::Keyframes, due);
        }
    }

    fn send_keyframe_request(&mut self, key: StreamKey, ingress: NodeIndex, hop_limit: u8) {
        let sent = if let Some((link, handle)) = self.publisher_of(key) {
            self.push_small(link, FrameKind::EdgeKeyframeRequest, &EdgeKeyframeRequest { handle }.encode())
        } else if self.node == Some(ingress) {
            // The publisher has just left.
            false
        } else {
            let request = KeyframeRequest { ingress, key, hop_limit };
            let link = self.tables.next_hop(ingress).and_then(|hop| self.link_to(hop));
            match link {
                Some(link) => self.push_small(link, FrameKind::KeyframeRequest, &request.encode()),
                None => {
                    self.counters.drop_no_route += 1;
                    false
                }
            }
        };
        self.counters.keyframe_requests_sent += u64::from(sent);
    }

    fn publisher_of(&self, key: StreamKey) -> Option<(LinkId, StreamHandle)> {
        self.publications.values().find_map(|publication| {
            let granted = publication.granted.as_ref().filter(|granted| granted.key == key)?;
            Some((publication.link, granted.handle))
        })
    }

    fn push_small(&mut self, id: LinkId, kind: FrameKind, body: &[u8]) -> bool {
        let Some(entry) = self.link_mut(id) else { return false };
        let pushed = entry.link.push_small(kind, body);
        if pushed {
            self.mark_ready(id);
        } else {
            self.counters.drop_queue_full += 1;
        }
        pushed
    }
}
