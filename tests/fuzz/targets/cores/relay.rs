//! A relay with neighbours and SFUs, some of which send whatever comes to their mind.

use super::bench::{Bench, MAX_DATAGRAM};
use bolero::TypeGenerator;
use fuzz::target;
use relay_core::{ClientRights, Input, LinkId, Output, Peer, Relay, RelayCommand, RelayConfig, RelayEvent};
use std::collections::BTreeMap;
use std::time::Duration;
use wire_format::codec;
use wire_format::control::{Neighbour, RelayHello, StreamEntry, StreamName, ToController, ToRelay, Welcome};
use wire_format::session::Message;
use wire_format::{
    Arrival, DestinationSet, EdgeHeader, Epoch, FrameKind, Heartbeat, Incarnation, KeyframeRequest,
    MediaHeader, MediaKind, MediaSent, NodeIndex, Plane, PlanePair, PolicyIndex, Priority, PublicationId,
    RoomId, RouteTable, Sequence, SizeCounts, Slack, StreamHandle, StreamId, StreamKey, SubscriptionId,
    UserId, frame_header,
};

/// This relay.
const ME: NodeIndex = NodeIndex(0);
/// Neighbours 1, 2, 3 on links 1, 2, 3; SFUs on links 4 and 5.
const RELAYS: u16 = 3;
const LINKS: u32 = 5;

/// What happens next.
#[derive(Clone, Debug, TypeGenerator)]
enum Step {
    /// A datagram of any bytes.
    Bytes { link: u8, gap: u32, bytes: Vec<u8> },
    /// A datagram of frames that decode, most of the time.
    Frames { link: u8, gap: u8, frames: Vec<Frame> },
    /// A message of any bytes that is one.
    MessageBytes { link: u8, bytes: Vec<u8> },
    /// A message of an SFU.
    Say { link: u8, say: Say },
    /// The controller pushes something.
    Push(Push),
    /// The controller comes or goes.
    Controller(bool),
    /// A link falls and stands again, or only falls.
    Link { link: u8, up: bool },
    /// Time passes.
    Wait { ms: u8 },
}

/// A frame, mostly legal.
#[derive(Clone, Debug, TypeGenerator)]
enum Frame {
    Media {
        key: u8,
        incarnation: u8,
        sequence: u16,
        flags: u8,
        hops: u8,
        epoch: u8,
        nodes: Vec<u8>,
        bytes: u8,
    },
    Edge {
        handle: u8,
        sequence: u16,
        slack: u16,
        flags: u8,
        bytes: u8,
    },
    Heartbeat {
        in_use: bool,
        highest: u32,
        received: u32,
        jitter: u16,
    },
    Keyframe {
        ingress: u8,
        key: u8,
        hops: u8,
    },
    EdgeKeyframe {
        handle: u8,
    },
    Other {
        kind: u8,
        body: Vec<u8>,
    },
}

/// What SFUs, and relays that pretend to be some, say.
#[derive(Clone, Debug, TypeGenerator)]
enum Say {
    Publish { request: u8, stream: u8, video: bool, budget_ms: Option<u32> },
    Unpublish { request: u8 },
    Subscribe { request: u8, stream: Option<u8> },
    Unsubscribe { request: u8 },
    Goodbye,
}

/// What a controller pushes; trusted, but in any order.
#[derive(Clone, Debug, TypeGenerator)]
enum Push {
    Table { epoch: u8, rows: Vec<(u8, u8, u8)>, backups: Vec<(u8, u8)> },
    Stamp { epoch: u8 },
    Stream { key: u8, incarnation: u8, ingress: u8, subscribed: bool, nodes: Vec<u8> },
    StreamGone { key: u8 },
    Neighbours { lowest: u8 },
    Refuse { publication: u8 },
    Drain { draining: bool },
}

struct World {
    bench: Bench<Relay>,
    subscriptions: Vec<SubscriptionId>,
    turns: BTreeMap<u32, u32>,
    revision: u64,
}

#[test]
fn relay_core() {
    target!("relay-core").with_type::<Vec<Step>>().for_each(|steps| {
        let first = run(steps);
        assert_eq!(run(steps), first, "law 7: the same inputs give the same outputs");
    });
}

fn run(steps: &[Step]) -> u64 {
    let mut world = World::new();
    for step in steps.iter().take(64) {
        world.step(step);
    }
    world.step(&Step::Wait { ms: 100 });
    let bench = &world.bench;
    // No peer is worth more than a copy on each link and plane, and each of them once more after a reroute.
    let media =
        bench.frames_out.iter().filter(|(_, kind)| matches!(kind, FrameKind::Media | FrameKind::Edge));
    let copies = media.count() as u64;
    assert!(copies <= bench.frames_in * u64::from(LINKS) * 3 * 2, "{copies} copies of {}", bench.frames_in);
    bench.digest
}

