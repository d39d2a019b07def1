//! The client core: an SFU's end of its link. Publications and subscriptions belong to the client, not to a link: on
//! every new link they are asked for again.

mod restored;

use crate::backlog::BacklogMemory;
use crate::link::{Link, LinkChange};
use crate::queue::{OrderLane, Pushed, Refused};
use crate::repair::{RepairMemory, Urgency};
use crate::timers::Timers;
use crate::waiting::Waiting;
use crate::{
    ClientCommand, ClientConfig, ClientEvent, Counters, Delivery, Endpoint, Input, LinkId, LinkStats,
    Outgoing, Output, Peer, Received, Train,
};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use wire_format::control::LinkState;
use wire_format::session::Message;
use wire_format::{
    EDGE_HEADER_BYTES, EdgeHeader, EdgeKeyframeRequest, FrameKind, Heartbeat, Incarnation, MediaKind,
    Prioritizer, RTP_BYTES_MAX, RawFrame, Sequence, Slack, StreamHandle, Timestamp, frames, send_time,
};

/// Outputs that may wait for the driver.
const OUTPUTS_MAX: usize = 1 << 16;
/// Deliveries of one batch.
const DELIVERIES_MAX: usize = 1 << 16;
/// Streams announced at once on a link; the handle is 16 bits wide.
const ANNOUNCED_MAX: usize = 1 << 15;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Timer {
    Link,
    Waiting,
}

#[derive(Debug)]
pub(crate) struct Publication {
    message: Message,
    prioritizer: Prioritizer,
    slack: Slack,
    pub(crate) handle: Option<StreamHandle>,
    /// When the link last wanted a keyframe.
    pub(crate) keyframe_at: Option<Timestamp>,
    next_sequence: u32,
}

/// An SFU's end of a link, without sockets, keys and clock.
#[derive(Debug)]
pub struct Client {
    pub(crate) link: Option<Link>,
    link_ready: bool,
    pub(crate) publications: BTreeMap<u32, Publication>,
    subscriptions: BTreeMap<u32, Message>,
    announced: BTreeMap<StreamHandle, Incarnation>,
    pub(crate) counters: Counters,
    repair_memory: RepairMemory,
    pub(crate) backlog_memory: BacklogMemory,
    /// Media whose announcement is still under way.
    waiting: Waiting<StreamHandle, EdgeHeader>,
    /// Packets of the present input that did not come with it; see `annex`.
    pub(crate) annex: Vec<u8>,
    /// Length of the driver's arena in the present input.
    arena_bytes: usize,
    pub(crate) timers: Timers<Timer>,
    /// A frame that has just been rejoined.
    whole: Vec<u8>,
    /// A datagram that parity has just restored.
    restored: Vec<u8>,
    deliveries: VecDeque<Delivery>,
    outputs: VecDeque<Output<ClientEvent>>,
}

impl Client {
    /// A client without link. The configuration's seed is kept for what will be random in it; nothing is yet.
    pub fn new(_config: ClientConfig) -> Client {
        Client {
            link: None,
            link_ready: false,
            publications: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            announced: BTreeMap::new(),
            counters: Counters::default(),
            repair_memory: RepairMemory::default(),
            backlog_memory: BacklogMemory::default(),
            waiting: Waiting::new(),
            annex: Vec::new(),
            arena_bytes: 0,
            timers: Timers::new(),
            whole: Vec::new(),
            restored: Vec::new(),
            deliveries: VecDeque::new(),
            outputs: VecDeque::new(),
        }
    }

    /// What happened so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The link and its measurements, if one stands.
    pub fn link(&self) -> Option<(LinkId, LinkStats)> {
        self.link.as_ref().map(|link| (link.id, link.stats()))
    }

    /// Whether the relay has granted a publication on the present link.
    pub fn is_published(&self, request: u32) -> bool {
        self.publications.get(&request).is_some_and(|publication| publication.handle.is_some())
    }

    fn output(&mut self, output: Output<ClientEvent>) {
        if self.outputs.len() >= OUTPUTS_MAX {
            self.counters.drop_output_full += 1;
            return;
        }
        self.outputs.push_back(output);
    }

