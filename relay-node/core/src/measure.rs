//! What a link learns about itself: round trip, jitter and loss of each direction, rates.

use crate::queueing::Queueing;
use std::collections::VecDeque;
use std::time::Duration;
use wire_format::{Arrival, Echo, Heartbeat, PacketNumber, SizeCounts, Timestamp, WireTime};

/// Loss is judged over this long.
const LOSS_WINDOW: Duration = Duration::from_secs(10);
/// Distance of two samples within the window.
const LOSS_SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// Of fewer than this many datagrams the losses are counted as of this many: one lost of the first two is not a link
/// that loses half.
const LOSS_OF_LEAST: u64 = 20;
/// Rates are means over at least this long.
const RATE_WINDOW_US: u64 = 900_000;
/// The least round trip is that of one to two of these.
const RTT_MIN_WINDOW: Duration = Duration::from_secs(10);
/// The round trip without the moments in which a host was busy is the least of one to two times so long ...
const RTT_CALM_WINDOW: Duration = Duration::from_millis(500);
/// ... and of at least so many samples each: a link that nobody needs gives one a second.
const RTT_CALM_SAMPLES: u32 = 4;

/// What arrived on a link.
#[derive(Debug)]
pub(crate) struct Reception {
    highest: Option<u64>,
    received: u64,
    newest: Option<(WireTime, Timestamp)>,
    queueing: Queueing,
    /// Sixteenths of a microsecond (RFC 3550 appendix A.8).
    jitter_16ths: u64,
    loss: LossWindow,
    probes: ProbesIn,
    /// Datagrams of more than what every path carries, probes not counted.
    large: u16,
}

/// MTU probes of the other end. Most are meant to get lost, so they are kept out of the measure of loss.
#[derive(Debug, Default)]
struct ProbesIn {
    sent: u32,
    received: u32,
}

impl ProbesIn {
    /// The other end says how many it had sent, low 16 bits.
    fn told(&mut self, sent: u16) {
        let more = sent.wrapping_sub(self.sent as u16);
        if more < u16::MAX / 2 {
            self.sent = self.sent.wrapping_add(u32::from(more));
        }
    }
}

impl Reception {
    pub(crate) fn new() -> Reception {
        Reception {
            highest: None,
            received: 0,
            newest: None,
            queueing: Queueing::default(),
            jitter_16ths: 0,
            loss: LossWindow::new(),
            probes: ProbesIn::default(),
            large: 0,
        }
    }

    /// A datagram came. Returns how much longer it took than the path with empty queues.
    pub(crate) fn datagram(&mut self, now: Timestamp, number: PacketNumber, sent: WireTime) -> Duration {
        self.received += 1;
        let excess = self.queueing.datagram(now, sent);
        if self.highest.is_some_and(|highest| number.0 <= highest) {
            return excess;
        }
        self.highest = Some(number.0);
        // Those of a train say the same about the path.
        let before = self.newest.replace((sent, now));
        if before == Some((sent, now)) {
            return excess;
        }
        if let Some((sent_before, came_before)) = before
            && sent != sent_before
        {
            let spacing_sent = sent.since(sent_before).as_micros() as u64;
            let spacing_came = now.since(came_before).as_micros() as u64;
            let change = spacing_came.abs_diff(spacing_sent);
            self.jitter_16ths = self.jitter_16ths + change - (self.jitter_16ths + 8) / 16;
        }
        let (expected, received) = self.without_probes();
        self.loss.sample(now, expected, received);
        excess
    }

    /// How much longer than the path with empty queues it took for what left at `sent` to be here.
    pub(crate) fn excess(&self, now: Timestamp, sent: WireTime) -> Duration {
        self.queueing.excess(now, sent)
    }

    /// The datagram was larger than what every path carries.
    pub(crate) fn large(&mut self) {
        self.large = self.large.wrapping_add(1);
    }

    /// The datagram was an MTU probe, the so-manieth, and counted by [`Reception::large`] before.
    pub(crate) fn probe(&mut self, count: u16) {
        self.large = self.large.wrapping_sub(1);
        self.probes.told(count);
        self.probes.received = self.probes.received.wrapping_add(1);
    }

    /// What the other end says about its probes.
    pub(crate) fn probes_told(&mut self, sent: u16) {
        self.probes.told(sent);
    }

    /// Send time of the newest datagram.
    pub(crate) fn newest_sent(&self) -> Option<WireTime> {
        self.newest.map(|(sent, _)| sent)
    }

