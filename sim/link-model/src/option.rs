//! `--link SELECTOR:KEY=VALUE,...[@TIME]`: which links change, how, and from when on.

use crate::units::parse_duration;
use crate::{LinkChange, LinkSpec, SpecError};
use std::time::Duration;

/// Which links an option is about. Names are compared whole, so that they may contain a `-` themselves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Selector {
    /// Every link between relays.
    All,
    /// `A>B`: one direction.
    Directed {
        /// Where it begins.
        from: String,
        /// Where it ends.
        to: String,
    },
    /// `A-B`: both directions, kept as written.
    Both(String),
}

impl Selector {
    /// Reads `A-B`, `A>B` or `all`.
    ///
    /// # Errors
    /// If it is none of these.
    pub fn parse(text: &str) -> Result<Selector, SpecError> {
        let bad = || SpecError::BadSelector { selector: text.to_owned() };
        if text == "all" {
            return Ok(Selector::All);
        }
        if let Some((from, to)) = text.split_once('>') {
            if from.is_empty() || to.is_empty() || to.contains('>') {
                return Err(bad());
            }
            return Ok(Selector::Directed { from: from.to_owned(), to: to.to_owned() });
        }
        match text.split_once('-') {
            Some((from, to)) if !from.is_empty() && !to.is_empty() => Ok(Selector::Both(text.to_owned())),
            Some(_) | None => Err(bad()),
        }
    }

    /// Whether it is about the direction from one to the other.
    pub fn matches(&self, from: &str, to: &str) -> bool {
        let joined = |text: &str, first: &str, second: &str| {
            text.strip_prefix(first).and_then(|rest| rest.strip_prefix('-')) == Some(second)
        };
        match self {
            Selector::All => true,
            Selector::Directed { from: own_from, to: own_to } => own_from == from && own_to == to,
            Selector::Both(text) => joined(text, from, to) || joined(text, to, from),
        }
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Selector::All => f.write_str("all"),
            Selector::Directed { from, to } => write!(f, "{from}>{to}"),
            Selector::Both(text) => f.write_str(text),
        }
    }
}

/// One `--link` option.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkOption {
    /// Which links.
    pub selector: Selector,
    /// What changes.
    pub change: LinkChange,
    /// From when on.
    pub at: Duration,
}

impl LinkOption {
    /// Reads `SELECTOR:KEY=VALUE,...[@TIME]`. `read` gives the text of a trace file.
    ///
    /// # Errors
    /// A message for people about the first thing that is wrong.
    pub fn parse(
        text: &str,
        read: &mut dyn FnMut(&str) -> std::io::Result<String>,
    ) -> Result<LinkOption, SpecError> {
        let Some((selector, rest)) = text.split_once(':') else {
            return Err(SpecError::NoSelector { text: text.to_owned() });
        };
        let selector = Selector::parse(selector.trim())?;
        let (change, at) = match rest.rsplit_once('@') {
            Some((change, time)) => {
                let at = parse_duration(time.trim())
                    .ok_or_else(|| SpecError::BadTime { time: time.to_owned() })?;
                (change, at)
            }
            None => (rest, Duration::ZERO),
        };
        Ok(LinkOption { selector, change: LinkChange::parse(change, read)?, at })
    }

    /// Checks that the selector names a link between two of these.
    ///
    /// # Errors
    /// [`SpecError::NoSuchLink`].
    pub fn check_names(&self, names: &[&str]) -> Result<(), SpecError> {
        let pairs = || names.iter().flat_map(|from| names.iter().map(move |to| (*from, *to)));
        if pairs().any(|(from, to)| from != to && self.selector.matches(from, to)) {
            return Ok(());
        }
        Err(SpecError::NoSuchLink { selector: self.selector.to_string(), names: names.join(", ") })
    }
}

/// What one direction of a link does over time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkSchedule {
    /// At each time from then on; the first at zero, times ascending, all different.
    steps: Vec<(Duration, LinkSpec)>,
}

