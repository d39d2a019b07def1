//! The client core: an SFU's end of its links. Publications and subscriptions belong to the client, not to a link: on
//! every new link they are asked for again.
//!
//! There is one link, or two while the client moves from one to the next (see `moving`). Handles of streams that the
//! process around the core hears of are the core's own, so that a stream keeps its handle while it moves.

mod media;
mod moving;
mod requests;
mod restored;

use crate::backlog::BacklogMemory;
use crate::link::{Link, LinkChange};
use crate::repair::RepairMemory;
use crate::timers::Timers;
use crate::waiting::Waiting;
use crate::{
    ClientCommand, ClientConfig, ClientEvent, Counters, Delivery, Endpoint, Input, LinkId, LinkStats, Output,
    Peer, Received, Train,
};
pub(crate) use moving::Attached;
use moving::Links;
use requests::{Heard, Publication};
use std::collections::{BTreeMap, VecDeque};
use wire_format::control::{LinkState, StreamName};
use wire_format::session::Message;
use wire_format::{
    ClientKey, EdgeHeader, EdgeKeyframeRequest, FrameKind, Heartbeat, RawFrame, StreamHandle, Timestamp,
    frames, send_time,
};

/// Outputs that may wait for the driver.
const OUTPUTS_MAX: usize = 1 << 16;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Timer {
    Link(LinkId),
    Waiting,
    Moving,
}