impl World {
    fn new() -> World {
        let relay = Relay::new(RelayConfig { hello: hello(), seed: 1 });
        let bench = Bench::new(relay);
        let mut world = World { bench, subscriptions: Vec::new(), turns: BTreeMap::new(), revision: 0 };
        world.command(RelayCommand::ControllerUp);
        world.push(ToRelay::Welcome(Welcome { node: ME, term: 1 }));
        world.push(neighbours(1));
        for link in 1..=LINKS {
            world.raise(link);
        }
        let mut table = RouteTable::new(Epoch(1));
        for node in 1..=RELAYS {
            table
                .policy_mut(PolicyIndex::DEFAULT)
                .next_hops
                .insert((Plane::PRIMARY, NodeIndex(node)), NodeIndex(node));
        }
        world.push(ToRelay::Table(table));
        world.push(ToRelay::Stamp { epoch: Epoch(1) });
        world.say(4, Say::Publish { request: 1, stream: 1, video: true, budget_ms: None });
        world.say(5, Say::Subscribe { request: 2, stream: None });
        world.push_stream(1, 1, 0, true, &[1, 2]);
        world
    }

    fn step(&mut self, step: &Step) {
        match step.clone() {
            Step::Bytes { link, gap, bytes } => {
                let link = self.link(link);
                let outputs = self.bench.datagram(link, gap, &bytes);
                self.answer(outputs);
            }
            Step::Frames { link, gap, frames } => {
                let link = self.link(link);
                let mut plain = vec![0, 1, gap];
                for frame in frames.iter().take(8) {
                    frame.write(&mut plain);
                }
                let outputs = self.bench.datagram(link, u32::from(gap), &plain);
                self.answer(outputs);
            }
            Step::MessageBytes { link, bytes } => {
                if let Ok(message) = codec::decode(&bytes) {
                    let link = self.link(link);
                    self.message(link, message);
                }
            }
            Step::Say { link, say } => self.say(link, say),
            Step::Push(push) => self.push_any(push),
            Step::Controller(true) => self.command(RelayCommand::ControllerUp),
            Step::Controller(false) => self.command(RelayCommand::ControllerDown),
            Step::Link { link, up } => {
                let id = self.link(link);
                let outputs = self.bench.input(&[], Input::LinkDown { link: id });
                self.answer(outputs);
                if up {
                    self.raise(id.0 & 0xFFFF);
                }
            }
            Step::Wait { ms } => {
                let outputs = self.bench.wait(Duration::from_millis(20 * u64::from(ms)));
                self.answer(outputs);
            }
        }
    }

    /// A link of one of the five places, as it is called this time.
    fn link(&self, link: u8) -> LinkId {
        let place = 1 + u32::from(link) % LINKS;
        LinkId(self.turns.get(&place).copied().unwrap_or(0) << 16 | place)
    }

    fn raise(&mut self, place: u32) {
        *self.turns.entry(place).or_default() += 1;
        let link = self.link((place - 1) as u8);
        let peer = if place <= u32::from(RELAYS) {
            Peer::Relay { node: NodeIndex(place as u16) }
        } else {
            Peer::Client(ClientRights {
                subject: "sfu".into(),
                namespace: "demo".into(),
                room_pattern: "*".into(),
                publish: true,
                subscribe: true,
                token: None,
            })
        };
        let outputs = self.bench.input(&[], Input::LinkUp { link, peer, max_datagram: MAX_DATAGRAM });
        self.answer(outputs);
    }

    fn command(&mut self, command: RelayCommand) {
        let outputs = self.bench.input(&[], Input::Command(command));
        self.answer(outputs);
    }

    fn push(&mut self, message: ToRelay) {
        self.command(RelayCommand::Controller(message));
    }

    fn message(&mut self, link: LinkId, message: Message) {
        let outputs = self.bench.input(&[], Input::Message { link, message });
        self.answer(outputs);
    }

