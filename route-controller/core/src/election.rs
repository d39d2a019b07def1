//! Which of several controllers leads.
//!
//! A store that all of them reach holds one key, tied to a lease. Whoever creates the key leads, until the lease ends; the
//! revision of the store at which the key was created is the *term*, which therefore only grows. [`Election`] decides what
//! one candidate asks of the store, and until when it may believe that it leads. Like the other cores it has no clock and
//! no socket: time and answers go in, requests and decisions come out.
//!
//! Why two never believe it at once: the store counts a lease from when it grants or renews it, which is no earlier than
//! the moment at which that was *asked* for. The candidate counts from that moment, by its own clock, and ends a tenth of
//! the lease earlier, so clocks may differ by that much in speed. A candidate that was stopped and goes on finds its time
//! over at its first look at the clock. Whatever slips out all the same (a request under way) is of an older term, and
//! refused for that: by the store, whose writes compare the key's revision, and by relays, which have heard of a newer one.
//!
//! An answer that does not come may mean that the request was carried out. So nothing is built on it: a candidate whose
//! campaign got no answer gives its lease up, and with it the key that it may have got.

use std::collections::VecDeque;
use std::time::Duration;
use wire_format::Timestamp;

/// What a lease is asked to last: as long as a leader that dies keeps others from leading.
pub const LEASE: Duration = Duration::from_secs(3);
/// How often a leader renews it.
const KEEP: Duration = Duration::from_secs(1);
/// How often a candidate looks whether another leads. What it takes comes on top of the lease when a leader dies.
const LOOK: Duration = Duration::from_millis(250);
/// From a failure to the next attempt.
const RETRY: Duration = Duration::from_millis(250);
/// After a leader gave up by its own will: time for another to take over.
const STAND_BACK: Duration = Duration::from_secs(2);
/// An answer that takes longer does not come.
const PATIENCE: Duration = Duration::from_secs(1);
/// This part of a lease is not made use of.
const MARGIN_DIVISOR: u32 = 10;

/// Number of a lease in the store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LeaseId(pub i64);

/// Names a request, so that its answer is known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct CallId(pub u64);

/// What is asked of the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ElectionRequest {
    /// Who leads? Answered by [`ElectionAnswer::Vacant`] or [`ElectionAnswer::Held`].
    Look,
    /// A lease of [`LEASE`]. Answered by [`ElectionAnswer::Granted`].
    Grant,
    /// Create the key with this lease unless it exists. Answered by [`ElectionAnswer::Won`] or [`ElectionAnswer::Held`].
    Campaign {
        /// Whose end is that of the key.
        lease: LeaseId,
    },
    /// Count this lease anew. Answered by [`ElectionAnswer::Alive`].
    KeepAlive {
        /// The lease.
        lease: LeaseId,
    },
    /// End this lease, and the key with it. No answer is waited for.
    Revoke {
        /// The lease.
        lease: LeaseId,
    },
}

/// What the store says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ElectionAnswer {
    /// Nobody leads.
    Vacant,
    /// Somebody leads, who calls itself this.
    Held(String),
    /// A lease, and how long it lasts.
    Granted {
        /// Its number.
        lease: LeaseId,
        /// The store may give more than was asked for.
        lasts: Duration,
    },
    /// This candidate leads.
    Won {
        /// Revision of the store at which the key was created.
        term: u64,
    },
    /// The lease lasts this long again; zero if it has ended.
    Alive {
        /// Counted from when the store did it.
        lasts: Duration,
    },
    /// No answer, or an error: it may have been done or not.
    Failed,
}

/// What an election is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ElectionInput {
    /// The deadline has come.
    Timeout,
    /// The answer to a request.
    Answer {
        /// Which.
        call: CallId,
        /// What it was.
        answer: ElectionAnswer,
    },
    /// A leader cannot go on: another may take over at once.
    Resign,
}

/// What an election wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ElectionOutput {
    /// Ask the store.
    Ask {
        /// To be told with the answer.
        call: CallId,
        /// What.
        request: ElectionRequest,
    },
    /// This candidate leads from now on, for as long as [`Election::leads_until`] says.
    Lead {
        /// Larger than that of every leader before.
        term: u64,
        /// To which the key is tied.
        lease: LeaseId,
    },
    /// This candidate does not lead, or no longer.
    Follow {
        /// Who does, as far as is known.
        leader: Option<String>,
    },
}

