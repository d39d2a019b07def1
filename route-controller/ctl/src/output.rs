//! How answers are printed.

use anyhow::Context as _;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io::Write as _;
use std::time::Duration;

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
}

/// How a token is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum TokenFormat {
    /// The token alone on a line.
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
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.chain([self.columns[column].len()]).max().unwrap_or(0)
        };
        let numeric = |column: usize| {
            !self.rows.is_empty()
                && self.rows.iter().all(|row| row[column] == ABSENT || row[column].parse::<f64>().is_ok())
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
        for row in &self.rows {
            text.push_str(&line(&mut row.iter().map(String::as_str)));
        }
        text
    }

    /// Comma-separated values.
    pub(crate) fn to_csv(&self) -> String {
        let mut text = format!("{}\n", self.columns.join(","));
        for row in &self.rows {
            let cells: Vec<String> = row.iter().map(|cell| csv_cell(cell)).collect();
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

/// An answer as JSON for people and programs.
pub(crate) fn json(answer: &Value) -> String {
    format!("{answer:#}\n")
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

/// A text in a table; [`ABSENT`] if there is none.
pub(crate) fn text(text: &str) -> String {
    if text.is_empty() { ABSENT.to_owned() } else { text.to_owned() }
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
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
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
    let _ = writeln!(std::io::stderr(), "relayctl: {error:#}");
}

/// Reads a duration: a whole number and `s`, `m`, `h` or `d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let advice = || format!("{text:?} is no duration: write for instance 90s, 15m, 1h or 30d");
    let (number, seconds) = match text.char_indices().next_back().ok_or_else(advice)? {
        (unit, 's') => (&text[..unit], 1),
        (unit, 'm') => (&text[..unit], 60),
        (unit, 'h') => (&text[..unit], 3600),
        (unit, 'd') => (&text[..unit], 24 * 3600),
        _ => return Err(advice()),
    };
    let number: u64 = number.parse().map_err(|_| advice())?;
    number.checked_mul(seconds).filter(|total| *total > 0).map(Duration::from_secs).ok_or_else(advice)
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
    fn csv_quotes_what_needs_it() {
        assert_eq!(
            grid().to_csv(),
            "name,rtt_us,path\nfrä-1,900,\"frä-1, \"\"x\"\"\"\nb,,\"b, \"\"x\"\"\"\n"
        );
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2d"), Ok(Duration::from_secs(172_800)));
        for bad in ["", "1", "h", "-1h", "1.5h", "0s", "99999999999999999999d", "1é"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
