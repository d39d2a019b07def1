//! The relay core: what a relay knows, and how it is driven. What it does with datagrams is in `forward`, with SFUs in
//! `clients`, with the controller in `control`.

use crate::backlog::BacklogMemory;
use crate::clients::{ClientSide, Publication, Subscription};
use crate::control::absent_link;
use crate::keyframes::{KeyframeAllowance, KeyframeGates};
use crate::link::{Link, LinkChange};
use crate::liveness::Trust;
use crate::notice::Notice;
use crate::plain::Plain;
use crate::repair::{RepairMemory, RepairMode};
use crate::resend::Resend;
use crate::streams::StreamTable;
use crate::switches::Switches;
use crate::table::{Reach, Tables};
use crate::tenants::Tenants;
use crate::timers::Timers;
use crate::token_terms::KEY_REMOVED;
use crate::trace::Trace;
use crate::waiting::Waiting;
use crate::{
    Counters, Delivery, Endpoint, HandOver, Input, LinkId, LinkView, Output, Peer, PlainId, PlainTransmit,
    RateLimit, RelayCommand, RelayConfig, RelayEvent, Train, Worker,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use wire_format::control::{LinkReport, LinkState, ToController, TokenKey};
use wire_format::session::Message;
use wire_format::{
    MediaHeader, NodeIndex, PacketNumber, Plane, PublicationId, StreamKey, SubscriptionId, Timestamp,
};

/// Links of a relay, those of SFUs included.
pub(crate) const LINKS_MAX: usize = 8192;
/// Outputs that may wait for the driver.
const OUTPUTS_MAX: usize = 1 << 17;
/// Distance of link reports to the controller.
const REPORT_EVERY: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Timer {
    Link(LinkId),
    Report,
    Keyframes,
    Resend,
    Waiting,
    PlainReport(PublicationId),
    PlainLease(PlainId),
    Switches,
    Token(LinkId),
    Traces,
}

/// The other end of a link and what is kept for it.
#[derive(Debug)]
pub(crate) enum Side {
    Relay { node: NodeIndex },
    Client(Box<ClientSide>),
}

#[derive(Debug)]
pub(crate) struct RelayLink {
    pub(crate) link: Link,
    pub(crate) side: Side,
    /// The other end said goodbye.
    pub(crate) leaving: bool,
    pub(crate) keyframe_requests: KeyframeAllowance,
    /// Its queue is listed in `Relay::ready`.
    pub(crate) ready: bool,
}

/// A relay, without sockets, keys and clock.
#[derive(Debug)]
pub struct Relay {
    pub(crate) config: RelayConfig,
    pub(crate) worker: Worker,
    /// What one SFU may send.
    pub(crate) client_rate: RateLimit,
    /// What links do against loss.
    pub(crate) repair_mode: RepairMode,
    /// Of the first datagram of a link.
    pub(crate) first_number: PacketNumber,
    pub(crate) node: Option<NodeIndex>,
    pub(crate) term: u64,
    /// A session with the controller stands.
    pub(crate) controller_up: bool,
    /// The controller of this session leads, as far as is known.
    pub(crate) controller_leads: bool,
    /// By the low 16 bits of the link's id, which no two live links share.
    pub(crate) links: Vec<Option<RelayLink>>,
    /// By node index.
    pub(crate) link_of_node: Vec<Option<LinkId>>,
    /// It is to be empty: SFUs are sent to other relays.
    pub(crate) draining: bool,
    /// Who may be linked to, by name, and the earliest certificate that counts, seconds since 1970; `None` before the
    /// controller said so.
    pub(crate) neighbours: Option<BTreeMap<NodeIndex, (String, u64)>>,
    /// Keys that sign SFUs' tokens; `None` before the controller said so.
    pub(crate) token_keys: Option<Vec<TokenKey>>,
    pub(crate) tables: Tables,
    pub(crate) streams: StreamTable,
    pub(crate) publications: BTreeMap<PublicationId, Publication>,
    /// Those that the controller has granted, by stream.
    pub(crate) publishers: BTreeSet<(StreamKey, PublicationId)>,
    pub(crate) subscriptions: BTreeMap<SubscriptionId, Subscription>,
    pub(crate) next_registration: u32,
    pub(crate) keyframes: KeyframeGates,
    pub(crate) plain: Plain,
    pub(crate) tenants: Tenants,
    pub(crate) counters: Counters,
    pub(crate) timers: Timers<Timer>,
    pub(crate) scratch: Vec<(LinkId, Plane, NodeIndex)>,
    pub(crate) scratch_nodes: Vec<NodeIndex>,
    pub(crate) hand_overs: VecDeque<HandOver>,
    pub(crate) repair_memory: RepairMemory,
    pub(crate) backlog_memory: BacklogMemory,
    pub(crate) resends: Vec<Resend>,
    /// Packets of the present input that did not come with it; see `annex`.
    pub(crate) annex: Vec<u8>,
    /// Media of streams that no entry has named yet.
    pub(crate) waiting: Waiting<StreamKey, MediaHeader>,
    pub(crate) switches: Switches,
    /// Streams that are watched at the moment.
    pub(crate) traces: Vec<Trace>,
    /// The present frame is for this relay, and its stream is not known.
    pub(crate) stranger: bool,
    /// Length of the driver's arena in the present input.
    pub(crate) arena_bytes: usize,
    /// A frame that has just been rejoined.
    pub(crate) whole: Vec<u8>,
    /// A datagram that parity has just restored.
    pub(crate) restored: Vec<u8>,
    outputs: VecDeque<Output<RelayEvent>>,
    pub(crate) ready: Vec<LinkId>,
}

impl Relay {
    /// A relay that knows nobody yet.
    pub fn new(config: RelayConfig) -> Relay {
        Relay::of_worker(config, Worker::ONLY)
    }

    /// The part of a relay that one of its workers drives. Each of them is given the same commands of the controller.
    pub fn of_worker(config: RelayConfig, worker: Worker) -> Relay {
        Relay {
            node: config.hello.node,
            plain: Plain::new(config.seed, &config.hello.name),
            config,
            worker,
            client_rate: RateLimit::NONE,
            repair_mode: RepairMode::Adaptive,
            first_number: PacketNumber(0),
            term: 0,
            controller_up: false,
            controller_leads: true,
            links: Vec::new(),
            link_of_node: Vec::new(),
            draining: false,
            neighbours: None,
            token_keys: None,
            tables: Tables::new(),
            streams: StreamTable::new(),
            publications: BTreeMap::new(),
            publishers: BTreeSet::new(),
            subscriptions: BTreeMap::new(),
            next_registration: 0,
            keyframes: KeyframeGates::new(),
            tenants: Tenants::new(),
            counters: Counters::default(),
            timers: Timers::new(),
            scratch: Vec::new(),
            scratch_nodes: Vec::new(),
            hand_overs: VecDeque::new(),
            repair_memory: RepairMemory::default(),
            backlog_memory: BacklogMemory::default(),
            resends: Vec::new(),
            annex: Vec::new(),
            waiting: Waiting::new(),
            switches: Switches::default(),
            traces: Vec::new(),
            stranger: false,
            arena_bytes: 0,
            whole: Vec::new(),
            restored: Vec::new(),
            outputs: VecDeque::new(),
            ready: Vec::new(),
        }
    }

    /// This relay's index, once the controller has given it.
    pub fn node(&self) -> Option<NodeIndex> {
        self.node
    }

    /// What happened so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// All links, by id.
    pub fn link_views(&self) -> Vec<LinkView> {
        let view = |entry: &RelayLink| LinkView {
            link: entry.link.id,
            peer: entry.peer(),
            stats: entry.link.stats(),
        };
        self.links.iter().flatten().map(view).collect()
    }

    /// The state of every link to a relay, by id: the little of `link_views` that may be read often.
    /// A new link is not among them before its first datagram: it is not silent, its first datagram is on its way.
    pub fn neighbour_states(&self) -> Vec<(LinkId, NodeIndex, LinkState)> {
        let state = |entry: &RelayLink| match entry.side {
            Side::Relay { node } if entry.link.was_heard() => {
                Some((entry.link.id, node, entry.link.stats().state))
            }
            Side::Relay { node: _ } | Side::Client(_) => None,
        };
        self.links.iter().flatten().filter_map(state).collect()
    }

    pub(crate) fn link_mut(&mut self, id: LinkId) -> Option<&mut RelayLink> {
        self.links.get_mut(slot(id))?.as_mut().filter(|entry| entry.link.id == id)
    }

    /// The link's queue has something to send.
    pub(crate) fn mark_ready(&mut self, id: LinkId) {
        if let Some(entry) = self.links.get_mut(slot(id)).and_then(Option::as_mut)
            && !std::mem::replace(&mut entry.ready, true)
        {
            self.ready.push(id);
        }
    }

    pub(crate) fn output(&mut self, output: Output<RelayEvent>) {
        if self.outputs.len() >= OUTPUTS_MAX {
            self.counters.drop_output_full += 1;
            return;
        }
        self.outputs.push_back(output);
    }

    pub(crate) fn say(&mut self, link: LinkId, message: Message) {
        self.output(Output::Message { link, message });
    }

    /// Tells the controller, if one listens; all of it is told again when the next session begins.
    pub(crate) fn report(&mut self, message: ToController) {
        if self.controller_up {
            self.output(Output::Event(RelayEvent::ToController(message)));
        }
    }

    /// Sets the number of the first datagram of links that come up from now on, to see what happens where its low 32 bits, which
    /// feedback and repair name, begin anew. A new relay counts from 0.
    pub fn count_from(&mut self, first: PacketNumber) {
        self.first_number = first;
    }

    fn link_up(&mut self, now: Timestamp, id: LinkId, peer: Peer, max_datagram: u16) {
        if self.links.iter().flatten().count() >= LINKS_MAX {
            self.output(Output::Close { link: id, reason: "too many links" });
            return;
        }
        let mut link = Link::new(now, id, max_datagram);
        link.begin(self.repair_mode, self.first_number);
        let side = match peer {
            Peer::Relay { node } => {
                let known = self.neighbours.as_ref().is_some_and(|known| known.contains_key(&node));
                if !known || self.node == Some(node) {
                    self.output(Output::Close { link: id, reason: "not a neighbour of this relay" });
                    return;
                }
                if let Some(before) = self.link_to(node) {
                    if let Some(entry) = self.link_mut(before) {
                        link.succeed(now, &entry.link);
                    }
                    self.drop_link(now, before);
                    self.output(Output::Close { link: before, reason: "replaced by a newer link" });
                }
                Side::Relay { node }
            }
            Peer::Client(rights) if !self.token_stands(&rights) => {
                self.output(Output::Close { link: id, reason: KEY_REMOVED });
                return;
            }
            Peer::Client(rights) => Side::Client(Box::new(ClientSide::new(rights, self.client_rate))),
            Peer::Upstream => {
                self.output(Output::Close { link: id, reason: "a relay has no upstream" });
                return;
            }
        };
        let at = slot(id);
        if self.links.len() <= at {
            self.links.resize_with(at + 1, || None);
        }
        if let Side::Relay { node } = side {
            let at = usize::from(node.0);
            if self.link_of_node.len() <= at {
                self.link_of_node.resize(at + 1, None);
            }
            self.link_of_node[at] = Some(id);
        }
        if let Side::Relay { node } = side {
            link.set_routed(now, self.tables.hops().contains(&node));
        }
        let is_relay = matches!(side, Side::Relay { node: _ });
        self.links[at] = Some(RelayLink {
            link,
            side,
            leaving: false,
            keyframe_requests: KeyframeAllowance::default(),
            ready: false,
        });
        if is_relay {
            self.reroute(now);
        } else {
            if self.draining {
                self.say(id, Message::Goodbye);
            }
            self.time_token(now, id);
        }
        self.notice_link(id);
        self.tick_link(now, id);
    }

    /// Forgets a link and what depends on it.
    pub(crate) fn forget_link(&mut self, now: Timestamp, id: LinkId) {
        let Some(entry) = self.link_mut(id) else { return };
        let absent = entry.report().map(|report| absent_link(report.neighbour));
        self.drop_link(now, id);
        if let Some(absent) = absent {
            self.report(ToController::Links(vec![absent]));
        }
    }

    /// The same without a word to the controller.
    fn drop_link(&mut self, now: Timestamp, id: LinkId) {
        if self.link_mut(id).is_none() {
            return;
        }
        let Some(mut entry) = self.links[slot(id)].take() else { return };
        self.timers.clear(Timer::Link(id));
        entry.link.release(&mut self.repair_memory);
        self.notice(Notice::Link { peer: entry.peer(), state: None });
        match entry.side {
            Side::Relay { node } => {
                self.link_of_node[usize::from(node.0)] = None;
                self.reroute(now);
                self.resend(now, entry.link.take_unacknowledged());
                self.resend_waiting(now, entry.link.take_waiting());
            }
            Side::Client(client) => {
                entry.link.take_unacknowledged().release(&mut self.repair_memory);
                let waiting = entry.link.take_waiting();
                waiting.into_iter().for_each(|parked| self.backlog_memory.give(parked.body));
                self.forget_client(now, id, *client);
            }
        }
    }

    /// The relay at the other end of a link.
    pub(crate) fn node_of(&self, link: LinkId) -> Option<NodeIndex> {
        match self.links.get(slot(link))?.as_ref()?.side {
            Side::Relay { node } => Some(node),
            Side::Client(_) => None,
        }
    }

    pub(crate) fn link_to(&self, node: NodeIndex) -> Option<LinkId> {
        self.link_of_node.get(usize::from(node.0)).copied().flatten()
    }

    /// Heartbeat, silence, and the next deadline of a link.
    fn tick_link(&mut self, now: Timestamp, id: LinkId) {
        let Some(entry) =
            self.links.get_mut(slot(id)).and_then(Option::as_mut).filter(|entry| entry.link.id == id)
        else {
            return;
        };
        let change = entry.link.tick(now, &mut self.repair_memory);
        let waits = entry.link.has_output(now) || entry.link.is_paced();
        self.rearm_link(now, id);
        if waits {
            self.mark_ready(id);
        }
        self.link_changed(now, id, change);
        if change.hopeless {
            self.output(Output::Close { link: id, reason: "silent for too long" });
            self.forget_link(now, id);
        }
    }

    /// Passes on what an event changed about a link.
    pub(crate) fn link_changed(&mut self, now: Timestamp, id: LinkId, change: LinkChange) {
        self.counters.drop_half += change.halves_lost;
        self.counters.mtu_fallbacks += u64::from(change.narrower);
        if change.probes > 0 {
            self.counters.mtu_probes_sent += change.probes as u64;
            self.mark_ready(id);
        }
        if change.state {
            self.notice_link(id);
        }
        if change.state || change.measured {
            let report = self.link_mut(id).and_then(|entry| entry.report());
            if let Some(report) = report {
                self.report(ToController::Links(vec![report]));
            }
        }
        if change.trust
            && self.link_mut(id).is_some_and(|entry| matches!(entry.side, Side::Relay { node: _ }))
        {
            self.reroute(now);
        }
        if change.asks {
            self.mark_ready(id);
        }
        if change.sooner {
            self.rearm_link(now, id);
        }
    }

    /// Links or tables have changed: works out by which link and plane each destination is reached now. Those that moved
    /// away from a silent link get again what it may have swallowed.
    pub(crate) fn reroute(&mut self, now: Timestamp) {
        let (links, link_of_node) = (&self.links, &self.link_of_node);
        let moves = self.tables.compile(self.worker.is_first(), |hop| {
            let link = link_of_node.get(usize::from(hop.0)).copied().flatten()?;
            let entry = links.get(slot(link))?.as_ref()?;
            // Whoever said goodbye will be gone in a moment.
            let trust = if entry.leaving { Trust::None } else { entry.link.trust() };
            Some(Reach { link, trust })
        });
        self.counters.destinations_moved += moves.away;
        self.counters.destinations_returned += moves.returned;
        if moves.away > 0 {
            self.resend_of_silent_links(now);
        }
    }

    /// Reads a link's next deadline again.
    pub(crate) fn rearm_link(&mut self, now: Timestamp, id: LinkId) {
        if let Some(next) = self.link_mut(id).and_then(|entry| entry.link.rearm(now)) {
            self.timers.set(Timer::Link(id), next);
        }
    }

    /// Tells whoever watches what has become of a link.
    fn notice_link(&mut self, id: LinkId) {
        if let Some(entry) = self.link_mut(id) {
            let (peer, state) = (entry.peer(), entry.link.stats().state);
            self.notice(Notice::Link { peer, state: Some(state) });
        }
    }

    /// One report for every link to a relay.
    pub(crate) fn link_reports(&self) -> Vec<LinkReport> {
        self.links.iter().flatten().filter_map(RelayLink::report).collect()
    }

    fn report_links(&mut self, now: Timestamp) {
        for entry in self.links.iter_mut().flatten() {
            entry.link.read_rates(now);
        }
        let reports = self.link_reports();
        // Also if there is nothing to tell: a session in which nothing is said for long is taken for dead.
        self.report(ToController::Links(reports));
        self.report_usage();
        self.timers.set(Timer::Report, now + REPORT_EVERY);
    }

    fn timeout(&mut self, now: Timestamp) {
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Link(id) => self.tick_link(now, id),
                Timer::Report => self.report_links(now),
                Timer::Keyframes => self.keyframes_due(now),
                Timer::Resend => self.resend_step(now),
                Timer::Waiting => self.waiting_due(now),
                Timer::PlainReport(publication) => self.plain_report_due(now, publication),
                Timer::PlainLease(id) => self.plain_lease_over(id),
                Timer::Switches => self.switches_due(now),
                Timer::Token(link) => self.token_over(now, link),
                Timer::Traces => self.traces_due(now),
            }
        }
    }
}

