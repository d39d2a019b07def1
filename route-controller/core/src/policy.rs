//! Policies: what counts as a good route, for which namespaces.
//!
//! All policies see the same measurements, and each weighs them in its own way: what a term of a link's cost is worth, what a
//! hop is, whom its routes pass gladly, as a last resort or never, and which paths an operator has pinned. From these
//! prices and that idea of who may be passed each policy has three planes of its own, made like those of any other. A policy that
//! no namespace is mapped to, and that relieves none that is, is not computed and costs nothing.
//!
//! - **Forbidden** relays are destinations only. Where every way passes one, there is none.
//! - **Emergency** relays are transits of last resort.
//! - **Preferred** relays make the links from and to them cheaper by a factor.
//! - **A pin** is a change of costs as well: the links of its path cost next to nothing in its direction, so that it is taken
//!   while all of them are there, and every next hop on it agrees. So other routes of the policy are drawn to these
//!   links too. Two pins conflict if by the links of both one of them has a way as short as its own: which one would be taken is
//!   then not what the operator asked for, and the policies are refused.

use crate::cost::CostTerms;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use wire_format::PolicyIndex;

/// The name of the policy of everything that no other is meant for.
pub const DEFAULT_POLICY: &str = "default";
/// Greatest weight, percent.
pub const WEIGHT_PCT_MAX: u32 = 10_000;
/// Longest hop price.
pub const HOP_MAX: Duration = Duration::from_secs(1);
/// Namespaces, places or pins that one policy may name of each kind.
pub const POLICY_LIST_MAX: usize = 1_024;
/// Longest name of a policy, of what it names, and longest pattern.
const NAME_CHARACTERS: usize = 255;
/// Relays on a pinned path.
pub const PIN_RELAYS_MAX: usize = 24;
/// What a link of a pinned path costs.
const PINNED_US: u64 = 1;

/// What the terms of a cost are worth, in percent of what they are in the default policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Weights {
    /// One-way delay.
    pub delay_pct: u32,
    /// Expected wait for repairs.
    pub repair_pct: u32,
    /// Wait in queues.
    pub queueing_pct: u32,
    /// Interarrival jitter: nothing in the default policy, and 100 is all of it.
    pub jitter_pct: u32,
    /// The step for a link that carries nearly all it can.
    pub load_pct: u32,
    /// The price of traffic between regions.
    pub money_pct: u32,
}

impl Default for Weights {
    fn default() -> Weights {
        Weights {
            delay_pct: 100,
            repair_pct: 100,
            queueing_pct: 100,
            jitter_pct: 0,
            load_pct: 100,
            money_pct: 100,
        }
    }
}

/// Some relays, by what they say of themselves.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Place {
    /// All of a region.
    Region(String),
    /// All behind a provider.
    Isp(String),
    /// The one of this name.
    Node(String),
    /// All with this label.
    Tag(String),
}

/// What a relay is asked by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Where<'a> {
    pub name: &'a str,
    pub region: &'a str,
    pub isp: &'a str,
    pub tags: &'a [String],
}

impl Place {
    fn holds(&self, relay: Where<'_>) -> bool {
        match self {
            Place::Region(region) => region == relay.region,
            Place::Isp(isp) => isp == relay.isp,
            Place::Node(name) => name == relay.name,
            Place::Tag(tag) => relay.tags.contains(tag),
        }
    }

    fn name(&self) -> &str {
        match self {
            Place::Region(name) | Place::Isp(name) | Place::Node(name) | Place::Tag(name) => name,
        }
    }
}

/// A path that is to be taken while its links are there.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Pin(Vec<String>);

impl Pin {
    /// Names of relays, the first one's routes to the last one pass the others in this order.
    ///
    /// # Errors
    /// [`PolicyError::Pin`] if it has fewer than two relays, too many, or one twice.
    pub fn new(path: Vec<String>) -> Result<Pin, PolicyError> {
        let text = || path.join(" > ");
        let wrong = |problem| Err(PolicyError::Pin { pin: text(), problem });
        if path.len() < 2 {
            return wrong("a path has two ends: write FROM > VIA > TO");
        }
        if path.len() > PIN_RELAYS_MAX {
            return wrong("a packet crosses 23 relays at most: name fewer");
        }
        if !path.iter().all(|name| is_name(name)) {
            return wrong("a relay's name has 1 to 255 characters");
        }
        if path.iter().collect::<BTreeSet<_>>().len() < path.len() {
            return Err(PolicyError::Loop { pin: text() });
        }
        Ok(Pin(path))
    }

