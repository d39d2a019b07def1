//! `relayctl routes epochs`, `diff`, `explain` and `why-not`

use crate::ControllerArgs;
use crate::cli::{DiffArgs, ExplainArgs, ListArgs, WhyNotArgs};
use crate::client::Client;
use crate::drawings;
use crate::output::{self, Grid, ListFormat, WayFormat, dot_text, fixed, number, printable, text, utc};
use route_controller::{DiffRow, EpochRow, ExplainRow, HopRow, TermsRow, TurnRow, WayRow, WhyNotRow};

pub(crate) fn epochs(controller: &ControllerArgs, args: &ListArgs) -> anyhow::Result<()> {
    let answer = Client::new(controller)?.get("/v1/routes/epochs", &[])?;
    let grid = |rows: Vec<EpochRow>| Grid {
        columns: vec!["epoch", "age_s", "routes", "prices"],
        rows: rows
            .iter()
            .map(|row| {
                let cells = [row.epoch.to_string(), fixed(row.age_s, 1)];
                cells.into_iter().chain([row.routes.to_string(), row.prices.to_string()]).collect()
            })
            .collect(),
    };
    output::print(&match args.output {
        ListFormat::Json => output::json(&answer),
        ListFormat::Table => grid(output::rows(answer, "epochs")?).to_table(),
        ListFormat::Csv => grid(output::rows(answer, "epochs")?).to_csv(),
    })
}

pub(crate) fn diff(controller: &ControllerArgs, args: &DiffArgs) -> anyhow::Result<()> {
    let pair = |before, after| vec![("before", before), ("after", after)];
    let (path, mut query) = match (args.before, args.after, &args.at[..]) {
        (Some(before), Some(after), []) => ("/v1/routes/diff", pair(before.to_string(), after.to_string())),
        (None, None, [before, after]) => ("/v1/routes/diff-at", pair(before.query(), after.query())),
        _ => anyhow::bail!("name two epochs, or two moments: --at TIME --at TIME"),
    };
    if args.at.is_empty() {
        query.push(("policy", args.policy.clone()));
    }
    let answer = Client::new(controller)?.get(path, &query)?;
    output::print(&match args.output {
        ListFormat::Json => output::json(&answer),
        ListFormat::Table => changes(&output::parsed(answer)?).to_table(),
        ListFormat::Csv => changes(&output::parsed(answer)?).to_csv(),
    })
}

pub(crate) fn explain(controller: &ControllerArgs, args: &ExplainArgs) -> anyhow::Result<()> {
    let mut query = vec![("from", args.from.clone()), ("to", args.to.clone())];
    query.extend(args.at.map(|at| ("at", at.query())));
    query.push(("policy", args.policy.clone()));
    let answer = Client::new(controller)?.get("/v1/routes/explain", &query)?;
    output::print(&match args.output {
        WayFormat::Json => output::json(&answer),
        WayFormat::Text => explanation(&output::parsed(answer)?),
        WayFormat::Dot => {
            let row: ExplainRow = output::parsed(answer)?;
            dot(row.chosen.as_ref(), row.runner_up.as_ref())
        }
        WayFormat::Svg => {
            let row: ExplainRow = output::parsed(answer)?;
            let title = format!("{} to {}", row.from, row.to);
            let (taken, other) = (row.chosen.as_ref(), row.runner_up.as_ref());
            drawings::ways(title, margin(row.margin_us, row.epoch), taken, other, "the runner-up").svg()
        }
    })
}

