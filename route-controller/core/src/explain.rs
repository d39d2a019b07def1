//! Why a route is what it is: the way taken, the best other one, everything that both cost and how it is known, and what
//! would have to become different.
//!
//! The way taken is what relays were told; prices are those of the moment. Where they have moved since, new routes are
//! under way, and the other way may be the cheaper one for a moment.

use crate::cost::CostTerms;
use crate::guard::Doubt;
use crate::view::ProtectionView;
use std::time::Duration;
use wire_format::{Epoch, Plane};

/// Why routes pass a relay only where nothing else leads on, or not at all.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Avoidance {
    /// An operator wants it so.
    Cordoned,
    /// It said goodbye.
    Leaving,
    /// It has no session with the controller.
    NoSession,
    /// It does not acknowledge what it is told.
    Unresponsive,
    /// It became a hub all of a sudden.
    SuddenHub,
    /// The policy forbids passing it.
    Forbidden,
    /// The policy keeps it for emergencies.
    Emergency,
}

/// One hop of a way, at present.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HopView {
    /// The relay that sends.
    pub from: String,
    /// The relay that receives.
    pub to: String,
    /// What the hop costs; `None` if routes may not use the link any more.
    pub cost_us: Option<u64>,
    /// What that is made of.
    pub terms: Option<CostTerms>,
    /// Measured cost of the latest report, before smoothing and hysteresis.
    pub raw_us: Option<u64>,
    /// Whose measurement it is: the sender's, or the receiver's where the sender has none.
    pub measured_by: Option<String>,
    /// Age of that measurement.
    pub age: Option<Duration>,
    /// Samples behind it, since the link came up.
    pub samples: Option<u64>,
    /// Why it is not believed as it is.
    pub doubt: Option<Doubt>,
    /// Why passing `to` is avoided; `None` too where the way ends there.
    pub avoided: Option<Avoidance>,
}

/// A way from one relay to another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WayView {
    /// All relays, both ends included.
    pub path: Vec<String>,
    /// What its usable links cost at present, together.
    pub cost_us: u64,
    /// Its hops.
    pub hops: Vec<HopView>,
}

/// A price at which the other way would be taken, everything else staying as it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TurnView {
    /// The relay that sends.
    pub from: String,
    /// The relay that receives.
    pub to: String,
    /// What the hop costs now.
    pub cost_us: u64,
    /// What it would have to exceed (a hop of the way taken), or to fall below (one of the other).
    pub turns_at_us: u64,
}

/// The way taken from one relay to another, and the best other one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExplainView {
    /// Where from.
    pub from: String,
    /// Where to.
    pub to: String,
    /// By which policy.
    pub policy: String,
    /// The epoch that relays stamp, if any.
    pub epoch: Option<Epoch>,
    /// Time since this way was first taken.
    pub age: Option<Duration>,
    /// The way taken, if there is one.
    pub chosen: Option<WayView>,
    /// The cheapest way that is another, if there is one.
    pub runner_up: Option<WayView>,
    /// By how much that is dearer; below zero while new routes are under way.
    pub margin_us: Option<i64>,
    /// Hops of the way taken that would turn the route by rising alone.
    pub rises: Vec<TurnView>,
    /// Hops of the other way that would turn it by falling alone.
    pub falls: Vec<TurnView>,
    /// How a stream that asks for two ways at once goes.
    pub protection: ProtectionView,
}

/// Why a way does not pass a relay.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    /// It does.
    Taken,
    /// The relay is an end of the way.
    End,
    /// The relay is not there.
    Offline,
    /// No usable links lead there, or none lead on.
    NoWay,
    /// The relay is avoided.
    Avoided(Avoidance),
    /// The best ways to it and on from it pass a relay twice.
    TurnsBack,
    /// It is dearer, or as dear and behind in the order of indices.
    Dearer,
}

