//! Makes a failing scenario small: delta debugging (Zeller, Hildebrandt: Simplifying and Isolating Failure-Inducing Input,
//! 2002) on its text, table by table.
//!
//! Everything that can be left out is left out in ever smaller shares, as long as the run still fails in the same way: the
//! judge that objected first objects, or the same panic comes. The run is shortened, relays leave their clients to a
//! neighbour, links lose all but their delay, and what has a default takes it; again and again until nothing gives, or so many runs have been made. What is cut too
//! deep is no scenario, which costs no run. The same scenario and seed shrink to the same, wherever and whenever.
//!
//! What must hold (`[expect]`) is not touched.

mod text;

use crate::report::Outcome;
use crate::scenario::{Scenario, ScenarioError};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use text::Draft;

/// The run is shortened by no less than this.
const SHORTER_BY: Duration = Duration::from_millis(500);

/// How a run failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// A judge objects.
    Objection {
        /// Who.
        judge: String,
        /// When and to what.
        what: String,
    },
    /// It panicked.
    Panic(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Objection { judge: _, what } => write!(f, "OBJECTION of {what}"),
            Failure::Panic(text) => write!(f, "PANIC: {text}"),
        }
    }
}

impl Failure {
    /// Failures of one reason have the same, whatever the scenario's size.
    fn reason(&self) -> String {
        let words = |text: &str| text.chars().filter(|letter| !letter.is_ascii_digit()).collect::<String>();
        match self {
            // This judge says of everything that is a bug in itself that it is one: only the host's name may change.
            Failure::Objection { judge, what } if judge == "laws" => {
                let of_host = what.splitn(4, ' ').nth(3).unwrap_or_default();
                format!("laws {}", words(of_host.split_once(' ').map_or(of_host, |(_, rest)| rest)))
            }
            Failure::Objection { judge, what: _ } => judge.clone(),
            Failure::Panic(text) => format!("panic {}", words(text)),
        }
    }
}

/// What a run of the scenario comes to, panics included.
///
/// # Errors
/// The message of a panic.
pub fn outcome_of(scenario: &Scenario, seed: u64) -> Result<Outcome, String> {
    catch_unwind(AssertUnwindSafe(|| Outcome::of(scenario, seed))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").to_owned()
    })
}

/// All that is wrong with a run.
pub fn failures_of(scenario: &Scenario, seed: u64) -> Vec<Failure> {
    match outcome_of(scenario, seed) {
        Ok(outcome) => {
            let objections = outcome.objections.iter().map(|objection| Failure::Objection {
                judge: objection.judge.to_owned(),
                what: objection.to_string(),
            });
            objections.collect()
        }
        Err(panic) => vec![Failure::Panic(panic)],
    }
}

/// How large a scenario is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    /// Relays.
    pub relays: usize,
    /// Tables that say something of links.
    pub links: usize,
    /// Clients.
    pub clients: usize,
    /// Streams and subscriptions.
    pub wishes: usize,
    /// Faults.
    pub faults: usize,
    /// Its run.
    pub run_for: Duration,
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Size { relays, links, clients, wishes, faults, run_for } = self;
        write!(
            f,
            "{relays} relays, {links} links, {clients} clients, {wishes} streams and subscriptions, {faults} faults, {run_for:?}"
        )
    }
}

/// A scenario that failed, made small.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shrunk {
    /// The scenario.
    pub text: String,
    /// What is wrong with its run.
    pub failure: Failure,
    /// How large it was, and is.
    pub sizes: [Size; 2],
    /// Runs that it took.
    pub runs: usize,
    /// Whether nothing more gave; otherwise the runs were used up.
    pub smallest: bool,
}

/// Makes a scenario small that fails with that seed, by so many runs at most. `read` gives the text of files that it names;
/// `each` is told of every run that still fails: how many there were, and how large it was. `None` if it does not fail.
///
/// # Errors
/// If the text is no scenario.
pub fn shrink(
    text: &str,
    seed: u64,
    runs_max: usize,
    read: &mut dyn FnMut(&str) -> std::io::Result<String>,
    each: &mut dyn FnMut(usize, Size),
) -> Result<Option<Shrunk>, ScenarioError> {
    shrink_by(text, runs_max, read, &mut |scenario| failures_of(scenario, seed), each)
}

