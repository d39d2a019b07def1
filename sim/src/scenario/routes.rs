//! What a scenario asks of its routes as a whole.

use super::{ScenarioError, keys};

/// Limits of what `sim` measures of all ordered pairs of relays with a link, over the true network; absent ones are not
/// asked.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct RouteLimits {
    /// The oracle's shares of pairs that get faster by more than a tenth with at most one, two and three relays; within 0.1.
    pub oracle_gain_pct: Option<[f64; 3]>,
    /// The share of the controller's routes that do: at least, and at most.
    pub gain_pct: Option<[f64; 2]>,
    /// Of the pairs that no relay makes faster, at least so many percent keep the direct link.
    pub direct_kept_pct: Option<f64>,
    /// At most so many percent of pairs get slower by more than a tenth.
    pub worse_pct: Option<f64>,
    /// Of the time that the oracle saves, at least so many percent are saved.
    pub oracle_kept_pct: Option<f64>,
    /// At most so many percent of pairs pass more than two relays.
    pub over_two_relays_pct: Option<f64>,
    /// At most so many percent of the routes change in an hour.
    pub changes_per_hour: Option<f64>,
    /// No route is longer than the best one times this.
    pub optimum_factor: Option<f64>,
    /// At most so many percent of the wanted deliveries are not served, once everyone had time to join.
    pub unserved_pct: Option<f64>,
}

impl RouteLimits {
    pub(super) fn read(table: &keys::Routes) -> Result<RouteLimits, ScenarioError> {
        let keys::Routes {
            oracle_gain_pct,
            gain_pct,
            direct_kept_pct,
            worse_pct,
            oracle_kept_pct,
            over_two_relays_pct,
            changes_per_hour,
            optimum_factor,
            unserved_pct,
        } = table;
        let (gain_pct, oracle_gain_pct) = (*gain_pct, *oracle_gain_pct);
        let single =
            [direct_kept_pct, worse_pct, oracle_kept_pct, over_two_relays_pct, unserved_pct].map(|pct| *pct);
        let all = single.into_iter().flatten().chain(gain_pct.into_iter().flatten());
        if let Some(wrong) =
            all.chain(oracle_gain_pct.into_iter().flatten()).find(|pct| !(0.0..=100.0).contains(pct))
        {
            let problem = "0 to 100 percent are possible".to_owned();
            return Err(ScenarioError::Value {
                place: "[routes]",
                key: "_pct",
                value: wrong.to_string(),
                problem,
            });
        }
        Ok(RouteLimits {
            oracle_gain_pct,
            gain_pct,
            direct_kept_pct: *direct_kept_pct,
            worse_pct: *worse_pct,
            oracle_kept_pct: *oracle_kept_pct,
            over_two_relays_pct: *over_two_relays_pct,
            changes_per_hour: *changes_per_hour,
            optimum_factor: *optimum_factor,
            unserved_pct: *unserved_pct,
        })
    }
}
