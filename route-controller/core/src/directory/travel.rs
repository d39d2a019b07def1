//! By which policy each stream travels.

use super::{Directory, Stream};
use crate::controller::Travelling;
use crate::effect::Effect;
use crate::policy::Policies;
use wire_format::control::StreamName;
use wire_format::{MediaKind, PolicyIndex, Timestamp};

impl Directory {
    /// Other policies from now on: streams are stamped by them at once, and what relieved some is forgotten.
    pub(crate) fn set_policies(&mut self, now: Timestamp, policies: Policies, out: &mut Vec<Effect>) {
        self.policies = policies;
        let names: Vec<StreamName> = self.streams.keys().cloned().collect();
        for name in names {
            if let Some(stream) = self.streams.get_mut(&name) {
                stream.relieved = false;
            }
            self.refresh(now, &name, out);
        }
    }

    /// Streams that some policy relieves, by name: those that travel by it now, or those that do not.
    pub(crate) fn travelling(&self, relieved: bool) -> impl Iterator<Item = Travelling> + '_ {
        let streams = self.streams.iter().filter(move |(_, stream)| stream.relieved == relieved);
        streams.filter(|(_, stream)| stream.live.is_some()).filter_map(|(name, stream)| {
            let own = self.policies.of_namespace(&name.namespace);
            let fed = stream.destinations().into_iter();
            let legs = fed.flat_map(|(feeder, egresses)| egresses.into_iter().map(move |to| (feeder, to)));
            Some(Travelling {
                name: name.clone(),
                own,
                relief: self.policies.relief_of(own)?,
                legs: legs.collect(),
            })
        })
    }

    /// A stream travels by the policy that relieves its own from now on, or by its own again.
    pub(crate) fn relieve(
        &mut self,
        now: Timestamp,
        name: &StreamName,
        relieved: bool,
        out: &mut Vec<Effect>,
    ) {
        if let Some(stream) = self.streams.get_mut(name) {
            stream.relieved = relieved;
        }
        self.refresh(now, name, out);
    }

    /// Live streams that would travel by another policy: by which they do, and by which they would.
    pub(crate) fn remapped<'a>(
        &'a self,
        policies: &'a Policies,
    ) -> impl Iterator<Item = (&'a StreamName, &'a str, &'a str)> + 'a {
        let live = self.streams.iter().filter(|(_, stream)| stream.live.is_some());
        let policy = |policies: &'a Policies, name: &StreamName| {
            policies.policy(policies.of_namespace(&name.namespace)).name.as_str()
        };
        let both = move |name| (name, policy(&self.policies, name), policy(policies, name));
        live.map(move |(name, _)| both(name)).filter(|(_, before, after)| before != after)
    }
}

/// By which policy a stream travels, and whether two ways at once.
pub(super) fn travels(policies: &Policies, name: &StreamName, stream: &Stream) -> (PolicyIndex, bool) {
    let own = policies.of_namespace(&name.namespace);
    let policy = if stream.relieved { policies.relief_of(own).unwrap_or(own) } else { own };
    let audio = stream.kind == MediaKind::Audio && policies.policy(own).protect_audio;
    (policy, stream.protect || audio)
}