fn shrink_by(
    text: &str,
    runs_max: usize,
    read: &mut dyn FnMut(&str) -> std::io::Result<String>,
    judged: &mut dyn FnMut(&Scenario) -> Vec<Failure>,
    each: &mut dyn FnMut(usize, Size),
) -> Result<Option<Shrunk>, ScenarioError> {
    let scenario = Scenario::parse(text, read)?;
    let Some(failure) = judged(&scenario).into_iter().next() else { return Ok(None) };
    let draft = Draft::read(text).expect("what is a scenario is TOML");
    let before = draft.size();
    let reason = failure.reason();
    let mut shrinking = Shrinking { draft, failure, reason, runs: 1, runs_max, read, judged, each };
    loop {
        let draft = shrinking.draft.clone();
        shrinking.round();
        if shrinking.draft == draft || shrinking.is_over() {
            break;
        }
    }
    let Shrinking { draft, failure, runs, .. } = shrinking;
    let sizes = [before, draft.size()];
    Ok(Some(Shrunk { text: draft.text(), failure, sizes, runs, smallest: runs < runs_max }))
}

/// A scenario on its way to being small.
struct Shrinking<'a> {
    /// The smallest that fails so far.
    draft: Draft,
    failure: Failure,
    reason: String,
    runs: usize,
    runs_max: usize,
    read: &'a mut dyn FnMut(&str) -> std::io::Result<String>,
    judged: &'a mut dyn FnMut(&Scenario) -> Vec<Failure>,
    each: &'a mut dyn FnMut(usize, Size),
}

