//! A few cores on a table: datagrams and messages cross at once, the test is the controller, time moves when told.
#![allow(dead_code, reason = "each test file uses a part of the laboratory")]

use relay_core::{
    Client, ClientCommand, ClientConfig, ClientEvent, ClientRights, Delivery, Endpoint, Input, LinkId,
    Notice, Outgoing, Output, Peer, PlainPort, PlainReceived, Received, Relay, RelayCommand, RelayConfig,
    RelayEvent, Train, Worker, packet_bytes,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;
use wire_format::control::{Neighbour, RelayHello, StreamEntry, StreamName, ToController, ToRelay, Welcome};
use wire_format::session::Message;
use wire_format::{
    ClientKey, Epoch, FrameKind, Incarnation, MediaHeader, MediaKind, NodeIndex, PacketNumber, Plane,
    PolicyIndex, PolicyTable, RoomId, RouteTable, RtpDescription, StreamHandle, StreamId, StreamKey,
    SubscriptionId, Timestamp, UserId, frames,
};

pub enum Core {
    Relay(Box<Relay>),
    Client(Box<Client>),
}

struct Datagram {
    to: usize,
    link: LinkId,
    number: PacketNumber,
    plain: Vec<u8>,
}

/// What crossed a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Crossing {
    pub from: usize,
    pub to: usize,
    pub kind: FrameKind,
    pub body: Vec<u8>,
}

pub struct Lab {
    relays: u16,
    workers: u8,
    handed_over: VecDeque<(usize, Vec<u8>)>,
    pub now: Timestamp,
    pub cores: Vec<Core>,
    /// (core, its link) to (other core, its link).
    wires: BTreeMap<(usize, LinkId), (usize, LinkId)>,
    pub cut: BTreeSet<(usize, usize)>,
    /// Largest UDP payload from one core to another; no limit where nothing is said.
    pub widths: BTreeMap<(usize, usize), usize>,
    next_link: u32,
    datagrams: VecDeque<Datagram>,
    messages: VecDeque<(usize, LinkId, Message)>,
    pub crossings: Vec<Crossing>,
    pub delivered: Vec<(usize, Delivery, Vec<u8>)>,
    pub client_events: Vec<(usize, ClientEvent)>,
    pub reports: Vec<(usize, ToController)>,
    pub closed: Vec<(usize, LinkId, &'static str)>,
    pub closed_plain: Vec<(usize, PlainPort)>,
    pub notices: Vec<(usize, Notice)>,
    /// Plain datagrams that relays sent: from which relay and port, to whom, what.
    pub plain: Vec<(usize, PlainPort, SocketAddr, Vec<u8>)>,
}

impl Lab {
    /// `relays` relays with indices 0.., each the neighbour of each other, none linked.
    pub fn new(relays: u16) -> Lab {
        Lab::with_workers(relays, 1)
    }

    /// The same with several workers for each relay; see [`Lab::worker`].
    pub fn with_workers(relays: u16, workers: u8) -> Lab {
        let mut lab = Lab {
            relays,
            workers,
            handed_over: VecDeque::new(),
            now: Timestamp::from_micros(1_000_000),
            cores: Vec::new(),
            wires: BTreeMap::new(),
            cut: BTreeSet::new(),
            widths: BTreeMap::new(),
            next_link: 0,
            datagrams: VecDeque::new(),
            messages: VecDeque::new(),
            crossings: Vec::new(),
            delivered: Vec::new(),
            client_events: Vec::new(),
            reports: Vec::new(),
            closed: Vec::new(),
            closed_plain: Vec::new(),
            notices: Vec::new(),
            plain: Vec::new(),
        };
        for index in 0..workers {
            for node in 0..relays {
                let config = RelayConfig { hello: hello(node), seed: 1 };
                let relay = Relay::of_worker(config, Worker { index, count: workers });
                lab.cores.push(Core::Relay(Box::new(relay)));
                lab.relay(lab.worker(node, index), RelayCommand::ControllerUp);
            }
        }
        for node in 0..relays {
            lab.push(node, ToRelay::Welcome(Welcome { node: NodeIndex(node), term: 1 }));
            let neighbours = (0..relays).filter(|other| *other != node).map(|other| Neighbour {
                node: NodeIndex(other),
                name: format!("r{other}"),
                addresses: Vec::new(),
                certificates_from_unix_s: 0,
            });
            lab.push(node, ToRelay::Neighbours(neighbours.collect()));
        }
        lab
    }

    /// The core of a relay's worker. That of the first worker is the relay's index.
    pub fn worker(&self, node: u16, index: u8) -> u16 {
        self.relays * u16::from(index) + node
    }

