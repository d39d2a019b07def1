//! relay-node.