    fn say(&mut self, link: u8, say: Say) {
        // Place 4 is `link` 3.
        let link = self.link(link.wrapping_sub(1));
        let request = u32::from;
        let name = |number: u8| format!("stream-{number}");
        let message = match say {
            Say::Publish { request: n, stream, video, budget_ms } if stream & 0x80 != 0 => {
                Message::PublishProtected {
                    request: request(n),
                    room: "room".into(),
                    user: "user".into(),
                    stream: name(stream),
                    kind: if video { MediaKind::Video } else { MediaKind::Audio },
                    budget_ms,
                }
            }
            Say::Publish { request: n, stream, video, budget_ms } => Message::Publish {
                request: request(n),
                room: "room".into(),
                user: "user".into(),
                stream: name(stream),
                kind: if video { MediaKind::Video } else { MediaKind::Audio },
                budget_ms,
            },
            Say::Unpublish { request: n } => Message::Unpublish { request: request(n) },
            Say::Subscribe { request: n, stream } => Message::Subscribe {
                request: request(n),
                room: "room".into(),
                user: None,
                stream: stream.map(name),
            },
            Say::Unsubscribe { request: n } => Message::Unsubscribe { request: request(n) },
            Say::Goodbye => Message::Goodbye,
        };
        self.message(link, message);
    }

    /// Plays the controller, and the port that ends the links that the core closes.
    fn answer(&mut self, outputs: Vec<Output<RelayEvent>>) {
        for output in outputs {
            match output {
                Output::Message { link, message } => {
                    assert!(self.bench.links.contains_key(&link), "{message:?} for a link that is gone");
                }
                Output::Close { link, .. } => {
                    if self.bench.links.contains_key(&link) {
                        let outputs = self.bench.input(&[], Input::LinkDown { link });
                        self.answer(outputs);
                    }
                }
                Output::Event(RelayEvent::ToController(ToController::Published(report))) => {
                    let key = key(report.name.stream.len() as u8);
                    self.push(ToRelay::PublicationGranted {
                        publication: report.publication,
                        key,
                        incarnation: Incarnation(1),
                    });
                }
                Output::Event(RelayEvent::ToController(ToController::Subscribed(report))) => {
                    self.subscriptions.push(report.subscription);
                }
                Output::PathChallenged { .. } => {}
                Output::ClosePlain { port } => panic!("{port:?} was never opened"),
                Output::Event(_) => {}
            }
        }
    }

    fn push_any(&mut self, push: Push) {
        match push {
            Push::Table { epoch, rows, backups } => {
                let mut table = RouteTable::new(Epoch(u32::from(epoch)));
                for (plane, to, hop) in rows.iter().take(32) {
                    let rows = table.policy_mut(PolicyIndex::from_bits(plane / 3));
                    let (to, hop) = (NodeIndex(u16::from(*to)), NodeIndex(u16::from(*hop % 6)));
                    rows.next_hops.insert((Plane(plane % 3), to), hop);
                }
                for (to, plane) in &backups {
                    let rows = table.policy_mut(PolicyIndex::from_bits(plane >> 2));
                    let to = NodeIndex(u16::from(*to));
                    rows.backups.insert(to, Plane(1 + plane % 2));
                    if plane & 0x40 != 0 {
                        rows.pairs.insert(to, PlanePair::ALL[usize::from(plane % 3)]);
                    }
                }
                self.push(ToRelay::Table(table));
            }
            Push::Stamp { epoch } => self.push(ToRelay::Stamp { epoch: Epoch(u32::from(epoch)) }),
            Push::Stream { key, incarnation, ingress, subscribed, nodes } => {
                self.push_stream(key, incarnation, ingress, subscribed, &nodes);
            }
            Push::StreamGone { key: stream } => self.push(ToRelay::StreamGone { key: key(stream) }),
            Push::Neighbours { lowest } => self.push(neighbours(u16::from(lowest % 4))),
            Push::Drain { draining } => self.push(ToRelay::Drain { draining }),
            Push::Refuse { publication } => self.push(ToRelay::PublicationRefused {
                limit: false,
                publication: PublicationId(u32::from(publication)),
                reason: "no".into(),
            }),
        }
    }

    fn push_stream(&mut self, stream: u8, incarnation: u8, ingress: u8, subscribed: bool, nodes: &[u8]) {
        self.revision += 1;
        let mut destinations: Vec<_> = nodes.iter().map(|node| NodeIndex(u16::from(*node))).collect();
        destinations.retain(|node| *node != ME);
        destinations.sort_unstable();
        destinations.dedup();
        self.push(ToRelay::Stream(StreamEntry {
            key: key(stream),
            name: StreamName {
                namespace: "demo".into(),
                room: "room".into(),
                user: "user".into(),
                stream: format!("stream-{stream}"),
            },
            kind: MediaKind::Video,
            incarnation: Incarnation(incarnation),
            ingress: NodeIndex(u16::from(ingress % 4)),
            subscriptions: if subscribed { self.subscriptions.clone() } else { Vec::new() },
            destinations,
            revision: self.revision,
            protect: ingress & 0x80 != 0,
            policy: PolicyIndex::from_bits(ingress >> 4),
        }));
    }
}

