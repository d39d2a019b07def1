//! How fast something may come: packets and bytes, each by a token bucket of its own.
//!
//! A bucket is kept as the moment at which it will be full again (the theoretical arrival time of the generic cell rate
//! algorithm, ITU-T I.371): a packet moves it by its price, and is refused if that is more than a burst ahead of now. Two
//! additions and two comparisons, no division, and nothing to refill.

use std::time::Duration;
use wire_format::Timestamp;

/// Parts of a microsecond, the unit of prices: a byte at 100 Gbit/s costs some of them still.
const PARTS_LOG2: u32 = 16;
/// How much may come at once, as time at the rate.
const BURST: Duration = Duration::from_millis(250);
const BURST_PARTS: u64 = (BURST.as_micros() as u64) << PARTS_LOG2;

/// A bound of packets and of bits per second. As much as 250 ms at that rate may come at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RateLimit {
    packet_price: u64,
    byte_price: u64,
}

impl RateLimit {
    /// Packets per second that can be asked for; fewer are taken for this many.
    pub const PACKETS_PER_S_MIN: u64 = 10;
    /// Bits per second that can be asked for; fewer are taken for this many. A burst then still holds a datagram.
    pub const BITS_PER_S_MIN: u64 = 100_000;
    /// Fastest rate that can be told from none.
    pub const BITS_PER_S_MAX: u64 = 100_000_000_000;
    /// No bound.
    pub const NONE: RateLimit = RateLimit { packet_price: 0, byte_price: 0 };

    /// So many packets and bits per second; `None` for as many as there are.
    pub fn new(packets_per_s: Option<u64>, bits_per_s: Option<u64>) -> RateLimit {
        let second = 1_000_000 << PARTS_LOG2;
        let packet_price = packets_per_s.map_or(0, |packets| second / packets.max(Self::PACKETS_PER_S_MIN));
        let byte_price =
            bits_per_s.map_or(0, |bits| 8 * second / bits.clamp(Self::BITS_PER_S_MIN, Self::BITS_PER_S_MAX));
        RateLimit { packet_price, byte_price }
    }

    /// What a packet and a byte take of the time, in parts that only [`RateLimit::of_prices`] knows.
    pub fn prices(&self) -> (u64, u64) {
        (self.packet_price, self.byte_price)
    }

    /// The limit that has these prices; such as no limit has are taken for the dearest.
    pub fn of_prices(packet_price: u64, byte_price: u64) -> RateLimit {
        let dearest = RateLimit::new(Some(0), Some(0));
        RateLimit {
            packet_price: packet_price.min(dearest.packet_price),
            byte_price: byte_price.min(dearest.byte_price),
        }
    }
}

/// What came of late, measured by a [`RateLimit`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RateMeter {
    packets_due: u64,
    bytes_due: u64,
}

impl RateMeter {
    /// Whether a packet of so many bytes may still come. One that may not leaves no trace.
    pub fn admit(&mut self, limit: &RateLimit, now: Timestamp, bytes: usize) -> bool {
        let now = now.as_micros().saturating_mul(1 << PARTS_LOG2);
        let packets_due = self.packets_due.max(now).saturating_add(limit.packet_price);
        let bytes_due = self.bytes_due.max(now).saturating_add(limit.byte_price * bytes as u64);
        let admitted = packets_due.max(bytes_due) - now <= BURST_PARTS;
        if admitted {
            *self = RateMeter { packets_due, bytes_due };
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of the packets that come at `offered` per second for ten seconds are admitted.
    fn admitted(limit: &RateLimit, offered: u64, bytes: usize) -> u64 {
        let mut meter = RateMeter::default();
        let at = |number: u64| Timestamp::from_micros(7_000_000 + number * 1_000_000 / offered);
        (0..10 * offered).filter(|number| meter.admit(limit, at(*number), bytes)).count() as u64
    }

    #[test]
    fn a_rate_within_the_limit_is_admitted_whole() {
        let limit = RateLimit::new(Some(5_000), Some(48_000_000));
        assert_eq!(admitted(&limit, 5_000, 1_200), 50_000);
        assert_eq!(admitted(&RateLimit::NONE, 100_000, 1_472), 1_000_000);
    }

    #[test]
    fn ten_times_the_rate_is_admitted_once_and_a_burst() {
        // Ten seconds and a quarter of one; what a price is rounded down by is less than a packet in a thousand.
        let packets = admitted(&RateLimit::new(Some(5_000), None), 50_000, 100);
        assert!((51_240..51_300).contains(&packets), "{packets}");
        // 4,000 packets of 1,250 bytes are 40 Mbit.
        let bytes = admitted(&RateLimit::new(None, Some(40_000_000)), 40_000, 1_250);
        assert!((40_990..41_050).contains(&bytes), "{bytes}");
    }

    #[test]
    fn the_tighter_of_both_bounds_counts() {
        let few_large = admitted(&RateLimit::new(Some(10_000), Some(8_000_000)), 10_000, 1_000);
        assert!((10_240..10_300).contains(&few_large), "{few_large}");
        let many_small = admitted(&RateLimit::new(Some(1_000), Some(800_000_000)), 10_000, 100);
        assert!((10_240..10_300).contains(&many_small), "{many_small}");
    }

    #[test]
    fn silence_is_not_saved_up_beyond_a_burst() {
        let limit = RateLimit::new(Some(1_000), None);
        let mut meter = RateMeter::default();
        let mut at_once = |now| (0..10_000).filter(|_| meter.admit(&limit, now, 100)).count();
        assert_eq!(at_once(Timestamp::from_micros(1_000_000)), 250);
        assert_eq!(at_once(Timestamp::from_micros(1_000_000)), 0);
        assert_eq!(at_once(Timestamp::from_micros(3_600_000_000)), 250, "an hour later");
    }

    #[test]
    fn extremes_neither_panic_nor_stop_everything() {
        let slowest = RateLimit::new(Some(0), Some(0));
        let mut meter = RateMeter::default();
        assert!(meter.admit(&slowest, Timestamp::ZERO, wire_format::DATAGRAM_BYTES_MAX));
        let fastest = RateLimit::new(Some(u64::MAX), Some(u64::MAX));
        let end = Timestamp::from_micros(u64::MAX);
        assert!(meter.admit(&fastest, end, 65_535) && meter.admit(&slowest, end, 65_535));
    }
}
