//! The real thing: a relay's port with the real core between two peers that send and count.

use crate::Course;
use crate::clock::clock_ns;
use crate::trains::{Trains, hello, media_frame, pushes_beyond};
use aws_lc_rs::digest::{SHA256, digest};
use link_io::{Admission, Expect, Identity, Port, PortConfig, Trust, Upcall, admit_nobody};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use relay_core::{
    Delivery, Endpoint, Input, LinkId, Output, Peer as PeerKind, Relay, RelayConfig, RepairMode, Train,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use tokio::runtime::Runtime;
use wire_format::session::{Message, Role};
use wire_format::{
    EDGE_HEADER_BYTES, FRAME_HEADER_BYTES, FrameKind, Heartbeat, MediaHeader, NodeIndex, PacketNumber,
    SEND_TIME_BYTES, Timestamp, frame_header, frames, send_time_bytes,
};

/// Where user and sequence of the first media frame of a plain datagram are.
const USER_AT: usize = SEND_TIME_BYTES + FRAME_HEADER_BYTES + 4;
const SEQUENCE_AT: usize = SEND_TIME_BYTES + FRAME_HEADER_BYTES + 11;
/// As relays do under media.
const HEARTBEAT: Duration = Duration::from_micros(33_333);

/// What a peer is asked to do.
pub enum Ask {
    /// Send these trains.
    Burst(Arc<Trains>),
    /// Send these trains of one frame a datagram, each datagram the next packet of the next of these streams.
    Streams(Arc<Trains>, Streams),
    /// Send packets one by one at this distance, each with the time of its sending inside.
    Pace { every: Duration, count: usize, bytes: usize },
    /// Ask the relay for everything in the room.
    Subscribe,
    /// Tell when this many media frames have arrived.
    Expect(usize),
}

/// Which streams: `count` of them, every `step`th from `first` on.
#[derive(Clone, Copy)]
pub struct Streams {
    pub first: u32,
    pub count: u32,
    pub step: u32,
}

/// What a peer tells.
pub enum Tell {
    /// The expected number of frames has arrived.
    Arrived,
    /// A stream was announced.
    Announced,
    /// Time of sending and of arrival of a paced packet, ns.
    Latency(u64, u64),
}

/// A neighbour of the relay: sends trains made before, counts what arrives.
pub struct Peer {
    link: Option<LinkId>,
    number: u64,
    burst: Option<(Arc<Trains>, usize)>,
    /// Streams that the datagrams of a burst belong to in turn; `None` leaves them as they are.
    streams: Option<Streams>,
    pace: Option<(Timestamp, Duration, usize, usize)>,
    due: usize,
    heartbeat_at: Timestamp,
    heartbeat_due: bool,
    /// Highest number that arrived, and how many: a relay keeps what is not acknowledged.
    highest: u32,
    received: u32,
    expected: usize,
    says: Option<Output<()>>,
    told: Sender<Tell>,
}

impl Peer {
    pub fn new(told: Sender<Tell>) -> Peer {
        Peer {
            link: None,
            number: 0,
            burst: None,
            streams: None,
            pace: None,
            due: 0,
            heartbeat_at: Timestamp::ZERO,
            heartbeat_due: false,
            highest: 0,
            received: 0,
            expected: 0,
            says: None,
            told,
        }
    }

    fn append(&mut self, train: &mut Train, now: Timestamp, frame: &[u8]) {
        let plain = train.append(PacketNumber(self.number), 3 + frame.len());
        plain[..3].copy_from_slice(&send_time_bytes(now.wire()));
        plain[3..].copy_from_slice(frame);
        self.number += 1;
    }

    fn frame(&mut self, kind: FrameKind, body: &[u8]) {
        let head = if kind == FrameKind::Media {
            MediaHeader::decode(body).expect("the relay writes well-formed frames").1
        } else if kind == FrameKind::Edge {
            EDGE_HEADER_BYTES
        } else {
            return;
        };
        if let Some(stamp) = body[head..].get(..8) {
            let sent = u64::from_be_bytes(stamp.try_into().expect("8 bytes"));
            if sent >> 56 == 0 && sent != 0 {
                // The bench may have stopped listening.
                let _ = self.told.send(Tell::Latency(sent, clock_ns()));
            }
        }
        if self.expected > 0 {
            self.expected -= 1;
            if self.expected == 0 {
                let _ = self.told.send(Tell::Arrived);
            }
        }
    }
}

impl Endpoint for Peer {
    type Command = Ask;
    type Event = ();

    fn handle_input(&mut self, now: Timestamp, arena: &[u8], input: Input<'_, Ask>) {
        match input {
            Input::LinkUp { link, peer: _, max_datagram: _ } => {
                self.link = Some(link);
                self.heartbeat_at = now;
            }
            Input::LinkDown { link: _ } => self.link = None,
            Input::Datagrams(batch) => {
                for received in batch {
                    self.highest = self.highest.max(received.number.0 as u32);
                    self.received += 1;
                    let plain = &arena[received.range.clone()];
                    for frame in frames(plain).flatten() {
                        self.frame(frame.kind, &plain[frame.body]);
                    }
                }
            }
            Input::Command(Ask::Burst(trains)) => (self.burst, self.streams) = (Some((trains, 0)), None),
            Input::Command(Ask::Streams(trains, streams)) => {
                (self.burst, self.streams) = (Some((trains, 0)), Some(streams));
            }
            Input::Command(Ask::Pace { every, count, bytes }) => self.pace = Some((now, every, count, bytes)),
            Input::Command(Ask::Expect(count)) => self.expected = count,
            Input::Command(Ask::Subscribe) => {
                let message =
                    Message::Subscribe { request: 1, room: "room".to_owned(), user: None, stream: None };
                self.says = self.link.map(|link| Output::Message { link, message });
            }
            Input::Message { link: _, message: Message::Announce { .. } } => {
                // The bench may have stopped listening.
                let _ = self.told.send(Tell::Announced);
            }
            Input::Local(_)
            | Input::Plain(_)
            | Input::HandedOver(_)
            | Input::Challenge { .. }
            | Input::Message { link: _, message: _ } => {}
            Input::Timeout => {
                if now >= self.heartbeat_at {
                    self.heartbeat_at = now + HEARTBEAT;
                    self.heartbeat_due = true;
                }
                if let Some((next, every, left, _)) = &mut self.pace {
                    while *next <= now && *left > 0 {
                        *next = *next + *every;
                        *left -= 1;
                        self.due += 1;
                    }
                }
            }
        }
    }

    fn poll_transmit(&mut self, now: Timestamp, _arena: &[u8], train: &mut Train) -> Option<LinkId> {
        let link = self.link?;
        train.clear();
        if std::mem::take(&mut self.heartbeat_due) {
            let (highest, received) = (self.highest, self.received);
            let heartbeat = Heartbeat {
                in_use: true,
                highest,
                received,
                echo: None,
                jitter: 0,
                sizes: None,
                arrival: None,
                media: None,
                repairs: true,
            };
            let mut body = [0; Heartbeat::BYTES_MAX];
            let used = heartbeat.encode(&mut body);
            let mut frame = frame_header(FrameKind::Heartbeat, used).to_vec();
            frame.extend(&body[..used]);
            self.append(train, now, &frame);
            return Some(link);
        }
        if self.due > 0 {
            self.due -= 1;
            let bytes = self.pace.as_ref().map_or(12, |pace| pace.3);
            let mut packet = vec![0x55; bytes];
            packet[..8].copy_from_slice(&clock_ns().to_be_bytes());
            self.append(train, now, &media_frame(1, self.number as u32, &packet));
            return Some(link);
        }
        let (trains, at) = self.burst.take()?;
        let next = trains.get(at)?;
        for plain in next {
            let slot = train.append(PacketNumber(self.number), plain.len());
            slot.copy_from_slice(plain);
            // Made before, and sent now: what seems to come ever later has no slack left.
            slot[..SEND_TIME_BYTES].copy_from_slice(&send_time_bytes(now.wire()));
            if let Some(Streams { first, count, step }) = self.streams {
                let number = self.number as u32;
                let (user, sequence) = (first + number % count * step, number / count);
                slot[USER_AT..][..4].copy_from_slice(&user.to_be_bytes());
                slot[SEQUENCE_AT..][..4].copy_from_slice(&sequence.to_be_bytes());
            }
            self.number += 1;
        }
        self.burst = Some((trains, at + 1));
        Some(link)
    }

    fn poll_delivery(&mut self) -> Option<Delivery> {
        None
    }

    fn poll_output(&mut self) -> Option<Output<()>> {
        self.says.take()
    }

    fn poll_timeout(&self) -> Option<Timestamp> {
        self.link?;
        let pace = self.pace.as_ref().filter(|(_, _, left, _)| *left > 0).map(|(next, _, _, _)| *next);
        Some(pace.map_or(self.heartbeat_at, |next| next.min(self.heartbeat_at)))
    }
}

/// Certificates of a CA made for the run.
pub struct Certificates {
    ca: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Certificates {
    pub fn new() -> Certificates {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).expect("a CA").der().clone();
        Certificates { ca, issuer: Issuer::new(params, key) }
    }

    /// Of an SFU, who takes any relay of the overlay.
    pub fn client(&self) -> PortConfig {
        let ca = digest(&SHA256, &self.ca).as_ref().try_into().expect("32 bytes");
        let mut config = PortConfig::new(Trust::Fingerprint(ca));
        config.bind = "127.0.0.1:0".parse().expect("an address");
        config
    }

    /// Of a relay.
    pub fn config(&self, name: &str) -> PortConfig {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params.signed_by(&key, &self.issuer).expect("a certificate").der().clone();
        let mut config = PortConfig::new(Trust::Ca(self.ca.clone()));
        config.bind = "127.0.0.1:0".parse().expect("an address");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("PKCS #8");
        config.identity = Some(Identity { chain: vec![leaf, self.ca.clone()], key });
        config
    }
}

pub fn admit_relays() -> Admission {
    Arc::new(|dialler| match dialler.role {
        Role::Relay { node } => Ok(PeerKind::Relay { node }),
        Role::Client { token: _ } => Err(link_io::Refusal::new(
            wire_format::session::RefusalCode::Invalid,
            "only relays in this bench",
        )),
    })
}

/// Two peers, with relays between them or linked directly.
pub struct Overlay {
    runtime: Runtime,
    pub sender: Port<Peer>,
    pub receiver: Port<Peer>,
    _relays: Vec<Port<Relay>>,
    pub told: Receiver<Tell>,
    trains: Arc<Trains>,
    thread: String,
}

impl Overlay {
    /// With a relay between the peers.
    pub fn start(trains: &Trains) -> Overlay {
        Overlay::open(trains, 1, RepairMode::Adaptive)
    }

    /// With two relays between the peers, which repair as told; the second one's thread counts.
    pub fn start_repairing(trains: &Trains, mode: RepairMode) -> Overlay {
        Overlay::open(trains, 2, mode)
    }

    /// With nothing between the peers.
    pub fn direct() -> Overlay {
        Overlay::open(&Vec::new(), 0, RepairMode::Adaptive)
    }

    fn open(trains: &Trains, relays: usize, mode: RepairMode) -> Overlay {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let (tell, told) = channel();
        let certificates = Certificates::new();
        let peer = |name: &str, admission| {
            let sink = Box::new(|_: Upcall<'_, ()>| Ok(()));
            Port::open(certificates.config(name), Peer::new(tell.clone()), admission, sink).expect("a port")
        };
        // The sender, the relays, the receiver.
        let nodes: Vec<u16> = [&[1][..], &[3, 0][2 - relays..], &[2]].concat();
        let name = |node: u16| format!("r{node}");
        let (sender, receiver, relays) = runtime.block_on(async {
            let sender = peer("r1", admit_nobody());
            let receiver = peer("r2", admit_relays());
            let expect =
                |node: u16| Expect::Relay { name: name(node), node: NodeIndex(node), begins_unix_s: 0 };
            let role = |node: u16| Role::Relay { node: NodeIndex(node) };
            let mut opened = Vec::new();
            for beside in nodes.windows(3) {
                let [before, node, next] = *beside else { unreachable!("windows of three") };
                let sink = Box::new(|_: Upcall<'_, relay_core::RelayEvent>| Ok(()));
                let mut core = Relay::new(RelayConfig { hello: hello(&name(node)), seed: 1 });
                core.repair_as(mode);
                let config = certificates.config(&name(node));
                let relay = Port::open(config, core, admit_relays(), sink).expect("a port");
                let neighbours = [(before, &*name(before)), (next, &*name(next))];
                for command in pushes_beyond(node, &neighbours, &[(2, next)]) {
                    relay.command(command).await.expect("running");
                }
                opened.push(relay);
            }
            // From the receiver on: nobody sends before there is a way.
            let mut to = (receiver.local_addr(), 2);
            for (relay, node) in opened.iter().zip(&nodes[1..]).rev() {
                relay.dial(to.0, expect(to.1), role(*node)).await.expect("a link");
                to = (relay.local_addr(), *node);
            }
            sender.dial(to.0, expect(to.1), role(1)).await.expect("a link");
            (sender, receiver, opened)
        });
        let counted = relays.last().map_or(sender.local_addr(), Port::local_addr);
        let thread = format!("port-{}", counted.port());
        Overlay { runtime, sender, receiver, _relays: relays, told, trains: Arc::new(trains.clone()), thread }
    }

    pub fn ask(&self, port: &Port<Peer>, ask: Ask) {
        self.runtime.block_on(port.command(ask)).expect("running");
    }
}

impl Course for Overlay {
    fn burst(&mut self) -> usize {
        self.ask(&self.receiver, Ask::Expect(crate::BURST));
        self.ask(&self.sender, Ask::Burst(Arc::clone(&self.trains)));
        match self.told.recv_timeout(Duration::from_millis(200)) {
            Ok(_) => crate::BURST,
            Err(_) => 0,
        }
    }

    fn thread(&self) -> &str {
        &self.thread
    }
}
