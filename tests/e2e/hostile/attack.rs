//! Sends whatever it is given from thousands of addresses and ports, at a pace, and keeps what is answered.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// Sources that are open at once.
const WAVE: u64 = 128;
/// How long a source is listened at after its last datagram, at least.
const LINGER: Duration = Duration::from_millis(150);
/// Longest stretch sent without a look at the clock.
const BURST: u64 = 32;

/// Writes the next datagram: its number, and where.
pub type Blow<'a> = &'a mut dyn FnMut(u64, &mut Vec<u8>);

/// Who attacks whom, how fast, from how many addresses.
pub struct Attack {
    pub target: SocketAddr,
    pub rate: u64,
    pub sources: u64,
}

/// What happened.
#[derive(Debug, Default)]
pub struct Report {
    pub sent: u64,
    pub sources: u64,
    pub answered: u64,
    pub took: Duration,
    /// Bytes sent and received by the source that got most for what it gave.
    pub worst: (u64, u64),
}

impl Report {
    /// The largest share of what a source sent that it got back.
    pub fn most_answered(&self) -> f64 {
        self.worst.1 as f64 / self.worst.0.max(1) as f64
    }

    pub fn rate(&self) -> f64 {
        self.sent as f64 / self.took.as_secs_f64()
    }

    fn note(&mut self, source: &Source) {
        self.answered += source.received;
        let more = u128::from(source.received) * u128::from(self.worst.0.max(1));
        if more > u128::from(self.worst.1) * u128::from(source.sent.max(1)) {
            self.worst = (source.sent, source.received);
        }
    }
}

/// One address and port.
struct Source {
    socket: UdpSocket,
    sent: u64,
    received: u64,
}

impl Source {
    /// An address of 127.0.0.0/8 of its own: all of them are this host.
    fn new(number: u64) -> Source {
        let [.., a, b] = (number / 4 + 1).to_be_bytes();
        let address = Ipv4Addr::new(127, 66, a, b);
        let socket = UdpSocket::bind((address, 0)).expect("a loopback address and a free port");
        socket.set_nonblocking(true).expect("allowed");
        Source { socket, sent: 0, received: 0 }
    }

    fn send(&mut self, bytes: &[u8], to: SocketAddr) -> bool {
        // A full send buffer is the sender's matter; such a datagram counts as not sent.
        let sent = self.socket.send_to(bytes, to).is_ok();
        self.sent += if sent { bytes.len() as u64 } else { 0 };
        sent
    }

    fn drain(&mut self) {
        let mut buffer = [0; 65_536];
        while let Ok(bytes) = self.socket.recv(&mut buffer) {
            self.received += bytes as u64;
        }
    }
}

impl Attack {
    /// Sends `count` datagrams, each made by `next`, and returns when answers had time to come.
    pub fn run(&self, count: u64, mut next: impl FnMut(u64, &mut Vec<u8>)) -> Report {
        let mut report = Report::default();
        let begun = Instant::now();
        // Waves of sources that have sent and are still listened at.
        let mut listening: VecDeque<(Instant, Vec<Source>)> = VecDeque::new();
        let sources = self.sources.min(count);
        let each = count.div_ceil(sources);
        let mut bytes = Vec::new();
        let mut number = 0;
        while number < count {
            let size = WAVE.min((count - number).div_ceil(each));
            let mut wave: Vec<_> = (0..size).map(|place| Source::new(report.sources + place)).collect();
            report.sources += size;
            for turn in 0..(each * size).min(count - number) {
                if number.is_multiple_of(BURST.min(self.rate / 100).max(1)) {
                    wait_until(begun + Duration::from_nanos(1_000_000_000 / self.rate * number));
                }
                bytes.clear();
                next(number, &mut bytes);
                let source = &mut wave[(turn % size) as usize];
                report.sent += u64::from(source.send(&bytes, self.target));
                number += 1;
            }
            listening.push_back((Instant::now(), wave));
            while listening.front().is_some_and(|(since, _)| since.elapsed() > LINGER) {
                close(listening.pop_front(), &mut report);
            }
        }
        report.took = begun.elapsed();
        wait_until(Instant::now() + LINGER);
        while !listening.is_empty() {
            close(listening.pop_front(), &mut report);
        }
        report
    }
}

fn close(wave: Option<(Instant, Vec<Source>)>, report: &mut Report) {
    for mut source in wave.into_iter().flat_map(|(_, wave)| wave) {
        source.drain();
        report.note(&source);
    }
}

fn wait_until(due: Instant) {
    std::thread::sleep(due.saturating_duration_since(Instant::now()));
}
