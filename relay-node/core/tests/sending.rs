//! A link that says it queues: what leaves is paced, waits by urgency, goes in whole frames, and comes back to itself.

mod lab;

use lab::Lab;
use relay_core::ClientEvent;
use std::collections::BTreeMap;
use std::time::Duration;
use wire_format::{Arrival, FrameKind, Heartbeat, SizeCounts, frame_header, send_time_bytes};

/// Packets of a frame of video.
const FRAME: u8 = 8;
const REPORT_EVERY: Duration = Duration::from_millis(33);

struct Slow {
    lab: Lab,
    publisher: usize,
    subscriber: usize,
    number: u64,
    bytes: u32,
}

impl Slow {
    /// Video from relay 0 to relay 1; from now on the test says what arrives there.
    fn new() -> Slow {
        let mut lab = Lab::new(2);
        let (publisher, subscriber) = lab.one_hop();
        let mut slow = Slow { lab, publisher, subscriber, number: 1 << 20, bytes: 0 };
        slow.report(60, Duration::ZERO);
        slow
    }

    /// Reports for so long that 125,000 bytes a second arrive after so much queueing.
    fn report(&mut self, reports: u32, queueing: Duration) {
        let link = self.lab.link_id(0, 1);
        for _ in 0..reports {
            self.lab.run(REPORT_EVERY);
            self.bytes += 4125;
            self.number += 1;
            let beat = Heartbeat {
                in_use: true,
                highest: 0,
                received: 0,
                echo: None,
                jitter: 0,
                sizes: Some(SizeCounts::default()),
                repairs: true,
                arrival: Some(Arrival { queueing: (queueing.as_micros() / 10) as u16, bytes: self.bytes }),
                media: None,
            };
            let mut body = [0; Heartbeat::BYTES_MAX];
            let used = beat.encode(&mut body);
            let mut plain = send_time_bytes(self.lab.now.wire()).to_vec();
            plain.extend(frame_header(FrameKind::Heartbeat, used));
            plain.extend_from_slice(&body[..used]);
            self.lab.inject(0, link, self.number, plain);
        }
    }

    /// A frame of video of eight packets, a thousand bytes each.
    fn send_frame(&mut self, frame: u8) {
        let packets: Vec<_> = (0..FRAME).map(|part| packet(frame, part)).collect();
        let packets: Vec<_> = packets.iter().map(Vec::as_slice).collect();
        self.lab.send(self.publisher, 1, &packets);
    }

    /// Frames that arrived, and of how many packets, in order.
    fn arrived(&mut self) -> Vec<(u8, u8)> {
        let mut all: Vec<(u8, u8)> = Vec::new();
        let mut before = 0;
        for (client, _, packet) in std::mem::take(&mut self.lab.delivered) {
            assert_eq!(client, self.subscriber);
            match all.last_mut() {
                Some((frame, parts)) if *frame == packet[4] => {
                    assert_eq!(packet[12], before + 1, "in order");
                    *parts += 1;
                }
                Some(_) | None => all.push((packet[4], 1)),
            }
            before = packet[12];
        }
        all
    }

    fn counters(&mut self) -> BTreeMap<&'static str, u64> {
        self.lab.relay_mut(0).1.counters().entries().collect()
    }
}

fn packet(frame: u8, part: u8) -> Vec<u8> {
    let mut packet = vec![0x80; 1000];
    packet[4..8].copy_from_slice(&[frame, 0, 0, 0]);
    packet[12] = part;
    packet
}

#[test]
fn a_link_that_does_not_queue_sends_everything_at_once() {
    let mut slow = Slow::new();
    slow.report(20, Duration::from_millis(2));
    slow.lab.delivered.clear();
    for frame in 0..10 {
        slow.send_frame(frame);
    }
    assert_eq!(slow.arrived(), (0..10).map(|frame| (frame, FRAME)).collect::<Vec<_>>());
}

#[test]
fn a_link_that_queues_is_paced_and_what_waited_arrives_with_less_slack() {
    let mut slow = Slow::new();
    slow.report(6, Duration::from_millis(40));
    slow.lab.delivered.clear();
    slow.lab.crossings.clear();
    slow.send_frame(1);
    let at_once = slow.arrived();
    assert!(at_once.is_empty() || at_once[0].1 <= 2, "{at_once:?}");
    slow.lab.run(Duration::from_millis(30));
    let soon = slow.arrived().iter().map(|(_, parts)| usize::from(*parts)).sum::<usize>();
    assert!((2..=5).contains(&soon), "{soon} of 8 after 30 ms");
    slow.lab.run(Duration::from_millis(70));
    let all = slow.lab.headers(0, 1);
    assert_eq!(all.len(), usize::from(FRAME));
    let slack = |at: usize| all[at].slack.as_duration();
    assert!(slack(7) + Duration::from_millis(40) < slack(0), "{:?}, then {:?}", slack(0), slack(7));
    assert!(slack(7) > Duration::from_millis(100));
}

#[test]
fn what_the_other_end_reports_of_the_way_is_told_to_operators() {
    let mut slow = Slow::new();
    let told = |slow: &mut Slow| {
        let link = slow.lab.link_id(0, 1);
        let views = slow.lab.relay_mut(0).1.link_views();
        views.into_iter().find(|view| view.link == link).expect("linked").stats
    };
    let before = told(&mut slow);
    assert_eq!((before.quality.queueing_out, before.quality.deliverable_out), (Duration::ZERO, None));
    slow.report(6, Duration::from_millis(40));
    let after = told(&mut slow);
    assert_eq!((after.quality.queueing_out, after.rate_limited), (Duration::from_millis(40), 1));
    let deliverable = after.quality.deliverable_out.expect("a limit");
    assert!((100_000..=125_000).contains(&deliverable), "{deliverable} of 125,000 that arrive");
}

#[test]
fn whole_frames_go_a_keyframe_is_asked_for_and_everything_passes_when_the_queue_is_gone() {
    let mut slow = Slow::new();
    slow.report(6, Duration::from_millis(40));
    slow.lab.delivered.clear();
    slow.lab.client_events.clear();
    // A second at twice what the link carries.
    for frame in 0..30 {
        slow.send_frame(frame);
        slow.report(1, Duration::from_millis(25));
    }
    slow.lab.run(Duration::from_millis(300));
    let arrived = slow.arrived();
    assert!(arrived.iter().all(|(_, parts)| *parts == FRAME), "{arrived:?}");
    assert!((8..=20).contains(&arrived.len()), "{arrived:?}");
    let counters = slow.counters();
    let lost = (30 - arrived.len()) * usize::from(FRAME);
    assert_eq!(counters["drop_congested_video"], lost as u64);
    assert_eq!(counters["drop_congested_audio"] + counters["drop_queue_full"], 0);
    let asked = |(client, event): &(usize, ClientEvent)| {
        *client == slow.publisher && *event == ClientEvent::KeyframeRequested { request: 1 }
    };
    let asked = slow.lab.client_events.iter().filter(|event| asked(event)).count();
    assert!((1..=2).contains(&asked), "{asked} times");

    slow.report(330, Duration::ZERO);
    slow.lab.delivered.clear();
    for frame in 0..30 {
        slow.send_frame(frame);
    }
    assert_eq!(slow.arrived().len(), 30, "no limit any more");
}