    /// All relays, both ends included.
    pub fn path(&self) -> &[String] {
        &self.0
    }

    /// As people write it.
    pub fn text(&self) -> String {
        self.0.join(" > ")
    }

    fn links(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.windows(2).map(|link| (link[0].as_str(), link[1].as_str()))
    }
}

/// One policy, as an operator writes it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// What the terms of a link's cost are worth.
    pub weights: Weights,
    /// Price of a hop; that of all policies where it is not given.
    pub hop: Option<Duration>,
    /// Relays that are passed gladly.
    pub prefer: Vec<Place>,
    /// What a link from or to a preferred relay costs, percent.
    pub prefer_pct: u32,
    /// Relays that are never passed.
    pub forbid: Vec<Place>,
    /// Relays that are passed where nothing else leads on.
    pub emergency: Vec<Place>,
    /// Paths that are to be taken.
    pub pins: Vec<Pin>,
    /// Audio goes two disjoint ways at once, whether its publisher asks for it or not.
    pub protect_audio: bool,
    /// The policy by which streams of this one travel that a loaded link has no room for.
    pub relief: Option<String>,
    /// Namespaces whose streams travel by it; `*` matches any run of characters.
    pub namespaces: Vec<String>,
}

impl Policy {
    /// What a link from or to a preferred relay costs, percent, where nothing else is said.
    pub const PREFER_PCT: u32 = 50;

    /// A policy of this name that weighs everything as the default one does.
    pub fn new(name: &str) -> Policy {
        Policy { name: name.to_owned(), prefer_pct: Policy::PREFER_PCT, ..Policy::default() }
    }
}

/// What is wrong with policies.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PolicyError {
    /// More than there is room for.
    #[error("{0} policies: at most 8, `default` included; give namespaces that want the same one policy")]
    TooMany(usize),
    /// A name that is none.
    #[error("`{0}` names no policy: 1 to 255 characters")]
    Name(String),
    /// A name twice.
    #[error("policy `{0}` is there twice: give one of them another name")]
    Twice(String),
    /// A number out of its range.
    #[error("policy `{policy}`: `{key}` is {value}: {range}")]
    Range {
        /// Whose.
        policy: String,
        /// Which.
        key: &'static str,
        /// What it is.
        value: u64,
        /// What it may be.
        range: &'static str,
    },
    /// A list that is too long, or has an empty name in it.
    #[error("policy `{policy}`: `{key}` {problem}")]
    List {
        /// Whose.
        policy: String,
        /// Which.
        key: &'static str,
        /// What is wrong and what to do.
        problem: &'static str,
    },
    /// A pin that is no path.
    #[error("pin `{pin}`: {problem}")]
    Pin {
        /// As it was written.
        pin: String,
        /// What is wrong and what to do.
        problem: &'static str,
    },
    /// A pin that passes a relay twice.
    #[error("pin `{pin}` passes a relay twice: name each once")]
    Loop {
        /// As it was written.
        pin: String,
    },
    /// Two pins of which one cannot be.
    #[error(
        "policy `{policy}`: pin `{pin}` conflicts with pin `{other}`, by whose links there is a way as short: drop one of them, or give it a policy of its own"
    )]
    Conflict {
        /// Whose.
        policy: String,
        /// The one that would not be taken.
        pin: String,
        /// The other.
        other: String,
    },
    /// A pin through a relay that must not be passed.
    #[error("policy `{policy}`: pin `{pin}` passes `{relay}`, which `forbid` names: drop one of them")]
    Forbidden {
        /// Whose.
        policy: String,
        /// The pin.
        pin: String,
        /// The relay.
        relay: String,
    },
    /// Two policies for one pattern.
    #[error("namespaces `{pattern}` are mapped to `{one}` and to `{other}`: take them out of one")]
    Mapped {
        /// The pattern.
        pattern: String,
        /// One policy.
        one: String,
        /// The other.
        other: String,
    },
    /// Relief that is none.
    #[error("policy `{policy}`: `relief` is `{relief}`: {problem}")]
    Relief {
        /// Whose.
        policy: String,
        /// What it names.
        relief: String,
        /// What is wrong and what to do.
        problem: &'static str,
    },
}

