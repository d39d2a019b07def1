//! A small overlay in this process: real relay cores at real ports, and the real controller's core behind them.

use link_io::{
    Admission, DialInfo, Expect, Identity, LinkError, Port, PortConfig, Refusal, Trust, event_queue, now,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use relay_core::{ClientRights, Peer, Relay, RelayCommand, RelayConfig, RelayEvent};
use route_core::{Controller, ControllerConfig, Input, Output, SessionId};
use rustls_pki_types::PrivateKeyDer;
use sfu_link::{Config, Fingerprint, RefusalCode};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use wire_format::NodeIndex;
use wire_format::control::{RelayHello, ToController, ToRelay};
use wire_format::session::{Role, WIRE_VERSIONS};

/// As relays have it.
const GENERATION_PACKETS_LOG2: u32 = 22;

/// Relays `r1`, `r2` ... all linked to each other, and their controller.
pub struct Overlay {
    pub relays: Vec<Port<Relay>>,
    pub fingerprint: Fingerprint,
}

impl Overlay {
    pub async fn start(count: u16) -> Overlay {
        Overlay::start_over(count, GENERATION_PACKETS_LOG2, |address| address).await
    }

    /// The same with key generations of so many packet numbers, as a power of two, and with something between relays:
    /// `way` says where those that dial reach the relay at an address.
    pub async fn start_over(
        count: u16,
        generation_log2: u32,
        way: impl FnMut(SocketAddr) -> SocketAddr,
    ) -> Overlay {
        let ca = {
            let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA")
        };
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, ca.der());
        let fingerprint = Fingerprint(digest.as_ref().try_into().expect("32 bytes"));
        let (reports, inbox) = mpsc::unbounded_channel();
        let mut relays = Vec::new();
        for index in 0..count {
            let name = format!("r{}", index + 1);
            let mut config = PortConfig::new(Trust::Ca(ca.der().clone()));
            config.bind = SocketAddr::from(([127, 0, 0, 1], 0));
            config.identity = Some(identity(&ca, &name));
            config.generation_packets_log2 = generation_log2;
            let hello = hello(&name);
            let (sink, mut events) = event_queue(1 << 16);
            let core = Relay::new(RelayConfig { hello, seed: u64::from(index) });
            let port = Port::open(config, core, admission(), sink).expect("a port");
            let reports = reports.clone();
            tokio::spawn(async move {
                while let Some(event) = events.recv().await {
                    let RelayEvent::ToController(message) = event else { continue };
                    if reports.send((index, message)).is_err() {
                        return;
                    }
                }
            });
            relays.push(port);
        }
        let neighbours: Vec<_> = relays.iter().map(Port::local_addr).map(way).collect();
        let controller = ControllerTask { relays: relays.clone(), inbox, known: vec![None; relays.len()] };
        tokio::spawn(controller.run());
        for port in &relays {
            port.command(RelayCommand::ControllerUp).await.expect("open");
        }
        let overlay = Overlay { relays, fingerprint };
        overlay.link_all(&neighbours).await;
        overlay
    }

    /// Each pair once: the lower index dials, when it knows the other as a neighbour.
    async fn link_all(&self, addresses: &[SocketAddr]) {
        let mut nodes = Vec::new();
        for port in &self.relays {
            nodes.push(wait_for(port, Relay::node).await);
        }
        for (a, port) in self.relays.iter().enumerate() {
            for (b, address) in addresses.iter().enumerate() {
                if nodes[a] < nodes[b] {
                    let expect =
                        Expect::Relay { name: format!("r{}", b + 1), node: nodes[b], begins_unix_s: 0 };
                    tokio::spawn(keep_linked(port.clone(), *address, expect, Role::Relay { node: nodes[a] }));
                }
            }
        }
    }

    /// A client of some of the relays, in that order. Its token is its namespace, room pattern and rights.
    pub fn config(&self, relays: &[usize], token: &str) -> Config {
        let addresses = relays.iter().map(|index| self.relays[*index].local_addr().to_string());
        let mut config = Config::new(addresses, token, self.fingerprint);
        config.bind = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        config
    }
}

