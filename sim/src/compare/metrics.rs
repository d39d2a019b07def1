//! What is read of a run.

use crate::measure::{Figures, Histogram, LinkLoad};
use std::time::Duration;

/// What one would like a figure to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// Small.
    Less,
    /// It is neither good nor bad.
    Neither,
}

/// A figure of a run.
#[derive(Debug)]
pub struct Metric {
    /// For programs.
    pub key: &'static str,
    /// For people.
    pub name: &'static str,
    /// For people.
    pub unit: &'static str,
    /// Digits behind the point.
    pub digits: usize,
    /// What one would like it to be.
    pub wish: Wish,
    /// Left out where there is little room.
    pub detail: bool,
    /// `None` where there is none.
    pub of: fn(&Figures) -> Option<f64>,
}

const LESS: Metric =
    Metric { key: "", name: "", unit: "", digits: 2, wish: Wish::Less, detail: false, of: |_| None };
const DETAIL: Metric = Metric { detail: true, ..LESS };

/// All of them.
pub const METRICS: &[Metric] = &[
    Metric {
        key: "delay_p50_ms",
        name: "delay, median",
        unit: "ms",
        digits: 1,
        of: |run| at(&run.delay(), 0.5),
        ..LESS
    },
    Metric {
        key: "delay_p95_ms",
        name: "delay, 95th percentile",
        unit: "ms",
        digits: 1,
        of: |run| at(&run.delay(), 0.95),
        ..LESS
    },
    Metric {
        key: "audio_delay_p50_ms",
        name: "delay of audio, median",
        unit: "ms",
        digits: 1,
        of: |run| at(&run.audio_delay, 0.5),
        ..DETAIL
    },
    Metric {
        key: "audio_delay_p95_ms",
        name: "delay of audio, 95th percentile",
        unit: "ms",
        digits: 1,
        of: |run| at(&run.audio_delay, 0.95),
        ..DETAIL
    },
    Metric {
        key: "video_delay_p50_ms",
        name: "delay of video, median",
        unit: "ms",
        digits: 1,
        of: |run| at(&run.video_delay, 0.5),
        ..DETAIL
    },
    Metric {
        key: "video_delay_p95_ms",
        name: "delay of video, 95th percentile",
        unit: "ms",
        digits: 1,
        of: |run| at(&run.video_delay, 0.95),
        ..DETAIL
    },
    Metric {
        key: "lost_pct",
        name: "residual loss",
        unit: "%",
        digits: 4,
        of: |run| percent(run.lost, run.due),
        ..LESS
    },
    Metric {
        key: "late_pct",
        name: "late",
        unit: "%",
        digits: 4,
        of: |run| percent(run.late, run.due),
        ..LESS
    },
    Metric { key: "stalls_per_min", name: "stalls", unit: "a minute", digits: 3, of: stalls_per_min, ..LESS },
    Metric {
        key: "stalled_pct",
        name: "time stalled",
        unit: "%",
        digits: 3,
        of: |run| {
            let playback = run.playback();
            share(playback.stalled.as_secs_f64() * 100.0, playback.played.as_secs_f64())
        },
        ..LESS
    },
    Metric {
        key: "silence_max_ms",
        name: "longest silence",
        unit: "ms",
        digits: 0,
        of: |run| (run.due > 0).then(|| ms(run.silences.longest())),
        ..LESS
    },
    Metric {
        key: "failover_p50_ms",
        name: "failover, median",
        unit: "ms",
        digits: 1,
        of: |run| at(&run.failovers, 0.5),
        ..LESS
    },
    Metric {
        key: "failover_p95_ms",
        name: "failover, 95th percentile",
        unit: "ms",
        digits: 1,
        of: |run| at(&run.failovers, 0.95),
        ..LESS
    },
    Metric {
        key: "repair_pct",
        name: "overhead of repair",
        unit: "%",
        digits: 2,
        of: |run| {
            let load = run.load();
            percent(load.again_bytes + load.parity_bytes, load.media_bytes)
        },
        ..LESS
    },
    Metric {
        key: "feedback_kbps",
        name: "heartbeats and requests of a link",
        unit: "kbit/s",
        digits: 2,
        of: |run| {
            let seconds = run.counted.as_secs_f64() * run.links.len() as f64;
            share(run.load().feedback_bytes as f64 * 8.0 / 1e3, seconds)
        },
        ..DETAIL
    },
    Metric {
        key: "copies",
        name: "copies of a packet between relays",
        unit: "",
        digits: 2,
        of: |run| share(run.copies as f64, run.published as f64),
        ..LESS
    },
    Metric {
        key: "busiest_mbps",
        name: "busiest link",
        unit: "Mbit/s",
        digits: 3,
        of: |run| {
            let most = run.links.values().map(LinkLoad::carried_bytes).max()?;
            share(most as f64 * 8.0 / 1e6, run.counted.as_secs_f64())
        },
        ..LESS
    },
    Metric {
        key: "dollars_per_gb",
        name: "price of a GB delivered",
        unit: "$",
        digits: 4,
        of: |run| // Where nothing has a price there is none.
            share(run.dollars * 1e9, run.delivered_bytes as f64).filter(|dollars| *dollars > 0.0),
        ..LESS
    },
    Metric {
        key: "route_changes",
        name: "changes of route",
        unit: "",
        digits: 1,
        wish: Wish::Neither,
        of: |run| Some(run.route_changes as f64),
        ..LESS
    },
];

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn at(times: &Histogram, share: f64) -> Option<f64> {
    times.quantile(share).map(ms)
}

fn share(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

fn percent(part: u64, whole: u64) -> Option<f64> {
    share(part as f64 * 100.0, whole as f64)
}

fn stalls_per_min(run: &Figures) -> Option<f64> {
    let playback = run.playback();
    share(playback.stalls as f64 * 60.0, playback.played.as_secs_f64())
}

impl Metric {
    /// The one of that key.
    ///
    /// # Panics
    /// If there is none.
    pub(crate) fn named(key: &str) -> (usize, &'static Metric) {
        METRICS.iter().enumerate().find(|(_, metric)| metric.key == key).expect("a metric's key")
    }

    /// As people write it, without the unit.
    pub(crate) fn shown(&self, value: Option<f64>) -> String {
        value.map_or("-".to_owned(), |value| format!("{value:.*}", self.digits))
    }

    /// The same of a difference.
    pub(crate) fn shown_signed(&self, value: f64) -> String {
        let shown = format!("{value:+.*}", self.digits);
        // What rounds to nothing has no sign.
        match shown.bytes().any(|digit| (b'1'..=b'9').contains(&digit)) {
            true => shown,
            false => shown.replace(['-', '+'], ""),
        }
    }

    /// Name and unit.
    pub(crate) fn title(&self) -> String {
        match self.unit {
            "" => self.name.to_owned(),
            unit => format!("{}, {unit}", self.name),
        }
    }
}
