//! How long what arrives has waited in queues on its way, without a synchronised clock.
//!
//! What a datagram took is its arrival by one clock less its departure by another: a number that means nothing, but
//! whose changes do (RFC 6817 section 2, LEDBAT). Its least of the last 10 to 20 s is the path with empty queues; what a
//! datagram took above that is queueing. Of each stretch between two heartbeats the least counts: a queue that stands
//! holds up every datagram, whereas jitter, a host that was busy, or the tail of a long train leave some in time.
//!
//! What media pays for with its slack is measured against the least of the last second or so instead. A path that has become
//! longer, because something beneath changed its way, is no queue and does not go away: media that paid for it would be
//! dropped as late for as long as the shorter path is remembered. A queue of ours is shorter by then.

use std::time::Duration;
use wire_format::{Timestamp, WireTime};

/// The empty path is the least of one to two spans so long. Clocks drift apart by 2 ms in that time at most.
const SPAN: Duration = Duration::from_secs(10);
/// Media pays for what is above the least of one to two spans so long.
const NEAR_SPAN: Duration = Duration::from_millis(750);
/// Bits of a [`WireTime`].
const WIRE_BITS: u32 = 24;

/// The queueing delay of one direction, at its receiving end. All delays in units of 10 us above `origin`.
#[derive(Debug, Default)]
pub(crate) struct Queueing {
    /// What a datagram took, as the difference of two unrelated clocks; moved along with them so that nothing wraps.
    origin: Option<u32>,
    /// Of the present stretch.
    least: Option<i32>,
    /// Of the present span and the one before.
    spans: [Option<i32>; 2],
    since: Timestamp,
    /// The same, of shorter spans.
    near: [Option<i32>; 2],
    near_since: Timestamp,
    /// Of the last datagram: when it came and left, and its excess. Those of a train share it.
    last: Option<(Timestamp, WireTime, Duration)>,
    newest: Duration,
}

impl Queueing {
    /// A datagram came: how much longer it took than others of late.
    pub(crate) fn datagram(&mut self, now: Timestamp, sent: WireTime) -> Duration {
        if let Some((came, left, excess)) = self.last
            && (came, left) == (now, sent)
        {
            return excess;
        }
        if now.since(self.since) > SPAN {
            self.begin_span(now);
        }
        if now.since(self.near_since) > NEAR_SPAN {
            (self.near_since, self.near) = (now, [None, self.near[0]]);
        }
        self.origin.get_or_insert(took(now, sent));
        let above = self.above(now, sent);
        for least in [&mut self.spans[0], &mut self.near[0], &mut self.least] {
            *least = Some(least.map_or(above, |least| least.min(above)));
        }
        let excess = self.excess(now, sent);
        self.last = Some((now, sent, excess));
        excess
    }

    /// The same for what was restored or sent again: it says nothing about the path.
    pub(crate) fn excess(&self, now: Timestamp, sent: WireTime) -> Duration {
        beyond(self.above(now, sent), self.near)
    }

    /// Ends a stretch: its queueing delay, or the one before if nothing came.
    pub(crate) fn report(&mut self) -> Duration {
        if let Some(least) = self.least.take() {
            self.newest = beyond(least, self.spans);
        }
        self.newest
    }

    fn begin_span(&mut self, now: Timestamp) {
        self.since = now;
        let shift = self.spans[0].unwrap_or(0);
        self.origin = self.origin.map(|origin| origin.wrapping_add(shift as u32));
        self.spans = [None, self.spans[0].map(|_| 0)];
        let moved = |least: i32| signed(least.wrapping_sub(shift) as u32);
        self.least = self.least.map(moved);
        self.near = self.near.map(|least| least.map(moved));
    }

    fn above(&self, now: Timestamp, sent: WireTime) -> i32 {
        self.origin.map_or(0, |origin| signed(took(now, sent).wrapping_sub(origin)))
    }

    /// What [`Queueing::report`] said last.
    pub(crate) fn newest(&self) -> Duration {
        self.newest
    }
}

/// What is above the least of the spans.
fn beyond(above: i32, spans: [Option<i32>; 2]) -> Duration {
    let least = spans.into_iter().flatten().min().unwrap_or(above);
    Duration::from_micros(above.saturating_sub(least).max(0) as u64 * WireTime::UNIT_US)
}

