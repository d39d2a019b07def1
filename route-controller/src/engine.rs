//! The one event loop: the core, the store and the relays' sessions.
//!
//! It has a thread of its own, because what the core says may only leave once the store has it on disk, and waiting for
//! a disk would hold up everything else on the runtime's threads. Whoever wants something of it sends a [`Request`] over
//! a bounded queue and waits while that is full; the loop itself never waits for anybody. A relay that does not take its
//! messages fast enough loses its session rather than a message: it reports anew in the next one and is whole again.

mod api_tokens;
mod members;
mod policies;
mod seat;
mod token_keys;
mod traces;

pub(crate) use members::{Caller, RenewalRequest};
pub(crate) use seat::{EngineHandle, Loop, Running, Seat};
use traces::{Answers, Traces};

use crate::api_tokens::{ApiTokenRecord, TokenHash};
use crate::clock::{self, Clock};
use crate::keys::Keys;
use crate::recording::CoreRecording;
use crate::refusal::Refusal;
use crate::store::{JoinRecord, JoinTokenId, Store};
use crate::tenure::{Deposed, Tenure};
use crate::trust::Lines;
use control_proto::limits;
use route_core::{Controller, Input, KickCause, Output, Policies, SessionId};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use wire_format::control::{RelayHello, ToController, ToRelay, TokenKey};
use wire_format::{NodeIndex, StreamKey, Timestamp};

/// Requests that wait for the loop; senders wait when it is full.
const REQUESTS_MAX: usize = 1024;
/// Joins that wait for the loop; more are refused, to come again.
const JOINS_MAX: usize = 64;
/// After so many requests a join gets its turn, however many more requests wait.
const REQUESTS_PER_JOIN: usize = 64;
/// Messages that wait for one relay. After a reconnect a relay may be sent an entry for every stream it holds at once.
pub(crate) const SESSION_MESSAGES_MAX: usize = 2 * limits::HELD_STREAMS;

/// Something asked of the loop.
pub(crate) enum Request {
    /// A relay opened a session and said hello.
    Open { session: SessionId, caller: Caller, hello: Box<RelayHello>, outbox: Outbox },
    /// It said something more.
    Said { session: SessionId, message: ToController },
    /// Its session ended.
    Closed { session: SessionId },
    /// A relay asks for its next certificate.
    Renew { request: Box<RenewalRequest>, answer: oneshot::Sender<Result<Vec<u8>, Refusal>> },
    /// An operator cuts a relay off.
    Revoke { name: String, answer: oneshot::Sender<Result<(), Refusal>> },
    /// An operator wants routes to avoid a relay, or no longer.
    Cordon { name: String, cordoned: bool, answer: oneshot::Sender<Result<(), Refusal>> },
    /// An operator wants a relay empty.
    Drain { name: String, answer: oneshot::Sender<Result<(), Refusal>> },
    /// An operator wants other policies.
    SetPolicies { policies: Policies, answer: oneshot::Sender<Result<(), Refusal>> },
    /// An operator asks when certificates end, by relay.
    Expiries { answer: oneshot::Sender<Result<BTreeMap<String, u64>, Refusal>> },
    /// An operator makes a join token.
    AddJoinToken { secret_hash: [u8; 32], record: JoinRecord, answer: oneshot::Sender<Result<(), Refusal>> },
    /// An operator lists the join tokens that wait to be used.
    JoinTokens { answer: oneshot::Sender<Result<Vec<(JoinTokenId, JoinRecord)>, Refusal>> },
    /// An operator takes one back.
    RevokeJoinToken { id: JoinTokenId, answer: oneshot::Sender<Result<(), Refusal>> },
    /// An operator lists the keys of other token services.
    TokenKeys { answer: oneshot::Sender<Result<Vec<TokenKey>, Refusal>> },
    /// An operator registers the public key of another token service.
    SetTokenKey { key: TokenKey, answer: oneshot::Sender<Result<(), Refusal>> },
    /// An operator has the controller make itself another key.
    RotateSigningKey { answer: oneshot::Sender<Result<TokenKey, Refusal>> },
    /// An operator removes a key, of whomever.
    RemoveTokenKey { id: String, answer: oneshot::Sender<Result<(), Refusal>> },
    /// An operator makes a token for the admin API.
    AddApiToken { hash: TokenHash, record: ApiTokenRecord, answer: oneshot::Sender<Result<(), Refusal>> },
    /// An operator takes one back.
    RevokeApiToken { name: String, answer: oneshot::Sender<Result<(), Refusal>> },
    /// An operator has relays watch a stream.
    Trace {
        sessions: Vec<SessionId>,
        key: StreamKey,
        duration: Duration,
        answer: oneshot::Sender<Result<Answers, Refusal>>,
    },
    /// Somebody reads the core.
    Ask(Question),
    /// The process stops.
    Stop,
}

