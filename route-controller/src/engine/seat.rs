//! How others reach the loop, or learn that there is none here: of several controllers one leads, and only it has a loop.
//! A loop lives for one term. Whatever began with it (a session, above all) goes on talking to that one and to no other.

use super::{Counts, Health, JoinRequest, Joined, Question, Request, WaitingJoin, count};
use crate::refusal::{Refusal, RefusalKind};
use crate::tenure::Tenure;
use route_core::Controller;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};
use wire_format::Timestamp;

/// What this process is at the moment.
#[derive(Clone)]
pub(crate) enum Seat {
    Leader(Loop),
    Follower {
        /// Where relays find the leader, as far as is known.
        leader: Option<Arc<str>>,
    },
}

/// The way to one loop. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Loop {
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) joins: mpsc::Sender<WaitingJoin>,
    pub(super) counts: Arc<Counts>,
    /// Until when what it says counts.
    pub(crate) tenure: Tenure,
}

/// A loop that has just begun.
pub(crate) struct Running {
    pub(crate) way: Loop,
    pub(crate) health: watch::Receiver<Health>,
    pub(crate) thread: std::thread::JoinHandle<()>,
}

/// The way to whatever loop there is. Cheap to clone.
#[derive(Clone)]
pub(crate) struct EngineHandle {
    seat: watch::Receiver<Seat>,
    health: watch::Receiver<Health>,
    pub(crate) counts: Arc<Counts>,
}

impl Loop {
    /// Sends a request; waits while the queue is full.
    pub(crate) async fn send(&self, request: Request) -> Result<(), Refusal> {
        self.requests.send(request).await.map_err(|_| Refusal::stopping())
    }

    /// Sends a request made with the sender of its answer, and waits for that.
    pub(crate) async fn call<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, Refusal>>) -> Request,
    ) -> Result<T, Refusal> {
        let (sender, answer) = oneshot::channel();
        self.send(request(sender)).await?;
        answer.await.map_err(|_| Refusal::stopping())?
    }

    /// Presents a join token; refused at once where too many others do.
    pub(crate) async fn join(&self, request: JoinRequest) -> Result<Joined, Refusal> {
        let (answer, joined) = oneshot::channel();
        self.joins.try_send(WaitingJoin { request, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                count(&self.counts.joins_overflowed);
                Refusal::new(RefusalKind::Unavailable, "too many joins wait", "try again in a moment")
            }
            mpsc::error::TrySendError::Closed(_) => Refusal::stopping(),
        })?;
        joined.await.map_err(|_| Refusal::stopping())?
    }

    /// Reads the core.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Controller, Timestamp) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let (sender, answer) = oneshot::channel();
        let question: Question = Box::new(move |core, now| {
            // Whoever asked may have gone.
            let _ = sender.send(question(core, now));
        });
        self.send(Request::Ask(question)).await?;
        answer.await.map_err(|_| Refusal::stopping())
    }
}

impl Running {
    /// Of a controller that is alone: it leads for as long as it runs.
    pub(crate) fn alone(self) -> (EngineHandle, std::thread::JoinHandle<()>) {
        let Running { way, health, thread } = self;
        let counts = Arc::clone(&way.counts);
        let (_, seat) = watch::channel(Seat::Leader(way));
        (EngineHandle { seat, health, counts }, thread)
    }
}

impl EngineHandle {
    /// Of one among several controllers, whose seat and health are told.
    pub(crate) fn shared(
        seat: watch::Receiver<Seat>,
        health: watch::Receiver<Health>,
        counts: Arc<Counts>,
    ) -> EngineHandle {
        EngineHandle { seat, health, counts }
    }

    /// The loop that runs here; refused where another controller leads, or nobody at the moment.
    pub(crate) fn leader(&self) -> Result<Loop, Refusal> {
        match &*self.seat.borrow() {
            Seat::Leader(way) => Ok(way.clone()),
            Seat::Follower { leader } => Err(Refusal::follower(leader.as_deref())),
        }
    }

    /// Where relays find the leader, if that is another controller.
    pub(crate) fn elsewhere(&self) -> Option<Arc<str>> {
        match &*self.seat.borrow() {
            Seat::Leader(_) => None,
            Seat::Follower { leader } => leader.clone(),
        }
    }

    /// As [`Loop::send`].
    pub(crate) async fn send(&self, request: Request) -> Result<(), Refusal> {
        self.leader()?.send(request).await
    }

    /// As [`Loop::call`].
    pub(crate) async fn call<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, Refusal>>) -> Request,
    ) -> Result<T, Refusal> {
        self.leader()?.call(request).await
    }

    /// As [`Loop::ask`].
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Controller, Timestamp) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        self.leader()?.ask(question).await
    }

    /// Waits until this process can no longer go on, and says why.
    pub(crate) async fn ended(&self) -> Health {
        let mut health = self.health.clone();
        match health.wait_for(|health| *health != Health::Running).await {
            Ok(health) => health.clone(),
            Err(_) => Health::Failed("the event loop panicked".to_owned()),
        }
    }
}
