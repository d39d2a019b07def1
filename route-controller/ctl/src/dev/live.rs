//! What a run shows while it goes on: a table redrawn in place on a terminal, a line a second elsewhere.

use crate::dev::call::StreamStatus;
use crate::dev::report::RepairSummary;
use crate::dev::topology::relay_name;
use route_controller::LinkRow;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write};
use std::time::Duration;
use wire_format::MediaKind;

/// Rows of links in a table.
const LINKS_SHOWN: usize = 24;

/// One moment of a run.
#[derive(Debug)]
pub(crate) struct Moment<'a> {
    pub(crate) elapsed: Duration,
    pub(crate) path: Option<&'a [usize]>,
    pub(crate) epoch: Option<u32>,
    pub(crate) streams: &'a [StreamStatus],
    /// Links of the topology as the controller knows them.
    pub(crate) links: &'a [LinkRow],
    /// Bytes per second of each stream, as delivered of late.
    pub(crate) rates: &'a [f64],
    /// What repair did so far.
    pub(crate) repair: RepairSummary,
}

/// Where to show it.
pub(crate) struct Live {
    out: Box<dyn Write + Send>,
    in_place: bool,
    /// Lines of the table that stands, to be drawn over.
    drawn: usize,
}

impl Live {
    /// On stdout, or on stderr if stdout is kept for JSON.
    pub(crate) fn new(json: bool) -> Live {
        let (out, in_place): (Box<dyn Write + Send>, bool) = if json {
            (Box::new(std::io::stderr()), std::io::stderr().is_terminal())
        } else {
            (Box::new(std::io::stdout()), std::io::stdout().is_terminal())
        };
        Live { out, in_place, drawn: 0 }
    }

    /// Shows a text for good, above the table.
    pub(crate) fn say(&mut self, text: &str) {
        let mut whole = self.erase();
        let _ = writeln!(whole, "{text}");
        self.write(&whole);
    }

    /// Shows a moment in place of the one before.
    pub(crate) fn show(&mut self, moment: &Moment<'_>) {
        if !self.in_place {
            let line = line(moment);
            self.write(&line);
            return;
        }
        let table = table(moment);
        let whole = self.erase() + &table;
        self.drawn = table.lines().count();
        self.write(&whole);
    }

    /// Nowhere.
    pub(crate) fn silent() -> Live {
        Live { out: Box::new(std::io::sink()), in_place: false, drawn: 0 }
    }

    fn erase(&mut self) -> String {
        match std::mem::take(&mut self.drawn) {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\x1b[J"),
        }
    }

    fn write(&mut self, text: &str) {
        // Whoever closed the other end of the pipe does not want to see it.
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }
}

fn kind_name(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Audio => "audio",
        MediaKind::Video => "video",
    }
}

fn path_text(path: Option<&[usize]>) -> String {
    match path {
        Some(path) => path.iter().map(|relay| relay_name(*relay)).collect::<Vec<_>>().join(" > "),
        None => "none seen".to_owned(),
    }
}

fn milliseconds(micros: u64) -> String {
    format!("{}.{}", micros / 1_000, micros % 1_000 / 100)
}

/// Links that carry the video first, in its order; then the others, as far as there is room.
fn rows<'a>(moment: &Moment<'a>) -> Vec<&'a LinkRow> {
    let hops: Vec<_> = moment
        .path
        .unwrap_or_default()
        .windows(2)
        .map(|hop| (relay_name(hop[0]), relay_name(hop[1])))
        .collect();
    let place = |row: &LinkRow| {
        hops.iter().position(|(from, to)| *from == row.from && *to == row.to).unwrap_or(hops.len())
    };
    let mut rows: Vec<_> = moment.links.iter().collect();
    rows.sort_by_key(|row| place(row));
    rows
}

fn line(moment: &Moment<'_>) -> String {
    let mut text = format!("{:5.1} s  {}", moment.elapsed.as_secs_f64(), path_text(moment.path));
    for (status, rate) in moment.streams.iter().zip(moment.rates) {
        let _ = write!(
            text,
            "  {} {}/{} lost {} {:.0} kbit/s p50 {} ms",
            kind_name(status.kind),
            status.counts.delivered,
            status.counts.sent,
            status.counts.lost() - status.under_way,
            rate * 8.0 / 1_000.0,
            milliseconds(status.latency.p50),
        );
    }
    let RepairSummary { recovered, overhead_pct, .. } = moment.repair;
    let _ = writeln!(text, "  restored {recovered} overhead {overhead_pct:.1}%");
    text
}