impl PolicyError {
    /// Whether each part could be so, and all together cannot.
    pub fn is_conflict(&self) -> bool {
        match self {
            PolicyError::TooMany(_)
            | PolicyError::Twice(_)
            | PolicyError::Loop { .. }
            | PolicyError::Conflict { .. }
            | PolicyError::Forbidden { .. }
            | PolicyError::Mapped { .. }
            | PolicyError::Relief { .. } => true,
            PolicyError::Name(_)
            | PolicyError::Range { .. }
            | PolicyError::List { .. }
            | PolicyError::Pin { .. } => false,
        }
    }
}

/// Whether this may name something. Characters are counted: what is longer than any name in bytes fits nothing, and
/// descriptions of JSON count characters.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= NAME_CHARACTERS
}

/// All policies of an overlay. What exists is legal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policies {
    /// The default one is always among them.
    all: BTreeMap<PolicyIndex, Policy>,
}

impl Default for Policies {
    /// The default policy alone.
    fn default() -> Policies {
        Policies { all: BTreeMap::from([(PolicyIndex::DEFAULT, Policy::new(DEFAULT_POLICY))]) }
    }
}

impl Policies {
    /// These policies, numbered in their order; the default one is the first, and is added if it is not among them.
    ///
    /// # Errors
    /// [`PolicyError`] tells what is wrong and what to do.
    pub fn new(mut policies: Vec<Policy>) -> Result<Policies, PolicyError> {
        match policies.iter().position(|policy| policy.name == DEFAULT_POLICY) {
            Some(place) => policies[..=place].rotate_right(1),
            None => policies.insert(0, Policy::new(DEFAULT_POLICY)),
        }
        if policies.len() > PolicyIndex::COUNT {
            return Err(PolicyError::TooMany(policies.len()));
        }
        let mut names = BTreeSet::new();
        let mut patterns: BTreeMap<&str, &str> = BTreeMap::new();
        for policy in &policies {
            if !is_name(&policy.name) {
                return Err(PolicyError::Name(policy.name.clone()));
            }
            if !names.insert(policy.name.as_str()) {
                return Err(PolicyError::Twice(policy.name.clone()));
            }
            policy.check_numbers()?;
            policy.check_lists()?;
            policy.check_pins()?;
            for pattern in &policy.namespaces {
                if let Some(one) = patterns.insert(pattern, &policy.name) {
                    let (pattern, one, other) = (pattern.clone(), one.to_owned(), policy.name.clone());
                    return Err(PolicyError::Mapped { pattern, one, other });
                }
            }
        }
        for policy in &policies {
            let Some(relief) = &policy.relief else { continue };
            let problem = match policies.iter().find(|other| other.name == *relief) {
                None => "no policy has this name",
                Some(other) if other.name == policy.name => "a policy does not relieve itself: name another",
                Some(other) if other.relief.is_some() => "what relieves is not relieved itself: name another",
                Some(_) => continue,
            };
            let (policy, relief) = (policy.name.clone(), relief.clone());
            return Err(PolicyError::Relief { policy, relief, problem });
        }
        Ok(Policies { all: (0..).map_while(PolicyIndex::new).zip(policies).collect() })
    }

    /// The same with the numbers that policies of the same names have in others: frames under way carry them.
    #[must_use]
    pub fn numbered_like(self, others: &Policies) -> Policies {
        let (known, new): (Vec<_>, Vec<_>) = self
            .all
            .into_values()
            .map(|policy| (others.index(&policy.name), policy))
            .partition(|(index, _)| index.is_some());
        let mut all: BTreeMap<PolicyIndex, Policy> =
            known.into_iter().filter_map(|(index, policy)| Some((index?, policy))).collect();
        for (_, policy) in new {
            let free = (0..).map_while(PolicyIndex::new).find(|index| !all.contains_key(index));
            all.insert(free.expect("there are no more policies than numbers"), policy);
        }
        Policies { all }
    }

    /// All of them by index, the default one first.
    pub fn iter(&self) -> impl Iterator<Item = (PolicyIndex, &Policy)> {
        self.all.iter().map(|(index, policy)| (*index, policy))
    }

    /// The index of the policy of this name.
    pub fn index(&self, name: &str) -> Option<PolicyIndex> {
        self.iter().find(|(_, policy)| policy.name == name).map(|(index, _)| index)
    }

