//! What can be wrong with what people write about links.

use crate::spec::KEYS;

/// Why a text describes no link. Each message names what was written and what would be right.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SpecError {
    /// Nothing where `KEY=VALUE` was expected.
    #[error("{text:?} sets nothing; expected KEY=VALUE,... with keys {}", KEYS.join(", "))]
    Empty {
        /// What was written.
        text: String,
    },
    /// A key that does not exist.
    #[error("unknown key {key:?}; did you mean {nearest:?}? Keys are {}", KEYS.join(", "))]
    UnknownKey {
        /// What was written.
        key: String,
        /// The key most like it.
        nearest: &'static str,
    },
    /// A key without `=`.
    #[error("{key} needs a value, {expected}")]
    MissingValue {
        /// The key.
        key: &'static str,
        /// What it takes.
        expected: &'static str,
    },
    /// A value that the key does not take.
    #[error("{key}={value} is not understood; expected {expected}")]
    BadValue {
        /// The key.
        key: &'static str,
        /// What was written.
        value: String,
        /// What it takes.
        expected: &'static str,
    },
    /// The same key twice in one list.
    #[error("{key} is set twice in {text:?}")]
    Twice {
        /// The key.
        key: &'static str,
        /// What was written.
        text: String,
    },
    /// A burst length that cannot make that loss.
    #[error(
        "bursts of {burst} datagrams with single ones between them lose less than {loss}; use burst={least} or more"
    )]
    BurstTooShort {
        /// The mean length asked for.
        burst: String,
        /// The loss asked for.
        loss: String,
        /// The least length that works.
        least: String,
    },
    /// A burst length beside a trace, or beside states.
    #[error("burst belongs to loss=N%; loss={loss} has bursts of its own")]
    BurstOfItsOwn {
        /// What was said of loss.
        loss: String,
    },
    /// A trace file that could not be read.
    #[error("loss=trace:{file}: {reason}")]
    TraceFile {
        /// The file.
        file: String,
        /// What went wrong.
        reason: String,
    },
    /// No `:`: nothing is said about the selected links, or nothing selects them.
    #[error(
        "{text:?} has no colon between selector and changes; expected SELECTOR:KEY=VALUE,...[@TIME], for instance r1-r2:loss=2%"
    )]
    NoSelector {
        /// What was written.
        text: String,
    },
    /// A selector of no known form.
    #[error("selector {selector:?} is not understood; expected A-B (both directions), A>B (one) or all")]
    BadSelector {
        /// What was written.
        selector: String,
    },
    /// A selector that names no link.
    #[error("selector {selector:?} names no link between two of {names}")]
    NoSuchLink {
        /// What was written.
        selector: String,
        /// Names that exist.
        names: String,
    },
    /// A time after `@` that is none.
    #[error("@{time} is not a time; expected for instance @5s or @1500ms")]
    BadTime {
        /// What was written.
        time: String,
    },
}
