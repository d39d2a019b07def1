//! `relayctl namespaces`

use crate::cli::ListArgs;
use crate::client::Client;
use crate::output::{self, Grid};
use crate::{ControllerArgs, output::ListFormat};
use route_controller::NamespaceRow;

pub(crate) fn run(controller: &ControllerArgs, args: &ListArgs) -> anyhow::Result<()> {
    let answer = Client::new(controller)?.get("/v1/namespaces", &[])?;
    output::print(&match args.output {
        ListFormat::Json => output::json(&answer),
        ListFormat::Table => grid(&output::rows(answer, "namespaces")?).to_table(),
        ListFormat::Csv => grid(&output::rows(answer, "namespaces")?).to_csv(),
    })
}

fn grid(rows: &[NamespaceRow]) -> Grid {
    let cells = |row: &NamespaceRow| {
        vec![
            output::text(&row.namespace),
            row.streams.to_string(),
            output::number(row.streams_max),
            row.subscriptions.to_string(),
            output::number(row.subscriptions_max),
            row.relays.to_string(),
            output::number(row.relays_max),
            output::number(row.bit_rate_max),
            row.refused.to_string(),
            row.packets_in.to_string(),
            row.bytes_in.to_string(),
            row.packets_out.to_string(),
            row.bytes_out.to_string(),
            row.packets_over_rate.to_string(),
        ]
    };
    Grid {
        columns: vec![
            "namespace",
            "streams",
            "streams_max",
            "subscriptions",
            "subscriptions_max",
            "relays",
            "relays_max",
            "bit_rate_max",
            "refused",
            "packets_in",
            "bytes_in",
            "packets_out",
            "bytes_out",
            "packets_over_rate",
        ],
        rows: rows.iter().map(cells).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_are_not_set_are_told_apart_from_zero() {
        let row = NamespaceRow {
            namespace: "demo".into(),
            streams: 3,
            streams_max: Some(100),
            subscriptions: 2,
            subscriptions_max: None,
            relays: 2,
            relays_max: None,
            bit_rate_max: Some(50_000_000),
            refused: 1,
            packets_in: 7,
            bytes_in: 700,
            packets_out: 14,
            bytes_out: 1_400,
            packets_over_rate: 0,
        };
        let csv = grid(&[row]).to_csv();
        assert_eq!(csv.lines().nth(1), Some("demo,3,100,2,,2,,50000000,1,7,700,14,1400,0"));
    }
}
