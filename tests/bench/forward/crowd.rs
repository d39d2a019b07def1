//! What a packet costs a relay that holds many links and streams, and one that goes on to many neighbours.

use crate::cascade::{Ask, Certificates, Peer, Streams, Tell};
use crate::clock::threads_cpu_ns;
use crate::trains::{Trains, equal_trains, hello, pushes};
use crate::{BURST, Course, Limits, RTP_BYTES};
use link_io::{Admission, Expect, Port, PortConfig, Upcall, admit_nobody};
use relay_core::{
    ClientRights, Delivery, Endpoint, Input, LinkId, Output, Peer as PeerKind, Relay, RelayCommand,
    RelayConfig, RelayEvent, Train,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use wire_format::control::{StreamEntry, StreamName, ToController, ToRelay};
use wire_format::session::Role;
use wire_format::{
    FrameKind, Heartbeat, Incarnation, MediaKind, NodeIndex, PacketNumber, PolicyIndex, RoomId, StreamId,
    StreamKey, SubscriptionId, Timestamp, UserId, frame_header, send_time_bytes,
};

const LINKS: u32 = 1_000;
const STREAMS: u32 = 10_000;
const FAN_OUT: u16 = 8;
/// Announcements under way at once: fewer than a link's queue of messages takes.
const ANNOUNCED_AT_ONCE: u32 = 100;
/// An idle link's.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// What packets of a relay that holds everything may cost, in those of one that holds a handful.
const CROWDED_LIMIT: f64 = 1.15;
/// What one in, eight out may cost, in one in, one out.
const FAN_OUT_LIMIT: f64 = 6.0;

/// Measures, prints and judges everything.
pub fn report(time: Duration, limits: &mut Limits) {
    for (way, name) in [(Way::Through, "to the next relay"), (Way::Delivered, "to a subscriber")] {
        let mut few = Crowd::start(way, 0, 20, 1);
        let mut many = Crowd::start(way, LINKS, STREAMS, 1);
        let name = format!("{name}: 2 links, 20 streams; {} links, {STREAMS}", LINKS + 2);
        limits.compare(&name, (&mut few, &mut many), time, CROWDED_LIMIT);
    }
    let mut one = Crowd::start(Way::Through, 0, 20, 1);
    let mut eight = Crowd::start(Way::Through, 0, 20, FAN_OUT);
    let name = format!("one in, one out; one in, {FAN_OUT} out");
    limits.compare(&name, (&mut one, &mut eight), time, FAN_OUT_LIMIT);
}

/// What becomes of the packets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The relay is a transit.
    Through,
    /// The relay is the egress of a subscriber.
    Delivered,
}

/// A relay in the middle, who sends to it, who gets what it sends, and a crowd of SFUs that only keep their links.
struct Crowd {
    runtime: Runtime,
    sender: Port<Peer>,
    receivers: Vec<Port<Peer>>,
    relay: Port<Relay>,
    _idlers: Port<Idlers>,
    told: Receiver<Tell>,
    trains: Arc<Trains>,
    streams: u32,
    thread: String,
    idle_ns_per_s: f64,
}