    fn say(&mut self, message: Message) {
        if let Some(link) = self.link.as_ref().map(|link| link.id) {
            self.output(Output::Message { link, message });
        }
    }

    pub(crate) fn event(&mut self, event: ClientEvent) {
        self.output(Output::Event(event));
    }

    fn link_up(&mut self, now: Timestamp, id: LinkId, peer: &Peer, max_datagram: u16) {
        if *peer != Peer::Upstream {
            self.output(Output::Close { link: id, reason: "a client links to relays only" });
            return;
        }
        if let Some(before) = self.link.as_ref().map(|link| link.id) {
            self.link_down();
            self.output(Output::Close { link: before, reason: "replaced by a newer link" });
        }
        self.link = Some(Link::new(now, id, max_datagram));
        let requests: Vec<_> = self
            .publications
            .values()
            .map(|publication| publication.message.clone())
            .chain(self.subscriptions.values().cloned())
            .collect();
        for message in requests {
            self.say(message);
        }
        self.tick(now);
    }

    fn link_down(&mut self) {
        if let Some(mut link) = self.link.take() {
            link.take_waiting().into_iter().for_each(|parked| self.backlog_memory.give(parked.body));
            link.release(&mut self.repair_memory);
            link.take_unacknowledged().release(&mut self.repair_memory);
        }
        self.link_ready = false;
        self.timers.clear(Timer::Link);
        self.timers.clear(Timer::Waiting);
        self.counters.drop_unknown_handle += self.waiting.clear();
        for publication in self.publications.values_mut() {
            publication.handle = None;
        }
        for handle in std::mem::take(&mut self.announced).into_keys() {
            self.event(ClientEvent::Ended { handle });
        }
    }

    fn tick(&mut self, now: Timestamp) {
        let Some(link) = self.link.as_mut() else { return };
        let change = link.tick(now, &mut self.repair_memory);
        self.link_ready |= link.has_output(now) || link.is_paced();
        let id = link.id;
        // With another relay to go to, nothing is gained by waiting as long as relays do for each other.
        let lost = change.state && link.stats().state == LinkState::Down;
        self.rearm(now);
        self.count(change);
        if change.hopeless || lost {
            self.link_down();
            self.output(Output::Close { link: id, reason: "silent for too long" });
        }
    }

    fn count(&mut self, change: LinkChange) {
        self.counters.drop_half += change.halves_lost;
        self.counters.mtu_fallbacks += u64::from(change.narrower);
        self.counters.mtu_probes_sent += change.probes as u64;
    }

    fn changed(&mut self, now: Timestamp, change: LinkChange) {
        self.count(change);
        self.link_ready |= change.probes > 0 || change.asks;
        if change.sooner {
            self.rearm(now);
        }
    }

    fn rearm(&mut self, now: Timestamp) {
        if let Some(next) = self.link.as_mut().and_then(|link| link.rearm(now)) {
            self.timers.set(Timer::Link, next);
        }
    }

    fn datagram(&mut self, now: Timestamp, arena: &[u8], received: &Received) {
        let plain = &arena[received.range.clone()];
        let Some(link) = self.link.as_mut().filter(|link| link.id == received.link) else {
            self.counters.drop_unknown_link += 1;
            return;
        };
        let Ok(sent) = send_time(plain) else {
            self.counters.drop_malformed += 1;
            return;
        };
        let came = link.datagram_in(now, received.number, sent, plain);
        if let Some(change) = came.change() {
            self.changed(now, change);
        }
        if came.restored_before {
            self.counters.drop_restored += 1;
            return;
        }
        for frame in frames(plain) {
            let Ok(RawFrame { kind, body }) = frame else {
                self.counters.drop_malformed += 1;
                return;
            };
            let at = received.range.start + body.start;
            let body = &plain[body];
            match kind {
                FrameKind::Edge => self.edge(now, body, at, false),
                FrameKind::Heartbeat => self.heartbeat(now, body),
                FrameKind::EdgeKeyframeRequest => self.keyframe_request(body),
                FrameKind::Fragment => self.half(now, body),
                FrameKind::MtuProbe => self.mtu_probe(now, body, plain.len()),
                FrameKind::PathChallenge => self.path_challenge(now, body),
                FrameKind::RepairRequest => self.repair_request(now, body),
                FrameKind::Repair => self.repair(now, body, at),
                FrameKind::Parity => self.parity(now, body),
                FrameKind::Media | FrameKind::KeyframeRequest => self.counters.drop_forbidden += 1,
                FrameKind::Unknown(_) => self.counters.skip_unknown_kind += 1,
            }
        }
    }

