//! Scenarios drawn from a seed, every parameter of them.
//!
//! A drawn scenario is TOML text, read like any other: whatever a seed can ask for, a person can write down and change.

use crate::graph::{self, Links};
use crate::scenario::Scenario;
use link_model::{Seed, Xoshiro256};
use std::collections::BTreeSet;
use std::fmt::Write as _;

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
/// A single failure comes when everything has been calm for long, ...
const SINGLE_MS: u64 = 6_500;
/// ... and nothing happens for so long after it.
const ALONE_MS: u64 = 1_100;
/// The longest way across a network takes no longer than this.
const ACROSS_MS: u64 = 1_200;

/// The scenario of a seed.
pub fn drawn(seed: u64) -> Scenario {
    Scenario::parse(&drawn_text(seed), &mut |_| unreachable!("drawn scenarios name no files"))
        .expect("what is drawn is legal")
}

/// The scenario of a seed, as text.
pub fn drawn_text(seed: u64) -> String {
    let rng = Seed(seed).child("swarm").stream();
    let protect = Seed(seed).child("protect").stream();
    let wraps = Seed(seed).child("wraps").stream();
    let drains = Seed(seed).child("drains").stream();
    let edges = Seed(seed).child("edges").stream();
    Draw { rng, protect, wraps, drains, edges, text: String::new() }.scenario(seed)
}

const ROOMS: [&str; 2] = ["lobby", "stage"];
const USERS: [&str; 3] = ["ann", "bob", "eve"];
const STREAMS: [&str; 3] = ["mic", "cam", "screen"];

/// What a seed is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Theme {
    /// One link or relay fails in a network that no single failure parts, where nothing else is lost.
    Single,
    /// Any faults in any network.
    Turmoil,
    /// Any faults in any network whose links lose packets.
    Lossy,
    /// Links that lose most of what they carry for a short while, now and then.
    Bursts,
    /// The controller or the way to it fails, and so does a link or a relay.
    Leaderless,
    /// Links that carry little, or less for a while, lose in one direction alone, or lose everything for half a second.
    Squeezed,
    /// All of it at once, on the same links, and a relay that means harm.
    Everything,
}

struct Draw {
    rng: Xoshiro256,
    /// Which streams go two ways at once.
    protect: Xoshiro256,
    /// Where the numbers of datagrams begin.
    wraps: Xoshiro256,
    /// Which relays are emptied.
    drains: Xoshiro256,
    /// What is wrong with the links of SFUs.
    edges: Xoshiro256,
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
        let theme = match self.within(0, 15) {
            0..=3 => Theme::Single,
            4 | 5 => Theme::Turmoil,
            6 => Theme::Lossy,
            7 => Theme::Bursts,
            8 | 9 => Theme::Leaderless,
            10..=12 => Theme::Squeezed,
            _ => Theme::Everything,
        };
        let relays = if self.one_in(8) { self.within(8, 16) } else { self.within(3, 7) };
        let run_ms = DISTURBED_MS + RECOVERS_MS + WATCHED_MS + 1_000;
        let mut edge = self.spec(1, 10, false);
        edge += &self.edge_loss(theme);
        let control = self.within(1, 120);
        self.line(format_args!("# Drawn from seed {seed}."));
        self.line(format_args!("name = \"swarm-{seed}\"\nseed = {seed}\nrun_for = \"{run_ms}ms\""));
        self.line(format_args!("clients_link = \"{edge}\"\ncontroller_delay = \"{control}ms\""));
        if self.wraps.within(0..=1) == 1 {
            // Low 32 bits begin anew after some of the media.
            let first = (1 << 32) - self.wraps.within(0..=3_000);
            self.line(format_args!("packets_from = {first}"));
        }
        if self.edges.within(0..=1) == 1 {
            // A cheap oscillator's.
            let drift = self.edges.within(1..=200);
            self.line(format_args!("clock_drift_ppm = {drift}"));
        }
        for relay in 1..=relays {
            self.line(format_args!("\n[[relay]]\nname = \"r{relay}\""));
        }
        let links = self.links(relays, theme);
        // Where something fails besides, an SFU may have moved to what fails.
        let drained =
            matches!(theme, Theme::Turmoil | Theme::Lossy | Theme::Bursts) && self.drains.within(0..=1) == 1;
        let ends = self.clients(relays, drained);
        self.narrow_edge(theme, &ends);
        self.streams(ends.len() as u64);
        if drained {
            self.drained(relays);
        } else {
            self.faults(relays, &links, &ends, theme);
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
        if self.one_in(8) {
            let _ = write!(spec, ",mtu={}", self.within(1_200, 1_472));
        }
        for key in ["reorder", "duplicate"] {
            if self.one_in(6) {
                let _ = write!(spec, ",{key}={}%", self.within(1, 5));
            }
        }
        spec
    }

