//! Rows of the admin API that explain routes, and those of the past. `relayctl` reads the same types.

use crate::rows::{micros, seconds};
use crate::stream_rows::ProtectionRow;
use route_core::{
    Avoidance, CostTerms, Doubt, DrainView, EpochView, ExplainView, HopView, PriceChangeView,
    RouteChangeView, RoutesDiffView, TurnView, Verdict, WayView, WhyNotView,
};
use serde::{Deserialize, Serialize};

/// What `GET /v1/routes/explain` asks for.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainQuery {
    /// The relay where the way begins.
    pub from: String,
    /// The relay where it ends.
    pub to: String,
    /// The moment, seconds since 1970; the present if it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<f64>,
    /// By this policy; without it, by `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
}

/// What `GET /v1/routes/why-not` asks for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhyNotQuery {
    /// The relay where the way begins.
    pub from: String,
    /// The relay where it ends.
    pub to: String,
    /// The relay that it might pass.
    pub via: String,
    /// By this policy; without it, by `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
}

/// What `GET /v1/routes/diff` asks for.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiffQuery {
    /// The first epoch.
    pub before: u32,
    /// The second one.
    pub after: u32,
    /// By this policy; without it, by `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
}

/// What `GET /v1/routes/diff-at` asks for.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiffAtQuery {
    /// The first moment, seconds since 1970.
    pub before: f64,
    /// The second one.
    pub after: f64,
}

/// One hop of a way, at present.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct HopRow {
    /// The relay that sends.
    pub from: String,
    /// The relay that receives.
    pub to: String,
    /// What the hop costs; absent if routes may not use the link any more.
    pub cost_us: Option<u64>,
    /// What that is made of.
    pub terms: Option<TermsRow>,
    /// Measured cost of the latest report, before smoothing and hysteresis.
    pub cost_raw_us: Option<u64>,
    /// Whose measurement it is: the sender's, or the receiver's where the sender has none.
    pub measured_by: Option<String>,
    /// Age of that measurement.
    pub age_us: Option<u64>,
    /// Samples behind it, since the link came up.
    pub samples: Option<u64>,
    /// Why it is not believed as it is: `few_samples`, `ends_differ` or `faster_than_light`.
    pub doubt: Option<String>,
    /// Why passing `to` is avoided: `cordoned`, `leaving`, `no_session`, `unresponsive` or `sudden_hub`; absent too where the
    /// way ends there.
    pub avoided: Option<String>,
}

/// A way from one relay to another.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct WayRow {
    /// All relays, both ends included.
    pub path: Vec<String>,
    /// What its usable links cost at present, together.
    pub cost_us: u64,
    /// Its hops.
    pub hops: Vec<HopRow>,
}

/// A price at which the other way would be taken, everything else staying as it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TurnRow {
    /// The relay that sends.
    pub from: String,
    /// The relay that receives.
    pub to: String,
    /// What the hop costs now.
    pub cost_us: u64,
    /// What it would have to exceed (in `rises`), or to fall below (in `falls`).
    pub turns_at_us: u64,
}

/// What `GET /v1/routes/explain` answers.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ExplainRow {
    /// Where from.
    pub from: String,
    /// Where to.
    pub to: String,
    /// By which policy. Controllers before 0.2 do not say so.
    #[serde(default)]
    pub policy: String,
    /// The epoch that relays stamp.
    pub epoch: Option<u32>,
    /// Time since this way was first taken.
    pub age_s: Option<f64>,
    /// The way taken.
    pub chosen: Option<WayRow>,
    /// The cheapest way that is another.
    pub runner_up: Option<WayRow>,
    /// By how much that is dearer; below zero while new routes are under way.
    pub margin_us: Option<i64>,
    /// Hops of the way taken that would turn the route by rising alone.
    pub rises: Vec<TurnRow>,
    /// Hops of the other way that would turn it by falling alone.
    pub falls: Vec<TurnRow>,
    /// Of a moment of the past: when what is told of links was kept, seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of_unix_s: Option<f64>,
    /// How a stream that asks for two ways at once goes; absent of the past. Controllers before 0.2 do not say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protection: Option<ProtectionRow>,
}

