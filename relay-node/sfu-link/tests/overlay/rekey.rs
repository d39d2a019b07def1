//! Key generations that end while media is lost and repaired: nobody notices either.

use crate::lab::{Overlay, rtp, soon};
use link_io::{DialInfo, Expect, Link, Overflow, Port, PortConfig, Refusal, Sink, Trust, Upcall};
use relay_core::{Client, ClientCommand, ClientConfig, ClientEvent};
use sfu_link::RefusalCode;
use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use wire_format::session::Role;
use wire_format::{DatagramKind, MediaKind, RtpDescription};

/// 128 numbers a generation.
const GENERATION_LOG2: u32 = 7;
/// Of so many sealed datagrams ...
const OF: u64 = 31;
/// ... so many in a row are lost, each way.
const LOST: u64 = 2;
const PACKETS: u16 = 2_000;

/// Passes datagrams between whoever dials and the relay at that address, and loses some of the sealed ones.
fn lossy(relay: SocketAddr) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let between = socket.local_addr().expect("bound");
    std::thread::spawn(move || {
        let (mut dialler, mut buffer, mut counts) = (None, [0; 2048], [0_u64; 2]);
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let (to, count) = if from == relay {
                (dialler, &mut counts[0])
            } else {
                dialler = Some(from);
                (Some(relay), &mut counts[1])
            };
            let sealed = DatagramKind::of(&buffer[..len]) == DatagramKind::Sealed;
            *count += u64::from(sealed);
            let lost = sealed && *count % OF < LOST;
            if let Some(to) = to.filter(|_| !lost) {
                socket.send_to(&buffer[..len], to).expect("sent");
            }
        }
    });
    between
}

/// What a client's core brings out.
enum Out {
    Event(ClientEvent),
    Packet(Vec<u8>),
}

/// A client whose keys last as short as the relays'.
struct Sfu {
    port: Port<Client>,
    out: mpsc::UnboundedReceiver<Out>,
    _link: Link,
}

impl Sfu {
    async fn at(overlay: &Overlay, relay: usize) -> Sfu {
        let mut config = PortConfig::new(Trust::Fingerprint(overlay.fingerprint.0));
        config.bind = SocketAddr::from(([127, 0, 0, 1], 0));
        config.generation_packets_log2 = GENERATION_LOG2;
        let (sender, out) = mpsc::unbounded_channel();
        let sink: Sink<ClientEvent> = Box::new(move |upcall| {
            let out = match upcall {
                Upcall::Event(event) => Out::Event(event),
                Upcall::Delivery(_, packet) => Out::Packet(packet.to_vec()),
            };
            sender.send(out).map_err(|_| Overflow)
        });
        let core = Client::new(ClientConfig { seed: relay as u64, key: None });
        let nobody = Arc::new(|_: &DialInfo| Err(Refusal::new(RefusalCode::Token, "nobody dials an SFU")));
        let port = Port::open(config, core, nobody, sink).expect("a port");
        let address = overlay.relays[relay].local_addr();
        let role = Role::Client { token: "demo:*:ps".to_owned() };
        let link = port.dial(address, Expect::Upstream, role).await.expect("a link");
        Sfu { port, out, _link: link }
    }

    async fn next(&mut self) -> Out {
        self.out.recv().await.expect("the port is open")
    }

    /// Asks, and waits for the answer.
    async fn ask(&mut self, command: ClientCommand, answer: ClientEvent) {
        self.port.command(command).await.expect("open");
        soon(async {
            loop {
                if let Out::Event(event) = self.next().await
                    && event == answer
                {
                    return;
                }
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn losses_are_repaired_across_the_ends_of_key_generations() {
    let overlay = Overlay::start_over(2, GENERATION_LOG2, lossy).await;
    let (mut a, mut b) = (Sfu::at(&overlay, 0).await, Sfu::at(&overlay, 1).await);
    let room = "room".to_owned();
    let subscribe = ClientCommand::Subscribe { request: 1, room: room.clone(), user: None, stream: None };
    b.ask(subscribe, ClientEvent::Subscribed { request: 1 }).await;
    let publish = ClientCommand::Publish {
        request: 1,
        room,
        user: "alice".to_owned(),
        stream: "camera".to_owned(),
        kind: MediaKind::Video,
        budget: None,
        protect: false,
        description: RtpDescription::default(),
    };
    a.ask(publish, ClientEvent::Published { request: 1 }).await;

    // The rhythm of the media. What is sent before somebody wants it is nobody's.
    let mut rhythm = tokio::time::interval(Duration::from_millis(2));
    let mut got: BTreeMap<u16, u32> = BTreeMap::new();
    let (mut next, mut first) = (0, None);
    let all = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            let sent = first.map_or(0, |first| next - first);
            if first.is_some_and(|first| sent >= PACKETS && got.range(first..).count() >= usize::from(sent)) {
                return;
            }
            tokio::select! {
                _ = rhythm.tick(), if sent < PACKETS => {
                    a.port.send_rtp(1, &rtp(next, 1_000), false).expect("sent");
                    next += 1;
                }
                out = b.next() => {
                    let Out::Packet(packet) = out else { continue };
                    let sequence = u16::from_be_bytes([packet[2], packet[3]]);
                    assert_eq!(packet, rtp(sequence, 1_000));
                    first.get_or_insert(sequence);
                    *got.entry(sequence).or_default() += 1;
                }
            }
        }
    });
    let in_time = all.await.is_ok();
    let missing: Vec<_> = (first.unwrap_or(0)..next).filter(|sequence| !got.contains_key(sequence)).collect();
    assert!(in_time && missing.is_empty(), "of {first:?} to {next} are missing: {missing:?}");
    assert!(got.values().all(|times| *times == 1), "each once: {got:?}");

    let mut repairs = [0; 2];
    for (port, repairs) in overlay.relays.iter().zip(&mut repairs) {
        let (links, stats) = port.inspect(|core, stats| (core.link_views(), *stats)).await.expect("open");
        *repairs = links.iter().map(|view| view.stats.repair.retransmitted).sum();
        assert_eq!((stats.drop_replayed, stats.drop_send_number, stats.drop_send_key), (0, 0, 0));
        // What either relay was sent by an SFU or the other relay took that many keys.
        assert!(stats.key_generations >= u64::from(PACKETS) >> GENERATION_LOG2, "{stats:?}");
    }
    let lost = u64::from(PACKETS) * LOST / OF;
    assert!(repairs[0] >= lost, "{} of some {lost} that were lost were sent again", repairs[0]);
}