/// One candidate.
///
/// [`Election::handle_input`], then [`Election::poll_output`] until `None`, then [`Election::poll_timeout`] and
/// [`Election::leads_until`]: both change with inputs only.
#[derive(Clone, Debug)]
pub struct Election {
    name: String,
    state: State,
    calls: u64,
    /// Whom the owner believes to lead, if it was told.
    told: Option<Option<String>>,
    outputs: VecDeque<ElectionOutput>,
}

#[derive(Clone, Debug)]
enum State {
    /// Nothing is asked until then.
    Resting {
        until: Timestamp,
    },
    Looking(Call),
    Granting(Call),
    Campaigning {
        call: Call,
        lease: LeaseId,
        until: Timestamp,
    },
    Leading(Reign),
}

#[derive(Clone, Copy, Debug)]
struct Call {
    id: CallId,
    asked: Timestamp,
}

#[derive(Clone, Debug)]
struct Reign {
    lease: LeaseId,
    /// From then on another may lead.
    until: Timestamp,
    /// A renewal under way.
    keeping: Option<Call>,
    /// When the next one is due.
    keep_at: Timestamp,
}

impl Election {
    /// A candidate that others will know by `name`. It looks at the store at once.
    pub fn new(name: impl Into<String>) -> Election {
        Election {
            name: name.into(),
            state: State::Resting { until: Timestamp::ZERO },
            calls: 0,
            told: None,
            outputs: VecDeque::new(),
        }
    }

    /// Until when this candidate leads; `None` if it does not.
    pub fn leads_until(&self) -> Option<Timestamp> {
        match &self.state {
            State::Leading(reign) => Some(reign.until),
            State::Resting { .. } | State::Looking(_) | State::Granting(_) | State::Campaigning { .. } => {
                None
            }
        }
    }

    /// When [`ElectionInput::Timeout`] is due. Changed by [`Election::handle_input`] alone.
    #[must_use]
    pub fn poll_timeout(&self) -> Timestamp {
        match &self.state {
            State::Resting { until } => *until,
            State::Looking(call) | State::Granting(call) => call.asked + PATIENCE,
            State::Campaigning { call, lease: _, until } => (*until).min(call.asked + PATIENCE),
            State::Leading(reign) => {
                let next = reign.keeping.map_or(reign.keep_at, |call| call.asked + PATIENCE);
                reign.until.min(next)
            }
        }
    }

