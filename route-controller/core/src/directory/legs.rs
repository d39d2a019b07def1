//! A stream on its way, for whoever follows it.

use super::Directory;
use super::travel::travels;
use std::collections::BTreeSet;
use wire_format::control::StreamName;
use wire_format::{MediaKind, NodeIndex, PolicyIndex, StreamKey};

/// Where a stream enters, who stamps which destinations, and where it has subscribers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct OnItsWay {
    pub key: StreamKey,
    pub kind: MediaKind,
    pub protect: bool,
    /// By whose planes.
    pub policy: PolicyIndex,
    pub ingress: NodeIndex,
    /// Relays that stamp destinations, by what they were told last.
    pub legs: Vec<(NodeIndex, Vec<NodeIndex>)>,
    pub egresses: BTreeSet<NodeIndex>,
}

impl Directory {
    /// A stream that is published; `None` if it is not.
    pub(crate) fn on_its_way(&self, name: &StreamName) -> Option<OnItsWay> {
        let stream = self.streams.get(name)?;
        let (ingress, _) = stream.live?;
        let (policy, protect) = travels(&self.policies, name, stream);
        let stamps = stream.rows.iter().map(|(node, row)| (*node, row.stamped().to_vec()));
        Some(OnItsWay {
            key: stream.key,
            kind: stream.kind,
            protect,
            policy,
            ingress,
            legs: stamps.filter(|(_, destinations)| !destinations.is_empty()).collect(),
            egresses: stream.matching.keys().copied().collect(),
        })
    }
}