impl Frame {
    fn write(&self, plain: &mut Vec<u8>) {
        let (kind, body) = match self {
            Frame::Media { key: stream, incarnation, sequence, flags, hops, epoch, nodes, bytes } => {
                let mut nodes: Vec<_> = nodes.iter().map(|node| NodeIndex(u16::from(*node))).collect();
                nodes.sort_unstable();
                nodes.dedup();
                if nodes.is_empty() {
                    nodes.push(ME);
                }
                let header = MediaHeader {
                    key: key(*stream),
                    incarnation: Incarnation(*incarnation),
                    sequence: Sequence(u32::from(*sequence)),
                    slack: Slack(2_000),
                    priority: Priority::from_bits(*flags),
                    hop_limit: hops % 32,
                    epoch: u16::from(*epoch),
                    plane: Plane((flags >> 3) % 3),
                    marked: flags & 0x80 != 0,
                    rtcp: flags & 0x40 != 0,
                    protected: hops & 0x80 != 0,
                    policy: PolicyIndex::from_bits(hops >> 4),
                    destinations: DestinationSet::take(&nodes).0,
                };
                let mut body = vec![0; wire_format::MEDIA_HEADER_MAX];
                let used = header.encode(&mut body);
                body.truncate(used);
                body.resize(used + usize::from(*bytes), 0x80);
                (FrameKind::Media, body)
            }
            Frame::Edge { handle, sequence, slack, flags, bytes } => {
                let header = EdgeHeader {
                    handle: StreamHandle(u16::from(*handle)),
                    sequence: Sequence(u32::from(*sequence)),
                    slack: Slack(*slack),
                    priority: Priority::from_bits(*flags),
                    rtcp: flags & 0x80 != 0,
                };
                let mut body = header.encode().to_vec();
                body.resize(body.len() + usize::from(*bytes), 0x80);
                (FrameKind::Edge, body)
            }
            Frame::Heartbeat { in_use, highest, received, jitter } => {
                let beat = Heartbeat {
                    in_use: *in_use,
                    highest: *highest,
                    received: *received,
                    echo: None,
                    jitter: *jitter,
                    sizes: (*jitter % 3 > 0).then_some(SizeCounts {
                        probes_sent: *received as u16,
                        probes_received: *highest as u16,
                        large_received: *jitter,
                    }),
                    arrival: (*jitter % 3 > 1).then_some(Arrival {
                        queueing: jitter.rotate_left(5),
                        bytes: received.rotate_left(9),
                    }),
                    media: (*jitter % 5 > 2).then_some(MediaSent {
                        through: *highest as u16,
                        datagrams: received.rotate_left(3),
                    }),
                    repairs: *jitter % 2 > 0,
                };
                let mut body = vec![0; Heartbeat::BYTES_MAX];
                let used = beat.encode(&mut body);
                body.truncate(used);
                (FrameKind::Heartbeat, body)
            }
            Frame::Keyframe { ingress, key: stream, hops } => {
                let request = KeyframeRequest {
                    ingress: NodeIndex(u16::from(*ingress)),
                    key: key(*stream),
                    hop_limit: *hops,
                };
                (FrameKind::KeyframeRequest, request.encode().to_vec())
            }
            Frame::EdgeKeyframe { handle } => (FrameKind::EdgeKeyframeRequest, vec![0, *handle]),
            Frame::Other { kind, body } => {
                let body = &body[..body.len().min(200)];
                plain.extend((u16::from(kind % 32) << 11 | body.len() as u16).to_be_bytes());
                plain.extend(body);
                return;
            }
        };
        plain.extend(frame_header(kind, body.len()));
        plain.extend(body);
    }
}

fn key(stream: u8) -> StreamKey {
    StreamKey { room: RoomId(1), user: UserId(1), stream: StreamId(u16::from(stream % 16)) }
}

fn neighbours(lowest: u16) -> ToRelay {
    let neighbour = |node| Neighbour {
        node: NodeIndex(node),
        name: format!("r{node}"),
        addresses: Vec::new(),
        certificates_from_unix_s: 0,
    };
    ToRelay::Neighbours((lowest.max(1)..=RELAYS).map(neighbour).collect())
}

fn hello() -> RelayHello {
    RelayHello {
        name: "r0".into(),
        node: None,
        region: String::new(),
        isp: String::new(),
        tags: Vec::new(),
        position: None,
        addresses: Vec::new(),
        version: String::new(),
        wire_versions: (1, 1),
        epoch: None,
        table_deltas: true,
        streams: Vec::new(),
        traces: false,
    }
}
