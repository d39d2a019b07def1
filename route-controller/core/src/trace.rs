//! A stream whose packets are to be watched: what the controller expects of it, and whom it can ask.

use crate::api::SessionId;
use wire_format::control::StreamName;
use wire_format::{Epoch, MediaKind, NodeIndex, Plane, StreamKey};

/// A stream and its ways, by the tables that ingresses stamp now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TraceView {
    /// What people call it.
    pub name: StreamName,
    /// Its ids.
    pub key: StreamKey,
    /// What it carries.
    pub kind: MediaKind,
    /// It asks for two ways at once.
    pub protect: bool,
    /// The epoch that ingresses stamp, if any.
    pub epoch: Option<Epoch>,
    /// Where it enters.
    pub ingress: String,
    /// Where it has subscribers.
    pub egresses: Vec<String>,
    /// Its ways, from whoever stamps a destination to that.
    pub legs: Vec<LegView>,
    /// Relays that are on these, or would be if one of them failed.
    pub relays: Vec<TracedRelayView>,
}

/// A way of a stream, from the relay that stamps a destination to that.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LegView {
    /// The plane that it is of.
    pub plane: Plane,
    /// All relays, both ends included.
    pub path: Vec<String>,
}

/// A relay that may see packets of a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TracedRelayView {
    /// Its name.
    pub name: String,
    /// Its index.
    pub node: NodeIndex,
    /// Its session; without one it cannot be asked.
    pub session: Option<SessionId>,
    /// It understands the question. Older ones must not be asked.
    pub traces: bool,
    /// It is on one of the ways.
    pub expected: bool,
}