    pub fn client(&mut self, at: u16) -> usize {
        let rights = ClientRights {
            subject: "sfu".into(),
            namespace: "demo".into(),
            room_pattern: "*".into(),
            publish: true,
            subscribe: true,
            token: None,
        };
        self.client_with(at, rights)
    }

    pub fn client_with(&mut self, at: u16, rights: ClientRights) -> usize {
        let client = self.cores.len();
        let config = ClientConfig { seed: 1, key: Some(ClientKey([client as u8; 16])) };
        self.cores.push(Core::Client(Box::new(Client::new(config))));
        self.wire(client, Peer::Upstream, usize::from(at), Peer::Client(rights));
        client
    }

    /// A client gets a further link, to another relay.
    pub fn link_client(&mut self, client: usize, to: u16) {
        let rights = ClientRights {
            subject: "sfu".into(),
            namespace: "demo".into(),
            room_pattern: "*".into(),
            publish: true,
            subscribe: true,
            token: None,
        };
        self.wire(client, Peer::Upstream, usize::from(to), Peer::Client(rights));
    }

    /// A client's link is lost at its end.
    pub fn lose(&mut self, client: usize, relay: usize) {
        let link = self.link_id(client, relay);
        let Core::Client(core) = &mut self.cores[client] else { panic!("core {client} is a client") };
        core.handle_input(self.now, &[], Input::LinkDown { link });
        self.drain(client, &[]);
        self.settle();
    }

    /// Links two relays, or the workers of two relays.
    pub fn link(&mut self, a: u16, b: u16) {
        let relays = self.relays;
        let peer = |core| Peer::Relay { node: NodeIndex(core % relays) };
        self.wire(usize::from(a), peer(b), usize::from(b), peer(a));
    }

    fn wire(&mut self, a: usize, at_a: Peer, b: usize, at_b: Peer) {
        let (link_a, link_b) = (LinkId(self.next_link), LinkId(self.next_link + 1));
        self.next_link += 2;
        self.wires.insert((a, link_a), (b, link_b));
        self.wires.insert((b, link_b), (a, link_a));
        for (core, link, peer) in [(a, link_a, at_a), (b, link_b, at_b)] {
            match &mut self.cores[core] {
                Core::Relay(relay) => {
                    relay.handle_input(self.now, &[], Input::LinkUp { link, peer, max_datagram: 1472 })
                }
                Core::Client(client) => {
                    client.handle_input(self.now, &[], Input::LinkUp { link, peer, max_datagram: 1472 });
                }
            }
            self.drain(core, &[]);
        }
        self.settle();
    }

    /// A command to a relay, drained.
    pub fn relay(&mut self, node: u16, command: RelayCommand) {
        let core = usize::from(node);
        let (now, relay) = self.relay_mut(node);
        relay.handle_input(now, &[], Input::Command(command));
        self.drain(core, &[]);
        self.settle();
    }

    /// The controller tells a relay, all its workers.
    pub fn push(&mut self, node: u16, message: ToRelay) {
        for index in 0..self.workers {
            self.relay(self.worker(node, index), RelayCommand::Controller(message.clone()));
        }
    }

    pub fn ask(&mut self, client: usize, command: ClientCommand) {
        let now = self.now;
        let Core::Client(core) = &mut self.cores[client] else { panic!("core {client} is a client") };
        core.handle_input(now, &[], Input::Command(command));
        self.drain(client, &[]);
        self.settle();
    }

    pub fn relay_mut(&mut self, node: u16) -> (Timestamp, &mut Relay) {
        match &mut self.cores[usize::from(node)] {
            Core::Relay(relay) => (self.now, relay),
            Core::Client(_) => panic!("core {node} is a relay"),
        }
    }

    /// Client sends packets of a publication.
    pub fn send(&mut self, client: usize, publication: u32, packets: &[&[u8]]) {
        let arena = packets.concat();
        let mut start = 0;
        let outgoing: Vec<_> = packets
            .iter()
            .map(|packet| {
                start += packet.len();
                Outgoing { publication, range: start - packet.len()..start, rtcp: false }
            })
            .collect();
        let Core::Client(core) = &mut self.cores[client] else { panic!("core {client} is a client") };
        core.handle_input(self.now, &arena, Input::Local(&outgoing));
        self.drain(client, &arena);
        self.settle();
    }

    /// A registration, or another change of a relay.
    pub fn change<R>(&mut self, node: u16, change: impl FnOnce(&mut Relay, Timestamp) -> R) -> R {
        let (now, relay) = self.relay_mut(node);
        let answer = change(relay, now);
        self.drain(usize::from(node), &[]);
        self.settle();
        answer
    }

