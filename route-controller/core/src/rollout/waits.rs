//! Who is waited for, and who is not any more.

use std::collections::BTreeMap;
use wire_format::{NodeIndex, Timestamp};

/// Until when an acknowledgement is waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    pub(super) until: Timestamp,
    pub(super) doubted: bool,
}

/// A relay that missed an acknowledgement: it is not waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mute {
    /// In doubt as it was, it was hardly given time to answer. Any acknowledgement of the newest epoch ends this.
    Doubted,
    /// It had all the time. Routes avoid it until it has acknowledged the newest epoch and the hold-down is over.
    Avoided(Option<Timestamp>),
}

impl Mute {
    pub(super) fn trusted_at(self) -> Option<Timestamp> {
        match self {
            Mute::Doubted => None,
            Mute::Avoided(trusted_at) => trusted_at,
        }
    }
}

/// Takes out those that are waited for no longer.
pub(super) fn expire(waiting: &mut BTreeMap<NodeIndex, Wait>, now: Timestamp) -> Vec<(NodeIndex, Wait)> {
    let missed: Vec<_> = waiting.iter().filter(|(_, w)| w.until <= now).map(|(n, w)| (*n, *w)).collect();
    for (node, _) in &missed {
        waiting.remove(node);
    }
    missed
}