pub(crate) fn why_not(controller: &ControllerArgs, args: &WhyNotArgs) -> anyhow::Result<()> {
    let query = [
        ("from", args.from.clone()),
        ("to", args.to.clone()),
        ("via", args.via.clone()),
        ("policy", args.policy.clone()),
    ];
    let answer = Client::new(controller)?.get("/v1/routes/why-not", &query)?;
    output::print(&match args.output {
        WayFormat::Json => output::json(&answer),
        WayFormat::Text => reason(&output::parsed(answer)?),
        WayFormat::Dot => {
            let row: WhyNotRow = output::parsed(answer)?;
            dot(row.chosen.as_ref(), row.detour.as_ref())
        }
        WayFormat::Svg => {
            let row: WhyNotRow = output::parsed(answer)?;
            let title = format!("{} to {}, and by {}", args.from, args.to, row.via);
            let (taken, other) = (row.chosen.as_ref(), row.detour.as_ref());
            drawings::ways(title, margin(row.margin_us, None), taken, other, "the way by it").svg()
        }
    })
}

/// What stands below the title of a picture of two ways.
fn margin(margin_us: Option<i64>, epoch: Option<u32>) -> String {
    let epoch = epoch.map_or_else(String::new, |epoch| format!("epoch {epoch}; "));
    let margin = margin_us.map_or("there is no other way".to_owned(), |us| {
        let dearer = if us < 0 { "cheaper" } else { "dearer" };
        format!("the other way is {} {dearer}", ms(us.unsigned_abs()))
    });
    format!("{epoch}{margin}")
}

/// Routes first, then prices: what, where from, where to, what it was and what it is.
fn changes(row: &DiffRow) -> Grid {
    let routes = row.routes.iter().map(|route| {
        let what = match route.plane {
            0 => "route".to_owned(),
            1 => "route red".to_owned(),
            2 => "route blue".to_owned(),
            plane => format!("route {plane}"),
        };
        let hop = |hop: &Option<String>| text(hop.as_deref().unwrap_or_default());
        vec![what, route.node.clone(), route.destination.clone(), hop(&route.before), hop(&route.after)]
    });
    let prices = row.prices.iter().map(|price| {
        let us = |us: Option<u64>| number(us.map(|us| format!("{us} us")));
        vec![
            "price".to_owned(),
            price.from.clone(),
            price.to.clone(),
            us(price.before_us),
            us(price.after_us),
        ]
    });
    Grid { columns: vec!["what", "from", "to", "before", "after"], rows: routes.chain(prices).collect() }
}

fn explanation(row: &ExplainRow) -> String {
    let ends = format!("{} to {}", printable(&row.from), printable(&row.to));
    let Some(chosen) = &row.chosen else {
        let what = row.runner_up.as_ref().map_or_else(
            || "nothing leads there that routes may use".to_owned(),
            |way| format!("{} is there, and new routes are under way", path(way)),
        );
        return format!("{ends}: no way; {what}\n");
    };
    let age = row.age_s.map_or_else(String::new, |age| format!(", taken for {} s", fixed(age, 1)));
    let epoch = row.epoch.map_or_else(String::new, |epoch| format!(", epoch {epoch}"));
    let by = match row.policy.as_str() {
        "" | "default" => String::new(),
        policy => format!(" by policy {}", printable(policy)),
    };
    let goes = row.as_of_unix_s.map_or_else(
        || "goes".to_owned(),
        |as_of| format!("went at {} (links as kept at that time or before)", utc(as_of as u64)),
    );
    let mut lines =
        format!("{ends}{by} {goes} {}: {}{age}{epoch}\n{}", path(chosen), ms(chosen.cost_us), hops(chosen));
    lines.push_str(&protection(row));
    let Some(other) = &row.runner_up else {
        lines.push_str("\nThere is no other way.\n");
        return lines;
    };
    let margin = row.margin_us.unwrap_or_default();
    let avoided = avoided_beside(other, chosen);
    let dearer = match (margin < 0, avoided.is_empty()) {
        (true, true) => format!("{} cheaper: new routes are under way", ms(margin.unsigned_abs())),
        (true, false) => format!("{} cheaper, but avoided", ms(margin.unsigned_abs())),
        (false, _) => format!("{} dearer", ms(margin.unsigned_abs())),
    };
    lines.push_str(&format!("\nrunner-up {}: {}, {dearer}\n{}", path(other), ms(other.cost_us), hops(other)));
    if !row.rises.is_empty() || !row.falls.is_empty() {
        lines.push_str(
            "\nThe runner-up is taken when one of these happens, everything else staying as it is:\n",
        );
        lines.push_str(&turns(&row.rises, "costs more than"));
        lines.push_str(&turns(&row.falls, "costs less than"));
    } else if !avoided.is_empty() {
        let relays = avoided.join(" and ");
        lines.push_str(&format!(
            "\nThe runner-up is not taken, whatever the two ways cost, while routes avoid passing {relays}.\n"
        ));
    }
    lines
}

