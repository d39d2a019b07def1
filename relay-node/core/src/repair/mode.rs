//! Whether links repair, as what measures repair asks for it.

use super::policy::Parity;

/// What a relay does against loss on its links. Relays adapt; the others are what that is measured against.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RepairMode {
    /// What each link needs, as its policy finds.
    #[default]
    Adaptive,
    /// Nothing: nothing is asked for, sent again by the same link or covered by parity, and neighbours are told so. What is
    /// sent is kept until it is acknowledged, to go another way if the link fails.
    Off,
    /// The same as adaptive, but with so much parity, whatever is lost and whoever is at the other end.
    Parity(Parity),
}