pub(crate) fn slot(id: LinkId) -> usize {
    (id.0 & 0xFFFF) as usize
}

impl Endpoint for Relay {
    type Command = RelayCommand;
    type Event = RelayEvent;

    fn handle_input(&mut self, now: Timestamp, arena: &[u8], input: Input<'_, RelayCommand>) {
        self.annex.clear();
        self.arena_bytes = arena.len();
        match input {
            Input::LinkUp { link, peer, max_datagram } => self.link_up(now, link, peer, max_datagram),
            Input::LinkDown { link } => self.forget_link(now, link),
            Input::Datagrams(batch) => {
                for received in batch {
                    self.datagram(now, arena, received);
                }
            }
            Input::Plain(batch) => self.plain_datagrams(now, arena, batch),
            // A relay has no media of its own.
            Input::Local(batch) => self.counters.drop_unknown_handle += batch.len() as u64,
            Input::Challenge { link, token } => self.challenge(link, token),
            Input::HandedOver(items) => {
                for item in items {
                    self.handed_over(now, arena, item.clone());
                }
            }
            Input::Message { link, message } => self.message(now, link, message),
            Input::Command(RelayCommand::ControllerUp) => self.controller_connected(now),
            Input::Command(RelayCommand::ControllerDown) => self.controller_up = false,
            Input::Command(RelayCommand::Controller(message)) => self.controller_says(now, message),
            Input::Command(RelayCommand::Drain) => self.drain(true),
            Input::Command(RelayCommand::Shutdown) => self.shut_down(),
            Input::Timeout => self.timeout(now),
        }
        // The bytes of what came for plain subscribers are at hand now.
        if !self.plain.arrived.is_empty() {
            self.plain_deliver(now, arena);
        }
    }