    fn heartbeat(&mut self, now: Timestamp, body: &[u8]) {
        let Ok(heartbeat) = Heartbeat::decode(body) else {
            self.counters.drop_malformed += 1;
            return;
        };
        if let Some(link) = self.link.as_mut() {
            let change = link.heartbeat_in(now, &heartbeat);
            self.changed(now, change);
        }
    }

    fn path_challenge(&mut self, now: Timestamp, body: &[u8]) {
        let Some(link) = self.link.as_mut() else { return };
        let id = link.id;
        match link.challenge_in(now, body) {
            Ok((asked, change)) => {
                if asked {
                    self.link_ready = true;
                    self.output(Output::PathChallenged { link: id });
                }
                self.changed(now, change);
            }
            Err(_) => self.counters.drop_malformed += 1,
        }
    }

    fn mtu_probe(&mut self, now: Timestamp, body: &[u8], plain_bytes: usize) {
        let Some(link) = self.link.as_mut() else { return };
        if link.probe_in(body, plain_bytes).is_err() {
            self.counters.drop_malformed += 1;
        }
        self.link_ready |= link.has_output(now);
    }

    fn edge(&mut self, now: Timestamp, body: &[u8], at: usize, restored: bool) {
        let Ok(header) = EdgeHeader::decode(body) else {
            self.counters.drop_malformed += 1;
            return;
        };
        if let Some(link) = self.link.as_mut() {
            link.media_came(now, header.slack, restored);
            if link.media_seen(now) {
                self.rearm(now);
            }
        }
        let Some(incarnation) = self.announced.get(&header.handle).copied() else {
            self.wait_for_announcement(now, header, &body[EDGE_HEADER_BYTES..]);
            return;
        };
        self.deliver(incarnation, header, at + EDGE_HEADER_BYTES..at + body.len());
    }

    fn wait_for_announcement(&mut self, now: Timestamp, header: EdgeHeader, packet: &[u8]) {
        let Some(link) = self.link.as_ref().map(|link| link.id) else { return };
        if self.waiting.hold(now, link, header.handle, header, packet) {
            self.counters.media_waited += 1;
        } else {
            self.counters.drop_unknown_handle += 1;
        }
        self.arm_waiting();
    }

    /// A stream has been announced: delivers what waited for it, and asks for a keyframe if some of it could not.
    fn deliver_waiting(&mut self, handle: StreamHandle, incarnation: Incarnation, kind: MediaKind) {
        let (held, missed) = self.waiting.take(handle);
        for held in held {
            let start = self.arena_bytes + self.annex.len();
            self.annex.extend_from_slice(&held.packet);
            self.deliver(incarnation, held.header, start..start + held.packet.len());
            self.waiting.reuse(held);
        }
        if missed && kind == MediaKind::Video {
            self.request_keyframe(handle);
        }
    }

    fn arm_waiting(&mut self) {
        if let Some(due) = self.waiting.next_due() {
            self.timers.set(Timer::Waiting, due);
        }
    }

    fn deliver(&mut self, incarnation: Incarnation, header: EdgeHeader, range: Range<usize>) {
        if self.deliveries.len() >= DELIVERIES_MAX {
            self.counters.drop_queue_full += 1;
            return;
        }
        self.counters.media_delivered += 1;
        self.counters.media_delivered_bytes += range.len() as u64;
        let EdgeHeader { handle, sequence, slack: _, priority: _, rtcp } = header;
        self.deliveries.push_back(Delivery { handle, incarnation, sequence, range, rtcp });
    }

    fn keyframe_request(&mut self, body: &[u8]) {
        let Ok(EdgeKeyframeRequest { handle }) = EdgeKeyframeRequest::decode(body) else {
            self.counters.drop_malformed += 1;
            return;
        };
        let publication =
            self.publications.iter().find(|(_, publication)| publication.handle == Some(handle));
        match publication.map(|(request, _)| *request) {
            Some(request) => self.event(ClientEvent::KeyframeRequested { request }),
            None => self.counters.drop_unknown_handle += 1,
        }
    }