impl Crowd {
    fn start(way: Way, links: u32, streams: u32, fan_out: u16) -> Crowd {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let (tell, told) = channel();
        let (report, reports) = channel();
        let certificates = Certificates::new();
        let peer = |config, admission| {
            let sink = Box::new(|_: Upcall<'_, ()>| Ok(()));
            Port::open(config, Peer::new(tell.clone()), admission, sink).expect("a port")
        };
        let nodes: Vec<_> = (2..2 + fan_out).collect();
        let names: Vec<_> = nodes.iter().map(|node| format!("r{node}")).collect();
        let neighbours = nodes.iter().zip(&names).map(|(node, name)| (*node, name.as_str()));
        let neighbours: Vec<_> = [(1, "r1")].into_iter().chain(neighbours).collect();
        let (sender, receivers, relay, idlers) = runtime.block_on(async {
            let sink = Box::new(move |upcall: Upcall<'_, RelayEvent>| {
                if let Upcall::Event(RelayEvent::ToController(message)) = upcall {
                    // The bench may have stopped listening.
                    let _ = report.send(message);
                }
                Ok(())
            });
            let core = Relay::new(RelayConfig { hello: hello("r0"), seed: 1 });
            let relay =
                Port::open(roomy(certificates.config("r0")), core, admit_all(), sink).expect("a port");
            relay.command(RelayCommand::ControllerUp).await.expect("running");
            for command in pushes(0, &neighbours) {
                relay.command(command).await.expect("running");
            }
            let expect = |name: &str, node: u16| Expect::Relay {
                name: name.to_owned(),
                node: NodeIndex(node),
                begins_unix_s: 0,
            };
            let role = |node: u16| Role::Relay { node: NodeIndex(node) };
            let client = || Role::Client { token: String::new() };
            let sender = peer(certificates.config("r1"), admit_nobody());
            sender.dial(relay.local_addr(), expect("r0", 0), role(1)).await.expect("a link");
            let mut receivers = Vec::new();
            match way {
                Way::Through => {
                    for (node, name) in &neighbours[1..] {
                        let receiver = peer(certificates.config(name), admit_all());
                        relay
                            .dial(receiver.local_addr(), expect(name, *node), role(0))
                            .await
                            .expect("a link");
                        receivers.push(receiver);
                    }
                }
                Way::Delivered => {
                    let receiver = peer(certificates.client(), admit_nobody());
                    receiver.dial(relay.local_addr(), Expect::Upstream, client()).await.expect("a link");
                    receiver.command(Ask::Subscribe).await.expect("running");
                    receivers.push(receiver);
                }
            }
            let sink = Box::new(|_: Upcall<'_, ()>| Ok(()));
            let idlers = roomy(certificates.client());
            let idlers = Port::open(idlers, Idlers::default(), admit_nobody(), sink).expect("a port");
            for _ in 0..links {
                idlers.dial(relay.local_addr(), Expect::Upstream, client()).await.expect("a link");
            }
            (sender, receivers, relay, idlers)
        });
        let mut crowd = Crowd {
            idle_ns_per_s: 0.0,
            thread: format!("port-{}", relay.local_addr().port()),
            trains: Arc::new(match way {
                Way::Through => {
                    let nodes: Vec<_> = nodes.iter().copied().map(NodeIndex).collect();
                    equal_trains(&nodes, RTP_BYTES, BURST)
                }
                Way::Delivered => equal_trains(&[NodeIndex(0)], RTP_BYTES, BURST),
            }),
            runtime,
            sender,
            receivers,
            relay,
            _idlers: idlers,
            told,
            streams,
        };
        if way == Way::Delivered {
            crowd.announce(&reports);
        }
        if links > 0 {
            crowd.idle_ns_per_s = idle_ns_per_s(&crowd.thread);
            let each_us = crowd.idle_ns_per_s / f64::from(links) / 1_000.0;
            println!("each of {links} idle links takes {each_us:.1} us a second, which is taken off");
        }
        crowd
    }

    /// Plays the controller: every stream is for the one subscriber.
    fn announce(&self, reports: &Receiver<ToController>) {
        let subscription = loop {
            let report = reports.recv_timeout(Duration::from_secs(10)).expect("the subscription is reported");
            if let ToController::Subscribed(report) = report {
                break report.subscription;
            }
        };
        for first in (0..self.streams).step_by(ANNOUNCED_AT_ONCE as usize) {
            for user in first..(first + ANNOUNCED_AT_ONCE).min(self.streams) {
                let push = RelayCommand::Controller(ToRelay::Stream(entry(user, subscription)));
                self.runtime.block_on(self.relay.command(push)).expect("running");
            }
            for _ in first..(first + ANNOUNCED_AT_ONCE).min(self.streams) {
                while !matches!(self.told.recv_timeout(Duration::from_secs(10)), Ok(Tell::Announced)) {}
            }
        }
    }

    fn ask(&self, port: &Port<Peer>, ask: Ask) {
        self.runtime.block_on(port.command(ask)).expect("running");
    }
}

impl Course for Crowd {
    fn burst(&mut self) -> usize {
        for receiver in &self.receivers {
            self.ask(receiver, Ask::Expect(BURST));
        }
        let streams = Streams { first: 0, count: self.streams, step: 1 };
        self.ask(&self.sender, Ask::Streams(Arc::clone(&self.trains), streams));
        let arrived =
            self.receivers.iter().all(|_| self.told.recv_timeout(Duration::from_millis(500)).is_ok());
        if arrived { BURST } else { 0 }
    }