/// The way taken, and the best one through a certain relay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WhyNotView {
    /// The relay in question.
    pub via: String,
    /// Why it is not passed.
    pub verdict: Verdict,
    /// The way taken, if there is one.
    pub chosen: Option<WayView>,
    /// The best ways to the relay and on from it, if there are such.
    pub detour: Option<WayView>,
    /// By how much that is dearer.
    pub margin_us: Option<i64>,
}

/// An epoch that relays were told to stamp.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpochView {
    /// The epoch.
    pub epoch: Epoch,
    /// Time since then.
    pub age: Duration,
    /// Rows of the primary plane that it changed.
    pub rows: usize,
    /// Prices of links that it changed.
    pub prices: usize,
}

/// A row of a route table that is another in another epoch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteChangeView {
    /// The relay whose table it is.
    pub node: String,
    /// On which plane.
    pub plane: Plane,
    /// Where to.
    pub destination: String,
    /// The next hop in the first epoch, `None` if there was no row.
    pub before: Option<String>,
    /// The next hop in the second epoch.
    pub after: Option<String>,
}

/// A link whose price is another in another epoch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PriceChangeView {
    /// The relay that sends.
    pub from: String,
    /// The relay that receives.
    pub to: String,
    /// What it cost when the first epoch was computed, `None` if it could not be used.
    pub before_us: Option<u64>,
    /// The same of the second epoch.
    pub after_us: Option<u64>,
}

/// What became another between two epochs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoutesDiffView {
    /// The first epoch.
    pub before: Epoch,
    /// The second one.
    pub after: Epoch,
    /// Rows that differ.
    pub routes: Vec<RouteChangeView>,
    /// Prices that differ.
    pub prices: Vec<PriceChangeView>,
}

/// How far a relay is from carrying nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DrainView {
    /// The relay's name.
    pub name: String,
    /// Routes avoid it.
    pub cordoned: bool,
    /// SFUs are sent to other relays.
    pub draining: bool,
    /// Most pairs of others whose primary way passes it, by any tables that frames may be forwarded by.
    pub transit_pairs: u64,
    /// Publications held there.
    pub publications: usize,
    /// Subscriptions held there.
    pub subscriptions: usize,
}

/// By how much the other way is dearer.
pub(crate) fn margin_us((chosen, other): (&WayView, &WayView)) -> i64 {
    let us = |way: &WayView| i64::try_from(way.cost_us).unwrap_or(i64::MAX);
    us(other) - us(chosen)
}

/// The prices at which the other way is taken: of hops of the way taken that rise alone, and of hops of the other that fall
/// alone. None where a relay that is avoided decides.
pub(crate) fn turning_points(
    chosen: Option<&WayView>,
    other: Option<&WayView>,
) -> (Vec<TurnView>, Vec<TurnView>) {
    if let (Some(chosen), Some(other)) = (chosen, other)
        && avoided(chosen) == avoided(other)
        && let Ok(margin_us) = u64::try_from(margin_us((chosen, other)))
    {
        let rises = turns(chosen, other, |cost_us| Some(cost_us + margin_us));
        let falls = turns(other, chosen, |cost_us| cost_us.checked_sub(margin_us).filter(|us| *us > 0));
        return (rises, falls);
    }
    (Vec::new(), Vec::new())
}

fn avoided(way: &WayView) -> usize {
    way.hops.iter().filter(|hop| hop.avoided.is_some()).count()
}

/// Hops of `way` that are not in `other`, and the price of each at which the route turns.
fn turns(way: &WayView, other: &WayView, turns_at: impl Fn(u64) -> Option<u64>) -> Vec<TurnView> {
    let shared = |hop: &HopView| other.hops.iter().any(|one| (&one.from, &one.to) == (&hop.from, &hop.to));
    let own = way.hops.iter().filter(|hop| !shared(hop));
    own.filter_map(|hop| {
        let cost_us = hop.cost_us?;
        let turns_at_us = turns_at(cost_us)?;
        Some(TurnView { from: hop.from.clone(), to: hop.to.clone(), cost_us, turns_at_us })
    })
    .collect()
}
