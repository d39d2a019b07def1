//! `relayctl routes dump`

use crate::cli::RoutesArgs;
use crate::client::Client;
use crate::drawings;
use crate::links;
use crate::output::{self, Grid, dot_text};
use crate::{ControllerArgs, output::GraphFormat};
use route_controller::RouteRow;
use std::collections::BTreeMap;

pub(crate) fn run(controller: &ControllerArgs, args: &RoutesArgs) -> anyhow::Result<()> {
    let mut query = Vec::new();
    if let Some(node) = &args.node {
        query.push(("node", node.clone()));
    }
    if let Some(plane) = args.plane {
        query.push(("plane", plane.to_string()));
    }
    if let Some(epoch) = args.epoch {
        query.push(("epoch", epoch.to_string()));
    }
    query.push(("policy", args.policy.clone()));
    query.extend(args.at.map(|at| ("at", at.query())));
    let client = Client::new(controller)?;
    let answer = client.get("/v1/routes", &query)?;
    output::print(&match args.output {
        GraphFormat::Json => output::json(&answer),
        GraphFormat::Table => grid(&output::rows(answer, "routes")?).to_table(),
        GraphFormat::Csv => grid(&output::rows(answer, "routes")?).to_csv(),
        GraphFormat::Dot => dot(&output::rows(answer, "routes")?),
        GraphFormat::Svg => drawings::routes(&links::nodes(&client)?, &output::rows(answer, "routes")?).svg(),
    })
}

fn grid(rows: &[RouteRow]) -> Grid {
    let cells = |row: &RouteRow| {
        vec![
            row.node.clone(),
            row.destination.clone(),
            row.plane.to_string(),
            row.next_hop.clone(),
            row.path.join(" > "),
            row.cost_us.to_string(),
            output::number(row.backup_plane),
            row.epoch.to_string(),
            output::fixed(row.age_s, 1),
        ]
    };
    Grid {
        columns: vec![
            "node",
            "destination",
            "plane",
            "next_hop",
            "path",
            "cost_us",
            "backup_plane",
            "epoch",
            "age_s",
        ],
        rows: rows.iter().map(cells).collect(),
    }
}

/// Every hop that some route takes, labelled with how many of the routes shown take it; one colour per plane.
fn dot(rows: &[RouteRow]) -> String {
    let mut hops: BTreeMap<(u8, &str, &str), usize> = BTreeMap::new();
    for row in rows {
        for (from, to) in row.path.iter().zip(row.path.iter().skip(1)) {
            *hops.entry((row.plane, from, to)).or_default() += 1;
        }
    }
    let mut text = String::from("digraph routes {\n  node [shape=box];\n");
    for ((plane, from, to), routes) in hops {
        let color = match plane {
            0 => "black",
            1 => "red",
            2 => "blue",
            _ => "gray",
        };
        let (from, to) = (dot_text(from), dot_text(to));
        let label = dot_text(&routes.to_string());
        text.push_str(&format!("  {from} -> {to} [label={label}, color={color}];\n"));
    }
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_csv_and_graph() {
        let row = |node: &str, destination: &str, plane, path: &[&str], cost_us| RouteRow {
            node: node.into(),
            destination: destination.into(),
            plane,
            next_hop: path[1].into(),
            path: path.iter().map(|&name| name.to_owned()).collect(),
            cost_us,
            backup_plane: (plane == 0 && destination == "gru-1").then_some(1),
            epoch: 17,
            age_s: 63.25,
        };
        let rows = [
            row("fra-1", "gru-1", 0, &["fra-1", "iad-1", "gru-1"], 102_400),
            row("fra-1", "iad-1", 0, &["fra-1", "iad-1"], 46_100),
            row("fra-1", "gru-1", 1, &["fra-1", "gru-1"], 113_000),
        ];
        insta::assert_snapshot!("table", grid(&rows).to_table());
        insta::assert_snapshot!("csv", grid(&rows).to_csv());
        insta::assert_snapshot!("dot", dot(&rows));
    }
}