    /// The next thing to do. Changed by [`Election::handle_input`] alone.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<ElectionOutput> {
        self.outputs.pop_front()
    }

    /// Takes one input; whatever is due at `now` is done first.
    pub fn handle_input(&mut self, now: Timestamp, input: ElectionInput) {
        self.advance(now);
        match input {
            ElectionInput::Timeout => {}
            ElectionInput::Answer { call, answer } => self.answered(now, call, answer),
            ElectionInput::Resign => {
                if let State::Leading(reign) = &self.state {
                    let lease = reign.lease;
                    self.give_up(now + STAND_BACK, Some(lease));
                }
            }
        }
    }

    fn advance(&mut self, now: Timestamp) {
        match &mut self.state {
            State::Resting { until } => {
                if now >= *until {
                    let call = self.ask(now, ElectionRequest::Look);
                    self.state = State::Looking(call);
                }
            }
            State::Looking(call) | State::Granting(call) => {
                if now >= call.asked + PATIENCE {
                    self.give_up(now + RETRY, None);
                }
            }
            State::Campaigning { call, lease, until } => {
                if now >= (*until).min(call.asked + PATIENCE) {
                    let lease = *lease;
                    self.give_up(now + RETRY, Some(lease));
                }
            }
            State::Leading(reign) => {
                if now >= reign.until {
                    let lease = reign.lease;
                    self.give_up(now + RETRY, Some(lease));
                    return;
                }
                if reign.keeping.is_some_and(|call| now >= call.asked + PATIENCE) {
                    reign.keeping = None;
                    reign.keep_at = now;
                }
                if reign.keeping.is_none() && now >= reign.keep_at {
                    let lease = reign.lease;
                    let call = self.ask(now, ElectionRequest::KeepAlive { lease });
                    if let State::Leading(reign) = &mut self.state {
                        reign.keeping = Some(call);
                    }
                }
            }
        }
    }

    /// What comes late, to a call that is not waited for any more, says nothing.
    fn answered(&mut self, now: Timestamp, id: CallId, answer: ElectionAnswer) {
        match &mut self.state {
            State::Looking(call) if call.id == id => match answer {
                ElectionAnswer::Vacant => {
                    self.follow(None);
                    let call = self.ask(now, ElectionRequest::Grant);
                    self.state = State::Granting(call);
                }
                ElectionAnswer::Held(leader) => self.stand_by(now, leader),
                ElectionAnswer::Granted { .. }
                | ElectionAnswer::Won { .. }
                | ElectionAnswer::Alive { .. }
                | ElectionAnswer::Failed => self.give_up(now + RETRY, None),
            },
            State::Granting(call) if call.id == id => match answer {
                ElectionAnswer::Granted { lease, lasts } => {
                    let until = call.asked + usable(lasts);
                    let call = self.ask(now, ElectionRequest::Campaign { lease });
                    self.state = State::Campaigning { call, lease, until };
                }
                ElectionAnswer::Vacant
                | ElectionAnswer::Held(_)
                | ElectionAnswer::Won { .. }
                | ElectionAnswer::Alive { .. }
                | ElectionAnswer::Failed => self.give_up(now + RETRY, None),
            },
            State::Campaigning { call, lease, until } if call.id == id => {
                let (lease, until) = (*lease, *until);
                match answer {
                    ElectionAnswer::Won { term } => {
                        self.state = State::Leading(Reign { lease, until, keeping: None, keep_at: now });
                        self.told = None;
                        self.outputs.push_back(ElectionOutput::Lead { term, lease });
                        self.advance(now);
                    }
                    ElectionAnswer::Held(leader) => {
                        self.ask(now, ElectionRequest::Revoke { lease });
                        self.stand_by(now, leader);
                    }
                    ElectionAnswer::Vacant
                    | ElectionAnswer::Granted { .. }
                    | ElectionAnswer::Alive { .. }
                    | ElectionAnswer::Failed => self.give_up(now + RETRY, Some(lease)),
                }
            }
            State::Leading(reign) if reign.keeping.is_some_and(|call| call.id == id) => {
                let asked = reign.keeping.take().map_or(now, |call| call.asked);
                match answer {
                    ElectionAnswer::Alive { lasts } if lasts.is_zero() => self.give_up(now + RETRY, None),
                    ElectionAnswer::Alive { lasts } => {
                        reign.until = reign.until.max(asked + usable(lasts));
                        reign.keep_at = asked + KEEP;
                        self.advance(now);
                    }
                    ElectionAnswer::Vacant
                    | ElectionAnswer::Held(_)
                    | ElectionAnswer::Granted { .. }
                    | ElectionAnswer::Won { .. }
                    | ElectionAnswer::Failed => reign.keep_at = now + RETRY,
                }
            }
            State::Resting { .. }
            | State::Looking(_)
            | State::Granting(_)
            | State::Campaigning { .. }
            | State::Leading(_) => {}
        }
    }

    fn stand_by(&mut self, now: Timestamp, leader: String) {
        self.state = State::Resting { until: now + LOOK };
        // Its own name stands there when it died a moment ago: nobody leads.
        self.follow((leader != self.name).then_some(leader));
    }

    /// Leads no more, or not this time; looks again then.
    fn give_up(&mut self, until: Timestamp, lease: Option<LeaseId>) {
        self.state = State::Resting { until };
        self.follow(None);
        if let Some(lease) = lease {
            self.ask(Timestamp::ZERO, ElectionRequest::Revoke { lease });
        }
    }

    fn follow(&mut self, leader: Option<String>) {
        if self.told.as_ref() != Some(&leader) {
            self.told = Some(leader.clone());
            self.outputs.push_back(ElectionOutput::Follow { leader });
        }
    }

    fn ask(&mut self, now: Timestamp, request: ElectionRequest) -> Call {
        self.calls += 1;
        let id = CallId(self.calls);
        self.outputs.push_back(ElectionOutput::Ask { call: id, request });
        Call { id, asked: now }
    }
}

/// As much of a lease as may be relied on.
fn usable(lasts: Duration) -> Duration {
    lasts - lasts / MARGIN_DIVISOR
}