    fn links(&mut self, relays: u64, theme: Theme) -> Links {
        let shape = graph::shape(&mut self.rng, relays, theme == Theme::Single);
        let links = graph::links(&mut self.rng, shape, relays);
        let most_ms = 150.min(ACROSS_MS / relays);
        for (a, b) in &links {
            let spec = self.spec(1, most_ms, matches!(theme, Theme::Lossy | Theme::Everything));
            self.line(format_args!("\n[[link]]\nbetween = \"r{a}-r{b}\"\nis = \"{spec}\""));
            if self.one_in(4) {
                let spec = self.spec(1, most_ms, false);
                self.line(format_args!("[[link]]\nbetween = \"r{a}>r{b}\"\nis = \"{spec}\""));
            }
            if theme != Theme::Single && self.one_in(8) {
                let (spec, at) = (self.spec(1, most_ms, false), self.within(2_000, DISTURBED_MS));
                self.line(format_args!(
                    "[[link]]\nbetween = \"r{a}-r{b}\"\nis = \"{spec}\"\nfrom = \"{at}ms\""
                ));
            }
            if theme == Theme::Bursts && self.one_in(3) {
                self.burst(*a, *b);
            }
            if theme == Theme::Squeezed {
                match self.within(0, 3) {
                    0 => self.squeeze(*a, *b),
                    1 => self.lose_one_way(*a, *b),
                    2 => self.outage(*a, *b),
                    _ => {}
                }
            }
            if theme == Theme::Everything {
                for wrong in [Draw::lose_one_way, Draw::squeeze, Draw::burst, Draw::outage] {
                    if self.one_in(3) {
                        wrong(self, *a, *b);
                    }
                }
            }
        }
        links
    }

    /// A link loses most of what it carries for a while.
    fn burst(&mut self, a: u64, b: u64) {
        let (loss, mean) = (self.within(30, 90), self.within(20, 60));
        let at = self.within(2_000, DISTURBED_MS - 2_000);
        let until = at + self.within(100, 2_000);
        let way = ["-", ">"][self.within(0, 1) as usize];
        for (from, loss, mean) in
            [(at, format!("{loss}%"), mean.to_string()), (until, "0%".into(), "none".into())]
        {
            self.line(format_args!(
                "[[link]]\nbetween = \"r{a}{way}r{b}\"\nis = \"loss={loss},burst={mean}\"\nfrom = \"{from}ms\""
            ));
        }
    }

    /// What the links of SFUs lose, where those between relays lose something, too.
    fn edge_loss(&mut self, theme: Theme) -> String {
        if !matches!(theme, Theme::Lossy | Theme::Everything) || self.edges.within(0..=1) == 0 {
            return String::new();
        }
        if self.edges.within(0..=2) == 0 {
            let [begins, ends, pauses, resumes] = [(1, 30), (200, 600), (50, 400), (200, 900)]
                .map(|(least, most)| self.edges.within(least..=most));
            return format!(",loss=states:0.{begins:03}/0.{ends}/0.{pauses:03}/0.{resumes}");
        }
        let (tenths, burst) = (self.edges.within(1..=50), self.edges.within(1..=5));
        format!(",loss={}.{}%,burst={burst}", tenths / 10, tenths % 10)
    }

