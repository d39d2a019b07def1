//! One direction of a link at work.

use crate::loss::LossState;
use crate::{LinkSpec, Seed, Xoshiro256};
use std::time::Duration;

/// What becomes of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It comes out.
    Delivered {
        /// When.
        at: Duration,
        /// When a second copy does, if one was made; not before the first.
        copy_at: Option<Duration>,
    },
    /// It does not.
    Dropped(DropReason),
}

/// Why a datagram does not come out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DropReason {
    /// The link is down.
    Down,
    /// It would have waited too long.
    QueueFull,
    /// Lost on the wire.
    Lost,
    /// Larger than the path takes.
    TooLarge,
}

/// Least and most time that a reordered datagram falls behind on a link of no delay; the most grows with the delay.
const HELD_BACK_MIN: Duration = Duration::from_millis(1);
const HELD_BACK_MAX: Duration = Duration::from_millis(10);

/// One direction of a link, with what is queued on it.
#[derive(Clone, Debug)]
pub struct Link {
    spec: LinkSpec,
    /// Of each segment, as many as there ever were.
    losses: Vec<LossState>,
    loss_seed: Seed,
    jitter: Xoshiro256,
    reorder: Xoshiro256,
    duplicate: Xoshiro256,
    /// When the last byte accepted so far leaves the queue, in nanoseconds: microseconds are too coarse for fast links.
    queue_empty_ns: u64,
    /// When the last datagram that keeps order comes out.
    last_out: Duration,
}

impl Link {
    /// An idle link.
    pub fn new(spec: LinkSpec, seed: Seed) -> Link {
        let mut link = Link {
            spec,
            losses: Vec::new(),
            loss_seed: seed.child("loss"),
            jitter: seed.child("jitter").stream(),
            reorder: seed.child("reorder").stream(),
            duplicate: seed.child("duplicate").stream(),
            queue_empty_ns: 0,
            last_out: Duration::ZERO,
        };
        link.make_segments();
        link
    }

    fn make_segments(&mut self) {
        while self.losses.len() < usize::from(self.spec.segments) {
            let seed = match self.losses.len() as u64 {
                0 => self.loss_seed,
                further => self.loss_seed.numbered(further),
            };
            self.losses.push(LossState::new(seed));
        }
    }

    /// What it does now.
    pub fn spec(&self) -> &LinkSpec {
        &self.spec
    }

    /// Does something else from now on. What is queued or under way stays so and keeps its time; datagrams that follow
    /// do not overtake it even if the link has become faster.
    pub fn change(&mut self, spec: LinkSpec) {
        for segment in &mut self.losses {
            segment.change(&self.spec.loss, &spec.loss);
        }
        self.spec = spec;
        self.make_segments();
    }

    /// A datagram of so many bytes enters. `now` never goes back.
    #[must_use]
    pub fn offer(&mut self, now: Duration, bytes: usize) -> Fate {
        if self.spec.down {
            return Fate::Dropped(DropReason::Down);
        }
        if self.spec.mtu.is_some_and(|mtu| bytes > usize::from(mtu)) {
            return Fate::Dropped(DropReason::TooLarge);
        }
        let Some(left) = self.queue(now, bytes) else { return Fate::Dropped(DropReason::QueueFull) };
        // What one segment has lost never reaches the next.
        let Link { spec, losses, .. } = self;
        if losses.iter_mut().take(usize::from(spec.segments)).any(|segment| segment.loses(&spec.loss)) {
            return Fate::Dropped(DropReason::Lost);
        }
        let least = left + self.spec.delay;
        let out = least + up_to(&mut self.jitter, self.spec.jitter);
        let copied = self.duplicate.chance(self.spec.duplicate);
        // The copy takes a jitter of its own.
        let copy_out = copied.then(|| least + up_to(&mut self.duplicate, self.spec.jitter));
        if self.reorder.chance(self.spec.reorder) {
            let most = HELD_BACK_MAX.max(self.spec.delay);
            let held_back = HELD_BACK_MIN + up_to(&mut self.reorder, most - HELD_BACK_MIN);
            let at = out.max(self.last_out) + held_back;
            return Fate::Delivered { at, copy_at: copied.then_some(at) };
        }
        let at = out.max(self.last_out);
        let copy_at = copy_out.map(|copy| copy.max(at));
        self.last_out = copy_at.unwrap_or(at);
        Fate::Delivered { at, copy_at }
    }