/// Relays that one way passes although they are avoided, and the other does not, with the reasons.
fn avoided_beside(way: &WayRow, other: &WayRow) -> Vec<String> {
    let own = way.hops.iter().filter(|hop| !other.path.contains(&hop.to));
    own.filter_map(|hop| {
        Some(format!("{} ({})", printable(&hop.to), hop.avoided.as_ref()?.replace('_', " ")))
    })
    .collect()
}

/// What a stream gets that asks for two ways at once.
fn protection(row: &ExplainRow) -> String {
    let Some(protection) = &row.protection else { return String::new() };
    let reason =
        protection.reason.as_deref().map_or_else(String::new, |reason| format!(": {}", printable(reason)));
    let share = match &protection.redundant_share[..] {
        [] => String::new(),
        groups => format!("red and blue both pass relays of {}\n", printable(&groups.join(" and "))),
    };
    if !protection.protected {
        return format!("\nprotected streams go there once{reason}\n{share}");
    }
    let ways: Vec<String> = protection.ways.iter().map(|way| printable(&way.join(" > "))).collect();
    format!("\nprotected streams go {} at once{reason}\n{share}", ways.join(" and "))
}

fn turns(rows: &[TurnRow], how: &str) -> String {
    let line = |row: &TurnRow| {
        let (from, to) = (printable(&row.from), printable(&row.to));
        format!("  {from} > {to} {how} {} us (now {} us)\n", row.turns_at_us, row.cost_us)
    };
    rows.iter().map(line).collect()
}

fn reason(row: &WhyNotRow) -> String {
    let via = printable(&row.via);
    let margin = ms(row.margin_us.unwrap_or_default().unsigned_abs());
    let why = match row.verdict.as_str() {
        "taken" => format!("the way passes {via}"),
        "end" => format!("{via} is an end of the way"),
        "offline" => format!("{via} is offline"),
        "no_way" => format!("no links that routes may use lead to {via} and on from it"),
        "avoided" => {
            format!("routes avoid {via}: {}", row.avoided.as_deref().unwrap_or("unknown").replace('_', " "))
        }
        "turns_back" => format!("the best ways to {via} and on from it pass a relay twice"),
        "dearer" if row.margin_us == Some(0) => {
            format!("by {via} it is as dear, and ties fall to the lower index")
        }
        "dearer" => format!("by {via} it is {margin} dearer"),
        other => printable(other),
    };
    let mut lines = format!("{why}\n");
    for (name, way) in [("taken", &row.chosen), ("by it", &row.detour)] {
        if let Some(way) = way {
            lines.push_str(&format!("\n{name}: {}: {}\n{}", path(way), ms(way.cost_us), hops(way)));
        }
    }
    lines
}

fn path(way: &WayRow) -> String {
    printable(&way.path.join(" > "))
}

fn ms(us: u64) -> String {
    format!("{}.{:03} ms", us / 1_000, us % 1_000)
}

