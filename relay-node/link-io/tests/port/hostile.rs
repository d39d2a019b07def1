//! Datagrams of strangers and old ones: dropped, and counted for what they are.

use crate::lab::{Bench, Ca, Order, Seen, admit_all, expect_r2, tag_of};
use link_io::admit_nobody;
use std::net::UdpSocket;
use std::time::Duration;
use tokio::sync::mpsc;
use wire_format::session::Role;
use wire_format::{DatagramKind, NodeIndex};

/// Between two ports: shows the sealed datagrams that pass.
struct Middle {
    socket: UdpSocket,
    towards: std::net::SocketAddr,
}

impl Middle {
    /// Passes datagrams both ways for as long as there are any; `sealed` hears of those from dialler to `towards`.
    fn pass(&self, sealed: &mpsc::UnboundedSender<Vec<u8>>) {
        let mut buffer = [0; 2048];
        let mut dialler = None;
        while let Ok((len, from)) = self.socket.recv_from(&mut buffer) {
            let datagram = &buffer[..len];
            if from == self.towards {
                self.socket.send_to(datagram, dialler.expect("the dialler speaks first")).expect("sent");
                continue;
            }
            dialler = Some(from);
            self.socket.send_to(datagram, self.towards).expect("sent");
            if DatagramKind::of(datagram) == DatagramKind::Sealed {
                // The test has seen enough.
                let _ = sealed.send(datagram.to_vec());
            }
        }
    }
}

#[tokio::test]
async fn replayed_corrupted_and_unknown_datagrams_are_counted() {
    let ca = Ca::new();
    let mut r1 = Bench::open(ca.relay("r1"), admit_all());
    let mut r2 = Bench::open(ca.relay("r2"), admit_all());
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let middle = Middle { socket: socket.try_clone().expect("a clone"), towards: r2.port.local_addr() };
    let address = socket.local_addr().expect("bound");
    let (seen, mut passing) = mpsc::unbounded_channel();
    std::thread::spawn(move || middle.pass(&seen));
    let link = r1.port.dial(address, expect_r2(), Role::Relay { node: NodeIndex(1) }).await.expect("a link");
    let (Seen::Up(_, _), Seen::Up(at_r2, _)) = (r1.next().await, r2.next().await) else { panic!("up") };
    r1.port.command(Order::Send { link: link.id(), count: 1, bytes: 300 }).await.expect("open");
    let sealed = passing.recv().await.expect("it passes");
    assert_eq!(r2.next().await, Seen::Datagram(at_r2, 0, vec![0; 300]));

    let send = |bytes: &[u8]| socket.send_to(bytes, r2.port.local_addr()).expect("sent");
    let before = r2.stats().await;
    send(&sealed);
    let mut corrupted = sealed.clone();
    corrupted[12] = 9;
    send(&corrupted);
    tag_of(&mut corrupted)[3] ^= 1;
    send(&corrupted);
    let mut unknown = sealed.clone();
    unknown[1] ^= 0x80;
    send(&unknown);
    send(&[0x08, 1, 2, 3]);
    send(&[0x20, 1, 2, 3]);
    send(&[0x80, 96, 0, 1]);
    send(&[]);
    send(&[0x00, 1, 0, 0]);
    let stats = loop {
        let stats = r2.stats().await;
        if stats.drop_stun > 0 && stats.drop_rtp > 0 {
            break stats;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(stats.drop_replayed - before.drop_replayed, 1);
    assert_eq!(stats.drop_failed_open - before.drop_failed_open, 2);
    assert_eq!(stats.drop_unknown_receiver - before.drop_unknown_receiver, 1);
    assert_eq!(stats.drop_malformed - before.drop_malformed, 1);
    assert_eq!(stats.drop_unknown_kind - before.drop_unknown_kind, 2, "one of them empty");
}

/// A Binding request with SOFTWARE.
const BINDING: [u8; 28] = [
    0, 1, 0, 8, 0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x80, 0x22, 0, 4, b't', b'e',
    b's', b't',
];

#[tokio::test]
async fn a_health_check_learns_where_it_comes_from() {
    let ca = Ca::new();
    let relay = Bench::open(ca.relay("r1"), admit_all());
    let asker = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    asker.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    asker.connect(relay.port.local_addr()).expect("an address");
    asker.send(&BINDING).expect("sent");
    let mut answer = [0; 100];
    let length = asker.recv(&mut answer).expect("an answer");
    let port = asker.local_addr().expect("bound").port() ^ 0x2112;
    let mapped =
        [&[0, 0x20, 0, 8, 0, 1][..], &port.to_be_bytes(), &[127 ^ 0x21, 0x12, 0xA4, 1 ^ 0x42]].concat();
    assert_eq!(answer[..8], [1, 1, 0, 12, 0x21, 0x12, 0xA4, 0x42]);
    assert_eq!(answer[8..20], BINDING[8..20], "the transaction");
    assert_eq!(answer[20..length], mapped);
    assert_eq!(relay.stats().await.stun_answered, 1);
    // What only dials answers nobody.
    let sfu = Bench::open(ca.client(), admit_nobody());
    asker.connect(sfu.port.local_addr()).expect("an address");
    asker.send(&BINDING).expect("sent");
    while sfu.stats().await.drop_stun == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(sfu.stats().await.stun_answered, 0);
}

#[tokio::test]
async fn a_flood_of_health_checks_is_answered_at_a_bounded_rate() {
    let ca = Ca::new();
    let relay = Bench::open(ca.relay("r1"), admit_all());
    let asker = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let begun = std::time::Instant::now();
    let mut stats = relay.stats().await;
    let mut sent = 0;
    while stats.drop_stun_rate < 1_000 {
        for _ in 0..100 {
            asker.send_to(&BINDING, relay.port.local_addr()).expect("sent");
        }
        sent += 100;
        stats = relay.stats().await;
    }
    // A thousand a second, and a quarter of a second's worth at once.
    let most = 251 + begun.elapsed().as_millis() as u64;
    assert!((250..=most).contains(&stats.stun_answered), "{} answered of {sent}", stats.stun_answered);
    assert_eq!(stats.drop_stun, 0);
}
