//! What the tests share: a CA, and a core that sends what it is told and reports what it gets.

use link_io::{
    Admission, DialInfo, EventReceiver, Identity, Link, Port, PortConfig, PortStats, Trust, event_queue,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use relay_core::{Delivery, Endpoint, Input, LinkId, Output, Peer, Train};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use wire_format::session::{Message, Role};
use wire_format::{NodeIndex, PacketNumber, TAG_BYTES, Timestamp};

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

/// Sends what it is told and reports what it gets.
#[derive(Default)]
pub struct Parrot {
    next: u64,
    sends: VecDeque<(LinkId, u8, usize)>,
    outputs: VecDeque<Output<Seen>>,
}

impl Endpoint for Parrot {
    type Command = Order;
    type Event = Seen;

    fn handle_input(&mut self, _: Timestamp, arena: &[u8], input: Input<'_, Order>) {
        match input {
            Input::LinkUp { link, peer, max_datagram: _ } => self.see(Seen::Up(link, peer)),
            Input::LinkDown { link } => self.see(Seen::Down(link)),
            Input::Datagrams(datagrams) => {
                for datagram in datagrams {
                    let bytes = arena[datagram.range.clone()].to_vec();
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
            Input::Local(_) | Input::Timeout => {}
        }
    }

    fn poll_transmit(&mut self, _: Timestamp, _: &[u8], train: &mut Train) -> Option<LinkId> {
        let (link, count, bytes) = self.sends.pop_front()?;
        for index in 0..count {
            train.append(PacketNumber(self.next), bytes).fill(index);
            self.next += 1;
        }
        Some(link)
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

    pub async fn next(&mut self) -> Seen {
        tokio::time::timeout(Duration::from_secs(10), self.events.recv())
            .await
            .expect("something happens within 10 s")
            .expect("the port is open")
    }

    pub async fn stats(&self) -> PortStats {
        self.port.inspect(|_, stats| *stats).await.expect("the port is open")
    }
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
    link_io::Expect::Relay { name: "r2".to_owned(), node: NodeIndex(2) }
}

/// Least bytes of a sealed datagram of `plain` bytes that carry its tag.
pub fn tag_of(sealed: &mut [u8]) -> &mut [u8] {
    let start = sealed.len() - TAG_BYTES;
    &mut sealed[start..]
}