    /// A policy; that of an index that no policy has any more is the default one.
    pub fn policy(&self, index: PolicyIndex) -> &Policy {
        self.all.get(&index).unwrap_or_else(|| &self.all[&PolicyIndex::DEFAULT])
    }

    /// The policy of a namespace: the one with the most particular pattern that fits, which is the longest one.
    pub fn of_namespace(&self, namespace: &str) -> PolicyIndex {
        let fitting = self.iter().flat_map(|(index, policy)| {
            let patterns = policy.namespaces.iter().filter(|pattern| fits(pattern, namespace));
            patterns.map(move |pattern| (!pattern.contains('*'), pattern.len(), pattern, index))
        });
        fitting.max().map_or(PolicyIndex::DEFAULT, |(_, _, _, index)| index)
    }

    /// The policy by which streams of another travel that a loaded link has no room for.
    pub fn relief_of(&self, index: PolicyIndex) -> Option<PolicyIndex> {
        self.index(self.policy(index).relief.as_deref()?)
    }

    /// Whether routes of any policy in use depend on jitter.
    pub(crate) fn mind_jitter(&self) -> bool {
        self.in_use().into_iter().any(|index| self.policy(index).weights.jitter_pct > 0)
    }

    /// Policies that routes are computed for: the default one, those with namespaces, and what relieves them.
    pub fn in_use(&self) -> BTreeSet<PolicyIndex> {
        let mapped = self.iter().filter(|(_, policy)| !policy.namespaces.is_empty()).map(|(index, _)| index);
        let used: Vec<_> = std::iter::once(PolicyIndex::DEFAULT).chain(mapped).collect();
        let relief = used.iter().filter_map(|index| self.relief_of(*index));
        relief.chain(used.iter().copied()).collect()
    }
}

impl Policy {
    fn check_numbers(&self) -> Result<(), PolicyError> {
        let Weights { delay_pct, repair_pct, queueing_pct, jitter_pct, load_pct, money_pct } = self.weights;
        for (key, value) in [
            ("weights.delay_pct", delay_pct),
            ("weights.repair_pct", repair_pct),
            ("weights.queueing_pct", queueing_pct),
            ("weights.jitter_pct", jitter_pct),
            ("weights.load_pct", load_pct),
            ("weights.money_pct", money_pct),
        ] {
            self.check_range(key, u64::from(value), 0..=u64::from(WEIGHT_PCT_MAX), "0 to 10000")?;
        }
        self.check_range("prefer_pct", u64::from(self.prefer_pct), 1..=100, "1 to 100")?;
        let hop_us = self.hop.map_or(1, |hop| u64::try_from(hop.as_micros()).unwrap_or(u64::MAX));
        let most_us = HOP_MAX.as_micros() as u64;
        self.check_range("hop_us", hop_us, 1..=most_us, "1 to 1000000 microseconds")
    }

    fn check_range(
        &self,
        key: &'static str,
        value: u64,
        range: std::ops::RangeInclusive<u64>,
        text: &'static str,
    ) -> Result<(), PolicyError> {
        if range.contains(&value) {
            return Ok(());
        }
        Err(PolicyError::Range { policy: self.name.clone(), key, value, range: text })
    }

    fn check_lists(&self) -> Result<(), PolicyError> {
        let wrong = |key, problem| Err(PolicyError::List { policy: self.name.clone(), key, problem });
        let lists = [
            ("prefer", self.prefer.iter().map(Place::name).collect::<Vec<_>>()),
            ("forbid", self.forbid.iter().map(Place::name).collect()),
            ("emergency", self.emergency.iter().map(Place::name).collect()),
            ("pins", self.pins.iter().map(|pin| pin.0[0].as_str()).collect()),
            ("namespaces", self.namespaces.iter().map(String::as_str).collect()),
        ];
        for (key, list) in lists {
            if list.len() > POLICY_LIST_MAX {
                return wrong(key, "has more than 1024 entries: use a region, a tag or a pattern");
            }
            if !list.iter().all(|name| is_name(name)) {
                return wrong(key, "has a name of no or of more than 255 characters");
            }
        }
        Ok(())
    }