fn table(moment: &Moment<'_>) -> String {
    let hops = moment.path.map_or(0, |path| path.len() - 1);
    let epoch = moment.epoch.map_or("-".to_owned(), |epoch| epoch.to_string());
    let mut text = format!(
        "\n{:.1} s   path {} ({hops} hops)   epoch {epoch}\n\n",
        moment.elapsed.as_secs_f64(),
        path_text(moment.path)
    );
    let _ = writeln!(
        text,
        "{:<8}{:>10}{:>11}{:>7}{:>7}{:>12}{:>10}{:>10}{:>10}",
        "stream", "sent", "delivered", "lost", "late", "kbit/s", "p50 ms", "p99 ms", "gap ms"
    );
    for (status, rate) in moment.streams.iter().zip(moment.rates) {
        let _ = writeln!(
            text,
            "{:<8}{:>10}{:>11}{:>7}{:>7}{:>12.0}{:>10}{:>10}{:>10}",
            kind_name(status.kind),
            status.counts.sent,
            status.counts.delivered,
            status.counts.lost() - status.under_way,
            status.counts.late,
            rate * 8.0 / 1_000.0,
            milliseconds(status.latency.p50),
            milliseconds(status.latency.p99),
            status.counts.gap.as_millis(),
        );
    }
    let RepairSummary { overhead_pct, retransmitted, parity, recovered, recovered_late_us } = moment.repair;
    let _ = writeln!(
        text,
        "\nrepair between relays: {retransmitted} datagrams sent again, {parity} of parity, {recovered} restored \
         ({} ms later at p50), overhead {overhead_pct:.1}%",
        milliseconds(recovered_late_us.p50)
    );
    let _ = writeln!(
        text,
        "\n{:<10}{:<10}{:>10}{:>9}{:>12}{:>10}",
        "link", "state", "rtt ms", "loss %", "kbit/s", "cost us"
    );
    let rows = rows(moment);
    for row in rows.iter().take(LINKS_SHOWN) {
        let _ = writeln!(
            text,
            "{:<10}{:<10}{:>10}{:>9}{:>12}{:>10}",
            format!("{} > {}", row.from, row.to),
            row.state.as_deref().unwrap_or("-"),
            row.rtt_us.map_or("-".to_owned(), milliseconds),
            row.loss.map_or("-".to_owned(), |loss| format!("{:.2}", loss * 100.0)),
            row.rate_bytes_per_s.map_or("-".to_owned(), |rate| (rate * 8 / 1_000).to_string()),
            row.cost_us.map_or("-".to_owned(), |cost| cost.to_string()),
        );
    }
    if let Some(more) = rows.len().checked_sub(LINKS_SHOWN).filter(|more| *more > 0) {
        let _ = writeln!(text, "and {more} more");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::checker::StreamCounts;
    use crate::dev::report::Quantiles;

    fn link(from: &str, to: &str, rtt_us: Option<u64>) -> LinkRow {
        LinkRow {
            from: from.to_owned(),
            to: to.to_owned(),
            state: Some("up".to_owned()),
            usable: true,
            cost_us: rtt_us.map(|rtt| rtt / 2 + 1_000),
            rtt_us,
            loss: Some(0.0123),
            rate_bytes_per_s: Some(250_000),
            ..LinkRow::default()
        }
    }

    fn shown(show: fn(&Moment<'_>) -> String, links: &[LinkRow]) -> String {
        let counts = StreamCounts {
            sent: 280,
            delivered: 270,
            gap: Duration::from_millis(21),
            ..StreamCounts::default()
        };
        let latency = Quantiles { p50: 20_650, p99: 24_100, max: 30_000 };
        let streams = [StreamStatus { kind: MediaKind::Video, counts, under_way: 8, latency }];
        show(&Moment {
            elapsed: Duration::from_millis(1_040),
            path: Some(&[0, 1, 3]),
            epoch: Some(4),
            streams: &streams,
            links,
            rates: &[260_000.0],
            repair: RepairSummary {
                overhead_pct: 3.12,
                retransmitted: 12,
                parity: 4,
                recovered: 13,
                recovered_late_us: Quantiles { p50: 24_000, p99: 60_000, max: 70_000 },
            },
        })
    }

    #[test]
    fn a_terminal_shows_a_table() {
        let links = [link("r1", "r3", None), link("r2", "r4", Some(20_500)), link("r1", "r2", Some(20_600))];
        insta::assert_snapshot!(shown(table, &links));
    }

    #[test]
    fn a_log_shows_lines() {
        let expected = "  1.0 s  r1 > r2 > r4  video 270/280 lost 2 2080 kbit/s p50 20.6 ms  restored 13 overhead 3.1%\n";
        assert_eq!(shown(line, &[]), expected);
    }

    #[test]
    fn a_table_of_many_links_is_cut() {
        let links: Vec<_> = (0..40).map(|number| link("r1", &format!("r{number}"), None)).collect();
        let table = shown(table, &links);
        assert!(table.ends_with("\nand 16 more\n"), "{table}");
    }
}
