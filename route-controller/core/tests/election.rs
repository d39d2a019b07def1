//! Elections of three candidates over a store that is modelled here, with clocks that differ, answers that are late or get
//! lost, candidates that are stopped for a while or die, and a store that is away: never two leaders at once, terms that
//! only grow, and, when all is well again, one leader soon.

use route_core::{
    CallId, Election, ElectionAnswer, ElectionInput, ElectionOutput, ElectionRequest, LEASE, LeaseId,
};
use std::collections::BTreeMap;
use std::time::Duration;
use wire_format::Timestamp;

const CANDIDATES: usize = 3;
/// One step of true time.
const STEP_US: u64 = 5_000;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// What etcd does with leases and one key.
#[derive(Default)]
struct Store {
    revision: u64,
    leases: BTreeMap<i64, u64>,
    key: Option<(u64, i64, String)>,
    last_lease: i64,
}

impl Store {
    fn expire(&mut self, now_us: u64) {
        self.leases.retain(|_, end| *end > now_us);
        if self.key.as_ref().is_some_and(|(_, lease, _)| !self.leases.contains_key(lease)) {
            self.revision += 1;
            self.key = None;
        }
    }

    fn carry_out(&mut self, now_us: u64, name: &str, request: ElectionRequest) -> ElectionAnswer {
        let lease_us = u64::try_from(LEASE.as_micros()).expect("small");
        match request {
            ElectionRequest::Look => match &self.key {
                Some((_, _, leader)) => ElectionAnswer::Held(leader.clone()),
                None => ElectionAnswer::Vacant,
            },
            ElectionRequest::Grant => {
                self.last_lease += 1;
                self.leases.insert(self.last_lease, now_us + lease_us);
                ElectionAnswer::Granted { lease: LeaseId(self.last_lease), lasts: LEASE }
            }
            ElectionRequest::Campaign { lease } => match &self.key {
                Some((_, _, leader)) => ElectionAnswer::Held(leader.clone()),
                None if !self.leases.contains_key(&lease.0) => ElectionAnswer::Failed,
                None => {
                    self.revision += 1;
                    self.key = Some((self.revision, lease.0, name.to_owned()));
                    ElectionAnswer::Won { term: self.revision }
                }
            },
            ElectionRequest::KeepAlive { lease } => match self.leases.get_mut(&lease.0) {
                Some(end) => {
                    *end = now_us + lease_us;
                    ElectionAnswer::Alive { lasts: LEASE }
                }
                None => ElectionAnswer::Alive { lasts: Duration::ZERO },
            },
            ElectionRequest::Revoke { lease } => {
                self.leases.remove(&lease.0);
                self.expire(now_us);
                ElectionAnswer::Failed
            }
        }
    }
}

struct Candidate {
    name: String,
    election: Election,
    /// Its clock runs this much fast, in thousandths.
    fast: i64,
    stopped_until_us: u64,
    cut_until_us: u64,
    term: Option<u64>,
}

impl Candidate {
    fn clock(&self, true_us: u64) -> Timestamp {
        let off = true_us as i64 / 1000 * self.fast;
        Timestamp::from_micros((true_us as i64 + off) as u64)
    }

    fn leads(&self, true_us: u64) -> bool {
        self.election.leads_until().is_some_and(|until| self.clock(true_us) < until)
    }
}

/// A request or an answer under way.
enum Travelling {
    Request { from: usize, call: CallId, request: ElectionRequest },
    Answer { to: usize, call: CallId, answer: ElectionAnswer },
}

