//! A request that is not done, as operators and programs are told.

use crate::rows::ErrorAnswer;

/// Why a request was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}; {}", .answer.error, .answer.hint)]
pub struct Refusal {
    /// Whose fault it is.
    pub kind: RefusalKind,
    /// What is wrong and what to do.
    pub answer: ErrorAnswer,
}

/// Whose fault a refusal is; decides the HTTP status.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum RefusalKind {
    /// The request makes no sense (400).
    Invalid,
    /// Nobody known makes it (401).
    Unauthenticated,
    /// Whoever makes it may not (403).
    Forbidden,
    /// Nothing has that name (404).
    NotFound,
    /// The request needs something that is not so now (409).
    Conflict,
    /// The controller cannot do it now (503).
    Unavailable,
    /// The controller is broken (500).
    Broken,
}

impl Refusal {
    pub(crate) fn new(kind: RefusalKind, error: impl Into<String>, hint: impl Into<String>) -> Refusal {
        Refusal { kind, answer: ErrorAnswer { error: error.into(), hint: hint.into() } }
    }

    pub(crate) fn invalid(error: impl Into<String>, hint: impl Into<String>) -> Refusal {
        Refusal::new(RefusalKind::Invalid, error, hint)
    }

    pub(crate) fn broken(error: impl Into<String>, hint: impl Into<String>) -> Refusal {
        Refusal::new(RefusalKind::Broken, error, hint)
    }

    /// Asked of a controller that does not lead. `leader`: where relays find the one that does.
    pub(crate) fn follower(leader: Option<&str>) -> Refusal {
        let hint = match leader {
            Some(leader) => format!("the leader is at {leader} (where relays connect): ask that one"),
            None => "nobody leads at the moment: try again in a few seconds".to_owned(),
        };
        Refusal::new(RefusalKind::Unavailable, "this controller is not the leader", hint)
    }

    pub(crate) fn stopping() -> Refusal {
        Refusal::new(RefusalKind::Unavailable, "the controller is stopping", "try again when it runs")
    }
}