/// What `GET /v1/routes/why-not` answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WhyNotRow {
    /// The relay in question.
    pub via: String,
    /// `taken`, `end`, `offline`, `no_way`, `avoided`, `turns_back` or `dearer`.
    pub verdict: String,
    /// Of `avoided`, why: as in the hops.
    pub avoided: Option<String>,
    /// The way taken.
    pub chosen: Option<WayRow>,
    /// The best ways to the relay and on from it.
    pub detour: Option<WayRow>,
    /// By how much that is dearer.
    pub margin_us: Option<i64>,
}

/// An epoch that relays were told to stamp, in `GET /v1/routes/epochs`.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct EpochRow {
    /// The epoch.
    pub epoch: u32,
    /// Time since then.
    pub age_s: f64,
    /// Primary routes that it changed.
    pub routes: usize,
    /// Prices of links that it changed.
    pub prices: usize,
}

/// A row of a route table that is another in another epoch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RouteChangeRow {
    /// The relay whose table it is.
    pub node: String,
    /// 0 primary, 1 red, 2 blue.
    pub plane: u8,
    /// Where to.
    pub destination: String,
    /// The next hop in the first epoch; absent if there was no row.
    pub before: Option<String>,
    /// The next hop in the second epoch.
    pub after: Option<String>,
}

/// A link whose price is another in another epoch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PriceChangeRow {
    /// The relay that sends.
    pub from: String,
    /// The relay that receives.
    pub to: String,
    /// What it cost when the first epoch was computed; absent if it could not be used.
    pub before_us: Option<u64>,
    /// The same of the second epoch.
    pub after_us: Option<u64>,
}

/// What `GET /v1/routes/diff` answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DiffRow {
    /// The first epoch.
    pub before: u32,
    /// The second one.
    pub after: u32,
    /// Routes that differ.
    pub routes: Vec<RouteChangeRow>,
    /// Prices that differ.
    pub prices: Vec<PriceChangeRow>,
}

/// How far a relay is from carrying nothing, in `GET /v1/nodes/{name}/drain` and the answer to cordons.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DrainRow {
    /// The relay's name.
    pub name: String,
    /// Routes avoid it.
    pub cordoned: bool,
    /// Its SFUs are sent to other relays.
    #[serde(default)]
    pub draining: bool,
    /// It is cordoned and carries nothing: it can be stopped.
    pub drained: bool,
    /// Pairs of others whose primary way passes it.
    pub transit_pairs: u64,
    /// Publications held there.
    pub publications: usize,
    /// Subscriptions held there.
    pub subscriptions: usize,
}

impl From<HopView> for HopRow {
    fn from(view: HopView) -> HopRow {
        HopRow {
            from: view.from,
            to: view.to,
            cost_us: view.cost_us,
            terms: view.terms.map(TermsRow::from),
            cost_raw_us: view.raw_us,
            measured_by: view.measured_by,
            age_us: view.age.map(micros),
            samples: view.samples,
            doubt: view.doubt.map(|doubt| doubt_name(doubt).to_owned()),
            avoided: view.avoided.map(|avoidance| avoidance_name(avoidance).to_owned()),
        }
    }
}

impl From<WayView> for WayRow {
    fn from(view: WayView) -> WayRow {
        let hops = view.hops.into_iter().map(HopRow::from).collect();
        WayRow { path: view.path, cost_us: view.cost_us, hops }
    }
}

impl From<TurnView> for TurnRow {
    fn from(view: TurnView) -> TurnRow {
        let TurnView { from, to, cost_us, turns_at_us } = view;
        TurnRow { from, to, cost_us, turns_at_us }
    }
}

impl From<ExplainView> for ExplainRow {
    fn from(view: ExplainView) -> ExplainRow {
        ExplainRow {
            from: view.from,
            to: view.to,
            policy: view.policy,
            epoch: view.epoch.map(|epoch| epoch.0),
            age_s: view.age.map(seconds),
            chosen: view.chosen.map(WayRow::from),
            runner_up: view.runner_up.map(WayRow::from),
            margin_us: view.margin_us,
            rises: view.rises.into_iter().map(TurnRow::from).collect(),
            falls: view.falls.into_iter().map(TurnRow::from).collect(),
            as_of_unix_s: None,
            protection: Some(view.protection.into()),
        }
    }
}