    /// What arrives waited in queues so long, as last told.
    pub(crate) fn queueing(&self) -> Duration {
        self.queueing.newest()
    }

    /// Says how fast `bytes` have arrived; ends a stretch of measuring.
    pub(crate) fn arrival(&mut self, bytes: u64) -> Arrival {
        let units = self.queueing.report().as_micros() as u64 / WireTime::UNIT_US;
        Arrival { queueing: u16::try_from(units).unwrap_or(u16::MAX), bytes: bytes as u32 }
    }

    /// What the other side is to know.
    pub(crate) fn heartbeat(&self, now: Timestamp, in_use: bool, probes_sent: u32) -> Heartbeat {
        let echo = self.newest.map(|(time, came)| Echo {
            time,
            delay: u32::try_from(now.since(came).as_micros() as u64 / WireTime::UNIT_US).unwrap_or(u32::MAX),
        });
        Heartbeat {
            in_use,
            highest: self.highest.unwrap_or(0) as u32,
            received: self.received as u32,
            echo,
            jitter: u16::try_from(self.jitter().as_micros() as u64 / WireTime::UNIT_US).unwrap_or(u16::MAX),
            sizes: Some(SizeCounts {
                probes_sent: probes_sent as u16,
                probes_received: self.probes.received as u16,
                large_received: self.large,
            }),
            arrival: None,
            media: None,
            repairs: true,
        }
    }

    pub(crate) fn jitter(&self) -> Duration {
        Duration::from_micros(self.jitter_16ths / 16)
    }

    pub(crate) fn loss_ppm(&self) -> u32 {
        let (expected, received) = self.without_probes();
        self.loss.ppm(expected, received)
    }

    fn without_probes(&self) -> (u32, u32) {
        let expected = (self.expected() as u32).wrapping_sub(self.probes.sent);
        (expected, (self.received as u32).wrapping_sub(self.probes.received))
    }

    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    pub(crate) fn expected(&self) -> u64 {
        self.highest.map_or(0, |highest| highest + 1)
    }
}

/// What the other side's heartbeats say about what was sent to it, and the round trip.
#[derive(Debug)]
pub(crate) struct Feedback {
    smoothed_us: Option<u64>,
    /// Mean deviation (RFC 6298 section 2).
    variation_us: u64,
    rtt_calm: LeastOf,
    rtt_min: LeastOf,
    samples: u64,
    jitter: Duration,
    loss: LossWindow,
    newest: Option<(u32, u32)>,
    /// One more than the highest number reported, low 32 bits.
    reported: Option<u32>,
    probes_received: u32,
}

impl Feedback {
    pub(crate) fn new(now: Timestamp) -> Feedback {
        Feedback {
            smoothed_us: None,
            variation_us: 0,
            rtt_calm: LeastOf::new(now, RTT_CALM_WINDOW, RTT_CALM_SAMPLES),
            rtt_min: LeastOf::new(now, RTT_MIN_WINDOW, 1),
            samples: 0,
            jitter: Duration::ZERO,
            loss: LossWindow::new(),
            newest: None,
            reported: None,
            probes_received: 0,
        }
    }

    /// A heartbeat came; among the datagrams up to the highest that it names were so many probes. `true` if it gave the
    /// first round trip.
    pub(crate) fn heartbeat(&mut self, now: Timestamp, heartbeat: &Heartbeat, probes: u32) -> bool {
        self.jitter = Duration::from_micros(u64::from(heartbeat.jitter) * WireTime::UNIT_US);
        if heartbeat.received > 0 {
            let expected = heartbeat.highest.wrapping_add(1).wrapping_sub(probes);
            let overtaken =
                self.newest.is_some_and(|(newest, _)| expected.wrapping_sub(newest) > u32::MAX / 2);
            if !overtaken {
                let told = heartbeat.sizes.map_or(0, |sizes| sizes.probes_received);
                let more = told.wrapping_sub(self.probes_received as u16);
                self.probes_received = self.probes_received.wrapping_add(u32::from(more));
                let received = heartbeat.received.wrapping_sub(self.probes_received);
                self.newest = Some((expected, received));
                self.reported = Some(heartbeat.highest.wrapping_add(1));
                self.loss.sample(now, expected, received);
            }
        }
        let Some(echo) = heartbeat.echo else { return false };
        let there_and_back = now.wire().since(echo.time);
        let held = Duration::from_micros(u64::from(echo.delay) * WireTime::UNIT_US);
        // Both clocks round down; a round trip of zero would make the path look free.
        let rtt = there_and_back.saturating_sub(held).max(Duration::from_micros(WireTime::UNIT_US));
        self.round_trip(now, rtt)
    }

