//! Rows as data, and what one of them looks like as a scenario.

use crate::scenario::{Scenario, ScenarioError};
use link_model::parse_duration;
use std::time::Duration;

/// All rows; the file says what the keys mean.
const ROWS: &str = include_str!("../../loss/rows.toml");
/// Video: 208 packets of 1,200 bytes a second, 2 Mbit/s. The packets of a picture leave 2 ms apart, as those of the
/// encoder whose recording `relayctl dev` plays.
const PICTURES_PER_S: u64 = 26;
const PACKETS_OF_A_PICTURE: u64 = 8;
/// Opus.
const AUDIO_PER_S: u64 = 50;
/// Packets of both streams in a second.
const PACKETS_PER_S: u64 = PICTURES_PER_S * PACKETS_OF_A_PICTURE + AUDIO_PER_S;
/// Packets count from here on: links are measured, paths are known to be as wide as they are.
pub(super) const WARM_UP: Duration = Duration::from_secs(10);

/// A link, a budget, and what must come of them.
#[derive(Clone, PartialEq, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossRow {
    /// What people call it.
    pub name: String,
    /// Links in a row, each as `link` says.
    #[serde(default = "one")]
    pub hops: u8,
    /// What they do, as `relayctl dev --link` has it.
    pub link: String,
    /// How much later than the path's own delay a packet may come.
    pub budget: String,
    /// When the packets of its video leave, as the key `recording` of a scenario's stream has it; even pictures otherwise.
    pub recording: Option<String>,
    /// What must come of it.
    #[serde(default)]
    pub limits: Limits,
}

/// What must come of a row; nothing where nothing is said.
#[derive(Clone, PartialEq, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Residual loss at most so many times the retransmission bound ...
    pub bound_factor: Option<f64>,
    /// ... and so much more, percent of packets.
    pub bound_plus_pct: Option<f64>,
    /// Residual loss at most, percent of packets.
    pub residual_max_pct: Option<f64>,
    /// Residual loss at most `share_of_other` of that of the row of this name.
    pub other: Option<String>,
    /// See `other`.
    pub share_of_other: Option<f64>,
    /// Overhead at most, percent of first bytes.
    pub overhead_max_pct: Option<f64>,
}

fn one() -> u8 {
    1
}

/// The rows that the project is held to.
pub fn loss_rows() -> Vec<LossRow> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        row: Vec<LossRow>,
    }
    toml::from_str::<File>(ROWS).expect("a test reads it").row
}

impl LossRow {
    /// A client, the relays, a client, and media for so many packets.
    pub(super) fn scenario(
        &self,
        packets: u64,
        read: &mut dyn FnMut(&str) -> std::io::Result<String>,
    ) -> Result<Scenario, ScenarioError> {
        use std::fmt::Write as _;
        let run_s = (WARM_UP + Scenario::TAIL).as_secs() + packets.div_ceil(PACKETS_PER_S);
        let (name, link, budget) = (&self.name, &self.link, &self.budget);
        let mut text = format!("name = {name:?}\nrun_for = \"{run_s}s\"\nclients_link = \"delay=0\"\n");
        for relay in 1..=u32::from(self.hops) + 1 {
            let _ = write!(text, "[[relay]]\nname = \"r{relay}\"\n");
        }
        for hop in 1..=u32::from(self.hops) {
            let _ = write!(text, "[[link]]\nbetween = \"r{hop}-r{}\"\nis = {link:?}\n", hop + 1);
        }
        let last = u32::from(self.hops) + 1;
        let stream = "[[stream]]\nclient = \"a\"\nroom = \"call\"\nuser = \"ann\"";
        let rhythm = match &self.recording {
            Some(recording) => format!("recording = {recording:?}"),
            None => format!(
                "bursts_per_s = {PICTURES_PER_S}\nburst = {PACKETS_OF_A_PICTURE}\nspread = \"2ms\"\nbytes = 1200"
            ),
        };
        let _ = write!(
            text,
            "[[client]]\nname = \"a\"\nrelay = \"r1\"\n[[client]]\nname = \"b\"\nrelay = \"r{last}\"\n\
             {stream}\nstream = \"cam\"\nkind = \"video\"\n{rhythm}\nbudget = {budget:?}\n\
             {stream}\nstream = \"mic\"\nkind = \"audio\"\nbursts_per_s = {AUDIO_PER_S}\nbytes = 120\n\
             budget = {budget:?}\n\
             [[subscription]]\nclient = \"b\"\nroom = \"call\"\n\
             [expect]\nrecover_within = \"1s\"\ndelivered_min = 0\n"
        );
        Scenario::parse(&text, read)
    }

    /// How much later than the path's own delay a packet may come.
    pub(super) fn budget(&self) -> Duration {
        parse_duration(&self.budget).expect("the scenario was read with it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_legal_and_refer_to_rows_before_them() {
        let rows = loss_rows();
        assert!(rows.len() >= 9);
        for (place, row) in rows.iter().enumerate() {
            let scenario = row.scenario(1_000, &mut |_| Ok("0001".to_owned())).expect(&row.name);
            assert_eq!(scenario.relays.len(), usize::from(row.hops) + 1);
            let before = |name: &String| rows[..place].iter().any(|other| other.name == *name);
            assert!(row.limits.other.as_ref().is_none_or(before), "{}", row.name);
            assert_eq!(row.limits.other.is_some(), row.limits.share_of_other.is_some());
            assert_eq!(row.limits.bound_factor.is_some(), row.limits.bound_plus_pct.is_some());
        }
    }
}