fn hops(way: &WayRow) -> String {
    let cells = |hop: &HopRow| {
        let terms = |term: fn(&TermsRow) -> u64| number(hop.terms.as_ref().map(term));
        let notes = [&hop.doubt, &hop.avoided].into_iter().flatten().map(|note| note.replace('_', " "));
        let unusable = hop.cost_us.is_none().then(|| "not usable any more".to_owned());
        vec![
            format!("{} > {}", hop.from, hop.to),
            number(hop.cost_us),
            terms(|terms| terms.one_way_us),
            terms(|terms| terms.queueing_us),
            terms(|terms| terms.repair_us),
            terms(|terms| terms.hop_us),
            terms(|terms| terms.load_us),
            terms(|terms| terms.money_us),
            terms(|terms| terms.jitter_us),
            terms(|terms| terms.distrust_us),
            number(hop.terms.as_ref().map(|terms| terms.rounding_us)),
            number(hop.terms.as_ref().map(|terms| terms.preference_us)),
            number(hop.cost_raw_us),
            text(hop.measured_by.as_deref().unwrap_or_default()),
            number(hop.age_us.map(|age| fixed(age as f64 / 1e6, 1))),
            number(hop.samples),
            text(&notes.chain(unusable).collect::<Vec<_>>().join(", ")),
        ]
    };
    let columns = vec![
        "hop",
        "cost_us",
        "one_way",
        "queueing",
        "repair",
        "hop_fee",
        "load",
        "money",
        "jitter",
        "distrust",
        "rounding",
        "preference",
        "raw_us",
        "measured_by",
        "age_s",
        "samples",
        "notes",
    ];
    Grid { columns, rows: way.hops.iter().map(cells).collect() }.to_table()
}

/// The way taken in bold, the other one dashed.
fn dot(chosen: Option<&WayRow>, other: Option<&WayRow>) -> String {
    let mut graph = String::from("digraph ways {\n  node [shape=box];\n");
    for (way, style) in [(chosen, "bold"), (other, "dashed")] {
        for hop in way.iter().flat_map(|way| &way.hops) {
            let label = hop.cost_us.map_or("unusable".to_owned(), |us| format!("{us} us"));
            let (from, to) = (dot_text(&hop.from), dot_text(&hop.to));
            graph.push_str(&format!("  {from} -> {to} [label={}, style={style}];\n", dot_text(&label)));
        }
    }
    graph.push_str("}\n");
    graph
}

#[cfg(test)]
mod tests {
    use super::*;
    use route_controller::ProtectionRow;

    fn way(names: &[&str], one_way_us: u64) -> WayRow {
        let hop = |pair: &[&str]| HopRow {
            from: pair[0].into(),
            to: pair[1].into(),
            cost_us: Some(one_way_us + 1_000),
            terms: Some(TermsRow { one_way_us, hop_us: 1_000, ..TermsRow::default() }),
            cost_raw_us: Some(one_way_us + 1_120),
            measured_by: Some(pair[0].into()),
            age_us: Some(412_000),
            samples: Some(312),
            ..HopRow::default()
        };
        let hops: Vec<HopRow> = names.windows(2).map(hop).collect();
        let path = names.iter().map(|&name| name.to_owned()).collect();
        WayRow { path, cost_us: hops.iter().filter_map(|hop| hop.cost_us).sum(), hops }
    }

    fn explained() -> ExplainRow {
        let turn = |from: &str, to: &str, cost_us, turns_at_us| TurnRow {
            from: from.into(),
            to: to.into(),
            cost_us,
            turns_at_us,
        };
        ExplainRow {
            from: "fra-1".into(),
            to: "gru-1".into(),
            policy: "default".into(),
            epoch: Some(17),
            age_s: Some(63.25),
            chosen: Some(way(&["fra-1", "iad-1", "gru-1"], 46_000)),
            runner_up: Some(way(&["fra-1", "gru-1"], 108_000)),
            margin_us: Some(15_000),
            rises: vec![turn("fra-1", "iad-1", 47_000, 62_000), turn("iad-1", "gru-1", 47_000, 62_000)],
            falls: vec![turn("fra-1", "gru-1", 109_000, 94_000)],
            as_of_unix_s: None,
            protection: Some(ProtectionRow {
                egress: "gru-1".into(),
                protected: true,
                planes: vec![0, 1],
                ways: vec![
                    vec!["fra-1".into(), "iad-1".into(), "gru-1".into()],
                    vec!["fra-1".into(), "gru-1".into()],
                ],
                reason: None,
                redundant_share: Vec::new(),
            }),
        }
    }

