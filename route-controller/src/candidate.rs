//! One of several controllers: takes part in elections, and runs a loop while it leads.
//!
//! The [`Election`] decides; here its requests are carried to etcd, beside each other, and its decisions done. Each term has
//! a loop of its own, which begins with what etcd holds then, as that of a controller alone begins with its file. When the
//! term ends, whoever may still act for it sees so by its [`Tenure`], before the next leader can begin.

use crate::clock::Clock;
use crate::engine::{Health, Request, Running, Seat};
use crate::etcd::Etcd;
use crate::store::{SharedStore, Store};
use crate::tenure::Tenure;
use route_core::{CallId, Election, ElectionAnswer, ElectionInput, ElectionOutput, ElectionRequest, LeaseId};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use wire_format::Timestamp;

/// For a loop to tell its relays goodbye, and for etcd to end the lease, when this controller stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// Makes the loop of a term, from the store as it is then. Blocks.
pub(crate) type Begin = Box<dyn Fn(Store, Tenure) -> anyhow::Result<Running> + Send + Sync>;

/// One controller among several.
pub(crate) struct Candidate {
    clock: Clock,
    election: Election,
    etcd: Arc<Etcd>,
    begin: Arc<Begin>,
    seat: watch::Sender<Seat>,
    health: watch::Sender<Health>,
    stopping: watch::Receiver<bool>,
    tasks: JoinSet<Event>,
    reign: Option<Reign>,
}

/// A term of this controller.
struct Reign {
    term: u64,
    lease: LeaseId,
    until: watch::Sender<Timestamp>,
    running: Option<Running>,
}

/// What a task ends with.
enum Event {
    Answer(CallId, ElectionAnswer),
    /// A loop was made.
    Begun(u64, anyhow::Result<Running>),
    /// It ended.
    Ended(u64, Health),
}

impl Candidate {
    /// With what tells the seat and the health of this controller.
    pub(crate) fn new(
        etcd: Arc<Etcd>,
        name: String,
        begin: Begin,
        stopping: watch::Receiver<bool>,
    ) -> (Candidate, watch::Receiver<Seat>, watch::Receiver<Health>) {
        let (seat, seated) = watch::channel(Seat::Follower { leader: None });
        let (health, healthy) = watch::channel(Health::Running);
        let candidate = Candidate {
            clock: Clock::start(),
            election: Election::new(name),
            etcd,
            begin: Arc::new(begin),
            seat,
            health,
            stopping,
            tasks: JoinSet::new(),
            reign: None,
        };
        (candidate, seated, healthy)
    }

    /// Until the controller stops.
    pub(crate) async fn run(mut self) {
        let mut stopping = self.stopping.clone();
        loop {
            let due = self.clock.instant(self.election.poll_timeout());
            tokio::select! {
                biased;
                // An error means that whoever would stop it is gone: stop too.
                _ = stopping.wait_for(|stop| *stop) => break,
                () = tokio::time::sleep_until(due) => self.input(ElectionInput::Timeout),
                Some(event) = self.tasks.join_next() => match event {
                    Ok(Event::Answer(call, answer)) => self.input(ElectionInput::Answer { call, answer }),
                    Ok(Event::Begun(term, running)) => self.begun(term, running),
                    Ok(Event::Ended(term, health)) => self.ended(term, &health),
                    Err(error) => tracing::error!("a task of the election failed: {error}"),
                },
            }
        }
        self.stop().await;
    }

    fn input(&mut self, input: ElectionInput) {
        self.election.handle_input(self.clock.now(), input);
        while let Some(output) = self.election.poll_output() {
            match output {
                ElectionOutput::Ask { call, request } => {
                    let etcd = Arc::clone(&self.etcd);
                    self.tasks.spawn(async move { Event::Answer(call, etcd.ask(request).await) });
                }
                ElectionOutput::Lead { term, lease } => self.lead(term, lease),
                ElectionOutput::Follow { leader } => self.follow(leader),
            }
        }
        if let (Some(reign), Some(until)) = (&self.reign, self.election.leads_until()) {
            reign.until.send_if_modified(|last| std::mem::replace(last, until) != until);
        }
    }

    fn lead(&mut self, term: u64, lease: LeaseId) {
        tracing::info!(term, "this controller leads");
        let now = self.clock.now();
        let until = self.election.leads_until().unwrap_or(now);
        let (until, tenure) = Tenure::limited(self.clock, until);
        self.reign = Some(Reign { term, lease, until, running: None });
        let (etcd, begin) = (Arc::clone(&self.etcd), Arc::clone(&self.begin));
        self.tasks.spawn(async move {
            let running = async {
                let rows = etcd.rows().await?;
                let shared = SharedStore::new(etcd, tenure.clone(), term, lease);
                tokio::task::spawn_blocking(move || begin(Store::lead(rows, shared)?, tenure)).await?
            };
            Event::Begun(term, running.await)
        });
    }

    fn follow(&mut self, leader: Option<String>) {
        if let Some(reign) = self.reign.take() {
            tracing::warn!(term = reign.term, "this controller leads no more; relays keep forwarding");
            reign.until.send_replace(Timestamp::ZERO);
        } else {
            tracing::info!(leader = leader.as_deref().unwrap_or("not known"), "this controller follows");
        }
        self.seat.send_replace(Seat::Follower { leader: leader.map(Arc::from) });
    }

    fn begun(&mut self, term: u64, running: anyhow::Result<Running>) {
        let Some(reign) = self.reign.as_mut().filter(|reign| reign.term == term) else {
            // It was over before it began; a loop without a way to it ends.
            return;
        };
        match running {
            Ok(running) => {
                let mut health = running.health.clone();
                self.tasks.spawn(async move {
                    let ended = health.wait_for(|health| *health != Health::Running).await;
                    let ended = ended.map(|health| health.clone());
                    Event::Ended(term, ended.unwrap_or(Health::Failed("the event loop panicked".to_owned())))
                });
                self.seat.send_replace(Seat::Leader(running.way.clone()));
                reign.running = Some(running);
            }
            Err(error) => {
                tracing::error!("this controller cannot lead: {error:#}");
                self.input(ElectionInput::Resign);
            }
        }
    }

    /// The loop of the present term does not go on: another controller may take over.
    fn ended(&mut self, term: u64, health: &Health) {
        if self.reign.as_ref().is_some_and(|reign| reign.term == term) {
            tracing::warn!(term, ?health, "the term ends early");
            self.input(ElectionInput::Resign);
        }
    }

    /// In good order: relays are told, and the lease is given back, so that another leads at once.
    async fn stop(&mut self) {
        if let Some(Reign { term: _, lease, until, running }) = self.reign.take() {
            if let Some(mut running) = running {
                let stopped = async {
                    let _ = running.way.send(Request::Stop).await;
                    let _ = running.health.wait_for(|health| *health != Health::Running).await;
                };
                if tokio::time::timeout(STOP_TIMEOUT, stopped).await.is_ok() {
                    // It has ended, so this does not wait.
                    let _ = running.thread.join();
                }
            }
            until.send_replace(Timestamp::ZERO);
            let revoked = self.etcd.ask(ElectionRequest::Revoke { lease });
            let _ = tokio::time::timeout(STOP_TIMEOUT, revoked).await;
        }
        self.seat.send_replace(Seat::Follower { leader: None });
        self.health.send_replace(Health::Stopped);
    }
}