    /// Plain datagrams arrive at a relay, in one batch.
    pub fn plain_in(&mut self, node: u16, port: PlainPort, source: &str, packets: &[&[u8]]) {
        let source = source.parse().expect("an address");
        let arena = packets.concat();
        let mut start = 0;
        let received: Vec<_> = packets
            .iter()
            .map(|packet| {
                start += packet.len();
                PlainReceived { port, source, range: start - packet.len()..start }
            })
            .collect();
        let (now, relay) = self.relay_mut(node);
        relay.handle_input(now, &arena, Input::Plain(&received));
        self.drain(usize::from(node), &arena);
        self.settle();
    }

    /// Plain datagrams that relays have sent since the last look.
    pub fn take_plain(&mut self) -> Vec<(usize, PlainPort, SocketAddr, Vec<u8>)> {
        std::mem::take(&mut self.plain)
    }

    /// Hands bytes to a relay as if its neighbour had sealed them just now.
    pub fn inject(&mut self, to: usize, link: LinkId, number: u64, plain: Vec<u8>) {
        self.inject_late(to, link, number, plain, Duration::ZERO);
    }

    /// The same, as if its neighbour had done so that long ago.
    pub fn inject_late(&mut self, to: usize, link: LinkId, number: u64, mut plain: Vec<u8>, late: Duration) {
        if let Some(time) = plain.first_chunk_mut::<3>() {
            let left = Timestamp::from_micros(self.now.as_micros() - late.as_micros() as u64);
            *time = wire_format::send_time_bytes(left.wire());
        }
        self.datagrams.push_back(Datagram { to, link, number: PacketNumber(number), plain });
        self.settle();
    }

    /// The link at `a` towards `b`.
    pub fn link_id(&self, a: usize, b: usize) -> LinkId {
        self.wires
            .iter()
            .find(|((at, _), (other, _))| *at == a && *other == b)
            .map(|((_, link), _)| *link)
            .expect("linked")
    }