    fn round_trip(&mut self, now: Timestamp, rtt: Duration) -> bool {
        let rtt_us = rtt.as_micros() as u64;
        let first = self.smoothed_us.is_none();
        // RFC 6298 section 2.
        self.variation_us = match self.smoothed_us {
            Some(smoothed) => (3 * self.variation_us + smoothed.abs_diff(rtt_us)) / 4,
            None => rtt_us / 2,
        };
        self.smoothed_us = Some(self.smoothed_us.map_or(rtt_us, |smoothed| (7 * smoothed + rtt_us) / 8));
        self.samples += 1;
        self.rtt_calm.sample(now, rtt);
        self.rtt_min.sample(now, rtt);
        first
    }

    /// The highest number that the other end has reported, of `next_number` sent.
    pub(crate) fn acknowledged(&self, next_number: u64) -> Option<PacketNumber> {
        let expected = self.reported?;
        let behind = (next_number as u32).wrapping_sub(expected);
        Some(PacketNumber(next_number.checked_sub(u64::from(behind))?.checked_sub(1)?))
    }

    /// Smoothed, and with it the time that datagrams wait while a host is busy with other things.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.smoothed_us.map(Duration::from_micros)
    }

    /// How much round trips vary.
    pub(crate) fn rtt_var(&self) -> Duration {
        Duration::from_micros(self.variation_us)
    }

    /// What the path takes now, queues included: the least of the last second or so. Each sample contains what it
    /// waited for either process to run, and the mean of those says more about the hosts than about the path.
    pub(crate) fn rtt_calm(&self) -> Option<Duration> {
        self.rtt_calm.least()
    }

    pub(crate) fn rtt_min(&self) -> Option<Duration> {
        self.rtt_min.least()
    }

    pub(crate) fn jitter(&self) -> Duration {
        self.jitter
    }

    /// Datagrams that were sent and that arrived, as last reported; low 32 bits, without probes.
    pub(crate) fn expected_received(&self) -> (u32, u32) {
        self.newest.unwrap_or_default()
    }

    pub(crate) fn loss_ppm(&self) -> u32 {
        self.newest.map_or(0, |(expected, received)| self.loss.ppm(expected, received))
    }

    pub(crate) fn samples(&self) -> u64 {
        self.samples
    }
}

/// The least of one to two spans of time.
#[derive(Debug)]
struct LeastOf {
    window: Duration,
    /// A span does not end before it has so many samples.
    samples: u32,
    /// In the present span and in the one before.
    least: [Option<Duration>; 2],
    since: Timestamp,
    count: u32,
}

impl LeastOf {
    fn new(now: Timestamp, window: Duration, samples: u32) -> LeastOf {
        LeastOf { window, samples, least: [None; 2], since: now, count: 0 }
    }

    fn sample(&mut self, now: Timestamp, value: Duration) {
        if now.since(self.since) > self.window && self.count >= self.samples {
            self.since = now;
            self.count = 0;
            self.least = [None, self.least[0]];
        }
        self.count = self.count.saturating_add(1);
        self.least[0] = Some(self.least[0].map_or(value, |least| least.min(value)));
    }

    fn least(&self) -> Option<Duration> {
        self.least.into_iter().flatten().min()
    }
}

/// The most of one to two spans of time.
#[derive(Debug)]
pub(crate) struct MostOf {
    window: Duration,
    /// In the present span and in the one before.
    most: [Duration; 2],
    since: Timestamp,
}

impl MostOf {
    pub(crate) fn new(now: Timestamp, window: Duration) -> MostOf {
        MostOf { window, most: [Duration::ZERO; 2], since: now }
    }

    pub(crate) fn sample(&mut self, now: Timestamp, value: Duration) {
        if now.since(self.since) > self.window {
            self.since = now;
            self.most = [Duration::ZERO, self.most[0]];
        }
        self.most[0] = self.most[0].max(value);
    }

    pub(crate) fn most(&self) -> Duration {
        self.most[0].max(self.most[1])
    }
}

/// Mean of a stream of durations: the newest weighs a 64th.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mean(Option<u64>);

impl Mean {
    pub(crate) fn sample(&mut self, value_us: u64) {
        self.0 = Some(self.0.map_or(value_us << 6, |mean| mean - (mean >> 6) + value_us));
    }

    pub(crate) fn get(&self) -> Option<Duration> {
        self.0.map(|mean| Duration::from_micros(mean >> 6))
    }
}