    /// When the datagram has left the queue, or `None` if the queue is too long for it.
    fn queue(&mut self, now: Duration, bytes: usize) -> Option<Duration> {
        let Some(rate) = self.spec.rate else { return Some(now) };
        let now_ns = nanos(now);
        let begin = self.queue_empty_ns.max(now_ns);
        if begin - now_ns > nanos(self.spec.queue) {
            return None;
        }
        let bits = u128::try_from(bytes).unwrap_or(u128::MAX).saturating_mul(8);
        let takes = bits.saturating_mul(1_000_000_000) / u128::from(rate.bits_per_second());
        self.queue_empty_ns = begin.saturating_add(u64::try_from(takes).unwrap_or(u64::MAX));
        Some(Duration::from_nanos(self.queue_empty_ns))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn up_to(rng: &mut Xoshiro256, most: Duration) -> Duration {
    if most.is_zero() { Duration::ZERO } else { Duration::from_nanos(rng.within(0..=nanos(most))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LinkChange;

    fn link(text: &str, seed: u64) -> Link {
        let spec = LinkSpec::parse(text, &mut |_| unreachable!("no trace")).expect("well-formed");
        Link::new(spec, Seed(seed))
    }

    fn changed(link: &mut Link, text: &str) {
        let change = LinkChange::parse(text, &mut |_| unreachable!("no trace")).expect("well-formed");
        link.change(link.spec().with(&change).expect("fits"));
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn at(fate: Fate) -> Duration {
        match fate {
            Fate::Delivered { at, copy_at: _ } => at,
            Fate::Dropped(reason) => panic!("{reason:?}"),
        }
    }

    #[test]
    fn delay_alone_is_exact() {
        let mut link = link("delay=20ms", 1);
        assert_eq!(link.offer(ms(5), 1_200), Fate::Delivered { at: ms(25), copy_at: None });
    }

    #[test]
    fn a_rate_spreads_a_burst_and_the_queue_drops_its_tail() {
        // 1,250 bytes at 1 Mbit/s take 10 ms; 100 ms of queue hold ten and the one on the wire.
        let mut link = link("rate=1mbit,queue=100ms", 1);
        let fates: Vec<_> = (0..20).map(|_| link.offer(ms(0), 1_250)).collect();
        for (i, fate) in fates[..11].iter().enumerate() {
            assert_eq!(at(*fate), ms(10 * (i as u64 + 1)));
        }
        assert!(fates[11..].iter().all(|fate| *fate == Fate::Dropped(DropReason::QueueFull)));
        assert_eq!(at(link.offer(ms(50), 1_250)), ms(120), "room again after a while");
    }

    #[test]
    fn the_long_run_rate_is_the_asked_one() {
        let mut link = link("rate=10mbit,queue=20ms", 1);
        let (mut bytes, mut last) = (0, Duration::ZERO);
        for i in 0..100_000_u64 {
            if let Fate::Delivered { at, copy_at: _ } = link.offer(Duration::from_micros(i * 100), 997) {
                bytes += 997;
                last = at;
            }
        }
        let rate = bytes as f64 * 8.0 / last.as_secs_f64();
        assert!((rate / 10e6 - 1.0).abs() < 0.001, "{rate}");
    }

    #[test]
    fn jitter_stays_within_bounds_and_keeps_order() {
        let mut link = link("delay=10ms,jitter=8ms", 2);
        let mut before = Duration::ZERO;
        let mut sum = Duration::ZERO;
        for i in 0..2_000 {
            // Far enough apart for jitter never to collide.
            let now = ms(20 * i);
            let out = at(link.offer(now, 100));
            assert!(out >= now + ms(10) && out <= now + ms(18) && out >= before);
            (before, sum) = (out, sum + (out - now));
        }
        let mean_ms = sum.as_secs_f64() * 1e3 / 2_000.0;
        assert!((mean_ms - 14.0).abs() < 0.2, "{mean_ms}");
        for i in 0..2_000 {
            let out = at(link.offer(ms(50_000) + Duration::from_micros(200 * i), 100));
            assert!(out >= before, "datagrams close together keep their order");
            before = out;
        }
    }

    #[test]
    fn reordered_datagrams_fall_behind_and_hold_nobody_back() {
        let mut link = link("delay=10ms,reorder=10%", 3);
        let mut late = 0;
        for i in 0..10_000 {
            let now = ms(i);
            let delay = at(link.offer(now, 100)) - now;
            assert!(delay == ms(10) || (delay > ms(10) && delay <= ms(21)), "{delay:?}");
            late += u32::from(delay > ms(10));
        }
        assert!(late.abs_diff(1_000) < 150, "{late}");
    }

    #[test]
    fn copies_follow_their_original() {
        let mut link = link("delay=1ms,jitter=2ms,duplicate=5%", 4);
        let mut copies = 0;
        for i in 0..20_000 {
            let Fate::Delivered { at, copy_at } = link.offer(ms(10 * i), 100) else {
                panic!("no loss asked for")
            };
            copies += u32::from(copy_at.is_some());
            assert!(copy_at.is_none_or(|copy| copy >= at));
        }
        assert!(copies.abs_diff(1_000) < 150, "{copies}");
    }

    #[test]
    fn down_loses_what_comes_and_keeps_what_is_under_way() {
        let mut link = link("delay=50ms", 1);
        assert_eq!(at(link.offer(ms(0), 100)), ms(50));
        changed(&mut link, "down");
        assert_eq!(link.offer(ms(1), 100), Fate::Dropped(DropReason::Down));
        changed(&mut link, "down=false");
        assert_eq!(at(link.offer(ms(2), 100)), ms(52));
    }

    #[test]
    fn datagrams_larger_than_the_path_vanish() {
        let mut link = link("delay=5ms,mtu=1252", 1);
        assert_eq!(at(link.offer(ms(0), 1_252)), ms(5));
        assert_eq!(link.offer(ms(0), 1_253), Fate::Dropped(DropReason::TooLarge));
        changed(&mut link, "mtu=unlimited");
        assert_eq!(at(link.offer(ms(1), 9_000)), ms(6));
    }

    #[test]
    fn a_change_keeps_the_queue_and_the_order() {
        let mut link = link("delay=50ms,rate=1mbit,queue=1s", 1);
        for _ in 0..10 {
            let _ = link.offer(ms(0), 1_250);
        }
        changed(&mut link, "delay=1ms,rate=10mbit");
        assert_eq!(at(link.offer(ms(0), 1_250)), ms(150), "behind the ten before it");
        assert_eq!(at(link.offer(ms(200), 1_250)), ms(202));
    }

    #[test]
    fn segments_lose_one_after_the_other_and_apart() {
        let lost = |text: &str| -> Vec<bool> {
            let mut link = link(text, 9);
            (0..100_000).map(|i| link.offer(ms(i), 100) == Fate::Dropped(DropReason::Lost)).collect()
        };
        let (one, three) = (lost("loss=10%"), lost("loss=10%,segments=3"));
        assert!(one.iter().zip(&three).all(|(one, three)| *three || !one), "the first is as it was alone");
        let share = three.iter().filter(|lost| **lost).count() as f64 / 100_000.0;
        assert!((share - (1.0 - 0.9_f64.powi(3))).abs() < 0.005, "{share}");
        let mut link = link("loss=100%", 9);
        changed(&mut link, "loss=0%,segments=2");
        assert_eq!(at(link.offer(ms(0), 100)), ms(0));
    }

    #[test]
    fn jitter_does_not_change_which_datagrams_are_lost() {
        let lost = |text: &str| -> Vec<bool> {
            let mut link = link(text, 9);
            (0..1_000).map(|i| link.offer(ms(i), 100) == Fate::Dropped(DropReason::Lost)).collect()
        };
        assert_eq!(lost("loss=5%"), lost("loss=5%,jitter=5ms,reorder=5%,duplicate=5%"));
    }
}
