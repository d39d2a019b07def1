//! Scenarios drawn from a seed, every parameter of them, and many of them run at once.
//!
//! A drawn scenario is TOML text, read like any other: whatever a seed can ask for, a person can write down and change.

use crate::report::Outcome;
use crate::scenario::Scenario;
use link_model::{Seed, Xoshiro256};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// The last disturbance comes before this ...
const DISTURBED_MS: u64 = 9_000;
/// ... everything works again within this ...
const RECOVERS_MS: u64 = 6_000;
/// ... or within this, where there was a way all the time, ...
const REROUTES_MS: u64 = 2_000;
/// Joining takes at most this.
const JOINS_MS: u64 = 3_000;
/// ... and is watched for this and the tail.
const WATCHED_MS: u64 = 3_000;

/// How a seed went.
#[derive(Clone, Debug)]
pub struct SwarmResult {
    /// The seed.
    pub seed: u64,
    /// What came of it, or the message of a panic.
    pub outcome: Result<SeedOutcome, String>,
}

/// What came of a seed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SeedOutcome {
    /// The trace's hash.
    pub hash: u64,
    /// Packets delivered.
    pub delivered: usize,
    /// What the judges object to.
    pub objections: Vec<String>,
}

impl SwarmResult {
    /// Nobody objects.
    pub fn is_good(&self) -> bool {
        self.outcome.as_ref().is_ok_and(|outcome| outcome.objections.is_empty())
    }
}

/// Runs the scenario of one seed.
pub fn run_seed(seed: u64) -> SwarmResult {
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let outcome = Outcome::of(&drawn(seed), seed);
        SeedOutcome {
            hash: outcome.trace.hash(),
            delivered: outcome.trace.events().iter().filter(|(_, event)| event.delivered().is_some()).count(),
            objections: outcome.objections.iter().map(ToString::to_string).collect(),
        }
    }));
    let outcome = caught.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").to_owned()
    });
    SwarmResult { seed, outcome }
}

/// Runs all seeds on `jobs` threads; `each` is told of every result as it comes. Returns all results by seed.
pub fn run_seeds(seeds: Range<u64>, jobs: usize, each: impl Fn(&SwarmResult) + Sync) -> Vec<SwarmResult> {
    let next = AtomicU64::new(seeds.start);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let result = run_seed(seed);
                    each(&result);
                    results.lock().expect("nobody panics while holding it").push(result);
                }
            });
        }
    });
    let mut results = results.into_inner().expect("nobody panics while holding it");
    results.sort_by_key(|result| result.seed);
    results
}

/// The scenario of a seed.
pub fn drawn(seed: u64) -> Scenario {
    Scenario::parse(&drawn_text(seed), &mut |_| unreachable!("drawn scenarios name no files"))
        .expect("what is drawn is legal")
}

/// The scenario of a seed, as text.
pub fn drawn_text(seed: u64) -> String {
    Draw { rng: Seed(seed).child("swarm").stream(), text: String::new() }.scenario(seed)
}

const ROOMS: [&str; 2] = ["lobby", "stage"];
const USERS: [&str; 3] = ["ann", "bob", "eve"];
const STREAMS: [&str; 3] = ["mic", "cam", "screen"];

struct Draw {
    rng: Xoshiro256,
    text: String,
}

impl Draw {
    fn within(&mut self, least: u64, most: u64) -> u64 {
        self.rng.within(least..=most)
    }

    /// True once in so many draws.
    fn one_in(&mut self, many: u64) -> bool {
        self.within(1, many) == 1
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        self.text.write_fmt(line).expect("writing to a string succeeds");
        self.text.push('\n');
    }

