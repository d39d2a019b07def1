//! How frames came.

use crate::LinkId;
use std::time::Duration;

/// How a datagram's frames came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Carrier {
    pub(crate) link: LinkId,
    pub(crate) from_relay: bool,
    /// So much later than usual.
    pub(crate) excess: Duration,
    /// It did not come by itself.
    pub(crate) restored: Option<Restored>,
}

/// What brought a datagram that did not come by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Restored {
    /// It was sent again.
    Again,
    /// Parity.
    Parity,
}
