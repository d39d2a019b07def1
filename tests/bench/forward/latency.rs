//! Latency added by one hop at 20,000 packets a second, beside a bare plain forwarder.

use crate::cascade::{Ask, Overlay, Tell};
use crate::clock::clock_ns;
use rustix::event::poll;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

const EVERY: Duration = Duration::from_micros(50);
const BYTES: usize = 1200;
const QUANTILES: [f64; 3] = [0.5, 0.99, 0.999];
/// Rounds of every course.
const ROUNDS: usize = 5;

/// Latencies of all packets that arrived, sorted, ns.
struct Latencies(Vec<u64>);

impl Latencies {
    fn new(mut all: Vec<u64>) -> Latencies {
        // The beginning warms caches and queues up.
        all.drain(..all.len() / 10);
        all.sort_unstable();
        Latencies(all)
    }

    fn us(&self, quantile: f64) -> f64 {
        let at = ((self.0.len() - 1) as f64 * quantile) as usize;
        self.0[at] as f64 / 1000.0
    }
}

/// Measures and prints everything.
pub fn report(time: Duration) {
    let count = (time.as_nanos() / EVERY.as_nanos()) as usize;
    println!(
        "latency at {} packets/s of {BYTES} B, us",
        Duration::from_secs(1).as_nanos() / EVERY.as_nanos()
    );
    println!("{:<42} {:>8} {:>8} {:>8} {:>8}", "course", "p50", "p99", "p99.9", "arrived");
    // Interleaved, so that a noisy moment of the machine meets all of them; and the median of the rounds, so that a noisy
    // round counts for nothing.
    let each = count / ROUNDS;
    let rounds: Vec<[Latencies; 4]> = (0..ROUNDS)
        .map(|_| {
            [plain(each, false), plain(each, true), sealed(each, false), sealed(each, true)]
                .map(Latencies::new)
        })
        .collect();
    let names = ["plain, no hop", "plain, one bare forwarder", "sealed, no hop", "sealed, one relay"];
    for (course, name) in names.iter().enumerate() {
        let us = QUANTILES.map(|quantile| median(rounds.iter().map(|round| round[course].us(quantile))));
        row(name, us, rounds.iter().map(|round| round[course].0.len()).sum());
    }
    let added = |with: usize, without: usize| {
        QUANTILES.map(|quantile| {
            median(rounds.iter().map(|round| round[with].us(quantile) - round[without].us(quantile)))
        })
    };
    let (bare, relay) = (added(1, 0), added(3, 2));
    row("added by the bare plain forwarder", bare, each * ROUNDS);
    row("added by the relay", relay, each * ROUNDS);
    let whole = |course: usize| median(rounds.iter().map(|round| round[course].us(0.99)));
    println!(
        "p99 of a whole course with one hop: relay {:.0} us, bare plain forwarder {:.0} us, ratio {:.2}",
        whole(3),
        whole(1),
        whole(3) / whole(1)
    );
    println!("p99 added: ratio {:.2}; all figures are medians of {ROUNDS} rounds", relay[1] / bare[1]);
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_unstable_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn row(name: &str, us: [f64; 3], arrived: usize) {
    println!("{name:<42} {:>8.1} {:>8.1} {:>8.1} {arrived:>8}", us[0], us[1], us[2]);
}

/// Through sealed links, with or without a relay.
fn sealed(count: usize, relay: bool) -> Vec<u64> {
    let overlay = if relay { Overlay::start(&Vec::new()) } else { Overlay::direct() };
    overlay.ask(&overlay.sender, Ask::Pace { every: EVERY, count, bytes: BYTES });
    let mut latencies = Vec::with_capacity(count);
    while latencies.len() < count {
        match overlay.told.recv_timeout(Duration::from_millis(500)) {
            Ok(Tell::Latency(sent, came)) => latencies.push(came - sent),
            Ok(Tell::Arrived | Tell::Announced) => {}
            Err(_) => break,
        }
    }
    latencies
}

/// Plain UDP, with or without a thread that receives and sends on.
fn plain(count: usize, forwarder: bool) -> Vec<u64> {
    let bind = || UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let (sender, receiver) = (bind(), bind());
    let timeout = Some(Duration::from_millis(500));
    receiver.set_read_timeout(timeout).expect("a timeout");
    let mut to: SocketAddr = receiver.local_addr().expect("bound");
    if forwarder {
        let socket = bind();
        socket.set_read_timeout(timeout).expect("a timeout");
        let end = to;
        to = socket.local_addr().expect("bound");
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok(bytes) = socket.recv(&mut buffer) {
                socket.send_to(&buffer[..bytes], end).expect("sent");
            }
        });
    }
    let send = thread::spawn(move || {
        let mut packet = [0x55; BYTES];
        let mut next = clock_ns();
        for _ in 0..count {
            // Sleeps as a port's worker does between two deadlines.
            let now = clock_ns();
            if next > now {
                let timeout = rustix::time::Timespec { tv_sec: 0, tv_nsec: (next - now) as i64 };
                poll(&mut [], Some(&timeout)).expect("poll");
            }
            next += EVERY.as_nanos() as u64;
            packet[..8].copy_from_slice(&clock_ns().to_be_bytes());
            sender.send_to(&packet, to).expect("sent");
        }
    });
    let mut latencies = Vec::with_capacity(count);
    let mut buffer = [0; 2048];
    while latencies.len() < count
        && let Ok(_) = receiver.recv(&mut buffer)
    {
        let sent = u64::from_be_bytes(buffer[..8].try_into().expect("8 bytes"));
        latencies.push(clock_ns() - sent);
    }
    send.join().expect("the sender ends");
    latencies
}