    /// By the links of all pins together, each of equal length, the only shortest way between a pin's ends is its own.
    fn check_pins(&self) -> Result<(), PolicyError> {
        for pin in &self.pins {
            let inner = &pin.0[1..pin.0.len() - 1];
            let forbidden = inner.iter().find(|name| self.forbid.contains(&Place::Node((*name).clone())));
            if let Some(relay) = forbidden {
                let (policy, pin, relay) = (self.name.clone(), pin.text(), relay.clone());
                return Err(PolicyError::Forbidden { policy, pin, relay });
            }
        }
        let mut owners: BTreeMap<(&str, &str), &Pin> = BTreeMap::new();
        let mut next: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for pin in &self.pins {
            for (from, to) in pin.links() {
                owners.entry((from, to)).or_insert(pin);
                next.entry(from).or_default().insert(to);
            }
        }
        for pin in &self.pins {
            let own: BTreeSet<_> = pin.links().collect();
            // A way that leaves the pin's own links and is no longer than it.
            let mut open = VecDeque::from([(pin.0[0].as_str(), 0, None)]);
            let mut seen = BTreeSet::new();
            while let Some((at, hops, stranger)) = open.pop_front() {
                if at == pin.0[pin.0.len() - 1] {
                    if let Some(other) = stranger {
                        let other: &Pin = other;
                        let (policy, pin, other) = (self.name.clone(), pin.text(), other.text());
                        return Err(PolicyError::Conflict { policy, pin, other });
                    }
                    continue;
                }
                if hops + 1 >= pin.0.len() || !seen.insert((at, stranger.is_some())) {
                    continue;
                }
                for to in next.get(at).into_iter().flatten() {
                    let stranger = if own.contains(&(at, *to)) { stranger } else { Some(owners[&(at, *to)]) };
                    open.push_back((to, hops + 1, stranger));
                }
            }
        }
        Ok(())
    }

    pub(crate) fn forbids(&self, relay: Where<'_>) -> bool {
        self.forbid.iter().any(|place| place.holds(relay))
    }

    pub(crate) fn spares(&self, relay: Where<'_>) -> bool {
        self.emergency.iter().any(|place| place.holds(relay))
    }

    fn prefers(&self, relay: Where<'_>) -> bool {
        self.prefer.iter().any(|place| place.holds(relay))
    }

    fn pinned(&self, from: &str, to: &str) -> Option<&Pin> {
        self.pins.iter().find(|pin| pin.links().any(|link| link == (from, to)))
    }

    /// Whether a price depends on who the ends of the link are.
    pub(crate) fn asks_for_ends(&self) -> bool {
        !self.prefer.is_empty() || !self.pins.is_empty()
    }

    /// What a direction of a link costs by this policy.
    pub(crate) fn price(&self, terms: CostTerms, from: Where<'_>, to: Where<'_>) -> CostTerms {
        let Weights { delay_pct, repair_pct, queueing_pct, jitter_pct, load_pct, money_pct } = self.weights;
        let weigh = |us: u64, pct: u32| us.saturating_mul(u64::from(pct)) / 100;
        let hop_us = self.hop.map_or(terms.hop_us, |hop| u64::try_from(hop.as_micros()).unwrap_or(u64::MAX));
        let mut priced = CostTerms {
            one_way_us: weigh(terms.one_way_us, delay_pct),
            queueing_us: weigh(terms.queueing_us, queueing_pct),
            repair_us: weigh(terms.repair_us, repair_pct),
            jitter_us: weigh(terms.jitter_us, jitter_pct),
            hop_us,
            load_us: weigh(terms.load_us, load_pct),
            money_us: weigh(terms.money_us, money_pct),
            distrust_us: terms.distrust_us,
            rounding_us: 0,
            preference_us: 0,
        };
        priced.round();
        let whole_us = priced.total_us();
        let wanted_us = if self.pinned(from.name, to.name).is_some() {
            PINNED_US
        } else if self.prefers(from) || self.prefers(to) {
            // Dearer than any pinned path.
            weigh(whole_us, self.prefer_pct).max(PIN_RELAYS_MAX as u64 * PINNED_US)
        } else {
            whole_us
        };
        let signed = |us: u64| i64::try_from(us).unwrap_or(i64::MAX);
        priced.preference_us = signed(wanted_us) - signed(whole_us);
        priced
    }
}

fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, inner)) = parts.split_last() else { return rest.is_empty() };
    for part in inner {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}
