//! Where a core's events and deliveries go.

use relay_core::Delivery;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

/// Something that a core has for its process.
#[derive(Debug)]
pub enum Upcall<'a, T> {
    /// An event.
    Event(T),
    /// A packet, borrowed from the receive arena.
    Delivery(&'a Delivery, &'a [u8]),
}

/// A sink that did not take what it was given; it is counted as [`crate::PortStats::drop_sink`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Overflow;

/// Takes events and deliveries, in the order in which the core made them: an announcement comes before the packets of
/// its stream. Called on the worker's thread, so it must neither block nor take long.
pub type Sink<T> = Box<dyn FnMut(Upcall<'_, T>) -> Result<(), Overflow> + Send>;

/// A sink that queues events, at most `limit`, for a task of the process; deliveries are refused. For relays.
pub fn event_queue<T: Send + 'static>(limit: usize) -> (Sink<T>, EventReceiver<T>) {
    let (sender, receiver) = mpsc::channel(limit);
    let lost = Arc::new(AtomicU64::new(0));
    (into_queue(sender, Arc::clone(&lost), |event| event), EventReceiver { receiver, lost })
}

/// One such queue for several workers: each event comes with the worker that it is of.
pub fn worker_event_queue<T: Send + 'static>(
    limit: usize,
    workers: usize,
) -> (Vec<Sink<T>>, WorkerEvents<T>) {
    let (sender, receiver) = mpsc::channel(limit);
    let lost = Arc::new(AtomicU64::new(0));
    let sink = |worker| into_queue(sender.clone(), Arc::clone(&lost), move |event| (worker, event));
    ((0..workers).map(sink).collect(), EventReceiver { receiver, lost })
}

fn into_queue<T: Send + 'static, U: Send + 'static>(
    sender: mpsc::Sender<U>,
    lost: Arc<AtomicU64>,
    label: impl Fn(T) -> U + Send + 'static,
) -> Sink<T> {
    Box::new(move |upcall: Upcall<'_, T>| match upcall {
        Upcall::Event(event) => sender.try_send(label(event)).map_err(|_| {
            lost.fetch_add(1, Ordering::Relaxed);
            Overflow
        }),
        Upcall::Delivery(_, _) => Err(Overflow),
    })
}

/// The events of the cores of several workers, each with the worker that it is of.
pub type WorkerEvents<T> = EventReceiver<(usize, T)>;

/// The events of a core.
#[derive(Debug)]
pub struct EventReceiver<T> {
    receiver: mpsc::Receiver<T>,
    lost: Arc<AtomicU64>,
}

impl<T> EventReceiver<T> {
    /// The next event; `None` once the port has stopped. Cancel-safe.
    pub async fn recv(&mut self) -> Option<T> {
        self.receiver.recv().await
    }

    /// Events lost because the queue was full. Whoever relies on all of them starts over when this grows: a relay ends
    /// its session with the controller and reports everything anew.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}
