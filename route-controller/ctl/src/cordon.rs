//! `relayctl cordon`, `uncordon` and `drain`

use crate::ControllerArgs;
use crate::cli::{CordonArgs, DrainArgs};
use crate::client::Client;
use crate::output::{self, TextFormat, printable};
use anyhow::bail;
use route_controller::DrainRow;
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::time::Duration;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(crate) fn run(controller: &ControllerArgs, args: &CordonArgs, cordoned: bool) -> anyhow::Result<()> {
    let answer = change(&Client::new(controller)?, &args.name, cordoned)?;
    output::print(&match args.output {
        TextFormat::Json => output::json(&answer),
        TextFormat::Text if cordoned => {
            format!("{}\n", state(&output::parsed(answer)?))
        }
        TextFormat::Text => format!("routes may pass {} again\n", printable(&args.name)),
    })
}

/// Begins to empty the relay, and waits until it carries nothing.
pub(crate) fn drain(controller: &ControllerArgs, args: &DrainArgs) -> anyhow::Result<()> {
    let client = Client::new(controller)?;
    let path = format!("/v1/nodes/{}/drain", output::path_segment(&args.name));
    client.post(&path, &json!({}))?;
    let watched = std::io::stderr().is_terminal();
    let mut told = String::new();
    let looks = args.timeout.saturating_mul(1_000) / LOOK_EVERY.as_millis() as u64;
    for look in 0..=looks {
        let answer = client.get(&path, &[])?;
        let row: DrainRow = output::parsed(answer.clone())?;
        if row.drained {
            return output::print(&match args.output {
                TextFormat::Json => output::json(&answer),
                TextFormat::Text => format!("{}\n", state(&row)),
            });
        }
        if look == looks {
            if args.output == TextFormat::Json {
                output::print(&output::json(&answer))?;
            }
            bail!("not drained after {} s: {}", args.timeout, state(&row));
        }
        let now = progress(&row);
        if watched && now != told {
            eprintln!("{now}");
            told = now;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

fn change(client: &Client, name: &str, cordoned: bool) -> anyhow::Result<Value> {
    let what = if cordoned { "cordon" } else { "uncordon" };
    client.post(&format!("/v1/nodes/{}/{what}", output::path_segment(name)), &json!({}))
}

/// What is left, for those who watch.
fn progress(row: &DrainRow) -> String {
    let DrainRow { name, cordoned: _, draining: _, drained: _, transit_pairs, publications, subscriptions } =
        row;
    format!(
        "{}: {transit_pairs} ways between others, {publications} publications and {subscriptions} subscriptions left",
        printable(name)
    )
}

fn state(row: &DrainRow) -> String {
    let name = printable(&row.name);
    let DrainRow { transit_pairs, publications, subscriptions, .. } = row;
    if row.drained {
        return format!("{name} is drained: it carries nothing and can be stopped");
    }
    let mut left = Vec::new();
    if *transit_pairs > 0 {
        left.push(format!(
            "{transit_pairs} ways between others still pass it (new routes take seconds; where nothing else leads on, \
             they stay)"
        ));
    }
    if publications + subscriptions > 0 {
        left.push(format!(
            "{publications} publications and {subscriptions} subscriptions are held there: {}",
            if row.draining {
                "SFUs that have another relay to go to are moving; link the others elsewhere, and end plain RTP registrations"
            } else {
                "`relayctl drain` has SFUs move to other relays"
            }
        ));
    }
    let left = if left.is_empty() { "nothing passes it any more".to_owned() } else { left.join("; ") };
    format!("{name} is {}: {left}", if row.draining { "draining" } else { "cordoned" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told() {
        let row = DrainRow {
            name: "fra-1".into(),
            cordoned: true,
            draining: true,
            drained: false,
            transit_pairs: 12,
            publications: 2,
            subscriptions: 0,
        };
        let text = state(&row);
        assert!(text.contains("12 ways") && text.contains("2 publications and 0 subscriptions"), "{text}");
        assert!(text.starts_with("fra-1 is draining"), "{text}");
        let cordoned = DrainRow { draining: false, ..row.clone() };
        assert!(state(&cordoned).contains("`relayctl drain` has SFUs move"), "{}", state(&cordoned));
        assert_eq!(progress(&row), "fra-1: 12 ways between others, 2 publications and 0 subscriptions left");
        let empty = DrainRow { transit_pairs: 0, publications: 0, drained: true, ..row };
        assert_eq!(state(&empty), "fra-1 is drained: it carries nothing and can be stopped");
    }
}
