//! The life of a link after its handshake, beside the worker: its messages and its end.

use crate::control::{ControlError, ControlReader, ControlWriter, Incoming};
use crate::handshake::{CLOSE_NORMAL, canonical};
use crate::stats::SharedCounters;
use crate::worker::{Outbound, Stopped, ToWorker, WorkerHandle};
use relay_core::{Endpoint, LinkId};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// How long the last messages of a link may take to arrive once it is to be closed.
const CLOSE_LINGER: Duration = Duration::from_millis(500);

/// A link beside the worker.
pub(crate) struct LinkTask<E: Endpoint> {
    /// By lane; the first names the link, and its worker hears the messages.
    pub(crate) lanes: Vec<(LinkId, WorkerHandle<E>)>,
    pub(crate) connection: quinn::Connection,
    pub(crate) reader: ControlReader,
    pub(crate) writer: ControlWriter,
    pub(crate) outbox: mpsc::Receiver<Outbound>,
    /// Whether the other end waits until this one says that it can open what is sent.
    pub(crate) tells_ready: bool,
    /// How long the other end may take to say that it is ready, where it has to.
    pub(crate) ready_timeout: Option<Duration>,
    pub(crate) counters: Arc<SharedCounters>,
    pub(crate) down: watch::Sender<Option<Arc<str>>>,
}

impl<E: Endpoint> LinkTask<E> {
    /// Carries messages until the link ends, and takes it from the worker.
    pub(crate) async fn run(mut self) {
        let remote = canonical(self.connection.remote_address());
        let reason = {
            let write = write_all(&mut self.writer, &mut self.outbox, self.tells_ready, &self.down);
            let read = read_all(&mut self.reader, &self.lanes, self.ready_timeout);
            tokio::select! {
                reason = write => reason,
                error = read => {
                    if matches!(error, ControlError::Codec(_)) {
                        self.counters.closed_bad_message.fetch_add(1, Ordering::Relaxed);
                    }
                    if matches!(error, ControlError::Ended) {
                        // The peer closes the connection, and says why, once it knows that its last message arrived.
                        let _ = tokio::time::timeout(CLOSE_LINGER, self.connection.closed()).await;
                    }
                    error.to_string()
                }
                error = self.connection.closed() => error.to_string(),
            }
        };
        let reason = self.connection.close_reason().map_or(reason, |error| error.to_string());
        self.connection.close(CLOSE_NORMAL.into(), reason.as_bytes());
        tracing::info!(link = self.lanes[0].0.0, %remote, reason, "link down");
        for (id, worker) in &self.lanes {
            // The worker may have stopped; then there is nobody to tell.
            let _ = worker.send(ToWorker::Detach(*id)).await;
        }
        tell_down(&self.down, &reason);
    }
}

fn tell_down(down: &watch::Sender<Option<Arc<str>>>, reason: &str) {
    down.send_if_modified(|told| {
        let first = told.is_none();
        if first {
            *told = Some(Arc::from(reason));
        }
        first
    });
}

/// Forwards messages to the core. Where the core is slow, QUIC's flow control stops the peer.
async fn read_all<E: Endpoint>(
    reader: &mut ControlReader,
    lanes: &[(LinkId, WorkerHandle<E>)],
    mut ready_timeout: Option<Duration>,
) -> ControlError {
    loop {
        let read = match ready_timeout.take() {
            Some(limit) => match tokio::time::timeout(limit, reader.read()).await {
                Ok(read) => read,
                Err(_) => return ControlError::NeverReady,
            },
            None => reader.read().await,
        };
        let sent = match read {
            Ok(Incoming::Message(message)) => {
                let (link, worker) = &lanes[0];
                worker.send(ToWorker::Message(*link, message)).await
            }
            Ok(Incoming::Ready) => ready(lanes).await,
            Err(error) => return error,
        };
        if sent.is_err() {
            return ControlError::Ended;
        }
    }
}

/// The other end can open what is sent to it, by any lane.
async fn ready<E: Endpoint>(lanes: &[(LinkId, WorkerHandle<E>)]) -> Result<(), Stopped> {
    for (link, worker) in lanes {
        worker.send(ToWorker::Ready(*link)).await?;
    }
    Ok(())
}

/// Writes what the core says until the link is to be closed; then waits a little until the peer has it.
async fn write_all(
    writer: &mut ControlWriter,
    outbox: &mut mpsc::Receiver<Outbound>,
    tells_ready: bool,
    down: &watch::Sender<Option<Arc<str>>>,
) -> String {
    if tells_ready && let Err(error) = writer.write_ready().await {
        return error.to_string();
    }
    while let Some(outbound) = outbox.recv().await {
        match outbound {
            Outbound::Message(message) => {
                if let Err(error) = writer.write(&message).await {
                    return error.to_string();
                }
            }
            // Means nothing after the first; but it makes QUIC send from where this end is now.
            Outbound::Nudge => {
                if let Err(error) = writer.write_ready().await {
                    return error.to_string();
                }
            }
            Outbound::Close(reason) => {
                // Who waits for the end of the link need not wait for the peer to hear of it.
                tell_down(down, reason);
                let _ = tokio::time::timeout(CLOSE_LINGER, writer.finish()).await;
                return reason.to_owned();
            }
        }
    }
    "the port is closed".to_owned()
}
