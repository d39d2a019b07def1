//! Streams that relays watch: the question leaves in their sessions, and the answers go to whoever asked. The core has
//! no part in it.

use super::Engine;
use crate::clock;
use crate::refusal::{Refusal, RefusalKind};
use route_core::SessionId;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;
use wire_format::StreamKey;
use wire_format::control::{ToController, ToRelay, TraceReport, TraceRequest, limits};

/// Traces under way at once: no relay takes more.
const TRACES_MAX: usize = limits::TRACES;

/// What relays answer, as it comes, each with its session. Whoever asked knows how many to wait for, and how long.
pub(crate) type Answers = mpsc::Receiver<(SessionId, TraceReport)>;

/// Who waits for which answers.
pub(super) struct Traces {
    /// Counts from the time of day: a relay may still answer a controller of before.
    last: u64,
    waiting: BTreeMap<u64, mpsc::Sender<(SessionId, TraceReport)>>,
}

impl Traces {
    pub(super) fn new() -> Traces {
        Traces { last: clock::unix_ms() << 10, waiting: BTreeMap::new() }
    }

    /// Passes an answer to whoever waits for it; everything else comes back.
    pub(super) fn take(&mut self, session: SessionId, message: ToController) -> Option<ToController> {
        let ToController::Traced(report) = message else { return Some(message) };
        let Some(sender) = self.waiting.get(&report.trace) else {
            return Some(ToController::Traced(report));
        };
        // There is room for an answer of each relay; one that answers twice is not heard twice.
        let _ = sender.try_send((session, report));
        None
    }
}

impl Engine {
    /// Asks relays to watch a stream.
    pub(super) fn trace(
        &mut self,
        sessions: &[SessionId],
        key: StreamKey,
        duration: Duration,
    ) -> anyhow::Result<Result<Answers, Refusal>> {
        self.tenure.check()?;
        self.traces.waiting.retain(|_, sender| !sender.is_closed());
        if self.traces.waiting.len() >= TRACES_MAX {
            let refusal = Refusal::new(
                RefusalKind::Unavailable,
                format!("{TRACES_MAX} streams are traced already"),
                "try again in some seconds",
            );
            return Ok(Err(refusal));
        }
        self.traces.last += 1;
        let trace = self.traces.last;
        let (sender, answers) = mpsc::channel(sessions.len().max(1));
        for session in sessions {
            if let Some(outbox) = self.sessions.get(session) {
                let request = TraceRequest { trace, key, duration };
                // A relay whose queue is full is about to lose its session: it does not answer.
                let _ = outbox.messages.try_send(ToRelay::Trace(request));
            }
        }
        self.traces.waiting.insert(trace, sender);
        Ok(Ok(answers))
    }
}