/// Running totals of expected and received datagrams, kept for [`LOSS_WINDOW`]. Totals instead of events: a datagram
/// that comes late is no loss, and a lost report loses nothing. The first reading is where counting begins: what left
/// before the other end could open anything says nothing about the path.
#[derive(Debug)]
struct LossWindow {
    samples: VecDeque<(Timestamp, u32, u32)>,
}

impl LossWindow {
    fn new() -> LossWindow {
        LossWindow { samples: VecDeque::new() }
    }

    fn sample(&mut self, now: Timestamp, expected: u32, received: u32) {
        if self.samples.back().is_some_and(|(at, _, _)| now.since(*at) < LOSS_SAMPLE_EVERY) {
            return;
        }
        while self.samples.len() > 1
            && self.samples.get(1).is_some_and(|(at, _, _)| now.since(*at) > LOSS_WINDOW)
        {
            self.samples.pop_front();
        }
        self.samples.push_back((now, expected, received));
    }

    fn ppm(&self, expected: u32, received: u32) -> u32 {
        let Some((_, expected_before, received_before)) = self.samples.front() else { return 0 };
        // Numbers turn out to be those of probes a moment after they were expected.
        let growth = |total: u32, before: u32| (total.wrapping_sub(before) as i32).max(0) as u64;
        let expected = growth(expected, *expected_before);
        let received = growth(received, *received_before);
        (expected.saturating_sub(received) * 1_000_000 / expected.max(LOSS_OF_LEAST)) as u32
    }
}

/// Bytes per second, from one reading of a total to the next. Readings in quick succession count as one.
#[derive(Debug)]
pub(crate) struct Rate {
    at: Timestamp,
    total: u64,
    per_second: u64,
}

impl Rate {
    pub(crate) fn new(now: Timestamp) -> Rate {
        Rate { at: now, total: 0, per_second: 0 }
    }

    pub(crate) fn read(&mut self, now: Timestamp, total: u64) {
        let micros = now.since(self.at).as_micros() as u64;
        if micros >= RATE_WINDOW_US {
            self.per_second = (total - self.total).saturating_mul(1_000_000) / micros;
            (self.at, self.total) = (now, total);
        }
    }

