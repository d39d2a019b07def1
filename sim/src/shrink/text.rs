//! A scenario as text that can lose parts of itself.

use super::Size;
use crate::scenario::Scenario;
use link_model::parse_duration;
use std::fmt::Write as _;
use std::ops::Range;
use std::time::Duration;
use toml::{Table, Value};

/// In which order people write keys and tables. Others follow, by name.
const ORDER: [&str; 39] = [
    "name",
    "seed",
    "run_for",
    "mesh",
    "clients_link",
    "controller_delay",
    "relay",
    "link",
    "client",
    "stream",
    "subscription",
    "fault",
    "policy",
    "price",
    "expect",
    "between",
    "is",
    "at",
    "cut",
    "crash",
    "leave",
    "isolate",
    "mute",
    "freeze",
    "hostile",
    "drain",
    "room",
    "user",
    "kind",
    "bursts_per_s",
    "burst",
    "spread",
    "bytes",
    "recording",
    "budget",
    "protect",
    "priority",
    "from",
    "until",
];

/// Keys that have a default, by table; "" is the scenario itself.
const OPTIONAL: [(&str, &[&str]); 5] = [
    (
        "",
        &[
            "clients_link",
            "controller_delay",
            "packets_from",
            "clock_drift_ppm",
            "stalls",
            "feed_gain",
            "index_quarantine",
            "policies_from",
        ],
    ),
    ("relay", &["region", "position"]),
    ("client", &["others", "namespace", "rooms", "publish", "subscribe"]),
    ("stream", &["burst", "spread", "budget", "protect", "priority", "from", "until"]),
    ("subscription", &["user", "stream", "from", "until"]),
];

/// A scenario, perhaps.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Draft(Table);

impl Draft {
    pub(super) fn read(text: &str) -> Option<Draft> {
        text.parse().ok().map(Draft)
    }