    /// The link of an SFU has a rate in one direction, and less of it for a while.
    fn narrow_edge(&mut self, theme: Theme, ends: &[u64]) {
        if !matches!(theme, Theme::Squeezed | Theme::Everything) || self.edges.within(0..=2) > 0 {
            return;
        }
        let client = self.edges.within(1..=ends.len() as u64);
        let (client, relay) = (format!("sfu-{client}"), format!("r{}", ends[client as usize - 1]));
        let (from, to) = if self.edges.within(0..=1) == 0 { (client, relay) } else { (relay, client) };
        let (rate, queue) = (self.edges.within(4..=20), self.edges.within(20..=400));
        let narrow = self.edges.within(1_000..=4_000);
        let at = self.edges.within(2_000..=DISTURBED_MS - 2_000);
        let until = self.edges.within(at + 200..=DISTURBED_MS);
        for (rate, from_ms) in [(rate * 1_000, 0), (narrow, at), (rate * 1_000, until)] {
            self.line(format_args!(
                "[[link]]\nbetween = \"{from}>{to}\"\nis = \"rate={rate}kbit,queue={queue}ms\"\nfrom = \"{from_ms}ms\""
            ));
        }
    }

    fn change(&mut self, a: u64, way: &str, b: u64, is: &str, from: u64) {
        self.line(format_args!("[[link]]\nbetween = \"r{a}{way}r{b}\"\nis = \"{is}\"\nfrom = \"{from}ms\""));
    }

    /// A link has a rate, and mostly less of it for a while.
    fn squeeze(&mut self, a: u64, b: u64) {
        let (rate, queue) = (self.within(2, 20), self.within(50, 400));
        self.line(format_args!(
            "[[link]]\nbetween = \"r{a}-r{b}\"\nis = \"rate={rate}mbit,queue={queue}ms\""
        ));
        if self.one_in(4) {
            return;
        }
        let at = self.within(2_000, DISTURBED_MS - 2_000);
        let (until, narrow) = (self.within(at + 200, DISTURBED_MS), self.within(1_000, rate * 1_000));
        let way = ["-", ">"][self.within(0, 1) as usize];
        self.change(a, way, b, &format!("rate={narrow}kbit"), at);
        self.change(a, way, b, &format!("rate={rate}mbit"), until);
    }

    /// A link loses in one direction: to some calls media, to others nothing but feedback.
    fn lose_one_way(&mut self, a: u64, b: u64) {
        let (loss, burst) = (self.within(1, 30), self.within(1, 6));
        let (a, b) = if self.one_in(2) { (a, b) } else { (b, a) };
        self.line(format_args!("[[link]]\nbetween = \"r{a}>r{b}\"\nis = \"loss={loss}%,burst={burst}\""));
    }

    /// A link loses everything for half a second, and once more.
    fn outage(&mut self, a: u64, b: u64) {
        let mut at = self.within(2_000, DISTURBED_MS - 3_000);
        for _ in 0..self.within(1, 2) {
            let way = ["-", "-", ">"][self.within(0, 2) as usize];
            self.change(a, way, b, "down", at);
            self.change(a, way, b, "down=false", at + 500);
            at += 500 + self.within(100, 2_000);
        }
    }

