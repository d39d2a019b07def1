//! How answers are printed.

use anyhow::Context as _;
pub(crate) use route_controller::utc;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io::Write as _;

/// How a list is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum ListFormat {
    /// Aligned columns for people.
    #[default]
    Table,
    /// The admin API's answer.
    Json,
    /// Comma-separated values with a header (RFC 4180).
    Csv,
}

/// How a list that can be drawn is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum GraphFormat {
    /// Aligned columns for people.
    #[default]
    Table,
    /// The admin API's answer.
    Json,
    /// Comma-separated values with a header (RFC 4180).
    Csv,
    /// A graph for Graphviz.
    Dot,
    /// A picture.
    Svg,
}

/// How ways are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum WayFormat {
    /// Sentences and tables for people.
    #[default]
    Text,
    /// The admin API's answer.
    Json,
    /// A graph for Graphviz.
    Dot,
    /// A picture.
    Svg,
}

/// How a single answer is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum TextFormat {
    /// The answer alone: a token, or a sentence.
    #[default]
    Text,
    /// The admin API's answer.
    Json,
}

/// A list with named columns, ready to be printed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Grid {
    /// Column names; units last.
    pub(crate) columns: Vec<&'static str>,
    /// One text per column.
    pub(crate) rows: Vec<Vec<String>>,
}

impl Grid {
    /// Aligned columns; those that hold only numbers are aligned to the right.
    pub(crate) fn to_table(&self) -> String {
        let rows: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
        let width = |column: usize| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.chain([self.columns[column].len()]).max().unwrap_or(0)
        };
        let numeric = |column: usize| {
            !rows.is_empty()
                && rows.iter().all(|row| row[column] == ABSENT || row[column].parse::<f64>().is_ok())
        };
        let layout: Vec<(usize, bool)> = (0..self.columns.len()).map(|c| (width(c), numeric(c))).collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let mut text = String::new();
            for (cell, (width, right)) in cells.zip(&layout) {
                let pad = " ".repeat(width - cell.chars().count());
                let (before, after) = if *right { (pad.as_str(), "") } else { ("", pad.as_str()) };
                text.push_str(before);
                text.push_str(cell);
                text.push_str(after);
                text.push_str("  ");
            }
            format!("{}\n", text.trim_end())
        };
        let header: Vec<String> = self.columns.iter().map(|column| column.to_uppercase()).collect();
        let mut text = line(&mut header.iter().map(String::as_str));
        for row in &rows {
            text.push_str(&line(&mut row.iter().map(String::as_str)));
        }
        text
    }

    /// These columns alone, in this order; names that there are not are left out.
    pub(crate) fn only(&self, columns: &[&str]) -> Grid {
        let places: Vec<usize> =
            columns.iter().filter_map(|name| self.columns.iter().position(|column| column == name)).collect();
        Grid {
            columns: places.iter().map(|place| self.columns[*place]).collect(),
            rows: self
                .rows
                .iter()
                .map(|row| places.iter().map(|place| row[*place].clone()).collect())
                .collect(),
        }
    }

    /// Comma-separated values.
    pub(crate) fn to_csv(&self) -> String {
        let mut text = format!("{}\n", self.columns.join(","));
        for row in &self.rows {
            let cells: Vec<String> = row.iter().map(|cell| csv_cell(&printable(cell))).collect();
            text.push_str(&cells.join(","));
            text.push('\n');
        }
        text
    }
}

/// Stands for what is not known in a table.
pub(crate) const ABSENT: &str = "-";

fn csv_cell(cell: &str) -> String {
    match cell {
        ABSENT => String::new(),
        _ if cell.contains([',', '"', '\n', '\r']) => format!("\"{}\"", cell.replace('"', "\"\"")),
        _ => cell.to_owned(),
    }
}

/// An answer as JSON for people and programs. What a terminal must not be shown is written as JSON escapes it.
pub(crate) fn json(answer: &Value) -> String {
    let text = format!("{answer:#}\n");
    // Strings alone hold such characters, except for the line breaks between their neighbours.
    let escaped = |c: char| match c {
        '\n' => c.to_string(),
        _ if is_hidden(c) => format!("\\u{:04x}", u32::from(c)),
        _ => c.to_string(),
    };
    text.chars().map(escaped).collect()
}

/// The rows of an answer, which has them under `name`.
pub(crate) fn rows<T: DeserializeOwned>(mut answer: Value, name: &str) -> anyhow::Result<Vec<T>> {
    parsed(answer.get_mut(name).map_or(Value::Null, Value::take))
}

