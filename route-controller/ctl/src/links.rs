//! `relayctl links`

use crate::cli::LinksArgs;
use crate::client::Client;
use crate::drawings;
use crate::output::{self, Grid, dot_text, yes_or_no};
use crate::{ControllerArgs, output::GraphFormat};
use route_controller::{LinkRow, NodeRow};

pub(crate) fn run(controller: &ControllerArgs, args: &LinksArgs) -> anyhow::Result<()> {
    let query: Vec<_> = args.at.map(|at| ("at", at.query())).into_iter().collect();
    let client = Client::new(controller)?;
    let answer = client.get("/v1/links", &query)?;
    output::print(&match args.output {
        GraphFormat::Json => output::json(&answer),
        GraphFormat::Table => grid(&output::rows(answer, "links")?).only(&TABLE).to_table(),
        GraphFormat::Csv => grid(&output::rows(answer, "links")?).to_csv(),
        GraphFormat::Dot => dot(&output::rows(answer, "links")?),
        GraphFormat::Svg => drawings::links(&nodes(&client)?, &output::rows(answer, "links")?).svg(),
    })
}

/// Where relays stand, for pictures.
pub(crate) fn nodes(client: &Client) -> anyhow::Result<Vec<NodeRow>> {
    output::rows(client.get("/v1/nodes", &[])?, "nodes")
}

/// What fits a terminal, and what to look at first; the other outputs have all.
const TABLE: [&str; 15] = [
    "from",
    "to",
    "state",
    "usable",
    "bridge",
    "cost_us",
    "rtt_us",
    "rtt_variation_us",
    "jitter_us",
    "queueing_us",
    "loss_pct",
    "residual_pct",
    "overhead_pct",
    "rate_bytes_per_s",
    "age_s",
];

fn spaced(counts: &[u64]) -> String {
    counts.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
}

fn grid(rows: &[LinkRow]) -> Grid {
    let cells = |row: &LinkRow| {
        vec![
            row.from.clone(),
            row.to.clone(),
            output::text(row.state.as_deref().unwrap_or_default()),
            yes_or_no(row.usable),
            yes_or_no(row.bridge),
            output::number(row.cost_us),
            output::number(row.cost_raw_us),
            output::number(row.rtt_us),
            output::number(row.rtt_min_us),
            output::number(row.jitter_us),
            output::number(row.loss.map(|loss| output::fixed(loss * 100.0, 3))),
            output::number(row.rate_bytes_per_s),
            output::number(row.age_s.map(|age| output::fixed(age, 1))),
            output::number(row.rtt_smoothed_us),
            output::number(row.rtt_variation_us),
            output::number(row.queueing_us),
            output::number(row.deliverable_bytes_per_s),
            output::number(row.residual_loss.map(|loss| output::fixed(loss * 100.0, 3))),
            output::number(row.overhead.map(|overhead| output::fixed(overhead * 100.0, 1))),
            output::number(row.retransmitted),
            output::number(row.parity),
            output::number(row.recovered),
            output::number(row.loss_bursts.as_deref().map(spaced)),
            output::text(row.repair_audio.as_deref().unwrap_or_default()),
            output::text(row.repair_other.as_deref().unwrap_or_default()),
        ]
    };
    Grid {
        columns: vec![
            "from",
            "to",
            "state",
            "usable",
            "bridge",
            "cost_us",
            "cost_raw_us",
            "rtt_us",
            "rtt_min_us",
            "jitter_us",
            "loss_pct",
            "rate_bytes_per_s",
            "age_s",
            "rtt_smoothed_us",
            "rtt_variation_us",
            "queueing_us",
            "deliverable_bytes_per_s",
            "residual_pct",
            "overhead_pct",
            "retransmitted",
            "parity",
            "recovered",
            "loss_bursts",
            "repair_audio",
            "repair_other",
        ],
        rows: rows.iter().map(cells).collect(),
    }
}

/// A graph of all links; what routes may not use is dashed, what they cannot go around is bold.
pub(crate) fn dot(rows: &[LinkRow]) -> String {
    let mut text = String::from("digraph links {\n  node [shape=box];\n");
    for row in rows {
        let mut label = vec![row.cost_us.map_or("unusable".to_owned(), |cost| format!("{cost} us"))];
        if let Some(loss) = row.loss.filter(|loss| *loss > 0.0) {
            label.push(format!("{} % lost", output::fixed(loss * 100.0, 3)));
        }
        let style = match (row.usable, row.bridge) {
            (true, true) => "bold",
            (true, false) => "solid",
            (false, _) => "dashed",
        };
        let (from, to) = (dot_text(&row.from), dot_text(&row.to));
        text.push_str(&format!("  {from} -> {to} [label={}, style={style}];\n", dot_text(&label.join(", "))));
    }
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_csv_and_graph() {
        let up = LinkRow {
            from: "fra-1".into(),
            to: "sin-1".into(),
            state: Some("up".into()),
            usable: true,
            bridge: true,
            cost_us: Some(81_250),
            cost_raw_us: Some(80_900),
            terms: None,
            doubt: None,
            rtt_us: Some(158_412),
            rtt_min_us: Some(157_800),
            jitter_us: Some(240),
            loss: Some(0.0025),
            rate_bytes_per_s: Some(260_000),
            age_s: Some(0.84),
            rtt_smoothed_us: Some(159_020),
            rtt_variation_us: Some(310),
            queueing_us: Some(120),
            deliverable_bytes_per_s: Some(2_500_000),
            loss_bursts: Some(vec![40, 11, 6, 2, 0, 0, 1]),
            residual_loss: Some(0.000_04),
            retransmitted: Some(512),
            parity: Some(90),
            recovered: Some(498),
            overhead: Some(0.043_1),
            repair_audio: Some("twice: datagrams are small".into()),
            repair_other: Some("parity: no round trip fits".into()),
        };
        let silent = LinkRow { from: "sin-1".into(), to: "fra-1".into(), ..LinkRow::default() };
        let rows = [up, silent];
        insta::assert_snapshot!("table", grid(&rows).only(&TABLE).to_table());
        assert_eq!(grid(&rows).only(&TABLE).columns, TABLE);
        insta::assert_snapshot!("csv", grid(&rows).to_csv());
        insta::assert_snapshot!("dot", dot(&rows));
    }
}
