//! What forwarding costs: processor time per packet and added latency, each beside a bare forwarder in the same run.
//!
//! ```text
//! cargo bench -p e2e --bench forward                     # everything, about a minute
//! cargo bench -p e2e --bench forward -- --seconds 5      # longer measurements
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
//! Then what a relay's cost does with the number of links and streams that it holds, and with the copies of a packet.

#![allow(clippy::print_stdout, reason = "a report on stdout is what this program is for")]

mod bare;
mod cascade;
mod clock;
mod crowd;
mod latency;
mod quic;
mod trains;

use clock::thread_cpu_ns;
use std::time::{Duration, Instant};

/// Packets of one burst.
pub const BURST: usize = 200;
const RTP_BYTES: usize = 1200;
const STREAMS: usize = 20;

/// Something that carries bursts from a sender to a receiver through one forwarding thread.
pub trait Course {
    /// Sends `packets` in trains and waits until they have arrived; returns how many did.
    fn burst(&mut self) -> usize;
    /// Name of the thread that forwards.
    fn thread(&self) -> &str;
}

struct Figure {
    ns_per_packet: f64,
    packets: usize,
    lost: usize,
}

fn measure(course: &mut dyn Course, packets_of_burst: usize, time: Duration) -> Figure {
    for _ in 0..20 {
        course.burst();
    }
    let thread = course.thread().to_owned();
    let (start, cpu) = (Instant::now(), thread_cpu_ns(&thread));
    let (mut sent, mut arrived) = (0, 0);
    while start.elapsed() < time {
        sent += packets_of_burst;
        arrived += course.burst();
    }
    let used = thread_cpu_ns(&thread) - cpu;
    Figure {
        ns_per_packet: used as f64 / arrived.max(1) as f64,
        packets: arrived,
        lost: sent - arrived.min(sent),
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
    println!("processor time per RTP packet forwarded, one in, one out, both sides sealed");
    println!("{:<34} {:>9} {:>10} {:>7} {:>12}", "input", "forwarder", "ns/packet", "x limit", "packets");
    for (name, trains) in [
        (format!("one long train, {RTP_BYTES} B"), &equal),
        (format!("{STREAMS} recorded streams, mixed"), &mixed),
    ] {
        let limit = measure(&mut bare::Sealed::start(trains), BURST, time);
        let cascade = measure(&mut cascade::Overlay::start(trains), BURST, time);
        let quinn = measure(&mut quic::Datagrams::start(trains), BURST, time);
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
    crowd::report(time);
    println!();
    latency::report(time);
}
