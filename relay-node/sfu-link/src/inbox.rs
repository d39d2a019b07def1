//! The queue between the worker and the reader of one subscription.

use crate::subscription::{Event, Packet, StreamInfo};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Packets are bounded; beginnings and ends of streams are few (no more than the relay announces) and never dropped.
#[derive(Debug)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    filled: Notify,
    packets_max: usize,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Event>,
    packets: usize,
    closed: bool,
}

impl Inbox {
    pub(crate) fn new(packets_max: usize) -> Inbox {
        Inbox {
            state: Mutex::default(),
            filled: Notify::new(),
            packets_max: packets_max.max(1),
            dropped: AtomicU64::new(0),
        }
    }

    /// Queues a packet; `false` if it was dropped.
    pub(crate) fn packet(&self, packet: Packet) -> bool {
        let mut state = self.lock();
        if state.packets >= self.packets_max {
            drop(state);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        state.packets += 1;
        state.events.push_back(Event::Packet(packet));
        drop(state);
        self.filled.notify_one();
        true
    }

    pub(crate) fn started(&self, stream: &Arc<StreamInfo>) {
        self.event(Event::Started(Arc::clone(stream)));
    }

    pub(crate) fn ended(&self, stream: &Arc<StreamInfo>) {
        self.event(Event::Ended(Arc::clone(stream)));
    }

    fn event(&self, event: Event) {
        self.lock().events.push_back(event);
        self.filled.notify_one();
    }

    /// Nothing more will come.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
    }

    /// The next event; `None` once closed and empty. Cancel-safe; for one reader.
    pub(crate) async fn next(&self) -> Option<Event> {
        loop {
            {
                let mut state = self.lock();
                if let Some(event) = state.events.pop_front() {
                    state.packets -= usize::from(matches!(event, Event::Packet(_)));
                    return Some(event);
                }
                if state.closed {
                    return None;
                }
            }
            self.filled.notified().await;
        }
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A queue is consistent after any panic of its users.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