/// Links again whenever there is no link: the first may come before the relay knows of its neighbour.
async fn keep_linked(port: Port<Relay>, address: SocketAddr, expect: Expect, role: Role) {
    loop {
        match port.dial(address, expect.clone(), role.clone()).await {
            Ok(mut link) => {
                link.down().await;
            }
            Err(LinkError::PortClosed) => return,
            Err(_) => {}
        }
    }
}

/// Looks again until the relay has an answer.
async fn wait_for<T: Send + 'static>(port: &Port<Relay>, look: fn(&Relay) -> Option<T>) -> T {
    loop {
        if let Some(found) = port.inspect(move |core, _| look(core)).await.expect("open") {
            return found;
        }
        tokio::task::yield_now().await;
    }
}

struct ControllerTask {
    relays: Vec<Port<Relay>>,
    inbox: mpsc::UnboundedReceiver<(u16, ToController)>,
    known: Vec<Option<NodeIndex>>,
}

impl ControllerTask {
    async fn run(mut self) {
        let mut core = Controller::new(ControllerConfig::new(1, 1));
        loop {
            while let Some(output) = core.poll_output() {
                match output {
                    Output::ToRelay { session, message } => self.push(session, message).await,
                    Output::Persist(_) => {}
                    Output::Kick { session, cause: _, reason } => panic!("{session:?} kicked: {reason}"),
                }
            }
            let due = core.poll_timeout().map(|due| due.since(now()));
            let input = tokio::select! {
                report = self.inbox.recv() => match report {
                    Some((relay, ToController::Hello(hello))) => {
                        Input::RelayUp { session: SessionId(relay.into()), name: hello.name.clone(), hello }
                    }
                    Some((relay, message)) => {
                        Input::FromRelay { session: SessionId(relay.into()), message }
                    }
                    None => return,
                },
                () = tokio::time::sleep(due.unwrap_or(Duration::MAX)) => Input::Timeout,
            };
            core.handle_input(now(), input);
        }
    }

    async fn push(&mut self, session: SessionId, message: ToRelay) {
        let relay = usize::try_from(session.0).expect("an index");
        if let ToRelay::Welcome(welcome) = &message {
            self.known[relay] = Some(welcome.node);
        }
        // A relay that was killed misses it.
        let _ = self.relays[relay].command(RelayCommand::Controller(message)).await;
    }
}

fn hello(name: &str) -> RelayHello {
    RelayHello {
        name: name.to_owned(),
        node: None,
        region: String::new(),
        isp: String::new(),
        tags: Vec::new(),
        position: None,
        addresses: Vec::new(),
        version: String::new(),
        wire_versions: WIRE_VERSIONS,
        epoch: None,
        table_deltas: true,
        streams: Vec::new(),
        traces: true,
    }
}

fn identity(ca: &CertifiedIssuer<'static, KeyPair>, name: &str) -> Identity {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let leaf = params.signed_by(&key, ca).expect("a certificate");
    Identity {
        chain: vec![leaf.der().clone(), ca.der().clone()],
        key: PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
    }
}

/// Tokens are `namespace:room pattern:rights`, the rights `p` and `s`.
fn admission() -> Admission {
    Arc::new(|info: &DialInfo| match &info.role {
        Role::Relay { node } => Ok(Peer::Relay { node: *node }),
        Role::Client { token } => match token.split(':').collect::<Vec<_>>()[..] {
            [namespace, room, rights] => Ok(Peer::Client(ClientRights {
                subject: "a test".to_owned(),
                namespace: namespace.to_owned(),
                room_pattern: room.to_owned(),
                publish: rights.contains('p'),
                subscribe: rights.contains('s'),
                token: None,
            })),
            _ => Err(Refusal::new(RefusalCode::Token, "the token has expired; get a new one")),
        },
    })
}

/// An RTP packet.
pub fn rtp(sequence: u16, payload: usize) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend(sequence.to_be_bytes());
    packet.extend(u32::from(sequence).to_be_bytes());
    packet.extend(7_u32.to_be_bytes());
    packet.extend((0..payload).map(|index| (index as u8) ^ sequence as u8));
    packet
}

/// Waits for something that must come.
pub async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it comes within 20 s")
}
