//! What makes a link deliver as if it did not lose: requests for what is missing, datagrams sent again, parity.

mod stats;

pub use stats::{LateHistogram, RepairStats};
