//! What the workers of one port hand to each other: frames for subscribers or lanes that belong to another worker, and
//! datagrams that the kernel gave to the wrong one.
//!
//! Each worker has one mailbox. Another worker gathers what it has for it in a spool of its own while it works, and puts
//! the whole spool there once a turn: nothing is allocated, and no lock is taken for a packet. A full mailbox drops and
//! counts, so a worker that hangs costs the others nothing but what was meant for it.

use crate::spool::Spool;
use crate::stats::SharedCounters;
use crate::wake::Wake;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Items that wait in one mailbox.
const ITEMS_MAX: usize = 4096;
/// Their bytes.
const BYTES_MAX: usize = 4 << 20;

/// What an item is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Item {
    /// From core to core.
    Frame,
    /// A sealed datagram of another worker's link, as it came.
    Stray { came: (SocketAddr, Option<IpAddr>) },
}

pub(crate) type Items = Spool<Item>;

/// A spool as mailboxes hold them.
pub(crate) fn items() -> Items {
    Spool::new(ITEMS_MAX, BYTES_MAX)
}

/// Where others put what is for one worker.
#[derive(Debug)]
pub(crate) struct Mailbox {
    items: Mutex<Items>,
    has_items: AtomicBool,
    wake: Arc<Wake>,
}

impl Mailbox {
    pub(crate) fn new(wake: Arc<Wake>) -> Mailbox {
        Mailbox { items: Mutex::new(items()), has_items: AtomicBool::new(false), wake }
    }

    pub(crate) fn has_items(&self) -> bool {
        self.has_items.load(Ordering::Acquire)
    }

    /// Swaps an empty spool for the filled one; `false` if there is nothing.
    pub(crate) fn take(&self, empty: &mut Items) -> bool {
        if !self.has_items() {
            return false;
        }
        let mut items = self.lock();
        std::mem::swap(&mut *items, empty);
        self.has_items.store(false, Ordering::Release);
        true
    }

    /// Moves all of `from` in, and wakes the worker. What does not fit is dropped and counted.
    fn put(&self, from: &mut Items, counters: &SharedCounters) {
        let mut items = self.lock();
        if items.is_empty() {
            std::mem::swap(&mut *items, from);
        } else {
            for (item, range) in from.entries() {
                if !items.push(*item, &from.bytes()[range.clone()]) {
                    counters.drop_hand_over.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        self.has_items.store(true, Ordering::Release);
        drop(items);
        from.clear();
        self.wake.wake();
    }

    fn lock(&self) -> MutexGuard<'_, Items> {
        // A spool is consistent after any panic of its users.
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one worker has for the others.
#[derive(Debug)]
pub(crate) struct Outbox {
    /// By worker; one's own stays empty.
    places: Vec<(Arc<Mailbox>, Items)>,
    counters: Arc<SharedCounters>,
}

impl Outbox {
    pub(crate) fn new(mailboxes: &[Arc<Mailbox>], counters: Arc<SharedCounters>) -> Outbox {
        Outbox { places: mailboxes.iter().map(|mailbox| (Arc::clone(mailbox), items())).collect(), counters }
    }

    /// Gathers an item of several parts for a worker.
    pub(crate) fn gather(&mut self, worker: usize, item: Item, parts: [&[u8]; 2]) {
        let gathered = self.places.get_mut(worker).is_some_and(|(_, items)| items.push_parts(item, parts));
        if gathered {
            self.counters.handed_over.fetch_add(1, Ordering::Relaxed);
        } else {
            self.counters.drop_hand_over.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Puts what was gathered into the mailboxes.
    pub(crate) fn flush(&mut self) {
        for (mailbox, items) in &mut self.places {
            if !items.is_empty() {
                mailbox.put(items, &self.counters);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gathered_arrives_in_order_and_what_does_not_fit_is_counted() {
        let wake = Arc::new(Wake::new().expect("an eventfd"));
        let mailboxes = [Arc::new(Mailbox::new(Arc::clone(&wake))), Arc::new(Mailbox::new(wake))];
        let counters = Arc::new(SharedCounters::default());
        let mut outbox = Outbox::new(&mailboxes, Arc::clone(&counters));
        let mut taken = items();
        outbox.gather(1, Item::Frame, [b"ab", b"c"]);
        assert!(!mailboxes[1].take(&mut taken), "not before the flush");
        outbox.flush();
        outbox.gather(1, Item::Frame, [b"", b"d"]);
        outbox.flush();
        assert!(!mailboxes[0].has_items());
        assert!(mailboxes[1].take(&mut taken));
        let got: Vec<_> = taken.entries().iter().map(|(_, range)| &taken.bytes()[range.clone()]).collect();
        assert_eq!(got, [&b"abc"[..], b"d"]);
        taken.clear();

        for _ in 0..ITEMS_MAX {
            outbox.gather(1, Item::Frame, [b"x", b""]);
        }
        outbox.flush();
        outbox.gather(1, Item::Frame, [b"one more", b""]);
        outbox.flush();
        outbox.gather(7, Item::Frame, [b"for nobody", b""]);
        assert_eq!(counters.drop_hand_over.load(Ordering::Relaxed), 2);
        assert!(mailboxes[1].take(&mut taken));
        assert_eq!(taken.entries().len(), ITEMS_MAX);
    }
}
