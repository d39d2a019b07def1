//! Whether links repair, as what measures repair asks for it.

/// So much parity: bytes of `m` rows for each `k` datagrams of the same length, each row over the last `depth * k`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parity {
    /// Datagrams that earn `m` rows.
    pub k: u32,
    /// Rows that they earn.
    pub m: u32,
    /// A row covers so many times `k`; with 1 they cover about what a block would.
    pub depth: u32,
}

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