    /// Moves time, timers first.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let deadline = |core: &Core| match core {
                Core::Relay(relay) => relay.poll_timeout(),
                Core::Client(client) => client.poll_timeout(),
            };
            let next = (0..self.cores.len()).filter_map(|i| Some((deadline(&self.cores[i])?, i))).min();
            let Some((at, core)) = next.filter(|(at, _)| *at <= end) else { break };
            self.now = self.now.max(at);
            match &mut self.cores[core] {
                Core::Relay(relay) => relay.handle_input(self.now, &[], Input::Timeout),
                Core::Client(client) => client.handle_input(self.now, &[], Input::Timeout),
            }
            self.drain(core, &[]);
            assert!(deadline(&self.cores[core]).is_none_or(|next| next > self.now), "law 3");
            self.settle();
        }
        self.now = end;
    }

    fn settle(&mut self) {
        loop {
            if let Some((to, link, message)) = self.messages.pop_front() {
                match &mut self.cores[to] {
                    Core::Relay(relay) => relay.handle_input(self.now, &[], Input::Message { link, message }),
                    Core::Client(client) => {
                        client.handle_input(self.now, &[], Input::Message { link, message })
                    }
                }
                self.drain(to, &[]);
            } else if let Some(Datagram { to, link, number, plain }) = self.datagrams.pop_front() {
                let batch = [Received { link, number, range: 0..plain.len() }];
                match &mut self.cores[to] {
                    Core::Relay(relay) => relay.handle_input(self.now, &plain, Input::Datagrams(&batch)),
                    Core::Client(client) => client.handle_input(self.now, &plain, Input::Datagrams(&batch)),
                }
                self.drain(to, &plain);
            } else if let Some((to, item)) = self.handed_over.pop_front() {
                let (now, relay) = self.relay_mut(to as u16);
                let place = 0..item.len();
                relay.handle_input(now, &item, Input::HandedOver(std::slice::from_ref(&place)));
                self.drain(to, &item);
            } else {
                return;
            }
        }
    }

    fn drain(&mut self, at: usize, arena: &[u8]) {
        let mut train = Train::new();
        loop {
            let link = match &mut self.cores[at] {
                Core::Relay(relay) => relay.poll_transmit(self.now, arena, &mut train),
                Core::Client(client) => client.poll_transmit(self.now, arena, &mut train),
            };
            let Some(link) = link else { break };
            let Some((to, link)) = self.wires.get(&(at, link)).copied() else { continue };
            for slot in train.slots() {
                let plain = train.bytes()[slot.plain()].to_vec();
                for frame in frames(&plain) {
                    let frame = frame.expect("cores write well-formed frames");
                    let body = plain[frame.body].to_vec();
                    self.crossings.push(Crossing { from: at, to, kind: frame.kind, body });
                }
                let fits = self.widths.get(&(at, to)).is_none_or(|width| slot.sealed.len() <= *width);
                if fits && !self.cut.contains(&(at, to)) {
                    self.datagrams.push_back(Datagram { to, link, number: slot.number, plain });
                }
            }
        }
        match &mut self.cores[at] {
            Core::Relay(relay) => {
                assert!(relay.poll_delivery().is_none(), "a relay delivers nothing itself");
                while let Some(hand_over) = relay.poll_hand_over() {
                    for index in hand_over.to.iter() {
                        let to = usize::from(self.relays) * index + at % usize::from(self.relays);
                        let item = [hand_over.head(), packet_bytes(arena, relay.annex(), &hand_over.packet)]
                            .concat();
                        self.handed_over.push_back((to, item));
                    }
                }
                while let Some(sent) = relay.poll_plain(arena) {
                    self.plain.push((at, sent.port, sent.to, sent.bytes.to_vec()));
                }
                while let Some(output) = relay.poll_output() {
                    match output {
                        Output::Message { link, message } => {
                            if let Some((to, link)) = self.wires.get(&(at, link)) {
                                self.messages.push_back((*to, *link, message));
                            }
                        }
                        Output::Close { link, reason } => self.closed.push((at, link, reason)),
                        Output::PathChallenged { link: _ } => panic!("nobody moves here"),
                        Output::ClosePlain { port } => self.closed_plain.push((at, port)),
                        Output::Event(RelayEvent::ToController(message)) => self.reports.push((at, message)),
                        Output::Event(RelayEvent::Notice(notice)) => self.notices.push((at, notice)),
                    }
                }
            }
            Core::Client(client) => {
                while let Some(delivery) = client.poll_delivery() {
                    let packet = packet_bytes(arena, client.annex(), &delivery.range).to_vec();
                    self.delivered.push((at, delivery, packet));
                }
                while let Some(output) = client.poll_output() {
                    match output {
                        Output::Message { link, message } => {
                            let (to, link) = self.wires[&(at, link)];
                            self.messages.push_back((to, link, message));
                        }
                        Output::Close { link, reason } => self.closed.push((at, link, reason)),
                        Output::PathChallenged { link: _ } => panic!("nobody moves here"),
                        Output::ClosePlain { port: _ } => panic!("a client has no plain RTP"),
                        Output::Event(event) => self.client_events.push((at, event)),
                    }
                }
            }
        }
    }

    /// Publishes video of user "alice" at a client of relay `ingress`; returns the client.
    pub fn one_hop(&mut self) -> (usize, usize) {
        self.link(0, 1);
        for node in 0..2 {
            self.push(node, table(1, &[(1 - node, 1 - node)]));
            self.push(node, ToRelay::Stamp { epoch: Epoch(1) });
        }
        let publisher = self.publisher(0);
        let (subscriber, subscription) = self.subscriber(1);
        self.push(1, ToRelay::Stream(entry(0, vec![subscription], &[])));
        self.push(0, ToRelay::Stream(entry(0, Vec::new(), &[1])));
        (publisher, subscriber)
    }

    pub fn publisher(&mut self, ingress: u16) -> usize {
        self.publisher_of(ingress, publish(1))
    }

    pub fn publisher_with_budget(&mut self, ingress: u16, budget: Duration) -> usize {
        let mut publish = publish(1);
        if let ClientCommand::Publish { budget: wanted, .. } = &mut publish {
            *wanted = Some(budget);
        }
        self.publisher_of(ingress, publish)
    }

    pub fn publisher_of(&mut self, ingress: u16, publish: ClientCommand) -> usize {
        let client = self.client(ingress);
        self.ask(client, publish);
        let publication = self
            .reports
            .iter()
            .rev()
            .find_map(|(_, report)| {
                if let ToController::Published(report) = report { Some(report.publication) } else { None }
            })
            .expect("the publication was reported");
        self.push(
            ingress % self.relays,
            ToRelay::PublicationGranted { publication, key: KEY, incarnation: Incarnation(1) },
        );
        client
    }

    /// Subscribes a new client of relay `egress` to everything; returns it and the subscription's id.
    pub fn subscriber(&mut self, egress: u16) -> (usize, SubscriptionId) {
        let client = self.client(egress);
        self.ask(
            client,
            ClientCommand::Subscribe { request: 1, room: "room".into(), user: None, stream: None },
        );
        let subscription = self
            .reports
            .iter()
            .rev()
            .find_map(|(_, report)| {
                if let ToController::Subscribed(report) = report { Some(report.subscription) } else { None }
            })
            .expect("the subscription was reported");
        (client, subscription)
    }

    /// The handle under which a subscriber gets the stream of a publisher, learned from one more packet of it.
    pub fn delivered_handle(&mut self, subscriber: usize, publisher: usize) -> StreamHandle {
        self.send(publisher, 1, &[b"\x80\x60probe"]);
        let delivery = self.delivered.iter().rev().find(|(client, _, _)| *client == subscriber);
        delivery.expect("the subscriber gets the stream").1.handle
    }

    /// Headers of the media frames that crossed from one core to another.
    pub fn headers(&self, from: usize, to: usize) -> Vec<MediaHeader> {
        self.crossings
            .iter()
            .filter(|c| (c.from, c.to, c.kind) == (from, to, FrameKind::Media))
            .map(|c| MediaHeader::decode(&c.body).expect("well-formed").0)
            .collect()
    }

    /// Ends the link between two relays, as when its connection is lost at both ends.
    pub fn unlink(&mut self, a: usize, b: usize) {
        for (at, other) in [(a, b), (b, a)] {
            let link = self.link_id(at, other);
            let Core::Relay(relay) = &mut self.cores[at] else { panic!("core {at} is a relay") };
            relay.handle_input(self.now, &[], Input::LinkDown { link });
            self.drain(at, &[]);
        }
        self.wires.retain(|(at, _), (other, _)| (*at, *other) != (a, b) && (*at, *other) != (b, a));
        self.settle();
    }

    /// Media frames that crossed, as (from, to).
    pub fn media_crossings(&self) -> Vec<(usize, usize)> {
        self.crossings.iter().filter(|c| c.kind == FrameKind::Media).map(|c| (c.from, c.to)).collect()
    }
}