/// An answer as the type that this build knows.
pub(crate) fn parsed<T: DeserializeOwned>(answer: Value) -> anyhow::Result<T> {
    serde_json::from_value(answer).context(
        "the controller's answer is of another version: use the relayctl that came with it, or `-o json`",
    )
}

/// A text from the network as a terminal may be shown it: control characters are escaped, and so are those that turn
/// the direction of what follows.
pub(crate) fn printable(text: &str) -> String {
    if !text.contains(is_hidden) {
        return text.to_owned();
    }
    let escaped = |c: char| if is_hidden(c) { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escaped).collect()
}

/// Steers a terminal, or turns the direction of what follows. All of them have at most four hexadecimal digits.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A text as one segment of a URL's path (RFC 3986 section 2.1).
pub(crate) fn path_segment(text: &str) -> String {
    let escaped = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escaped).collect()
}

/// A text in a table; [`ABSENT`] if there is none.
pub(crate) fn text(text: &str) -> String {
    if text.is_empty() { ABSENT.to_owned() } else { text.to_owned() }
}

/// Whether something is so, in a table.
pub(crate) fn yes_or_no(so: bool) -> String {
    if so { "yes" } else { "no" }.to_owned()
}

/// A number in a table; [`ABSENT`] if there is none.
pub(crate) fn number(number: Option<impl ToString>) -> String {
    number.map_or(ABSENT.to_owned(), |number| number.to_string())
}

/// A number with that many decimals.
pub(crate) fn fixed(number: f64, decimals: usize) -> String {
    format!("{number:.decimals$}")
}

/// A text within quotes for Graphviz.
pub(crate) fn dot_text(text: &str) -> String {
    format!("\"{}\"", printable(text).replace('\\', "\\\\").replace('"', "\\\""))
}

/// Writes to stdout what was asked for.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        // Whoever reads has enough, as in `relayctl nodes | head -1`.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        outcome => Ok(outcome?),
    }
}

/// Writes to stderr why something failed, causes included.
pub(crate) fn complain(error: &anyhow::Error) {
    // Nobody is left to tell if stderr is closed.
    let text = format!("{error:#}");
    let lines: Vec<String> = text.lines().map(printable).collect();
    let _ = writeln!(std::io::stderr(), "relayctl: {}", lines.join("\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid {
        let row = |name: &str, rtt: &str| vec![name.to_owned(), rtt.to_owned(), format!("{name}, \"x\"")];
        Grid { columns: vec!["name", "rtt_us", "path"], rows: vec![row("frä-1", "900"), row("b", ABSENT)] }
    }

    #[test]
    fn tables_align_numbers_to_the_right() {
        let expected = "\
NAME   RTT_US  PATH
frä-1     900  frä-1, \"x\"
b           -  b, \"x\"
";
        assert_eq!(grid().to_table(), expected);
    }

    #[test]
    fn nothing_from_the_network_steers_the_terminal() {
        let hostile = "r1\u{1b}[2J\r\n\u{202e}x\u{9b}1m";
        assert_eq!(printable(hostile), "r1\\u{1b}[2J\\r\\n\\u{202e}x\\u{9b}1m");
        assert_eq!(printable("frä-1 日本"), "frä-1 日本");
        let table = Grid { columns: vec!["name"], rows: vec![vec![hostile.to_owned()]] }.to_table();
        assert!(table.chars().all(|c| c == '\n' || !c.is_control()), "{table:?}");
        let csv = Grid { columns: vec!["name"], rows: vec![vec![hostile.to_owned()]] }.to_csv();
        assert!(csv.chars().all(|c| c == '\n' || !c.is_control()), "{csv:?}");
        let answer = serde_json::json!({ "name": hostile, "more": ["frä-1"] });
        let text = json(&answer);
        assert!(text.chars().all(|c| c == '\n' || !is_hidden(c)), "{text:?}");
        assert_eq!(serde_json::from_str::<Value>(&text).expect("still JSON"), answer);
        assert!(text.contains("frä-1"));
        assert_eq!(dot_text("a\u{1b}\"b"), "\"a\\\\u{1b}\\\"b\"");
        assert_eq!(path_segment("a/../b?c"), "a%2F..%2Fb%3Fc");
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        assert_eq!(
            grid().to_csv(),
            "name,rtt_us,path\nfrä-1,900,\"frä-1, \"\"x\"\"\"\nb,,\"b, \"\"x\"\"\"\n"
        );
    }
}
