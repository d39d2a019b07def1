//! Rows of the admin API that explain routes. `relayctl` reads the same types.

use route_core::{CostTerms, Doubt};
use serde::{Deserialize, Serialize};

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
    /// The surcharge for a link that failed again and again.
    pub distrust_us: u64,
    /// What rounding added or took away.
    pub rounding_us: i64,
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
            distrust_us,
            rounding_us,
        } = terms;
        TermsRow { one_way_us, queueing_us, repair_us, hop_us, load_us, money_us, distrust_us, rounding_us }
    }
}

pub(crate) fn doubt_name(doubt: Doubt) -> &'static str {
    match doubt {
        Doubt::FewSamples => "few_samples",
        Doubt::EndsDiffer => "ends_differ",
        Doubt::FasterThanLight => "faster_than_light",
    }
}
