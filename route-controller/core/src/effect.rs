//! What the parts of the controller want done, before sessions are known.

use crate::api::StoreUpdate;
use wire_format::NodeIndex;
use wire_format::control::ToRelay;

/// One thing to do. Order matters.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Effect {
    /// Tell a relay, if it is in session.
    Tell(NodeIndex, ToRelay),
    /// Make durable.
    Persist(StoreUpdate),
}
