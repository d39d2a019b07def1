//! What is new in route tables, and nothing else.

use proptest::prelude::*;
use wire_format::{
    DeltaError, Epoch, NodeIndex, Plane, PlanePair, PolicyIndex, PolicyTable, RouteTable, TableDelta,
};

fn node() -> impl Strategy<Value = NodeIndex> {
    (0..12_u16).prop_map(NodeIndex)
}

fn rows() -> impl Strategy<Value = PolicyTable> {
    let next_hops = proptest::collection::btree_map(((0..3_u8).prop_map(Plane), node()), node(), 0..30);
    let backups = proptest::collection::btree_map(node(), (1..3_u8).prop_map(Plane), 0..12);
    let pair = proptest::sample::select(&PlanePair::ALL[..]);
    let pairs = proptest::collection::btree_map(node(), pair, 0..12);
    (next_hops, backups, pairs).prop_map(|(next_hops, backups, pairs)| PolicyTable {
        next_hops,
        backups,
        pairs,
    })
}

fn table(epoch: u32) -> impl Strategy<Value = RouteTable> {
    let others = proptest::collection::btree_map((1..4_u8).prop_map(PolicyIndex::from_bits), rows(), 0..3);
    (rows(), others).prop_map(move |(default, others)| {
        let mut table = RouteTable::of_default(Epoch(epoch), default);
        for (policy, rows) in others {
            *table.policy_mut(policy) = rows;
        }
        table
    })
}

proptest! {
    #[test]
    fn changes_lead_from_any_tables_to_any_others(base in table(7), newer in table(9)) {
        let delta = TableDelta::between(&base, &newer);
        prop_assert_eq!(delta.apply(&base), Ok(newer.clone()));
        let mut same = base.clone();
        same.epoch = Epoch(8);
        let nothing = TableDelta::between(&base, &same);
        prop_assert_eq!((nothing.rows(), nothing.apply(&base)), (0, Ok(same)));
        prop_assert_eq!(delta.apply(&newer), Err(DeltaError::OtherBase(Epoch(7))));
    }

    /// A peer may say anything: the changes of other tables make tables or an error.
    #[test]
    fn changes_of_other_tables_are_no_disaster(
        base in table(7), other in table(7), newer in table(9), epoch in any::<u32>()
    ) {
        let delta = TableDelta { epoch: Epoch(epoch), ..TableDelta::between(&base, &newer) };
        match delta.apply(&other) {
            Ok(table) => prop_assert!(table.epoch > other.epoch),
            Err(DeltaError::NotNewer(_)) => prop_assert!(epoch <= 7),
            Err(DeltaError::NothingToTake) => prop_assert_ne!(base, other),
            Err(DeltaError::OtherBase(_)) => prop_assert!(false, "it is of that version"),
        }
    }
}
