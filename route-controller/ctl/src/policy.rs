//! `relayctl policy`

use crate::ControllerArgs;
use crate::cli::{PolicyApplyArgs, PolicyShowArgs};
use crate::client::Client;
use crate::output::{self, Grid, ListFormat, text};
use anyhow::Context as _;
use route_controller::{DryRunAnswer, PoliciesAnswer, PolicyDocument};

pub(crate) fn show(controller: &ControllerArgs, args: &PolicyShowArgs) -> anyhow::Result<()> {
    let answer = Client::new(controller)?.get("/v1/policies", &[])?;
    output::print(&match args.output {
        ListFormat::Json => output::json(&answer),
        ListFormat::Table => grid(&output::parsed(answer)?).to_table(),
        ListFormat::Csv => grid(&output::parsed(answer)?).to_csv(),
    })
}

pub(crate) fn apply(controller: &ControllerArgs, args: &PolicyApplyArgs) -> anyhow::Result<()> {
    // What is wrong is told before anybody is asked, and with the file's name.
    let document = PolicyDocument::read(&args.file)?;
    document.policies().with_context(|| args.file.display().to_string())?;
    let client = Client::new(controller)?;
    if args.dry_run {
        let answer = client.post("/v1/policies/dry-run", &document)?;
        return output::print(&match args.output {
            ListFormat::Json => output::json(&answer),
            ListFormat::Table => {
                let changes: DryRunAnswer = output::parsed(answer)?;
                format!("{}{}", changed(&changes).to_table(), summary(&changes))
            }
            ListFormat::Csv => changed(&output::parsed(answer)?).to_csv(),
        });
    }
    let answer = client.put("/v1/policies", &document)?;
    output::print(&match args.output {
        ListFormat::Json => output::json(&answer),
        ListFormat::Table => grid(&output::parsed(answer)?).to_table(),
        ListFormat::Csv => grid(&output::parsed(answer)?).to_csv(),
    })
}

fn grid(answer: &PoliciesAnswer) -> Grid {
    let rows = answer.policies.iter().zip(&answer.status).map(|(policy, status)| {
        let weights = &policy.weights;
        let pct = |weight: Option<u32>| output::number(weight);
        let list = |items: &[String]| text(&items.join(" "));
        vec![
            policy.name.clone(),
            status.index.to_string(),
            output::yes_or_no(status.in_use && (answer.understood || status.index == 0)),
            status.streams.to_string(),
            status.relieved.to_string(),
            list(&policy.namespaces),
            pct(weights.delay_pct),
            pct(weights.repair_pct),
            pct(weights.queueing_pct),
            pct(weights.jitter_pct),
            pct(weights.load_pct),
            pct(weights.money_pct),
            output::number(policy.hop_us),
            list(&policy.prefer),
            list(&policy.forbid),
            list(&policy.emergency),
            text(&policy.pins.join(", ")),
            output::yes_or_no(policy.protect_audio),
            text(policy.relief.as_deref().unwrap_or_default()),
        ]
    });
    let columns = vec![
        "policy",
        "index",
        "in_use",
        "streams",
        "relieved",
        "namespaces",
        "delay_pct",
        "repair_pct",
        "queueing_pct",
        "jitter_pct",
        "load_pct",
        "money_pct",
        "hop_us",
        "prefer",
        "forbid",
        "emergency",
        "pins",
        "protect_audio",
        "relief",
    ];
    Grid { columns, rows: rows.collect() }
}

/// Routes first, then streams.
fn changed(answer: &DryRunAnswer) -> Grid {
    let routes = answer.routes.iter().map(|route| {
        let way =
            |way: &Option<Vec<String>>| text(&way.as_ref().map_or(String::new(), |way| way.join(" > ")));
        vec![
            "route".to_owned(),
            route.policy.clone(),
            route.from.clone(),
            route.to.clone(),
            way(&route.before),
            way(&route.after),
            output::number(route.before_us),
            output::number(route.after_us),
        ]
    });
    let streams = answer.streams.iter().map(|stream| {
        let (who, what) =
            (format!("{}/{}", stream.namespace, stream.room), format!("{}/{}", stream.user, stream.stream));
        let (before, after) = (stream.before.clone(), stream.after.clone());
        let absent = || output::number(None::<u64>);
        vec!["stream".to_owned(), after.clone(), who, what, before, after, absent(), absent()]
    });
    let columns = vec!["what", "policy", "from", "to", "before", "after", "before_us", "after_us"];
    Grid { columns, rows: routes.chain(streams).collect() }
}

fn summary(answer: &DryRunAnswer) -> String {
    let DryRunAnswer { understood, routes_changed, routes, streams_changed, streams } = answer;
    let shown = |all: usize, shown: usize| {
        if all > shown { format!(" ({shown} shown)") } else { String::new() }
    };
    let mut text = format!(
        "\n{routes_changed} routes{} and {streams_changed} streams{} would change; nothing did\n",
        shown(*routes_changed, routes.len()),
        shown(*streams_changed, streams.len()),
    );
    if !understood {
        text.push_str(
            "a relay of an older version is connected: until it is gone, all routes are those of `default`\n",
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use route_controller::{PolicyChangeRow, PolicyRouteRow, PolicyRow, PolicyStatus};

    #[test]
    fn policies_and_what_others_would_change_are_tables() {
        let document = PolicyDocument::from_toml(include_str!("../../../deploy/policies.toml"));
        let policies: Vec<PolicyRow> = document.expect("the example is legal").policies;
        let status = policies.iter().zip(0..).map(|(policy, index)| PolicyStatus {
            name: policy.name.clone(),
            index,
            in_use: true,
            streams: 3,
            relieved: 0,
        });
        let answer = PoliciesAnswer { status: status.collect(), policies, understood: true };
        let table = grid(&answer).to_table();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 1 + answer.policies.len(), "{table}");
        assert!(lines[0].starts_with("POLICY") && lines[0].contains("MONEY_PCT"), "{table}");
        let resident = lines.iter().find(|line| line.starts_with("resident")).expect("it is there");
        assert!(resident.contains("region:us-east") && resident.contains("fra-1 > lhr-1 > gru-1"), "{table}");
        let way = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect());
        let answer = DryRunAnswer {
            understood: false,
            routes_changed: 2,
            routes: vec![PolicyRouteRow {
                policy: "cheap".into(),
                from: "fra-1".into(),
                to: "gru-1".into(),
                before: way(&["fra-1", "iad-1", "gru-1"]),
                after: way(&["fra-1", "gru-1"]),
                before_us: Some(94_000),
                after_us: Some(109_000),
            }],
            streams_changed: 1,
            streams: vec![PolicyChangeRow {
                namespace: "free-1".into(),
                room: "lobby".into(),
                user: "alice".into(),
                stream: "video".into(),
                before: "default".into(),
                after: "cheap".into(),
            }],
        };
        let table = changed(&answer).to_table();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 3, "{table}");
        assert!(lines[1].contains("fra-1 > iad-1 > gru-1") && lines[1].contains("109000"), "{table}");
        assert!(lines[2].starts_with("stream") && lines[2].contains("free-1/lobby"), "{table}");
        let summary = summary(&answer);
        assert!(summary.contains("2 routes (1 shown) and 1 streams would change; nothing did"), "{summary}");
        assert!(summary.contains("a relay of an older version is connected"), "{summary}");
    }
}
