//! Names of QUIC connections that no two of them share.
//!
//! quinn's own differ in 24 bits, and those that it names in a Retry are not compared with the ones in use. With a thousand
//! handshakes under way one in some ten thousand diallers is then taken for another, and waits in vain until it gives up.

use quinn::{ConnectionId, ConnectionIdGenerator};
use quinn_proto::InvalidCid;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

const PART_BYTES: usize = 8;

/// Ids of two parts: one that no other has, and one that follows from it by a key, so that what strangers make up is
/// dropped without a look-up or an answer.
#[derive(Debug)]
pub(crate) struct ConnectionIds {
    /// Drawn when the port opens.
    keys: RandomState,
    next: u64,
}

impl ConnectionIds {
    pub(crate) fn new() -> ConnectionIds {
        ConnectionIds { keys: RandomState::new(), next: 0 }
    }

    fn seal(&self, own: [u8; PART_BYTES]) -> [u8; PART_BYTES] {
        self.keys.hash_one(("seal", own)).to_be_bytes()
    }
}

impl ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        self.next += 1;
        // Not the number itself: who sees two of them should learn nothing from it.
        let own = self.keys.hash_one(("own", self.next)).to_be_bytes();
        ConnectionId::new(&[own, self.seal(own)].concat())
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        let (own, seal) = id.split_first_chunk().ok_or(InvalidCid)?;
        if self.seal(*own) == *seal { Ok(()) } else { Err(InvalidCid) }
    }

    fn cid_len(&self) -> usize {
        2 * PART_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_are_the_same_and_only_ones_own_are_taken() {
        let (mut ids, other) = (ConnectionIds::new(), ConnectionIds::new());
        let mut seen = BTreeSet::new();
        for _ in 0..100_000 {
            let id = ids.generate_cid();
            assert_eq!(id.len(), ids.cid_len());
            assert!(ids.validate(&id).is_ok() && other.validate(&id).is_err(), "{id}");
            assert!(seen.insert(id.to_vec()), "{id} again");
        }
        for length in [0, 7, 8, 15] {
            assert!(ids.validate(&ConnectionId::new(&[7; 20][..length])).is_err());
        }
    }
}