    fn scenario(mut self, seed: u64) -> String {
        let relays = if self.one_in(10) { self.within(8, 12) } else { self.within(2, 6) };
        let run_ms = DISTURBED_MS + RECOVERS_MS + WATCHED_MS + 1_000;
        let edge = self.spec(1, 10, false);
        let control = self.within(1, 120);
        self.line(format_args!("# Drawn from seed {seed}."));
        self.line(format_args!("name = \"swarm-{seed}\"\nseed = {seed}\nrun_for = \"{run_ms}ms\""));
        self.line(format_args!("clients_link = \"{edge}\"\ncontroller_delay = \"{control}ms\""));
        for relay in 1..=relays {
            self.line(format_args!("\n[[relay]]\nname = \"r{relay}\""));
        }
        let links = self.links(relays);
        let clients = self.clients(relays);
        self.streams(clients);
        for _ in 0..self.within(0, 4) {
            self.fault(relays, &links);
        }
        self.line(format_args!("\n[expect]\nrecover_within = \"{RECOVERS_MS}ms\""));
        self.line(format_args!(
            "reroute_within = \"{REROUTES_MS}ms\"\njoin_within = \"{JOINS_MS}ms\"\ndelivered_min = 0"
        ));
        self.text
    }

    /// Delay and what else a link does.
    fn spec(&mut self, least_ms: u64, most_ms: u64, lossy: bool) -> String {
        let delay = self.within(least_ms, most_ms);
        let jitter_us = self.within(0, delay * 250);
        let mut spec = format!("delay={delay}ms,jitter={jitter_us}us");
        if lossy {
            let loss = self.within(0, 40);
            let _ = write!(spec, ",loss={}.{}%", loss / 10, loss % 10);
            if self.one_in(2) {
                let _ = write!(spec, ",burst={}", self.within(1, 5));
            }
        }
        for key in ["reorder", "duplicate"] {
            if self.one_in(6) {
                let _ = write!(spec, ",{key}={}%", self.within(1, 5));
            }
        }
        spec
    }

    fn links(&mut self, relays: u64) -> Vec<(u64, u64)> {
        let lossy = self.one_in(3);
        let mut links = match self.within(0, 4) {
            0 => (1..relays).map(|relay| (relay, relay + 1)).collect(),
            1 => (1..relays).map(|relay| (relay, relay + 1)).chain([(1, relays)]).collect(),
            2 => (1..relays).map(|relay| (self.within(1, relay), relay + 1)).collect(),
            _ => (1..relays).flat_map(|a| (a + 1..=relays).map(move |b| (a, b))).collect::<Vec<_>>(),
        };
        if !self.one_in(3) {
            // Some more, where there are gaps.
            for _ in 0..relays / 2 {
                let (a, b) = (self.within(1, relays), self.within(1, relays));
                links.push((a.min(b), a.max(b)));
            }
        }
        links.retain(|(a, b)| a != b);
        links.sort_unstable();
        links.dedup();
        for (a, b) in &links {
            let spec = self.spec(1, 150, lossy);
            self.line(format_args!("\n[[link]]\nbetween = \"r{a}-r{b}\"\nis = \"{spec}\""));
            if self.one_in(6) {
                let spec = self.spec(1, 150, false);
                self.line(format_args!("[[link]]\nbetween = \"r{a}>r{b}\"\nis = \"{spec}\""));
            }
            if self.one_in(8) {
                let (spec, at) = (self.spec(1, 250, false), self.within(2_000, DISTURBED_MS));
                self.line(format_args!(
                    "[[link]]\nbetween = \"r{a}-r{b}\"\nis = \"{spec}\"\nfrom = \"{at}ms\""
                ));
            }
        }
        links
    }

    fn clients(&mut self, relays: u64) -> u64 {
        let clients = self.within(2, 5);
        let first = self.within(1, relays);
        for client in 1..=clients {
            // The first two are apart, so that there is a way to go.
            let other = (first + self.within(1, relays - 1) - 1) % relays + 1;
            let relay = match client {
                1 => first,
                2 => other,
                _ => self.within(1, relays),
            };
            self.line(format_args!("\n[[client]]\nname = \"sfu-{client}\"\nrelay = \"r{relay}\""));
            if client > 2 {
                self.rights();
            }
        }
        clients
    }

