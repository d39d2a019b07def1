//! From a topology to relays and links.

use super::read::{FileReader, duration};
use super::{Backdrop, Host, RelayId, RelaySpec, ScenarioError, keys};
use crate::topology::{self, Source, Wanted};
use link_model::{LinkChange, LinkOption, LinkSpec, Seed, Selector};
use std::collections::BTreeMap;
use std::time::Duration;

const PLACE: &str = "[topology]";

pub(super) fn backdrop(
    table: &keys::Topology,
    file: &keys::File,
    read: FileReader<'_>,
) -> Result<Backdrop, ScenarioError> {
    let value = |key, value: &str, problem: String| ScenarioError::Value {
        place: PLACE,
        key,
        value: value.to_owned(),
        problem,
    };
    let matrix = table.matrix.as_ref();
    let source = match (matrix, &table.backbone, table.world.unwrap_or(false)) {
        (Some(files), None, false) => Source::Matrices {
            files: match files {
                keys::OneOrMore::One(file) => vec![file.as_str()],
                keys::OneOrMore::More(files) => files.iter().map(String::as_str).collect(),
            },
            every: duration(PLACE, "every", table.every.as_deref().unwrap_or("1h"))?,
            places: table.places.as_deref(),
        },
        (None, Some(file), false) => Source::Backbone(file),
        (None, None, true) => Source::World,
        _ => {
            let problem =
                "exactly one of `matrix`, `backbone` and `world = true` says where relays come from";
            return Err(value("matrix", "", problem.to_owned()));
        }
    };
    let relays =
        table.relays.map(|relays| super::read::in_range(PLACE, "relays", relays, 2, 1_000)).transpose()?;
    let wanted =
        Wanted { source, relays: relays.map(|relays| relays as usize), seed: Seed(table.seed.unwrap_or(1)) };
    let topology = topology::topology(&wanted, read)
        .map_err(|(file, problem)| value("matrix, places or backbone", &file, problem))?;
    let is = LinkSpec::parse(table.is.as_deref().unwrap_or("delay=0"), read)
        .map_err(|problem| ScenarioError::Link { place: PLACE, problem })?;
    Ok(Backdrop { topology, is, first: file.relay.as_ref().map_or(0, Vec::len) })
}

impl Backdrop {
    /// Its relays.
    pub(super) fn relays(&self) -> impl Iterator<Item = RelaySpec> {
        self.topology.places.iter().map(|place| RelaySpec {
            name: place.name.clone(),
            region: place.region.clone().unwrap_or_else(|| "nowhere".to_owned()),
            position: place.position,
        })
    }

    fn relay(&self, place: usize) -> Host {
        Host::Relay(RelayId((self.first + place) as u16))
    }

    /// Lays its links: what they do at first, and what changes later.
    pub(super) fn lay(
        &self,
        base: &mut BTreeMap<(Host, Host), LinkSpec>,
        options: &mut BTreeMap<(Host, Host), Vec<LinkOption>>,
    ) {
        let [(_, first), later @ ..] = &self.topology.slices[..] else { return };
        // A datagram goes one way: half of the round trip, and what every link does on top.
        let one_way = |us: u32| Duration::from_micros(u64::from(us) / 2) + self.is.delay;
        for (from, to, us) in first.pairs() {
            let spec = LinkSpec { delay: one_way(us), ..self.is.clone() };
            base.insert((self.relay(from), self.relay(to)), spec);
        }
        let mut before = first;
        for (at, trips) in later {
            for (from, to, _) in first.pairs() {
                let (was, is) = (before.us(from, to), trips.us(from, to));
                if was == is {
                    continue;
                }
                let change = match is {
                    Some(us) => LinkChange::delay(one_way(us)),
                    None => LinkChange::down(true),
                };
                let direction = (self.relay(from), self.relay(to));
                let own = options.entry(direction).or_default();
                if was.is_none() {
                    own.push(LinkOption {
                        selector: Selector::All,
                        change: LinkChange::down(false),
                        at: *at,
                    });
                }
                own.push(LinkOption { selector: Selector::All, change, at: *at });
            }
            before = trips;
        }
    }
}