/// An SFU's end of its links, without sockets, keys and clock.
#[derive(Debug)]
pub struct Client {
    key: Option<ClientKey>,
    pub(crate) links: Links,
    pub(crate) publications: BTreeMap<u32, Publication>,
    subscriptions: BTreeMap<u32, Message>,
    /// Streams announced, by the core's own handles, and these by name.
    streams: BTreeMap<StreamHandle, Heard>,
    names: BTreeMap<StreamName, StreamHandle>,
    last_handle: u16,
    pub(crate) counters: Counters,
    repair_memory: RepairMemory,
    pub(crate) backlog_memory: BacklogMemory,
    /// Media whose announcement is still under way.
    waiting: Waiting<(LinkId, StreamHandle), EdgeHeader>,
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
    pub fn new(config: ClientConfig) -> Client {
        Client {
            key: config.key,
            links: Links::default(),
            publications: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            streams: BTreeMap::new(),
            names: BTreeMap::new(),
            last_handle: 0,
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

    /// The link and its measurements, if one stands; the newer of two.
    pub fn link(&self) -> Option<(LinkId, LinkStats)> {
        self.links.present().map(|attached| (attached.link.id, attached.link.stats()))
    }

    /// Whether a relay has granted a publication on a link that stands.
    pub fn is_published(&self, request: u32) -> bool {
        self.links.iter().any(|attached| attached.granted.contains_key(&request))
    }

    fn output(&mut self, output: Output<ClientEvent>) {
        if self.outputs.len() >= OUTPUTS_MAX {
            self.counters.drop_output_full += 1;
            return;
        }
        self.outputs.push_back(output);
    }

    fn say(&mut self, link: LinkId, message: Message) {
        self.output(Output::Message { link, message });
    }

    pub(crate) fn event(&mut self, event: ClientEvent) {
        self.output(Output::Event(event));
    }

    fn close(&mut self, link: LinkId, reason: &'static str) {
        self.output(Output::Close { link, reason });
    }

    fn tick(&mut self, now: Timestamp, id: LinkId) {
        let Some(attached) = self.links.get_mut(id) else { return };
        let change = attached.link.tick(now, &mut self.repair_memory);
        attached.ready |= attached.link.has_output(now) || attached.link.is_paced();
        // With another relay to go to, nothing is gained by waiting as long as relays do for each other.
        let lost = change.state && attached.link.stats().state == LinkState::Down;
        self.rearm(now, id);
        self.count(change);
        if change.hopeless || lost {
            self.link_down(now, id);
            self.close(id, "silent for too long");
        }
    }

    fn count(&mut self, change: LinkChange) {
        self.counters.drop_half += change.halves_lost;
        self.counters.mtu_fallbacks += u64::from(change.narrower);
        self.counters.mtu_probes_sent += change.probes as u64;
    }

    fn changed(&mut self, now: Timestamp, id: LinkId, change: LinkChange) {
        self.count(change);
        if let Some(attached) = self.links.get_mut(id) {
            attached.ready |= change.probes > 0 || change.asks;
        }
        if change.sooner {
            self.rearm(now, id);
        }
    }

    fn rearm(&mut self, now: Timestamp, id: LinkId) {
        if let Some(next) = self.links.get_mut(id).and_then(|attached| attached.link.rearm(now)) {
            self.timers.set(Timer::Link(id), next);
        }
    }

    fn datagram(&mut self, now: Timestamp, arena: &[u8], received: &Received) {
        let plain = &arena[received.range.clone()];
        let id = received.link;
        let Some(attached) = self.links.get_mut(id) else {
            self.counters.drop_unknown_link += 1;
            return;
        };
        let Ok(sent) = send_time(plain) else {
            self.counters.drop_malformed += 1;
            return;
        };
        let came = attached.link.datagram_in(now, received.number, sent, plain);
        if let Some(change) = came.change() {
            self.changed(now, id, change);
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
                FrameKind::Edge => self.edge(now, id, body, at, false),
                FrameKind::Heartbeat => self.heartbeat(now, id, body),
                FrameKind::EdgeKeyframeRequest => self.keyframe_request(id, body),
                FrameKind::Fragment => self.half(now, id, body),
                FrameKind::MtuProbe => self.mtu_probe(now, id, body, plain.len()),
                FrameKind::PathChallenge => self.path_challenge(now, id, body),
                FrameKind::RepairRequest => self.repair_request(now, id, body),
                FrameKind::Repair => self.repair(now, id, body, at),
                FrameKind::Parity => self.parity(now, id, body),
                FrameKind::Media | FrameKind::KeyframeRequest => self.counters.drop_forbidden += 1,
                FrameKind::Unknown(_) => self.counters.skip_unknown_kind += 1,
            }
        }
    }

    fn heartbeat(&mut self, now: Timestamp, id: LinkId, body: &[u8]) {
        let Ok(heartbeat) = Heartbeat::decode(body) else {
            self.counters.drop_malformed += 1;
            return;
        };
        if let Some(attached) = self.links.get_mut(id) {
            let change = attached.link.heartbeat_in(now, &heartbeat);
            self.changed(now, id, change);
        }
    }

    fn path_challenge(&mut self, now: Timestamp, id: LinkId, body: &[u8]) {
        let Some(attached) = self.links.get_mut(id) else { return };
        match attached.link.challenge_in(now, body) {
            Ok((asked, change)) => {
                if asked {
                    attached.ready = true;
                    self.output(Output::PathChallenged { link: id });
                }
                self.changed(now, id, change);
            }
            Err(_) => self.counters.drop_malformed += 1,
        }
    }

    fn mtu_probe(&mut self, now: Timestamp, id: LinkId, body: &[u8], plain_bytes: usize) {
        let Some(attached) = self.links.get_mut(id) else { return };
        if attached.link.probe_in(body, plain_bytes).is_err() {
            self.counters.drop_malformed += 1;
        }
        attached.ready |= attached.link.has_output(now);
    }

    fn keyframe_request(&mut self, id: LinkId, body: &[u8]) {
        let Ok(EdgeKeyframeRequest { handle }) = EdgeKeyframeRequest::decode(body) else {
            self.counters.drop_malformed += 1;
            return;
        };
        match self.links.get(id).and_then(|attached| attached.publication(handle)) {
            Some(request) => self.event(ClientEvent::KeyframeRequested { request }),
            None => self.counters.drop_unknown_handle += 1,
        }
    }

    fn timeout(&mut self, now: Timestamp) {
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Link(id) => {
                    if let Some(attached) = self.links.get_mut(id) {
                        attached.link.read_rates(now);
                    }
                    self.tick(now, id);
                }
                Timer::Waiting => {
                    self.counters.drop_unknown_handle += self.waiting.expire(now);
                    self.arm_waiting();
                }
                Timer::Moving => self.look_at_move(now),
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
            Input::LinkUp { link, peer, max_datagram } => {
                if peer == Peer::Upstream {
                    self.link_up(now, Link::new(now, link, max_datagram));
                } else {
                    self.close(link, "a client links to relays only");
                }
            }
            Input::LinkDown { link } => self.link_down(now, link),
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
                if let Some(attached) = self.links.get_mut(link) {
                    attached.link.challenge(token);
                    attached.ready = true;
                }
            }
            Input::HandedOver(_) => {}
            Input::Plain(batch) => self.counters.drop_plain_stranger += batch.len() as u64,
            Input::Message { link, message } => self.message(now, link, message),
            Input::Command(command) => self.command(command),
            Input::Timeout => self.timeout(now),
        }
    }

    fn poll_transmit(&mut self, now: Timestamp, arena: &[u8], train: &mut Train) -> Option<LinkId> {
        for id in self.links.ids() {
            if !self.links.get(id).is_some_and(|attached| attached.ready) {
                continue;
            }
            self.schedule_link(now, id, arena);
            let Some(attached) = self.links.get_mut(id) else { continue };
            train.clear();
            while attached.ready && train.is_empty() {
                attached.ready =
                    !attached.link.pack(now, (arena, &self.annex), &mut self.repair_memory, train);
            }
            if !attached.ready {
                self.rearm(now, id);
            }
            if !train.is_empty() {
                return Some(id);
            }
        }
        None
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