/// A relay presents a join token. Whoever sends this has proven nothing yet, so it waits in a queue of its own.
pub(crate) struct JoinRequest {
    pub(crate) name: String,
    pub(crate) secret_hash: [u8; 32],
    pub(crate) csr: Vec<u8>,
}

/// A join and where its answer goes.
struct WaitingJoin {
    request: JoinRequest,
    answer: oneshot::Sender<Result<Joined, Refusal>>,
}

/// Reads the core and sends the answer where it is wanted.
pub(crate) type Question = Box<dyn FnOnce(&Controller, Timestamp) + Send>;

/// The way to one relay.
pub(crate) struct Outbox {
    /// Messages for it.
    pub(crate) messages: mpsc::Sender<ToRelay>,
    /// Ends its session at once and tells it why.
    pub(crate) end: mpsc::Sender<SessionEnd>,
}

/// Why a session is ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SessionEnd {
    /// For programs.
    pub(crate) cause: KickCause,
    /// For people.
    pub(crate) reason: &'static str,
}

impl SessionEnd {
    /// For a session that may be opened again at once.
    pub(crate) fn passing(reason: &'static str) -> SessionEnd {
        SessionEnd { cause: KickCause::Broken, reason }
    }
}

/// What a relay gets for its join token.
pub(crate) struct Joined {
    pub(crate) certificate: Vec<u8>,
    pub(crate) ca_certificate: Vec<u8>,
    pub(crate) node: NodeIndex,
}

/// Counts of what happens around the core.
#[derive(Default, Debug)]
pub(crate) struct Counts {
    pub(crate) joined: AtomicU64,
    pub(crate) joins_refused: AtomicU64,
    pub(crate) joins_overflowed: AtomicU64,
    pub(crate) join_tokens_revoked: AtomicU64,
    pub(crate) renewed: AtomicU64,
    pub(crate) renewals_refused: AtomicU64,
    pub(crate) revoked: AtomicU64,
    pub(crate) sessions_refused: AtomicU64,
    pub(crate) sessions_void: AtomicU64,
    pub(crate) sessions_overflowed: AtomicU64,
    pub(crate) messages_refused: AtomicU64,
    pub(crate) api_unauthenticated: AtomicU64,
    pub(crate) api_forbidden: AtomicU64,
    /// Terms in which this controller has led, of one among several.
    pub(crate) terms: AtomicU64,
    pub(crate) etcd_errors: AtomicU64,
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Whether the loop runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Health {
    Running,
    Stopped,
    /// Another controller leads, or may.
    Deposed,
    Failed(String),
}

/// Everything that the loop owns.
pub(crate) struct Engine {
    clock: Clock,
    core: Controller,
    store: Store,
    keys: Keys,
    /// Which certificates of relays are good.
    lines: Lines,
    /// How long the next one is valid.
    lifetime: Duration,
    sessions: BTreeMap<SessionId, Outbox>,
    /// What each session was opened on.
    connections: BTreeMap<SessionId, u64>,
    traces: Traces,
    counts: Arc<Counts>,
    /// Nothing leaves when it is over.
    tenure: Tenure,
    /// What the core is told is written down there.
    recording: Option<CoreRecording>,
}

impl Engine {
    pub(crate) fn new(
        core: Controller,
        store: Store,
        keys: Keys,
        lines: Lines,
        lifetime: Duration,
        counts: Arc<Counts>,
        tenure: Tenure,
    ) -> Engine {
        Engine {
            clock: Clock::start(),
            core,
            store,
            keys,
            lines,
            lifetime,
            sessions: BTreeMap::new(),
            connections: BTreeMap::new(),
            traces: Traces::new(),
            counts,
            tenure,
            recording: None,
        }
    }

