//! The memory that repair may take in one core.

/// All of it: what was sent, and what came while parity is in use.
const BYTES_MAX: usize = 96 << 20;

/// The memory that the links of a core have taken for repair.
#[derive(Debug, Default)]
pub(crate) struct RepairMemory {
    used: usize,
    /// Datagrams that were not kept, and rows of parity that were not used, because it is used up.
    pub(crate) refused: u64,
}

impl RepairMemory {
    /// Takes memory, if there is so much left.
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        let fits = self.used + bytes <= BYTES_MAX;
        if fits {
            self.used += bytes;
        }
        fits
    }

    pub(crate) fn give_back(&mut self, bytes: usize) {
        self.used = self.used.saturating_sub(bytes);
    }

    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.used
    }
}
