//! What the tests share: a CA, and a core that sends what it is told and reports what it gets.

use link_io::{
    Admission, DialInfo, EventReceiver, Identity, Link, Port, PortConfig, PortStats, Trust, event_queue,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use relay_core::{Delivery, Endpoint, Input, LinkId, Output, Peer, Train};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use wire_format::session::{Message, Role};
use wire_format::{
    FrameKind, NodeIndex, PacketNumber, PathChallenge, TAG_BYTES, Timestamp, frame_header, frames,
};

/// A certificate authority.
pub struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Ca {
    pub fn new() -> Ca {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA");
        Ca { issuer }
    }

    pub fn certificate(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    pub fn identity(&self, name: &str) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params.signed_by(&key, &self.issuer).expect("a certificate");
        Identity {
            chain: vec![leaf.der().clone(), self.certificate()],
            key: PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
        }
    }

    pub fn relay(&self, name: &str) -> PortConfig {
        let mut config = self.client();
        config.identity = Some(self.identity(name));
        config
    }

    pub fn client(&self) -> PortConfig {
        let mut config = PortConfig::new(Trust::Ca(self.certificate()));
        config.bind = SocketAddr::from(([127, 0, 0, 1], 0));
        config
    }
}

/// What the core is told.
#[derive(Debug)]
pub enum Order {
    /// Send so many datagrams of so many plain bytes in one train; the first byte counts them.
    Send { link: LinkId, count: u8, bytes: usize },
    /// Send a message.
    Say { link: LinkId, message: Message },
    /// Close the link.
    Close { link: LinkId },
}

/// What the core saw.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    Up(LinkId, Peer),
    Down(LinkId),
    Datagram(LinkId, u64, Vec<u8>),
    Message(LinkId, Message),
}

/// Sends what it is told, if the link is its own, and reports what it gets.
#[derive(Default)]
pub struct Parrot {
    links: BTreeMap<LinkId, u64>,
    sends: VecDeque<(LinkId, u8, usize)>,
    /// Path challenges and answers to send.
    path_frames: VecDeque<(LinkId, bool, [u8; 8])>,
    outputs: VecDeque<Output<Seen>>,
}

impl Endpoint for Parrot {
    type Command = Order;
    type Event = Seen;

    fn handle_input(&mut self, _: Timestamp, arena: &[u8], input: Input<'_, Order>) {
        match input {
            Input::LinkUp { link, peer, max_datagram: _ } => {
                self.links.insert(link, 0);
                self.see(Seen::Up(link, peer));
            }
            Input::LinkDown { link } => self.see(Seen::Down(link)),
            Input::Datagrams(datagrams) => {
                for datagram in datagrams {
                    let bytes = arena[datagram.range.clone()].to_vec();
                    if let Some(challenge) = path_challenge(&bytes) {
                        if !challenge.answer {
                            self.path_frames.push_back((datagram.link, true, challenge.token));
                            self.outputs.push_back(Output::PathChallenged { link: datagram.link });
                        }
                        continue;
                    }
                    self.see(Seen::Datagram(datagram.link, datagram.number.0, bytes));
                }
            }
            Input::Message { link, message } => self.see(Seen::Message(link, message)),
            Input::Command(Order::Send { link, count, bytes }) => self.sends.push_back((link, count, bytes)),
            Input::Command(Order::Say { link, message }) => {
                self.outputs.push_back(Output::Message { link, message });
            }
            Input::Command(Order::Close { link }) => {
                self.outputs.push_back(Output::Close { link, reason: "told to" });
            }
            Input::Challenge { link, token } => self.path_frames.push_back((link, false, token)),
            Input::Local(_) | Input::HandedOver(_) | Input::Plain(_) | Input::Timeout => {}
        }
    }

    fn poll_transmit(&mut self, _: Timestamp, _: &[u8], train: &mut Train) -> Option<LinkId> {
        if let Some((link, answer, token)) = self.path_frames.pop_front() {
            let body = PathChallenge { answer, token }.encode();
            let plain = [&[0; 3][..], &frame_header(FrameKind::PathChallenge, body.len()), &body].concat();
            train
                .append(PacketNumber(*self.links.entry(link).or_default()), plain.len())
                .copy_from_slice(&plain);
            *self.links.entry(link).or_default() += 1;
            return Some(link);
        }
        loop {
            let (link, count, bytes) = self.sends.pop_front()?;
            let Some(next) = self.links.get_mut(&link) else { continue };
            for index in 0..count {
                train.append(PacketNumber(*next), bytes).fill(index);
                *next += 1;
            }
            return Some(link);
        }
    }

