//! What each namespace publishes and is delivered here, and how fast it may.
//!
//! A namespace is found by its name when a row of the stream table is made, and has a number from then on: a packet costs
//! an index, an addition and, where there is a limit, a multiplication. Numbers are never taken back; namespaces beyond
//! their bound share one, whose name is empty and whose rate is the default's.
//!
//! The limit is a token bucket in whole numbers. Its content is counted in millionths of a bit, so that a microsecond's
//! worth of any rate is a whole number of them, and it holds a quarter of a second's worth: a keyframe's burst passes.

use std::collections::BTreeMap;
use std::time::Duration;
use wire_format::Timestamp;
use wire_format::control::{NamespaceRates, NamespaceUsage, limits};

/// What a bucket holds at most, as time at its rate.
const BURST: Duration = Duration::from_millis(250);
/// And at least, so that a slow namespace can send its largest packet: its bits.
const BURST_BITS_MIN: u64 = 8 * 4 * wire_format::RTP_BYTES_MAX as u64;
/// Fastest rate that can be told from none: a terabit per second.
const BIT_RATE_MAX: u64 = 1_000_000_000_000;
/// Parts of a bit.
const PARTS: u64 = 1_000_000;

/// A namespace's number at this relay.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct TenantId(u16);

#[derive(Clone, Debug, Default)]
struct Tenant {
    bucket: Option<Bucket>,
    usage: NamespaceUsage,
    reported: NamespaceUsage,
}

/// Namespaces of this relay.
#[derive(Debug)]
pub(crate) struct Tenants {
    /// The first is everybody beyond the bound.
    rows: Vec<Tenant>,
    numbers: BTreeMap<String, TenantId>,
    rates: NamespaceRates,
}

impl Tenants {
    pub(crate) fn new() -> Tenants {
        Tenants { rows: vec![Tenant::default()], numbers: BTreeMap::new(), rates: NamespaceRates::default() }
    }

    /// The number of a namespace.
    pub(crate) fn number(&mut self, namespace: &str) -> TenantId {
        if let Some(number) = self.numbers.get(namespace) {
            return *number;
        }
        if self.rows.len() >= limits::NAMESPACES {
            return TenantId::default();
        }
        let number = TenantId(u16::try_from(self.rows.len()).expect("fewer than the bound"));
        let usage = NamespaceUsage { namespace: namespace.to_owned(), ..NamespaceUsage::default() };
        self.rows.push(Tenant { bucket: self.bucket(namespace), reported: usage.clone(), usage });
        self.numbers.insert(namespace.to_owned(), number);
        number
    }

    /// Takes the rates that the controller says. Buckets whose rate stays keep what they hold.
    pub(crate) fn set_rates(&mut self, rates: NamespaceRates) {
        self.rates = rates;
        for at in 0..self.rows.len() {
            let bucket = self.bucket(&self.rows[at].usage.namespace);
            let same =
                |known: &Bucket| bucket.as_ref().is_some_and(|bucket| bucket.bit_rate == known.bit_rate);
            if !self.rows[at].bucket.as_ref().is_some_and(same) {
                self.rows[at].bucket = bucket;
            }
        }
    }

    /// A publisher's packet that somebody wants. `false` if the namespace sends faster than it may.
    pub(crate) fn admit(&mut self, now: Timestamp, number: TenantId, bytes: usize) -> bool {
        let Some(tenant) = self.rows.get_mut(usize::from(number.0)) else { return true };
        if tenant.bucket.as_mut().is_some_and(|bucket| !bucket.take(now, bytes)) {
            tenant.usage.packets_over_rate += 1;
            return false;
        }
        tenant.usage.packets_in += 1;
        tenant.usage.bytes_in += bytes as u64;
        true
    }

    /// A packet was handed to so many subscribers.
    pub(crate) fn delivered(&mut self, number: TenantId, copies: usize, bytes: usize) {
        if let Some(tenant) = self.rows.get_mut(usize::from(number.0)) {
            tenant.usage.packets_out += copies as u64;
            tenant.usage.bytes_out += (copies * bytes) as u64;
        }
    }

    /// What changed since this was last called.
    pub(crate) fn report(&mut self) -> Vec<NamespaceUsage> {
        let changed = self.rows.iter_mut().filter(|tenant| tenant.usage != tenant.reported);
        changed
            .map(|tenant| {
                tenant.reported = tenant.usage.clone();
                tenant.usage.clone()
            })
            .collect()
    }

    /// A session with the controller begins: it is told everything again.
    pub(crate) fn report_all_again(&mut self) {
        for tenant in &mut self.rows {
            let namespace = tenant.usage.namespace.clone();
            tenant.reported = NamespaceUsage { namespace, ..NamespaceUsage::default() };
        }
    }

    /// All that used something.
    pub(crate) fn usage(&self) -> Vec<NamespaceUsage> {
        let nothing = |usage: &NamespaceUsage| {
            usage.packets_in == 0 && usage.packets_out == 0 && usage.packets_over_rate == 0
        };
        self.rows.iter().map(|tenant| &tenant.usage).filter(|usage| !nothing(usage)).cloned().collect()
    }

    fn bucket(&self, namespace: &str) -> Option<Bucket> {
        let named = self.rates.named.iter().find(|(name, _)| name == namespace);
        named.map_or(self.rates.default, |(_, rate)| *rate).map(Bucket::new)
    }
}

/// Bits that may be sent, refilled at a rate.
#[derive(Clone, Debug)]
struct Bucket {
    bit_rate: u64,
    /// Millionths of a bit.
    content: u64,
    content_max: u64,
    filled_at: Timestamp,
}