impl Shrinking<'_> {
    fn is_over(&self) -> bool {
        self.runs >= self.runs_max
    }

    /// Everything that can be done, once: what makes runs shorter first.
    fn round(&mut self) {
        self.shorten();
        for list in ["fault", "subscription", "stream", "client", "relay", "link", "policy", "price"] {
            self.leave_out(|draft| draft.count(list), |draft, which| draft.without(list, which));
        }
        self.merge();
        self.leave_out(|draft| draft.optional().len(), Draft::without_optional);
        self.leave_out(|draft| draft.link_options().len(), Draft::without_link_options);
    }

    /// Takes the candidate if it fails in the same way.
    fn attempt(&mut self, candidate: Draft) -> bool {
        if self.is_over() || candidate == self.draft {
            return false;
        }
        let Ok(scenario) = Scenario::parse(&candidate.text(), self.read) else { return false };
        self.runs += 1;
        let failures = (self.judged)(&scenario);
        let Some(failure) = failures.into_iter().find(|failure| failure.reason() == self.reason) else {
            return false;
        };
        self.draft = candidate;
        self.failure = failure;
        (self.each)(self.runs, self.draft.size());
        true
    }

    /// Leaves out all, then halves, quarters and so on of what there is.
    fn leave_out(
        &mut self,
        count: impl Fn(&Draft) -> usize,
        without: impl Fn(&Draft, std::ops::Range<usize>) -> Draft,
    ) {
        let mut share = count(&self.draft);
        while share > 0 {
            let mut from = 0;
            // What is left out makes the list shorter.
            while from < count(&self.draft) && !self.is_over() {
                let until = count(&self.draft).min(from + share);
                let candidate = without(&self.draft, from..until);
                if !self.attempt(candidate) {
                    from = until;
                }
            }
            share /= 2;
        }
    }

    /// A relay that is needed on the way may be spared where its neighbour takes its clients.
    fn merge(&mut self) {
        let mut tried = 0;
        while let Some((gone, into)) = self.draft.neighbours().get(tried).cloned() {
            let candidate = self.draft.merged(&gone, &into);
            if self.is_over() {
                return;
            }
            // What is left has other neighbours.
            tried = if self.attempt(candidate) { 0 } else { tried + 1 };
        }
    }

    /// Halves the time that can be spared until that is little.
    fn shorten(&mut self) {
        let (mut least, mut most) = (2 * Scenario::TAIL, self.draft.size().run_for);
        while most > least + SHORTER_BY {
            let middle = (least + most) / 2;
            let middle = Duration::from_millis(middle.as_millis() as u64);
            let candidate = self.draft.ending(middle);
            if self.attempt(candidate) {
                most = middle;
            } else {
                least = middle;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::drawn_text;
    use crate::scenario::{FaultKind, Host};

    fn no_files(_: &str) -> std::io::Result<String> {
        unreachable!("names no files")
    }

    fn object(what: &str) -> Vec<Failure> {
        vec![Failure::Objection { judge: "planted".to_owned(), what: format!("planted at 1s: {what}") }]
    }

    /// A bug that shows where a link loses packets, something is cut or a relay crashes, and audio is published.
    fn planted(scenario: &Scenario) -> Vec<Failure> {
        let audio = scenario.streams.iter().any(|stream| stream.kind == wire_format::MediaKind::Audio);
        let fails = |kind: &FaultKind| matches!(kind, FaultKind::Cut(_) | FaultKind::Crash(_));
        let fault = scenario.faults.iter().any(|fault| fails(&fault.kind));
        let relays = |hosts: &(Host, Host)| matches!(hosts, (Host::Relay(_), Host::Relay(_)));
        let mut lossy = scenario.paths.iter().filter(|(hosts, _)| relays(hosts));
        if audio
            && fault
            && lossy.any(|(_, schedule)| schedule.first().loss != link_model::LinkSpec::default().loss)
        {
            object("it shows")
        } else {
            Vec::new()
        }
    }

    /// The first seed whose scenario fails.
    fn failing() -> String {
        (0..1_000)
            .map(drawn_text)
            .find(|text| {
                let scenario = Scenario::parse(text, &mut no_files).expect("drawn");
                scenario.relays.len() > 4 && scenario.faults.len() > 2 && !planted(&scenario).is_empty()
            })
            .expect("one of a thousand has it all")
    }

    #[test]
    fn what_a_planted_bug_does_not_need_goes() {
        let text = failing();
        let mut sizes = Vec::new();
        let shrunk = shrink_by(&text, 1_000, &mut no_files, &mut planted, &mut |_, size| sizes.push(size));
        let shrunk = shrunk.expect("a scenario").expect("it fails");
        let [before, after] = shrunk.sizes;
        assert!(before.relays > 4 && before.faults > 2, "{before}");
        assert!(shrunk.smallest && sizes.len() > 3 && sizes.last() == Some(&after));
        // Two relays for the link, and maybe one for the client.
        assert!(after.relays <= 3 && after.links == 1 && after.clients == 1 && after.wishes == 1, "{after}");
        assert!(after.faults == 1 && after.run_for < before.run_for / 2, "{after}");
        let again = Scenario::parse(&shrunk.text, &mut no_files).expect("what is left is a scenario");
        assert_eq!(planted(&again), std::slice::from_ref(&shrunk.failure));
        assert!(shrunk.text.contains("loss=") && !shrunk.text.contains("jitter"), "{}", shrunk.text);
        let other = shrink_by(&text, 1_000, &mut no_files, &mut planted, &mut |_, _| {});
        assert_eq!(other.expect("a scenario"), Some(shrunk), "every time the same");
    }

    #[test]
    fn runs_are_bounded() {
        let mut runs = 0;
        let mut counted = |scenario: &Scenario| {
            runs += 1;
            planted(scenario)
        };
        let shrunk = shrink_by(&failing(), 7, &mut no_files, &mut counted, &mut |_, _| {});
        let shrunk = shrunk.expect("a scenario").expect("it fails");
        assert_eq!((shrunk.runs, shrunk.smallest), (7, false));
        assert_eq!(runs, 7);
    }

    #[test]
    fn another_failure_does_not_count() {
        // Fewer than three relays fail in another way.
        let mut two_ways = |scenario: &Scenario| {
            let another = Failure::Panic("index 7 out of range".to_owned());
            if scenario.relays.len() < 3 { vec![another] } else { planted(scenario) }
        };
        let shrunk = shrink_by(&failing(), 1_000, &mut no_files, &mut two_ways, &mut |_, _| {});
        let shrunk = shrunk.expect("a scenario").expect("it fails");
        assert_eq!(shrunk.sizes[1].relays, 3);
        assert!(matches!(shrunk.failure, Failure::Objection { .. }));
    }

    #[test]
    fn what_does_not_fail_is_not_shrunk() {
        let shrunk = shrink_by(&failing(), 9, &mut no_files, &mut |_| Vec::new(), &mut |_, _| {});
        assert_eq!(shrunk.expect("a scenario"), None);
    }

    #[test]
    fn reasons_do_not_depend_on_names_and_numbers() {
        let laws = |what: &str| {
            Failure::Objection { judge: "laws".to_owned(), what: format!("laws at 2.5s: {what}") }.reason()
        };
        assert_eq!(laws("r3: law 3: the next is 17"), laws("sfu-1: law 3: the next is 4"));
        assert_ne!(laws("r3: law 3: the next is 17"), laws("r3: sent a malformed frame"));
        let panic = |text: &str| Failure::Panic(text.to_owned()).reason();
        assert_eq!(panic("index 7 of 5"), panic("index 1 of 0"));
        assert_ne!(panic("index 7 of 5"), panic("law 1: the clock went back"));
    }
}