    fn rights(&mut self) {
        for line in ["namespace = \"other\"", "rooms = \"lob*\"", "subscribe = false", "publish = false"] {
            if self.one_in(8) {
                self.line(format_args!("{line}"));
            }
        }
    }

    fn pick(&mut self, all: &[&'static str]) -> &'static str {
        all[self.within(0, all.len() as u64 - 1) as usize]
    }

    fn streams(&mut self, clients: u64) {
        let mut names = BTreeSet::new();
        for place in 0..self.within(1, 4) {
            let name = (self.pick(&ROOMS), self.pick(&USERS), self.pick(&STREAMS));
            let client = if place == 0 { 1 } else { self.within(1, clients) };
            // One publisher for each name: who wins a contest is not this swarm's question.
            if names.insert(name) {
                self.stream(client, name);
            }
        }
        let names: Vec<_> = names.into_iter().collect();
        for place in 0..self.within(1, 5) {
            let client = if place == 0 { 2 } else { self.within(1, clients) };
            // Mostly of something that is there.
            let (mut room, mut user, mut stream) = names[self.within(0, names.len() as u64 - 1) as usize];
            if place > 0 && self.one_in(4) {
                (room, user, stream) = (self.pick(&ROOMS), self.pick(&USERS), self.pick(&STREAMS));
            }
            self.line(format_args!("\n[[subscription]]\nclient = \"sfu-{client}\"\nroom = \"{room}\""));
            if self.one_in(3) {
                self.line(format_args!("user = \"{user}\""));
            }
            if self.one_in(3) {
                self.line(format_args!("stream = \"{stream}\""));
            }
            self.span();
        }
    }

    fn stream(&mut self, client: u64, (room, user, stream): (&str, &str, &str)) {
        self.line(format_args!("\n[[stream]]\nclient = \"sfu-{client}\"\nroom = \"{room}\""));
        self.line(format_args!("user = \"{user}\"\nstream = \"{stream}\""));
        if stream == "mic" {
            let bytes = self.within(40, 200);
            self.line(format_args!("kind = \"audio\"\nbursts_per_s = 50\nbytes = {bytes}"));
        } else {
            let (rate, burst, bytes) = (self.within(15, 30), self.within(1, 4), self.within(300, 1_200));
            self.line(format_args!(
                "kind = \"video\"\nbursts_per_s = {rate}\nburst = {burst}\nbytes = {bytes}"
            ));
        }
        self.span();
    }

    fn span(&mut self) {
        let from = if self.one_in(3) { self.within(0, DISTURBED_MS) } else { 0 };
        if from > 0 {
            self.line(format_args!("from = \"{from}ms\""));
        }
        if self.one_in(6) {
            let until = self.within(from + 500, DISTURBED_MS + RECOVERS_MS);
            self.line(format_args!("until = \"{until}ms\""));
        }
    }

    fn fault(&mut self, relays: u64, links: &[(u64, u64)]) {
        let at = self.within(1_000, DISTURBED_MS - 500);
        let until = self.within(at + 100, DISTURBED_MS);
        let relay = self.within(1, relays);
        let what = match self.within(0, 7) {
            0..=2 if !links.is_empty() => {
                let (a, b) = links[self.within(0, links.len() as u64 - 1) as usize];
                let way = ["-", ">"][self.within(0, 1) as usize];
                format!("cut = \"r{a}{way}r{b}\"")
            }
            0..=3 => format!("crash = \"r{relay}\""),
            4 => format!("leave = \"r{relay}\""),
            5 => format!("isolate = \"r{relay}\""),
            _ => "crash = \"controller\"".to_owned(),
        };
        self.line(format_args!("\n[[fault]]\nat = \"{at}ms\"\n{what}"));
        // What never heals is as good a test, but a process that is dead cannot die again.
        if !what.starts_with("cut") || !self.one_in(4) {
            self.line(format_args!("until = \"{until}ms\""));
        }
    }
}