    fn poll_transmit(&mut self, now: Timestamp, arena: &[u8], train: &mut Train) -> Option<LinkId> {
        while let Some(id) = self.ready.last().copied() {
            train.clear();
            self.schedule_link(now, id, arena);
            if self.ready.last() != Some(&id) {
                continue;
            }
            let done = match self.links.get_mut(slot(id)).and_then(Option::as_mut) {
                Some(entry) if entry.link.id == id => {
                    let done = entry.link.pack(now, (arena, &self.annex), &mut self.repair_memory, train);
                    entry.ready = !done;
                    if done && let Some(next) = entry.link.rearm(now) {
                        self.timers.set(Timer::Link(id), next);
                    }
                    done
                }
                Some(_) | None => true,
            };
            self.counters.history_refused = self.repair_memory.refused;
            if done {
                self.ready.pop();
            }
            if !train.is_empty() {
                if !self.traces.is_empty() {
                    self.trace_train(now, id, train);
                }
                return Some(id);
            }
        }
        None
    }

    fn annex(&self) -> &[u8] {
        &self.annex
    }

    fn poll_delivery(&mut self) -> Option<Delivery> {
        None
    }

    fn poll_hand_over(&mut self) -> Option<HandOver> {
        self.hand_overs.pop_front()
    }

    fn poll_plain<'a>(&'a mut self, arena: &'a [u8]) -> Option<PlainTransmit<'a>> {
        self.next_plain(arena)
    }

    fn takes_plain(&self) -> bool {
        self.plain.uses_relay_port()
    }

    fn poll_output(&mut self) -> Option<Output<RelayEvent>> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Timestamp> {
        self.timers.next()
    }
}