impl From<WhyNotView> for WhyNotRow {
    fn from(view: WhyNotView) -> WhyNotRow {
        let (verdict, avoided) = match view.verdict {
            Verdict::Taken => ("taken", None),
            Verdict::End => ("end", None),
            Verdict::Offline => ("offline", None),
            Verdict::NoWay => ("no_way", None),
            Verdict::Avoided(avoidance) => ("avoided", Some(avoidance_name(avoidance))),
            Verdict::TurnsBack => ("turns_back", None),
            Verdict::Dearer => ("dearer", None),
        };
        WhyNotRow {
            via: view.via,
            verdict: verdict.to_owned(),
            avoided: avoided.map(str::to_owned),
            chosen: view.chosen.map(WayRow::from),
            detour: view.detour.map(WayRow::from),
            margin_us: view.margin_us,
        }
    }
}

impl From<EpochView> for EpochRow {
    fn from(view: EpochView) -> EpochRow {
        let EpochView { epoch, age, rows, prices } = view;
        EpochRow { epoch: epoch.0, age_s: seconds(age), routes: rows, prices }
    }
}

impl From<RoutesDiffView> for DiffRow {
    fn from(view: RoutesDiffView) -> DiffRow {
        let route = |view: RouteChangeView| {
            let RouteChangeView { node, plane, destination, before, after } = view;
            RouteChangeRow { node, plane: plane.0, destination, before, after }
        };
        let price = |view: PriceChangeView| {
            let PriceChangeView { from, to, before_us, after_us } = view;
            PriceChangeRow { from, to, before_us, after_us }
        };
        DiffRow {
            before: view.before.0,
            after: view.after.0,
            routes: view.routes.into_iter().map(route).collect(),
            prices: view.prices.into_iter().map(price).collect(),
        }
    }
}

impl From<DrainView> for DrainRow {
    fn from(view: DrainView) -> DrainRow {
        let DrainView { name, cordoned, draining, transit_pairs, publications, subscriptions } = view;
        let drained = cordoned && transit_pairs == 0 && publications == 0 && subscriptions == 0;
        DrainRow { name, cordoned, draining, drained, transit_pairs, publications, subscriptions }
    }
}

fn avoidance_name(avoidance: Avoidance) -> &'static str {
    match avoidance {
        Avoidance::Cordoned => "cordoned",
        Avoidance::Leaving => "leaving",
        Avoidance::NoSession => "no_session",
        Avoidance::Unresponsive => "unresponsive",
        Avoidance::SuddenHub => "sudden_hub",
        Avoidance::Forbidden => "forbidden",
        Avoidance::Emergency => "emergency",
    }
}

/// What the cost of one direction of a link is made of. All of it adds up to the cost.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct TermsRow {
    /// Half of the least round trip of late.
    pub one_way_us: u64,
    /// Wait in queues on the way.
    pub queueing_us: u64,
    /// Expected wait for repairs.
    pub repair_us: u64,
    /// Crossing a relay.
    pub hop_us: u64,
    /// The step for a link that carries nearly all it can.
    pub load_us: u64,
    /// The price of traffic between the two regions, as time.
    pub money_us: u64,
    /// Interarrival jitter, as far as the policy minds it. Controllers before 0.2 do not say so.
    #[serde(default)]
    pub jitter_us: u64,
    /// The surcharge for a link that failed again and again.
    pub distrust_us: u64,
    /// What rounding added or took away.
    pub rounding_us: i64,
    /// What the policy adds or takes away for preferred relays and pins. Controllers before 0.2 do not say so.
    #[serde(default)]
    pub preference_us: i64,
}

impl From<CostTerms> for TermsRow {
    fn from(terms: CostTerms) -> TermsRow {
        let CostTerms {
            one_way_us,
            queueing_us,
            repair_us,
            hop_us,
            load_us,
            money_us,
            jitter_us,
            distrust_us,
            rounding_us,
            preference_us,
        } = terms;
        TermsRow {
            one_way_us,
            queueing_us,
            repair_us,
            hop_us,
            load_us,
            money_us,
            jitter_us,
            distrust_us,
            rounding_us,
            preference_us,
        }
    }
}

pub(crate) fn doubt_name(doubt: Doubt) -> &'static str {
    match doubt {
        Doubt::FewSamples => "few_samples",
        Doubt::EndsDiffer => "ends_differ",
        Doubt::FasterThanLight => "faster_than_light",
    }
}
