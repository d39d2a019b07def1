//! `relayctl nodes` and `relayctl node ...`

use crate::cli::{GraphArgs, RevokeArgs};
use crate::client::Client;
use crate::drawings;
use crate::links;
use crate::output::{self, ABSENT, Grid, TextFormat, yes_or_no};
use crate::{ControllerArgs, output::GraphFormat};
use route_controller::NodeRow;

pub(crate) fn run(controller: &ControllerArgs, args: &GraphArgs) -> anyhow::Result<()> {
    let client = Client::new(controller)?;
    let answer = client.get("/v1/nodes", &[])?;
    let links = || output::rows(client.get("/v1/links", &[])?, "links");
    output::print(&match args.output {
        GraphFormat::Json => output::json(&answer),
        GraphFormat::Table => grid(&output::rows(answer, "nodes")?).to_table(),
        GraphFormat::Csv => grid(&output::rows(answer, "nodes")?).to_csv(),
        GraphFormat::Dot => links::dot(&links()?),
        GraphFormat::Svg => drawings::links(&output::rows(answer, "nodes")?, &links()?).svg(),
    })
}

/// `relayctl node revoke`
pub(crate) fn revoke(controller: &ControllerArgs, args: &RevokeArgs) -> anyhow::Result<()> {
    let path = format!("/v1/nodes/{}/revoke", output::path_segment(&args.name));
    let answer = Client::new(controller)?.post(&path, &serde_json::json!({}))?;
    output::print(&match args.output {
        TextFormat::Json => output::json(&answer),
        TextFormat::Text => format!(
            "{} is revoked: no relay links to it any more. It may come back with a new join token.\n",
            output::printable(&args.name)
        ),
    })
}

fn grid(rows: &[NodeRow]) -> Grid {
    let cells = |row: &NodeRow| {
        vec![
            row.name.clone(),
            row.node.to_string(),
            row.state.clone(),
            output::fixed(row.state_age_s, 0),
            output::text(&row.region),
            output::text(&row.isp),
            output::text(&row.tags.join(" ")),
            output::text(&row.addresses.join(" ")),
            output::text(&row.version),
            row.epoch.map_or(ABSENT.to_owned(), |epoch| epoch.to_string()),
            yes_or_no(row.cut_vertex),
            yes_or_no(row.cordoned),
            yes_or_no(row.draining),
            yes_or_no(row.hub_quarantined),
            row.links_usable.to_string(),
            row.publications.to_string(),
            row.subscriptions.to_string(),
            row.certificate_expires_unix_s.map_or(ABSENT.to_owned(), output::utc),
            row.index_free_in_s.map_or(ABSENT.to_owned(), |seconds| output::fixed(seconds, 0)),
        ]
    };
    Grid {
        columns: vec![
            "name",
            "node",
            "state",
            "state_age_s",
            "region",
            "isp",
            "tags",
            "addresses",
            "version",
            "epoch",
            "cut_vertex",
            "cordoned",
            "draining",
            "hub_quarantined",
            "links_usable",
            "publications",
            "subscriptions",
            "certificate_until",
            "index_free_in_s",
        ],
        rows: rows.iter().map(cells).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_and_csv() {
        let connected = NodeRow {
            name: "fra-1".into(),
            node: 1,
            state: "connected".into(),
            state_age_s: 3601.4,
            region: "eu-central".into(),
            isp: "example".into(),
            tags: vec!["core".into(), "v6".into()],
            addresses: vec!["203.0.113.7:4700".into(), "[2001:db8::7]:4700".into()],
            version: "0.1.0".into(),
            epoch: Some(17),
            cut_vertex: true,
            cordoned: true,
            draining: false,
            hub_quarantined: true,
            links_usable: 3,
            publications: 2,
            subscriptions: 0,
            certificate_expires_unix_s: Some(1_795_258_800),
            latitude: None,
            longitude: None,
            index_free_in_s: None,
        };
        let offline = NodeRow {
            name: "gru-1".into(),
            node: 12,
            state: "offline".into(),
            state_age_s: 0.2,
            region: String::new(),
            isp: String::new(),
            tags: Vec::new(),
            addresses: Vec::new(),
            version: String::new(),
            epoch: None,
            cut_vertex: false,
            cordoned: false,
            draining: false,
            hub_quarantined: false,
            links_usable: 0,
            publications: 0,
            subscriptions: 0,
            certificate_expires_unix_s: None,
            latitude: Some(50.1),
            longitude: Some(8.7),
            index_free_in_s: Some(86_399.4),
        };
        let grid = grid(&[connected, offline]);
        insta::assert_snapshot!("table", grid.to_table());
        insta::assert_snapshot!("csv", grid.to_csv());
    }
}