    /// A packet of this process: numbered, framed, queued.
    fn send(&mut self, now: Timestamp, arena: &[u8], outgoing: &Outgoing) {
        if outgoing.range.len() > RTP_BYTES_MAX || outgoing.range.is_empty() {
            self.counters.drop_oversize += 1;
            return;
        }
        let Some(publication) = self.publications.get_mut(&outgoing.publication) else {
            self.counters.drop_unknown_handle += 1;
            return;
        };
        // Counted whether or not a link stands, so that a gap shows how much is missing.
        let sequence = Sequence(publication.next_sequence);
        publication.next_sequence = publication.next_sequence.wrapping_add(1);
        let priority = publication.prioritizer.priority(&arena[outgoing.range.clone()], outgoing.rtcp);
        let (Some(handle), Some(link)) = (publication.handle, self.link.as_mut()) else {
            self.counters.drop_unknown_link += 1;
            return;
        };
        let header = EdgeHeader { handle, sequence, slack: publication.slack, priority, rtcp: outgoing.rtcp };
        let urgency = Urgency { priority, slack: header.slack };
        let lane = OrderLane::of(outgoing.publication);
        let pushed = link.push_packet(FrameKind::Edge, urgency, lane, outgoing.range.clone(), |head| {
            let bytes = header.encode();
            head[..bytes.len()].copy_from_slice(&bytes);
            bytes.len()
        });
        match pushed {
            Ok(Pushed::Whole) => {}
            Ok(Pushed::Cut) => self.counters.frames_cut += 1,
            Err(Refused::Full) => {
                self.counters.drop_queue_full += 1;
                return;
            }
            Err(Refused::TooLarge) => {
                self.counters.drop_oversize += 1;
                return;
            }
        }
        self.link_ready = true;
        self.counters.media_published += 1;
        if link.media_seen(now) {
            self.rearm(now);
        }
    }

    fn message(&mut self, link: LinkId, message: Message) {
        if self.link.as_ref().is_none_or(|own| own.id != link) {
            return;
        }
        match message {
            Message::Published { request, handle } => {
                if let Some(publication) = self.publications.get_mut(&request) {
                    publication.handle = Some(handle);
                    self.event(ClientEvent::Published { request });
                }
            }
            Message::Subscribed { request } => {
                if self.subscriptions.contains_key(&request) {
                    self.event(ClientEvent::Subscribed { request });
                }
            }
            Message::Refuse { request: Some(request), code, reason } => {
                self.publications.remove(&request);
                self.subscriptions.remove(&request);
                self.event(ClientEvent::Refused { request, code, reason });
            }
            Message::Announce { handle, subscriptions, room, user, stream, kind, incarnation } => {
                if self.announced.len() >= ANNOUNCED_MAX {
                    self.counters.messages_refused += 1;
                    return;
                }
                self.announced.insert(handle, incarnation);
                self.event(ClientEvent::Announced {
                    handle,
                    subscriptions,
                    room,
                    user,
                    stream,
                    kind,
                    incarnation,
                });
                self.deliver_waiting(handle, incarnation, kind);
            }
            Message::Ended { handle } => {
                if self.announced.remove(&handle).is_some() {
                    self.event(ClientEvent::Ended { handle });
                }
            }
            Message::Goodbye => self.event(ClientEvent::RelayLeaving),
            Message::Hello { .. }
            | Message::Accept { .. }
            | Message::Refuse { request: None, .. }
            | Message::Publish { .. }
            | Message::PublishProtected { .. }
            | Message::Unpublish { .. }
            | Message::Subscribe { .. }
            | Message::Unsubscribe { .. }
            | Message::Lanes { .. } => self.counters.messages_refused += 1,
        }
    }

