//! Each policy's frames go by tables of their own.

mod lab;

use lab::{Lab, entry, planes};
use std::time::Duration;
use wire_format::control::{StreamEntry, ToRelay};
use wire_format::{Epoch, Plane, PolicyIndex, PolicyTable};

const RED: u8 = 1;

fn policy(number: u8) -> PolicyIndex {
    PolicyIndex::from_bits(number)
}

/// Rows (plane, destination, next hop), and backup planes by destination.
type Rows<'a> = (&'a [(u8, u16, u16)], &'a [(u16, u8)]);

/// A table like `planes` makes it, and the same of policy 2.
fn both((rows, backups): Rows<'_>, (other_rows, other_backups): Rows<'_>) -> ToRelay {
    let (ToRelay::Table(mut table), ToRelay::Table(other)) =
        (planes(1, rows, backups), planes(1, other_rows, other_backups))
    else {
        panic!("no tables")
    };
    *table.policy_mut(policy(2)) = PolicyTable::clone(other.policy(PolicyIndex::DEFAULT));
    ToRelay::Table(table)
}

/// 0 - {1, 2} - 3, publisher at 0, subscriber at 3: by 1 as a rule, by 2 for streams of policy 2.
fn diamond() -> (Lab, usize) {
    let mut lab = Lab::new(4);
    for (a, b) in [(0, 1), (0, 2), (1, 3), (2, 3)] {
        lab.link(a, b);
    }
    let (by_1, by_2) = ([(0, 3, 1), (RED, 3, 2)], [(0, 3, 2), (RED, 3, 1)]);
    lab.push(0, both((&by_1, &[(3, RED)]), (&by_2, &[(3, RED)])));
    for via in [1, 2] {
        let rows = [(0, 3, 3), (RED, 3, 3)];
        lab.push(via, both((&rows, &[]), (&rows, &[])));
    }
    for node in 0..4 {
        lab.push(node, ToRelay::Stamp { epoch: Epoch(1) });
    }
    let publisher = lab.publisher(0);
    let (_, subscription) = lab.subscriber(3);
    lab.push(3, ToRelay::Stream(entry(0, vec![subscription], &[])));
    lab.push(0, of_policy(0));
    lab.run(Duration::from_secs(3));
    lab.crossings.clear();
    (lab, publisher)
}

fn of_policy(number: u8) -> ToRelay {
    ToRelay::Stream(StreamEntry { policy: policy(number), ..entry(0, Vec::new(), &[3]) })
}

fn send(lab: &mut Lab, publisher: usize) -> Vec<(usize, usize)> {
    lab.crossings.clear();
    lab.send(publisher, 1, &[b"\x80media"]);
    lab.media_crossings()
}

#[test]
fn a_stream_goes_the_way_of_its_policy_and_loses_nothing_when_it_is_given_another() {
    let (mut lab, publisher) = diamond();
    assert_eq!(send(&mut lab, publisher), [(0, 1), (1, 3)]);
    lab.push(0, of_policy(2));
    assert_eq!(send(&mut lab, publisher), [(0, 2), (2, 3)]);
    for header in [lab.headers(0, 2), lab.headers(2, 3)].concat() {
        assert_eq!((header.policy, header.plane, header.marked), (policy(2), Plane::PRIMARY, false));
    }
    // One that these tables do not know goes like all others, at every relay.
    lab.push(0, of_policy(5));
    assert_eq!(send(&mut lab, publisher), [(0, 1), (1, 3)]);
    assert!(lab.headers(1, 3).iter().all(|header| header.policy == policy(5)));
    assert_eq!(lab.delivered.len(), 3);
}

#[test]
fn a_frame_that_is_moved_stays_with_its_policy() {
    let (mut lab, publisher) = diamond();
    lab.push(0, of_policy(2));
    send(&mut lab, publisher);
    lab.run(Duration::from_millis(40));
    lab.cut.extend([(0, 2), (2, 0)]);
    lab.run(Duration::from_millis(100));
    assert_eq!(send(&mut lab, publisher), [(0, 1), (1, 3)]);
    for header in [lab.headers(0, 1), lab.headers(1, 3)].concat() {
        assert_eq!((header.policy, header.plane, header.marked), (policy(2), Plane::RED, true));
    }
}
