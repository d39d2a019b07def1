//! A stream from one SFU to another, judged packet by packet: RTP goes to a port of the publishing SFU's host and comes
//! to a port of the subscribing one's.

use crate::overlay::{Overlay, PATIENCE};
use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two packets: 250 a second.
const PACE: Duration = Duration::from_millis(4);
/// How long a receiver sleeps without a packet before it looks whether the call is over.
const LISTEN: Duration = Duration::from_millis(100);
/// Where the publishing SFU takes RTP, and where the subscribing one brings it; RTCP goes to the next port.
const IN_PORT: u16 = 5004;
const OUT_PORT: u16 = 5006;

/// A stream that flows. Dropped, it ends.
pub(crate) struct Call {
    over: Arc<AtomicBool>,
    sent: Arc<AtomicU32>,
    received: Arc<Received>,
    threads: Vec<JoinHandle<()>>,
}

/// What has come, in order.
#[derive(Default)]
struct Received {
    arrivals: Mutex<Vec<Arrival>>,
    more: Condvar,
}

#[derive(Clone, Copy)]
struct Arrival {
    number: u32,
    at: Instant,
    whole: bool,
}

/// A moment of a call.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    arrivals: usize,
}

/// What became of the packets of a part of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Passage {
    pub(crate) received: usize,
    pub(crate) lost: usize,
    pub(crate) repeated: usize,
    pub(crate) damaged: usize,
    /// Behind one that was sent after them.
    pub(crate) late: usize,
    /// Longest silence.
    pub(crate) gap_ms: u128,
}

impl Call {
    /// From `sfu-a` at `r1` to `sfu-b` at `r3`. Returns when packets arrive.
    pub(crate) fn begin(overlay: &mut Overlay) -> Call {
        Call::of_size(overlay, |number| 200 + (number as usize * 37) % 900)
    }

    /// The same with packets of these lengths, by number.
    pub(crate) fn of_size(overlay: &mut Overlay, length: fn(u32) -> usize) -> Call {
        let (way_in, way_out) = (overlay.loopback(IN_PORT), overlay.loopback(OUT_PORT));
        let nowhere = overlay.loopback(0);
        let network = &overlay.network;
        let sender = network.on("sfu-a", || UdpSocket::bind(nowhere)).expect("a port");
        let receiver = network.on("sfu-b", || UdpSocket::bind(way_out)).expect("a free port");
        receiver.set_read_timeout(Some(LISTEN)).expect("legal");
        overlay.sfu("sfu-b", "r3", "subscribe_to_udp", &["--to", &way_out.to_string()]);
        let publish = ["--user", "alice", "--listen", &way_in.to_string()];
        overlay.sfu("sfu-a", "r1", "publish_rtpdump", &publish);
        overlay.until("the subscription stands", |overlay| {
            overlay.relay("r3", "links").iter().any(|link| link["subscriptions"] == 1)
        });

        let (over, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let received = Arc::new(Received::default());
        let (listener_over, listener_received) = (Arc::clone(&over), Arc::clone(&received));
        let listening = std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while !listener_over.load(Ordering::Relaxed) {
                // Silence is judged by whoever waits.
                let Ok(size) = receiver.recv(&mut buffer) else { continue };
                let at = Instant::now();
                let number = number(&buffer[..size]);
                let whole = number.is_some_and(|number| buffer[..size] == packet(number, length)[..]);
                let number = number.unwrap_or(u32::MAX);
                listener_received.arrivals.lock().expect("no panic").push(Arrival { number, at, whole });
                listener_received.more.notify_all();
            }
        });
        let (sender_over, sender_sent) = (Arc::clone(&over), Arc::clone(&sent));
        let sending = std::thread::spawn(move || {
            let begin = Instant::now();
            for number in 0.. {
                std::thread::sleep((begin + PACE * number).saturating_duration_since(Instant::now()));
                if sender_over.load(Ordering::Relaxed) {
                    return;
                }
                // Until the SFU listens, nobody does.
                let _ = sender.send_to(&packet(number, length), way_in);
                sender_sent.store(number + 1, Ordering::Relaxed);
            }
        });
        let call = Call { over, sent, received, threads: vec![listening, sending] };
        call.more(1);
        call
    }

    /// Waits for so many more packets.
    pub(crate) fn more(&self, packets: usize) {
        let wanted = self.now().arrivals + packets;
        let arrivals = self.received.arrivals.lock().expect("no panic");
        let waited = self.received.more.wait_timeout_while(arrivals, PATIENCE, |seen| seen.len() < wanted);
        let (arrivals, _) = waited.expect("no panic");
        assert!(arrivals.len() >= wanted, "{} of {packets} packets came", packets + arrivals.len() - wanted);
    }

    /// Waits until the packet that is sent next has come: everything before it came or was lost.
    pub(crate) fn settle(&self) {
        let next = self.sent.load(Ordering::Relaxed);
        let arrivals = self.received.arrivals.lock().expect("no panic");
        let there = |arrivals: &Vec<Arrival>| arrivals.last().is_some_and(|last| last.number >= next);
        let waited = self.received.more.wait_timeout_while(arrivals, PATIENCE, |seen| !there(seen));
        let (arrivals, _) = waited.expect("no panic");
        assert!(there(&arrivals), "nothing comes any more");
    }

    pub(crate) fn now(&self) -> Moment {
        Moment { arrivals: self.received.arrivals.lock().expect("no panic").len() }
    }

    /// What has become of the packets since: those behind every one that had come.
    pub(crate) fn since(&self, moment: Moment) -> Passage {
        self.settle();
        Passage::of(&self.received.arrivals.lock().expect("no panic"), moment)
    }
}