    /// The same with a recording of what the core is told.
    pub(crate) fn with_recording(self, recording: Option<CoreRecording>) -> Engine {
        Engine { recording, ..self }
    }

    /// Starts the loop in its own thread.
    pub(crate) fn spawn(mut self) -> anyhow::Result<Running> {
        let (requests, queue) = mpsc::channel(REQUESTS_MAX);
        let (joins, waiting_joins) = mpsc::channel(JOINS_MAX);
        let (health_sender, health) = watch::channel(Health::Running);
        let (counts, tenure) = (Arc::clone(&self.counts), self.tenure.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let thread = thread::Builder::new().name("controller".to_owned()).spawn(move || {
            let outcome = runtime.block_on(self.run(queue, waiting_joins));
            let health = match outcome {
                Ok(()) => Health::Stopped,
                Err(error) if error.is::<Deposed>() => {
                    self.end_all("this controller leads no more; keep forwarding and look for the leader");
                    Health::Deposed
                }
                Err(error) => {
                    tracing::error!("the controller cannot go on: {error:#}");
                    Health::Failed(format!("{error:#}"))
                }
            };
            health_sender.send_replace(health);
        })?;
        Ok(Running { way: Loop { requests, joins, counts, tenure }, health, thread })
    }

    /// Timers before requests, requests before joins; one thing at a time. Joins get a turn now and then all the same.
    async fn run(
        &mut self,
        mut requests: mpsc::Receiver<Request>,
        mut joins: mpsc::Receiver<WaitingJoin>,
    ) -> anyhow::Result<()> {
        self.push_token_keys()?;
        let mut since_join = 0;
        let tenure = self.tenure.clone();
        let mut over = std::pin::pin!(tenure.over());
        loop {
            if since_join >= REQUESTS_PER_JOIN {
                since_join = 0;
                if let Ok(join) = joins.try_recv() {
                    self.answer_join(join)?;
                }
            }
            let deadline = self.core.poll_timeout().map(|deadline| self.clock.instant(deadline));
            let timer = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = &mut over => return Err(Deposed.into()),
                () = timer => self.input(Input::Timeout)?,
                request = requests.recv() => match request {
                    Some(request) => match self.handle(request)? {
                        ControlFlow::Continue(()) => since_join += 1,
                        ControlFlow::Break(()) => return Ok(()),
                    },
                    None => return Ok(()),
                },
                Some(join) = joins.recv() => {
                    since_join = 0;
                    self.answer_join(join)?;
                }
            }
        }
    }

