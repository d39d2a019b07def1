//! What repair does on the links that carry the media, and what it costs, read off the relays as the run goes on.

use crate::dev::overlay::Overlay;
use crate::dev::report::{Quantiles, RepairSummary};
use relay_core::{LateHistogram, LinkId, PeerView, RepairStats};
use std::collections::BTreeMap;
use std::time::Duration;

/// One end of one lane of a link: relay, counted from 0, its worker, and the link.
type End = (usize, usize, LinkId);

/// Follows the ends of all links between relays, those that are made anew and those of relays that are killed as well:
/// what they did until the last look counts.
#[derive(Debug, Default)]
pub(crate) struct RepairWatch {
    ends: BTreeMap<End, Seen>,
    begun: bool,
}

#[derive(Debug)]
struct Seen {
    link: (usize, usize),
    first: RepairStats,
    last: RepairStats,
}

impl RepairWatch {
    /// Looks at every relay that runs. The first look is the beginning: what was before does not count.
    pub(crate) async fn look(&mut self, overlay: &Overlay) {
        let numbers: BTreeMap<_, _> =
            (0..overlay.len()).filter_map(|relay| Some((overlay.relay(relay)?.node(), relay))).collect();
        for (relay, node) in (0..overlay.len()).filter_map(|relay| Some((relay, overlay.relay(relay)?))) {
            // A port that is closed has nothing more to tell.
            let workers = node.port().inspect_each(|relay, _| relay.link_views()).await;
            for (worker, links) in workers.unwrap_or_default().into_iter().enumerate() {
                for link in links {
                    let PeerView::Relay { node: peer } = link.peer else { continue };
                    let Some(peer) = numbers.get(&peer) else { continue };
                    let between = (relay.min(*peer), relay.max(*peer));
                    self.note((relay, worker, link.link), between, link.stats.repair);
                }
            }
        }
        self.begun = true;
    }

    fn note(&mut self, end: End, link: (usize, usize), stats: RepairStats) {
        let first = if self.begun { RepairStats::default() } else { stats.clone() };
        let seen = self.ends.entry(end).or_insert(Seen { link, first, last: RepairStats::default() });
        seen.last = stats;
    }

    /// Bytes of datagrams sent for the first time since the beginning, on all links between relays.
    pub(crate) fn first_bytes(&self) -> u64 {
        let since = |seen: &Seen| seen.last.first_bytes.saturating_sub(seen.first.first_bytes);
        self.ends.values().map(since).sum()
    }

    /// Over both directions of the links that carried media since the beginning.
    pub(crate) fn summary(&self) -> RepairSummary {
        let since = |count: fn(&RepairStats) -> u64| {
            move |seen: &Seen| count(&seen.last).saturating_sub(count(&seen.first))
        };
        let first_bytes = since(|stats| stats.first_bytes);
        let carried =
            |link: (usize, usize)| self.ends.values().any(|seen| seen.link == link && first_bytes(seen) > 0);
        let ends: Vec<_> = self.ends.values().filter(|seen| carried(seen.link)).collect();
        let sum =
            |count: fn(&RepairStats) -> u64| -> u64 { ends.iter().map(|seen| since(count)(seen)).sum() };
        let mut late = LateHistogram::default();
        ends.iter().for_each(|seen| late.add(&seen.last.recovered_late));
        let overhead = sum(RepairStats::overhead_bytes) as f64 / sum(|stats| stats.first_bytes).max(1) as f64;
        RepairSummary {
            // A thousandth of a percent is more than can be measured.
            overhead_pct: (overhead * 1e5).round() / 1e3,
            retransmitted: sum(|stats| stats.retransmitted),
            parity: sum(|stats| stats.parity),
            recovered: sum(|stats| stats.recovered_again + stats.recovered_parity),
            recovered_late_us: Quantiles {
                p50: micros(late.percentile(50)),
                p99: micros(late.percentile(99)),
                max: micros(late.max()),
            },
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(first_bytes: u64, feedback_bytes: u64, again: u64, late_ms: &[u64]) -> RepairStats {
        let mut stats = RepairStats {
            first_bytes,
            feedback_bytes,
            retransmitted: again,
            retransmitted_bytes: 1_000 * again,
            recovered_again: late_ms.len() as u64,
            ..RepairStats::default()
        };
        late_ms.iter().for_each(|ms| stats.recovered_late.record(Duration::from_millis(*ms)));
        stats
    }

    #[test]
    fn both_ends_of_links_with_media_count_from_the_first_look_on() {
        let mut watch = RepairWatch::default();
        watch.note((0, 0, LinkId(1)), (0, 1), stats(50_000, 900, 3, &[]));
        watch.note((1, 0, LinkId(1)), (0, 1), stats(0, 900, 0, &[]));
        watch.note((0, 0, LinkId(2)), (0, 2), stats(0, 900, 0, &[]));
        watch.begun = true;
        watch.note((0, 0, LinkId(1)), (0, 1), stats(150_000, 1_900, 4, &[]));
        watch.note((1, 0, LinkId(1)), (0, 1), stats(0, 1_900, 0, &[20, 40]));
        watch.note((0, 0, LinkId(2)), (0, 2), stats(0, 99_900, 0, &[]));
        // Made anew: it begins at nothing, and what its predecessor did stays.
        watch.note((0, 0, LinkId(3)), (0, 1), stats(100_000, 500, 0, &[]));
        let summary = watch.summary();
        assert_eq!(summary.overhead_pct, (1_000.0 + 2_000.0 + 500.0) * 100.0 / 200_000.0);
        assert_eq!((summary.retransmitted, summary.parity, summary.recovered), (1, 0, 2));
        assert_eq!(summary.recovered_late_us.max, 40_000);
    }

    #[test]
    fn nothing_seen_is_nothing() {
        assert_eq!(RepairWatch::default().summary(), RepairSummary::default());
    }
}