struct World {
    seed: u64,
    random: Random,
    now_us: u64,
    store: Store,
    store_away_until_us: u64,
    candidates: Vec<Candidate>,
    travelling: BTreeMap<(u64, u64), Travelling>,
    sent: u64,
    terms: Vec<u64>,
    delay_us: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random(seed);
        let candidates = (0..CANDIDATES)
            .map(|at| Candidate {
                name: format!("c{at}"),
                election: Election::new(format!("c{at}")),
                // Within two percent of each other, far beyond what clocks do.
                fast: random.below(21) as i64 - 10,
                stopped_until_us: 0,
                cut_until_us: 0,
                term: None,
            })
            .collect();
        World {
            seed,
            random,
            now_us: 0,
            store: Store::default(),
            store_away_until_us: 0,
            candidates,
            travelling: BTreeMap::new(),
            sent: 0,
            terms: Vec::new(),
            delay_us: 20_000,
        }
    }

    fn send(&mut self, what: Travelling) {
        let at = self.now_us + 1 + self.random.below(self.delay_us);
        self.sent += 1;
        self.travelling.insert((at, self.sent), what);
    }

    fn input(&mut self, at: usize, input: ElectionInput) {
        let now = self.candidates[at].clock(self.now_us);
        self.candidates[at].election.handle_input(now, input);
        while let Some(output) = self.candidates[at].election.poll_output() {
            match output {
                ElectionOutput::Ask { call, request } => {
                    self.send(Travelling::Request { from: at, call, request });
                }
                ElectionOutput::Lead { term, lease: _ } => {
                    assert!(self.terms.last().is_none_or(|last| *last < term), "seed {}", self.seed);
                    self.terms.push(term);
                    self.candidates[at].term = Some(term);
                }
                ElectionOutput::Follow { leader } => {
                    assert_ne!(leader.as_deref(), Some(self.candidates[at].name.as_str()));
                    self.candidates[at].term = None;
                }
            }
        }
        let candidate = &self.candidates[at];
        assert!(candidate.election.poll_timeout() > now, "seed {}: a deadline that has passed", self.seed);
        assert_eq!(candidate.term.is_some(), candidate.election.leads_until().is_some());
    }

    fn step(&mut self) {
        self.now_us += STEP_US;
        let now_us = self.now_us;
        self.store.expire(now_us);
        while let Some(entry) = self.travelling.first_entry() {
            if entry.key().0 > now_us {
                break;
            }
            match entry.remove() {
                Travelling::Request { from, call, request } => {
                    if now_us < self.store_away_until_us || now_us < self.candidates[from].cut_until_us {
                        continue;
                    }
                    let name = self.candidates[from].name.clone();
                    let answer = self.store.carry_out(now_us, &name, request);
                    self.send(Travelling::Answer { to: from, call, answer });
                }
                Travelling::Answer { to, call, answer } => {
                    let candidate = &self.candidates[to];
                    if now_us < candidate.cut_until_us {
                        continue;
                    }
                    if now_us < candidate.stopped_until_us {
                        // It finds it in its socket when it goes on.
                        let then = candidate.stopped_until_us;
                        self.sent += 1;
                        self.travelling.insert((then, self.sent), Travelling::Answer { to, call, answer });
                        continue;
                    }
                    self.input(to, ElectionInput::Answer { call, answer });
                }
            }
        }
        for at in 0..CANDIDATES {
            let candidate = &self.candidates[at];
            let due = candidate.clock(now_us) >= candidate.election.poll_timeout();
            if now_us >= candidate.stopped_until_us && due {
                self.input(at, ElectionInput::Timeout);
            }
        }
        let leaders = self.leaders();
        assert!(leaders.len() <= 1, "seed {}: {leaders:?} lead at {now_us} us", self.seed);
        if let [leader] = leaders[..] {
            let key = self.store.key.as_ref();
            let term = self.candidates[leader].term;
            assert_eq!(key.map(|(term, _, _)| *term), term, "seed {}: it leads by the key", self.seed);
        }
    }

    /// Who believes to lead, of those that look at their clocks: who is stopped pushes nothing.
    fn leaders(&self) -> Vec<usize> {
        (0..CANDIDATES)
            .filter(|at| self.now_us >= self.candidates[*at].stopped_until_us)
            .filter(|at| self.candidates[*at].leads(self.now_us))
            .collect()
    }

    fn disturb(&mut self) {
        let at = self.random.below(CANDIDATES as u64) as usize;
        let long_us = 100_000 + self.random.below(8_000_000);
        match self.random.below(6) {
            0 => self.candidates[at].stopped_until_us = self.now_us + long_us,
            1 => self.candidates[at].cut_until_us = self.now_us + long_us,
            2 => self.store_away_until_us = self.now_us + long_us,
            3 => self.delay_us = 1_000 + self.random.below(1_500_000),
            4 => self.input_unless_stopped(at),
            _ => {
                // It dies and is there again: nothing of what it knew is left.
                let name = self.candidates[at].name.clone();
                self.candidates[at].election = Election::new(name);
                self.candidates[at].term = None;
                self.travelling.retain(|_, what| !matches!(what, Travelling::Answer { to, .. } if *to == at));
            }
        }
    }

    fn input_unless_stopped(&mut self, at: usize) {
        if self.now_us >= self.candidates[at].stopped_until_us {
            self.input(at, ElectionInput::Resign);
        }
    }

    fn run(&mut self, us: u64) {
        let end_us = self.now_us + us;
        while self.now_us < end_us {
            self.step();
        }
    }
}

#[test]
fn never_two_and_soon_one() {
    let mut terms = 0;
    for seed in 0..400 {
        let mut world = World::new(seed);
        for _ in 0..12 {
            world.disturb();
            let us = world.random.below(3_000_000);
            world.run(us);
        }
        // Everything is well again: what was granted runs out, and somebody leads.
        world.delay_us = 20_000;
        world.store_away_until_us = 0;
        for candidate in &mut world.candidates {
            candidate.stopped_until_us = candidate.stopped_until_us.min(world.now_us);
            candidate.cut_until_us = 0;
        }
        world.run(7_000_000);
        assert_eq!(world.leaders().len(), 1, "seed {seed}");
        let before = world.terms.len();
        world.run(20_000_000);
        assert_eq!(world.terms.len(), before, "seed {seed}: nobody takes over from a leader that is well");
        terms += before;
    }
    assert!(terms > 800, "leaders change under all this: {terms}");
}

#[test]
fn a_dead_leader_is_followed_within_its_lease_and_a_look() {
    for seed in 0..50 {
        let mut world = World::new(seed);
        world.delay_us = 2_000;
        world.run(2_000_000 + seed * 37_000);
        let [leader] = world.leaders()[..] else { panic!("seed {seed}: one leads") };
        let killed_us = world.now_us;
        world.candidates[leader].stopped_until_us = u64::MAX;
        while world.leaders().is_empty() {
            world.step();
        }
        let took_us = world.now_us - killed_us;
        assert!(took_us <= 3_400_000, "seed {seed}: {took_us} us");
    }
}

#[test]
fn a_leader_that_resigns_hands_over_at_once_and_one_cut_off_stops_before_its_lease_ends() {
    let mut world = World::new(7);
    world.delay_us = 2_000;
    world.run(2_000_000);
    let [first] = world.leaders()[..] else { panic!("one leads") };
    world.input(first, ElectionInput::Resign);
    assert!(world.leaders().is_empty());
    world.run(400_000);
    let [second] = world.leaders()[..] else { panic!("another leads") };
    assert_ne!(first, second);
    world.candidates[second].cut_until_us = u64::MAX;
    let cut_us = world.now_us;
    while world.leaders() == [second] {
        world.step();
    }
    assert!(world.store.key.is_some(), "it stopped before the store ended its lease");
    assert!(world.now_us - cut_us < 3_000_000);
}
