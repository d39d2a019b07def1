//! The list of what swarms have found: one failure a line, its seed, the version that failed, and the scenario that it was
//! shrunk to, by its path from the list. A line stays for ever; what it names must never fail again.

/// A line of the list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Regression {
    /// The seed, of the run and once of the drawing.
    pub seed: u64,
    /// The version of the simulator that failed.
    pub version: String,
    /// The scenario, from the folder of the list.
    pub file: String,
}

/// Lines that are none.
#[derive(Debug, thiserror::Error)]
#[error(
    "line {line} is {text:?}; expected seed, version and scenario, for instance 17 0.1.0 tests/seeds/seed-17.toml"
)]
pub struct RegressionError {
    line: usize,
    text: String,
}

impl Regression {
    /// What a new list begins with.
    pub const HEAD: &str = "\
# What swarms have found, one a line: seed, version that failed, scenario. `sim swarm --regressions` replays all of it
# and adds what it finds.

";

    /// All lines of a list. Empty ones and those that begin with `#` say nothing.
    ///
    /// # Errors
    /// The first line that is none.
    pub fn list(text: &str) -> Result<Vec<Regression>, RegressionError> {
        let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        lines
            .map(|(line, text)| {
                let bad = || RegressionError { line, text: text.to_owned() };
                let mut words = text.splitn(3, ' ');
                let mut word = || words.next().map(str::trim).filter(|word| !word.is_empty());
                let (Some(seed), Some(version), Some(file)) = (word(), word(), word()) else {
                    return Err(bad());
                };
                let seed = seed.parse().map_err(|_| bad())?;
                Ok(Regression { seed, version: version.to_owned(), file: file.to_owned() })
            })
            .collect()
    }
}

impl std::fmt::Display for Regression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.seed, self.version, self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_reads_what_it_writes() {
        let line =
            Regression { seed: 17, version: "0.1.0".to_owned(), file: "tests/seeds/a b.toml".to_owned() };
        let text = format!("{}{line}\n", Regression::HEAD);
        assert_eq!(Regression::list(&text).expect("a list"), [line]);
    }

    #[test]
    fn what_is_no_line_is_named() {
        for bad in ["17 0.1.0", "seed 0.1.0 a.toml", "17"] {
            let error =
                Regression::list(&format!("# a comment\n\n{bad}\n")).expect_err("no line").to_string();
            assert!(error.starts_with(&format!("line 3 is {bad:?}")), "{error}");
        }
    }
}
