//! RTP of this process on its way to the worker.

use crate::error::SendError;
use crate::spool::Spool;
use crate::stats::SharedCounters;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wire_format::RTP_BYTES_MAX;

/// A queue that the worker empties by swapping its spool for an empty one: each packet is copied once, and nothing is
/// allocated once both spools have grown to their working size.
#[derive(Debug)]
pub(crate) struct LocalQueue {
    spool: Mutex<Spool<(u32, bool)>>,
    has_packets: AtomicBool,
    packets_max: usize,
    counters: Arc<SharedCounters>,
}

impl LocalQueue {
    pub(crate) fn new(packets_max: usize, counters: Arc<SharedCounters>) -> LocalQueue {
        let spool = Mutex::new(new_spool(packets_max));
        LocalQueue { spool, has_packets: AtomicBool::new(false), packets_max, counters }
    }

    /// A spool to swap with.
    pub(crate) fn spool(&self) -> Spool<(u32, bool)> {
        new_spool(self.packets_max)
    }

    pub(crate) fn push(&self, publication: u32, packet: &[u8], rtcp: bool) -> Result<(), SendError> {
        if packet.len() > RTP_BYTES_MAX {
            self.counters.drop_local_oversize.fetch_add(1, Ordering::Relaxed);
            return Err(SendError::TooLarge(packet.len()));
        }
        let mut spool = self.lock();
        if !spool.push((publication, rtcp), packet) {
            self.counters.drop_local_queue.fetch_add(1, Ordering::Relaxed);
            return Err(SendError::Full);
        }
        self.has_packets.store(true, Ordering::Release);
        Ok(())
    }

    pub(crate) fn has_packets(&self) -> bool {
        self.has_packets.load(Ordering::Acquire)
    }

    /// Swaps an empty spool for the filled one; `false` if there is nothing.
    pub(crate) fn swap(&self, empty: &mut Spool<(u32, bool)>) -> bool {
        if !self.has_packets() {
            return false;
        }
        let mut spool = self.lock();
        std::mem::swap(&mut *spool, empty);
        self.has_packets.store(false, Ordering::Release);
        true
    }

    fn lock(&self) -> MutexGuard<'_, Spool<(u32, bool)>> {
        // A spool is consistent after any panic of its users.
        self.spool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn new_spool(packets_max: usize) -> Spool<(u32, bool)> {
    Spool::new(packets_max, packets_max.saturating_mul(RTP_BYTES_MAX))
}