    /// As people write it.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let mut tables = String::new();
        for (key, value) in in_order(&self.0) {
            match value {
                Value::Table(table) => write_table(&mut tables, &format!("[{key}]"), table),
                // A list that may be absent; of what nobody wants, the scenario says so.
                Value::Array(items) if items.is_empty() && key != "subscription" => {}
                Value::Array(items) if !items.is_empty() && items.iter().all(Value::is_table) => {
                    for table in items.iter().filter_map(Value::as_table) {
                        write_table(&mut tables, &format!("[[{key}]]"), table);
                    }
                }
                Value::Array(_)
                | Value::String(_)
                | Value::Integer(_)
                | Value::Float(_)
                | Value::Boolean(_)
                | Value::Datetime(_) => {
                    writeln!(text, "{key} = {value}").expect("writing to a string succeeds");
                }
            }
        }
        text + &tables
    }

    pub(super) fn size(&self) -> Size {
        Size {
            relays: self.count("relay"),
            links: self.count("link"),
            clients: self.count("client"),
            wishes: self.count("stream") + self.count("subscription"),
            faults: self.count("fault"),
            run_for: self.0.get("run_for").and_then(time).unwrap_or_default(),
        }
    }

    fn tables(&self, list: &str) -> &[Value] {
        self.0.get(list).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    fn tables_mut(&mut self, list: &str) -> &mut Vec<Value> {
        let list = self.0.entry(list).or_insert_with(|| Value::Array(Vec::new()));
        list.as_array_mut().expect("a scenario's lists are lists")
    }

    fn retain(&mut self, list: &str, keep: impl Fn(&Table) -> bool) {
        if self.0.contains_key(list) {
            self.tables_mut(list).retain(|table| table.as_table().is_some_and(&keep));
        }
    }

    /// Tables of a list.
    pub(super) fn count(&self, list: &str) -> usize {
        self.tables(list).len()
    }

    /// Without some tables of a list, and without whatever names a host that is gone.
    pub(super) fn without(&self, list: &str, which: Range<usize>) -> Draft {
        let mut other = self.clone();
        let gone: Vec<Value> = other.tables_mut(list).drain(which).collect();
        for host in gone.iter().filter_map(|table| string(table.as_table()?, "name")) {
            match list {
                "relay" => {
                    let clients: Vec<String> = other
                        .tables("client")
                        .iter()
                        .filter_map(Value::as_table)
                        .filter(|client| string(client, "relay") == Some(host))
                        .filter_map(|client| string(client, "name").map(ToOwned::to_owned))
                        .collect();
                    clients.iter().for_each(|client| other.forget_client(client));
                    other.forget_host(host);
                }
                "client" => other.forget_client(host),
                _ => {}
            }
        }
        other
    }

    /// Relays that a link joins, both ways: the one that could go, and the one that could take its clients.
    pub(super) fn neighbours(&self) -> Vec<(String, String)> {
        let relays: Vec<&str> =
            self.of_list("relay").into_iter().filter_map(|relay| string(relay, "name")).collect();
        let links = self.of_list("link").into_iter().filter_map(|link| string(link, "between"));
        let mut pairs = Vec::new();
        for between in links {
            let ends = |relay: &&&str| mentions(between, relay);
            let ends: Vec<&str> = relays.iter().filter(ends).copied().collect();
            if let [one, other] = ends[..] {
                pairs.push((one.to_owned(), other.to_owned()));
                pairs.push((other.to_owned(), one.to_owned()));
            }
        }
        pairs.dedup();
        pairs
    }

    /// Without a relay, whose clients go to another.
    pub(super) fn merged(&self, gone: &str, into: &str) -> Draft {
        let mut other = self.clone();
        for client in other.tables_mut("client").iter_mut().filter_map(Value::as_table_mut) {
            if string(client, "relay") == Some(gone) {
                client.insert("relay".to_owned(), Value::String(into.to_owned()));
            }
        }
        other.retain("relay", |relay| string(relay, "name") != Some(gone));
        other.forget_host(gone);
        other
    }

    fn forget_client(&mut self, name: &str) {
        self.retain("client", |client| string(client, "name") != Some(name));
        for list in ["stream", "subscription"] {
            self.retain(list, |table| string(table, "client") != Some(name));
        }
        self.forget_host(name);
    }

    /// Links and faults of a host go, and it is nobody's other relay.
    fn forget_host(&mut self, name: &str) {
        self.retain("link", |link| !string(link, "between").is_some_and(|between| mentions(between, name)));
        self.retain("fault", |fault| {
            !fault.values().filter_map(Value::as_str).any(|value| value == name || mentions(value, name))
        });
        if self.0.contains_key("client") {
            for client in self.tables_mut("client").iter_mut().filter_map(Value::as_table_mut) {
                if let Some(Value::Array(others)) = client.get_mut("others") {
                    others.retain(|other| other.as_str() != Some(name));
                }
            }
        }
    }

    /// Keys that could take their default: table, its place, key.
    pub(super) fn optional(&self) -> Vec<(&'static str, usize, &'static str)> {
        let mut all = Vec::new();
        for (list, keys) in OPTIONAL {
            for (place, table) in self.of_list(list).into_iter().enumerate() {
                all.extend(
                    keys.iter().filter(|key| table.contains_key(**key)).map(|key| (list, place, *key)),
                );
            }
        }
        all
    }

    fn of_list(&self, list: &str) -> Vec<&Table> {
        if list.is_empty() {
            vec![&self.0]
        } else {
            self.tables(list).iter().filter_map(Value::as_table).collect()
        }
    }

    pub(super) fn without_optional(&self, which: Range<usize>) -> Draft {
        let mut other = self.clone();
        for (list, place, key) in &self.optional()[which] {
            let table = if list.is_empty() {
                Some(&mut other.0)
            } else {
                other.tables_mut(list)[*place].as_table_mut()
            };
            table.and_then(|table| table.remove(*key));
        }
        other
    }

    /// What links do besides taking their time: the link (`None` for what all of a kind do), its key, and the option's place.
    pub(super) fn link_options(&self) -> Vec<(Option<usize>, &'static str, usize)> {
        let options = |spec: &str| -> Vec<usize> {
            let options = spec.split(',').enumerate();
            options.filter(|(_, option)| !option.trim().starts_with("delay")).map(|(at, _)| at).collect()
        };
        let mut all = Vec::new();
        for key in ["mesh", "clients_link"] {
            let spec = string(&self.0, key).unwrap_or_default();
            all.extend(options(spec).into_iter().filter(|_| !spec.is_empty()).map(|at| (None, key, at)));
        }
        for (place, link) in self.of_list("link").into_iter().enumerate() {
            let spec = string(link, "is").unwrap_or_default();
            // A link that says one thing goes as a whole or not at all.
            all.extend(
                options(spec).into_iter().filter(|_| spec.contains(',')).map(|at| (Some(place), "is", at)),
            );
        }
        all
    }

    pub(super) fn without_link_options(&self, which: Range<usize>) -> Draft {
        let mut other = self.clone();
        // From the back, so that places stay.
        for (link, key, at) in self.link_options()[which].iter().rev() {
            let table = match link {
                Some(place) => other.tables_mut("link")[*place].as_table_mut(),
                None => Some(&mut other.0),
            };
            let Some(Value::String(spec)) = table.and_then(|table| table.get_mut(*key)) else { continue };
            let options: Vec<_> = spec.split(',').enumerate().filter(|(place, _)| place != at).collect();
            *spec = options.into_iter().map(|(_, option)| option).collect::<Vec<_>>().join(",");
        }
        other
    }

    /// Over then: nothing begins after it, and what would have ended after it goes on to the end.
    pub(super) fn ending(&self, run_for: Duration) -> Draft {
        let mut other = self.clone();
        other.0.insert("run_for".to_owned(), Value::String(format!("{}ms", run_for.as_millis())));
        let media = run_for.saturating_sub(Scenario::TAIL);
        let begins = |table: &Table, key: &str, end: Duration| {
            table.get(key).and_then(time).is_none_or(|from| from < end)
        };
        other.retain("link", |link| begins(link, "from", run_for));
        other.retain("fault", |fault| begins(fault, "at", run_for));
        for list in ["stream", "subscription"] {
            other.retain(list, |table| begins(table, "from", media));
            if !other.0.contains_key(list) {
                continue;
            }
            for table in other.tables_mut(list).iter_mut().filter_map(Value::as_table_mut) {
                if table.get("until").and_then(time).is_some_and(|until| until > media) {
                    table.remove("until");
                }
            }
        }
        other
    }
}