    fn handle(&mut self, request: Request) -> anyhow::Result<ControlFlow<()>> {
        match request {
            Request::Open { session, caller, hello, outbox } => {
                self.open(session, caller, *hello, outbox)?;
            }
            Request::Said { session, message } => {
                if let Some(message) = self.traces.take(session, message) {
                    self.input(Input::FromRelay { session, message })?;
                }
            }
            Request::Closed { session } => {
                self.forget(session);
                self.input(Input::RelayDown { session })?;
            }
            Request::Renew { request, answer } => {
                let outcome = self.renew(&request)?;
                count(if outcome.is_ok() { &self.counts.renewed } else { &self.counts.renewals_refused });
                let _ = answer.send(outcome);
            }
            Request::Revoke { name, answer } => {
                let outcome = self.revoke(&name)?;
                let _ = answer.send(outcome);
            }
            Request::Cordon { name, cordoned, answer } => {
                let what = if cordoned { "routes are to avoid it" } else { "routes may pass it" };
                let outcome = self.decide(&name, what, Input::Cordon { name: name.clone(), cordoned })?;
                let _ = answer.send(outcome);
            }
            Request::Drain { name, answer } => {
                let outcome = self.decide(&name, "it is to be empty", Input::Drain { name: name.clone() })?;
                let _ = answer.send(outcome);
            }
            Request::SetPolicies { policies, answer } => {
                self.set_policies(policies)?;
                let _ = answer.send(Ok(()));
            }
            Request::Expiries { answer } => {
                let _ = answer.send(Ok(self.expiries()));
            }
            Request::AddJoinToken { secret_hash, record, answer } => {
                let outcome = self.add_join_token(&secret_hash, &record)?;
                let _ = answer.send(outcome);
            }
            Request::JoinTokens { answer } => {
                let _ = answer.send(Ok(self.store.join_tokens(clock::unix_s())?));
            }
            Request::RevokeJoinToken { id, answer } => {
                let outcome = self.revoke_join_token(id)?;
                let _ = answer.send(outcome);
            }
            Request::TokenKeys { answer } => {
                let _ = answer.send(Ok(self.registered_keys()?));
            }
            Request::SetTokenKey { key, answer } => {
                let outcome = self.set_token_key(&key)?;
                let _ = answer.send(outcome);
            }
            Request::RotateSigningKey { answer } => {
                let outcome = self.rotate_signing_key()?;
                let _ = answer.send(outcome);
            }
            Request::RemoveTokenKey { id, answer } => {
                let outcome = self.remove_token_key(&id)?;
                let _ = answer.send(outcome);
            }
            Request::AddApiToken { hash, record, answer } => {
                let outcome = self.add_api_token(&hash, &record)?;
                let _ = answer.send(outcome);
            }
            Request::RevokeApiToken { name, answer } => {
                let outcome = self.revoke_api_token(&name)?;
                let _ = answer.send(outcome);
            }
            Request::Trace { sessions, key, duration, answer } => {
                let outcome = self.trace(&sessions, key, duration)?;
                let _ = answer.send(outcome);
            }
            Request::Ask(question) => question(&self.core, self.clock.now()),
            Request::Stop => {
                self.end_all("the controller is stopping; keep forwarding and try again");
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn answer_join(&mut self, join: WaitingJoin) -> anyhow::Result<()> {
        let WaitingJoin { request: JoinRequest { name, secret_hash, csr }, answer } = join;
        let outcome = self.join(&name, &secret_hash, &csr)?;
        count(if outcome.is_ok() { &self.counts.joined } else { &self.counts.joins_refused });
        let _ = answer.send(outcome);
        Ok(())
    }

    /// One input, then everything that follows from it. A failed write ends the process: nothing may leave that a
    /// restart would forget.
    fn input(&mut self, input: Input) -> anyhow::Result<()> {
        let mut overflowed = self.step(input)?;
        while let Some(session) = overflowed.pop() {
            overflowed.extend(self.step(Input::RelayDown { session })?);
        }
        Ok(())
    }

    /// One input and its drain. Returns sessions that had to be ended.
    fn step(&mut self, input: Input) -> anyhow::Result<Vec<SessionId>> {
        let now = self.clock.now();
        if let Some(recording) = &mut self.recording {
            recording.input(now, &input);
        }
        self.core.handle_input(now, input);
        let overflowed = self.drain()?;
        if let Some(recording) = &mut self.recording {
            recording.drained(now);
        }
        Ok(overflowed)
    }

    /// Does what the core wants done. Returns sessions that had to be ended.
    fn drain(&mut self) -> anyhow::Result<Vec<SessionId>> {
        let mut unwritten = Vec::new();
        let mut overflowed = Vec::new();
        while let Some(output) = self.core.poll_output() {
            if let Some(recording) = &mut self.recording {
                recording.output(&output);
            }
            match output {
                Output::Persist(update) => unwritten.push(update),
                Output::ToRelay { session, message } => {
                    self.write(&mut unwritten)?;
                    self.tenure.check()?;
                    let Some(outbox) = self.sessions.get(&session) else { continue };
                    // Closed means that its connection broke; `Closed` is on its way.
                    if let Err(mpsc::error::TrySendError::Full(_)) = outbox.messages.try_send(message) {
                        tracing::warn!(
                            session = session.0,
                            "a relay takes its messages too slowly; its session ends"
                        );
                        count(&self.counts.sessions_overflowed);
                        let reason = "too slow: more messages wait than a session may have";
                        self.end(session, SessionEnd::passing(reason));
                        overflowed.push(session);
                    }
                }
                Output::Kick { session, cause, reason } => {
                    self.write(&mut unwritten)?;
                    match cause {
                        KickCause::NameInUse => {
                            tracing::warn!(session = session.0, "a session is refused: {reason}")
                        }
                        KickCause::Broken | KickCause::Replaced | KickCause::ComeAgain | KickCause::Void => {
                            tracing::info!(session = session.0, reason, "a session is ended");
                        }
                    }
                    self.end(session, SessionEnd { cause, reason });
                }
            }
        }
        self.write(&mut unwritten)?;
        Ok(overflowed)
    }

    fn end_all(&self, reason: &'static str) {
        for outbox in self.sessions.values() {
            let _ = outbox.end.try_send(SessionEnd::passing(reason));
        }
    }

    fn write(&mut self, unwritten: &mut Vec<route_core::StoreUpdate>) -> anyhow::Result<()> {
        if !unwritten.is_empty() {
            self.store.apply(unwritten, clock::unix_s())?;
            unwritten.clear();
        }
        Ok(())
    }

    fn end(&mut self, session: SessionId, why: SessionEnd) {
        if let Some(outbox) = self.forget(session) {
            // Full means that it was told another reason a moment ago.
            let _ = outbox.end.try_send(why);
        }
    }

    fn forget(&mut self, session: SessionId) -> Option<Outbox> {
        self.connections.remove(&session);
        self.sessions.remove(&session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::Authority;
    use crate::refusal::RefusalKind;
    use crate::tokens::{SIGNING_KEY, SigningKey, TokenIssuer};
    use crate::trust::Certified;
    use crate::vault::Vault;
    use route_core::{ControllerConfig, NodeState};

    fn engine(folder: &std::path::Path) -> anyhow::Result<Engine> {
        let (authority, _) = Authority::generate()?;
        let key = SigningKey::load(SIGNING_KEY.to_owned(), &SigningKey::generate()?, 0)?;
        let issuer = Arc::new(TokenIssuer::new(vec![key], &authority.sha256()));
        let vault = Vault::open(&folder.join("key"), true)?;
        let store = Store::open(&folder.join("store.redb"))?;
        let core = Controller::new(ControllerConfig::new(1, 7));
        let lifetime = Duration::from_secs(3600);
        let keys = Keys {
            authority: Arc::new(authority),
            issuer,
            vault: Arc::new(vault),
            api_tokens: Arc::default(),
        };
        let tenure = Tenure::unlimited(Clock::start());
        Ok(Engine::new(core, store, keys, Lines::new(), lifetime, Arc::default(), tenure))
    }

    fn open(session: u64, capacity: usize) -> (Request, mpsc::Receiver<ToRelay>, mpsc::Receiver<SessionEnd>) {
        let (messages, queue) = mpsc::channel(capacity);
        let (end, ended) = mpsc::channel(1);
        let name = "fra-1".to_owned();
        let hello = RelayHello {
            name: name.clone(),
            node: None,
            region: String::new(),
            isp: String::new(),
            tags: Vec::new(),
            position: None,
            addresses: Vec::new(),
            version: String::new(),
            wire_versions: (1, 1),
            epoch: None,
            table_deltas: true,
            streams: Vec::new(),
            traces: false,
        };
        let outbox = Outbox { messages, end };
        let caller = Caller {
            name,
            certificate: Certified { serial: Vec::new(), issued_unix_s: 0, expires_unix_s: u64::MAX },
            connection: session,
        };
        (Request::Open { session: SessionId(session), caller, hello: Box::new(hello), outbox }, queue, ended)
    }

    #[test]
    fn a_relay_that_takes_nothing_loses_its_session_and_gets_another() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let mut engine = engine(folder.path())?;
        engine.push_token_keys()?;
        let (request, mut queue, mut ended) = open(1, 1);
        assert!(engine.handle(request)?.is_continue());
        assert!(ended.try_recv().is_ok_and(|end| end.reason.contains("too slow")));
        assert!(queue.try_recv().is_ok() && queue.try_recv().is_err(), "one message fitted");
        assert_eq!(engine.counts.sessions_overflowed.load(Ordering::Relaxed), 1);
        assert!(engine.sessions.is_empty());
        assert_ne!(engine.core.nodes(engine.clock.now())[0].state, NodeState::Connected);

        let (request, mut queue, mut ended) = open(2, SESSION_MESSAGES_MAX);
        assert!(engine.handle(request)?.is_continue());
        assert!(ended.try_recv().is_err() && queue.try_recv().is_ok());
        assert_eq!(engine.core.nodes(engine.clock.now())[0].state, NodeState::Connected);
        Ok(())
    }

    fn join(name: &str) -> WaitingJoin {
        let (answer, _) = oneshot::channel();
        let request = JoinRequest { name: name.to_owned(), secret_hash: [9; 32], csr: Vec::new() };
        WaitingJoin { request, answer }
    }

    #[tokio::test]
    async fn joins_of_strangers_hold_up_neither_reports_nor_each_other_for_ever() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let (handle, thread) = engine(folder.path())?.spawn()?.alone();
        let way = handle.leader()?;
        // The loop stands still until this is dropped, as behind a slow disk.
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let stand_still: Question = Box::new(move |_, _| {
            let _ = held.recv();
        });
        handle.send(Request::Ask(stand_still)).await?;
        for _ in 0..JOINS_MAX {
            way.joins.try_send(join("fra-1")).map_err(|_| anyhow::anyhow!("there is room"))?;
        }
        let WaitingJoin { request, .. } = join("fra-1");
        let refusal = way.join(request).await.err().expect("no room is left");
        assert_eq!(refusal.kind, RefusalKind::Unavailable);
        assert_eq!(handle.counts.joins_overflowed.load(Ordering::Relaxed), 1);

        // Everything else still gets into its own queue, and goes first; but not for ever.
        let (sender, mut seen) = mpsc::channel(3 * REQUESTS_PER_JOIN);
        for _ in 0..3 * REQUESTS_PER_JOIN {
            let (sender, counts) = (sender.clone(), Arc::clone(&handle.counts));
            let look: Question = Box::new(move |_, _| {
                let _ = sender.try_send(counts.joins_refused.load(Ordering::Relaxed));
            });
            way.requests.try_send(Request::Ask(look)).map_err(|_| anyhow::anyhow!("there is room"))?;
        }
        drop((hold, sender));
        let mut judged = Vec::new();
        while let Some(refused) = seen.recv().await {
            judged.push(refused);
        }
        assert_eq!((judged.first(), judged.last()), (Some(&0), Some(&3)), "{judged:?}");
        handle.send(Request::Stop).await?;
        assert_eq!(handle.ended().await, Health::Stopped);
        thread.join().map_err(|_| anyhow::anyhow!("no panic"))?;
        Ok(())
    }
}