impl LinkSchedule {
    /// What `options` make of the direction from one to the other, whose plain form is `base`. Options apply in the
    /// order of their times and, at equal times, in the order given: a later one wins.
    ///
    /// # Errors
    /// If a burst length does not fit the loss at that time.
    pub fn new(
        base: &LinkSpec,
        from: &str,
        to: &str,
        options: &[LinkOption],
    ) -> Result<LinkSchedule, SpecError> {
        let mut ordered: Vec<_> = options.iter().filter(|option| option.selector.matches(from, to)).collect();
        ordered.sort_by_key(|option| option.at);
        let mut steps = vec![(Duration::ZERO, base.clone())];
        for option in ordered {
            let (at, last) = steps.last().expect("there is a first step");
            let spec = last.with(&option.change)?;
            if *at == option.at {
                steps.pop();
            }
            steps.push((option.at, spec));
        }
        Ok(LinkSchedule { steps })
    }

    /// The same at all times.
    pub fn constant(spec: LinkSpec) -> LinkSchedule {
        LinkSchedule { steps: vec![(Duration::ZERO, spec)] }
    }

    /// What the link does at first.
    pub fn first(&self) -> &LinkSpec {
        &self.steps[0].1
    }

    /// What it does then.
    pub fn at(&self, time: Duration) -> &LinkSpec {
        let step = self.steps.iter().rfind(|(from, _)| *from <= time);
        &step.expect("the first is from zero on").1
    }

    /// What it does later, and from when on, by time.
    pub fn later(&self) -> &[(Duration, LinkSpec)] {
        &self.steps[1..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option(text: &str) -> Result<LinkOption, SpecError> {
        LinkOption::parse(text, &mut |_| Ok("01".to_owned()))
    }

    #[test]
    fn selectors_match_their_directions() {
        for (selector, from, to, matches) in [
            ("all", "r1", "r2", true),
            ("r1-r2", "r1", "r2", true),
            ("r1-r2", "r2", "r1", true),
            ("r1-r2", "r1", "r22", false),
            ("r1>r2", "r1", "r2", true),
            ("r1>r2", "r2", "r1", false),
            ("fra-1-sin-2", "fra-1", "sin-2", true),
            ("fra-1-sin-2", "sin-2", "fra-1", true),
            ("fra-1-sin-2", "fra", "sin-2", false),
        ] {
            let parsed = Selector::parse(selector).expect(selector);
            assert_eq!(parsed.matches(from, to), matches, "{selector} {from} {to}");
            assert_eq!(parsed.to_string(), selector);
        }
    }

    #[test]
    fn a_later_option_wins_from_its_time_on() {
        let options: Vec<_> =
            ["r1>r2:down@5s", "all:delay=10ms,loss=1%", "r1-r2:delay=30ms", "r1-r2:down=false@7s"]
                .into_iter()
                .map(|text| option(text).expect(text))
                .collect();
        let schedule = LinkSchedule::new(&LinkSpec::default(), "r1", "r2", &options).expect("fits");
        assert_eq!(schedule.first().delay, Duration::from_millis(30));
        assert_eq!(schedule.first().loss, crate::Loss::Alone(crate::Ppm(10_000)));
        let later: Vec<_> = schedule.later().iter().map(|(at, spec)| (at.as_secs(), spec.down)).collect();
        assert_eq!(later, [(5, true), (7, false)]);
        let back = LinkSchedule::new(&LinkSpec::default(), "r2", "r1", &options).expect("fits");
        assert_eq!(back.later().len(), 1);
        assert!(!back.later()[0].1.down);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, message) in [
            (
                "delay=20ms",
                "has no colon between selector and changes; expected SELECTOR:KEY=VALUE,...[@TIME]",
            ),
            (
                "r1:delay=20ms",
                "selector \"r1\" is not understood; expected A-B (both directions), A>B (one) or all",
            ),
            ("r1>:delay=20ms", "is not understood"),
            ("r1-r2:", "sets nothing"),
            ("r1-r2:down@soon", "@soon is not a time; expected for instance @5s"),
            ("r1-r2:speed=1", "unknown key \"speed\""),
        ] {
            let error = option(text).expect_err(text).to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
        let strange = option("r1-r9:down").expect("well-formed");
        let error = strange.check_names(&["r1", "r2"]).expect_err("no r9").to_string();
        assert_eq!(error, "selector \"r1-r9\" names no link between two of r1, r2");
        assert_eq!(option("r1-r2:down").expect("well-formed").check_names(&["r1", "r2"]), Ok(()));
    }
}