pub const KEY: StreamKey = StreamKey { room: RoomId(1), user: UserId(2), stream: StreamId(3) };

pub fn publish(request: u32) -> ClientCommand {
    ClientCommand::Publish {
        request,
        room: "room".into(),
        user: "alice".into(),
        stream: "video".into(),
        kind: MediaKind::Video,
        budget: None,
        protect: false,
        description: RtpDescription::default(),
    }
}

pub fn entry(ingress: u16, subscriptions: Vec<SubscriptionId>, destinations: &[u16]) -> StreamEntry {
    StreamEntry {
        key: KEY,
        name: StreamName {
            namespace: "demo".into(),
            room: "room".into(),
            user: "alice".into(),
            stream: "video".into(),
        },
        kind: MediaKind::Video,
        incarnation: Incarnation(1),
        ingress: NodeIndex(ingress),
        subscriptions,
        destinations: destinations.iter().copied().map(NodeIndex).collect(),
        revision: 1,
        protect: false,
        policy: PolicyIndex::DEFAULT,
    }
}

/// A table of primary routes: (destination, next hop).
pub fn table(epoch: u32, rows: &[(u16, u16)]) -> ToRelay {
    let next_hops =
        rows.iter().map(|(to, hop)| ((Plane::PRIMARY, NodeIndex(*to)), NodeIndex(*hop))).collect();
    ToRelay::Table(RouteTable::of_default(Epoch(epoch), PolicyTable { next_hops, ..PolicyTable::default() }))
}

/// A table of all planes: (plane, destination, next hop), and (destination, backup plane).
pub fn planes(epoch: u32, rows: &[(u8, u16, u16)], backups: &[(u16, u8)]) -> ToRelay {
    let row = |(plane, to, hop): &(u8, u16, u16)| ((Plane(*plane), NodeIndex(*to)), NodeIndex(*hop));
    let backup = |(to, plane): &(u16, u8)| (NodeIndex(*to), Plane(*plane));
    let next_hops = rows.iter().map(row).collect();
    let backups = backups.iter().map(backup).collect();
    let rows = PolicyTable { next_hops, backups, pairs: BTreeMap::new() };
    ToRelay::Table(RouteTable::of_default(Epoch(epoch), rows))
}

fn hello(node: u16) -> RelayHello {
    RelayHello {
        name: format!("r{node}"),
        node: None,
        region: "test".into(),
        isp: String::new(),
        tags: Vec::new(),
        position: None,
        addresses: Vec::new(),
        version: "test".into(),
        wire_versions: (1, 1),
        epoch: None,
        table_deltas: true,
        streams: Vec::new(),
        traces: true,
    }
}
