//! Tables that come as what is new in them.

mod lab;

use lab::{Lab, table};
use wire_format::control::{ToController, ToRelay};
use wire_format::{Epoch, NodeIndex, Plane, PolicyDelta, PolicyIndex, RouteTable, TableDelta};

fn delta(base: u32, epoch: u32, rows: &[(u16, Option<u16>)]) -> ToRelay {
    let row = |(to, hop): &(u16, Option<u16>)| ((Plane::PRIMARY, NodeIndex(*to)), hop.map(NodeIndex));
    let changes = PolicyDelta { next_hops: rows.iter().map(row).collect(), ..PolicyDelta::default() };
    let mut delta = TableDelta::new(Epoch(base), Epoch(epoch));
    delta.policies.insert(PolicyIndex::DEFAULT, changes);
    ToRelay::TableDelta(delta)
}

/// What relay 0 said of tables since it was last asked.
fn said(lab: &mut Lab) -> Vec<ToController> {
    let is_of_tables = |message: &ToController| {
        matches!(message, ToController::TableAck { .. } | ToController::TableWanted { .. })
    };
    let said = std::mem::take(&mut lab.reports).into_iter().map(|(_, message)| message);
    said.filter(is_of_tables).collect()
}

fn counted(lab: &mut Lab) -> (u64, u64, u64) {
    let counters = lab.relay_mut(0).1.counters();
    (counters.table_deltas, counters.table_deltas_refused, counters.stale_pushes)
}

/// Epochs of the tables that relay 0 holds, newest first, and where their rows for 2 and 3 lead.
fn held(lab: &mut Lab) -> Vec<(u32, [Option<u16>; 2])> {
    let view = lab.relay_mut(0).1.tables_view();
    let hop = |table: &RouteTable, to: u16| {
        table.policy(PolicyIndex::DEFAULT).next_hop(Plane::PRIMARY, NodeIndex(to)).map(|hop| hop.0)
    };
    view.tables.iter().map(|table| (table.epoch.0, [2, 3].map(|to| hop(table, to)))).collect()
}

#[test]
fn changes_of_tables_that_are_held_become_tables() {
    let mut lab = Lab::new(4);
    lab.push(0, table(1, &[(2, 1), (3, 1)]));
    lab.push(0, ToRelay::Stamp { epoch: Epoch(1) });
    assert_eq!(said(&mut lab), [ToController::TableAck { epoch: Epoch(1) }]);
    lab.push(0, delta(1, 2, &[(2, Some(2)), (3, None)]));
    assert_eq!(said(&mut lab), [ToController::TableAck { epoch: Epoch(2) }]);
    assert_eq!(held(&mut lab), [(2, [Some(2), None]), (1, [Some(1), Some(1)])]);
    // Those in place of ones that were never stamped are changes of the stamped ones, too.
    lab.push(0, delta(1, 3, &[(3, Some(3))]));
    assert_eq!(said(&mut lab), [ToController::TableAck { epoch: Epoch(3) }]);
    assert_eq!(held(&mut lab), [(3, [Some(1), Some(3)]), (1, [Some(1), Some(1)])]);
    assert_eq!(counted(&mut lab), (2, 0, 0));
}

#[test]
fn changes_that_make_no_tables_change_nothing_and_all_of_the_tables_are_wanted() {
    let mut lab = Lab::new(4);
    lab.push(0, delta(1, 2, &[(2, Some(2))]));
    assert_eq!(said(&mut lab), [ToController::TableWanted { epoch: Epoch(2) }], "nothing is held");
    lab.push(0, table(5, &[(2, 1), (3, 1)]));
    said(&mut lab);
    for (base, epoch, rows) in [(4, 6, [(2, Some(2))]), (5, 6, [(1, None)]), (5, 5, [(2, Some(2))])] {
        lab.push(0, delta(base, epoch, &rows));
        assert_eq!(said(&mut lab), [ToController::TableWanted { epoch: Epoch(epoch) }], "{base} to {epoch}");
    }
    lab.push(0, delta(3, 4, &[(2, Some(2))]));
    assert_eq!(said(&mut lab), [], "older than what is held");
    assert_eq!(held(&mut lab), [(5, [Some(1), Some(1)])]);
    assert_eq!(counted(&mut lab), (0, 4, 1));
}