    /// Clients. Returns the relay of each.
    fn clients(&mut self, relays: u64, drained: bool) -> Vec<u64> {
        let clients = self.within(2, 5);
        let first = self.within(1, relays);
        let mut ends = Vec::new();
        for client in 1..=clients {
            // The first two are apart, so that there is a way to go.
            let other = (first + self.within(1, relays - 1) - 1) % relays + 1;
            let relay = match client {
                1 => first,
                2 => other,
                _ => self.within(1, relays),
            };
            ends.push(relay);
            self.line(format_args!("\n[[client]]\nname = \"sfu-{client}\"\nrelay = \"r{relay}\""));
            if drained {
                let other = (relay + self.drains.within(1..=relays - 1) - 1) % relays + 1;
                self.line(format_args!("others = [\"r{other}\"]"));
            }
            if client > 2 {
                self.rights();
            }
        }
        ends
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
        if self.one_in(5) {
            let budget = self.within(60, 190);
            self.line(format_args!("budget = \"{budget}ms\""));
        }
        if self.protect.within(1..=4) == 1 {
            self.line(format_args!("protect = true"));
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

    fn faults(&mut self, relays: u64, links: &Links, ends: &[u64], theme: Theme) {
        match theme {
            Theme::Single => self.single_fault(relays, links, ends),
            Theme::Turmoil | Theme::Lossy => {
                for _ in 0..self.within(0, 4) {
                    self.any_fault(relays, links);
                }
            }
            Theme::Bursts | Theme::Squeezed => {
                if self.one_in(2) {
                    self.any_fault(relays, links);
                }
            }
            Theme::Leaderless => self.leaderless(relays, links),
            Theme::Everything => {
                let (at, until) = (self.within(500, 4_000), self.within(5_000, DISTURBED_MS));
                let relay = self.within(1, relays);
                self.fault(at, until, &format!("hostile = \"r{relay}\""));
                for _ in 0..self.within(0, 2) {
                    self.any_fault(relays, links);
                }
            }
        }
    }

    fn single_fault(&mut self, relays: u64, links: &Links, ends: &[u64]) {
        let at = self.within(SINGLE_MS, DISTURBED_MS - ALONE_MS - 200);
        let between: Vec<u64> = (1..=relays).filter(|relay| !ends[..2].contains(relay)).collect();
        let relay = between[self.within(0, between.len() as u64 - 1) as usize];
        let what = match self.within(0, 7) {
            0..=2 => self.cut(links, "-"),
            3 | 4 => self.cut(links, ">"),
            5 | 6 => format!("crash = \"r{relay}\""),
            _ => format!("freeze = \"r{relay}\""),
        };
        let until = self.within(at + ALONE_MS, DISTURBED_MS);
        self.fault(at, until, &what);
    }

    /// One relay after the other is emptied, and used again a moment later.
    fn drained(&mut self, relays: u64) {
        let mut at = self.drains.within(4_000..=5_000);
        while at < DISTURBED_MS {
            let (relay, until) = (self.drains.within(1..=relays), at + self.drains.within(2_500..=4_000));
            self.line(format_args!(
                "\n[[fault]]\nat = \"{at}ms\"\ndrain = \"r{relay}\"\nuntil = \"{until}ms\""
            ));
            at = until + self.drains.within(0..=500);
        }
    }

    fn any_fault(&mut self, relays: u64, links: &Links) {
        let at = self.within(1_000, DISTURBED_MS - 500);
        let until = self.within(at + 100, DISTURBED_MS);
        let relay = self.within(1, relays);
        let what = match self.within(0, 9) {
            0..=2 => {
                let way = ["-", ">"][self.within(0, 1) as usize];
                self.cut(links, way)
            }
            3 => format!("crash = \"r{relay}\""),
            4 => format!("leave = \"r{relay}\""),
            5 => format!("isolate = \"r{relay}\""),
            6 => format!("mute = \"r{relay}\""),
            7 => format!("freeze = \"r{relay}\""),
            _ => "crash = \"controller\"".to_owned(),
        };
        self.fault(at, until, &what);
    }

    /// Some or all relays are without the controller while something fails.
    fn leaderless(&mut self, relays: u64, links: &Links) {
        let from = self.within(1_000, 5_000);
        let until = self.within(from + 1_000, DISTURBED_MS);
        if self.one_in(2) {
            self.fault(from, until, "crash = \"controller\"");
        } else {
            let what = ["isolate", "mute"][self.within(0, 1) as usize];
            for relay in 1..=relays {
                if self.one_in(2) {
                    self.fault(from, until, &format!("{what} = \"r{relay}\""));
                }
            }
        }
        for _ in 0..self.within(1, 2) {
            self.any_fault(relays, links);
        }
    }

    fn cut(&mut self, links: &Links, way: &str) -> String {
        let (mut a, mut b) = links[self.within(0, links.len() as u64 - 1) as usize];
        if self.one_in(2) {
            (a, b) = (b, a);
        }
        format!("cut = \"r{a}{way}r{b}\"")
    }

    fn fault(&mut self, at: u64, until: u64, what: &str) {
        self.line(format_args!("\n[[fault]]\nat = \"{at}ms\"\n{what}"));
        // What never heals is as good a test, but a process that is dead cannot die again.
        if !what.starts_with("cut") || !self.one_in(4) {
            self.line(format_args!("until = \"{until}ms\""));
        }
    }
}