    pub(crate) fn per_second(&self) -> u64 {
        self.per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_number_reported_is_widened_by_what_was_sent() {
        let mut feedback = Feedback::new(Timestamp::ZERO);
        assert_eq!(feedback.acknowledged(10), None);
        let reported = |highest| Heartbeat {
            in_use: true,
            highest,
            received: 1,
            echo: None,
            jitter: 0,
            sizes: None,
            arrival: None,
            media: None,
            repairs: false,
        };
        feedback.heartbeat(Timestamp::ZERO, &reported(u32::MAX - 1), 0);
        assert_eq!(feedback.acknowledged((7 << 32) + 3), Some(PacketNumber((7 << 32) - 2)));
        feedback.heartbeat(Timestamp::ZERO, &reported(5), 0);
        assert_eq!(feedback.acknowledged((7 << 32) + 6), Some(PacketNumber((7 << 32) + 5)));
        assert_eq!(feedback.acknowledged(3), None, "more than was ever sent");
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_micros(ms * 1000)
    }

    #[test]
    fn a_heartbeat_gives_the_round_trip_without_the_time_it_was_held() {
        let mut there = Reception::new();
        let mut here = Feedback::new(at(0));
        there.datagram(at(1020), PacketNumber(0), at(5).wire());
        let heartbeat = there.heartbeat(at(1050), false, 0);
        assert!(here.heartbeat(at(60), &heartbeat, 0), "the first round trip");
        assert_eq!(here.rtt(), Some(Duration::from_millis(25)));
        assert_eq!(here.rtt_min(), Some(Duration::from_millis(25)));
    }

    #[test]
    fn loss_of_both_directions_is_counted_over_ten_seconds() {
        let mut reception = Reception::new();
        let mut feedback = Feedback::new(at(0));
        let mut number = 0;
        for ms in 0..30_000 {
            number += 1;
            // Every tenth is lost during the first 15 s.
            if number % 10 != 0 || ms >= 15_000 {
                reception.datagram(at(ms), PacketNumber(number - 1), at(ms).wire());
            }
            if ms % 33 == 0 {
                feedback.heartbeat(at(ms), &reception.heartbeat(at(ms), true, 0), 0);
            }
            if ms == 14_000 {
                for loss_ppm in [reception.loss_ppm(), feedback.loss_ppm()] {
                    assert!(loss_ppm.abs_diff(100_000) < 1_500, "{loss_ppm}");
                }
            }
        }
        assert_eq!((reception.loss_ppm(), feedback.loss_ppm()), (0, 0));
    }

    #[test]
    fn what_was_sent_before_the_other_end_was_ready_is_no_loss() {
        let (mut there, mut here) = (Reception::new(), Feedback::new(at(0)));
        for number in 1..10 {
            there.datagram(at(number * 100), PacketNumber(number), at(number * 100).wire());
            here.heartbeat(at(number * 100), &there.heartbeat(at(number * 100), false, 0), 0);
            assert_eq!((there.loss_ppm(), here.loss_ppm()), (0, 0), "{number}");
        }
        // Number 10 is lost, which is one of ten and counts as one of twenty.
        there.datagram(at(1_100), PacketNumber(11), at(1_100).wire());
        here.heartbeat(at(1_100), &there.heartbeat(at(1_100), false, 0), 0);
        assert_eq!((there.loss_ppm(), here.loss_ppm()), (50_000, 50_000));
    }

    #[test]
    fn probes_that_get_lost_are_no_loss_at_either_end() {
        let (mut there, mut here) = (Reception::new(), Feedback::new(at(0)));
        let (mut number, mut probes) = (0, 0);
        for ms in 0..20_000 {
            // Every tenth datagram is a probe, and half of those get lost.
            number += 1;
            if number % 10 == 0 {
                probes += 1;
                if probes % 2 == 0 {
                    there.datagram(at(ms), PacketNumber(number - 1), at(ms).wire());
                    there.large();
                    there.probe(probes as u16);
                }
                continue;
            }
            there.datagram(at(ms), PacketNumber(number - 1), at(ms).wire());
            there.probes_told(probes as u16);
            if number % 10 == 7 {
                let told = there.heartbeat(at(ms), true, 0);
                here.heartbeat(at(ms), &told, probes);
                assert_eq!((there.loss_ppm(), here.loss_ppm()), (0, 0), "at {ms} ms");
                let sizes = told.sizes.expect("said");
                assert_eq!((u32::from(sizes.probes_received), sizes.large_received), (probes / 2, 0));
            }
        }
    }

    #[test]
    fn moments_in_which_a_host_was_busy_do_not_lengthen_the_path_and_a_queue_that_stands_does() {
        let mut feedback = Feedback::new(at(0));
        let ms = Duration::from_millis;
        for beat in 0..90_u64 {
            // Two in three waited for somebody.
            let waited = if beat % 3 == 0 { 0 } else { 10 + 7 * (beat % 5) };
            feedback.round_trip(at(33 * beat), ms(20 + waited));
            if beat > 0 {
                assert_eq!(feedback.rtt_calm(), Some(ms(20)), "beat {beat}");
            }
        }
        assert!(feedback.rtt() > Some(ms(30)), "{:?}", feedback.rtt());
        let after = (90..140_u64).find(|beat| {
            feedback.round_trip(at(33 * beat), ms(60));
            feedback.rtt_calm() == Some(ms(60))
        });
        assert!(after.is_some_and(|beat| 33 * (beat - 90) <= 1_100), "{after:?}");
        assert_eq!(feedback.rtt_min(), Some(ms(20)));
    }

    #[test]
    fn an_idle_link_is_judged_by_several_samples() {
        let mut feedback = Feedback::new(at(0));
        let ms = Duration::from_millis;
        for second in 0..40_u64 {
            feedback.round_trip(at(1_000 * second), ms(if second % 4 == 0 { 20 } else { 45 }));
            assert_eq!(feedback.rtt_calm(), Some(ms(20)), "after {second} s");
        }
    }

    #[test]
    fn reordering_is_no_loss() {
        let mut reception = Reception::new();
        for pair in 0..500 {
            for number in [2 * pair + 1, 2 * pair] {
                reception.datagram(at(pair), PacketNumber(number), at(pair).wire());
            }
        }
        assert_eq!(reception.loss_ppm(), 0);
    }

    #[test]
    fn jitter_is_the_change_of_spacing() {
        let mut reception = Reception::new();
        for i in 0..1000 {
            let late = if i % 2 == 0 { 0 } else { 4 };
            reception.datagram(at(20 * i + late), PacketNumber(i), at(20 * i).wire());
        }
        let jitter_us = reception.jitter().as_micros();
        assert!((3_900..=4_000).contains(&jitter_us), "{jitter_us}");
    }
}