fn time(value: &Value) -> Option<Duration> {
    value.as_str().and_then(parse_duration)
}

fn string<'a>(table: &'a Table, key: &str) -> Option<&'a str> {
    table.get(key).and_then(Value::as_str)
}

/// Whether one of several selectors, `A-B` or `A>B`, names the host as one of its ends.
fn mentions(selectors: &str, host: &str) -> bool {
    selectors.split(',').map(str::trim).any(|selector| {
        ["-", ">"].iter().any(|sign| {
            selector.strip_prefix(host).is_some_and(|rest| rest.starts_with(sign))
                || selector.strip_suffix(host).is_some_and(|rest| rest.ends_with(sign))
        })
    })
}

fn in_order(table: &Table) -> Vec<(&String, &Value)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| {
        (ORDER.iter().position(|known| known == key).unwrap_or(ORDER.len()), (*key).clone())
    });
    entries
}

fn write_table(text: &mut String, head: &str, table: &Table) {
    writeln!(text, "\n{head}").expect("writing to a string succeeds");
    for (key, value) in in_order(table) {
        writeln!(text, "{key} = {value}").expect("writing to a string succeeds");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::{drawn, drawn_text};

    #[test]
    fn text_gives_the_same_scenario_again() {
        for seed in 0..50 {
            let draft = Draft::read(&drawn_text(seed)).expect("TOML");
            let again = Scenario::parse(&draft.text(), &mut |_| unreachable!("names no files"));
            let again = again.unwrap_or_else(|error| panic!("{error}\n{}", draft.text()));
            assert_eq!(format!("{again:?}"), format!("{:?}", drawn(seed)));
            assert_eq!(draft.size().relays, again.relays.len());
            assert_eq!(draft.size().run_for, again.run_for);
        }
    }

    #[test]
    fn a_relay_takes_all_with_it_that_names_it() {
        let mut left = 0;
        for seed in 0..50 {
            let draft = Draft::read(&drawn_text(seed)).expect("TOML");
            let name = |place: usize| string(draft.tables("relay")[place].as_table()?, "name");
            for place in 0..draft.count("relay") {
                let other = draft.without("relay", place..place + 1);
                let name = format!("\"{}\"", name(place).expect("a relay has a name"));
                assert!(!other.text().contains(&name), "seed {seed}: {name}\n{}", other.text());
                // Legal, unless no client is left.
                let parsed = Scenario::parse(&other.text(), &mut |_| unreachable!("names no files"));
                left += usize::from(parsed.is_ok());
                assert!(parsed.is_ok() || other.count("stream") == 0, "{parsed:?}");
            }
        }
        assert!(left > 100);
    }

    #[test]
    fn a_relay_leaves_its_clients_to_a_neighbour() {
        for seed in 0..20 {
            let draft = Draft::read(&drawn_text(seed)).expect("TOML");
            for (gone, into) in draft.neighbours() {
                let merged = draft.merged(&gone, &into);
                assert_eq!(merged.count("relay") + 1, draft.count("relay"));
                assert_eq!(merged.count("client"), draft.count("client"));
                let parsed = Scenario::parse(&merged.text(), &mut |_| unreachable!("names no files"));
                assert!(parsed.is_ok(), "seed {seed}: {gone} into {into}: {parsed:?}");
            }
        }
    }

    #[test]
    fn a_shorter_run_is_legal() {
        for seed in 0..50 {
            let draft = Draft::read(&drawn_text(seed)).expect("TOML").ending(Duration::from_secs(7));
            let parsed = Scenario::parse(&draft.text(), &mut |_| unreachable!("names no files"));
            assert!(parsed.is_ok() || draft.count("stream") == 0, "{parsed:?}");
        }
    }

    #[test]
    fn hosts_with_signs_in_their_names_are_told_apart() {
        assert!(mentions("sfu-1-r1", "sfu-1") && mentions("sfu-1-r1", "r1") && mentions("a>b, b>c", "c"));
        assert!(!mentions("r1-r22", "r2") && !mentions("r11>r2", "r1"));
    }
}
