//! Key generations that end under load: nothing is lost at their boundaries, whatever is overtaken there.

use crate::lab::{Bench, Ca, Order, Seen, admit_all, expect_r2};
use relay_core::{LinkId, Peer};
use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;
use wire_format::session::Role;
use wire_format::{DatagramKind, NodeIndex};

/// 64 numbers a generation.
const GENERATION_LOG2: u32 = 6;
const TRAINS: u64 = 40;
const TRAIN: u8 = 50;
const SENT: u64 = TRAINS * TRAIN as u64;

/// Passes datagrams between a dialler and `target`, one way. Every seventh sealed one is overtaken by five others.
struct Shuffle {
    target: SocketAddr,
    count: u64,
    held: Vec<(u64, Vec<u8>)>,
}

impl Shuffle {
    fn pass(&mut self, out: &UdpSocket, datagram: &[u8]) {
        let sealed = DatagramKind::of(datagram) == DatagramKind::Sealed;
        self.count += u64::from(sealed);
        if sealed && self.count.is_multiple_of(7) {
            self.held.push((self.count + 5, datagram.to_vec()));
        } else {
            out.send_to(datagram, self.target).expect("sent");
        }
        self.release(out, self.count);
    }

    fn release(&mut self, out: &UdpSocket, count: u64) {
        while let Some((_, datagram)) = self.held.pop_if(|(until, _)| *until <= count) {
            out.send_to(&datagram, self.target).expect("sent");
        }
    }
}

/// Between two ports, for as long as the test runs.
fn shuffle(socket: &UdpSocket, listener: SocketAddr) {
    let nowhere = socket.local_addr().expect("bound");
    let shuffle = |target| Shuffle { target, count: 0, held: Vec::new() };
    let (mut there, mut back) = (shuffle(listener), shuffle(nowhere));
    let mut buffer = [0; 2048];
    socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
    loop {
        match socket.recv_from(&mut buffer) {
            Ok((len, from)) if from == listener => back.pass(socket, &buffer[..len]),
            Ok((len, from)) => {
                back.target = from;
                there.pass(socket, &buffer[..len]);
            }
            // Nothing comes any more that could overtake what is held.
            Err(_) => [&mut there, &mut back].into_iter().for_each(|way| way.release(socket, u64::MAX)),
        }
    }
}

/// What one end has received: in order or not, once each, and unharmed.
#[derive(Default)]
struct Got {
    numbers: BTreeSet<u64>,
    overtaken: u64,
}

impl Got {
    /// Receives until `count` are there.
    async fn until(&mut self, count: u64, bench: &mut Bench, link: LinkId) {
        while (self.numbers.len() as u64) < count {
            let Seen::Datagram(by, number, bytes) = bench.next().await else { panic!("the link stands") };
            assert_eq!((by, bytes), (link, vec![(number % u64::from(TRAIN)) as u8; 200]));
            self.overtaken += u64::from(self.numbers.last().is_some_and(|newest| *newest > number));
            assert!(self.numbers.insert(number), "{number} came twice");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn generations_that_end_under_load_lose_nothing_either_way() {
    let ca = Ca::new();
    let open = |name| {
        let config = link_io::PortConfig { generation_packets_log2: GENERATION_LOG2, ..ca.relay(name) };
        Bench::open(config, admit_all())
    };
    let (mut r1, mut r2) = (open("r1"), open("r2"));
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let between = socket.local_addr().expect("bound");
    let listener = r2.port.local_addr();
    std::thread::spawn(move || shuffle(&socket, listener));
    let link = r1.port.dial(between, expect_r2(), Role::Relay { node: NodeIndex(1) }).await.expect("a link");
    assert_eq!(r1.next().await, Seen::Up(link.id(), Peer::Relay { node: NodeIndex(2) }));
    let Seen::Up(at_r2, _) = r2.next().await else { panic!("the link comes first") };

    let (mut there, mut back) = (Got::default(), Got::default());
    for train in 1..=TRAINS {
        // No more at once than the kernel's buffers hold.
        let order = |link| Order::Send { link, count: TRAIN, bytes: 200 };
        r1.port.command(order(link.id())).await.expect("open");
        r2.port.command(order(at_r2)).await.expect("open");
        let count = train * u64::from(TRAIN);
        tokio::join!(there.until(count, &mut r2, at_r2), back.until(count, &mut r1, link.id()));
    }
    for got in [there, back] {
        assert!(got.numbers.into_iter().eq(0..SENT));
        assert!(got.overtaken > 100, "{} were overtaken", got.overtaken);
    }
    for bench in [&r1, &r2] {
        let stats = bench.stats().await;
        assert_eq!((stats.drop_failed_open, stats.drop_replayed, stats.drop_send_number), (0, 0, 0));
        // Each end has begun every generation twice: to send in, and to receive in.
        assert_eq!(stats.key_generations, 2 * ((SENT - 1) >> GENERATION_LOG2));
    }
}
