//! Load relief: streams leave a link that carries nearly all it can, one after the other, for the planes of another policy.
//!
//! A price that rises with load moves all traffic of a path at once, and back when the link is idle. Relief moves single
//! streams: while a link presses against its limit, one stream that crosses it by its own policy's routes travels by those of
//! the policy that relieves it, if these cross no loaded link; a few seconds later, when measurements tell what that brought,
//! maybe another. As long as the link counts as loaded, which is a minute at least and longer each time that it proves wrong
//! ([`crate::load`]), nothing comes back; then one stream after the other does, slowly. Both are bounded in a minute, and streams are
//! taken by name, so that the same overlay does the same again.
//!
//! Both policies' tables are in place, and a stream that moves is a new row at its ingress: nothing is lost. Where routes
//! of a policy are to stay while streams move, its load weight is 0.

use super::Controller;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use wire_format::control::StreamName;
use wire_format::{NodeIndex, Plane, PolicyIndex, Timestamp};

/// Distance of two looks at loaded links: longer than load takes to show in reports.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Distance of two streams that come back.
const RETURN_EVERY: Duration = Duration::from_secs(30);
/// Streams moved in a minute, both ways together.
const MOVES_PER_MINUTE: usize = 12;
const MINUTE: Duration = Duration::from_secs(60);

/// What relief remembers.
#[derive(Clone, Debug, Default)]
pub(super) struct Relief {
    look_at: Option<Timestamp>,
    returned_at: Option<Timestamp>,
    /// Moves of the last minute.
    moved: VecDeque<Timestamp>,
}

impl Relief {
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.look_at
    }

    fn may_move(&mut self, now: Timestamp) -> bool {
        while self.moved.front().is_some_and(|at| *at + MINUTE <= now) {
            self.moved.pop_front();
        }
        self.moved.len() < MOVES_PER_MINUTE
    }
}

/// A stream as relief looks at it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Travelling {
    pub name: StreamName,
    pub own: PolicyIndex,
    pub relief: PolicyIndex,
    /// From whom to whom it is stamped.
    pub legs: Vec<(NodeIndex, NodeIndex)>,
}

type Loaded = BTreeMap<(NodeIndex, NodeIndex), bool>;

impl Controller {
    /// A link has become loaded, or is so no longer.
    pub(super) fn load_changed(&mut self, now: Timestamp) {
        if self.policies.iter().any(|(_, policy)| policy.relief.is_some()) {
            self.relief.look_at.get_or_insert(now);
        }
    }

    /// Moves streams away from loaded links, and back from where they were moved to.
    pub(super) fn relieve(&mut self, now: Timestamp) {
        if self.relief.look_at.is_none_or(|at| now < at) || self.recovery.is_some() {
            return;
        }
        let loaded = self.links.loaded();
        let pressed: Vec<_> = loaded.iter().filter(|(_, presses)| **presses).map(|(link, _)| *link).collect();
        for link in pressed {
            let candidate = self.directory.travelling(false).find(|stream| {
                self.crosses(stream, stream.own, |hop| hop == link)
                    && !self.crosses(stream, stream.relief, |hop| loaded.contains_key(&hop))
            });
            self.move_stream(now, candidate, true);
        }
        let rests = self.relief.returned_at.is_some_and(|at| now < at + RETURN_EVERY);
        if !rests {
            let back = self.directory.travelling(true).find(|stream| self.may_return(stream, &loaded));
            if self.move_stream(now, back, false) {
                self.relief.returned_at = Some(now);
            }
        }
        let relieves = self.policies.iter().any(|(_, policy)| policy.relief.is_some());
        let goes_on = relieves && (!loaded.is_empty() || self.directory.travelling(true).next().is_some());
        self.relief.look_at = goes_on.then_some(now + LOOK_EVERY);
    }

    fn may_return(&self, stream: &Travelling, loaded: &Loaded) -> bool {
        !self.crosses(stream, stream.own, |hop| loaded.contains_key(&hop))
    }

    fn move_stream(&mut self, now: Timestamp, stream: Option<Travelling>, away: bool) -> bool {
        let Some(stream) = stream.filter(|_| self.relief.may_move(now)) else { return false };
        self.relief.moved.push_back(now);
        self.directory.relieve(now, &stream.name, away, &mut self.effects);
        if away {
            self.counters.streams_relieved += 1;
        } else {
            self.counters.streams_returned += 1;
        }
        true
    }

    /// Whether a stream's way to anyone whom it is stamped for crosses a link, by the routes that are stamped.
    fn crosses(
        &self,
        stream: &Travelling,
        policy: PolicyIndex,
        link: impl Fn((NodeIndex, NodeIndex)) -> bool,
    ) -> bool {
        let Some(generation) = self.rollout.current() else { return false };
        let routes = generation.routes.policy(policy);
        let ways = stream.legs.iter().filter_map(|(from, to)| routes.path(*from, Plane::PRIMARY, *to));
        ways.into_iter().any(|way| way.windows(2).any(|hop| link((hop[0], hop[1]))))
    }
}