fn took(now: Timestamp, sent: WireTime) -> u32 {
    now.wire().bits().wrapping_sub(sent.bits())
}

/// A difference of wire times with its sign.
fn signed(difference: u32) -> i32 {
    (difference << (32 - WIRE_BITS)) as i32 >> (32 - WIRE_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FAR: u64 = 123_456_789;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_micros(ms * 1000)
    }

    /// A datagram that left at `ms` by a clock that is `FAR` behind and took so long.
    fn arrive(queueing: &mut Queueing, ms: u64, took_ms: u64) {
        queueing.datagram(at(FAR + ms + took_ms), at(ms).wire());
    }

    #[test]
    fn what_stands_in_a_queue_is_seen_and_single_late_datagrams_are_not() {
        let mut queueing = Queueing::default();
        assert_eq!(queueing.report(), Duration::ZERO, "nothing has come");
        for ms in 0..100 {
            arrive(&mut queueing, ms, if ms % 7 == 0 { 20 } else { 90 });
        }
        assert_eq!(queueing.report(), Duration::ZERO);
        for ms in 200..233 {
            arrive(&mut queueing, ms, 45 + ms % 9);
        }
        assert_eq!(queueing.report(), Duration::from_millis(25));
        assert_eq!(queueing.report(), Duration::from_millis(25), "nothing new");
        assert_eq!(queueing.newest(), Duration::from_millis(25));
    }

    #[test]
    fn a_longer_path_is_the_path_after_a_while_and_a_shorter_one_at_once() {
        let mut queueing = Queueing::default();
        let mut seen = Vec::new();
        for ms in 0..60_000 {
            arrive(&mut queueing, ms, if (10_000..50_000).contains(&ms) { 80 } else { 20 });
            if ms % 33 == 0 {
                seen.push((ms, queueing.report().as_millis()));
            }
        }
        for (ms, excess) in seen {
            match ms {
                0..10_000 | 32_000.. => assert_eq!(excess, 0, "at {ms}"),
                10_033..20_000 => assert_eq!(excess, 60, "at {ms}"),
                10_000..32_000 => {}
            }
        }
    }

    #[test]
    fn media_pays_for_a_queue_and_soon_no_more_for_a_longer_path() {
        let mut queueing = Queueing::default();
        for ms in 0..60_000 {
            let took_ms = if (15_000..50_000).contains(&ms) { 160 } else { 20 };
            let excess = queueing.datagram(at(FAR + ms + took_ms), at(ms).wire());
            match ms {
                15_000..15_500 => assert_eq!(excess, Duration::from_millis(140), "at {ms}"),
                15_500..17_000 => {}
                _ => assert_eq!(excess, Duration::ZERO, "at {ms}"),
            }
        }
        let late = queueing.excess(at(FAR + 60_100), at(60_000).wire());
        assert_eq!(late, Duration::from_millis(80), "what comes again is as late as it is");
    }

    #[test]
    fn clocks_that_run_apart_for_weeks_never_wrap() {
        let mut queueing = Queueing::default();
        // 200 ppm for two weeks: 242 s apart, more than the 167 s at which send times wrap.
        for second in 0..14 * 86_400_u64 {
            let sent = second * 1_000_000;
            let now = Timestamp::from_micros(sent + sent / 5_000 + 30_000);
            queueing.datagram(now, Timestamp::from_micros(sent).wire());
            for excess in [queueing.excess(now, Timestamp::from_micros(sent).wire()), queueing.report()] {
                assert!(excess <= Duration::from_millis(5), "{excess:?} after {second} s");
            }
        }
    }

    proptest! {
        #[test]
        fn any_send_times_give_a_delay_within_the_range_of_the_clock(
            steps in prop::collection::vec((0u64..20_000_000, any::<u32>(), any::<bool>()), 1..200)
        ) {
            let (mut queueing, mut now) = (Queueing::default(), 0);
            for (later, sent, report) in steps {
                now += later;
                queueing.datagram(Timestamp::from_micros(now), WireTime::from_bits(sent));
                if report {
                    let excess = queueing.report();
                    prop_assert!(excess <= Duration::from_micros((1 << WIRE_BITS) * WireTime::UNIT_US));
                }
            }
        }
    }
}