    fn poll_delivery(&mut self) -> Option<Delivery> {
        None
    }

    fn poll_output(&mut self) -> Option<Output<Seen>> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Timestamp> {
        None
    }
}

/// The challenge or answer that a datagram begins with.
fn path_challenge(plain: &[u8]) -> Option<PathChallenge> {
    let frame = frames(plain).next()?.ok().filter(|frame| frame.kind == FrameKind::PathChallenge)?;
    PathChallenge::decode(&plain[frame.body]).ok()
}

impl Parrot {
    fn see(&mut self, seen: Seen) {
        self.outputs.push_back(Output::Event(seen));
    }
}

/// A port with a parrot, and what it saw.
pub struct Bench {
    pub port: Port<Parrot>,
    pub events: EventReceiver<Seen>,
}

impl Bench {
    pub fn open(config: PortConfig, admission: Admission) -> Bench {
        let (sink, events) = event_queue(4096);
        let port = Port::open(config, Parrot::default(), admission, sink).expect("a port");
        Bench { port, events }
    }

    /// A port with several workers, and what each of them saw.
    pub fn open_with_workers(
        config: PortConfig,
        workers: usize,
        admission: Admission,
    ) -> (Port<Parrot>, Vec<EventReceiver<Seen>>) {
        let (sinks, events): (Vec<_>, Vec<_>) = (0..workers).map(|_| event_queue(4096)).unzip();
        let cores = sinks.into_iter().map(|sink| (Parrot::default(), sink)).collect();
        (Port::open_with_workers(config, cores, admission).expect("a port"), events)
    }

    pub async fn next(&mut self) -> Seen {
        next(&mut self.events).await
    }

    pub async fn stats(&self) -> PortStats {
        self.port.inspect(|_, stats| *stats).await.expect("the port is open")
    }
}

/// The next that a core saw.
pub async fn next(events: &mut EventReceiver<Seen>) -> Seen {
    tokio::time::timeout(Duration::from_secs(10), events.recv())
        .await
        .expect("something happens within 10 s")
        .expect("the port is open")
}

/// Lets relays in as the node they claim to be, and others as clients without rights.
pub fn admit_all() -> Admission {
    Arc::new(|info: &DialInfo| {
        Ok(match &info.role {
            Role::Relay { node } => Peer::Relay { node: *node },
            Role::Client { token } => Peer::Client(relay_core::ClientRights {
                subject: token.clone(),
                namespace: String::new(),
                room_pattern: String::new(),
                publish: false,
                subscribe: false,
                token: None,
            }),
        })
    })
}

/// Relay `r1` has dialled relay `r2`; both cores know it.
pub struct Pair {
    pub r1: Bench,
    pub r2: Bench,
    pub link: Link,
    pub at_r2: LinkId,
}

impl Pair {
    pub async fn linked() -> Pair {
        let ca = Ca::new();
        let mut r1 = Bench::open(ca.relay("r1"), admit_all());
        let mut r2 = Bench::open(ca.relay("r2"), admit_all());
        let link = r1
            .port
            .dial(r2.port.local_addr(), expect_r2(), Role::Relay { node: NodeIndex(1) })
            .await
            .expect("a link");
        assert_eq!(r1.next().await, Seen::Up(link.id(), Peer::Relay { node: NodeIndex(2) }));
        let Seen::Up(at_r2, peer) = r2.next().await else { panic!("the link comes first") };
        assert_eq!(peer, Peer::Relay { node: NodeIndex(1) });
        Pair { r1, r2, link, at_r2 }
    }
}

pub fn expect_r2() -> link_io::Expect {
    link_io::Expect::Relay { name: "r2".to_owned(), node: NodeIndex(2), begins_unix_s: 0 }
}

/// Least bytes of a sealed datagram of `plain` bytes that carry its tag.
pub fn tag_of(sealed: &mut [u8]) -> &mut [u8] {
    let start = sealed.len() - TAG_BYTES;
    &mut sealed[start..]
}