    fn command(&mut self, command: ClientCommand) {
        match command {
            ClientCommand::Publish { request, room, user, stream, kind, budget, protect, description } => {
                let budget = budget.unwrap_or(kind.budget_default());
                let budget_ms = Some(u32::try_from(budget.as_millis()).unwrap_or(u32::MAX));
                let message = if protect {
                    Message::PublishProtected { request, room, user, stream, kind, budget_ms }
                } else {
                    Message::Publish { request, room, user, stream, kind, budget_ms }
                };
                let slack = Slack::from_duration(budget);
                let publication = Publication {
                    message: message.clone(),
                    prioritizer: Prioritizer::new(kind, description),
                    slack,
                    handle: None,
                    keyframe_at: None,
                    next_sequence: 0,
                };
                self.publications.insert(request, publication);
                self.say(message);
            }
            ClientCommand::Unpublish { request } => {
                if self.publications.remove(&request).is_some() {
                    self.say(Message::Unpublish { request });
                }
            }
            ClientCommand::Subscribe { request, room, user, stream } => {
                let message = Message::Subscribe { request, room, user, stream };
                self.subscriptions.insert(request, message.clone());
                self.say(message);
            }
            ClientCommand::Unsubscribe { request } => {
                if self.subscriptions.remove(&request).is_some() {
                    self.say(Message::Unsubscribe { request });
                }
            }
            ClientCommand::RequestKeyframe { handle } => {
                if self.announced.contains_key(&handle) {
                    self.request_keyframe(handle);
                }
            }
            ClientCommand::Shutdown => self.say(Message::Goodbye),
        }
    }

    fn request_keyframe(&mut self, handle: StreamHandle) {
        let Some(link) = self.link.as_mut() else { return };
        let body = EdgeKeyframeRequest { handle }.encode();
        if link.push_small(FrameKind::EdgeKeyframeRequest, &body).is_ok() {
            self.link_ready = true;
            self.counters.keyframe_requests_sent += 1;
        } else {
            self.counters.drop_queue_full += 1;
        }
    }

    fn timeout(&mut self, now: Timestamp) {
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Link => {
                    if let Some(link) = self.link.as_mut() {
                        link.read_rates(now);
                    }
                    self.tick(now);
                }
                Timer::Waiting => {
                    self.counters.drop_unknown_handle += self.waiting.expire(now);
                    self.arm_waiting();
                }
            }
        }
    }
}

impl Endpoint for Client {
    type Command = ClientCommand;
    type Event = ClientEvent;

    fn handle_input(&mut self, now: Timestamp, arena: &[u8], input: Input<'_, ClientCommand>) {
        self.annex.clear();
        self.arena_bytes = arena.len();
        match input {
            Input::LinkUp { link, peer, max_datagram } => self.link_up(now, link, &peer, max_datagram),
            Input::LinkDown { link } => {
                if self.link.as_ref().is_some_and(|own| own.id == link) {
                    self.link_down();
                }
            }
            Input::Datagrams(batch) => {
                for received in batch {
                    self.datagram(now, arena, received);
                }
            }
            Input::Local(batch) => {
                for outgoing in batch {
                    self.send(now, arena, outgoing);
                }
            }
            // An SFU has one worker.
            Input::Challenge { link, token } => {
                if let Some(own) = self.link.as_mut().filter(|own| own.id == link) {
                    own.challenge(token);
                    self.link_ready = true;
                }
            }
            Input::HandedOver(_) => {}
            Input::Plain(batch) => self.counters.drop_plain_stranger += batch.len() as u64,
            Input::Message { link, message } => self.message(link, message),
            Input::Command(command) => self.command(command),
            Input::Timeout => self.timeout(now),
        }
    }

    fn poll_transmit(&mut self, now: Timestamp, arena: &[u8], train: &mut Train) -> Option<LinkId> {
        if !self.link_ready {
            return None;
        }
        self.schedule_link(now, arena);
        let link = self.link.as_mut()?;
        train.clear();
        let id = link.id;
        while self.link_ready && train.is_empty() {
            self.link_ready = !link.pack(now, (arena, &self.annex), &mut self.repair_memory, train);
        }
        if !self.link_ready {
            self.rearm(now);
        }
        (!train.is_empty()).then_some(id)
    }

    fn annex(&self) -> &[u8] {
        &self.annex
    }

    fn poll_delivery(&mut self) -> Option<Delivery> {
        self.deliveries.pop_front()
    }

    fn poll_output(&mut self) -> Option<Output<ClientEvent>> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Timestamp> {
        self.timers.next()
    }
}
