//! What a run has shown: the JSON that scripts read, and a few lines for people.

use serde::Serialize;

/// The outcome of a run. Its fields and their order are an interface.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Summary {
    /// Relays that were started.
    pub relays: usize,
    /// Relays that the video crossed at the end, ingress first.
    pub path: Vec<String>,
    /// Streams that were published.
    pub streams: usize,
    /// Packets sent, of each stream from its first delivery on.
    pub sent: u64,
    /// Packets that arrived intact.
    pub delivered: u64,
    /// Packets that did not.
    pub lost: u64,
    /// Copies delivered beyond the first.
    pub duplicated: u64,
    /// Packets delivered after one that was sent later.
    pub reordered: u64,
    /// Deliveries whose bytes differ from what was sent.
    pub corrupted: u64,
    /// From publishing to delivery, microseconds.
    pub latency_us: Quantiles,
    /// Longest silence of any stream from its first delivery to the end of sending, milliseconds.
    pub gap_ms: u64,
    /// Packets lost or later than their budget, over packets sent.
    pub residual_loss: f64,
    /// What repair did between relays.
    pub repair: RepairSummary,
    /// How the control plane did.
    pub control: ControlSummary,
    /// What `--protect` did; absent without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protection: Option<ProtectionSummary>,
}

/// What 1+1 protection did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct ProtectionSummary {
    /// Streams that go two disjoint ways at the end, wherever they are wanted.
    pub streams: usize,
    /// Packets that left their ingress twice.
    pub second_copies: u64,
    /// Packets that left it once, because no two ways were apart.
    pub single_copies: u64,
}

/// A distribution, in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Quantiles {
    /// Median.
    pub p50: u64,
    /// What 99 of 100 do not exceed.
    pub p99: u64,
    /// The largest.
    pub max: u64,
}

/// What repair did on the links between relays that carried media, both directions.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct RepairSummary {
    /// Bytes of retransmissions, parity, requests, feedback and probes, percent of the bytes of datagrams sent for the
    /// first time.
    pub overhead_pct: f64,
    /// Datagrams sent again.
    pub retransmitted: u64,
    /// Datagrams of parity sent.
    pub parity: u64,
    /// Datagrams restored.
    pub recovered: u64,
    /// How much later than usual these came, microseconds.
    pub recovered_late_us: Quantiles,
}

/// How the control plane did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct ControlSummary {
    /// From subscribing to the first announcement of a stream at the subscriber, milliseconds.
    pub join_ms: u64,
    /// From subscribing to the first packet of any stream, milliseconds.
    pub first_packet_ms: u64,
    /// Epochs that were stamped from the first delivery to the end, the one in force at first included.
    pub epochs: u64,
    /// Times that the video's path changed since the first delivery.
    pub path_changes: u64,
}

impl Summary {
    /// The last line of `--json`.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a struct of numbers and texts is always JSON")
    }

    /// The same for people.
    pub fn to_text(&self) -> String {
        let ms = |us: u64| format!("{}.{:01} ms", us / 1_000, us % 1_000 / 100);
        let Quantiles { p50, p99, max } = self.latency_us;
        let late = self.repair.recovered_late_us;
        let protection = self.protection.map_or(String::new(), |protection| {
            let ProtectionSummary { streams, second_copies, single_copies } = protection;
            format!(
                "protection {streams} streams go two disjoint ways; {second_copies} packets sent twice, {single_copies} once\n"
            )
        });
        let text = format!(
            "path       {}\n\
             packets    {} sent, {} delivered, {} lost, {} duplicated, {} reordered, {} corrupted\n\
             latency    p50 {}, p99 {}, max {}\n\
             gap        {} ms at most\n\
             residual   {:.4}% of packets lost or later than their budget\n\
             repair     {} datagrams sent again, {} of parity, {} restored ({} later at p50, {} at most); overhead {:.2}%\n\
             joining    announced after {} ms, first packet after {} ms\n\
             routes     {} epochs, {} path changes\n",
            self.path.join(" > "),
            self.sent,
            self.delivered,
            self.lost,
            self.duplicated,
            self.reordered,
            self.corrupted,
            ms(p50),
            ms(p99),
            ms(max),
            self.gap_ms,
            self.residual_loss * 100.0,
            self.repair.retransmitted,
            self.repair.parity,
            self.repair.recovered,
            ms(late.p50),
            ms(late.max),
            self.repair.overhead_pct,
            self.control.join_ms,
            self.control.first_packet_ms,
            self.control.epochs,
            self.control.path_changes,
        );
        text + &protection
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_read_these_keys() {
        let summary = Summary {
            relays: 4,
            path: ["r1", "r2", "r4"].map(str::to_owned).to_vec(),
            streams: 2,
            sent: 10,
            delivered: 9,
            lost: 1,
            duplicated: 0,
            reordered: 0,
            corrupted: 0,
            latency_us: Quantiles { p50: 1, p99: 2, max: 3 },
            gap_ms: 33,
            residual_loss: 0.1,
            repair: RepairSummary {
                overhead_pct: 1.25,
                retransmitted: 8,
                parity: 9,
                recovered: 10,
                recovered_late_us: Quantiles { p50: 11, p99: 12, max: 13 },
            },
            control: ControlSummary { join_ms: 4, first_packet_ms: 5, epochs: 6, path_changes: 7 },
            protection: None,
        };
        let expected = r#"{"relays":4,"path":["r1","r2","r4"],"streams":2,"sent":10,"delivered":9,"lost":1,"duplicated":0,"reordered":0,"corrupted":0,"latency_us":{"p50":1,"p99":2,"max":3},"gap_ms":33,"residual_loss":0.1,"repair":{"overhead_pct":1.25,"retransmitted":8,"parity":9,"recovered":10,"recovered_late_us":{"p50":11,"p99":12,"max":13}},"control":{"join_ms":4,"first_packet_ms":5,"epochs":6,"path_changes":7}}"#;
        assert_eq!(summary.to_json(), expected);
        let protection = ProtectionSummary { streams: 2, second_copies: 10, single_copies: 0 };
        let protected = Summary { protection: Some(protection), ..summary };
        let end = r#","protection":{"streams":2,"second_copies":10,"single_copies":0}}"#;
        let start = expected.strip_suffix('}').expect("an object");
        assert_eq!(protected.to_json(), format!("{start}{end}"));
    }
}