impl Passage {
    fn of(arrivals: &[Arrival], moment: Moment) -> Passage {
        let (before, after) = arrivals.split_at(moment.arrivals);
        // What comes late of what was sent earlier belongs to the part before.
        let latest = before.iter().map(|arrival| arrival.number).max();
        let mut passage = Passage::default();
        let (mut seen, mut highest) = (BTreeSet::new(), latest);
        let earlier: BTreeSet<u32> = before.iter().map(|arrival| arrival.number).collect();
        for arrival in after {
            passage.damaged += usize::from(!arrival.whole);
            let new = !earlier.contains(&arrival.number) && seen.insert(arrival.number);
            passage.repeated += usize::from(!new);
            if Some(arrival.number) > latest {
                passage.received += 1;
                passage.late += usize::from(Some(arrival.number) < highest);
                highest = highest.max(Some(arrival.number));
            }
        }
        if let (Some(latest), Some(highest)) = (latest, highest) {
            passage.lost = (latest + 1..highest).filter(|number| !seen.contains(number)).count();
        }
        // The silence before the first one counts.
        let silences =
            arrivals[before.len().saturating_sub(1)..].windows(2).map(|pair| pair[1].at - pair[0].at);
        passage.gap_ms = silences.max().unwrap_or_default().as_millis();
        passage
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// RTP with its number inside.
fn packet(number: u32, length: fn(u32) -> usize) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend_from_slice(&(number as u16).to_be_bytes());
    packet.extend_from_slice(&(number.wrapping_mul(360)).to_be_bytes());
    packet.extend_from_slice(&0x0CA5_CADE_u32.to_be_bytes());
    packet.extend_from_slice(&number.to_be_bytes());
    packet.resize(length(number), number as u8);
    packet
}

fn number(packet: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(packet.get(12..16)?.try_into().ok()?))
}

#[test]
fn what_comes_late_of_an_earlier_part_is_not_lost_in_this_one() {
    let at = Instant::now();
    let arrivals: Vec<Arrival> =
        [1, 2, 5, 6, 3, 4, 7, 9, 8, 12].map(|number| Arrival { number, at, whole: true }).into();
    let passage = Passage::of(&arrivals, Moment { arrivals: 5 });
    let wanted = Passage { received: 4, lost: 2, late: 1, ..Passage::default() };
    assert_eq!(passage, wanted);
}