impl Bucket {
    fn new(bit_rate: u64) -> Bucket {
        let bit_rate = bit_rate.min(BIT_RATE_MAX);
        let burst = bit_rate * u64::try_from(BURST.as_micros()).expect("a quarter of a second");
        let content_max = burst.max(BURST_BITS_MIN * PARTS);
        Bucket { bit_rate, content: content_max, content_max, filled_at: Timestamp::ZERO }
    }

    fn take(&mut self, now: Timestamp, bytes: usize) -> bool {
        let passed = u64::try_from(now.since(self.filled_at).as_micros()).unwrap_or(u64::MAX);
        self.filled_at = now;
        self.content =
            self.content.saturating_add(passed.saturating_mul(self.bit_rate)).min(self.content_max);
        let price = 8 * PARTS * bytes as u64;
        let enough = self.content >= price;
        if enough {
            self.content -= price;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(default: Option<u64>, named: &[(&str, Option<u64>)]) -> NamespaceRates {
        NamespaceRates {
            default,
            named: named.iter().map(|(name, rate)| ((*name).to_owned(), *rate)).collect(),
        }
    }

    /// Bytes that pass of what is offered evenly for some seconds, in packets of 1,000 bytes, in bits per second.
    fn passed(tenants: &mut Tenants, namespace: &str, offered_bits_per_s: u64, seconds: u64) -> u64 {
        let number = tenants.number(namespace);
        let every_us = 8_000 * 1_000_000 / offered_bits_per_s;
        let start = 1_000_000_000;
        let times = (0..seconds * 1_000_000 / every_us).map(|turn| start + turn * every_us);
        times.filter(|us| tenants.admit(Timestamp::from_micros(*us), number, 1_000)).count() as u64 * 8_000
            / seconds
    }

    #[test]
    fn a_namespace_gets_its_rate_and_others_theirs() {
        let mut tenants = Tenants::new();
        tenants.set_rates(rates(Some(1_000_000), &[("fast", Some(8_000_000)), ("free", None)]));
        for (name, rate) in [("fast", 8_000_000), ("other", 1_000_000)] {
            let got = passed(&mut tenants, name, 16_000_000, 20);
            assert!(got.abs_diff(rate) <= rate / 50, "{name}: {got} bit/s");
        }
        assert_eq!(passed(&mut tenants, "free", 16_000_000, 20), 16_000_000);
        let usage = tenants.usage();
        assert_eq!(
            usage.iter().map(|usage| usage.namespace.as_str()).collect::<Vec<_>>(),
            ["fast", "other", "free"]
        );
        assert!(usage[0].packets_over_rate > 0 && usage[2].packets_over_rate == 0);
        assert_eq!(usage[0].packets_in + usage[0].packets_over_rate, 40_000);
    }

    #[test]
    fn whoever_keeps_below_the_rate_loses_nothing_and_the_slowest_can_send_at_all() {
        let mut tenants = Tenants::new();
        tenants.set_rates(rates(Some(1_000_000), &[("slow", Some(1))]));
        passed(&mut tenants, "even", 990_000, 30);
        assert!(tenants.usage().iter().all(|usage| usage.packets_over_rate == 0), "{:?}", tenants.usage());
        let number = tenants.number("slow");
        let now = Timestamp::from_micros(5);
        assert!(tenants.admit(now, number, wire_format::RTP_BYTES_MAX));
        assert_eq!((0..100).filter(|_| tenants.admit(now, number, wire_format::RTP_BYTES_MAX)).count(), 3);
    }

    #[test]
    fn rates_change_while_packets_flow_and_equal_ones_change_nothing() {
        let mut tenants = Tenants::new();
        tenants.set_rates(rates(Some(1_000_000), &[]));
        passed(&mut tenants, "a", 16_000_000, 1);
        let content = tenants.rows[1].bucket.as_ref().expect("limited").content;
        tenants.set_rates(rates(Some(1_000_000), &[("b", None)]));
        assert_eq!(tenants.rows[1].bucket.as_ref().expect("limited").content, content);
        tenants.set_rates(NamespaceRates::default());
        assert!(tenants.rows.iter().all(|tenant| tenant.bucket.is_none()));
    }

    #[test]
    fn namespaces_beyond_the_bound_share_a_number() {
        let mut tenants = Tenants::new();
        let numbers: Vec<TenantId> =
            (0..2 * limits::NAMESPACES).map(|n| tenants.number(&n.to_string())).collect();
        assert_eq!(tenants.rows.len(), limits::NAMESPACES);
        assert_eq!(numbers[limits::NAMESPACES - 2], TenantId(limits::NAMESPACES as u16 - 1));
        assert!(numbers[limits::NAMESPACES - 1..].iter().all(|number| *number == TenantId(0)));
        assert_eq!(tenants.number("7"), numbers[7]);
    }

    #[test]
    fn a_report_says_what_changed_and_a_session_begins_with_everything() {
        let mut tenants = Tenants::new();
        let (a, b) = (tenants.number("a"), tenants.number("b"));
        assert_eq!(tenants.report(), []);
        tenants.admit(Timestamp::ZERO, a, 100);
        tenants.delivered(b, 3, 200);
        let report = tenants.report();
        assert_eq!(report.len(), 2);
        assert_eq!((report[0].packets_in, report[0].bytes_in, report[0].packets_out), (1, 100, 0));
        assert_eq!((report[1].packets_in, report[1].packets_out, report[1].bytes_out), (0, 3, 600));
        assert_eq!(tenants.report(), []);
        tenants.report_all_again();
        assert_eq!(tenants.report(), report);
    }
}
