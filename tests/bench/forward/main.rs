//! What forwarding costs: processor time per packet and added latency, each beside a bare forwarder in the same run.
//!
//! ```text
//! cargo bench -p e2e --bench forward                     # everything, about a minute
//! cargo bench -p e2e --bench forward -- --seconds 5      # longer measurements
//! cargo bench -p e2e --bench forward -- --no-latency     # only processor time
//! cargo bench -p e2e --bench forward -- --only-repair    # only what repair costs
//! ```
//!
//! Processor time is that of the one thread that forwards (the kernel's share included), so the threads that send and
//! receive do not count. Packets go round in bursts that leave before the next one starts, so nothing is dropped and
//! every forwarder sees the same trains.
//!
//! - `cascade`: a relay's port with the real core, opened and sealed, real sockets.
//! - `limit`: receives trains, opens and seals every datagram in place, sends the trains on. No frames, no tables.
//! - `quinn`: QUIC datagrams from one connection to another.
//!
//! Then what repair adds to a relay's cost, and what that does with the number of links and streams that it holds, with the copies of a packet, and with
//! its workers. Those have limits, and the program fails when one is passed: both sides of a comparison are measured in
//! turns, and the median of the turns' ratios counts, so that a noisy machine meets both.

#![allow(clippy::print_stdout, reason = "a report on stdout is what this program is for")]

mod bare;
mod cascade;
mod clock;
mod crowd;
mod latency;
mod plain;
mod quic;
mod repair;
mod trains;
mod workers;

use clock::threads_cpu_ns;
use std::time::{Duration, Instant};

/// Packets of one burst.
pub const BURST: usize = 200;
/// Turns of each comparison.
const TURNS: u32 = 7;
const RTP_BYTES: usize = 1200;
const STREAMS: usize = 20;

/// Something that carries bursts from a sender to a receiver through one forwarding thread.
pub trait Course {
    /// Sends `packets` in trains and waits until they have arrived; returns how many did.
    fn burst(&mut self) -> usize;
    /// Name of the thread that forwards; others of its port count, too.
    fn thread(&self) -> &str;
    /// What it takes without packets, ns a second: that is not theirs.
    fn idle_ns_per_s(&self) -> f64 {
        0.0
    }
}

struct Figure {
    ns_per_packet: f64,
    packets: usize,
    lost: usize,
}

/// So long a time of bursts.
fn measure(course: &mut dyn Course, time: Duration) -> Figure {
    for _ in 0..20 {
        course.burst();
    }
    let thread = course.thread().to_owned();
    let (start, cpu) = (Instant::now(), threads_cpu_ns(&thread));
    let (mut sent, mut arrived) = (0, 0);
    while start.elapsed() < time {
        sent += BURST;
        arrived += course.burst();
    }
    let used = threads_cpu_ns(&thread) - cpu;
    let idle = course.idle_ns_per_s() * start.elapsed().as_secs_f64();
    Figure {
        ns_per_packet: (used as f64 - idle) / arrived.max(1) as f64,
        packets: arrived,
        lost: sent - arrived.min(sent),
    }
}

/// Two courses in turns: the medians of their costs, and of the second's share of the first's in each turn.
fn compare(one: &mut dyn Course, other: &mut dyn Course, time: Duration) -> [f64; 3] {
    let turns: Vec<[f64; 3]> = (0..TURNS)
        .map(|_| {
            let one = measure(one, time / TURNS).ns_per_packet;
            let other = measure(other, time / TURNS).ns_per_packet;
            [one, other, other / one]
        })
        .collect();
    [0, 1, 2].map(|figure| {
        let mut all: Vec<f64> = turns.iter().map(|turn| turn[figure]).collect();
        all.sort_unstable_by(f64::total_cmp);
        all[all.len() / 2]
    })
}

/// Comparisons and what may come out of them.
#[derive(Default)]
struct Limits {
    passed: Vec<String>,
}

impl Limits {
    /// Measures, prints and judges a comparison: the second course may cost at most `limit` times as much as the first.
    fn compare(
        &mut self,
        name: &str,
        (one, other): (&mut dyn Course, &mut dyn Course),
        time: Duration,
        limit: f64,
    ) {
        let [one_ns, other_ns, ratio] = compare(one, other, time);
        println!("{name:<58} {one_ns:>8.0} {other_ns:>8.0} {ratio:>7.2} {limit:>7.2}");
        if ratio > limit {
            self.passed.push(format!("{name}: {ratio:.2} times, {limit:.2} is the limit"));
        }
    }

    /// Fails the program if a limit was passed.
    fn end(self) {
        if !self.passed.is_empty() {
            println!("{}", self.passed.join("\n"));
            std::process::exit(1);
        }
    }
}

fn main() {
    let seconds = std::env::args()
        .skip_while(|argument| argument != "--seconds")
        .nth(1)
        .map_or(3, |value| value.parse().expect("--seconds takes a whole number"));
    let time = Duration::from_secs(seconds);
    let equal = trains::trains(&vec![RTP_BYTES; BURST]);
    let mixed = trains::trains(&trains::recorded_sizes(STREAMS, BURST));
    if std::env::args().any(|argument| argument == "--only-repair") {
        let mut limits = Limits::default();
        repair::report(&[("one long train", &equal), ("mixed", &mixed)], time, &mut limits);
        limits.end();
        return;
    }
    println!("processor time per RTP packet forwarded, one in, one out, both sides sealed");
    println!("{:<34} {:>9} {:>10} {:>7} {:>12}", "input", "forwarder", "ns/packet", "x limit", "packets");
    for (name, trains) in [
        (format!("one long train, {RTP_BYTES} B"), &equal),
        (format!("{STREAMS} recorded streams, mixed"), &mixed),
    ] {
        let limit = measure(&mut bare::Sealed::start(trains), time);
        let cascade = measure(&mut cascade::Overlay::start(trains), time);
        let quinn = measure(&mut quic::Datagrams::start(trains), time);
        for (forwarder, figure) in [("limit", &limit), ("cascade", &cascade), ("quinn", &quinn)] {
            println!(
                "{name:<34} {forwarder:>9} {:>10.0} {:>7.2} {:>12}{}",
                figure.ns_per_packet,
                figure.ns_per_packet / limit.ns_per_packet,
                figure.packets,
                if figure.lost > 0 { format!("  ({} lost)", figure.lost) } else { String::new() },
            );
        }
    }
    println!();
    println!(
        "{:<58} {:>8} {:>8} {:>7} {:>7}",
        "processor time per packet, ns, in turns", "one", "other", "ratio", "limit"
    );
    let mut limits = Limits::default();
    repair::report(&[("one long train", &equal), ("mixed", &mixed)], time, &mut limits);
    crowd::report(time, &mut limits);
    workers::report(time, &mut limits);
    println!();
    plain::report(time);
    println!();
    if !std::env::args().any(|argument| argument == "--no-latency") {
        latency::report(time);
    }
    limits.end();
}