    fn thread(&self) -> &str {
        &self.thread
    }

    fn idle_ns_per_s(&self) -> f64 {
        self.idle_ns_per_s
    }
}

/// What the heartbeats of links without media take of a relay's thread.
fn idle_ns_per_s(thread: &str) -> f64 {
    let (begun, cpu) = (Instant::now(), threads_cpu_ns(thread));
    thread::sleep(Duration::from_secs(2));
    (threads_cpu_ns(thread) - cpu) as f64 / begun.elapsed().as_secs_f64()
}

/// The entry of a stream that node 1 sends, for one subscription.
pub fn entry(user: u32, subscription: SubscriptionId) -> StreamEntry {
    StreamEntry {
        key: StreamKey { room: RoomId(1), user: UserId(user), stream: StreamId(1) },
        name: StreamName {
            namespace: "demo".into(),
            room: "room".into(),
            user: format!("user-{user}"),
            stream: "camera".into(),
        },
        kind: MediaKind::Video,
        incarnation: Incarnation(0),
        ingress: NodeIndex(1),
        subscriptions: vec![subscription],
        destinations: Vec::new(),
        revision: 1,
        protect: false,
        policy: PolicyIndex::DEFAULT,
    }
}

/// Room for the whole crowd.
fn roomy(mut config: PortConfig) -> PortConfig {
    config.limits.links = 2 * LINKS as usize;
    config
}

pub fn admit_all() -> Admission {
    Arc::new(|dialler| match &dialler.role {
        Role::Relay { node } => Ok(PeerKind::Relay { node: *node }),
        Role::Client { token: _ } => Ok(PeerKind::Client(ClientRights {
            subject: "sfu".into(),
            namespace: "demo".into(),
            room_pattern: "*".into(),
            publish: true,
            subscribe: true,
            token: None,
        })),
    })
}

/// SFUs without media: heartbeats, and nothing else.
#[derive(Default)]
struct Idlers {
    /// When the next heartbeat of a link is due, and its number.
    links: BTreeMap<LinkId, (Timestamp, u64)>,
}

impl Endpoint for Idlers {
    type Command = ();
    type Event = ();

    fn handle_input(&mut self, now: Timestamp, _: &[u8], input: Input<'_, ()>) {
        if let Input::LinkUp { link, .. } = input {
            // Spread over the second.
            let spread = Duration::from_millis(u64::from(link.0 & 0xFFFF) % 1_000);
            self.links.insert(link, (now + spread, 0));
        } else if let Input::LinkDown { link } = input {
            panic!("an idle link {link:?} fell: the figures would be wrong");
        }
    }

    fn poll_transmit(&mut self, now: Timestamp, _: &[u8], train: &mut Train) -> Option<LinkId> {
        let (link, (due, number)) = self.links.iter_mut().find(|(_, (due, _))| *due <= now)?;
        train.clear();
        let beat = Heartbeat {
            in_use: false,
            highest: 0,
            received: 0,
            echo: None,
            jitter: 0,
            sizes: None,
            arrival: None,
            media: None,
            repairs: true,
        };
        let mut body = [0; Heartbeat::BYTES_MAX];
        let used = beat.encode(&mut body);
        let plain = train.append(PacketNumber(*number), 3 + 2 + used);
        plain[..3].copy_from_slice(&send_time_bytes(now.wire()));
        plain[3..5].copy_from_slice(&frame_header(FrameKind::Heartbeat, used));
        plain[5..].copy_from_slice(&body[..used]);
        (*due, *number) = (now + HEARTBEAT, *number + 1);
        Some(*link)
    }

    fn poll_delivery(&mut self) -> Option<Delivery> {
        None
    }

    fn poll_output(&mut self) -> Option<Output<()>> {
        None
    }

    fn poll_timeout(&self) -> Option<Timestamp> {
        self.links.values().map(|(due, _)| *due).min()
    }
}
