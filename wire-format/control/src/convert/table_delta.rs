//! What is new in route tables.

use super::parts::{bounded, byte, nodes};
use super::to_relay::{plain_pair, policy};
use crate::{ConvertError, limits, proto};
use std::collections::BTreeMap;
use wire_format::control::limits::DESTINATIONS;
use wire_format::{Epoch, NodeIndex, Plane, PlanePair, PolicyDelta, PolicyIndex, TableDelta};

pub(super) fn plain(delta: &TableDelta) -> proto::TableDelta {
    proto::TableDelta {
        epoch: delta.epoch.0,
        base: delta.base.0,
        policies: delta.policies.iter().map(|(policy, changes)| plain_policy(*policy, changes)).collect(),
        policies_gone: delta.gone.iter().map(|policy| u32::from(policy.bits())).collect(),
    }
}

fn plain_policy(policy: PolicyIndex, changes: &PolicyDelta) -> proto::PolicyDelta {
    let mut planes: Vec<proto::PlaneTable> = Vec::new();
    let mut planes_gone: Vec<proto::PlaneRows> = Vec::new();
    // Rows come sorted by plane, then by destination.
    for ((plane, destination), next_hop) in &changes.next_hops {
        let (plane, destination) = (u32::from(plane.0), u32::from(destination.0));
        match next_hop {
            Some(next_hop) => {
                if planes.last().is_none_or(|last| last.plane != plane) {
                    planes.push(proto::PlaneTable { plane, ..Default::default() });
                }
                if let Some(rows) = planes.last_mut() {
                    rows.destinations.push(destination);
                    rows.next_hops.push(u32::from(next_hop.0));
                }
            }
            None => {
                if planes_gone.last().is_none_or(|last| last.plane != plane) {
                    planes_gone.push(proto::PlaneRows { plane, ..Default::default() });
                }
                if let Some(rows) = planes_gone.last_mut() {
                    rows.destinations.push(destination);
                }
            }
        }
    }
    proto::PolicyDelta {
        policy: u32::from(policy.bits()),
        planes,
        planes_gone,
        backup_destinations: changes.backups.keys().map(|node| u32::from(node.0)).collect(),
        backup_planes: changes
            .backups
            .values()
            .map(|plane| plane.map_or(0, |plane| plane.0.into()))
            .collect(),
        pair_destinations: changes.pairs.keys().map(|node| u32::from(node.0)).collect(),
        pair_planes: changes.pairs.values().map(|pair| pair.map_or(0, plain_pair)).collect(),
    }
}

pub(super) fn delta(delta: proto::TableDelta) -> Result<TableDelta, ConvertError> {
    bounded(delta.policies.len(), PolicyIndex::COUNT, "policies")?;
    bounded(delta.policies_gone.len(), PolicyIndex::COUNT, "policies_gone")?;
    let mut whole = TableDelta::new(Epoch(delta.base), Epoch(delta.epoch));
    for changes in delta.policies {
        let index = policy(changes.policy)?;
        if whole.policies.insert(index, policy_delta(changes)?).is_some() {
            return Err(ConvertError::OutOfRange("policy"));
        }
    }
    for gone in delta.policies_gone {
        let index = policy(gone)?;
        if index == PolicyIndex::DEFAULT || whole.policies.contains_key(&index) || !whole.gone.insert(index) {
            return Err(ConvertError::OutOfRange("policies_gone"));
        }
    }
    Ok(whole)
}

fn policy_delta(changes: proto::PolicyDelta) -> Result<PolicyDelta, ConvertError> {
    bounded(changes.planes.len(), limits::PLANES, "planes")?;
    bounded(changes.planes_gone.len(), limits::PLANES, "planes_gone")?;
    let mut next_hops: BTreeMap<(Plane, NodeIndex), Option<NodeIndex>> = BTreeMap::new();
    for rows in changes.planes {
        let plane = plane(rows.plane)?;
        if rows.destinations.len() != rows.next_hops.len() {
            return Err(ConvertError::OutOfRange("next_hops"));
        }
        let destinations = nodes(rows.destinations, DESTINATIONS, "destinations")?;
        let hops = nodes(rows.next_hops, DESTINATIONS, "next_hops")?;
        for (destination, next_hop) in destinations.into_iter().zip(hops) {
            if next_hops.insert((plane, destination), Some(next_hop)).is_some() {
                return Err(ConvertError::OutOfRange("destinations"));
            }
        }
    }
    for rows in changes.planes_gone {
        let plane = plane(rows.plane)?;
        for destination in nodes(rows.destinations, DESTINATIONS, "destinations")? {
            if next_hops.insert((plane, destination), None).is_some() {
                return Err(ConvertError::OutOfRange("destinations"));
            }
        }
    }
    let backup = |bits: u32| match bits {
        0 => Ok(None),
        redundant => Ok(Some(plane(redundant)?)),
    };
    let pair = |bits: u32| match bits {
        0 => Ok(None),
        bits => {
            let pair = PlanePair::ALL.into_iter().find(|pair| plain_pair(*pair) == bits);
            Ok(Some(pair.ok_or(ConvertError::OutOfRange("pair_planes"))?))
        }
    };
    Ok(PolicyDelta {
        next_hops,
        backups: by_destination(changes.backup_destinations, changes.backup_planes, "backup_planes", backup)?,
        pairs: by_destination(changes.pair_destinations, changes.pair_planes, "pair_planes", pair)?,
    })
}

fn plane(value: u32) -> Result<Plane, ConvertError> {
    let plane = Plane(byte(value, "plane")?);
    if usize::from(plane.0) < limits::PLANES { Ok(plane) } else { Err(ConvertError::OutOfRange("plane")) }
}

fn by_destination<T>(
    destinations: Vec<u32>,
    values: Vec<u32>,
    field: &'static str,
    read: impl Fn(u32) -> Result<T, ConvertError>,
) -> Result<BTreeMap<NodeIndex, T>, ConvertError> {
    if destinations.len() != values.len() {
        return Err(ConvertError::OutOfRange(field));
    }
    let mut rows = BTreeMap::new();
    for (destination, value) in nodes(destinations, DESTINATIONS, field)?.into_iter().zip(values) {
        if rows.insert(destination, read(value)?).is_some() {
            return Err(ConvertError::OutOfRange(field));
        }
    }
    Ok(rows)
}