    #[test]
    fn explanations_read_like_sentences() {
        let row = explained();
        insta::assert_snapshot!("explain", explanation(&row));
        insta::assert_snapshot!("explain_dot", dot(row.chosen.as_ref(), row.runner_up.as_ref()));
        let why = WhyNotRow {
            via: "lhr-1".into(),
            verdict: "avoided".into(),
            avoided: Some("no_session".into()),
            chosen: row.chosen.clone(),
            detour: None,
            margin_us: None,
        };
        insta::assert_snapshot!("why_not", reason(&why));
        let bridged = ProtectionRow {
            egress: "gru-1".into(),
            protected: false,
            planes: Vec::new(),
            ways: Vec::new(),
            reason: Some("every way passes the link fra-1-iad-1".into()),
            redundant_share: Vec::new(),
        };
        let bridged = ExplainRow { protection: Some(bridged), ..row.clone() };
        let once = "\nprotected streams go there once: every way passes the link fra-1-iad-1\n";
        assert!(explanation(&bridged).contains(once));
        let mut sharing = row.clone();
        if let Some(protection) = &mut sharing.protection {
            protection.reason = Some("both ways pass relays of region us-east".into());
            protection.redundant_share = vec!["region us-east".into(), "ISP x".into()];
        }
        let said = "at once: both ways pass relays of region us-east\nred and blue both pass relays of region us-east and ISP x\n";
        assert!(explanation(&sharing).contains(said), "{}", explanation(&sharing));
        let mut cordoned = row.clone();
        cordoned.runner_up = Some(way(&["fra-1", "lhr-1", "gru-1"], 30_000));
        (cordoned.margin_us, cordoned.rises, cordoned.falls) = (Some(-32_000), Vec::new(), Vec::new());
        let hops = &mut cordoned.runner_up.as_mut().expect("just set").hops;
        hops[0].avoided = Some("no_session".into());
        let text = explanation(&cordoned);
        assert!(text.contains("62.000 ms, 32.000 ms cheaper, but avoided"), "{text}");
        assert!(
            text.contains("whatever the two ways cost, while routes avoid passing lhr-1 (no session)."),
            "{text}"
        );
        let nowhere = ExplainRow { chosen: None, runner_up: None, ..row };
        assert_eq!(
            explanation(&nowhere),
            "fra-1 to gru-1: no way; nothing leads there that routes may use\n"
        );
    }

    #[test]
    fn the_handbook_shows_what_is_printed() {
        let handbook = include_str!("../../../deploy/RUNBOOK.md");
        assert!(handbook.contains(&explanation(&explained())), "{}", explanation(&explained()));
    }

    #[test]
    fn differences_list_routes_then_prices() {
        let route = |plane, before: Option<&str>, after: Option<&str>| route_controller::RouteChangeRow {
            node: "fra-1".into(),
            plane,
            destination: "gru-1".into(),
            before: before.map(str::to_owned),
            after: after.map(str::to_owned),
        };
        let price = route_controller::PriceChangeRow {
            from: "fra-1".into(),
            to: "gru-1".into(),
            before_us: Some(109_000),
            after_us: None,
        };
        let row = DiffRow {
            before: 16,
            after: 17,
            routes: vec![route(0, Some("gru-1"), Some("iad-1")), route(1, None, Some("gru-1"))],
            prices: vec![price],
        };
        insta::assert_snapshot!("diff", changes(&row).to_table());
    }
}
